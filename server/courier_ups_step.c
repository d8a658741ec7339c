/*
 * Courier: the steps of a work item: claimed, a job, progress, objects stored, completed; or
 * canceled with the reason. Each may be repeated after a crash or a lost answer: a job has one key
 * for each work item, objects have the same UIDs whenever they are made, and what the manager has
 * taken already is found by asking for the state.
 */
#include "server/courier_ups_private.h"

#include "server/dicom_address.h"
#include "server/store_audit.h"

#include "core/clock.h"
#include "core/log.h"

#include <stdlib.h>
#include <string.h>

enum { TELL_PERCENT = 5, TELL_S = 60, DONE_PERCENT = 95 };

/* --- what is written down --- */

static enum mf_ups_step enter(struct mf_courier_ups *u, struct mf_ups_entry *e,
                              enum mf_ups_phase phase, struct mf_error *err)
{
    e->phase = phase;
    return mf_ups_journal_save(u->config->data.directory, e, err) ? MF_UPS_STEP_ON
                                                                  : MF_UPS_STEP_FAILED;
}

/* A row of the audit trail: which work item, and what became of it. */
static void write_audit(const struct mf_courier_ups *u, const struct mf_ups_entry *e,
                        const char *event)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_audit_row row = {.tenant = u->config->ups.tenant,
                                     .actor = "ups",
                                     .job = e->job,
                                     .event = event,
                                     .detail = e->item};
    if (!mf_store_audit_add(u->tools.store, &row, &err))
        mf_log(MF_LOG_WARN, "ups.audit_failed", MF_LOG_S("reason", err.msg));
}

static enum mf_ups_step end(struct mf_courier_ups *u, const struct mf_ups_entry *e,
                            const char *event, uint64_t *counter)
{
    mf_log(MF_LOG_INFO, event, MF_LOG_S("job", e->job), MF_LOG_S("reason", e->problem.msg));
    MF_GAUGE_ADD(*counter, 1);
    write_audit(u, e, event);
    return MF_UPS_STEP_OVER;
}

/* The work item has ended for us, and not by us: nobody needs its job any more. */
static enum mf_ups_step withdraw(struct mf_courier_ups *u, const struct mf_ups_entry *e)
{
    struct mf_job job;
    struct mf_error over = MF_ERROR_INIT; /* the job may have ended */
    bool cancelled = e->phase == MF_UPS_RUNNING &&
                     mf_store_cancel(u->tools.store, u->config->ups.tenant, e->job, &job, &over);
    mf_log(MF_LOG_DEBUG, "ups.job_cancelled", MF_LOG_I("cancelled", cancelled));
    return end(u, e, "ups.withdrawn", &u->gauges->withdrawn);
}

static bool may_pass(enum mf_code code)
{
    return mf_collection_may_pass(code) || code == MF_ERR_TIMEOUT || code == MF_ERR_BUSY;
}

/* A failure of ours: tried again, unless that cannot help or has been done for long enough. */
static enum mf_ups_step fail(struct mf_courier_ups *u, struct mf_ups_entry *e, bool again,
                             const struct mf_error *why, struct mf_error *err)
{
    int64_t held_ms = mf_clock_wall_ms() - e->claimed_ms;
    if (again && held_ms < u->config->ups.give_up_s * 1000) {
        mf_error_set(err, why->code, "%s", why->msg);
        return MF_UPS_STEP_FAILED;
    }
    e->problem = *why;
    return enter(u, e, MF_UPS_FAILED, err);
}

/* --- claiming --- */

/* Whether a work item that cannot be claimed is ours already: only its owner may update it. */
static enum mf_ups_step prove(struct mf_courier_ups *u, struct mf_ups_entry *e,
                              struct mf_error *err)
{
    struct mf_error refused = MF_ERROR_INIT;
    json_t *progress = mf_ups_progress(e->transaction, 0, "claimed");
    if (mf_ups_update(u->config, e->item, e->transaction, progress, &refused))
        return enter(u, e, MF_UPS_CLAIMED, err);
    if (refused.code == MF_ERR_CONFLICT || refused.code == MF_ERR_NOT_FOUND)
        return end(u, e, "ups.lost", &u->gauges->lost);
    mf_error_set(err, refused.code, "%s", refused.msg);
    return MF_UPS_STEP_FAILED;
}

