/* Each verb of the store once, on a store that has been prepared for it, and what it answers: for
 * tests that try what may happen to all of them. */
#ifndef MF_TESTS_SERVER_STORE_VERBS_H
#define MF_TESTS_SERVER_STORE_VERBS_H

#include "server/store_audit.h"
#include "server/store_changes.h"
#include "server/store_dead_letters.h"
#include "server/store_feedback.h"
#include "server/store_instances.h"
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

static void claim_all(struct subject *t, size_t n)
{
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&t->f, "w", n, NULL, 0, &c), n);
    for (size_t i = 0; i < n; i++)
        t->ref[i] = fixture_ref(&c[i]);
}

static void prepare_queue(struct subject *t)
{
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    t->sub = fixture_submission();
    t->sub.idempotency_key = "once";
}

static void prepare_nothing(struct subject *t)
{
    t->sub = fixture_submission();
    t->sub.idempotency_key = "once";
}

static void prepare_replay(struct subject *t)
{
    struct mf_submitted made;
    prepare_nothing(t);
    assert_true(mf_store_submit(t->f.store, &t->sub, &made, NULL));
    mf_job_id_new(t->sub.id);
}

/* Full for whoever has much in it. */
static void prepare_full(struct subject *t)
{
    prepare_queue(t);
    t->sub.tenant = "north";
    t->sub.max_queued = 1;
}

/* Full once this job is in it. */
static void prepare_nearly_full(struct subject *t)
{
    prepare_queue(t);
    t->sub.max_queued = 2;
}

static bool submit(struct subject *t, struct mf_error *err)
{
    struct mf_submitted made = {.queued = 0};
    bool ok = mf_store_submit(t->f.store, &t->sub, &made, err);
    t->said = made.queued;
    return ok;
}

static void prepare_eight(struct subject *t)
{
    for (int i = 0; i < 8; i++)
        fixture_submit(&t->f, i == 0 ? MF_PRIORITY_ROUTINE : MF_PRIORITY_STAT, t->id);
}

static bool claim(struct subject *t, struct mf_error *err)
{
    struct mf_claim_request request = {.worker = "w", .max = 7};
    struct mf_claim *claims = NULL;
    size_t n = 0;
    bool ok = mf_store_claim(t->f.store, &request, t->f.arena, &claims, &n, err);
    t->said = (int64_t)n;
    return ok;
}

/* Two jobs run; their claims' replies were lost. */
static void prepare_running(struct subject *t)
{
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    claim_all(t, 1);
}

static void prepare_two_running(struct subject *t)
{
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    fixture_submit(&t->f, MF_PRIORITY_ROUTINE, t->id);
    claim_all(t, 2);
}

static bool heartbeat(struct subject *t, struct mf_error *err)
{
    struct mf_heartbeat beat = {.job = t->ref[0], .progress = 0.5};
    return mf_store_heartbeat(t->f.store, &beat, 1, err);
}

static bool finish(struct subject *t, struct mf_error *err)
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

static void prepare_outcomes(struct subject *t)
{
    prepare_two_running(t);
}

static bool release_crashed(struct subject *t, struct mf_error *err)
{
    return mf_store_release(t->f.store, t->ref, 1, MF_END_CRASHED, err);
}

static bool worker_gone(struct subject *t, struct mf_error *err)
{
    return mf_store_worker_gone(t->f.store, "w", MF_END_LOST, err);
}

static void prepare_last_loss(struct subject *t)
{
    prepare_running(t);
    t->s->settings.max_losses = 1;
}

static void prepare_cancelled(struct subject *t)
{
    struct mf_job job;
    prepare_running(t);
    assert_true(mf_store_cancel(t->f.store, MF_TENANT_DEFAULT, t->id, &job, NULL));
}

static void prepare_lapsed(struct subject *t)
{
    t->s->settings.lease_s = -1;
    prepare_two_running(t);
}

static bool expire_leases(struct subject *t, struct mf_error *err)
{
    return mf_sql_expire_leases(t->s, err);
}

