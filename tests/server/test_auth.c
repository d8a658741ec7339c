/* server/auth.c and server/authorize.c: who a key or token makes somebody, what a signed assertion
 * is exchanged for, how a request is refused; with keys made and tokens signed here. */
#include "loopback.h"

#include "server/api_keys.h"
#include "server/auth.h"
#include "server/store_audit.h"

#include "core/clock.h"
#include "core/digest.h"

#include <cjose/cjose.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

/* --- what fails when told to (target_link_options: --wrap) --- */

static long allowed = -1; /* allocations until one fails; −1: all succeed */
static bool no_thread;

static bool granted(void)
{
    return allowed < 0 || allowed-- != 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main_function)(void *), void *argument);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main_function)(void *), void *argument);

void *__wrap_malloc(size_t n)
{
    return granted() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return granted() ? __real_calloc(n, size) : NULL;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main_function)(void *), void *argument)
{
    return no_thread ? EAGAIN : __real_pthread_create(thread, attributes, main_function, argument);
}

/* --- a hospital's keys --- */

struct subject {
    struct loopback l;
    struct mf_auth *auth;
    cjose_jwk_t *key;
    char keys[128], trust[128], set[128], text[MF_API_KEY_TEXT];
};

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* A file of one key with these scopes; its text is in t->text. */
static void write_key(struct subject *t, const char *scopes)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_api_key wanted = {.name = "modality", .tenant = "north", .created_ms = 1};
    snprintf(wanted.scopes, sizeof wanted.scopes, "%s", scopes);
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(&err);
    assert_non_null(keys);
    assert_true(mf_api_keys_add(keys, &wanted, t->text, &err));
    assert_true(mf_api_keys_write(keys, t->keys, &err));
}

/* A key is named by the part of it that may be shown. */
static bool is_of_key(const struct subject *t, const char *name)
{
    return strncmp(name, "key:", 4) == 0 && strlen(name) == 20 &&
           strncmp(name + 4, t->text + 4, 16) == 0;
}

static void write_set(struct subject *t)
{
    cjose_err detail;
    char *public = cjose_jwk_to_json(t->key, false, &detail), set[1024];
    assert_non_null(public);
    snprintf(set, sizeof set, "{\"keys\":[%s]}", public);
    write_text(t->set, set);
    cjose_get_dealloc()(public);
}

static void start(struct subject *t)
{
    cjose_err detail;
    char trust[2048];
    memset(t, 0, sizeof *t);
    loopback_start(&t->l);
    snprintf(t->keys, sizeof t->keys, "%s/keys.json", t->l.f.directory);
    snprintf(t->trust, sizeof t->trust, "%s/trust.json", t->l.f.directory);
    snprintf(t->set, sizeof t->set, "%s/set.json", t->l.f.directory);
    t->key = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_384, &detail);
    assert_non_null(t->key);
    assert_true(cjose_jwk_set_kid(t->key, "k", 1, &detail));
    write_key(t, "jobs.read fhir.read");
    write_set(t);
    snprintf(trust, sizeof trust,
             "{\"schema\":\"medfusion.trust/1\",\"token_url\":\"https://here/token\",\"issuers\":["
             "{\"issuer\":\"idp\",\"audience\":\"us\",\"jwks_file\":\"%s\",\"tenant\":\"north\","
             "\"scopes\":\"jobs.read jobs.write\"},"
             "{\"issuer\":\"open\",\"audience\":\"us\",\"jwks_file\":\"%s\","
             "\"tenant_claim\":\"hospital\",\"scopes\":\"fhir.read\",\"scopeless\":true}],"
             "\"clients\":[{\"client_id\":\"ehr\",\"jwks_file\":\"%s\",\"tenant\":\"south\","
             "\"scopes\":\"jobs.read system/Observation.rs\"}]}",
             t->set, t->set, t->set);
    write_text(t->trust, trust);
    t->l.config->auth.keys = t->keys;
    t->l.config->auth.trust = t->trust;
    t->l.config->data.directory = t->l.f.directory;
}

