/*
 * Store client: the verbs over a Unix socket to the store process.
 *
 * One request is under way at a time. When the connection breaks the request is sent again over a
 * new one, which is harmless for every verb (store.h), until patience_ms have passed without an
 * answer.
 */
#include "server/store_ops.h"
#include "server/store_socket.h"
#include "server/store_wire.h"

#include "core/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RETRY_PAUSE_MS = 20,
    READ_CHUNK = 4096,
    KEEP_BYTES = 1 << 20,
    MESSAGE_ROOM = MF_STORE_MESSAGE_MAX + READ_CHUNK * 2
};

struct client {
    struct mf_store base;
    char *directory;
    int patience_ms;
    int socket;            /* −1 = not connected */
    int interrupt;         /* eventfd */
    bool interrupt_passed; /* an interrupt was sent with the request under way */
    struct mf_buffer out, in;
};

static struct client *self(struct mf_store *store)
{
    return (struct client *)store;
}

/* --- one request and its reply --- */

static void disconnect(struct client *c)
{
    if (c->socket >= 0)
        close(c->socket);
    c->socket = -1;
}

static bool send_all(struct client *c, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->socket, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static int remaining_ms(uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX)
        return -1;
    uint64_t now = mf_clock_monotonic_ns();
    return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

/* Passes an interrupt on to the server, whose reply to the waiting request then follows at once. */
static bool pass_interrupt(struct client *c)
{
    uint64_t n;
    struct mf_wire_header header = {mf_wire_magic(), MF_VERB_INTERRUPT, 0};
    c->interrupt_passed = true;
    return read(c->interrupt, &n, sizeof n) == (ssize_t)sizeof n &&
           send_all(c, (const char *)&header, sizeof header);
}

/* Reads on until c->in holds `need` bytes. `waiting`: an interrupt may end the wait. */
static bool receive(struct client *c, size_t need, bool waiting, uint64_t deadline_ns)
{
    while (c->in.len < need) {
        struct pollfd fds[2] = {{c->socket, POLLIN, 0}, {waiting ? c->interrupt : -1, POLLIN, 0}};
        int ready = poll(fds, 2, remaining_ms(deadline_ns));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || (fds[1].revents && !pass_interrupt(c)))
            return false;
        if (!fds[0].revents)
            continue;
        size_t room = need - c->in.len < READ_CHUNK ? READ_CHUNK : need - c->in.len;
        char *at = mf_buffer_reserve(&c->in, room, NULL);
        ssize_t n = at ? recv(c->socket, at, room, 0) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        c->in.len += (size_t)n;
    }
    return true;
}

/* The whole reply in c->in; false when the connection is of no use any more. */
static bool exchange(struct client *c, bool waiting, uint64_t deadline_ns, uint32_t *ret_kind)
{
    struct mf_wire_header header;
    mf_buffer_clear(&c->in);
    if (!send_all(c, c->out.data, c->out.len) || !receive(c, sizeof header, waiting, deadline_ns))
        return false;
    memcpy(&header, c->in.data, sizeof header);
    *ret_kind = header.kind;
    return header.magic == mf_wire_magic() && header.len <= MF_STORE_MESSAGE_MAX &&
           receive(c, sizeof header + (size_t)header.len, false, deadline_ns);
}

static void trim(struct mf_buffer *b)
{
    if (b->capacity <= KEEP_BYTES)
        return;
    mf_buffer_free(b);
    mf_buffer_init(b, MESSAGE_ROOM);
}

static bool no_answer(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "the job store does not answer; try again later");
}

static void client_interrupt(struct mf_store *store)
{
    uint64_t one = 1;
    ssize_t ignored = write(self(store)->interrupt, &one, sizeof one);
    (void)ignored; /* a full counter has been interrupted already */
}

/* Sends the frame in c->out until it is answered. wait_ms: how long the server may hold the answer
 * back. */
