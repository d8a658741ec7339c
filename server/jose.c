/* Signed tokens: header and claims are read by our own JSON fence, signatures by libcjose. */
#include "server/jose.h"

#include <cjose/cjose.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SKEW_S = 60, LEAST_RSA_BITS = 2048, DEPTH = 8 };

static const char RS384[] = "RS384", ES384[] = "ES384";

struct key {
    const char *kid;       /* the jwk's */
    const char *algorithm; /* the only one that this key may be used with */
    cjose_jwk_t *jwk;
};

struct mf_jwk_set {
    struct key keys[MF_JWK_SET_KEYS];
    size_t count;
};

static bool refuse(struct mf_error *err, const char *reason)
{
    return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token %s", reason);
}

/* --- key sets --- */

void mf_jwk_set_free(struct mf_jwk_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        cjose_jwk_release(set->keys[i].jwk);
    free(set);
}

size_t mf_jwk_set_count(const struct mf_jwk_set *set)
{
    return set->count;
}

static const struct key *find_key(const struct mf_jwk_set *set, const char *kid)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->keys[i].kid, kid) == 0)
            return &set->keys[i];
    return NULL;
}

bool mf_jwk_set_has(const struct mf_jwk_set *set, const char *kid)
{
    return find_key(set, kid) != NULL;
}

/* The algorithm that a key is for; NULL: none of ours. */
static const char *algorithm_of(const json_t *key)
{
    const char *type = mf_json_get_string(key, "kty", "");
    const char *use = mf_json_get_string(key, "use", "sig");
    const char *algorithm =
        strcmp(type, "RSA") == 0 ? RS384
        : strcmp(type, "EC") == 0 && strcmp(mf_json_get_string(key, "crv", ""), "P-384") == 0
            ? ES384
            : NULL;
    bool fits = algorithm && strcmp(use, "sig") == 0 &&
                strcmp(mf_json_get_string(key, "alg", algorithm), algorithm) == 0;
    return fits ? algorithm : NULL;
}

static bool add_key(struct mf_jwk_set *set, const json_t *key, const char *name,
                    struct mf_error *err)
{
    cjose_err detail;
    const char *kid = mf_json_get_string(key, "kid", ""), *algorithm = algorithm_of(key);
    if (json_object_get(key, "d") || json_object_get(key, "k"))
        return mf_error_set(err, MF_ERR_USAGE, "%s: holds a private or secret key", name);
    if (!*kid || !algorithm)
        return true;
    if (find_key(set, kid))
        return mf_error_set(err, MF_ERR_USAGE, "%s: two keys have the same kid", name);
    if (set->count == MF_JWK_SET_KEYS)
        return mf_error_set(err, MF_ERR_USAGE, "%s: more than %d keys", name, MF_JWK_SET_KEYS);
    MF_AUTO(mf_mem) char *text = json_dumps(key, JSON_COMPACT);
    cjose_jwk_t *jwk = text ? cjose_jwk_import(text, strlen(text), &detail) : NULL;
    if (!jwk)
        return mf_error_set(err, MF_ERR_USAGE, "%s: a key cannot be read", name);
    if (algorithm == RS384 && cjose_jwk_get_keysize(jwk, &detail) < LEAST_RSA_BITS) {
        cjose_jwk_release(jwk);
        return true;
    }
    set->keys[set->count++] = (struct key){cjose_jwk_get_kid(jwk, &detail), algorithm, jwk};
    return true;
}

struct mf_jwk_set *mf_jwk_set_parse(const char *text, size_t len, const char *name,
                                    struct mf_error *err)
{
    static const struct mf_json_limits limits = {MF_JWK_SET_BYTES, DEPTH};
    struct mf_error detail = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *root = mf_json_parse(text, len, &limits, name, &detail);
    const json_t *keys = root ? mf_json_need_array(root, "keys", &detail) : NULL;
    MF_AUTO(mf_jwk_set) struct mf_jwk_set *set = calloc(1, sizeof *set);
    if (!keys) {
        mf_error_set(err, MF_ERR_USAGE, "%s is no JWK set (%s)", name, detail.msg);
        return NULL;
    }
    if (!set) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for keys");
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(keys); i++)
        if (!add_key(set, json_array_get(keys, i), name, err))
            return NULL;
    return MF_STEAL(set);
}

/* --- base64url --- */

char *mf_base64url(const void *data, size_t len)
{
    char *out = NULL, *copy;
    size_t n = 0;
    cjose_err detail;
    if (!cjose_base64url_encode(data, len, &out, &n, &detail))
        return NULL;
    copy = strndup(out, n);
    cjose_get_dealloc()(out);
    return copy;
}

unsigned char *mf_base64url_decode(const char *text, size_t len, size_t *ret_len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char *out = NULL, *copy;
    cjose_err detail;
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        if (!text[i] || !strchr(digits, text[i]))
            return NULL;
    if (len == 0 || len % 4 == 1 || !cjose_base64url_decode(text, len, &out, &n, &detail))
        return NULL;
    copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, out, n);
        copy[n] = '\0';
        *ret_len = n;
    }
    cjose_get_dealloc()(out);
    return copy;
}