static void open_auth(struct subject *t)
{
    struct mf_error err = MF_ERROR_INIT;
    t->auth = mf_auth_new(t->l.config, &err);
    assert_no_error(&err);
    assert_true(mf_auth_start(t->auth, &err));
    assert_no_error(&err);
    t->l.services.auth = t->auth;
}

static void end(struct subject *t)
{
    mf_auth_free(t->auth);
    cjose_jwk_release(t->key);
    loopback_end(&t->l);
}

static int64_t in(int64_t seconds)
{
    return mf_clock_wall_ms() / 1000 + seconds;
}

/* A token with these claims, signed; the caller frees it. */
static char *sign(struct subject *t, const char *type, const char *claims)
{
    cjose_err detail;
    const char *text = NULL;
    cjose_header_t *header = cjose_header_new(&detail);
    assert_non_null(header);
    assert_true(cjose_header_set(header, CJOSE_HDR_ALG, CJOSE_HDR_ALG_ES384, &detail) &&
                cjose_header_set(header, CJOSE_HDR_KID, "k", &detail) &&
                cjose_header_set(header, "typ", type, &detail));
    cjose_jws_t *jws =
        cjose_jws_sign(t->key, header, (const uint8_t *)claims, strlen(claims), &detail);
    assert_non_null(jws);
    assert_true(cjose_jws_export(jws, &text, &detail));
    char *copy = strdup(text);
    cjose_jws_release(jws);
    cjose_header_release(header);
    assert_non_null(copy);
    return copy;
}

/* Who a token with these claims makes; "%lld" in them is the time of its end. */
static bool identify(struct subject *t, const char *format, int64_t life_s,
                     struct mf_principal *who, struct mf_error *err)
{
    char claims[512];
    const char *hole = strstr(format, "%lld");
    assert_non_null(hole);
    snprintf(claims, sizeof claims, "%.*s%lld%s", (int)(hole - format), format,
             (long long)in(life_s), hole + 4);
    MF_AUTO(mf_mem) char *token = sign(t, "at+jwt", claims);
    *err = (struct mf_error)MF_ERROR_INIT;
    return mf_auth_identify(t->auth, token, who, err);
}

/* --- tokens of issuers --- */

#define IDP "{\"iss\":\"idp\",\"aud\":\"us\",\"exp\":%lld"

static void an_issuers_token_makes_its_tenants_principal(void **state)
{
    (void)state;
    struct subject t;
    struct mf_principal who;
    struct mf_error err;
    start(&t);
    open_auth(&t);
    assert_true(
        identify(&t, IDP ",\"sub\":\"anna\",\"scope\":\"jobs.read admin\"}", 100, &who, &err));
    assert_string_equal(who.tenant, "north");
    assert_string_equal(who.name, "token:anna");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_READ, NULL));
    assert_false(mf_grant_allows(&who.grant, MF_ACCESS_ADMIN, NULL)); /* more than the issuer's */
    assert_false(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_WRITE, NULL)); /* not asked for */
    /* clocks differ by less than a minute; such a token is not remembered */
    assert_true(identify(&t, IDP ",\"scope\":\"jobs.read\"}", -30, &who, &err));
    assert_string_equal(who.name, "token:-");
    assert_true(identify(&t, "{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld,\"hospital\":\"east\"}",
                         100, &who, &err));
    assert_string_equal(who.tenant, "east");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_FHIR_READ, NULL));
    end(&t);
}

