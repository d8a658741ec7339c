/* AWS Signature Version 4: canonical request, string to sign, signature. */
#include "server/sigv4.h"

#include "core/buffer.h"
#include "core/clock.h"

#include <string.h>

enum { DATE = 8, CANONICAL_BYTES = 16 << 10, SCOPE_BYTES = 128, NAMES_BYTES = 256 };

static const char ALGORITHM[] = "AWS4-HMAC-SHA256";

const char *mf_sigv4_time(int64_t wall_ms, char out[MF_SIGV4_TIME])
{
    char text[MF_TIME_TEXT]; /* 2013-05-24T00:00:00.000Z */
    size_t n = 0;
    mf_clock_format_ms(wall_ms, text);
    for (const char *at = text; *at && *at != '.' && n < MF_SIGV4_TIME - 2; at++)
        if (*at != '-' && *at != ':')
            out[n++] = *at;
    out[n++] = 'Z';
    out[n] = '\0';
    return out;
}

/* "host;x-amz-date" */
static bool name_fields(const struct mf_sigv4_request *r, char out[NAMES_BYTES])
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < r->field_count; i++) {
        int n = snprintf(out + used, NAMES_BYTES - used, "%s%.*s", i ? ";" : "",
                         (int)strcspn(r->fields[i], ":"), r->fields[i]);
        if (n < 0 || (size_t)n >= NAMES_BYTES - used)
            return false;
        used += (size_t)n;
    }
    return true;
}

/* The hex digest of the canonical request. */
static bool hash_request(const struct mf_sigv4_request *r, const char *names,
                         char out[MF_SHA256_HEX], struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    unsigned char digest[MF_SHA256_BYTES];
    mf_buffer_init(&text, CANONICAL_BYTES);
    if (!mf_buffer_printf(&text, err, "%s\n%s\n%s\n", r->method, r->path, r->query))
        return false;
    for (size_t i = 0; i < r->field_count; i++)
        if (!mf_buffer_printf(&text, err, "%s\n", r->fields[i]))
            return false;
    if (!mf_buffer_printf(&text, err, "\n%s\n%s", names, r->payload))
        return false;
    mf_sha256(text.data, text.len, digest);
    mf_sha256_to_hex(digest, out);
    return true;
}

/* The key of this day, region and service, step by step; then the signature of `text`. */
static bool sign(const struct mf_sigv4_request *r, const struct mf_sigv4_key *key, const char *text,
                 char out[MF_SHA256_HEX], struct mf_error *err)
{
    char secret[MF_SIGV4_KEY + 4];
    unsigned char k[MF_SHA256_BYTES];
    const char *const steps[] = {r->region, r->service, "aws4_request", text};
    snprintf(secret, sizeof secret, "AWS4%s", key->secret);
    bool ok = mf_hmac_sha256(secret, strlen(secret), r->time, DATE, k);
    explicit_bzero(secret, sizeof secret);
    for (size_t i = 0; ok && i < sizeof steps / sizeof *steps; i++) {
        unsigned char next[MF_SHA256_BYTES];
        ok = mf_hmac_sha256(k, sizeof k, steps[i], strlen(steps[i]), next);
        memcpy(k, next, sizeof k);
    }
    mf_sha256_to_hex(k, out);
    explicit_bzero(k, sizeof k);
    return ok || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a signature");
}

bool mf_sigv4_authorization(const struct mf_sigv4_request *r, const struct mf_sigv4_key *key,
                            char out[MF_SIGV4_TEXT], struct mf_error *err)
{
    char names[NAMES_BYTES], scope[SCOPE_BYTES], hash[MF_SHA256_HEX], signature[MF_SHA256_HEX];
    char text[SCOPE_BYTES + 128];
    int n =
        snprintf(scope, sizeof scope, "%.8s/%s/%s/aws4_request", r->time, r->region, r->service);
    if (n < 0 || n >= (int)sizeof scope || !name_fields(r, names))
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a request is too large to be signed");
    if (!hash_request(r, names, hash, err))
        return false;
    snprintf(text, sizeof text, "%s\n%s\n%s\n%s", ALGORITHM, r->time, scope, hash);
    if (!sign(r, key, text, signature, err))
        return false;
    n = snprintf(out, MF_SIGV4_TEXT, "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                 ALGORITHM, key->id, scope, names, signature);
    return (n > 0 && n < MF_SIGV4_TEXT) ||
           mf_error_set(err, MF_ERR_TOO_LARGE, "a request is too large to be signed");
}