static bool call(struct client *c, int wait_ms, struct mf_wire_reader *reply, struct mf_error *err)
{
    uint64_t patience = (uint64_t)c->patience_ms * 1000000;
    uint64_t give_up = mf_clock_monotonic_ns() + patience;
    for (;;) {
        uint64_t now = mf_clock_monotonic_ns();
        uint64_t deadline = wait_ms < 0 ? UINT64_MAX : now + patience + (uint64_t)wait_ms * 1000000;
        uint32_t kind = 0;
        bool connected = c->socket >= 0;
        if (!connected)
            c->socket = mf_store_socket_connect(c->directory, NULL);
        if (c->socket >= 0 && exchange(c, wait_ms != 0, deadline, &kind)) {
            c->interrupt_passed = false;
            const size_t head = sizeof(struct mf_wire_header);
            *reply = (struct mf_wire_reader){c->in.data + head, c->in.len - head, false};
            if (kind == MF_REPLY_OK)
                return true;
            struct mf_error remote = MF_ERROR_INIT;
            mf_wire_get(reply, &remote, sizeof remote);
            remote.msg[sizeof remote.msg - 1] = '\0';
            return mf_error_set(err, remote.code, "%s", remote.msg);
        }
        disconnect(c);
        if (c->interrupt_passed) /* it went down with the connection: once more */
            client_interrupt(&c->base);
        c->interrupt_passed = false;
        if (connected) /* the store was restarted: patience starts now */
            give_up = mf_clock_monotonic_ns() + patience;
        else if (mf_clock_monotonic_ns() >= give_up)
            return no_answer(err);
        else
            poll(NULL, 0, RETRY_PAUSE_MS);
    }
}

static struct mf_wire_writer begin(struct client *c, enum mf_store_verb verb)
{
    trim(&c->out);
    mf_buffer_clear(&c->out);
    struct mf_wire_writer w = {&c->out, false};
    mf_wire_begin(&w, verb);
    return w;
}

static bool finish_call(struct client *c, struct mf_wire_writer *w, int wait_ms,
                        struct mf_wire_reader *reply, struct mf_error *err)
{
    mf_wire_end(w, 0);
    if (w->failed)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a message to the job store is too large");
    trim(&c->in);
    return call(c, wait_ms, reply, err);
}

static bool check_reply(const struct mf_wire_reader *reply, struct mf_error *err)
{
    if (reply->failed)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store gave an unexpected answer");
    return true;
}

/* --- verbs --- */

static void put_inputs(struct mf_wire_writer *w, const struct mf_job_input *inputs, size_t n)
{
    mf_wire_put_int(w, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        mf_wire_put_text(w, inputs[i].part);
        mf_wire_put_text(w, inputs[i].kind);
        mf_wire_put_text(w, inputs[i].locator);
        mf_wire_put_int(w, (int64_t)inputs[i].offset);
        mf_wire_put_int(w, (int64_t)inputs[i].size);
        mf_wire_put(w, inputs[i].sha256, MF_SHA256_BYTES);
    }
}

static bool client_submit(struct mf_store *store, const struct mf_submission *s,
                          struct mf_submitted *ret, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_SUBMIT);
    mf_wire_put(&w, s->id, sizeof s->id);
    mf_wire_put_text(&w, s->tenant);
    mf_wire_put_int(&w, s->priority);
    mf_wire_put_text(&w, s->model);
    mf_wire_put_text(&w, s->options);
    mf_wire_put_block(&w, s->index, s->index_len);
    put_inputs(&w, s->inputs, s->input_count);
    mf_wire_put_text(&w, s->idempotency_key);
    mf_wire_put(&w, s->fingerprint, sizeof s->fingerprint);
    mf_wire_put_int(&w, s->max_queued);
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return check_reply(&reply, err);
}

static bool get_claim(struct mf_wire_reader *r, struct mf_arena *arena, struct mf_claim *claim,
                      struct mf_error *err)
{
    mf_wire_get(r, claim->id, sizeof claim->id);
    claim->fence = mf_wire_get_int(r);
    claim->tenant = mf_wire_copy_text(r, arena, err);
    claim->model = mf_wire_copy_text(r, arena, err);
    claim->options = mf_wire_copy_text(r, arena, err);
    claim->index = mf_wire_copy_block(r, arena, &claim->index_len, err);
    claim->attempt = mf_wire_get_int(r);
    claim->solo = mf_wire_get_int(r) != 0;
    claim->input_count = mf_wire_get_count(r, MF_SHA256_BYTES);
    struct mf_job_input *inputs =
        mf_arena_alloc(arena, claim->input_count + 1, sizeof *inputs, err);
    if (!inputs)
        return false;
    for (size_t i = 0; i < claim->input_count; i++) {
        inputs[i].part = mf_wire_copy_text(r, arena, err);
        inputs[i].kind = mf_wire_copy_text(r, arena, err);
        inputs[i].locator = mf_wire_copy_text(r, arena, err);
        inputs[i].offset = (uint64_t)mf_wire_get_int(r);
        inputs[i].size = (uint64_t)mf_wire_get_int(r);
        mf_wire_get(r, inputs[i].sha256, MF_SHA256_BYTES);
    }
    claim->inputs = inputs;
    return check_reply(r, err);
}