static void a_token_is_refused_for_what_is_wrong_with_it(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *said;
    } cases[] = {
        {"{\"iss\":\"them\",\"aud\":\"us\",\"exp\":%lld,\"scope\":\"jobs.read\"}",
         "is of an issuer that is not trusted"},
        {"{\"iss\":\"idp\",\"aud\":\"them\",\"exp\":%lld,\"scope\":\"jobs.read\"}",
         "is for somebody else (aud)"},
        {IDP ",\"nbf\":99999999999,\"scope\":\"jobs.read\"}", "is not valid yet"},
        {IDP "}", "has no scope"},
        {IDP ",\"scope\":7}", "has no scope"},
        {"{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld}", "names no tenant"},
        {"{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld,\"hospital\":\"../x\"}", "names no tenant"},
        {"{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld,\"hospital\":\"east\",\"scope\":[]}",
         "has no scope"},
    };
    struct subject t;
    struct mf_principal who;
    struct mf_error err;
    start(&t);
    open_auth(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[128];
        assert_false(identify(&t, cases[i].claims, 100, &who, &err));
        snprintf(expected, sizeof expected, "the token %s", cases[i].said);
        assert_error(&err, MF_ERR_UNAUTHORIZED, expected);
    }
    assert_false(mf_auth_identify(t.auth, "e30.e30.AAAA", &who, &err));
    MF_AUTO(mf_mem) char *other = sign(&t, "JWT", "{\"iss\":\"idp\"}");
    other[strlen(other) - 2] ^= 1;
    err = (struct mf_error)MF_ERROR_INIT;
    assert_false(mf_auth_identify(t.auth, other, &who, &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token has a wrong signature");
    end(&t);
}

/* Whether a new token of the issuer's is good. */
static bool knows_new_tokens(struct subject *t)
{
    static int number;
    char claims[256];
    struct mf_principal who;
    snprintf(claims, sizeof claims, IDP ",\"scope\":\"jobs.read\",\"jti\":\"%d\"}",
             (long long)in(100), number++);
    MF_AUTO(mf_mem) char *token = sign(t, "JWT", claims);
    return mf_auth_identify(t->auth, token, &who, NULL);
}

static void a_key_set_that_breaks_stays_as_it_was(void **state)
{
    (void)state;
    struct timespec pause = {.tv_nsec = 20000000};
    struct subject t;
    start(&t);
    open_auth(&t);
    write_text(t.set, "{");
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(knows_new_tokens(&t));
    write_text(t.set, "{\"keys\":[]}");
    bool known = true;
    for (int i = 0; i < 500 && known; i++) {
        nanosleep(&pause, NULL);
        known = knows_new_tokens(&t);
    }
    assert_false(known);
    end(&t);
}

/* What was checked is remembered in a slot by the first byte of its digest: the next token of that
 * slot must not become the one before it. */
static void tokens_that_share_a_slot_stay_apart(void **state)
{
    (void)state;
    char *by_slot[256] = {NULL}, *first = NULL, *second = NULL;
    char claims[256], expected[64];
    struct mf_principal who;
    struct mf_error err = MF_ERROR_INIT;
    struct subject t;
    int number[256] = {0}, numbers[2] = {0};
    start(&t);
    open_auth(&t);
    for (int i = 0; !second; i++) {
        unsigned char digest[MF_SHA256_BYTES];
        snprintf(claims, sizeof claims,
                 "{\"iss\":\"idp\",\"aud\":\"us\",\"exp\":%lld,\"scope\":\"jobs.read\","
                 "\"sub\":\"u%d\"}",
                 (long long)in(100), i);
        char *token = sign(&t, "JWT", claims);
        mf_sha256(token, strlen(token), digest);
        if (by_slot[digest[0]]) {
            first = by_slot[digest[0]];
            second = token;
            numbers[0] = number[digest[0]];
            numbers[1] = i;
        } else {
            by_slot[digest[0]] = token;
            number[digest[0]] = i;
        }
    }
    for (int round = 0; round < 4; round++) { /* each is remembered, recalled, and displaced */
        assert_true(mf_auth_identify(t.auth, round < 2 ? first : second, &who, &err));
        snprintf(expected, sizeof expected, "token:u%d", numbers[round / 2]);
        assert_string_equal(who.name, expected);
    }
    for (int i = 0; i < 256; i++)
        free(by_slot[i]);
    free(second);
    end(&t);
}

/* --- keys --- */

static void keys_are_read_anew_when_their_file_changes(void **state)
{
    (void)state;
    char before[MF_API_KEY_TEXT];
    struct timespec pause = {.tv_nsec = 20000000};
    struct mf_principal who;
    struct mf_error err = MF_ERROR_INIT;
    struct subject t;
    start(&t);
    open_auth(&t);
    assert_true(mf_auth_identify(t.auth, t.text, &who, &err));
    assert_string_equal(who.tenant, "north");
    memcpy(before, t.text, sizeof before);
    write_text(t.keys, "{"); /* what was read last stays in use */
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(mf_auth_identify(t.auth, before, &who, &err));
    write_key(&t, "jobs.write");
    bool known = false;
    for (int i = 0; i < 500 && !known; i++) {
        nanosleep(&pause, NULL);
        known = mf_auth_identify(t.auth, t.text, &who, NULL);
    }
    assert_true(known);
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_WRITE, NULL));
    assert_false(mf_auth_identify(t.auth, before, &who, &err));
    assert_int_equal(err.code, MF_ERR_UNAUTHORIZED);
    assert_int_equal(unlink(t.keys), 0);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(mf_auth_identify(t.auth, t.text, &who, NULL));
    end(&t);
}

