/* Store client: each verb as a request and the reading of its answer. */
#include "server/store_client.h"

#include <string.h>

static struct mf_store_client *self(struct mf_store *store)
{
    return (struct mf_store_client *)store;
}

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
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_SUBMIT);
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
    c->passing = s->frames_ahead;
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return mf_client_check(&reply, err);
}

static bool get_inputs(struct mf_wire_reader *r, struct mf_arena *arena,
                       const struct mf_job_input **ret, size_t *ret_count, struct mf_error *err)
{
    size_t n = mf_wire_get_count(r, MF_SHA256_BYTES);
    struct mf_job_input *inputs = mf_arena_alloc(arena, n + 1, sizeof *inputs, err);
    if (!inputs)
        return false;
    for (size_t i = 0; i < n; i++) {
        inputs[i].part = mf_wire_copy_text(r, arena, err);
        inputs[i].kind = mf_wire_copy_text(r, arena, err);
        inputs[i].locator = mf_wire_copy_text(r, arena, err);
        inputs[i].offset = (uint64_t)mf_wire_get_int(r);
        inputs[i].size = (uint64_t)mf_wire_get_int(r);
        mf_wire_get(r, inputs[i].sha256, MF_SHA256_BYTES);
    }
    *ret = inputs;
    *ret_count = n;
    return mf_client_check(r, err);
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
    claim->priority = (enum mf_priority)mf_wire_get_int(r);
    claim->frames_ahead = (int)mf_wire_get_int(r); /* whether; client_claim() says which */
    return get_inputs(r, arena, &claim->inputs, &claim->input_count, err);
}

static bool client_claim(struct mf_store *store, const struct mf_claim_request *request,
                         struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                         struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_CLAIM);
    *ret_count = 0;
    mf_wire_put_int(&w, request->wait_ms);
    mf_wire_put_text(&w, request->worker);
    mf_wire_put_int(&w, (int64_t)request->max);
    mf_wire_put_int(&w, (int64_t)request->held_count);
    mf_wire_put(&w, request->held, request->held_count * sizeof *request->held);
    if (!mf_client_call(c, &w, request->wait_ms, &reply, err))
        return false;
    size_t n = mf_wire_get_count(&reply, MF_JOB_ID);
    struct mf_claim *claims = mf_arena_alloc(arena, n + 1, sizeof *claims, err);
    if (!claims || !mf_client_check(&reply, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!get_claim(&reply, arena, &claims[i], err))
            return false;
    for (size_t i = 0; i < n; i++)
        if (claims[i].frames_ahead > 0) { /* one at most */
            claims[i].frames_ahead = c->passed;
            c->passed = 0;
        }
    *ret = claims;
    *ret_count = n;
    return true;
}

static bool client_heartbeat(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                             struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_HEARTBEAT);
    mf_wire_put_int(&w, (int64_t)n);
    mf_wire_put(&w, beats, n * sizeof *beats);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, beats, n * sizeof *beats);
    return mf_client_check(&reply, err);
}

static bool client_finish(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                          struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_FINISH);
    mf_wire_put_int(&w, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        mf_wire_put(&w, &outcomes[i].job, sizeof outcomes[i].job);
        mf_wire_put_int(&w, outcomes[i].state);
        mf_wire_put_int(&w, outcomes[i].result != NULL);
        mf_wire_put_block(&w, outcomes[i].result ? outcomes[i].result : "",
                          outcomes[i].result ? outcomes[i].result_len : 0);
        mf_wire_put_text(&w, outcomes[i].masks);
        mf_wire_put_text(&w, outcomes[i].explanation);
        mf_wire_put(&w, &outcomes[i].problem, sizeof outcomes[i].problem);
    }
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    for (size_t i = 0; i < n; i++)
        outcomes[i].lease = (enum mf_lease)mf_wire_get_int(&reply);
    return mf_client_check(&reply, err);
}

static bool client_release(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                           enum mf_attempt_end end, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_RELEASE);
    mf_wire_put_int(&w, end);
    mf_wire_put_int(&w, (int64_t)n);
    mf_wire_put(&w, jobs, n * sizeof *jobs);
    return mf_client_call(c, &w, 0, &reply, err);
}

