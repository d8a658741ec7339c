/* The verbs about jobs, each on a store that has been prepared for it: see store_verbs.h. */
#ifndef MF_TESTS_SERVER_STORE_VERBS_JOBS_H
#define MF_TESTS_SERVER_STORE_VERBS_JOBS_H

#include "server/store_changes.h"
#include "server/store_sql.h"

#include "store_fixture.h"

struct subject {
    struct store_fixture f;
    struct mf_sql_store *s; /* f.store */
    struct mf_submission sub;
    struct mf_job_ref ref[4];
    char id[MF_JOB_ID];
    int64_t number; /* of whatever the verb is about */
    int64_t said;   /* what it answered, for the check */
};

static const char RESULT[] = "{\"schema\":\"medfusion.result/1\"}";

static inline void claim_all(struct subject *t, size_t n)
{
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&t->f, "w", n, NULL, 0, &c), n);
    for (size_t i = 0; i < n; i++)
        t->ref[i] = fixture_ref(&c[i]);
}

static inline void prepare_queue(struct subject *t)
{
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    t->sub = fixture_submission();
    t->sub.idempotency_key = "once";
}

static inline void prepare_nothing(struct subject *t)
{
    t->sub = fixture_submission();
    t->sub.idempotency_key = "once";
}

static inline void prepare_replay(struct subject *t)
{
    struct mf_submitted made;
    prepare_nothing(t);
    assert_true(mf_store_submit(t->f.store, &t->sub, &made, NULL));
    mf_job_id_new(t->sub.id);
}

/* Full for whoever has much in it. */
static inline void prepare_full(struct subject *t)
{
    prepare_queue(t);
    t->sub.tenant = "north";
    t->sub.max_queued = 1;
}

/* Full once this job is in it. */
static inline void prepare_nearly_full(struct subject *t)
{
    prepare_queue(t);
    t->sub.max_queued = 2;
}

static inline bool submit(struct subject *t, struct mf_error *err)
{
    struct mf_submitted made = {.queued = 0};
    bool ok = mf_store_submit(t->f.store, &t->sub, &made, err);
    t->said = made.queued;
    return ok;
}

static inline void prepare_eight(struct subject *t)
{
    for (int i = 0; i < 8; i++)
        fixture_submit(&t->f, i == 0 ? MF_PRIORITY_ROUTINE : MF_PRIORITY_STAT, t->id);
}

static inline bool claim(struct subject *t, struct mf_error *err)
{
    struct mf_claim_request request = {.worker = "w", .max = 7};
    struct mf_claim *claims = NULL;
    size_t n = 0;
    bool ok = mf_store_claim(t->f.store, &request, t->f.arena, &claims, &n, err);
    t->said = (int64_t)n;
    return ok;
}

/* Two jobs run; their claims' replies were lost. */
static inline void prepare_running(struct subject *t)
{
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    claim_all(t, 1);
}

static inline void prepare_two_running(struct subject *t)
{
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    claim_all(t, 2);
}

static inline bool heartbeat(struct subject *t, struct mf_error *err)
{
    struct mf_heartbeat beat = {.job = t->ref[0], .progress = 0.5};
    return mf_store_heartbeat(t->f.store, &beat, 1, err);
}

static inline bool finish(struct subject *t, struct mf_error *err)
{
    struct mf_outcome o[2] = {{.job = t->ref[0],
                               .state = MF_JOB_SUCCEEDED,
                               .result = RESULT,
                               .result_len = sizeof RESULT - 1,
                               .masks = "{}",
                               .masks_len = 2,
                               .explanation = "[]",
                               .explanation_len = 2},
                              {.job = t->ref[1], .state = MF_JOB_CANCELLED}};
    return mf_store_finish(t->f.store, o, 2, err);
}

static inline void prepare_outcomes(struct subject *t)
{
    prepare_two_running(t);
}

static inline bool release_crashed(struct subject *t, struct mf_error *err)
{
    return mf_store_release(t->f.store, t->ref, 1, MF_END_CRASHED, err);
}

static inline bool worker_gone(struct subject *t, struct mf_error *err)
{
    return mf_store_worker_gone(t->f.store, "w", MF_END_LOST, err);
}

static inline void prepare_last_loss(struct subject *t)
{
    prepare_running(t);
    t->s->settings.max_losses = 1;
}

static inline void prepare_cancelled(struct subject *t)
{
    struct mf_job job;
    prepare_running(t);
    assert_true(mf_store_cancel(t->f.store, MF_TENANT_DEFAULT, t->id, &job, NULL));
}

static inline void prepare_lapsed(struct subject *t)
{
    t->s->settings.lease_s = -1;
    prepare_two_running(t);
}

static inline bool expire_leases(struct subject *t, struct mf_error *err)
{
    return mf_sql_expire_leases(t->s, err);
}