static void a_credential_of_no_known_kind_is_nobodys(void **state)
{
    (void)state;
    static const char *const credentials[] = {"mfk_0123456789abcdef_x", "mft_e30.AAAA", "e30.e30.A",
                                              ""};
    struct mf_principal who;
    struct subject t;
    start(&t);
    for (int mode = 0; mode < 2; mode++) { /* nothing at all; clients, but no issuers */
        struct mf_error err = MF_ERROR_INIT;
        t.l.config->auth.keys = "off";
        t.l.config->auth.trust = mode ? t.trust : "off";
        if (mode)
            write_text(t.trust, "{\"schema\":\"medfusion.trust/1\",\"issuers\":[]}");
        MF_AUTO(mf_auth) struct mf_auth *auth = mf_auth_new(t.l.config, &err);
        assert_non_null(auth);
        assert_null(mf_auth_token_url(auth));
        assert_true(mf_auth_start(auth, &err));
        for (size_t i = 0; i < sizeof credentials / sizeof *credentials; i++) {
            mf_error_clear(&err);
            assert_false(mf_auth_identify(auth, credentials[i], &who, &err));
            assert_error(&err, MF_ERR_UNAUTHORIZED, "the credential is of no kind that is known");
        }
    }
    end(&t);
}

/* --- opening --- */

static void what_is_wrong_is_said_when_it_is_opened(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct subject t;
    char path[160];
    start(&t);
    t.l.config->auth.keys = "/nowhere/keys.json";
    assert_null(mf_auth_new(t.l.config, &err));
    assert_int_equal(strncmp(err.msg, "auth.keys: ", 11), 0);
    mf_error_clear(&err);
    t.l.config->auth.keys = "off";
    write_text(t.trust, "{}");
    assert_null(mf_auth_new(t.l.config, &err));
    assert_int_equal(strncmp(err.msg, "auth.trust: ", 12), 0);
    end(&t);
    mf_auth_free(NULL);

    start(&t); /* what is kept in the data directory cannot be made */
    for (int i = 0; i < 3; i++) {
        static const char *const kept[] = {"token.key", "used-tokens"};
        mf_error_clear(&err);
        MF_AUTO(mf_auth) struct mf_auth *auth = mf_auth_new(t.l.config, &err);
        assert_non_null(auth);
        assert_string_equal(mf_auth_token_url(auth), "https://here/token");
        if (i < 2) {
            snprintf(path, sizeof path, "%s/%s", t.l.f.directory, kept[i]);
            assert_int_equal(mkdir(path, 0700), 0);
        }
        no_thread = i == 2;
        assert_false(mf_auth_start(auth, &err));
        no_thread = false;
        assert_int_equal(err.code, i < 2 ? MF_ERR_IO : MF_ERR_NO_MEMORY);
        if (i < 2)
            assert_int_equal(rmdir(path), 0);
    }
    mf_error_clear(&err);
    allowed = 0;
    assert_null(mf_auth_new(t.l.config, &err));
    allowed = -1;
    assert_error(&err, MF_ERR_NO_MEMORY, "out of memory for authentication");
    end(&t);
}

/* --- our own tokens --- */

