/* Errors: the table of codes and the filling of `struct mf_error`. */
#include "core/error.h"

#include <stdio.h>
#include <string.h>

struct code_row {
    const char *name;
    const char *title;
    int http_status;
    const char *fhir_issue;
};

static const struct code_row CODES[MF_CODE_COUNT] = {
    [MF_OK] = {"ok", "OK", 200, "informational"},
    [MF_ERR_MALFORMED] = {"malformed", "Malformed input", 400, "structure"},
    [MF_ERR_UNAUTHORIZED] = {"unauthorized", "Authentication required", 401, "login"},
    [MF_ERR_FORBIDDEN] = {"forbidden", "Not allowed", 403, "forbidden"},
    [MF_ERR_NOT_FOUND] = {"not-found", "Not found", 404, "not-found"},
    [MF_ERR_METHOD] = {"method-not-allowed", "Method not allowed", 405, "not-supported"},
    [MF_ERR_NOT_ACCEPTABLE] = {"not-acceptable", "Not acceptable", 406, "not-supported"},
    [MF_ERR_CONFLICT] = {"conflict", "Conflict with the current state", 409, "conflict"},
    [MF_ERR_GONE] = {"gone", "Purged", 410, "deleted"},
    [MF_ERR_TOO_LARGE] = {"too-large", "Over a size limit", 413, "too-costly"},
    [MF_ERR_UNSUPPORTED] = {"unsupported", "Unsupported media type or encoding", 415,
                            "not-supported"},
    [MF_ERR_UNUSABLE] = {"unusable", "Readable but not usable", 422, "business-rule"},
    [MF_ERR_BUSY] = {"busy", "Too many requests", 429, "throttled"},
    [MF_ERR_HEADERS] = {"headers-too-large", "Request header fields too large", 431, "too-costly"},
    [MF_ERR_INTERNAL] = {"internal", "Internal error", 500, "exception"},
    [MF_ERR_NO_MEMORY] = {"no-memory", "Out of memory", 500, "exception"},
    [MF_ERR_CRASHED] = {"crashed", "The processing crashed", 500, "exception"},
    [MF_ERR_IO] = {"io", "Storage or transport failed", 503, "no-store"},
    [MF_ERR_UNAVAILABLE] = {"unavailable", "Not available now", 503, "transient"},
    [MF_ERR_TIMEOUT] = {"timeout", "A deadline passed", 504, "timeout"},
    [MF_ERR_USAGE] = {"usage", "Wrong usage", 400, "invalid"},
    [MF_ERR_MODEL] = {"model", "Invalid model", 500, "exception"},
};

static const struct code_row *row(enum mf_code code)
{
    if ((int)code < 0 || code >= MF_CODE_COUNT)
        code = MF_ERR_INTERNAL;
    return &CODES[code];
}

/* Drops an incomplete UTF-8 sequence that a cut left at the end of `s`. */
static void trim_utf8(char *s)
{
    size_t len = strlen(s);
    size_t back = 0;
    while (back < 3 && back < len && ((unsigned char)s[len - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back == len)
        return;
    unsigned char lead = (unsigned char)s[len - 1 - back];
    size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (need > back)
        s[len - 1 - back] = '\0';
}

bool mf_error_vset(struct mf_error *err, enum mf_code code, const char *fmt, va_list ap)
{
    if (!err || err->code != MF_OK)
        return false;
    err->code = code == MF_OK ? MF_ERR_INTERNAL : code;
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    if (n < 0)
        snprintf(err->msg, sizeof err->msg, "%s", mf_code_title(code));
    else if ((size_t)n >= sizeof err->msg)
        trim_utf8(err->msg);
    return false;
}

bool mf_error_set(struct mf_error *err, enum mf_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    mf_error_vset(err, code, fmt, ap);
    va_end(ap);
    return false;
}

bool mf_error_prefix(struct mf_error *err, const char *fmt, ...)
{
    if (!err || err->code == MF_OK)
        return false;
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof err->msg ? (size_t)n : sizeof err->msg - 1;
    int m = snprintf(err->msg + used, sizeof err->msg - used, ": %s", old);
    if (m < 0 || (size_t)m >= sizeof err->msg - used)
        trim_utf8(err->msg);
    return false;
}

void mf_error_clear(struct mf_error *err)
{
    if (!err)
        return;
    err->code = MF_OK;
    err->msg[0] = '\0';
}

const char *mf_code_name(enum mf_code code)
{
    return row(code)->name;
}

const char *mf_code_title(enum mf_code code)
{
    return row(code)->title;
}

int mf_code_http_status(enum mf_code code)
{
    return row(code)->http_status;
}

const char *mf_code_fhir_issue(enum mf_code code)
{
    return row(code)->fhir_issue;
}

enum mf_code mf_code_from_name(const char *name)
{
    for (int i = 0; i < MF_CODE_COUNT; i++)
        if (name && strcmp(CODES[i].name, name) == 0)
            return (enum mf_code)i;
    return MF_ERR_INTERNAL;
}
