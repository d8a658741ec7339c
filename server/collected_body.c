/* A body collected whole (collected_body.h). */
#include "server/collected_body.h"

#include "core/arena.h"

bool mf_collect_begin(struct mf_request *request, size_t most, struct mf_error *err)
{
    struct mf_buffer *body = mf_arena_alloc(request->arena, 1, sizeof *body, err);
    if (!body)
        return false;
    mf_buffer_init(body, most);
    request->state = body;
    return true;
}

struct mf_buffer *mf_collected(const struct mf_request *request)
{
    return request->state;
}

bool mf_collect_data(struct mf_request *request, const char *what, const void *data, size_t len,
                     struct mf_error *err)
{
    struct mf_buffer *body = mf_collected(request);
    return mf_buffer_append(body, data, len, NULL) ||
           mf_error_set(err, MF_ERR_TOO_LARGE, "%s has at most %zu bytes", what, body->ceiling);
}

void mf_collect_dispose(struct mf_request *request)
{
    mf_buffer_free(mf_collected(request)); /* NULL-safe */
}
