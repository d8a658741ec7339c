/* HTTP over libmicrohttpd: responses. */
#include "server/http_private.h"

#include "server/router.h"

#include "core/clock.h"

#include <microhttpd.h>

#include <string.h>

enum {
    RESPONSE_S = 120,          /* to take a response, and a second more for each … */
    RESPONSE_RATE = 256 << 10, /* … of its bytes */
    STREAM_BLOCK = 128 << 10,
    FOLLOW_BLOCK = 8 << 10
};

void mf_http_set_deadline(struct mf_connection *c, int64_t seconds)
{
    if (c && c->guarded)
        mf_guard_set_deadline(c->guarded, mf_clock_monotonic_ns() + (uint64_t)seconds * 1000000000);
}

static ssize_t read_body(void *cls, uint64_t position, char *out, size_t max)
{
    const struct mf_response *r = cls;
    if (position >= r->body_len)
        return MHD_CONTENT_READER_END_OF_STREAM;
    ssize_t n = r->read(r->read_context, position, out, max);
    return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void pause_connection(void *connection)
{
    MHD_suspend_connection(connection);
}

static void wake_connection(void *connection)
{
    MHD_resume_connection(connection);
}

/* A client that takes nothing of it for RESPONSE_S is cut off. */
static ssize_t follow_body(void *cls, uint64_t position, char *out, size_t max)
{
    struct mf_exchange *x = cls;
    const struct mf_response *r = &x->request->response;
    const struct mf_rest rest = {pause_connection, wake_connection, x->connection};
    (void)position;
    mf_http_set_deadline(x->owner, RESPONSE_S);
    ssize_t n = r->follow(r->read_context, &rest, out, max);
    return n >= 0 ? n : MHD_CONTENT_READER_END_OF_STREAM;
}

/* The library's form of a response, without its header fields. */
static struct MHD_Response *make_response(struct mf_exchange *x)
{
    const struct mf_response *r = &x->request->response;
    if (r->follow) {
        x->followed_ns = mf_clock_monotonic_ns();
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, FOLLOW_BLOCK, follow_body, x,
                                                 NULL);
    }
    if (r->read)
        return MHD_create_response_from_callback(r->body_len, STREAM_BLOCK, read_body,
                                                 (void *)(uintptr_t)r, NULL);
    return MHD_create_response_from_buffer(r->body_len, (void *)(uintptr_t)r->body,
                                           MHD_RESPMEM_PERSISTENT);
}

static bool has_field(const struct mf_response *r, const char *name)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (strcmp(r->fields[i].name, name) == 0)
            return true;
    return false;
}

int mf_http_send_response(struct mf_exchange *x)
{
    const struct mf_response *r = &x->request->response;
    struct MHD_Response *out = make_response(x);
    if (!out)
        return MHD_NO;
    bool ok = MHD_add_response_header(out, "X-Content-Type-Options", "nosniff") == MHD_YES;
    if (!has_field(r, "Cache-Control"))
        ok = ok && MHD_add_response_header(out, "Cache-Control", "no-store") == MHD_YES;
    if (r->content_type)
        ok = ok && MHD_add_response_header(out, "Content-Type", r->content_type) == MHD_YES;
    for (size_t i = 0; i < r->field_count; i++)
        ok = ok && MHD_add_response_header(out, r->fields[i].name, r->fields[i].value) == MHD_YES;
    if (__atomic_load_n(&x->http->retiring, __ATOMIC_RELAXED) &&
        !has_field(r, MHD_HTTP_HEADER_CONNECTION))
        ok = ok && MHD_add_response_header(out, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    enum MHD_Result result =
        ok ? MHD_queue_response(x->connection, (unsigned)r->status, out) : MHD_NO;
    MHD_destroy_response(out);
    mf_http_set_deadline(x->owner, RESPONSE_S + (int64_t)(r->body_len / RESPONSE_RATE));
    return result;
}

int mf_http_send_problem(struct mf_exchange *x)
{
    mf_respond_problem(x->request, &x->refusal, NULL);
    return mf_http_send_response(x);
}