static inline bool announce(struct subject *t, struct mf_error *err)
{
    const struct mf_worker worker = {.id = "w", .device = "cpu", .ready = true};
    return mf_store_announce(t->f.store, &worker, 60, err);
}

static inline void prepare_worker(struct subject *t)
{
    assert_true(announce(t, NULL));
}

static inline bool workers(struct subject *t, struct mf_error *err)
{
    struct mf_worker *list = NULL;
    size_t n = 0;
    bool ok = mf_store_workers(t->f.store, t->f.arena, &list, &n, err);
    t->said = (int64_t)n;
    return ok;
}

static inline bool read_job(struct subject *t, struct mf_error *err)
{
    struct mf_job job = {.position = 0};
    bool ok = mf_store_job(t->f.store, MF_TENANT_DEFAULT, t->id, &job, err);
    t->said = job.attempts;
    return ok;
}

/* A job with a result; destinations: one of each kind. */
static inline void prepare_done(struct subject *t)
{
    struct mf_outcome o = {.state = MF_JOB_SUCCEEDED,
                           .result = RESULT,
                           .result_len = sizeof RESULT - 1,
                           .masks = "{}",
                           .masks_len = 2,
                           .explanation = "[]",
                           .explanation_len = 2};
    struct mf_submitted made;
    t->sub = fixture_submission();
    t->sub.model = "thorax";
    assert_true(mf_store_submit(t->f.store, &t->sub, &made, NULL));
    memcpy(t->id, made.id, sizeof t->id);
    claim_all(t, 1);
    o.job = t->ref[0];
    assert_true(mf_store_finish(t->f.store, &o, 1, NULL));
}

static inline bool read_result(struct subject *t, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text, index;
    struct mf_job job;
    mf_buffer_init(&text, 1 << 20);
    mf_buffer_init(&index, 1 << 20);
    bool ok = mf_store_result(t->f.store, MF_TENANT_DEFAULT, t->id, &job, &text, &index, err);
    t->said = (int64_t)(text.len + index.len);
    return ok;
}

static inline bool read_record(struct subject *t, struct mf_error *err)
{
    struct mf_job_record record;
    bool ok = mf_store_record(t->f.store, MF_TENANT_DEFAULT, t->id, t->f.arena, &record, err);
    t->said = ok ? (int64_t)(record.input_count + record.masks_len) : -1;
    return ok;
}

static inline bool list_jobs(struct subject *t, struct mf_error *err)
{
    const struct mf_job_filter filter = {
        .tenant = MF_TENANT_DEFAULT, .state = -1, .priority = -1, .limit = 1};
    struct mf_job *jobs = NULL;
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_list(t->f.store, &filter, t->f.arena, &jobs, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static inline bool cancel(struct subject *t, struct mf_error *err)
{
    struct mf_job job = {.state = MF_JOB_QUEUED};
    bool ok = mf_store_cancel(t->f.store, MF_TENANT_DEFAULT, t->id, &job, err);
    t->said = job.cancel_requested;
    return ok;
}

static inline bool purge(struct subject *t, struct mf_error *err)
{
    const char *const *locators = NULL;
    size_t n = 0;
    bool ok = mf_store_purge(t->f.store, MF_TENANT_DEFAULT, t->id, t->f.arena, &locators, &n, err);
    t->said = (int64_t)n;
    return ok;
}

static inline bool locators_used(struct subject *t, struct mf_error *err)
{
    const char *const names[] = {t->sub.inputs[0].locator, "ffffffffffffffffffffffffffffffff"};
    bool used[2] = {false, true};
    bool ok = mf_store_locators_used(t->f.store, names, 2, used, err);
    t->said = used[0] && !used[1];
    return ok;
}

static inline bool counts(struct subject *t, struct mf_error *err)
{
    struct mf_store_counts c = {.submitted_total = 0};
    bool ok = mf_store_counts(t->f.store, &c, err);
    t->said = c.deliveries;
    return ok;
}

static inline bool wait_for_jobs(struct subject *t, struct mf_error *err)
{
    bool over = false;
    bool ok = mf_store_wait_for_jobs(t->f.store, (const char(*)[MF_JOB_ID]) & t->id, 1, 0, &over,
                                     NULL, err);
    t->said = over;
    return ok;
}

static inline bool changes(struct subject *t, struct mf_error *err)
{
    struct mf_changes c = {.count = 0};
    bool ok = mf_store_changes(t->f.store, NULL, t->number, 0, t->f.arena, &c, err);
    t->said = (int64_t)c.count;
    return ok;
}

static inline void prepare_change(struct subject *t)
{
    struct mf_changes c;
    assert_true(mf_store_changes(t->f.store, NULL, -1, 0, t->f.arena, &c, NULL));
    t->number = c.head;
    prepare_running(t);
}

#endif
