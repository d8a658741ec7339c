/* A hospital's keys, issuers and clients for auth.c and authorize.c: keys are made and tokens
 * signed here. */
#ifndef MF_TESTS_SERVER_AUTH_SUBJECT_H
#define MF_TESTS_SERVER_AUTH_SUBJECT_H

#include "loopback.h"

#include "server/api_keys.h"
#include "server/auth.h"

#include "core/clock.h"

#include <cjose/cjose.h>

struct auth_subject {
    struct loopback l;
    struct mf_auth *auth;
    cjose_jwk_t *key;
    char keys[128], trust[128], set[128], text[MF_API_KEY_TEXT];
};

static inline void auth_write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* A file of one key with these scopes; its text is in t->text. */
static inline void auth_write_key(struct auth_subject *t, const char *scopes)
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
static inline bool auth_is_of_key(const struct auth_subject *t, const char *name)
{
    return strncmp(name, "key:", 4) == 0 && strlen(name) == 20 &&
           strncmp(name + 4, t->text + 4, 16) == 0;
}

static inline void auth_write_set(struct auth_subject *t)
{
    cjose_err detail;
    char *public = cjose_jwk_to_json(t->key, false, &detail), set[1024];
    assert_non_null(public);
    snprintf(set, sizeof set, "{\"keys\":[%s]}", public);
    auth_write_text(t->set, set);
    cjose_get_dealloc()(public);
}

static inline void auth_start(struct auth_subject *t)
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
    auth_write_key(t, "jobs.read fhir.read");
    auth_write_set(t);
    snprintf(trust, sizeof trust,
             "{\"schema\":\"medfusion.trust/1\",\"token_url\":\"https://here/token\",\"issuers\":["
             "{\"issuer\":\"idp\",\"audience\":\"us\",\"jwks_file\":\"%s\",\"tenant\":\"north\","
             "\"scopes\":\"jobs.read jobs.write\"},"
             "{\"issuer\":\"open\",\"audience\":\"us\",\"jwks_file\":\"%s\","
             "\"tenant_claim\":\"hospital\",\"scopes\":\"fhir.read\",\"scopeless\":true}],"
             "\"clients\":[{\"client_id\":\"ehr\",\"jwks_file\":\"%s\",\"tenant\":\"south\","
             "\"scopes\":\"jobs.read system/Observation.rs\"}]}",
             t->set, t->set, t->set);
    auth_write_text(t->trust, trust);
    t->l.config->auth.keys = t->keys;
    t->l.config->auth.trust = t->trust;
    t->l.config->data.directory = t->l.f.directory;
}

static inline void auth_open(struct auth_subject *t)
{
    struct mf_error err = MF_ERROR_INIT;
    t->auth = mf_auth_new(t->l.config, &err);
    assert_no_error(&err);
    assert_true(mf_auth_start(t->auth, &err));
    assert_no_error(&err);
    t->l.services.auth = t->auth;
}

static inline void auth_end(struct auth_subject *t)
{
    mf_auth_free(t->auth);
    cjose_jwk_release(t->key);
    loopback_end(&t->l);
}

static inline int64_t auth_in(int64_t seconds)
{
    return mf_clock_wall_ms() / 1000 + seconds;
}

/* A token with these claims, signed; the caller frees it. */
static inline char *auth_sign(struct auth_subject *t, const char *type, const char *claims)
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
static inline bool auth_identify(struct auth_subject *t, const char *format, int64_t life_s,
                                 struct mf_principal *who, struct mf_error *err)
{
    char claims[512];
    const char *hole = strstr(format, "%lld");
    assert_non_null(hole);
    snprintf(claims, sizeof claims, "%.*s%lld%s", (int)(hole - format), format,
             (long long)auth_in(life_s), hole + 4);
    MF_AUTO(mf_mem) char *token = auth_sign(t, "at+jwt", claims);
    *err = (struct mf_error)MF_ERROR_INIT;
    return mf_auth_identify(t->auth, token, who, err);
}

#endif