/* --- tokens --- */

void mf_jwt_close(struct mf_jwt *jwt)
{
    json_decref(jwt->header);
    json_decref(jwt->claims);
    *jwt = (struct mf_jwt){.text = NULL};
}

/* One of the first two parts as a JSON object; NULL: it is none. */
static json_t *read_part(const char *text, size_t len)
{
    static const struct mf_json_limits limits = {MF_JWT_BYTES, DEPTH};
    size_t n = 0;
    MF_AUTO(mf_mem) unsigned char *bytes = mf_base64url_decode(text, len, &n);
    json_t *value = bytes ? mf_json_parse((const char *)bytes, n, &limits, "token", NULL) : NULL;
    if (json_is_object(value))
        return value;
    json_decref(value);
    return NULL;
}

static bool known_type(const json_t *header, const char *const types[])
{
    const char *type = mf_json_get_string(header, "typ", "");
    for (size_t i = 0; types[i]; i++)
        if (strcasecmp(type, types[i]) == 0)
            return true;
    return false;
}

static bool judge_header(struct mf_jwt *jwt, const char *const types[], struct mf_error *err)
{
    const char *algorithm = mf_json_get_string(jwt->header, "alg", "");
    jwt->kid = mf_json_get_string(jwt->header, "kid", "");
    if (strcmp(algorithm, RS384) != 0 && strcmp(algorithm, ES384) != 0)
        return refuse(err, "is not signed with RS384 or ES384");
    if (!*jwt->kid)
        return refuse(err, "names no key (kid)");
    if (json_object_get(jwt->header, "crit") || json_object_get(jwt->header, "b64"))
        return refuse(err, "has an extension that is not known");
    if (!known_type(jwt->header, types))
        return refuse(err, "is of another type (typ)");
    return true;
}

bool mf_jwt_open(const char *text, const char *const types[], struct mf_jwt *ret,
                 struct mf_error *err)
{
    const char *first = strchr(text, '.'), *second = first ? strchr(first + 1, '.') : NULL;
    *ret = (struct mf_jwt){.text = text};
    if (!second || strchr(second + 1, '.') || strlen(text) > MF_JWT_BYTES)
        return refuse(err, "is malformed");
    MF_AUTO(mf_jwt) struct mf_jwt jwt = {.text = text};
    jwt.header = read_part(text, (size_t)(first - text));
    jwt.claims = read_part(first + 1, (size_t)(second - first - 1));
    if (!jwt.header || !jwt.claims)
        return refuse(err, "is malformed");
    if (!judge_header(&jwt, types, err))
        return false;
    *ret = jwt;
    jwt = (struct mf_jwt){.text = NULL};
    return true;
}

bool mf_jwt_verify(const struct mf_jwt *jwt, const struct mf_jwk_set *set, struct mf_error *err)
{
    cjose_err detail;
    const struct key *key = find_key(set, jwt->kid);
    if (!key)
        return refuse(err, "is signed with a key that is not known");
    if (strcmp(mf_json_get_string(jwt->header, "alg", ""), key->algorithm) != 0)
        return refuse(err, "is signed with another algorithm than its key is for");
    cjose_jws_t *jws = cjose_jws_import(jwt->text, strlen(jwt->text), &detail);
    bool ok = jws && cjose_jws_verify(jws, key->jwk, &detail);
    cjose_jws_release(jws);
    if (!ok)
        refuse(err, "has a wrong signature");
    return ok;
}

/* A NumericDate; false: it is there and none. */
static bool read_time(const struct mf_jwt *jwt, const char *name, double *ret, bool *ret_there)
{
    const json_t *value = json_object_get(jwt->claims, name);
    *ret_there = value != NULL;
    *ret = json_number_value(value);
    return !value || (json_is_number(value) && *ret > 0 && *ret < 1e11);
}

bool mf_jwt_in_time(const struct mf_jwt *jwt, int64_t now, int64_t longest_s, struct mf_error *err)
{
    double exp, nbf, iat;
    bool has_exp, has_nbf, has_iat;
    if (!read_time(jwt, "exp", &exp, &has_exp) || !read_time(jwt, "nbf", &nbf, &has_nbf) ||
        !read_time(jwt, "iat", &iat, &has_iat) || !has_exp)
        return refuse(err, "has no valid times (exp)");
    if (exp + SKEW_S <= (double)now)
        return refuse(err, "has expired");
    if (exp > (double)(now + longest_s + SKEW_S))
        return refuse(err, "is valid for too long");
    if ((has_nbf && nbf > (double)(now + SKEW_S)) || (has_iat && iat > (double)(now + SKEW_S)))
        return refuse(err, "is not valid yet");
    return true;
}

bool mf_jwt_for_audience(const struct mf_jwt *jwt, const char *audience)
{
    const json_t *value = json_object_get(jwt->claims, "aud");
    if (json_is_string(value))
        return strcmp(json_string_value(value), audience) == 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *one = json_string_value(json_array_get(value, i));
        if (one && strcmp(one, audience) == 0)
            return true;
    }
    return false;
}
