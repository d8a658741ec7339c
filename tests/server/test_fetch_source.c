/* server/fetch_source.c: fetch.sources. */
#include "server/fetch_source.h"

#include "tests/expect.h"

static struct mf_config configured(const char *sources)
{
    return (struct mf_config){.fetch = {.sources = sources},
                              .dimse = {.listen = "127.0.0.1:104",
                                        .tenant = "north",
                                        .tls_certificate = "off",
                                        .tls_key = "off",
                                        .tls_ca = "off"}};
}

static void expect_source(const char *tenant, const char *name, enum mf_fetch_method method,
                          const char *address)
{
    const struct mf_config config =
        configured("web=https://pacs/dicom-web/ get=dicom://A@h:104  north/get=http://north "
                   "north/move=dicom://B@h:105?move");
    struct mf_fetch_source s;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_fetch_source_find(&config, tenant, name, &s, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(s.method, method);
    assert_string_equal(s.address, address);
}

static void sources_belong_to_tenants(void **state)
{
    (void)state;
    expect_source("default", NULL, MF_FETCH_WEB, "https://pacs/dicom-web");
    expect_source("default", "get", MF_FETCH_GET, "dicom://A@h:104");
    expect_source("north", "get", MF_FETCH_WEB, "http://north");
    expect_source("north", "move", MF_FETCH_MOVE, "dicom://B@h:105");
    const struct mf_config config = configured("web=https://pacs");
    struct mf_fetch_source s;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_fetch_source_find(&config, "north", "web", &s, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "\"source\" is not in fetch.sources");
}

static void expect_match(const char *url, const char *ae, const char *name)
{
    const struct mf_config config = configured(
        "web=https://pacs/dicom-web/ get=dicom://A@h:104 north/web2=https://north/dicom-web");
    struct mf_fetch_source s;
    assert_int_equal(mf_fetch_source_match(&config, "default", url, ae, &s), name != NULL);
    if (name)
        assert_string_equal(s.name, name);
}

static void only_configured_sources_match(void **state)
{
    (void)state;
    expect_match("https://pacs/dicom-web/studies/1.2", "", "web");
    expect_match("https://pacs/dicom-web", "", "web");
    expect_match("", "A", "get");
    expect_match("https://pacs/dicom-webs/studies/1.2", "", NULL);
    expect_match("https://pacs/dicom-web@evil/studies", "", NULL);
    expect_match("https://north/dicom-web/studies/1.2", "", NULL);
    expect_match("", "B", NULL);
    expect_match("", "", NULL);
}

static void expect_refused(struct mf_config config, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_fetch_sources_check(&config, &err));
    assert_error(&err, MF_ERR_USAGE, message);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "pacs",           "=http://h",   "pacs=",         "pacs=ftp://h",
        "/pacs=http://h", "a/=http://h", "a=dicom://A@h", "a=dicom://A@h:1?get"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[256];
        snprintf(message, sizeof message,
                 "fetch.sources: \"%s\" is no NAME=http(s)://host/path nor "
                 "NAME=dicom(s)://AE@host:port[?move]",
                 bad[i]);
        expect_refused(configured(bad[i]), message);
    }
    expect_refused(configured("a=dicoms://A@h:1"),
                   "fetch.sources: \"a=dicoms://A@h:1\" needs dimse.tls_ca");
    expect_refused(configured("a=dicom://A@h:1?move"),
                   "fetch.sources: \"a=dicom://A@h:1?move\" needs dimse.tenant to be its tenant");
    struct mf_config deaf = configured("north/a=dicom://A@h:1?move");
    deaf.dimse.listen = "off";
    expect_refused(deaf, "fetch.sources: \"north/a=dicom://A@h:1?move\" needs dimse.listen, where "
                         "the objects come to");
}

static void the_process_runs_only_when_it_is_needed(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    static const struct {
        const char *sources;
        bool needed;
    } cases[] = {
        {"off", false}, {"a=http://h b=https://h", false}, {"a=http://h b=dicom://A@h:1", true}};
    for (size_t i = 0; i < 3; i++) {
        const struct mf_config config = configured(cases[i].sources);
        assert_true(mf_fetch_sources_check(&config, &err));
        assert_int_equal(mf_fetch_sources_need_query(&config), cases[i].needed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sources_belong_to_tenants),
                                       cmocka_unit_test(only_configured_sources_match),
                                       cmocka_unit_test(mistakes_are_named),
                                       cmocka_unit_test(the_process_runs_only_when_it_is_needed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
