/* Access tokens: asking for one. Nothing of an answer reaches a message or the log. */
#include "server/fhir_token.h"

#include "server/store.h"
#include "server/web_client.h"

#include "core/clock.h"
#include "core/json.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

enum {
    ANSWER_BYTES = 64 << 10,
    FORM_BYTES = 16 << 10,
    ASSERTION_S = 300,
    DEFAULT_LIFE_S = 300,
    EARLY_S = 30,    /* so long before its end a token is renewed */
    P384_BYTES = 48, /* of each half of a signature */
    SIGNATURE_BYTES = 1024
};

static const uint64_t SECOND = 1000000000;

/* --- assertion --- */

static bool append_base64url(struct mf_buffer *out, const void *data, size_t len,
                             struct mf_error *err)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        unsigned v = (unsigned)bytes[i] << 16 | (n > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                     (n > 2 ? bytes[i + 2] : 0);
        char text[4] = {DIGITS[v >> 18], DIGITS[v >> 12 & 63], DIGITS[v >> 6 & 63], DIGITS[v & 63]};
        if (!mf_buffer_append(out, text, n + 1, err))
            return false;
    }
    return true;
}

/* A JSON object (taken) as one part of a JWT. */
static bool append_part(struct mf_buffer *out, json_t *object, struct mf_error *err)
{
    MF_AUTO(mf_mem) char *text = object ? mf_json_text(object, 0) : NULL;
    json_decref(object);
    return text ? append_base64url(out, text, strlen(text), err)
                : mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a client assertion");
}

static EVP_PKEY *read_key(const struct mf_fhir_server *s, bool *ret_ec, struct mf_error *err)
{
    MF_AUTO(mf_file) FILE *file = fopen(s->private_key_file, "re");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    int kind = key ? EVP_PKEY_get_base_id(key) : 0;
    *ret_ec = kind == EVP_PKEY_EC;
    if ((kind == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) >= 2048) ||
        (kind == EVP_PKEY_EC && EVP_PKEY_get_bits(key) == 8 * P384_BYTES))
        return key;
    EVP_PKEY_free(key);
    mf_error_set(err, MF_ERR_USAGE,
                 "%s: not a private key of RSA (2048 bits or more) or P-384 in PEM",
                 s->private_key_file);
    return NULL;
}

/* ES384 wants both numbers side by side (RFC 7518 3.4) where OpenSSL gives DER. */
static bool append_ecdsa(struct mf_buffer *out, const unsigned char *der, size_t len,
                         struct mf_error *err)
{
    unsigned char raw[2 * P384_BYTES];
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, P384_BYTES) == P384_BYTES &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + P384_BYTES, P384_BYTES) == P384_BYTES;
    ECDSA_SIG_free(sig);
    return ok ? append_base64url(out, raw, sizeof raw, err)
              : mf_error_set(err, MF_ERR_INTERNAL, "a client assertion cannot be signed");
}

static bool sign(EVP_PKEY *key, bool ec, struct mf_buffer *out, size_t begin, struct mf_error *err)
{
    unsigned char signature[SIGNATURE_BYTES];
    size_t len = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestSignInit(context, NULL, EVP_sha384(), NULL, key) == 1 &&
              EVP_DigestSign(context, signature, &len, (const unsigned char *)out->data + begin,
                             out->len - begin) == 1;
    EVP_MD_CTX_free(context);
    if (!ok)
        return mf_error_set(err, MF_ERR_INTERNAL, "a client assertion cannot be signed");
    return mf_buffer_append_str(out, ".", err) && (ec ? append_ecdsa(out, signature, len, err)
                                                      : append_base64url(out, signature, len, err));
}

bool mf_fhir_assertion(const struct mf_fhir_server *s, int64_t now_s, const char *jti,
                       struct mf_buffer *out, struct mf_error *err)
{
    bool ec = false;
    size_t begin = out->len;
    EVP_PKEY *key = read_key(s, &ec, err);
    if (!key)
        return false;
    json_t *head = json_pack("{s:s, s:s}", "alg", ec ? "ES384" : "RS384", "typ", "JWT");
    if (head && s->key_id && json_object_set_new(head, "kid", json_string(s->key_id)) != 0) {
        json_decref(head);
        head = NULL;
    }
    bool ok = append_part(out, head, err) && mf_buffer_append_str(out, ".", err) &&
              append_part(out,
                          json_pack("{s:s, s:s, s:s, s:s, s:I}", "iss", s->client_id, "sub",
                                    s->client_id, "aud", s->token_url, "jti", jti, "exp",
                                    (json_int_t)now_s + ASSERTION_S),
                          err) &&
              sign(key, ec, out, begin, err);
    EVP_PKEY_free(key);
    return ok;
}

