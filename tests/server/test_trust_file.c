/* server/trust_file.c and jwks.c: what is wrong with a file of issuers and clients, by name. */
#include "tests/expect.h"

#include "server/trust_file.h"

#include <unistd.h>

#define JWKS "\"jwks\":{\"keys\":[]}"
#define ISSUER(members) "{\"issuer\":\"idp\",\"audience\":\"us\"," members "}"
#define CLIENT(members) "{\"client_id\":\"ehr\"," members "}"
#define GOOD "\"tenant\":\"north\",\"scopes\":\"jobs.read\"," JWKS
#define ISSUERS(list) "{\"schema\":\"medfusion.trust/1\",\"issuers\":[" list "]}"
#define CLIENTS(list)                                                                              \
    "{\"schema\":\"medfusion.trust/1\",\"token_url\":\"https://here\",\"clients\":[" list "]}"
#define AT(url)                                                                                    \
    ISSUERS(ISSUER("\"tenant\":\"north\",\"scopes\":\"jobs.read\",\"jwks_url\":\"" url "\""))

static const char *hosts[] = {"idp.example", "[::1]", "127.0.0.1"};

static struct mf_trust_file *read_text(const char *text, struct mf_error *err)
{
    char path[] = "/tmp/medfusion-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    MF_AUTO(mf_config) struct mf_config *config = mf_config_new(NULL);
    assert_non_null(config);
    config->auth.jwks_hosts = (struct mf_string_list){hosts, 3};
    *err = (struct mf_error)MF_ERROR_INIT;
    struct mf_trust_file *trust = mf_trust_file_read(path, config, err);
    assert_int_equal(unlink(path), 0);
    char *own = strstr(err->msg, path); /* its name is another one each time */
    if (own)
        memmove(own, own + strlen(path), strlen(own + strlen(path)) + 1);
    return trust;
}

