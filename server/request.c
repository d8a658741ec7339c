/* Requests: target, header fields, framing rules (RFC 9110, 9112), Prefer. */
#include "server/request.h"

#include "core/clock.h"
#include "server/negotiate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ARENA_BYTES = 32 << 20, MAX_WAIT_S = 60 };

struct mf_request *mf_request_new(struct mf_services *services, struct mf_error *err)
{
    struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    struct mf_request *request = arena ? calloc(1, sizeof *request) : NULL;
    if (!request) {
        mf_arena_free(arena);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a request");
        return NULL;
    }
    request->arena = arena;
    request->services = services;
    request->tenant = MF_TENANT_DEFAULT;
    request->method = request->path = "";
    request->started_ns = mf_clock_monotonic_ns();
    return request;
}

void mf_request_free(struct mf_request *request)
{
    if (!request)
        return;
    if (request->endpoint && request->endpoint->dispose)
        request->endpoint->dispose(request);
    free(request->response.owned);
    mf_arena_free(request->arena);
    free(request);
}

/* --- target --- */

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decodes percent escapes (and '+' in a query) in place. */
static bool decode(char *text, bool query, struct mf_error *err)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        unsigned char c = (unsigned char)*in;
        if (c == '%') {
            int high = hex_value(in[1]), low = high < 0 ? -1 : hex_value(in[2]);
            if (low < 0 || (high == 0 && low == 0))
                return mf_error_set(err, MF_ERR_MALFORMED,
                                    "the request target has an invalid percent escape");
            c = (unsigned char)(high << 4 | low);
            in += 2;
        } else if (query && c == '+') {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7F)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "the request target has a control character");
        *out++ = (char)c;
    }
    *out = '\0';
    return true;
}

bool mf_request_add_query(struct mf_request *request, char *text, struct mf_error *err)
{
    while (text && *text) {
        char *next = strchr(text, '&');
        if (next)
            *next++ = '\0';
        char *value = strchr(text, '=');
        if (value)
            *value++ = '\0';
        if (request->query_count == MF_REQUEST_FIELDS)
            return mf_error_set(err, MF_ERR_MALFORMED, "the query has more than %d parameters",
                                MF_REQUEST_FIELDS);
        if (!decode(text, true, err) || (value && !decode(value, true, err)))
            return false;
        if (*text)
            request->query[request->query_count++] = (struct mf_field){text, value ? value : ""};
        text = next;
    }
    return true;
}

bool mf_request_set_target(struct mf_request *request, const char *target, struct mf_error *err)
{
    if (strlen(target) > MF_REQUEST_TARGET)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the request target is longer than %d bytes",
                            MF_REQUEST_TARGET);
    char *path = mf_arena_strdup(request->arena, target, err);
    if (!path)
        return false;
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    if (path[0] != '/')
        return mf_error_set(err, MF_ERR_MALFORMED, "the request target must begin with '/'");
    request->path = path; /* decoded segment by segment by the router */
    for (const char *s = path; s; s = strchr(s + 1, '/')) {
        size_t len = strcspn(s + 1, "/");
        if ((len == 1 && s[1] == '.') || (len == 2 && s[1] == '.' && s[2] == '.'))
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "the request target has a segment \".\" or \"..\"");
    }
    char *copy = mf_arena_strdup(request->arena, path, err);
    return copy && decode(copy, false, err) && mf_request_add_query(request, query, err);
}

/* --- header fields --- */

bool mf_request_add_header(struct mf_request *request, const char *name, const char *value,
                           struct mf_error *err)
{
    if (request->header_count == MF_REQUEST_FIELDS)
        return mf_error_set(err, MF_ERR_HEADERS, "more than %d header fields", MF_REQUEST_FIELDS);
    struct mf_field *field = &request->headers[request->header_count];
    field->name = mf_arena_strdup(request->arena, name, err);
    field->value = mf_arena_strdup(request->arena, value ? value : "", err);
    if (!field->name || !field->value)
        return false;
    request->header_count++;
    return true;
}

