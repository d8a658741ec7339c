/* Store server: from a request's body to its reply, one function per verb. */
#include "server/store_server.h"

#include <string.h>
#include <unistd.h>

/* One request: its body, its reply, and whether it may wait. */
struct request {
    struct mf_sql_store *s;
    struct mf_wire_reader in;
    struct mf_wire_writer out;
    struct mf_arena *arena;
    bool final;
    int wait_ms; /* > 0 or −1 when the answer may come later */
    bool later;
    int passed_in, passed_out; /* descriptors; 0 = none */
};

typedef bool (*serve_fn)(struct request *r, struct mf_error *err);

static bool check(const struct request *r, struct mf_error *err)
{
    if (r->in.failed)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
    return true;
}

static struct mf_store *store(const struct request *r)
{
    return &r->s->base;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static bool serve_submit(struct request *r, struct mf_error *err)
{
    struct mf_submission sub = {.tenant = NULL};
    mf_wire_get(&r->in, sub.id, sizeof sub.id);
    sub.tenant = or_empty(mf_wire_get_text(&r->in));
    sub.priority = (enum mf_priority)mf_wire_get_int(&r->in);
    sub.model = mf_wire_get_text(&r->in);
    sub.options = or_empty(mf_wire_get_text(&r->in));
    sub.index = mf_wire_get_block(&r->in, &sub.index_len);
    sub.input_count = mf_wire_get_count(&r->in, MF_SHA256_BYTES);
    struct mf_job_input *inputs =
        mf_arena_alloc(r->arena, sub.input_count + 1, sizeof *inputs, err);
    if (!inputs)
        return false;
    for (size_t i = 0; i < sub.input_count; i++) {
        inputs[i].part = or_empty(mf_wire_get_text(&r->in));
        inputs[i].kind = or_empty(mf_wire_get_text(&r->in));
        inputs[i].locator = or_empty(mf_wire_get_text(&r->in));
        inputs[i].offset = (uint64_t)mf_wire_get_int(&r->in);
        inputs[i].size = (uint64_t)mf_wire_get_int(&r->in);
        mf_wire_get(&r->in, inputs[i].sha256, MF_SHA256_BYTES);
    }
    sub.inputs = inputs;
    sub.idempotency_key = mf_wire_get_text(&r->in);
    mf_wire_get(&r->in, sub.fingerprint, sizeof sub.fingerprint);
    sub.max_queued = mf_wire_get_int(&r->in);
    sub.frames_ahead = r->passed_in;
    sub.id[MF_JOB_ID - 1] = '\0';
    struct mf_submitted made;
    if (!check(r, err) || !mf_store_submit(store(r), &sub, &made, err))
        return false;
    mf_wire_put(&r->out, &made, sizeof made);
    return true;
}

static void put_inputs(struct mf_wire_writer *w, const struct mf_job_input *inputs, size_t count)
{
    mf_wire_put_int(w, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        const struct mf_job_input *in = &inputs[i];
        mf_wire_put_text(w, in->part);
        mf_wire_put_text(w, in->kind);
        mf_wire_put_text(w, in->locator);
        mf_wire_put_int(w, (int64_t)in->offset);
        mf_wire_put_int(w, (int64_t)in->size);
        mf_wire_put(w, in->sha256, MF_SHA256_BYTES);
    }
}

/* Only one descriptor goes with an answer; of further ones (claims in batches) nothing comes. */
static bool pass_frames_ahead(struct request *r, const struct mf_claim *c)
{
    if (c->frames_ahead <= 0)
        return false;
    if (r->passed_out > 0) {
        close(c->frames_ahead);
        return false;
    }
    r->passed_out = c->frames_ahead;
    return true;
}

static void put_claim(struct request *r, const struct mf_claim *c)
{
    struct mf_wire_writer *w = &r->out;
    mf_wire_put(w, c->id, sizeof c->id);
    mf_wire_put_int(w, c->fence);
    mf_wire_put_text(w, c->tenant);
    mf_wire_put_text(w, c->model);
    mf_wire_put_text(w, c->options);
    mf_wire_put_block(w, c->index, c->index_len);
    mf_wire_put_int(w, c->attempt);
    mf_wire_put_int(w, c->solo);
    mf_wire_put_int(w, (int64_t)c->priority);
    mf_wire_put_int(w, pass_frames_ahead(r, c));
    put_inputs(w, c->inputs, c->input_count);
}

static bool serve_claim(struct request *r, struct mf_error *err)
{
    struct mf_claim_request request = {.wait_ms = (int)mf_wire_get_int(&r->in)};
    request.worker = or_empty(mf_wire_get_text(&r->in));
    request.max = (size_t)mf_wire_get_int(&r->in);
    request.held_count = mf_wire_get_count(&r->in, sizeof *request.held);
    struct mf_job_ref *held = mf_arena_alloc(r->arena, request.held_count + 1, sizeof *held, err);
    if (!held)
        return false;
    mf_wire_get(&r->in, held, request.held_count * sizeof *held);
    for (size_t i = 0; i < request.held_count; i++)
        held[i].id[MF_JOB_ID - 1] = '\0';
    request.held = held;
    struct mf_claim *claims = NULL;
    size_t n = 0;
    if (!check(r, err) || !mf_store_claim(store(r), &request, r->arena, &claims, &n, err))
        return false;
    r->wait_ms = request.wait_ms;
    r->later = n == 0;
    mf_wire_put_int(&r->out, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        put_claim(r, &claims[i]);
    return true;
}

static bool serve_heartbeat(struct request *r, struct mf_error *err)
{
    size_t n = mf_wire_get_count(&r->in, sizeof(struct mf_heartbeat));
    struct mf_heartbeat *beats = mf_arena_alloc(r->arena, n + 1, sizeof *beats, err);
    if (!beats)
        return false;
    mf_wire_get(&r->in, beats, n * sizeof *beats);
    for (size_t i = 0; i < n; i++)
        beats[i].job.id[MF_JOB_ID - 1] = '\0';
    if (!check(r, err) || !mf_store_heartbeat(store(r), beats, n, err))
        return false;
    mf_wire_put(&r->out, beats, n * sizeof *beats);
    return true;
}

static bool serve_finish(struct request *r, struct mf_error *err)
{
    size_t n = mf_wire_get_count(&r->in, sizeof(struct mf_job_ref));
    struct mf_outcome *outcomes = mf_arena_alloc(r->arena, n + 1, sizeof *outcomes, err);
    if (!outcomes)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct mf_outcome *o = &outcomes[i];
        mf_wire_get(&r->in, &o->job, sizeof o->job);
        o->job.id[MF_JOB_ID - 1] = '\0';
        o->state = (enum mf_job_state)mf_wire_get_int(&r->in);
        bool has_result = mf_wire_get_int(&r->in) != 0;
        const char *result = mf_wire_get_block(&r->in, &o->result_len);
        o->result = has_result ? result : NULL;
        o->masks = mf_wire_get_text(&r->in);
        o->masks_len = o->masks ? strlen(o->masks) : 0;
        o->explanation = mf_wire_get_text(&r->in);
        o->explanation_len = o->explanation ? strlen(o->explanation) : 0;
        mf_wire_get(&r->in, &o->problem, sizeof o->problem);
        o->problem.msg[sizeof o->problem.msg - 1] = '\0';
    }
    if (!check(r, err) || !mf_store_finish(store(r), outcomes, n, err))
        return false;
    for (size_t i = 0; i < n; i++)
        mf_wire_put_int(&r->out, outcomes[i].lease);
    return true;
}

static bool serve_release(struct request *r, struct mf_error *err)
{
    enum mf_attempt_end end = (enum mf_attempt_end)mf_wire_get_int(&r->in);
    size_t n = mf_wire_get_count(&r->in, sizeof(struct mf_job_ref));
    struct mf_job_ref *jobs = mf_arena_alloc(r->arena, n + 1, sizeof *jobs, err);
    if (!jobs)
        return false;
    mf_wire_get(&r->in, jobs, n * sizeof *jobs);
    for (size_t i = 0; i < n; i++)
        jobs[i].id[MF_JOB_ID - 1] = '\0';
    return check(r, err) && mf_store_release(store(r), jobs, n, end, err);
}

static bool serve_worker_gone(struct request *r, struct mf_error *err)
{
    const char *worker = or_empty(mf_wire_get_text(&r->in));
    enum mf_attempt_end end = (enum mf_attempt_end)mf_wire_get_int(&r->in);
    return check(r, err) && mf_store_worker_gone(store(r), worker, end, err);
}

static bool serve_announce(struct request *r, struct mf_error *err)
{
    struct mf_worker worker = {.ready = false};
    snprintf(worker.id, sizeof worker.id, "%s", or_empty(mf_wire_get_text(&r->in)));
    snprintf(worker.device, sizeof worker.device, "%s", or_empty(mf_wire_get_text(&r->in)));
    worker.ready = mf_wire_get_int(&r->in) != 0;
    worker.models = mf_wire_get_text(&r->in);
    int ttl_s = (int)mf_wire_get_int(&r->in);
    return check(r, err) && mf_store_announce(store(r), &worker, ttl_s, err);
}

static bool serve_workers(struct request *r, struct mf_error *err)
{
    struct mf_worker *list = NULL;
    size_t n = 0;
    if (!mf_store_workers(store(r), r->arena, &list, &n, err))
        return false;
    mf_wire_put_int(&r->out, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        mf_wire_put(&r->out, list[i].id, sizeof list[i].id);
        mf_wire_put(&r->out, list[i].device, sizeof list[i].device);
        mf_wire_put_int(&r->out, list[i].ready);
        mf_wire_put_text(&r->out, list[i].models);
    }
    return true;
}

static bool serve_job(struct request *r, struct mf_error *err)
{
    const char *tenant = or_empty(mf_wire_get_text(&r->in));
    const char *id = or_empty(mf_wire_get_text(&r->in));
    struct mf_job job;
    if (!check(r, err) || !mf_store_job(store(r), tenant, id, &job, err))
        return false;
    mf_wire_put(&r->out, &job, sizeof job);
    return true;
}

static bool serve_result(struct request *r, struct mf_error *err)
{
    const char *tenant = or_empty(mf_wire_get_text(&r->in));
    const char *id = or_empty(mf_wire_get_text(&r->in));
    bool want_index = mf_wire_get_int(&r->in) != 0;
    struct mf_job job;
    MF_AUTO(mf_buffer) struct mf_buffer text, index;
    mf_buffer_init(&text, MF_STORE_MESSAGE_MAX / 2);
    mf_buffer_init(&index, MF_STORE_MESSAGE_MAX / 2);
    if (!check(r, err) ||
        !mf_store_result(store(r), tenant, id, &job, &text, want_index ? &index : NULL, err))
        return false;
    mf_wire_put(&r->out, &job, sizeof job);
    mf_wire_put_block(&r->out, text.data ? text.data : "", text.len);
    mf_wire_put_block(&r->out, index.data ? index.data : "", index.len);
    return true;
}

static bool serve_record(struct request *r, struct mf_error *err)
{
    const char *tenant = or_empty(mf_wire_get_text(&r->in));
    const char *id = or_empty(mf_wire_get_text(&r->in));
    struct mf_job_record record;
    if (!check(r, err) || !mf_store_record(store(r), tenant, id, r->arena, &record, err))
        return false;
    mf_wire_put(&r->out, &record.job, sizeof record.job);
    mf_wire_put_text(&r->out, record.result);
    mf_wire_put_text(&r->out, record.index);
    mf_wire_put_text(&r->out, record.masks);
    mf_wire_put_text(&r->out, record.explanation);
    put_inputs(&r->out, record.inputs, record.input_count);
    return true;
}

static bool serve_list(struct request *r, struct mf_error *err)
{
    struct mf_job_filter filter = {.tenant = or_empty(mf_wire_get_text(&r->in))};
    filter.state = (int)mf_wire_get_int(&r->in);
    filter.priority = (int)mf_wire_get_int(&r->in);
    filter.created_from_ms = mf_wire_get_int(&r->in);
    filter.created_to_ms = mf_wire_get_int(&r->in);
    filter.limit = (size_t)mf_wire_get_int(&r->in);
    filter.cursor = mf_wire_get_int(&r->in);
    struct mf_job *jobs = NULL;
    size_t n = 0;
    int64_t next = 0;
    if (!check(r, err) || !mf_store_list(store(r), &filter, r->arena, &jobs, &n, &next, err))
        return false;
    mf_wire_put_int(&r->out, next);
    mf_wire_put_int(&r->out, (int64_t)n);
    mf_wire_put(&r->out, jobs, n * sizeof *jobs);
    return true;
}

static bool serve_cancel(struct request *r, struct mf_error *err)
{
    const char *tenant = or_empty(mf_wire_get_text(&r->in));
    const char *id = or_empty(mf_wire_get_text(&r->in));
    struct mf_job job;
    if (!check(r, err) || !mf_store_cancel(store(r), tenant, id, &job, err))
        return false;
    mf_wire_put(&r->out, &job, sizeof job);
    return true;
}

static bool serve_purge(struct request *r, struct mf_error *err)
{
    const char *tenant = or_empty(mf_wire_get_text(&r->in));
    const char *id = or_empty(mf_wire_get_text(&r->in));
    const char *const *locators = NULL;
    size_t n = 0;
    if (!check(r, err) || !mf_store_purge(store(r), tenant, id, r->arena, &locators, &n, err))
        return false;
    mf_wire_put_int(&r->out, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        mf_wire_put_text(&r->out, locators[i]);
    return true;
}

static bool serve_locators_used(struct request *r, struct mf_error *err)
{
    size_t n = mf_wire_get_count(&r->in, sizeof(int64_t));
    const char **locators = mf_arena_alloc(r->arena, n + 1, sizeof *locators, err);
    bool *used = mf_arena_alloc(r->arena, n + 1, sizeof *used, err);
    if (!locators || !used)
        return false;
    for (size_t i = 0; i < n; i++)
        locators[i] = or_empty(mf_wire_get_text(&r->in));
    if (!check(r, err) || !mf_store_locators_used(store(r), locators, n, used, err))
        return false;
    mf_wire_put(&r->out, used, n * sizeof *used);
    return true;
}

static bool serve_counts(struct request *r, struct mf_error *err)
{
    struct mf_store_counts counts;
    if (!mf_store_counts(store(r), &counts, err))
        return false;
    mf_wire_put(&r->out, &counts, sizeof counts);
    return true;
}

static bool serve_hold(struct request *r, struct mf_error *err)
{
    int64_t ms = mf_wire_get_int(&r->in), hold = 0;
    if (!check(r, err) || !mf_store_hold(store(r), ms, &hold, err))
        return false;
    mf_wire_put_int(&r->out, hold);
    return true;
}

/* The ids of a wait_for_jobs body, copied so that each ends with a NUL. */
static char (*read_ids(struct mf_wire_reader *in, struct mf_arena *arena, size_t *n,
                       struct mf_error *err))[MF_JOB_ID]
{
    *n = mf_wire_get_count(in, MF_JOB_ID);
    char(*ids)[MF_JOB_ID] = mf_arena_alloc(arena, *n + 1, MF_JOB_ID, err);
    if (!ids)
        return NULL;
    mf_wire_get(in, ids, *n * MF_JOB_ID);
    for (size_t i = 0; i < *n; i++)
        ids[i][MF_JOB_ID - 1] = '\0';
    return ids;
}

static bool serve_wait_for_jobs(struct request *r, struct mf_error *err)
{
    r->wait_ms = (int)mf_wire_get_int(&r->in);
    size_t n = 0;
    char(*ids)[MF_JOB_ID] = read_ids(&r->in, r->arena, &n, err);
    bool *terminal = mf_arena_alloc(r->arena, n + 1, sizeof *terminal, err);
    struct mf_ended_job ended = {.tenant = mf_wire_get_text(&r->in)};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, MF_STORE_MESSAGE_MAX / 2);
    ended.text = text;
    if (!ids || !terminal || !check(r, err))
        return false;
    bool ok = mf_store_wait_for_jobs(store(r), (const char(*)[MF_JOB_ID])ids, n, 0, terminal,
                                     ended.tenant ? &ended : NULL, err);
    text = ended.text; /* to be freed */
    if (!ok)
        return false;
    r->later = memchr(terminal, 1, n) == NULL;
    mf_wire_put(&r->out, terminal, n * sizeof *terminal);
    mf_wire_put_int(&r->out, ended.known);
    if (ended.known) {
        mf_wire_put(&r->out, &ended.job, sizeof ended.job);
        mf_wire_put_block(&r->out, text.data ? text.data : "", text.len);
    }
    return true;
}

static bool serve_changes(struct request *r, struct mf_error *err)
{
    r->wait_ms = (int)mf_wire_get_int(&r->in);
    const char *tenant = mf_wire_get_text(&r->in);
    int64_t after = mf_wire_get_int(&r->in);
    struct mf_changes changes;
    if (!check(r, err) || !mf_store_changes(store(r), tenant, after, 0, r->arena, &changes, err))
        return false;
    r->later = after >= 0 && !changes.lost && changes.count == 0;
    mf_wire_put_int(&r->out, changes.head);
    mf_wire_put_int(&r->out, changes.lost);
    mf_wire_put_int(&r->out, (int64_t)changes.count);
    mf_wire_put(&r->out, changes.list, changes.count * sizeof *changes.list);
    return true;
}

bool mf_store_wait_concerned(const struct mf_sql_store *s, const char *body, size_t len)
{
    struct mf_wire_reader in = {body, len, false};
    (void)mf_wire_get_int(&in); /* wait_ms */
    size_t n = mf_wire_get_count(&in, MF_JOB_ID);
    for (size_t i = 0; i < n && !in.failed; i++) {
        char id[MF_JOB_ID];
        mf_wire_get(&in, id, sizeof id);
        for (size_t k = 0; k < s->ended_count; k++)
            if (memcmp(id, s->ended[k], MF_JOB_ID) == 0)
                return true;
    }
    return false;
}

static const serve_fn SERVE[MF_VERB_COUNT] = {
    [MF_VERB_SUBMIT] = serve_submit,       [MF_VERB_CLAIM] = serve_claim,
    [MF_VERB_HEARTBEAT] = serve_heartbeat, [MF_VERB_FINISH] = serve_finish,
    [MF_VERB_RELEASE] = serve_release,     [MF_VERB_WORKER_GONE] = serve_worker_gone,
    [MF_VERB_HOLD] = serve_hold,           [MF_VERB_ANNOUNCE] = serve_announce,
    [MF_VERB_WORKERS] = serve_workers,     [MF_VERB_JOB] = serve_job,
    [MF_VERB_RESULT] = serve_result,       [MF_VERB_RECORD] = serve_record,
    [MF_VERB_LIST] = serve_list,           [MF_VERB_CANCEL] = serve_cancel,
    [MF_VERB_PURGE] = serve_purge,         [MF_VERB_LOCATORS_USED] = serve_locators_used,
    [MF_VERB_COUNTS] = serve_counts,       [MF_VERB_WAIT_FOR_JOBS] = serve_wait_for_jobs,
    [MF_VERB_CHANGES] = serve_changes,
};

enum mf_served mf_store_serve(struct mf_sql_store *s, uint32_t verb, const char *body, size_t len,
                              bool final, struct mf_buffer *out, int *passed, int *ret_wait_ms)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(2 * (size_t)MF_STORE_MESSAGE_MAX);
    struct request r = {.s = s,
                        .in = {body, len, false},
                        .out = {out, false},
                        .arena = arena,
                        .passed_in = *passed};
    struct mf_error err = MF_ERROR_INIT;
    size_t begin = mf_wire_begin(&r.out, MF_REPLY_OK);
    serve_fn serve = verb < MF_VERB_COUNT ? SERVE[verb] : NULL;
    bool ok;
    *passed = 0;
    if (!arena)
        ok = mf_error_set(&err, MF_ERR_NO_MEMORY, "out of memory in the job store");
    else if (verb >= MF_VERB_AUDIT_ADD && verb < MF_VERB_COUNT)
        ok = mf_store_serve_audit(&s->base, verb, &(struct mf_store_exchange){&r.in, &r.out, arena},
                                  &err);
    else if (verb >= MF_VERB_FEEDBACK && verb < MF_VERB_COUNT)
        ok = mf_store_serve_feedback(&s->base, verb,
                                     &(struct mf_store_exchange){&r.in, &r.out, arena}, &err);
    else if (verb == MF_VERB_DEAD_LETTERS || verb == MF_VERB_DEAD_LETTERS_END)
        ok = mf_store_serve_dead_letters(&s->base, verb,
                                         &(struct mf_store_exchange){&r.in, &r.out, arena}, &err);
    else if (verb >= MF_VERB_INSTANCES_ADD && verb < MF_VERB_COUNT)
        ok = mf_store_serve_instances(&s->base, verb,
                                      &(struct mf_store_exchange){&r.in, &r.out, arena}, &err);
    else if (!serve)
        ok = mf_error_set(&err, MF_ERR_INTERNAL, "the job store does not know this request");
    else
        ok = serve(&r, &err);
    if (ok && r.out.failed)
        ok = mf_error_set(&err, MF_ERR_TOO_LARGE, "the job store's answer is too large");
    if (ok && r.later && !final && r.wait_ms != 0) {
        out->len = begin;
        *ret_wait_ms = r.wait_ms;
        return MF_SERVED_LATER;
    }
    if (!ok) {
        out->len = begin;
        r.out.failed = false;
        begin = mf_wire_begin(&r.out, MF_REPLY_ERROR);
        mf_wire_put(&r.out, &err, sizeof err);
    }
    *passed = r.passed_out;
    mf_wire_end(&r.out, begin);
    return MF_SERVED;
}
