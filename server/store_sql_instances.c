/*
 * SQL store: adding instances, and the life of their studies. A study or series row is made by
 * its first instance, whose attributes it keeps; counts and the time at which a study is due change
 * with each instance, in its transaction.
 */
#include "server/store_sql.h"

#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

enum { VALUES = MF_ATTRIBUTE_COUNT + 16 };

static struct mf_sql_value of_text(const char *text)
{
    return (struct mf_sql_value){.type = 't', .bytes = text};
}

static struct mf_sql_value of_int(int64_t integer)
{
    return (struct mf_sql_value){.type = 'i', .integer = integer};
}

/* Puts the attributes of one level, in the order of the table, behind the first `n` values; returns
 * how many values there are then. */
static size_t add_level(struct mf_sql_value *values, size_t n, enum mf_level level,
                        const struct mf_instance *instance)
{
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        if (mf_attributes[i].level == level)
            values[n++] = of_text(instance->values[i]);
    return n;
}

/* Runs an INSERT that returns the number of its row. */
static bool insert(struct mf_sql_store *s, const char *sql, const struct mf_sql_value *values,
                   size_t n, int64_t *ret, struct mf_error *err)
{
    s->writes++;
    return mf_sql_int(s, s->engine->query(s, sql, true, values, n, err), ret, err);
}

/* --- adding --- */

/* 1: the SOP Instance UID is taken, *ret says by what; 0: it is free; −1: failed. */
static int find_instance(struct mf_sql_store *s, const char *tenant, const struct mf_stored *in,
                         struct mf_added *ret, struct mf_error *err)
{
    struct mf_sql_rows *q =
        mf_sql_query(s, err,
                     "SELECT locator, \"offset\", size, data_set, sha256 FROM instances"
                     " WHERE tenant = ? AND SOPInstanceUID = ?",
                     "tt", tenant, in->instance.values[MF_SOP_INSTANCE_UID]);
    int row = mf_sql_row(s, q, err);
    if (row != 1)
        return row;
    mf_sql_copy_text(q, 0, ret->locator, sizeof ret->locator);
    ret->offset = (uint64_t)mf_sql_int64(q, 1);
    ret->size = (uint64_t)mf_sql_int64(q, 2);
    ret->data_set = (uint64_t)mf_sql_int64(q, 3);
    unsigned char sha256[MF_SHA256_BYTES];
    mf_sql_copy_digest(q, 4, sha256);
    bool same = ret->size == in->size && memcmp(sha256, in->sha256, MF_SHA256_BYTES) == 0;
    ret->result = same ? MF_ADD_KNOWN : MF_ADD_DIFFERENT;
    mf_sql_done(q);
    return 1;
}

static bool same_text(const char *stored, const char *given)
{
    return strcmp(stored ? stored : "", given ? given : "") == 0;
}

/* The row of the study, made when there is none. *ret 0: the study is another patient's. */
static bool need_study(struct mf_sql_store *s, const char *tenant, const struct mf_stored *in,
                       int64_t *ret, struct mf_error *err)
{
    const char *const *values = in->instance.values;
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT study, PatientID, IssuerOfPatientID FROM studies"
                                         " WHERE tenant = ? AND StudyInstanceUID = ?",
                                         "tt", tenant, values[MF_STUDY_UID]);
    int row = mf_sql_row(s, q, err);
    if (row < 0)
        return false;
    if (row == 1) {
        bool same = same_text(mf_sql_text(q, 1), values[MF_PATIENT_ID]) &&
                    same_text(mf_sql_text(q, 2), values[MF_PATIENT_ID_ISSUER]);
        *ret = same ? mf_sql_int64(q, 0) : 0;
        mf_sql_done(q);
        return true;
    }
    struct mf_sql_value v[VALUES] = {of_text(tenant), of_int(mf_sql_now_ms(s))};
    return insert(s,
                  "INSERT INTO studies(tenant, first, StudyDate, StudyTime, AccessionNumber,"
                  " ReferringPhysicianName, TimezoneOffsetFromUTC, StudyDescription,"
                  " PatientName, PatientID, IssuerOfPatientID, PatientBirthDate, PatientSex,"
                  " StudyInstanceUID, StudyID)"
                  " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING study",
                  v, add_level(v, 2, MF_LEVEL_STUDY, &in->instance), ret, err);
}

