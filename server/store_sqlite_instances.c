/*
 * SQLite store: adding instances, and the life of their studies. A study or series row is made by
 * its first instance, whose attributes it keeps; counts and the time at which a study is due change
 * with each instance, in its transaction.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

#include <string.h>

const char mf_sqlite_instances_schema[] =
    "CREATE TABLE IF NOT EXISTS studies("
    " study INTEGER PRIMARY KEY, tenant TEXT NOT NULL, StudyDate TEXT, StudyTime TEXT,"
    " AccessionNumber TEXT, ReferringPhysicianName TEXT, TimezoneOffsetFromUTC TEXT,"
    " StudyDescription TEXT, PatientName TEXT, PatientID TEXT, IssuerOfPatientID TEXT,"
    " PatientBirthDate TEXT, PatientSex TEXT, StudyInstanceUID TEXT NOT NULL, StudyID TEXT,"
    " series INTEGER NOT NULL DEFAULT 0, instances INTEGER NOT NULL DEFAULT 0,"
    " revision INTEGER NOT NULL DEFAULT 0, first INTEGER NOT NULL, last INTEGER NOT NULL DEFAULT 0,"
    " due INTEGER NOT NULL DEFAULT 0, problem_code TEXT, problem_detail TEXT,"
    " UNIQUE(tenant, StudyInstanceUID));"
    "CREATE INDEX IF NOT EXISTS studies_due ON studies(due) WHERE due > 0;"
    "CREATE INDEX IF NOT EXISTS studies_patient ON studies(tenant, PatientID);"
    "CREATE INDEX IF NOT EXISTS studies_date ON studies(tenant, StudyDate);"
    "CREATE INDEX IF NOT EXISTS studies_accession ON studies(tenant, AccessionNumber);"
    "CREATE TABLE IF NOT EXISTS series("
    " series INTEGER PRIMARY KEY, study INTEGER NOT NULL, Modality TEXT, SeriesDescription TEXT,"
    " BodyPartExamined TEXT, SeriesInstanceUID TEXT NOT NULL, SeriesNumber TEXT,"
    " PerformedProcedureStepStartDate TEXT, PerformedProcedureStepStartTime TEXT,"
    " instances INTEGER NOT NULL DEFAULT 0, UNIQUE(study, SeriesInstanceUID));"
    "CREATE TABLE IF NOT EXISTS instances("
    " instance INTEGER PRIMARY KEY, series INTEGER NOT NULL, study INTEGER NOT NULL,"
    " tenant TEXT NOT NULL, SOPClassUID TEXT NOT NULL, SOPInstanceUID TEXT NOT NULL,"
    " InstanceNumber TEXT, NumberOfFrames TEXT, Rows TEXT, Columns TEXT, BitsAllocated TEXT,"
    " transfer_syntax TEXT NOT NULL, data_set INTEGER NOT NULL, locator TEXT NOT NULL,"
    " offset INTEGER NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL, source TEXT NOT NULL,"
    " received INTEGER NOT NULL, UNIQUE(tenant, SOPInstanceUID));"
    "CREATE INDEX IF NOT EXISTS instances_series ON instances(series);"
    "CREATE INDEX IF NOT EXISTS instances_study ON instances(study, received);"
    "CREATE INDEX IF NOT EXISTS instances_locator ON instances(locator);"
    "CREATE TABLE IF NOT EXISTS study_jobs("
    " study INTEGER NOT NULL, ordinal INTEGER NOT NULL, job TEXT NOT NULL,"
    " PRIMARY KEY(study, ordinal)) WITHOUT ROWID;";

static struct mf_sqlite_store *self(struct mf_store *store)
{
    return (struct mf_sqlite_store *)store;
}

/* Binds the attributes of one level, in the order of the table, from parameter `at` on. */
static bool bind_level(struct mf_sqlite_store *s, sqlite3_stmt *q, int at, enum mf_level level,
                       const struct mf_instance *instance, struct mf_error *err)
{
    for (int i = 0; q && i < MF_ATTRIBUTE_COUNT; i++) {
        if (mf_attributes[i].level != level)
            continue;
        if (sqlite3_bind_text(q, at++, instance->values[i], -1, SQLITE_STATIC) != SQLITE_OK)
            return mf_sqlite_fail(s, err);
    }
    return q != NULL;
}

/* --- adding --- */