static char *assertion(struct subject *t, const char *format, const char *id)
{
    char claims[1024];
    const char *hole = strstr(format, "%lld");
    assert_non_null(hole);
    snprintf(claims, sizeof claims, "%.*s%lld,\"jti\":\"%s\"%s", (int)(hole - format), format,
             (long long)in(100), id, hole + 4);
    return sign(t, "JWT", claims);
}

#define EHR "{\"iss\":\"ehr\",\"sub\":\"ehr\",\"aud\":\"https://here/token\",\"exp\":%lld"

static void an_assertion_is_good_for_one_token(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_principal who;
    struct subject t;
    start(&t);
    open_auth(&t);
    MF_AUTO(mf_mem) char *text = assertion(&t, EHR "}", "1");
    MF_AUTO(mf_json)
    json_t *answer =
        mf_auth_exchange(t.auth, text, "  admin jobs.read  system/*.rs nonsense", &err);
    assert_no_error(&err);
    assert_string_equal(mf_json_get_string(answer, "scope", ""), "jobs.read");
    assert_string_equal(mf_json_get_string(answer, "token_type", ""), "bearer");
    assert_true(
        mf_auth_identify(t.auth, mf_json_get_string(answer, "access_token", ""), &who, &err));
    assert_string_equal(who.name, "client:ehr");
    assert_string_equal(who.tenant, "south");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_READ, NULL));
    assert_false(mf_grant_allows(&who.grant, MF_ACCESS_FHIR_READ, "Observation"));
    assert_null(mf_auth_exchange(t.auth, text, "jobs.read", &err));
    assert_int_equal(err.code, MF_ERR_UNAUTHORIZED); /* used before */
    end(&t);
}