static bool need_series(struct mf_sql_store *s, int64_t study, const struct mf_stored *in,
                        int64_t *ret, struct mf_error *err)
{
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT series FROM series WHERE study = ? AND SeriesInstanceUID = ?",
                     "it", study, in->instance.values[MF_SERIES_UID]);
    int row = mf_sql_row(s, q, err);
    if (row < 0)
        return false;
    if (row == 1) {
        *ret = mf_sql_int64(q, 0);
        mf_sql_done(q);
        return true;
    }
    struct mf_sql_value v[VALUES] = {of_int(study)};
    return insert(s,
                  "INSERT INTO series(study, Modality, SeriesDescription, BodyPartExamined,"
                  " SeriesInstanceUID, SeriesNumber, PerformedProcedureStepStartDate,"
                  " PerformedProcedureStepStartTime) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
                  " RETURNING series",
                  v, add_level(v, 1, MF_LEVEL_SERIES, &in->instance), ret, err) &&
           mf_sql_run(s, err, "UPDATE studies SET series = series + 1 WHERE study = ?", "i", study);
}

static bool insert_instance(struct mf_sql_store *s, const char *tenant, int64_t study,
                            int64_t series, const struct mf_stored *in, int64_t now,
                            struct mf_error *err)
{
    struct mf_sql_value v[VALUES] = {of_int(series),
                                     of_int(study),
                                     of_text(tenant),
                                     of_text(in->instance.transfer_syntax),
                                     of_int((int64_t)in->instance.data_set),
                                     of_text(in->locator),
                                     of_int((int64_t)in->offset),
                                     of_int((int64_t)in->size),
                                     {.type = 'b', .bytes = in->sha256, .len = MF_SHA256_BYTES},
                                     of_text(in->source),
                                     of_int(now)};
    int64_t row = 0;
    return insert(s,
                  "INSERT INTO instances(series, study, tenant, transfer_syntax, data_set,"
                  " locator, \"offset\", size, sha256, source, received, SOPClassUID,"
                  " SOPInstanceUID, InstanceNumber, NumberOfFrames, Rows, Columns,"
                  " BitsAllocated)"
                  " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                  " RETURNING instance",
                  v, add_level(v, 11, MF_LEVEL_INSTANCE, &in->instance), &row, err) &&
           mf_sql_run(s, err, "UPDATE series SET instances = instances + 1 WHERE series = ?", "i",
                      series);
}

static bool add_one(struct mf_sql_store *s, const char *tenant, int64_t quiet_ms,
                    const struct mf_stored *in, struct mf_added *ret, struct mf_error *err)
{
    int64_t study = 0, series = 0, now = mf_sql_now_ms(s);
    int found = find_instance(s, tenant, in, ret, err);
    if (found != 0)
        return found > 0;
    if (!need_study(s, tenant, in, &study, err))
        return false;
    if (study == 0) {
        ret->result = MF_ADD_OTHER_PATIENT;
        return true;
    }
    ret->result = MF_ADD_STORED;
    return need_series(s, study, in, &series, err) &&
           insert_instance(s, tenant, study, series, in, now, err) &&
           mf_sql_run(s, err,
                      "UPDATE studies SET instances = instances + 1, revision = revision + 1,"
                      " last = ?, due = CASE WHEN ? <> 0 THEN ? ELSE due END"
                      " WHERE study = ?",
                      "iiii", now, (int64_t)(quiet_ms >= 0), now + quiet_ms, study);
}

static bool add_step(struct mf_sql_store *s, const char *tenant, int64_t quiet_ms,
                     const struct mf_stored *in, size_t n, struct mf_added *ret,
                     struct mf_error *err)
{
    int64_t stored = 0;
    for (size_t i = 0; i < n; i++) {
        ret[i] = (struct mf_added){.result = MF_ADD_STORED};
        if (!add_one(s, tenant, quiet_ms, &in[i], &ret[i], err))
            return false;
        stored += ret[i].result == MF_ADD_STORED;
    }
    char detail[128];
    snprintf(detail, sizeof detail, "%lld of %zu by %.80s", (long long)stored, n, in[0].source);
    return stored == 0 || (mf_sql_count(s, "instances", stored, err) &&
                           mf_sql_audit(s, tenant, "", "instances.stored", detail, err));
}

