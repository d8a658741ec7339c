/* server/access.c, server/quota.c: scopes to rights, the table of routes, buckets. */
#include "tests/expect.h"

#include "server/access.h"
#include "server/quota.h"
#include "server/router.h"

static struct mf_grant grant_of(const char *scopes)
{
    struct mf_grant grant = {0};
    mf_grant_add_list(&grant, scopes);
    return grant;
}

static bool allows(const char *scopes, enum mf_access access, const char *type)
{
    struct mf_grant grant = grant_of(scopes);
    return mf_grant_allows(&grant, access, type);
}

static void every_route_names_a_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < mf_route_count(); i++) {
        enum mf_access access = mf_route_access(mf_route_at(i));
        if (access == MF_ACCESS_NONE || access >= MF_ACCESS_COUNT)
            fail_msg("%s %s names no right", mf_route_at(i)->method, mf_route_at(i)->pattern);
    }
    assert_int_equal(mf_route_access(NULL), MF_ACCESS_NONE);
    assert_false(allows("jobs.read jobs.write fhir.read", MF_ACCESS_NONE, NULL));
}

static void scopes_grant_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *scopes;
        enum mf_access access;
        const char *type;
        bool allowed;
    } cases[] = {
        {"", MF_ACCESS_PUBLIC, NULL, true},
        {"", MF_ACCESS_ANY, NULL, true},
        {"", MF_ACCESS_JOBS_READ, NULL, false},
        {"jobs.read", MF_ACCESS_JOBS_READ, NULL, true},
        {"jobs.read", MF_ACCESS_JOBS_WRITE, NULL, false},
        {"  jobs.write   jobs.read ", MF_ACCESS_JOBS_WRITE, NULL, true},
        {"jobs.readx jobs", MF_ACCESS_JOBS_READ, NULL, false},
        {"admin", MF_ACCESS_ADMIN, NULL, true},
        {"admin", MF_ACCESS_JOBS_READ, NULL, false},
        {"jobs.read jobs.write metrics.read system/*.*", MF_ACCESS_ADMIN, NULL, false},
        {"fhir.read", MF_ACCESS_FHIR_READ, NULL, true},
        {"fhir.read", MF_ACCESS_FHIR_READ, "Patient", true},
        {"fhir.read", MF_ACCESS_FHIR_WRITE, NULL, false},
        {"system/Observation.rs", MF_ACCESS_FHIR_READ, "Observation", true},
        {"system/Observation.rs", MF_ACCESS_FHIR_READ, "DiagnosticReport", false},
        {"system/Observation.rs", MF_ACCESS_FHIR_READ, NULL, false},
        {"system/Observation.r", MF_ACCESS_FHIR_SEARCH, "Observation", false},
        {"system/Observation.s", MF_ACCESS_FHIR_SEARCH, "Observation", true},
        {"system/Observation.read", MF_ACCESS_FHIR_SEARCH, "Observation", true},
        {"system/Observation.write", MF_ACCESS_FHIR_READ, "Observation", false},
        {"system/*.read", MF_ACCESS_FHIR_READ, NULL, true},
        {"system/*.*", MF_ACCESS_FHIR_WRITE, NULL, true},
        {"system/*.cruds", MF_ACCESS_FHIR_WRITE, NULL, true},
        {"system/*.sr", MF_ACCESS_FHIR_READ, NULL, false}, /* not in their order */
        {"system/*.rr", MF_ACCESS_FHIR_READ, NULL, false},
        {"system/*.", MF_ACCESS_FHIR_READ, NULL, false},
        {"system/Observation.crud", MF_ACCESS_FHIR_WRITE, "Observation", true},
        {"system/Observation.crud", MF_ACCESS_FHIR_SEARCH, "Observation", false},
        {"system/Observation.reads", MF_ACCESS_FHIR_READ, "Observation", false},
        {"system/Observatiom.rs", MF_ACCESS_FHIR_READ, "Observation", false},
        {"system/X.rs", MF_ACCESS_FHIR_READ, "Observation", false},
        {"system/Observation", MF_ACCESS_FHIR_READ, "Observation", false},
        {"system/.rs", MF_ACCESS_FHIR_READ, NULL, false},
        {"user/*.rs patient/*.rs", MF_ACCESS_FHIR_READ, NULL, false},
        {"system/*.read", MF_ACCESS_JOBS_READ, NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (allows(cases[i].scopes, cases[i].access, cases[i].type) != cases[i].allowed)
            fail_msg("\"%s\" and %d", cases[i].scopes, (int)cases[i].access);
}

static void limits_take_away_and_coverage_is_a_subset(void **state)
{
    (void)state;
    struct mf_grant token = grant_of("jobs.write jobs.read system/*.cruds");
    struct mf_grant issuer = grant_of("jobs.read system/Observation.rs");
    assert_false(mf_grant_covers(&issuer, &token));
    assert_true(mf_grant_covers(&token, &issuer));
    mf_grant_limit(&token, &issuer);
    assert_memory_equal(&token, &issuer, sizeof token);
}

static void tenants_have_plain_names(void **state)
{
    (void)state;
    static const char *const good[] = {"default", "a", "st-mary.2_x"};
    static const char *const bad[] = {
        "",
        "A",
        ".",
        "../x",
        "-a",
        "a b",
        "a/b",
        "ä",
        "0123456789012345678901234567890123456789012345678901234567890"
        "1234"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(mf_tenant_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(mf_tenant_valid(bad[i]));
}

static void a_scope_is_named_for_who_lacks_it(void **state)
{
    (void)state;
    static const struct {
        enum mf_access access;
        const char *scope;
    } cases[] = {
        {MF_ACCESS_JOBS_READ, "jobs.read"},
        {MF_ACCESS_METRICS, "metrics.read"},
        {MF_ACCESS_ADMIN, "admin"},
        {MF_ACCESS_FHIR_READ, "fhir.read"},
        {MF_ACCESS_FHIR_SEARCH, "fhir.read"},
        {MF_ACCESS_FHIR_WRITE, "fhir.write"},
        {MF_ACCESS_NONE, NULL},
        {MF_ACCESS_PUBLIC, NULL},
        {MF_ACCESS_COUNT, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *scope = mf_access_scope(cases[i].access);
        assert_string_equal(scope ? scope : "", cases[i].scope ? cases[i].scope : "");
    }
    assert_false(allows("admin", MF_ACCESS_COUNT, NULL));
}

/* --- listening --- */

static void who_may_be_reached_by_whom_is_said_before_it_listens(void **state)
{
    (void)state;
    static const char nobody[] =
        "http.listen: 0.0.0.0:8080 is reached from other machines, and nobody would have to "
        "authenticate: set auth.keys, auth.trust or http.tls_client_ca, or allow it with "
        "http.expose open";
    static const char plain[] =
        "http.listen: 0.0.0.0:8080 is reached from other machines without TLS: set "
        "http.tls_certificate, or http.expose plain behind a proxy";
    static const struct {
        const char *expose, *keys, *trust, *certificate, *ca;
        bool loopback;
        const char *said;
    } cases[] = {
        {"safe", "off", "off", "off", "off", true, ""},
        {"wide", "off", "off", "off", "off", true, "http.expose: must be safe, plain or open"},
        {"safe", "off", "off", "off", "ca.pem", true,
         "http.tls_client_ca needs http.tls_certificate"},
        {"safe", "off", "off", "off", "off", false, nobody},
        {"plain", "off", "off", "off", "off", false, nobody},
        {"open", "off", "off", "off", "off", false, ""},
        {"safe", "k.json", "off", "off", "off", false, plain},
        {"safe", "off", "t.json", "off", "off", false, plain},
        {"plain", "off", "t.json", "off", "off", false, ""},
        {"safe", "k.json", "off", "c.pem", "off", false, ""},
        {"safe", "off", "off", "c.pem", "off", false, nobody},
        {"safe", "off", "off", "c.pem", "ca.pem", false, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_config) struct mf_config *config = mf_config_new(&err);
        assert_non_null(config);
        config->http.listen = "0.0.0.0:8080";
        config->http.expose = cases[i].expose;
        config->http.tls_certificate = cases[i].certificate;
        config->http.tls_client_ca = cases[i].ca;
        config->auth.keys = cases[i].keys;
        config->auth.trust = cases[i].trust;
        assert_int_equal(mf_access_check_listen(config, cases[i].loopback, &err),
                         *cases[i].said == '\0');
        assert_string_equal(err.msg, cases[i].said);
    }
}

/* --- quotas --- */

static const uint64_t SECOND = 1000000000;

static enum mf_code take(struct mf_quota *q, const char *tenant, uint64_t bytes, uint64_t now_s,
                         int *retry_s)
{
    struct mf_error err = MF_ERROR_INIT;
    return mf_quota_take(q, tenant, bytes, (now_s + 1) * SECOND, retry_s, &err) ? MF_OK : err.code;
}

static void requests_are_counted_for_each_tenant(void **state)
{
    (void)state;
    MF_AUTO(mf_quota) struct mf_quota *q = mf_quota_new(6, 0, NULL);
    int retry = 0;
    for (int i = 0; i < 6; i++)
        assert_int_equal(take(q, "north", 1 << 30, 0, &retry), MF_OK);
    assert_int_equal(take(q, "north", 0, 0, &retry), MF_ERR_BUSY);
    assert_int_equal(retry, 10);
    assert_int_equal(take(q, "south", 0, 0, &retry), MF_OK);
    assert_int_equal(take(q, "north", 0, 9, &retry), MF_ERR_BUSY);
    assert_int_equal(take(q, "north", 0, 10, &retry), MF_OK);
    assert_int_equal(take(q, "north", 0, 10, &retry), MF_ERR_BUSY);
}

static void bytes_are_counted_announced_or_not(void **state)
{
    (void)state;
    MF_AUTO(mf_quota) struct mf_quota *q = mf_quota_new(0, 3600, NULL);
    struct mf_error err = MF_ERROR_INIT;
    int retry = 0;
    assert_int_equal(take(q, "north", 3601, 0, &retry), MF_ERR_TOO_LARGE);
    assert_int_equal(take(q, "north", 3000, 0, &retry), MF_OK);
    assert_int_equal(take(q, "north", 700, 0, &retry), MF_ERR_BUSY);
    assert_int_equal(retry, 100);
    assert_true(mf_quota_take_bytes(q, "north", 600, SECOND, &retry, &err));
    assert_false(mf_quota_take_bytes(q, "north", 1, SECOND, &retry, &err));
    assert_int_equal(err.code, MF_ERR_BUSY);
    assert_int_equal(take(q, "north", 50, 50, &retry), MF_OK);
    assert_int_equal(take(q, "south", 3600, 50, &retry), MF_OK);
}

static void many_tenants_are_forgotten_when_they_are_quiet(void **state)
{
    (void)state;
    MF_AUTO(mf_quota) struct mf_quota *q = mf_quota_new(60, 0, NULL);
    char name[32];
    int retry = 0;
    for (int i = 0; i < 4096; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(take(q, name, 0, 0, &retry), MF_OK);
    }
    assert_int_equal(take(q, "one-more", 0, 0, &retry), MF_ERR_BUSY);
    assert_int_equal(take(q, "one-more", 0, 60, &retry), MF_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_names_a_right),
        cmocka_unit_test(scopes_grant_what_they_say),
        cmocka_unit_test(limits_take_away_and_coverage_is_a_subset),
        cmocka_unit_test(tenants_have_plain_names),
        cmocka_unit_test(a_scope_is_named_for_who_lacks_it),
        cmocka_unit_test(who_may_be_reached_by_whom_is_said_before_it_listens),
        cmocka_unit_test(requests_are_counted_for_each_tenant),
        cmocka_unit_test(bytes_are_counted_announced_or_not),
        cmocka_unit_test(many_tenants_are_forgotten_when_they_are_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
