/* Query: the process. Accepting, a child for each request, and what the child does. */
#include "server/query.h"

#include "core/clock.h"
#include "core/log.h"
#include "dicom/dicom.h"
#include "server/dicom_address.h"
#include "server/process.h"
#include "server/query_protocol.h"
#include "server/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_CHILDREN = 64, MAX_MEMORY = 512 << 20, REQUEST_MS = 5000 };

static const uint64_t MS = 1000000, SECOND = 1000000000;

/* --- one request --- */

/* A request as it was read; strings are of `text`. */
struct request {
    const struct mf_config *config;
    int socket;
    json_t *text;
    struct mf_dicom_address address;
    struct mf_net_peer peer;
    struct mf_net_key keys[MF_QUERY_MAX_KEYS];
    struct mf_net_query query;
    uint64_t deadline_ns;
};

static bool answer(const struct request *r, enum mf_query_message kind, const void *data,
                   size_t len, struct mf_error *err)
{
    return mf_message_send(r->socket, kind, data, len, NULL, 0, r->deadline_ns, err);
}

static bool take_row(void *context, const char *json, size_t len, struct mf_error *err)
{
    return answer(context, MF_QUERY_ROW, json, len, err);
}

static bool begin_object(void *context, struct mf_error *err)
{
    return answer(context, MF_QUERY_BEGIN, "", 0, err);
}

static bool take_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    return answer(context, MF_QUERY_DATA, data, len, err);
}

static bool end_object(void *context, struct mf_error *err)
{
    return answer(context, MF_QUERY_END, "", 0, err);
}

static bool read_keys(struct request *r, struct mf_error *err)
{
    const json_t *keys = mf_json_need_array(r->text, "keys", err), *key;
    size_t i;
    if (!keys || json_array_size(keys) > MF_QUERY_MAX_KEYS)
        return mf_error_set(err, MF_ERR_INTERNAL, "a query has too many keys, or none");
    json_array_foreach(keys, i, key)
    {
        const char *value = json_string_value(json_array_get(key, 1));
        r->keys[i] = (struct mf_net_key){(uint32_t)json_integer_value(json_array_get(key, 0)),
                                         value ? value : ""};
    }
    r->query.keys = r->keys;
    r->query.key_count = json_array_size(keys);
    return true;
}

static bool read_request(struct request *r, const struct mf_message *m, struct mf_error *err)
{
    static const struct mf_json_limits limits = {MF_QUERY_MESSAGE_BYTES, 8};
    json_int_t seconds = 0;
    r->text = mf_json_parse(m->payload.data, m->payload.len, &limits, "query", err);
    if (!r->text || !mf_json_need_int(r->text, "timeout_s", 1, 3600, &seconds, err))
        return false;
    const char *peer = mf_json_need_string(r->text, "peer", err);
    if (!peer || !mf_dicom_address_parse(peer, &r->address))
        return mf_error_set(err, MF_ERR_INTERNAL, "a query's peer is no dicom(s)://AE@host:port");
    int64_t silence = r->config->dimse.timeout_s;
    r->peer = mf_dicom_address_peer(&r->address, r->config, seconds < silence ? seconds : silence);
    r->deadline_ns = mf_clock_monotonic_ns() + (uint64_t)seconds * SECOND;
    r->query = (struct mf_net_query){.peer = &r->peer,
                                     .level = mf_json_need_string(r->text, "level", err),
                                     .max_rows = MF_QUERY_MAX_ROWS,
                                     .cancel_fd = r->socket,
                                     .context = r};
    return r->query.level && read_keys(r, err);
}

static bool run(const struct request *r, uint32_t kind, struct mf_net_retrieved *ret,
                struct mf_error *err)
{
    static const struct mf_net_sink sink = {begin_object, take_data, end_object};
    switch (kind) {
    case MF_QUERY_FIND:
        return mf_net_find(&r->query, take_row, err);
    case MF_QUERY_GET:
        return mf_net_get(&r->query, &sink, ret, err);
    case MF_QUERY_MOVE:
        return mf_net_move(&r->query, r->config->dimse.ae_title, ret, err);
    default:
        return mf_error_set(err, MF_ERR_INTERNAL, "a query of an unknown kind");
    }
}