bool mf_sql_instances_add(struct mf_store *store, const char *tenant, int64_t quiet_ms,
                          const struct mf_stored *instances, size_t n, struct mf_added *ret,
                          struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    if (n == 0 || n > MF_STORE_BATCH)
        return mf_error_set(err, MF_ERR_INTERNAL, "no instances are added, or more than %d",
                            MF_STORE_BATCH);
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, add_step(s, tenant, quiet_ms, instances, n, ret, err), err);
}

/* --- studies --- */

/* As of deliveries (store_sql_outbox.c). */
#define COLUMNS "tenant, StudyInstanceUID, revision"
#define DUE_NOW "SELECT " COLUMNS " FROM studies WHERE due > 0 AND due <= ? ORDER BY due LIMIT ?"
#define TAKE_NOW                                                                                   \
    "WITH fallen AS (SELECT study AS which, due AS since FROM studies WHERE due > 0"               \
    " AND due <= ? ORDER BY due LIMIT ?/*! FOR UPDATE SKIP LOCKED*/),"                             \
    " taken AS (UPDATE studies SET due = ? FROM fallen WHERE study = which"                        \
    " RETURNING " COLUMNS ", since) SELECT " COLUMNS " FROM taken ORDER BY since"

static bool due_step(struct mf_sql_store *s, struct mf_due_study *ret, size_t max,
                     size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    int64_t now = mf_sql_now_ms(s), wanted = (int64_t)max;
    s->writes += s->engine->shared;
    struct mf_sql_rows *q =
        s->engine->shared ? mf_sql_query(s, err, TAKE_NOW, "iii", now, wanted, now + MF_SQL_HELD_MS)
                          : mf_sql_query(s, err, DUE_NOW, "ii", now, wanted);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1) {
        mf_sql_copy_text(q, 0, ret[n].tenant, sizeof ret[n].tenant);
        mf_sql_copy_text(q, 1, ret[n].uid, sizeof ret[n].uid);
        ret[n++].revision = mf_sql_int64(q, 2);
    }
    *ret_count = n;
    return row >= 0 &&
           mf_sql_next_due(s,
                           mf_sql_query(s, err, "SELECT min(due) FROM studies WHERE due > ?", "i",
                                        n == max ? INT64_C(0) : now),
                           now, ret_next_ms, err);
}

bool mf_sql_studies_due(struct mf_store *store, struct mf_due_study *ret, size_t max,
                        size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, due_step(s, ret, max, ret_count, ret_next_ms, err), err);
}

static bool settle_step(struct mf_sql_store *s, const struct mf_due_study *study, const char *job,
                        const struct mf_error *problem, int64_t retry_ms, struct mf_error *err)
{
    const char *code = job || !problem ? NULL : mf_code_name(problem->code);
    int64_t due = retry_ms > 0 ? mf_sql_now_ms(s) + retry_ms : 0;
    if (!mf_sql_run(s, err,
                    "UPDATE studies SET due = ?, problem_code = ?, problem_detail = ?"
                    " WHERE tenant = ? AND StudyInstanceUID = ? AND revision = ?",
                    "itttti", due, code, code ? problem->msg : NULL, study->tenant, study->uid,
                    study->revision))
        return false;
    return !job || mf_sql_run(s, err,
                              "INSERT INTO study_jobs(study, ordinal, job)"
                              " SELECT s.study, count(j.job), ?1 FROM studies s"
                              " LEFT JOIN study_jobs j ON j.study = s.study"
                              " WHERE s.tenant = ?2 AND s.StudyInstanceUID = ?3"
                              " AND NOT EXISTS (SELECT 1 FROM study_jobs k"
                              "  WHERE k.study = s.study AND k.job = ?1) GROUP BY s.study",
                              "ttt", job, study->tenant, study->uid);
}

bool mf_sql_study_settle(struct mf_store *store, const struct mf_due_study *study, const char *job,
                         const struct mf_error *problem, int64_t retry_ms, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, settle_step(s, study, job, problem, retry_ms, err), err);
}