const char *mf_request_header(const struct mf_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

size_t mf_request_header_count(const struct mf_request *request, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < request->header_count; i++)
        n += strcasecmp(request->headers[i].name, name) == 0;
    return n;
}

static bool check_length(struct mf_request *request, const char *text, struct mf_error *err)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || strspn(text, "0123456789") != strlen(text) || end == text)
        return mf_error_set(err, MF_ERR_MALFORMED, "Content-Length is not a number");
    request->has_length = true;
    request->content_length = n;
    return true;
}

bool mf_request_check_headers(struct mf_request *request, struct mf_error *err)
{
    static const char *const single[] = {"Host",          "Content-Length",  "Transfer-Encoding",
                                         "Content-Type",  "Idempotency-Key", "Expect",
                                         "Authorization", "X-API-Key",       NULL};
    for (size_t i = 0; single[i]; i++)
        if (mf_request_header_count(request, single[i]) > 1)
            return mf_error_set(err, MF_ERR_MALFORMED, "%s is given more than once", single[i]);
    const char *length = mf_request_header(request, "Content-Length");
    const char *transfer = mf_request_header(request, "Transfer-Encoding");
    const char *encoding = mf_request_header(request, "Content-Encoding");
    if (length && transfer)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "Content-Length and Transfer-Encoding exclude each other");
    if (transfer && strcasecmp(transfer, "chunked") != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "Transfer-Encoding must be chunked");
    if (length && !check_length(request, length, err))
        return false;
    if (encoding && *encoding && strcasecmp(encoding, "identity") != 0)
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "Content-Encoding is not supported");
    return true;
}

/* --- query and preferences --- */

const char *mf_request_query(const struct mf_request *request, const char *name)
{
    for (size_t i = 0; i < request->query_count; i++)
        if (strcmp(request->query[i].name, name) == 0)
            return request->query[i].value;
    return NULL;
}

bool mf_request_accepts(const struct mf_request *request, const char *type, struct mf_error *err)
{
    return mf_negotiate(mf_request_header(request, "Accept"), &type, 1) >= 0 ||
           mf_error_set(err, MF_ERR_NOT_ACCEPTABLE, "this is given as %s only", type);
}

bool mf_request_only_query(const struct mf_request *request, const char *const names[],
                           struct mf_error *err)
{
    for (size_t i = 0; i < request->query_count; i++) {
        size_t k = 0;
        while (names[k] && strcmp(names[k], request->query[i].name) != 0)
            k++;
        if (!names[k])
            return mf_error_set(err, MF_ERR_MALFORMED, "unknown query parameter");
        if (mf_request_query(request, names[k]) != request->query[i].value)
            return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"%s\" is given twice",
                                names[k]);
    }
    return true;
}

/* "wait=10", "respond-async, wait=10": the number behind `wait=` of one preference. */
static int wait_preference(const char *preference)
{
    preference += strspn(preference, " \t");
    if (strncasecmp(preference, "wait", 4) != 0)
        return 0;
    preference += 4;
    preference += strspn(preference, " \t");
    if (*preference++ != '=')
        return 0;
    preference += strspn(preference, " \t\"");
    size_t digits = strspn(preference, "0123456789");
    if (digits == 0)
        return 0;
    long n = digits > 4 ? MAX_WAIT_S : strtol(preference, NULL, 10);
    return n > MAX_WAIT_S ? MAX_WAIT_S : (int)n;
}

int mf_request_wait_seconds(const struct mf_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->headers[i].name, "Prefer") != 0)
            continue;
        for (const char *s = request->headers[i].value; s; s = strchr(s, ',')) {
            s += *s == ',';
            int seconds = wait_preference(s);
            if (seconds > 0)
                return seconds;
        }
    }
    return 0;
}
