/* Each verb of the store once, on a store that has been prepared for it, and what it answers: for
 * tests that try what may happen to all of them. */
#ifndef MF_TESTS_SERVER_STORE_VERBS_H
#define MF_TESTS_SERVER_STORE_VERBS_H

#include "store_verbs_data.h"
#include "store_verbs_jobs.h"

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