static bool client_worker_gone(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                               struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_WORKER_GONE);
    mf_wire_put_text(&w, worker);
    mf_wire_put_int(&w, end);
    return mf_client_call(c, &w, 0, &reply, err);
}

static bool client_announce(struct mf_store *store, const struct mf_worker *worker, int ttl_s,
                            struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_ANNOUNCE);
    mf_wire_put_text(&w, worker->id);
    mf_wire_put_text(&w, worker->device);
    mf_wire_put_int(&w, worker->ready);
    mf_wire_put_text(&w, worker->models);
    mf_wire_put_int(&w, ttl_s);
    return mf_client_call(c, &w, 0, &reply, err);
}

static bool client_workers(struct mf_store *store, struct mf_arena *arena, struct mf_worker **ret,
                           size_t *ret_count, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_WORKERS);
    if (!mf_client_call(c, &w, 0, &reply, err))
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
    return mf_client_check(&reply, err);
}

/* The body of every verb that names one job. */
static bool call_on_job(struct mf_store_client *c, enum mf_store_verb verb, const char *tenant,
                        const char *id, struct mf_wire_reader *reply, struct mf_error *err)
{
    struct mf_wire_writer w = mf_client_begin(c, verb);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, id);
    return mf_client_call(c, &w, 0, reply, err);
}

static bool client_job(struct mf_store *store, const char *tenant, const char *id,
                       struct mf_job *ret, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_JOB, tenant, id, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return mf_client_check(&reply, err);
}

static bool client_result(struct mf_store *store, const char *tenant, const char *id,
                          struct mf_job *ret_job, struct mf_buffer *ret_text,
                          struct mf_buffer *ret_index, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_RESULT);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, id);
    mf_wire_put_int(&w, ret_index != NULL);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret_job, sizeof *ret_job);
    size_t text_len, index_len;
    const char *text = mf_wire_get_block(&reply, &text_len);
    const char *index = mf_wire_get_block(&reply, &index_len);
    return mf_client_check(&reply, err) && mf_buffer_append(ret_text, text, text_len, err) &&
           (!ret_index || mf_buffer_append(ret_index, index, index_len, err));
}

static bool client_record(struct mf_store *store, const char *tenant, const char *id,
                          struct mf_arena *arena, struct mf_job_record *ret, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_RECORD, tenant, id, &reply, err))
        return false;
    mf_wire_get(&reply, &ret->job, sizeof ret->job);
    ret->result = mf_wire_copy_text(&reply, arena, err);
    ret->index = mf_wire_copy_text(&reply, arena, err);
    ret->masks = mf_wire_copy_text(&reply, arena, err);
    ret->explanation = mf_wire_copy_text(&reply, arena, err);
    ret->result_len = ret->result ? strlen(ret->result) : 0;
    ret->index_len = ret->index ? strlen(ret->index) : 0;
    ret->masks_len = ret->masks ? strlen(ret->masks) : 0;
    ret->explanation_len = ret->explanation ? strlen(ret->explanation) : 0;
    return get_inputs(&reply, arena, &ret->inputs, &ret->input_count, err);
}

static bool client_list(struct mf_store *store, const struct mf_job_filter *filter,
                        struct mf_arena *arena, struct mf_job **ret, size_t *ret_count,
                        int64_t *ret_next, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_LIST);
    mf_wire_put_text(&w, filter->tenant);
    mf_wire_put_int(&w, filter->state);
    mf_wire_put_int(&w, filter->priority);
    mf_wire_put_int(&w, filter->created_from_ms);
    mf_wire_put_int(&w, filter->created_to_ms);
    mf_wire_put_int(&w, (int64_t)filter->limit);
    mf_wire_put_int(&w, filter->cursor);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_next = mf_wire_get_int(&reply);
    *ret_count = mf_wire_get_count(&reply, sizeof **ret);
    *ret = mf_arena_alloc(arena, *ret_count + 1, sizeof **ret, err);
    if (!*ret)
        return false;
    mf_wire_get(&reply, *ret, *ret_count * sizeof **ret);
    return mf_client_check(&reply, err);
}