/* 1: the SOP Instance UID is taken, *ret says by what; 0: it is free; −1: failed. */
static int find_instance(struct mf_sqlite_store *s, const char *tenant, const struct mf_stored *in,
                         struct mf_added *ret, struct mf_error *err)
{
    sqlite3_stmt *q =
        mf_sqlite_query(s, err,
                        "SELECT locator, offset, size, data_set, sha256 FROM instances"
                        " WHERE tenant = ? AND SOPInstanceUID = ?",
                        "tt", tenant, in->instance.values[MF_SOP_INSTANCE_UID]);
    int row = mf_sqlite_row(s, q, err);
    if (row != 1)
        return row;
    mf_sqlite_text(q, 0, ret->locator, sizeof ret->locator);
    ret->offset = (uint64_t)sqlite3_column_int64(q, 1);
    ret->size = (uint64_t)sqlite3_column_int64(q, 2);
    ret->data_set = (uint64_t)sqlite3_column_int64(q, 3);
    bool same = ret->size == in->size && sqlite3_column_bytes(q, 4) == MF_SHA256_BYTES &&
                memcmp(sqlite3_column_blob(q, 4), in->sha256, MF_SHA256_BYTES) == 0;
    ret->result = same ? MF_ADD_KNOWN : MF_ADD_DIFFERENT;
    mf_sqlite_done(q);
    return 1;
}

static bool same_text(const unsigned char *stored, const char *given)
{
    return strcmp(stored ? (const char *)stored : "", given ? given : "") == 0;
}

/* The row of the study, made when there is none. *ret 0: the study is another patient's. */
static bool need_study(struct mf_sqlite_store *s, const char *tenant, const struct mf_stored *in,
                       int64_t *ret, struct mf_error *err)
{
    const char *const *values = in->instance.values;
    sqlite3_stmt *q = mf_sqlite_query(s, err,
                                      "SELECT study, PatientID, IssuerOfPatientID FROM studies"
                                      " WHERE tenant = ? AND StudyInstanceUID = ?",
                                      "tt", tenant, values[MF_STUDY_UID]);
    int row = mf_sqlite_row(s, q, err);
    if (row < 0)
        return false;
    if (row == 1) {
        bool same = same_text(sqlite3_column_text(q, 1), values[MF_PATIENT_ID]) &&
                    same_text(sqlite3_column_text(q, 2), values[MF_PATIENT_ID_ISSUER]);
        *ret = same ? sqlite3_column_int64(q, 0) : 0;
        mf_sqlite_done(q);
        return true;
    }
    q = mf_sqlite_query(s, err,
                        "INSERT INTO studies(tenant, first, StudyDate, StudyTime, AccessionNumber,"
                        " ReferringPhysicianName, TimezoneOffsetFromUTC, StudyDescription,"
                        " PatientName, PatientID, IssuerOfPatientID, PatientBirthDate, PatientSex,"
                        " StudyInstanceUID, StudyID)"
                        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        "ti", tenant, mf_clock_wall_ms());
    if (!bind_level(s, q, 3, MF_LEVEL_STUDY, &in->instance, err) || mf_sqlite_row(s, q, err) != 0)
        return false;
    *ret = sqlite3_last_insert_rowid(s->db);
    return true;
}