static void tell(const struct request *r, const struct mf_net_retrieved *retrieved,
                 const struct mf_error *problem)
{
    MF_AUTO(mf_json) json_t *uids = json_array();
    for (size_t i = 0; i < retrieved->failed_uid_count; i++)
        json_array_append_new(uids, mf_json_string(retrieved->failed_uids[i]));
    MF_AUTO(mf_json)
    json_t *done = json_pack("{s:i, s:i, s:i, s:i, s:O}", "completed", (int)retrieved->completed,
                             "failed", (int)retrieved->failed, "warning", (int)retrieved->warning,
                             "status", (int)retrieved->status, "failed_uids", uids);
    if (done && problem->code != MF_OK) {
        json_object_set_new(done, "code", mf_json_string(mf_code_name(problem->code)));
        json_object_set_new(done, "message", mf_json_string(problem->msg));
    }
    MF_AUTO(mf_mem) char *text = done ? mf_json_text(done, 0) : NULL;
    struct mf_error gone = MF_ERROR_INIT; /* whoever asked does not listen any more */
    if (text && !answer(r, MF_QUERY_DONE, text, strlen(text), &gone))
        mf_log(MF_LOG_WARN, "query.unheard", MF_LOG_S("reason", gone.msg));
}

struct start {
    const struct mf_query_options *options;
    int socket, signals;
};

static int request_main(void *context)
{
    const struct start *start = context;
    const struct rlimit memory = {MAX_MEMORY, MAX_MEMORY};
    struct request r = {.config = start->options->config, .socket = start->socket};
    struct mf_net_retrieved retrieved = {.status = 0};
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_message) struct mf_message m;
    close(start->options->listen_fd);
    close(start->signals);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    setrlimit(RLIMIT_AS, &memory); /* the parser of commands has no other bound */
#else
    (void)memory;
#endif
    mf_message_init(&m, MF_QUERY_MESSAGE_BYTES);
    r.deadline_ns = mf_clock_monotonic_ns() + REQUEST_MS * MS;
    bool ok = mf_message_receive(r.socket, &m, r.deadline_ns, &problem) &&
              read_request(&r, &m, &problem) && run(&r, m.kind, &retrieved, &problem);
    mf_log(ok ? MF_LOG_INFO : MF_LOG_WARN, "query.done", MF_LOG_S("peer", r.address.ae),
           MF_LOG_I("operation", (int64_t)m.kind), MF_LOG_I("completed", retrieved.completed),
           MF_LOG_I("failed", retrieved.failed), MF_LOG_S("reason", ok ? "" : problem.msg));
    r.deadline_ns = mf_clock_monotonic_ns() + REQUEST_MS * MS;
    tell(&r, &retrieved, &problem);
    json_decref(r.text);
    return ok ? 0 : 1;
}

/* --- accepting --- */

struct server {
    const struct mf_query_options *options;
    int signals;
    pid_t children[MAX_CHILDREN];
    size_t count;
};

static void accept_one(struct server *s)
{
    struct mf_error err = MF_ERROR_INIT;
    int fd = accept4(s->options->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct start start = {s->options, fd, s->signals};
    pid_t pid = mf_process_peer_is_us(fd)
                    ? mf_process_fork("mf-query-scu", request_main, &start, &err)
                    : -1;
    close(fd); /* a client that is not served sees the end */
    if (pid > 0)
        s->children[s->count++] = pid;
    else
        mf_log(MF_LOG_ERROR, "query.fork_failed", MF_LOG_S("reason", err.msg));
}

static void reap(struct server *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < s->count; i++)
            if (s->children[i] == pid)
                s->children[i] = s->children[--s->count];
        if (WIFSIGNALED(status)) {
            char text[MF_PROCESS_END_TEXT];
            mf_log(MF_LOG_WARN, "query.died", MF_LOG_S("end", mf_process_end_text(status, text)));
        }
    }
}

/* True when it is time to stop. */
static bool take_signals(struct server *s)
{
    struct signalfd_siginfo info;
    bool stop = false;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info)
        stop = stop || info.ssi_signo != SIGCHLD;
    reap(s);
    return stop;
}

bool mf_query_run(const struct mf_query_options *options, struct mf_error *err)
{
    struct server s = {.options = options, .signals = mf_signals_open(true)};
    if (s.signals < 0)
        return mf_error_set(err, MF_ERR_IO, "signals: %s", strerror(errno));
    if (!mf_dicom_init(err)) /* the dictionary, once for all children */
        return false;
    if (options->ready_fd >= 0) {
        ssize_t ignored = write(options->ready_fd, "1", 1);
        (void)ignored; /* whoever waited is gone */
        close(options->ready_fd);
    }
    for (bool stop = false; !stop;) {
        bool full = s.count == MAX_CHILDREN; /* the others wait in the socket's queue */
        struct pollfd p[2] = {{.fd = s.signals, .events = POLLIN},
                              {.fd = full ? -1 : options->listen_fd, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return mf_error_set(err, MF_ERR_IO, "poll: %s", strerror(errno));
        if (p[0].revents)
            stop = take_signals(&s);
        if (p[1].revents && !stop)
            accept_one(&s);
    }
    close(s.signals);
    return true; /* the children die with this process */
}