static bool announce(struct subject *t, struct mf_error *err)
{
    const struct mf_worker worker = {.id = "w", .device = "cpu", .ready = true};
    return mf_store_announce(t->f.store, &worker, 60, err);
}

static void prepare_worker(struct subject *t)
{
    assert_true(announce(t, NULL));
}

static bool workers(struct subject *t, struct mf_error *err)
{
    struct mf_worker *list = NULL;
    size_t n = 0;
    bool ok = mf_store_workers(t->f.store, t->f.arena, &list, &n, err);
    t->said = (int64_t)n;
    return ok;
}

static bool read_job(struct subject *t, struct mf_error *err)
{
    struct mf_job job = {.position = 0};
    bool ok = mf_store_job(t->f.store, MF_TENANT_DEFAULT, t->id, &job, err);
    t->said = job.attempts;
    return ok;
}

/* A job with a result; destinations: one of each kind. */
static void prepare_done(struct subject *t)
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

static bool read_result(struct subject *t, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text, index;
    struct mf_job job;
    mf_buffer_init(&text, 1 << 20);
    mf_buffer_init(&index, 1 << 20);
    bool ok = mf_store_result(t->f.store, MF_TENANT_DEFAULT, t->id, &job, &text, &index, err);
    t->said = (int64_t)(text.len + index.len);
    return ok;
}

static bool read_record(struct subject *t, struct mf_error *err)
{
    struct mf_job_record record;
    bool ok = mf_store_record(t->f.store, MF_TENANT_DEFAULT, t->id, t->f.arena, &record, err);
    t->said = ok ? (int64_t)(record.input_count + record.masks_len) : -1;
    return ok;
}

static bool list_jobs(struct subject *t, struct mf_error *err)
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

static bool cancel(struct subject *t, struct mf_error *err)
{
    struct mf_job job = {.state = MF_JOB_QUEUED};
    bool ok = mf_store_cancel(t->f.store, MF_TENANT_DEFAULT, t->id, &job, err);
    t->said = job.cancel_requested;
    return ok;
}

static bool purge(struct subject *t, struct mf_error *err)
{
    const char *const *locators = NULL;
    size_t n = 0;
    bool ok = mf_store_purge(t->f.store, MF_TENANT_DEFAULT, t->id, t->f.arena, &locators, &n, err);
    t->said = (int64_t)n;
    return ok;
}

static bool locators_used(struct subject *t, struct mf_error *err)
{
    const char *const names[] = {t->sub.inputs[0].locator, "ffffffffffffffffffffffffffffffff"};
    bool used[2] = {false, true};
    bool ok = mf_store_locators_used(t->f.store, names, 2, used, err);
    t->said = used[0] && !used[1];
    return ok;
}

static bool counts(struct subject *t, struct mf_error *err)
{
    struct mf_store_counts c = {.submitted_total = 0};
    bool ok = mf_store_counts(t->f.store, &c, err);
    t->said = c.deliveries;
    return ok;
}

static bool wait_for_jobs(struct subject *t, struct mf_error *err)
{
    bool over = false;
    bool ok = mf_store_wait_for_jobs(t->f.store, (const char(*)[MF_JOB_ID]) & t->id, 1, 0, &over,
                                     NULL, err);
    t->said = over;
    return ok;
}

static bool changes(struct subject *t, struct mf_error *err)
{
    struct mf_changes c = {.count = 0};
    bool ok = mf_store_changes(t->f.store, NULL, t->number, 0, t->f.arena, &c, err);
    t->said = (int64_t)c.count;
    return ok;
}

static void prepare_change(struct subject *t)
{
    struct mf_changes c;
    assert_true(mf_store_changes(t->f.store, NULL, -1, 0, t->f.arena, &c, NULL));
    t->number = c.head;
    prepare_running(t);
}

/* --- instances --- */