static bool need_series(struct mf_sqlite_store *s, int64_t study, const struct mf_stored *in,
                        int64_t *ret, struct mf_error *err)
{
    sqlite3_stmt *q = mf_sqlite_query(
        s, err, "SELECT series FROM series WHERE study = ? AND SeriesInstanceUID = ?", "it", study,
        in->instance.values[MF_SERIES_UID]);
    int row = mf_sqlite_row(s, q, err);
    if (row < 0)
        return false;
    if (row == 1) {
        *ret = sqlite3_column_int64(q, 0);
        mf_sqlite_done(q);
        return true;
    }
    q = mf_sqlite_query(s, err,
                        "INSERT INTO series(study, Modality, SeriesDescription, BodyPartExamined,"
                        " SeriesInstanceUID, SeriesNumber, PerformedProcedureStepStartDate,"
                        " PerformedProcedureStepStartTime) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                        "i", study);
    if (!bind_level(s, q, 2, MF_LEVEL_SERIES, &in->instance, err) || mf_sqlite_row(s, q, err) != 0)
        return false;
    *ret = sqlite3_last_insert_rowid(s->db);
    return MF_SQLITE_RUN(s, err, "UPDATE studies SET series = series + 1 WHERE study = ?", "i",
                         study);
}

static bool insert_instance(struct mf_sqlite_store *s, const char *tenant, int64_t study,
                            int64_t series, const struct mf_stored *in, int64_t now,
                            struct mf_error *err)
{
    sqlite3_stmt *q =
        mf_sqlite_query(s, err,
                        "INSERT INTO instances(series, study, tenant, transfer_syntax, data_set,"
                        " locator, offset, size, sha256, source, received, SOPClassUID,"
                        " SOPInstanceUID, InstanceNumber, NumberOfFrames, Rows, Columns,"
                        " BitsAllocated)"
                        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        "iittitiibti", series, study, tenant, in->instance.transfer_syntax,
                        (int64_t)in->instance.data_set, in->locator, (int64_t)in->offset,
                        (int64_t)in->size, in->sha256, (size_t)MF_SHA256_BYTES, in->source, now);
    return bind_level(s, q, 12, MF_LEVEL_INSTANCE, &in->instance, err) &&
           mf_sqlite_row(s, q, err) == 0 &&
           MF_SQLITE_RUN(s, err, "UPDATE series SET instances = instances + 1 WHERE series = ?",
                         "i", series);
}

static bool add_one(struct mf_sqlite_store *s, const char *tenant, int64_t quiet_ms,
                    const struct mf_stored *in, struct mf_added *ret, struct mf_error *err)
{
    int64_t study = 0, series = 0, now = mf_clock_wall_ms();
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
           MF_SQLITE_RUN(s, err,
                         "UPDATE studies SET instances = instances + 1, revision = revision + 1,"
                         " last = ?, due = ? WHERE study = ?",
                         "iii", now, now + quiet_ms, study);
}

static bool add_step(struct mf_sqlite_store *s, const char *tenant, int64_t quiet_ms,
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
    return stored == 0 || (mf_sqlite_count(s, "instances", stored, err) &&
                           mf_sqlite_audit(s, tenant, "", "instances.stored", detail, err));
}

bool mf_sqlite_instances_add(struct mf_store *store, const char *tenant, int64_t quiet_ms,
                             const struct mf_stored *instances, size_t n, struct mf_added *ret,
                             struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    if (n == 0 || n > MF_STORE_BATCH)
        return mf_error_set(err, MF_ERR_INTERNAL, "no instances are added, or more than %d",
                            MF_STORE_BATCH);
    return mf_sqlite_savepoint(s, err) &&
           mf_sqlite_end(s, add_step(s, tenant, quiet_ms, instances, n, ret, err), err);
}

/* --- studies --- */

bool mf_sqlite_studies_due(struct mf_store *store, struct mf_due_study *ret, size_t max,
                           size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    int64_t now = mf_clock_wall_ms();
    sqlite3_stmt *q = mf_sqlite_query(s, err,
                                      "SELECT tenant, StudyInstanceUID, revision, due FROM studies"
                                      " WHERE due > 0 ORDER BY due LIMIT ?",
                                      "i", (int64_t)max + 1);
    size_t n = 0;
    int row;
    *ret_next_ms = -1;
    while ((row = mf_sqlite_row(s, q, err)) == 1) {
        int64_t due = sqlite3_column_int64(q, 3);
        if (due > now || n == max) {
            *ret_next_ms = due > now ? due - now : 0;
            mf_sqlite_done(q);
            row = 0;
            break;
        }
        mf_sqlite_text(q, 0, ret[n].tenant, sizeof ret[n].tenant);
        mf_sqlite_text(q, 1, ret[n].uid, sizeof ret[n].uid);
        ret[n++].revision = sqlite3_column_int64(q, 2);
    }
    *ret_count = n;
    return row == 0;
}

static bool settle_step(struct mf_sqlite_store *s, const struct mf_due_study *study,
                        const char *job, const struct mf_error *problem, int64_t retry_ms,
                        struct mf_error *err)
{
    const char *code = job || !problem ? NULL : mf_code_name(problem->code);
    int64_t due = retry_ms > 0 ? mf_clock_wall_ms() + retry_ms : 0;
    if (!MF_SQLITE_RUN(s, err,
                       "UPDATE studies SET due = ?, problem_code = ?, problem_detail = ?"
                       " WHERE tenant = ? AND StudyInstanceUID = ? AND revision = ?",
                       "itttti", due, code, code ? problem->msg : NULL, study->tenant, study->uid,
                       study->revision))
        return false;
    return !job || MF_SQLITE_RUN(s, err,
                                 "INSERT INTO study_jobs(study, ordinal, job)"
                                 " SELECT s.study, count(j.job), ?1 FROM studies s"
                                 " LEFT JOIN study_jobs j ON j.study = s.study"
                                 " WHERE s.tenant = ?2 AND s.StudyInstanceUID = ?3"
                                 " AND NOT EXISTS (SELECT 1 FROM study_jobs k"
                                 "  WHERE k.study = s.study AND k.job = ?1) GROUP BY s.study",
                                 "ttt", job, study->tenant, study->uid);
}

bool mf_sqlite_study_settle(struct mf_store *store, const struct mf_due_study *study,
                            const char *job, const struct mf_error *problem, int64_t retry_ms,
                            struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    return mf_sqlite_savepoint(s, err) &&
           mf_sqlite_end(s, settle_step(s, study, job, problem, retry_ms, err), err);
}

static bool hasten_step(struct mf_sqlite_store *s, const char *tenant, const char *uid,
                        struct mf_error *err)
{
    int64_t now = mf_clock_wall_ms();
    return MF_SQLITE_RUN(s, err,
                         "UPDATE studies SET due = ?1"
                         " WHERE tenant = ?2 AND StudyInstanceUID = ?3 AND due > ?1",
                         "itt", now, tenant, uid);
}

bool mf_sqlite_study_hasten(struct mf_store *store, const char *tenant, const char *uid,
                            struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    return mf_sqlite_savepoint(s, err) && mf_sqlite_end(s, hasten_step(s, tenant, uid, err), err);
}

static bool load_jobs(struct mf_sqlite_store *s, int64_t study, struct mf_arena *arena,
                      struct mf_study_state *ret, struct mf_error *err)
{
    int64_t n = 0;
    if (!mf_sqlite_int(
            s,
            mf_sqlite_query(s, err, "SELECT count(*) FROM study_jobs WHERE study = ?", "i", study),
            &n, err))
        return false;
    char(*jobs)[MF_JOB_ID] = mf_arena_alloc(arena, (size_t)n + 1, sizeof *jobs, err);
    if (!jobs)
        return false;
    sqlite3_stmt *q = mf_sqlite_query(
        s, err, "SELECT job FROM study_jobs WHERE study = ? ORDER BY ordinal DESC", "i", study);
    int row;
    while ((row = mf_sqlite_row(s, q, err)) == 1 && ret->job_count < (size_t)n)
        mf_sqlite_text(q, 0, jobs[ret->job_count++], MF_JOB_ID);
    ret->jobs = (const char(*)[MF_JOB_ID])jobs;
    return row == 0;
}

bool mf_sqlite_study(struct mf_store *store, const char *tenant, const char *uid,
                     struct mf_arena *arena, struct mf_study_state *ret, struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    struct mf_study_state state = {.instances = 0};
    char code[64];
    sqlite3_stmt *q = mf_sqlite_query(s, err,
                                      "SELECT study, instances, revision, first, last, due,"
                                      " problem_code, problem_detail FROM studies"
                                      " WHERE tenant = ? AND StudyInstanceUID = ?",
                                      "tt", tenant, uid);
    int row = mf_sqlite_row(s, q, err);
    if (row == 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such study");
    if (row < 0)
        return false;
    int64_t study = sqlite3_column_int64(q, 0), now = mf_clock_wall_ms();
    state.instances = sqlite3_column_int64(q, 1);
    state.revision = sqlite3_column_int64(q, 2);
    state.first_ms = sqlite3_column_int64(q, 3);
    state.last_ms = sqlite3_column_int64(q, 4);
    int64_t due = sqlite3_column_int64(q, 5);
    state.due_in_ms = due == 0 ? -1 : due > now ? due - now : 0;
    mf_sqlite_text(q, 6, code, sizeof code);
    if (code[0]) {
        state.problem.code = mf_code_from_name(code);
        mf_sqlite_text(q, 7, state.problem.msg, sizeof state.problem.msg);
    }
    mf_sqlite_done(q);
    if (!load_jobs(s, study, arena, &state, err))
        return false;
    *ret = state;
    return true;
}

/* --- retention --- */

static bool expire_step(struct mf_sqlite_store *s, int64_t before, int limit, int *ret_removed,
                        struct mf_error *err)
{
    for (*ret_removed = 0; *ret_removed < limit; ++*ret_removed) {
        int64_t study = 0;
        struct mf_error none = MF_ERROR_INIT;
        if (!mf_sqlite_int(s,
                           mf_sqlite_query(s, &none,
                                           "SELECT study FROM studies WHERE due = 0 AND last <= ?"
                                           " ORDER BY last LIMIT 1",
                                           "i", before),
                           &study, &none))
            return none.code == MF_OK || mf_error_set(err, none.code, "%s", none.msg);
        if (!MF_SQLITE_RUN(s, err, "DELETE FROM instances WHERE study = ?", "i", study) ||
            !MF_SQLITE_RUN(s, err, "DELETE FROM series WHERE study = ?", "i", study) ||
            !MF_SQLITE_RUN(s, err, "DELETE FROM study_jobs WHERE study = ?", "i", study) ||
            !MF_SQLITE_RUN(s, err, "DELETE FROM studies WHERE study = ?", "i", study))
            return false;
        s->purged = true;
    }
    return true;
}

bool mf_sqlite_expire_studies(struct mf_sqlite_store *s, int limit, int *ret_removed,
                              struct mf_error *err)
{
    int64_t before = mf_clock_wall_ms() - s->settings.retention_s * 1000;
    return mf_sqlite_savepoint(s, err) &&
           mf_sqlite_end(s, expire_step(s, before, limit, ret_removed, err), err);
}