static void issuers_and_clients_are_found(void **state)
{
    (void)state;
    struct mf_error err;
    MF_AUTO(mf_trust_file)
    struct mf_trust_file *trust =
        read_text(CLIENTS(CLIENT(GOOD) ",{\"client_id\":\"pacs\"," GOOD "}"), &err);
    assert_no_error(&err);
    assert_string_equal(mf_trust_file_client(trust, "pacs")->tenant, "north");
    assert_null(mf_trust_file_client(trust, "idp"));
    assert_null(mf_trust_file_issuer(trust, "ehr"));
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"{\"schema\":\"medfusion.trust/2\"}", ": \"schema\" must be \"medfusion.trust/1\""},
        {"{\"schema\":\"medfusion.trust/1\",\"issuer\":[]}", ": file: unknown key \"issuer\""},
        {"{\"schema\":\"medfusion.trust/1\",\"issuers\":{}}",
         ": \"issuers\" must be an array of at most 1000"},
        {"{\"schema\":\"medfusion.trust/1\",\"clients\":7}",
         ": \"clients\" must be an array of at most 1000"},
        {"{\"schema\":\"medfusion.trust/1\",\"clients\":[" CLIENT(GOOD) "]}",
         ": clients need \"token_url\""},
        {ISSUERS("{}"), ": \"issuer\" must be a string"},
        {ISSUERS("7"), ": \"issuer\" must be a string"},
        {ISSUERS(ISSUER(GOOD) "," ISSUER(GOOD)), ": \"issuers\": two have the same id"},
        {ISSUERS("{\"issuer\":\"idp\"," GOOD "}"), ": issuer idp: \"audience\" is missing"},
        {ISSUERS(ISSUER("\"colour\":1," GOOD)), ": issuer idp: unknown key \"colour\""},
        {ISSUERS(ISSUER("\"scopes\":\"jobs.read\"," JWKS)),
         ": issuer idp: \"tenant\" is missing or no name"},
        {ISSUERS(ISSUER("\"tenant_claim\":\"t\"," GOOD)),
         ": issuer idp: \"tenant\" is missing or no name"},
        {CLIENTS(CLIENT("\"tenant_claim\":\"t\",\"scopes\":\"jobs.read\"," JWKS)),
         ": client ehr: \"tenant\" is missing or no name"},
        {ISSUERS(ISSUER("\"tenant\":\"No Name\",\"scopes\":\"jobs.read\"," JWKS)),
         ": issuer idp: \"tenant\" is missing or no name"},
        {ISSUERS(ISSUER("\"tenant\":\"north\"," JWKS)),
         ": issuer idp: \"scopes\" must be a string"},
        {ISSUERS(ISSUER("\"tenant\":\"north\",\"scopes\":\" jobs.read what\"," JWKS)),
         ": issuer idp: \"what\" is no scope"},
        {ISSUERS(ISSUER("\"tenant\":\"north\",\"scopes\":\"jobs.read\"")),
         ": issuer idp: needs one of \"jwks\", \"jwks_file\" and \"jwks_url\""},
        {ISSUERS(ISSUER("\"jwks_file\":\"f\"," GOOD)),
         ": issuer idp: needs one of \"jwks\", \"jwks_file\" and \"jwks_url\""},
        {ISSUERS(ISSUER("\"tenant\":\"north\",\"scopes\":\"jobs.read\",\"jwks\":[]")),
         ": issuer idp is no JWK set (\"keys\" must be an array)"},
        {ISSUERS(ISSUER("\"tenant\":\"north\",\"scopes\":\"jobs.read\",\"jwks_file\":\"/none\"")),
         ": issuer idp: /none cannot be read"},
        {ISSUERS(ISSUER("\"tenant\":\"north\",\"scopes\":\"jobs.read\",\"jwks_file\":\"/tmp\"")),
         ": issuer idp: /tmp cannot be read"},
        {AT("idp.example/keys"), ": issuer idp: \"jwks_url\" is no address"},
        {AT("https:///keys"), ": issuer idp: \"jwks_url\" is no address"},
        {AT("https://idp.example@evil/keys"), ": issuer idp: \"jwks_url\" is no address"},
        {AT("http://idp.example/keys"), ": issuer idp: \"jwks_url\" must be https"},
        {AT("ftp://127.0.0.1/keys"), ": issuer idp: \"jwks_url\" must be https"},
        {AT("https://evil.example/keys"),
         ": issuer idp: the host of \"jwks_url\" is not in auth.jwks_hosts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err;
        assert_null(read_text(cases[i].text, &err));
        assert_error(&err, MF_ERR_USAGE, cases[i].said);
    }
    char long_host[512], text[1024];
    struct mf_error err;
    memset(long_host, 'h', sizeof long_host);
    long_host[300] = '\0';
    snprintf(text, sizeof text, AT("https://%s/"), long_host);
    assert_null(read_text(text, &err));
    assert_error(&err, MF_ERR_USAGE, ": issuer idp: \"jwks_url\" is no address");
}

static void addresses_of_known_hosts_are_taken(void **state)
{
    (void)state;
    static const char *const texts[] = {AT("https://idp.example/keys"),
                                        AT("https://IDP.example:8443/keys?x=1"),
                                        AT("http://127.0.0.1:8080/keys"), AT("http://[::1]:8080/")};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct mf_error err;
        MF_AUTO(mf_trust_file) struct mf_trust_file *trust = read_text(texts[i], &err);
        assert_no_error(&err);
        assert_non_null(trust);
        assert_non_null(mf_trust_file_issuer(trust, "idp"));
    }
    mf_trust_file_free(NULL);
    mf_jwks_free(NULL);
}

/* A key that nobody has seen is asked for soon, but not again and again. */
static void a_key_set_that_cannot_be_fetched_is_tried_again_later(void **state)
{
    (void)state;
    struct mf_error err;
    MF_AUTO(mf_trust_file)
    struct mf_trust_file *trust = read_text(AT("http://127.0.0.1:1/keys"), &err);
    assert_no_error(&err);
    struct mf_jwks *jwks = trust->issuers[0].jwks;
    assert_false(mf_jwks_refresh(jwks, &err));
    assert_int_equal(strncmp(err.msg, "issuer idp: its key set: ", 25), 0);
    const struct mf_jwt jwt = {.kid = "k"};
    mf_error_clear(&err);
    assert_false(mf_jwks_verify(jwks, &jwt, &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token is signed with a key that is not known");
    mf_error_clear(&err);
    assert_false(mf_jwks_refresh(jwks, &err)); /* within seconds: not asked again */
    assert_no_error(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(issuers_and_clients_are_found),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(addresses_of_known_hosts_are_taken),
        cmocka_unit_test(a_key_set_that_cannot_be_fetched_is_tried_again_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