/* --- asking --- */

/* "Basic " and the base64 of id:secret, each encoded as a form's value (RFC 6749 2.3.1). */
static bool make_basic(const struct mf_fhir_server *s, struct mf_buffer *out, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer plain;
    mf_buffer_init(&plain, FORM_BYTES);
    if (!mf_web_encode(&plain, s->client_id, err) || !mf_buffer_append_str(&plain, ":", err) ||
        !mf_web_encode(&plain, s->client_secret, err) || !mf_buffer_append_str(out, "Basic ", err))
        return false;
    char *at = mf_buffer_reserve(out, plain.len / 3 * 4 + 4, err);
    if (!at)
        return false;
    out->len += (size_t)EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)plain.data,
                                        (int)plain.len);
    OPENSSL_cleanse(plain.data, plain.len);
    return true;
}

static bool make_form(const struct mf_fhir_server *s, struct mf_buffer *out, struct mf_error *err)
{
    static const char ASSERTION[] =
        "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        "&client_assertion=";
    char jti[MF_JOB_ID];
    mf_job_id_new(jti);
    if (!mf_buffer_append_str(out, "grant_type=client_credentials", err))
        return false;
    if (s->scope &&
        (!mf_buffer_append_str(out, "&scope=", err) || !mf_web_encode(out, s->scope, err)))
        return false;
    if (!s->private_key_file)
        return true;
    MF_AUTO(mf_buffer) struct mf_buffer jwt; /* of characters that need no encoding */
    mf_buffer_init(&jwt, FORM_BYTES);
    return mf_fhir_assertion(s, mf_clock_wall_ms() / 1000, jti, &jwt, err) &&
           mf_buffer_append_str(out, ASSERTION, err) && mf_buffer_append_str(out, jwt.data, err);
}

/* What may stand in a header field (RFC 6750 2.1). */
static bool is_token(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len < MF_FHIR_TOKEN_BYTES &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") ==
               len;
}

static bool take_token(struct mf_fhir_token *token, const struct mf_buffer *answer,
                       struct mf_error *err)
{
    static const struct mf_json_limits limits = {ANSWER_BYTES, 8};
    struct mf_error ignored = MF_ERROR_INIT; /* it would quote the answer's place, no more */
    MF_AUTO(mf_json)
    json_t *body =
        mf_json_parse(answer->data ? answer->data : "", answer->len, &limits, "token", &ignored);
    const char *text = mf_json_get_string(body, "access_token", "");
    json_int_t life = mf_json_get_int(body, "expires_in", DEFAULT_LIFE_S);
    if (!is_token(text) || strcasecmp(mf_json_get_string(body, "token_type", ""), "bearer") != 0)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the authorization server's answer is not a bearer token");
    life = life > 86400 ? 86400 : life;
    if (!(token->text = strdup(text)))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a token");
    token->until_ns =
        mf_clock_monotonic_ns() + (uint64_t)(life > EARLY_S ? life - EARLY_S : 0) * SECOND;
    return true;
}

static bool ask(struct mf_fhir_token *token, const struct mf_fhir_server *s, int timeout_s,
                struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer form, basic, answer;
    long status = 0;
    mf_buffer_init(&form, FORM_BYTES);
    mf_buffer_init(&basic, FORM_BYTES);
    mf_buffer_init(&answer, ANSWER_BYTES);
    if (!make_form(s, &form, err) || (s->client_secret && !make_basic(s, &basic, err)))
        return false;
    const struct mf_web_request request = {.url = s->token_url,
                                           .accept = "application/json",
                                           .content_type = "application/x-www-form-urlencoded",
                                           .body = form.data,
                                           .body_len = form.len,
                                           .authorization = basic.data,
                                           .ca_file = s->ca_file,
                                           .timeout_s = timeout_s,
                                           .max_bytes = ANSWER_BYTES,
                                           .data = mf_web_keep,
                                           .context = &answer};
    if (!mf_web_send(&request, &status, err))
        return mf_error_prefix(err, "authorization server of \"%s\"", s->name);
    if (status / 100 != 2)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the authorization server answered %ld",
                            status);
    return take_token(token, &answer, err);
}

bool mf_fhir_token_renew(struct mf_fhir_token *token, const struct mf_fhir_server *s, int timeout_s,
                         struct mf_error *err)
{
    if (token->text && mf_clock_monotonic_ns() < token->until_ns)
        return true;
    mf_fhir_token_clear(token);
    return ask(token, s, timeout_s, err);
}

void mf_fhir_token_clear(struct mf_fhir_token *token)
{
    if (token->text)
        OPENSSL_cleanse(token->text, strlen(token->text));
    free(token->text);
    *token = (struct mf_fhir_token){.text = NULL};
}
