/* Query: the client. One connection, one request, answers until the last one. */
#include "server/query.h"

#include "core/clock.h"
#include "server/process.h"
#include "server/query_protocol.h"

#include <string.h>
#include <unistd.h>

/* What answers go to. */
struct taker {
    json_t *rows;                   /* of a C-FIND */
    const struct mf_net_sink *sink; /* of a C-GET */
    void *context;
    struct mf_net_retrieved *retrieved;
};

static bool send_request(int socket, const struct mf_query *q, enum mf_query_message kind,
                         uint64_t deadline_ns, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *keys = json_array();
    for (size_t i = 0; i < q->key_count; i++)
        json_array_append_new(keys,
                              json_pack("[I, s]", (json_int_t)q->keys[i].tag, q->keys[i].value));
    MF_AUTO(mf_json)
    json_t *request = json_pack("{s:s, s:s, s:O, s:i}", "peer", q->peer, "level", q->level, "keys",
                                keys, "timeout_s", q->timeout_s);
    MF_AUTO(mf_mem) char *text = request ? mf_json_text(request, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_INTERNAL, "a query cannot be written");
    return mf_message_send(socket, kind, text, strlen(text), NULL, 0, deadline_ns, err);
}

static bool take_done(const struct mf_message *m, const struct taker *t, struct mf_error *err)
{
    static const struct mf_json_limits limits = {MF_QUERY_MESSAGE_BYTES, 8};
    MF_AUTO(mf_json)
    json_t *done = mf_json_parse(m->payload.data, m->payload.len, &limits, "query", err);
    const json_t *uids = json_object_get(done, "failed_uids"), *uid;
    size_t i;
    if (!done)
        return false;
    struct mf_net_retrieved *r = t->retrieved;
    *r = (struct mf_net_retrieved){
        .completed = (unsigned)mf_json_get_int(done, "completed", 0),
        .failed = (unsigned)mf_json_get_int(done, "failed", 0),
        .warning = (unsigned)mf_json_get_int(done, "warning", 0),
        .status = (uint16_t)mf_json_get_int(done, "status", 0),
    };
    json_array_foreach(uids, i, uid)
    {
        if (r->failed_uid_count < MF_NET_FAILED)
            snprintf(r->failed_uids[r->failed_uid_count++], MF_NET_UID, "%s",
                     json_string_value(uid));
    }
    const char *code = mf_json_get_string(done, "code", NULL);
    return !code || mf_error_set(err, mf_code_from_name(code), "%s",
                                 mf_json_get_string(done, "message", "the query failed"));
}

static bool take_answer(const struct mf_message *m, const struct taker *t, struct mf_error *err)
{
    static const struct mf_json_limits limits = {MF_QUERY_MESSAGE_BYTES, 32};
    if (m->kind == MF_QUERY_ROW && t->rows) {
        json_t *row = mf_json_parse(m->payload.data, m->payload.len, &limits, "answer", err);
        return row && (json_array_append_new(t->rows, row) == 0 ||
                       mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for answers"));
    }
    if (m->kind == MF_QUERY_BEGIN && t->sink)
        return t->sink->begin(t->context, err);
    if (m->kind == MF_QUERY_DATA && t->sink)
        return t->sink->data(t->context, m->payload.data, m->payload.len, err);
    if (m->kind == MF_QUERY_END && t->sink)
        return t->sink->end(t->context, err);
    return mf_error_set(err, MF_ERR_INTERNAL, "an answer that was not asked for");
}

static bool exchange(int socket, const struct mf_query *q, enum mf_query_message kind,
                     const struct taker *t, struct mf_error *err)
{
    uint64_t deadline = mf_clock_monotonic_ns() + (uint64_t)q->timeout_s * 1000000000;
    if (!send_request(socket, q, kind, deadline, err))
        return false;
    for (;;) {
        MF_AUTO(mf_message) struct mf_message m;
        mf_message_init(&m, MF_QUERY_MESSAGE_BYTES);
        struct mf_error broken = MF_ERROR_INIT;
        if (!mf_message_receive(socket, &m, deadline, &broken))
            return broken.code == MF_ERR_TIMEOUT
                       ? mf_error_set(err, MF_ERR_TIMEOUT, "the peer took more than %d s",
                                      q->timeout_s)
                       : mf_error_set(err, MF_ERR_CRASHED, "the process that asks peers died");
        if (m.kind == MF_QUERY_DONE)
            return take_done(&m, t, err);
        if (!take_answer(&m, t, err))
            return false; /* closing the connection cancels the operation */
    }
}

static bool ask(const struct mf_query *q, enum mf_query_message kind, const struct taker *t,
                struct mf_error *err)
{
    if (!q->service)
        return mf_error_set(err, MF_ERR_INTERNAL, "there is no process that asks peers");
    MF_AUTO(mf_fd) int socket = mf_process_connect(q->service, err);
    return socket >= 0 && exchange(socket, q, kind, t, err);
}

json_t *mf_query_find(const struct mf_query *query, struct mf_error *err)
{
    struct mf_net_retrieved none;
    MF_AUTO(mf_json) json_t *rows = json_array();
    const struct taker taker = {.rows = rows, .retrieved = &none};
    if (!ask(query, MF_QUERY_FIND, &taker, err))
        return NULL;
    return MF_STEAL(rows);
}

bool mf_query_get(const struct mf_query *query, const struct mf_net_sink *sink, void *context,
                  struct mf_net_retrieved *ret, struct mf_error *err)
{
    const struct taker taker = {.sink = sink, .context = context, .retrieved = ret};
    *ret = (struct mf_net_retrieved){.status = 0};
    return ask(query, MF_QUERY_GET, &taker, err);
}

bool mf_query_move(const struct mf_query *query, struct mf_net_retrieved *ret, struct mf_error *err)
{
    const struct taker taker = {.retrieved = ret};
    *ret = (struct mf_net_retrieved){.status = 0};
    return ask(query, MF_QUERY_MOVE, &taker, err);
}