static bool client_cancel(struct mf_store *store, const char *tenant, const char *id,
                          struct mf_job *ret, struct mf_error *err)
{
    struct mf_wire_reader reply = {.at = NULL};
    if (!call_on_job(self(store), MF_VERB_CANCEL, tenant, id, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return mf_client_check(&reply, err);
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
    return mf_client_check(&reply, err);
}

static bool client_locators_used(struct mf_store *store, const char *const *locators, size_t n,
                                 bool *ret_used, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_LOCATORS_USED);
    mf_wire_put_int(&w, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        mf_wire_put_text(&w, locators[i]);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret_used, n * sizeof *ret_used);
    return mf_client_check(&reply, err);
}

static bool client_counts(struct mf_store *store, struct mf_store_counts *ret, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_COUNTS);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    return mf_client_check(&reply, err);
}

/* The job and its result, when the server sent them. */
static bool get_ended(struct mf_wire_reader *r, struct mf_ended_job *ended, struct mf_error *err)
{
    size_t len;
    if (mf_wire_get_int(r) == 0 || !ended)
        return mf_client_check(r, err);
    mf_wire_get(r, &ended->job, sizeof ended->job);
    const char *text = mf_wire_get_block(r, &len);
    ended->known = mf_client_check(r, err) && mf_buffer_append(&ended->text, text, len, err);
    return ended->known;
}

static bool client_wait_for_jobs(struct mf_store *store, const char (*ids)[MF_JOB_ID], size_t n,
                                 int wait_ms, bool *ret_terminal, struct mf_ended_job *ended,
                                 struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_WAIT_FOR_JOBS);
    mf_wire_put_int(&w, wait_ms);
    mf_wire_put_int(&w, (int64_t)n);
    mf_wire_put(&w, ids, n * sizeof *ids);
    mf_wire_put_text(&w, ended ? ended->tenant : NULL);
    if (ended)
        ended->known = false;
    if (!mf_client_call(c, &w, wait_ms, &reply, err))
        return false;
    mf_wire_get(&reply, ret_terminal, n * sizeof *ret_terminal);
    return get_ended(&reply, ended, err);
}

static bool client_changes(struct mf_store *store, const char *tenant, int64_t after, int wait_ms,
                           struct mf_arena *arena, struct mf_changes *ret, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_CHANGES);
    mf_wire_put_int(&w, wait_ms);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_int(&w, after);
    if (!mf_client_call(c, &w, wait_ms, &reply, err))
        return false;
    ret->head = mf_wire_get_int(&reply);
    ret->lost = mf_wire_get_int(&reply) != 0;
    ret->count = mf_wire_get_count(&reply, sizeof *ret->list);
    ret->list = mf_arena_alloc(arena, ret->count + 1, sizeof *ret->list, err);
    if (!ret->list)
        return false;
    mf_wire_get(&reply, ret->list, ret->count * sizeof *ret->list);
    return mf_client_check(&reply, err);
}

static bool client_hold(struct mf_store *store, int64_t ms, int64_t *ret_hold, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_HOLD);
    mf_wire_put_int(&w, ms);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_hold = mf_wire_get_int(&reply);
    return mf_client_check(&reply, err);
}

const struct mf_store_ops mf_client_verbs = {
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
    .record = client_record,
    .list = client_list,
    .cancel = client_cancel,
    .purge = client_purge,
    .locators_used = client_locators_used,
    .counts = client_counts,
    .wait_for_jobs = client_wait_for_jobs,
    .changes = client_changes,
    .hold = client_hold,
    .instances_add = mf_client_instances_add,
    .instances_search = mf_client_instances_search,
    .studies_due = mf_client_studies_due,
    .study_settle = mf_client_study_settle,
    .study_hasten = mf_client_study_hasten,
    .study = mf_client_study,
    .deliveries_due = mf_client_deliveries_due,
    .delivery_settle = mf_client_delivery_settle,
    .dead_letters = mf_client_dead_letters,
    .dead_letters_end = mf_client_dead_letters_end,
    .feedback = mf_client_feedback,
    .feedback_put = mf_client_feedback_put,
    .state = mf_client_state,
    .observed = mf_client_observed,
    .audit_add = mf_client_audit_add,
    .audit_read = mf_client_audit_read,
};