static bool client_claim(struct mf_store *store, const struct mf_claim_request *request,
                         struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                         struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_CLAIM);
    *ret_count = 0;
    mf_wire_put_int(&w, request->wait_ms);
    mf_wire_put_text(&w, request->worker);
    mf_wire_put_int(&w, (int64_t)request->max);
    mf_wire_put_int(&w, (int64_t)request->held_count);
    mf_wire_put(&w, request->held, request->held_count * sizeof *request->held);
    if (!finish_call(c, &w, request->wait_ms, &reply, err))
        return false;
    size_t n = mf_wire_get_count(&reply, MF_JOB_ID);
    struct mf_claim *claims = mf_arena_alloc(arena, n + 1, sizeof *claims, err);
    if (!claims || !check_reply(&reply, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!get_claim(&reply, arena, &claims[i], err))
            return false;
    *ret = claims;
    *ret_count = n;
    return true;
}

static bool client_heartbeat(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                             struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_HEARTBEAT);
    mf_wire_put_int(&w, (int64_t)n);
    mf_wire_put(&w, beats, n * sizeof *beats);
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, beats, n * sizeof *beats);
    return check_reply(&reply, err);
}

static bool client_finish(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                          struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_FINISH);
    mf_wire_put_int(&w, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        mf_wire_put(&w, &outcomes[i].job, sizeof outcomes[i].job);
        mf_wire_put_int(&w, outcomes[i].state);
        mf_wire_put_int(&w, outcomes[i].result != NULL);
        mf_wire_put_block(&w, outcomes[i].result ? outcomes[i].result : "",
                          outcomes[i].result ? outcomes[i].result_len : 0);
        mf_wire_put(&w, &outcomes[i].problem, sizeof outcomes[i].problem);
    }
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    for (size_t i = 0; i < n; i++)
        outcomes[i].lease = (enum mf_lease)mf_wire_get_int(&reply);
    return check_reply(&reply, err);
}

static bool client_release(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                           enum mf_attempt_end end, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_RELEASE);
    mf_wire_put_int(&w, end);
    mf_wire_put_int(&w, (int64_t)n);
    mf_wire_put(&w, jobs, n * sizeof *jobs);
    return finish_call(c, &w, 0, &reply, err);
}

static bool client_worker_gone(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                               struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_WORKER_GONE);
    mf_wire_put_text(&w, worker);
    mf_wire_put_int(&w, end);
    return finish_call(c, &w, 0, &reply, err);
}

static bool client_announce(struct mf_store *store, const struct mf_worker *worker, int ttl_s,
                            struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_ANNOUNCE);
    mf_wire_put_text(&w, worker->id);
    mf_wire_put_text(&w, worker->device);
    mf_wire_put_int(&w, worker->ready);
    mf_wire_put_text(&w, worker->models);
    mf_wire_put_int(&w, ttl_s);
    return finish_call(c, &w, 0, &reply, err);
}

static bool client_workers(struct mf_store *store, struct mf_arena *arena, struct mf_worker **ret,
                           size_t *ret_count, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_WORKERS);
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    size_t n = mf_wire_get_count(&reply, sizeof(int64_t));
    struct mf_worker *list = mf_arena_alloc(arena, n + 1, sizeof *list, err);
    if (!list)
        return false;
    for (size_t i = 0; i < n; i++) {
        mf_wire_get(&reply, list[i].id, sizeof list[i].id);
        mf_wire_get(&reply, list[i].device, sizeof list[i].device);
        list[i].ready = mf_wire_get_int(&reply) != 0;
        list[i].models = mf_wire_copy_text(&reply, arena, err);
    }
    *ret = list;
    *ret_count = n;
    return check_reply(&reply, err);
}

/* The body of every verb that names one job. */
static bool call_on_job(struct client *c, enum mf_store_verb verb, const char *tenant,
                        const char *id, struct mf_wire_reader *reply, struct mf_error *err)
{
    struct mf_wire_writer w = begin(c, verb);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, id);
    return finish_call(c, &w, 0, reply, err);
}

static bool client_job(struct mf_store *store, const char *tenant, const char *id,
                       struct mf_job *ret, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_JOB, tenant, id, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return check_reply(&reply, err);
}

static bool client_result(struct mf_store *store, const char *tenant, const char *id,
                          struct mf_job *ret_job, struct mf_buffer *ret_text, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_RESULT, tenant, id, &reply, err))
        return false;
    mf_wire_get(&reply, ret_job, sizeof *ret_job);
    size_t len;
    const char *text = mf_wire_get_block(&reply, &len);
    return check_reply(&reply, err) && mf_buffer_append(ret_text, text, len, err);
}