static bool add_instances(struct subject *t, struct mf_error *err)
{
    struct mf_stored in[2];
    struct mf_added added[2] = {{.result = MF_ADD_KNOWN}, {.result = MF_ADD_KNOWN}};
    for (int i = 0; i < 2; i++) {
        in[i] = (struct mf_stored){
            .locator = "0123456789abcdef0123456789abcdef", .size = 10, .source = "stow"};
        in[i].instance.transfer_syntax = "1.2.840.10008.1.2.1";
        in[i].instance.values[MF_STUDY_UID] = "1.2";
        in[i].instance.values[MF_SERIES_UID] = "1.2.1";
        in[i].instance.values[MF_SOP_INSTANCE_UID] = i ? "1.2.1.1" : "1.2.1.2";
        in[i].instance.values[MF_SOP_CLASS_UID] = "1.2.840.10008.5.1.4.1.1.1.1";
        in[i].instance.values[MF_PATIENT_NAME] = "Doe^Jane";
        in[i].instance.values[MF_STUDY_DATE] = "20200131";
        in[i].instance.values[MF_MODALITY] = "DX";
    }
    bool ok = mf_store_instances_add(t->f.store, MF_TENANT_DEFAULT, t->number, in, 2, added, err);
    t->said = added[1].result == MF_ADD_STORED;
    return ok;
}

static void prepare_study(struct subject *t)
{
    assert_true(add_instances(t, NULL));
}

static bool search_instances(struct subject *t, struct mf_error *err)
{
    const struct mf_match matches[] = {{MF_STUDY_DATE, MF_MATCH_RANGE, "20200101-20201231"},
                                       {MF_MODALITY, MF_MATCH_LIST, "CR,DX"},
                                       {MF_PATIENT_NAME, MF_MATCH_PATTERN, "doe*"},
                                       {MF_STUDY_DESCRIPTION, MF_MATCH_EQUAL, ""},
                                       {MF_SOP_INSTANCE_UID, MF_MATCH_EQUAL, "1.2.1.1"}};
    const struct mf_search search = {.tenant = MF_TENANT_DEFAULT,
                                     .level = (enum mf_level)t->number,
                                     .matches = matches,
                                     .match_count = sizeof matches / sizeof *matches,
                                     .limit = 10};
    struct mf_found *rows = NULL;
    size_t n = 0;
    bool ok = mf_store_instances_search(t->f.store, &search, t->f.arena, &rows, &n, err);
    t->said = (int64_t)n;
    return ok;
}

static void prepare_search_study(struct subject *t)
{
    prepare_study(t);
    t->number = MF_LEVEL_STUDY;
}

static void prepare_search_series(struct subject *t)
{
    prepare_study(t);
    t->number = MF_LEVEL_SERIES;
}

static void prepare_search_instance(struct subject *t)
{
    prepare_study(t);
    t->number = MF_LEVEL_INSTANCE;
}

