/* Paging: see paging.h. */
#include "server/paging.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { QUERY_BYTES = 4096 };

bool mf_paging_bad(struct mf_error *err, const char *name)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"%s\" has an invalid value", name);
}

bool mf_paging_integer(const struct mf_request *request, const char *name, int64_t min, int64_t max,
                       int64_t *ret, struct mf_error *err)
{
    const char *text = mf_request_query(request, name);
    if (!text)
        return true;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || !*text || *end || strspn(text, "0123456789") != strlen(text) || n < min || n > max)
        return mf_paging_bad(err, name);
    *ret = n;
    return true;
}

/* Appends "name=value" with everything but unreserved characters escaped. */
static bool put_parameter(struct mf_buffer *out, const char *name, const char *value,
                          struct mf_error *err)
{
    if (!mf_buffer_printf(out, err, "%s%s=", out->len ? "&" : "?", name))
        return false;
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (!mf_buffer_printf(out, err, plain ? "%c" : "%%%02X", c))
            return false;
    }
    return true;
}

const char *mf_paging_next(struct mf_request *request, const char *path,
                           const char *const parameters[], int64_t cursor, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer query;
    mf_buffer_init(&query, QUERY_BYTES);
    for (size_t i = 0; parameters[i]; i++) {
        const char *value = mf_request_query(request, parameters[i]);
        if (value && strcmp(parameters[i], "cursor") != 0 &&
            !put_parameter(&query, parameters[i], value, err))
            return NULL;
    }
    const char *target =
        mf_arena_printf(request->arena, err, "%s%s%scursor=%" PRId64, path,
                        query.len ? query.data : "", query.len ? "&" : "?", cursor);
    return target && mf_respond_field(request, err, "Link", "<%s>; rel=\"next\"", target) ? target
                                                                                          : NULL;
}
