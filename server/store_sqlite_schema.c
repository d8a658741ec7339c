/*
 * SQLite engine: the schema. Leases, progress, the list of workers and the changes that are told
 * live in TEMP tables in memory: they change every few seconds and mean nothing after a restart.
 */
#include "server/store_sqlite.h"

/* Columns of tables that earlier programs made without them. */
static const struct {
    const char *table, *column, *sql;
} ADDED[] = {
    {"jobs", "turn", "ALTER TABLE jobs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0"},
    {"outbox", "failed",
     "ALTER TABLE outbox ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;"
     "UPDATE outbox SET failed = CAST(strftime('%s', 'now') AS INTEGER) * 1000"
     " WHERE due = 0 AND problem IS NOT NULL"},
};

bool mf_sqlite_upgrade(struct mf_sqlite_store *s, struct mf_error *err)
{
    for (size_t i = 0; i < sizeof ADDED / sizeof *ADDED; i++) {
        int64_t lacks = 0;
        if (!mf_sql_int(&s->sql,
                        mf_sql_query(&s->sql, err,
                                     "SELECT count(*) > 0 AND sum(name = ?2) = 0"
                                     " FROM pragma_table_info(?1)",
                                     "tt", ADDED[i].table, ADDED[i].column),
                        &lacks, err) ||
            (lacks && !mf_sqlite_execute(s, ADDED[i].sql, err)))
            return false;
    }
    return true;
}

/* Does nothing where it is there. */
const char mf_sqlite_schema[] =
    "CREATE TABLE IF NOT EXISTS jobs("
    " seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,"
    " state INTEGER NOT NULL, priority INTEGER NOT NULL, model TEXT, options TEXT NOT NULL,"
    " created INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,"
    " finished INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,"
    " fence INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,"
    " losses INTEGER NOT NULL DEFAULT 0, solo INTEGER NOT NULL DEFAULT 0,"
    " cancel INTEGER NOT NULL DEFAULT 0, purged INTEGER NOT NULL DEFAULT 0,"
    " worker TEXT, problem_code TEXT, problem_detail TEXT, turn INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX IF NOT EXISTS jobs_turn ON jobs(priority, turn, seq) WHERE state = 0;"
    "CREATE INDEX IF NOT EXISTS jobs_tenant_turn ON jobs(priority, tenant, turn) WHERE state = 0;"
    "CREATE INDEX IF NOT EXISTS jobs_open ON jobs(state, priority, seq) WHERE state IN (0, 1);"
    "CREATE INDEX IF NOT EXISTS jobs_state ON jobs(tenant, state, seq);"
    "CREATE INDEX IF NOT EXISTS jobs_finished ON jobs(finished) WHERE finished > 0;"
    "CREATE TABLE IF NOT EXISTS job_index(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS inputs("
    " job INTEGER NOT NULL, ordinal INTEGER NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL,"
    " locator TEXT NOT NULL, \"offset\" INTEGER NOT NULL, size INTEGER NOT NULL,"
    " sha256 BLOB NOT NULL, PRIMARY KEY(job, ordinal)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS inputs_locator ON inputs(locator);"
    "CREATE TABLE IF NOT EXISTS results(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS masks(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS explanations(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS idempotency("
    " tenant TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, job TEXT NOT NULL,"
    " created INTEGER NOT NULL, PRIMARY KEY(tenant, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
    " WITHOUT ROWID;"
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
    " \"offset\" INTEGER NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL, source TEXT NOT "
    "NULL,"
    " received INTEGER NOT NULL, UNIQUE(tenant, SOPInstanceUID));"
    "CREATE INDEX IF NOT EXISTS instances_series ON instances(series);"
    "CREATE INDEX IF NOT EXISTS instances_study ON instances(study, received);"
    "CREATE INDEX IF NOT EXISTS instances_locator ON instances(locator);"
    "CREATE TABLE IF NOT EXISTS study_jobs("
    " study INTEGER NOT NULL, ordinal INTEGER NOT NULL, job TEXT NOT NULL,"
    " PRIMARY KEY(study, ordinal)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS feedback("
    " change INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, reader TEXT NOT NULL,"
    " time INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE(job, reader));"
    "CREATE TABLE IF NOT EXISTS states("
    " tenant TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, time INTEGER NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY(tenant, key, version)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS outbox("
    " id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, job TEXT NOT NULL, destination TEXT NOT NULL,"
    " due INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, problem TEXT,"
    " failed INTEGER NOT NULL DEFAULT 0, UNIQUE(job, destination));"
    "CREATE INDEX IF NOT EXISTS outbox_due ON outbox(due) WHERE due > 0;"
    "CREATE INDEX IF NOT EXISTS outbox_failed ON outbox(id) WHERE failed > 0;"
    "CREATE TABLE IF NOT EXISTS audit("
    " seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, tenant TEXT NOT NULL, job TEXT NOT NULL,"
    " event TEXT NOT NULL, detail TEXT, actor TEXT, hash BLOB);"
    "CREATE TABLE IF NOT EXISTS audit_base("
    " id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL);";

const char mf_sqlite_memory_schema[] =
    "CREATE TEMP TABLE leases("
    " job INTEGER PRIMARY KEY, deadline INTEGER NOT NULL, progress REAL NOT NULL);"
    "CREATE TEMP TABLE workers("
    " id TEXT PRIMARY KEY, device TEXT NOT NULL, ready INTEGER NOT NULL, models TEXT NOT NULL,"
    " deadline INTEGER NOT NULL);"
    "CREATE TEMP TABLE job_changes(number INTEGER PRIMARY KEY, job INTEGER NOT NULL);";