static enum mf_ups_step claim(struct mf_courier_ups *u, struct mf_ups_entry *e,
                              struct mf_error *err)
{
    struct mf_error refused = MF_ERROR_INIT;
    bool ours =
        mf_ups_change_state(u->config, e->item, e->transaction, MF_UPS_IN_PROGRESS, &refused);
    if (!ours && refused.code == MF_ERR_CONFLICT)
        return prove(u, e, err);
    if (!ours && refused.code == MF_ERR_NOT_FOUND)
        return end(u, e, "ups.lost", &u->gauges->lost);
    if (!ours) {
        mf_error_set(err, refused.code, "%s", refused.msg);
        return MF_UPS_STEP_FAILED;
    }
    mf_log(MF_LOG_INFO, "ups.claimed");
    MF_GAUGE_ADD(u->gauges->claimed, 1);
    write_audit(u, e, "ups.claimed");
    return enter(u, e, MF_UPS_CLAIMED, err);
}

/* --- the job --- */

static enum mf_ups_step make_job(struct mf_courier_ups *u, struct mf_ups_entry *e,
                                 struct mf_error *err)
{
    struct mf_ups_item item;
    struct mf_error problem = MF_ERROR_INIT;
    if (!mf_ups_retrieve(u->config, e->item, &item, &problem)) {
        if (problem.code == MF_ERR_NOT_FOUND)
            return withdraw(u, e);
        mf_error_set(err, problem.code, "%s", problem.msg);
        return MF_UPS_STEP_FAILED;
    }
    if (item.state != MF_UPS_IN_PROGRESS)
        return withdraw(u, e);
    memcpy(item.uid, e->item, sizeof item.uid);
    if (mf_courier_ups_job(u, &item, e->job, &problem))
        return enter(u, e, MF_UPS_RUNNING, err);
    return fail(u, e, may_pass(problem.code), &problem, err);
}

/* What the manager answers to an update that is not the last. */
static enum mf_ups_step judge_update(struct mf_courier_ups *u, const struct mf_ups_entry *e,
                                     const struct mf_error *refused, struct mf_error *err)
{
    if (refused->code == MF_ERR_CONFLICT || refused->code == MF_ERR_NOT_FOUND)
        return withdraw(u, e);
    mf_error_set(err, refused->code, "%s", refused->msg);
    return MF_UPS_STEP_FAILED;
}

/* Tells how far the job is, when that has changed, and now and then that it is still alive. */
static enum mf_ups_step tell(struct mf_courier_ups *u, struct mf_ups_entry *e,
                             const struct mf_job *job, struct mf_error *err)
{
    uint64_t now = mf_clock_monotonic_ns();
    int percent = (int)(job->progress * DONE_PERCENT);
    struct mf_error refused = MF_ERROR_INIT;
    bool known = e->told_ns && percent < e->told + TELL_PERCENT &&
                 now - e->told_ns < TELL_S * UINT64_C(1000000000);
    if (known)
        return MF_UPS_STEP_WAIT;
    json_t *progress = mf_ups_progress(e->transaction, percent, mf_job_state_name(job->state));
    if (!mf_ups_update(u->config, e->item, e->transaction, progress, &refused))
        return judge_update(u, e, &refused, err);
    e->told = percent;
    e->told_ns = now;
    return MF_UPS_STEP_WAIT;
}

/* --- the end --- */

/* Sends the last update and the last state; what has been taken already counts. STEP_ON: it has
 * ended so. */
static enum mf_ups_step finish(struct mf_courier_ups *u, const struct mf_ups_entry *e,
                               json_t *update, enum mf_ups_state state, struct mf_error *err)
{
    struct mf_ups_item item;
    struct mf_error refused = MF_ERROR_INIT, lost = MF_ERROR_INIT;
    if (mf_ups_update(u->config, e->item, e->transaction, update, &refused) &&
        mf_ups_change_state(u->config, e->item, e->transaction, state, &refused))
        return MF_UPS_STEP_ON;
    if (refused.code != MF_ERR_CONFLICT && refused.code != MF_ERR_NOT_FOUND) {
        mf_error_set(err, refused.code, "%s", refused.msg);
        return MF_UPS_STEP_FAILED;
    }
    if (refused.code == MF_ERR_CONFLICT && mf_ups_retrieve(u->config, e->item, &item, &lost)) {
        if (item.state == state) /* an answer was lost */
            return MF_UPS_STEP_ON;
        if (item.state ==
            MF_UPS_IN_PROGRESS) { /* it wants something else: nobody gains by a loop */
            mf_log(MF_LOG_ERROR, "ups.refused", MF_LOG_S("job", e->job));
            return withdraw(u, e);
        }
    }
    if (lost.code && lost.code != MF_ERR_NOT_FOUND) {
        mf_error_set(err, lost.code, "%s", lost.msg);
        return MF_UPS_STEP_FAILED;
    }
    return withdraw(u, e);
}

static enum mf_ups_step cancel(struct mf_courier_ups *u, const struct mf_ups_entry *e,
                               struct mf_error *err)
{
    json_t *why = mf_ups_discontinue(e->transaction, &e->problem, mf_clock_wall_ms());
    enum mf_ups_step step = finish(u, e, why, MF_UPS_CANCELED, err);
    return step == MF_UPS_STEP_ON ? end(u, e, "ups.canceled", &u->gauges->canceled) : step;
}