static bool studies_due(struct subject *t, struct mf_error *err)
{
    struct mf_due_study due[4];
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_studies_due(t->f.store, due, 4, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static bool settle_study(struct subject *t, struct mf_error *err)
{
    const struct mf_due_study study = {.tenant = MF_TENANT_DEFAULT, .uid = "1.2", .revision = 2};
    return mf_store_study_settle(t->f.store, &study, "00112233445566778899aabbccddeeff", NULL, 0,
                                 err);
}

static void prepare_waiting_study(struct subject *t)
{
    t->number = 3600000;
    assert_true(add_instances(t, NULL));
}

static bool hasten(struct subject *t, struct mf_error *err)
{
    return mf_store_study_hasten(t->f.store, MF_TENANT_DEFAULT, "1.2", err);
}

static void prepare_settled(struct subject *t)
{
    prepare_study(t);
    assert_true(settle_study(t, NULL));
}

static bool read_study(struct subject *t, struct mf_error *err)
{
    struct mf_study_state study = {.instances = 0};
    bool ok = mf_store_study(t->f.store, MF_TENANT_DEFAULT, "1.2", t->f.arena, &study, err);
    t->said = study.instances + (int64_t)study.job_count;
    return ok;
}

/* --- the outbox --- */

static bool deliveries_due(struct subject *t, struct mf_error *err)
{
    struct mf_delivery due[4];
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_deliveries_due(t->f.store, NULL, due, 4, &n, &next, err);
    t->said = (int64_t)n;
    t->number = n ? due[0].id : 0;
    return ok;
}

static void prepare_delivery(struct subject *t)
{
    prepare_done(t);
    assert_true(deliveries_due(t, NULL));
}

static bool settle_delivery(struct subject *t, struct mf_error *err)
{
    const struct mf_error why = {MF_ERR_UNUSABLE, "the destination answered 400"};
    return mf_store_delivery_settle(t->f.store, t->number, &why, 0, err);
}

static void prepare_dead_letter(struct subject *t)
{
    prepare_delivery(t);
    assert_true(settle_delivery(t, NULL));
}

static const struct mf_dead_letter_filter ANY = {.id = 0};

static bool dead_letters(struct subject *t, struct mf_error *err)
{
    struct mf_dead_letter *letters = NULL;
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_dead_letters(t->f.store, &ANY, 0, 10, t->f.arena, &letters, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static bool end_letters(struct subject *t, enum mf_dead_letter_end end, struct mf_error *err)
{
    int64_t cursor = 0;
    return mf_store_dead_letters_end(t->f.store, &ANY, end, "admin", &cursor, &t->said, err);
}

static bool retry_letters(struct subject *t, struct mf_error *err)
{
    return end_letters(t, MF_DEAD_LETTER_RETRY, err);
}

static bool drop_letters(struct subject *t, struct mf_error *err)
{
    return end_letters(t, MF_DEAD_LETTER_DROP, err);
}

/* --- feedback, audit --- */

static bool put_feedback(struct subject *t, struct mf_error *err)
{
    struct mf_feedback_put p = {.tenant = MF_TENANT_DEFAULT,
                                .reader = "anna",
                                .body = "{}",
                                .state_key = "k",
                                .state_version = 1,
                                .state = "{}"};
    bool kept = false;
    memcpy(p.job, t->id, sizeof p.job);
    bool ok = mf_store_feedback_put(t->f.store, &p, &kept, err);
    t->said = kept;
    return ok;
}

static void prepare_feedback(struct subject *t)
{
    prepare_done(t);
    assert_true(put_feedback(t, NULL));
}

static bool read_feedback(struct subject *t, struct mf_error *err)
{
    struct mf_observed o = {.revision = 0};
    bool ok = mf_store_feedback(t->f.store, MF_TENANT_DEFAULT, t->id, t->f.arena, &o, err);
    t->said = (int64_t)o.feedback_count;
    return ok;
}

static bool read_state(struct subject *t, struct mf_error *err)
{
    const char *text = NULL;
    return mf_store_state(t->f.store, MF_TENANT_DEFAULT, "k", 0, t->f.arena, &text, &t->said, err);
}

static bool observed(struct subject *t, struct mf_error *err)
{
    struct mf_observed *rows = NULL;
    size_t n = 0;
    int64_t next = 0;
    bool ok =
        mf_store_observed(t->f.store, NULL, "thorax", 0, 10, t->f.arena, &rows, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static bool audit_add(struct subject *t, struct mf_error *err)
{
    const struct mf_audit_row row = {
        .tenant = MF_TENANT_DEFAULT, .actor = "key:a", .job = "", .event = "request"};
    return mf_store_audit_add(t->f.store, &row, err);
}

static void prepare_trail(struct subject *t)
{
    assert_true(audit_add(t, NULL));
}

static bool audit_read(struct subject *t, struct mf_error *err)
{
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    bool ok = mf_store_audit_read(t->f.store, 0, t->f.arena, &base, &rows, &n, err);
    t->said = (int64_t)n;
    return ok;
}

/* --- retention --- */

static void prepare_old_job(struct subject *t)
{
    prepare_feedback(t);
    t->s->settings.retention_s = -10;
}

static bool expire_jobs(struct subject *t, struct mf_error *err)
{
    int removed = 0;
    bool ok = mf_sql_expire_jobs(t->s, 10, &removed, err);
    t->said = removed;
    return ok;
}

static void prepare_old_study(struct subject *t)
{
    prepare_settled(t);
    t->s->settings.retention_s = -10;
}

static bool expire_studies(struct subject *t, struct mf_error *err)
{
    int removed = 0;
    bool ok = mf_sql_expire_studies(t->s, 10, &removed, err);
    t->said = removed;
    return ok;
}

static void prepare_old_trail(struct subject *t)
{
    prepare_trail(t);
    t->s->settings.audit_retention_s = -2 * 86400;
}

static bool expire_audit(struct subject *t, struct mf_error *err)
{
    return mf_sql_expire_audit(t->s, err);
}

/* said: what the verb answers when it is done. */
static const struct verb {
    const char *name;
    void (*prepare)(struct subject *t);
    bool (*call)(struct subject *t, struct mf_error *err);
    int64_t said;
} verbs[] = {
    {"submit", prepare_nothing, submit, 1},
    {"submit again", prepare_replay, submit, 1},
    {"submit to a full queue", prepare_full, submit, 2},
    {"submit until the queue is full", prepare_nearly_full, submit, 2},
    {"claim", prepare_eight, claim, 7},
    {"claim again", prepare_two_running, claim, 2},
    {"heartbeat", prepare_running, heartbeat, 0},
    {"finish", prepare_outcomes, finish, 0},
    {"release after a crash", prepare_running, release_crashed, 0},
    {"release after a crash beside others", prepare_two_running, release_crashed, 0},
    {"the worker is gone", prepare_two_running, worker_gone, 0},
    {"the worker is gone once too often", prepare_last_loss, worker_gone, 0},
    {"the worker of a cancelled job is gone", prepare_cancelled, worker_gone, 0},
    {"leases run out", prepare_lapsed, expire_leases, 0},
    {"announce", prepare_nothing, announce, 0},
    {"workers", prepare_worker, workers, 1},
    {"a queued job", prepare_queue, read_job, 0},
    {"a running job", prepare_running, read_job, 1},
    {"result", prepare_done, read_result, (int64_t)sizeof RESULT - 1 + 14},
    {"record", prepare_done, read_record, 3},
    {"list", prepare_queue, list_jobs, 1},
    {"cancel", prepare_queue, cancel, 1},
    {"cancel what runs", prepare_running, cancel, 1},
    {"purge", prepare_done, purge, 1},
    {"locators", prepare_done, locators_used, 1},
    {"counts", prepare_done, counts, 2},
    {"wait", prepare_done, wait_for_jobs, 1},
    {"changes", prepare_change, changes, 1},
    {"add instances", prepare_nothing, add_instances, 1},
    {"search studies", prepare_search_study, search_instances, 1},
    {"search series", prepare_search_series, search_instances, 1},
    {"search instances", prepare_search_instance, search_instances, 1},
    {"studies that are due", prepare_study, studies_due, 1},
    {"settle a study", prepare_study, settle_study, 1},
    {"hasten a study", prepare_waiting_study, hasten, 1},
    {"a study", prepare_settled, read_study, 3},
    {"deliveries that are due", prepare_done, deliveries_due, 2},
    {"settle a delivery", prepare_delivery, settle_delivery, 2},
    {"dead letters", prepare_dead_letter, dead_letters, 1},
    {"retry dead letters", prepare_dead_letter, retry_letters, 1},
    {"drop dead letters", prepare_dead_letter, drop_letters, 1},
    {"feedback", prepare_feedback, read_feedback, 1},
    {"give feedback", prepare_done, put_feedback, 1},
    {"state", prepare_feedback, read_state, 1},
    {"observed", prepare_feedback, observed, 1},
    {"add to the trail", prepare_nothing, audit_add, 0},
    {"read the trail", prepare_trail, audit_read, 1},
    {"old jobs", prepare_old_job, expire_jobs, 1},
    {"old studies", prepare_old_study, expire_studies, 1},
    {"the old trail", prepare_old_trail, expire_audit, 0},
};

/* A store with two destinations, prepared for the verb. */
static inline void subject_start(struct subject *t, const struct verb *verb)
{
    memset(t, 0, sizeof *t);
    fixture_start(&t->f);
    mf_store_free(t->f.store);
    t->f.settings.destinations = "http://a webhook:b";
    fixture_open(&t->f);
    t->s = (struct mf_sql_store *)t->f.store;
    verb->prepare(t);
}

#endif