static void an_assertion_is_refused_for_what_is_wrong_with_it(void **state)
{
    (void)state;
    char long_id[300];
    memset(long_id, 'i', sizeof long_id);
    long_id[sizeof long_id - 1] = '\0';
    const struct {
        const char *claims, *id, *scopes, *said;
    } cases[] = {
        {"{\"iss\":\"us\",\"sub\":\"us\",\"exp\":%lld}", "a", "jobs.read",
         "the token is of a client that is not known (iss, sub)"},
        {"{\"iss\":\"ehr\",\"sub\":\"us\",\"exp\":%lld}", "a", "jobs.read",
         "the token is of a client that is not known (iss, sub)"},
        {"{\"iss\":\"ehr\",\"sub\":\"ehr\",\"exp\":%lld}", "a", "jobs.read",
         "the token is for somebody else (aud)"},
        {EHR ",\"nbf\":99999999999}", "a", "jobs.read", "the token is not valid yet"},
        {EHR "}", "", "jobs.read", "the token has no id (jti)"},
        {EHR "}", long_id, "jobs.read", "the token has no id (jti)"},
        {EHR "}", "b", "admin", "none of the scopes is the client's"},
        {EHR "}", "c", "", "none of the scopes is the client's"},
    };
    struct subject t;
    start(&t);
    open_auth(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_mem) char *text = assertion(&t, cases[i].claims, cases[i].id);
        assert_null(mf_auth_exchange(t.auth, text, cases[i].scopes, &err));
        assert_string_equal(err.msg, cases[i].said);
    }
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_auth_exchange(t.auth, "nonsense", "jobs.read", &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token is malformed");
    mf_error_clear(&err);
    MF_AUTO(mf_mem) char *forged = assertion(&t, EHR "}", "d");
    forged[strlen(forged) - 2] ^= 1;
    assert_null(mf_auth_exchange(t.auth, forged, "jobs.read", &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token has a wrong signature");
    end(&t);
}

/* A client that asks for the same again and again gets as much as a token holds. */
static void a_token_holds_so_many_scopes(void **state)
{
    (void)state;
    char scopes[4096] = "";
    struct mf_error err = MF_ERROR_INIT;
    struct subject t;
    start(&t);
    open_auth(&t);
    for (size_t used = 0; used + 32 < sizeof scopes;)
        used += (size_t)snprintf(scopes + used, sizeof scopes - used, "system/Observation.rs ");
    MF_AUTO(mf_mem) char *text = assertion(&t, EHR "}", "1");
    MF_AUTO(mf_json) json_t *answer = mf_auth_exchange(t.auth, text, scopes, &err);
    assert_no_error(&err);
    const char *given = mf_json_get_string(answer, "scope", "");
    assert_true(strlen(given) > 900 && strlen(given) < 1024);
    assert_int_equal((strlen(given) + 1) % strlen("system/Observation.rs "), 0);
    end(&t);
}

static void without_memory_there_is_no_token(void **state)
{
    (void)state;
    struct subject t;
    long at = 0;
    start(&t);
    open_auth(&t);
    json_set_alloc_funcs(__wrap_malloc, free);
    for (bool reached = true; reached; at++) {
        char id[16];
        struct mf_error err = MF_ERROR_INIT;
        snprintf(id, sizeof id, "n%ld", at);
        MF_AUTO(mf_mem) char *text = assertion(&t, EHR "}", id);
        allowed = at;
        MF_AUTO(mf_json) json_t *answer = mf_auth_exchange(t.auth, text, "jobs.read", &err);
        reached = allowed < 0;
        allowed = -1;
        assert_int_equal(answer == NULL, err.code != MF_OK);
        assert_true(reached || answer);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(at > 20);
    end(&t);
}

/* --- requests --- */

static struct mf_request *admit(struct subject *t, const char *target, const char *headers,
                                struct mf_error *err)
{
    *err = (struct mf_error)MF_ERROR_INIT;
    struct mf_error begun = MF_ERROR_INIT;
    struct mf_request *r = loopback_open(&t->l, "GET", target, headers, &begun);
    assert_non_null(r->endpoint);
    assert_int_equal(mf_auth_admit(r, err), err->code == MF_OK);
    return r;
}

static void a_request_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *target, *headers, *said, *asked; /* asked: WWW-Authenticate, or NULL */
    } cases[] = {
        {"/v2/health/live", NULL, "", NULL},
        {"/v1/jobs", NULL, "this needs a key or a token", "Bearer realm=\"medfusion\""},
        {"/v1/jobs", "Authorization: Basic YTpi",
         "Authorization must be Bearer with a key or token", "Bearer realm=\"medfusion\""},
        {"/v1/jobs", "Authorization: Bearer x\nX-API-Key: x",
         "both Authorization and X-API-Key are given", NULL},
        {"/v1/jobs", "Authorization: Bearer   x", "the token is malformed",
         "Bearer realm=\"medfusion\", error=\"invalid_token\""},
        {"/v1/jobs", "KEY", "", NULL},
        {"/v1/admin/models", "KEY", "this needs the scope admin",
         "Bearer realm=\"medfusion\", error=\"insufficient_scope\", scope=\"admin\""},
        {"/fhir/Observation/x", "KEY", "", NULL},
        {"/fhir/Observation", "KEY", "", NULL},
    };
    struct subject t;
    start(&t);
    open_auth(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char headers[256] = "";
        struct mf_error err;
        const char *given = cases[i].headers;
        snprintf(headers, sizeof headers, "X-API-Key: %s", t.text);
        if (!given || strcmp(given, "KEY") != 0)
            snprintf(headers, sizeof headers, "%s", given ? given : "");
        struct mf_request *r = admit(&t, cases[i].target, headers, &err);
        const char *asked = response_field(r, "WWW-Authenticate");
        assert_string_equal(err.msg, cases[i].said);
        assert_string_equal(asked ? asked : "", cases[i].asked ? cases[i].asked : "");
        mf_request_free(r);
    }
    end(&t);
}

static void where_nobody_authenticates_nobody_is_an_administrator(void **state)
{
    (void)state;
    struct subject t;
    struct mf_error err;
    start(&t);
    struct mf_request *r = admit(&t, "/v1/jobs", NULL, &err);
    assert_no_error(&err);
    assert_null(r->principal);
    mf_request_free(r);
    r = admit(&t, "/v1/admin/models", NULL, &err);
    assert_int_equal(err.code, MF_ERR_FORBIDDEN);
    assert_non_null(strstr(err.msg, "here nobody authenticates"));
    mf_request_free(r);
    end(&t);
}

/* A route that is in no table of rights is closed to everybody. */
static void what_names_no_right_is_allowed_to_nobody(void **state)
{
    (void)state;
    char headers[128];
    struct mf_error err;
    struct subject t;
    start(&t);
    open_auth(&t);
    snprintf(headers, sizeof headers, "Authorization: bearer %s", t.text);
    struct mf_request *r = admit(&t, "/v1/jobs", headers, &err);
    assert_string_equal(r->tenant, "north");
    assert_true(is_of_key(&t, r->principal->name));
    const struct mf_endpoint unknown = *r->endpoint;
    r->endpoint = &unknown;
    assert_false(mf_auth_admit(r, &err));
    assert_error(&err, MF_ERR_FORBIDDEN, "this is allowed to nobody");
    mf_request_free(r);
    end(&t);
}

/* What cannot be said in full is not let through either. */
static void a_refusal_that_does_not_fit_is_a_refusal(void **state)
{
    (void)state;
    char headers[128];
    struct mf_error err, begun = MF_ERROR_INIT;
    struct subject t;
    start(&t);
    open_auth(&t);
    snprintf(headers, sizeof headers, "X-API-Key: %s", t.text);
    for (int with_key = 0; with_key < 2; with_key++) {
        struct mf_request *r =
            loopback_open(&t.l, "GET", "/v1/admin/models", with_key ? headers : NULL, &begun);
        r->response.field_count = MF_RESPONSE_FIELDS;
        err = (struct mf_error)MF_ERROR_INIT;
        assert_false(mf_auth_admit(r, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a response header field does not fit");
        r->response.field_count = 0;
        mf_request_free(r);
    }
    struct mf_request *r = loopback_open(&t.l, "GET", "/v1/jobs", headers, &begun);
    struct mf_arena *whole = r->arena;
    MF_AUTO(mf_arena) struct mf_arena *tiny = mf_arena_new(1);
    r->arena = tiny;
    err = (struct mf_error)MF_ERROR_INIT;
    assert_false(mf_auth_admit(r, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    r->arena = whole;
    mf_request_free(r);
    end(&t);
}

static void a_request_is_in_the_trail(void **state)
{
    (void)state;
    char headers[128];
    struct mf_error err;
    struct subject t;
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    start(&t);
    open_auth(&t);
    snprintf(headers, sizeof headers, "X-API-Key: %s", t.text);
    struct mf_request *r = admit(&t, "/v1/jobs?limit=1", headers, &err);
    r->response.status = 200;
    assert_true(mf_auth_record(r, &err));
    assert_true(mf_store_audit_read(t.l.f.store, 0, t.l.f.arena, &base, &rows, &n, &err));
    assert_int_equal(n, 1);
    assert_true(is_of_key(&t, rows[0].actor));
    assert_string_equal(rows[0].tenant, "north");
    assert_string_equal(rows[0].detail, "GET /v1/jobs 200");
    mf_request_free(r);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_issuers_token_makes_its_tenants_principal),
        cmocka_unit_test(a_token_is_refused_for_what_is_wrong_with_it),
        cmocka_unit_test(a_key_set_that_breaks_stays_as_it_was),
        cmocka_unit_test(tokens_that_share_a_slot_stay_apart),
        cmocka_unit_test(keys_are_read_anew_when_their_file_changes),
        cmocka_unit_test(a_credential_of_no_known_kind_is_nobodys),
        cmocka_unit_test(what_is_wrong_is_said_when_it_is_opened),
        cmocka_unit_test(an_assertion_is_good_for_one_token),
        cmocka_unit_test(an_assertion_is_refused_for_what_is_wrong_with_it),
        cmocka_unit_test(a_token_holds_so_many_scopes),
        cmocka_unit_test(without_memory_there_is_no_token),
        cmocka_unit_test(a_request_is_refused_with_its_reason),
        cmocka_unit_test(where_nobody_authenticates_nobody_is_an_administrator),
        cmocka_unit_test(what_names_no_right_is_allowed_to_nobody),
        cmocka_unit_test(a_refusal_that_does_not_fit_is_a_refusal),
        cmocka_unit_test(a_request_is_in_the_trail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