static bool hasten_step(struct mf_sql_store *s, const char *tenant, const char *uid,
                        struct mf_error *err)
{
    int64_t now = mf_sql_now_ms(s);
    return mf_sql_run(s, err,
                      "UPDATE studies SET due = ?1"
                      " WHERE tenant = ?2 AND StudyInstanceUID = ?3 AND due > ?1",
                      "itt", now, tenant, uid);
}

bool mf_sql_study_hasten(struct mf_store *store, const char *tenant, const char *uid,
                         struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, hasten_step(s, tenant, uid, err), err);
}

static bool load_jobs(struct mf_sql_store *s, int64_t study, struct mf_arena *arena,
                      struct mf_study_state *ret, struct mf_error *err)
{
    int64_t n = 0;
    if (!mf_sql_int(
            s, mf_sql_query(s, err, "SELECT count(*) FROM study_jobs WHERE study = ?", "i", study),
            &n, err))
        return false;
    char(*jobs)[MF_JOB_ID] = mf_arena_alloc(arena, (size_t)n + 1, sizeof *jobs, err);
    if (!jobs)
        return false;
    struct mf_sql_rows *q = mf_sql_query(
        s, err, "SELECT job FROM study_jobs WHERE study = ? ORDER BY ordinal DESC", "i", study);
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && ret->job_count < (size_t)n)
        mf_sql_copy_text(q, 0, jobs[ret->job_count++], MF_JOB_ID);
    ret->jobs = (const char(*)[MF_JOB_ID])jobs;
    return row == 0;
}

bool mf_sql_study(struct mf_store *store, const char *tenant, const char *uid,
                  struct mf_arena *arena, struct mf_study_state *ret, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    struct mf_study_state state = {.instances = 0};
    char code[64];
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT study, instances, revision, first, last, due,"
                                         " problem_code, problem_detail FROM studies"
                                         " WHERE tenant = ? AND StudyInstanceUID = ?",
                                         "tt", tenant, uid);
    int row = mf_sql_row(s, q, err);
    if (row == 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such study");
    if (row < 0)
        return false;
    int64_t study = mf_sql_int64(q, 0), now = mf_sql_now_ms(s);
    state.instances = mf_sql_int64(q, 1);
    state.revision = mf_sql_int64(q, 2);
    state.first_ms = mf_sql_int64(q, 3);
    state.last_ms = mf_sql_int64(q, 4);
    int64_t due = mf_sql_int64(q, 5);
    state.due_in_ms = due == 0 ? -1 : due > now ? due - now : 0;
    mf_sql_copy_text(q, 6, code, sizeof code);
    if (code[0]) {
        state.problem.code = mf_code_from_name(code);
        mf_sql_copy_text(q, 7, state.problem.msg, sizeof state.problem.msg);
    }
    mf_sql_done(q);
    if (!load_jobs(s, study, arena, &state, err))
        return false;
    *ret = state;
    return true;
}

/* --- retention --- */

static bool expire_step(struct mf_sql_store *s, int64_t before, int limit, int *ret_removed,
                        struct mf_error *err)
{
    for (*ret_removed = 0; *ret_removed < limit; ++*ret_removed) {
        int64_t study = 0;
        struct mf_error none = MF_ERROR_INIT;
        if (!mf_sql_int(s,
                        mf_sql_query(s, &none,
                                     "SELECT study FROM studies WHERE due = 0 AND last <= ?"
                                     " ORDER BY last LIMIT 1",
                                     "i", before),
                        &study, &none))
            return none.code == MF_OK || mf_error_set(err, none.code, "%s", none.msg);
        if (!mf_sql_run(s, err, "DELETE FROM instances WHERE study = ?", "i", study) ||
            !mf_sql_run(s, err, "DELETE FROM series WHERE study = ?", "i", study) ||
            !mf_sql_run(s, err, "DELETE FROM study_jobs WHERE study = ?", "i", study) ||
            !mf_sql_run(s, err, "DELETE FROM studies WHERE study = ?", "i", study))
            return false;
        s->purged = true;
    }
    return true;
}

bool mf_sql_expire_studies(struct mf_sql_store *s, int limit, int *ret_removed,
                           struct mf_error *err)
{
    int64_t before = mf_sql_now_ms(s) - s->settings.retention_s * 1000;
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, expire_step(s, before, limit, ret_removed, err), err);
}