static bool client_list(struct mf_store *store, const struct mf_job_filter *filter,
                        struct mf_arena *arena, struct mf_job **ret, size_t *ret_count,
                        int64_t *ret_next, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_LIST);
    mf_wire_put_text(&w, filter->tenant);
    mf_wire_put_int(&w, filter->state);
    mf_wire_put_int(&w, filter->priority);
    mf_wire_put_int(&w, filter->created_from_ms);
    mf_wire_put_int(&w, filter->created_to_ms);
    mf_wire_put_int(&w, (int64_t)filter->limit);
    mf_wire_put_int(&w, filter->cursor);
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    *ret_next = mf_wire_get_int(&reply);
    *ret_count = mf_wire_get_count(&reply, sizeof **ret);
    *ret = mf_arena_alloc(arena, *ret_count + 1, sizeof **ret, err);
    if (!*ret)
        return false;
    mf_wire_get(&reply, *ret, *ret_count * sizeof **ret);
    return check_reply(&reply, err);
}

static bool client_cancel(struct mf_store *store, const char *tenant, const char *id,
                          struct mf_job *ret, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_CANCEL, tenant, id, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return check_reply(&reply, err);
}

static bool client_purge(struct mf_store *store, const char *tenant, const char *id,
                         struct mf_arena *arena, const char *const **ret_locators,
                         size_t *ret_count, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_PURGE, tenant, id, &reply, err))
        return false;
    size_t n = mf_wire_get_count(&reply, sizeof(int64_t));
    const char **list = mf_arena_alloc(arena, n + 1, sizeof *list, err);
    if (!list)
        return false;
    for (size_t i = 0; i < n; i++)
        list[i] = mf_wire_copy_text(&reply, arena, err);
    *ret_locators = list;
    *ret_count = n;
    return check_reply(&reply, err);
}

static bool client_locators_used(struct mf_store *store, const char *const *locators, size_t n,
                                 bool *ret_used, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_LOCATORS_USED);
    mf_wire_put_int(&w, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        mf_wire_put_text(&w, locators[i]);
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret_used, n * sizeof *ret_used);
    return check_reply(&reply, err);
}

static bool client_counts(struct mf_store *store, struct mf_store_counts *ret, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_COUNTS);
    if (!finish_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return check_reply(&reply, err);
}

static bool client_wait_for_jobs(struct mf_store *store, const char (*ids)[MF_JOB_ID], size_t n,
                                 int wait_ms, bool *ret_terminal, struct mf_error *err)
{
    struct client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = begin(c, MF_VERB_WAIT_FOR_JOBS);
    mf_wire_put_int(&w, wait_ms);
    mf_wire_put_int(&w, (int64_t)n);
    mf_wire_put(&w, ids, n * sizeof *ids);
    if (!finish_call(c, &w, wait_ms, &reply, err))
        return false;
    mf_wire_get(&reply, ret_terminal, n * sizeof *ret_terminal);
    return check_reply(&reply, err);
}

static void client_free(struct mf_store *store)
{
    struct client *c = self(store);
    disconnect(c);
    if (c->interrupt >= 0)
        close(c->interrupt);
    mf_buffer_free(&c->out);
    mf_buffer_free(&c->in);
    free(c->directory);
    free(c);
}

static const struct mf_store_ops OPS = {
    .free = client_free,
    .submit = client_submit,
    .claim = client_claim,
    .heartbeat = client_heartbeat,
    .finish = client_finish,
    .release = client_release,
    .worker_gone = client_worker_gone,
    .announce = client_announce,
    .workers = client_workers,
    .job = client_job,
    .result = client_result,
    .list = client_list,
    .cancel = client_cancel,
    .purge = client_purge,
    .locators_used = client_locators_used,
    .counts = client_counts,
    .wait_for_jobs = client_wait_for_jobs,
    .interrupt = client_interrupt,
};

struct mf_store *mf_store_connect(const char *directory, int patience_ms, struct mf_error *err)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a connection to the job store");
        return NULL;
    }
    c->base.ops = &OPS;
    c->socket = -1;
    c->patience_ms = patience_ms;
    mf_buffer_init(&c->out, MESSAGE_ROOM);
    mf_buffer_init(&c->in, MESSAGE_ROOM);
    c->directory = strdup(directory);
    c->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!c->directory || c->interrupt < 0) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a connection to the job store");
        client_free(&c->base);
        return NULL;
    }
    return &c->base;
}