/* As the work item was scheduled; where it does not say, a code of PS3.16 CID 9231. */
static struct mf_ups_code performed_work(const struct mf_ups_item *item)
{
    return item->work.count ? item->work.list[0]
                            : (struct mf_ups_code){"110004", "DCM", "Computer Aided Detection"};
}

static struct mf_ups_code performed_station(const struct mf_config *config)
{
    struct mf_ups_code station;
    if (config->ups.stations.count &&
        mf_ups_code_parse(config->ups.stations.items[0], &station, NULL))
        return station;
    station = (struct mf_ups_code){"", "99MEDFUSION", "MedFusion"};
    snprintf(station.value, sizeof station.value, "%s", config->dimse.ae_title);
    return station;
}

/* The objects are stored: says so. */
static enum mf_ups_step complete(struct mf_courier_ups *u, const struct mf_ups_entry *e,
                                 const struct mf_ups_item *item, const struct mf_job *job,
                                 const char *address, const struct mf_courier_object *sent,
                                 size_t n, struct mf_error *err)
{
    struct mf_dicom_address peer;
    bool dicom = mf_dicom_address_parse(address, &peer);
    MF_AUTO(mf_mem) struct mf_ups_object *objects = calloc(n + 1, sizeof *objects);
    for (size_t i = 0; objects && i < n; i++)
        objects[i] = (struct mf_ups_object){sent[i].study, sent[i].series, sent[i].sop_class,
                                            sent[i].sop_instance};
    const struct mf_ups_performed performed = {.station = performed_station(u->config),
                                               .work = performed_work(item),
                                               .begin_ms = job->started_ms,
                                               .end_ms = mf_clock_wall_ms(),
                                               .address = address,
                                               .ae = dicom ? peer.ae : NULL,
                                               .objects = objects,
                                               .object_count = objects ? n : 0};
    if (!objects) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a work item");
        return MF_UPS_STEP_FAILED;
    }
    json_t *update = mf_ups_perform(e->transaction, &performed);
    enum mf_ups_step step = finish(u, e, update, MF_UPS_COMPLETED, err);
    return step == MF_UPS_STEP_ON ? end(u, e, "ups.completed", &u->gauges->completed) : step;
}

static enum mf_ups_step deliver(struct mf_courier_ups *u, struct mf_ups_entry *e,
                                const struct mf_job *job, struct mf_error *err)
{
    struct mf_ups_item item;
    char address[MF_UPS_URL];
    size_t n = 0;
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_mem) struct mf_courier_object *sent = calloc(MF_COURIER_OBJECTS, sizeof *sent);
    if (!sent) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a work item");
        return MF_UPS_STEP_FAILED;
    }
    if (!mf_ups_retrieve(u->config, e->item, &item, &problem))
        return judge_update(u, e, &problem, err);
    mf_ups_output(u->config, &item, address);
    if (item.state != MF_UPS_COMPLETED &&
        !mf_courier_send(&u->outbox, u->config->ups.tenant, e->job, address, sent, &n, &problem)) {
        mf_error_prefix(&problem, "storing the results");
        return fail(u, e, mf_courier_may_pass(problem.code), &problem, err);
    }
    return complete(u, e, &item, job, address, sent, n, err);
}

static enum mf_ups_step follow(struct mf_courier_ups *u, struct mf_ups_entry *e,
                               struct mf_error *err)
{
    struct mf_job job;
    struct mf_error problem = MF_ERROR_INIT;
    if (!mf_store_job(u->tools.store, u->config->ups.tenant, e->job, &job, &problem))
        return fail(u, e, problem.code != MF_ERR_NOT_FOUND, &problem, err);
    switch (job.state) {
    case MF_JOB_SUCCEEDED:
        return deliver(u, e, &job, err);
    case MF_JOB_FAILED:
        return fail(u, e, false, &job.problem, err);
    case MF_JOB_CANCELLED:
        mf_error_set(&problem, MF_ERR_CONFLICT, "the job was cancelled");
        return fail(u, e, false, &problem, err);
    default:
        return tell(u, e, &job, err);
    }
}

enum mf_ups_step mf_courier_ups_step(struct mf_courier_ups *u, struct mf_ups_entry *e,
                                     struct mf_error *err)
{
    switch (e->phase) {
    case MF_UPS_CLAIMING:
        return claim(u, e, err);
    case MF_UPS_CLAIMED:
        return make_job(u, e, err);
    case MF_UPS_RUNNING:
        return follow(u, e, err);
    case MF_UPS_FAILED:
        break;
    }
    return cancel(u, e, err);
}
