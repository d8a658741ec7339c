/*
 * PostgreSQL engine: the schema, as migrations that only ever go forward. Each is applied once, in
 * the order below and in one transaction with all that are missing; the database keeps the SHA-256
 * of what was applied, and a program that has another text under that number, or that does not know
 * the newest, does not start. A migration that was released is never edited: add another.
 */
#include "server/store_postgres.h"

#include "core/digest.h"

#include <stdlib.h>
#include <string.h>

static const char JOBS[] =
    "CREATE TABLE jobs("
    " seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " tenant TEXT NOT NULL, state BIGINT NOT NULL, priority BIGINT NOT NULL, model TEXT,"
    " options TEXT NOT NULL, created BIGINT NOT NULL, started BIGINT NOT NULL DEFAULT 0,"
    " finished BIGINT NOT NULL DEFAULT 0, attempts BIGINT NOT NULL DEFAULT 0,"
    " fence BIGINT NOT NULL DEFAULT 0, crashes BIGINT NOT NULL DEFAULT 0,"
    " losses BIGINT NOT NULL DEFAULT 0, solo BIGINT NOT NULL DEFAULT 0,"
    " cancel BIGINT NOT NULL DEFAULT 0, purged BIGINT NOT NULL DEFAULT 0,"
    " worker TEXT, problem_code TEXT, problem_detail TEXT);"
    "CREATE INDEX jobs_open ON jobs(priority, seq) WHERE state = 0;"
    "CREATE INDEX jobs_running ON jobs(worker) WHERE state = 1;"
    "CREATE INDEX jobs_state ON jobs(tenant, state, seq);"
    "CREATE INDEX jobs_finished ON jobs(finished) WHERE finished > 0;"
    "CREATE TABLE job_index(job BIGINT PRIMARY KEY, body BYTEA NOT NULL);"
    "CREATE TABLE inputs("
    " job BIGINT NOT NULL, ordinal BIGINT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL,"
    " locator TEXT NOT NULL, \"offset\" BIGINT NOT NULL, size BIGINT NOT NULL,"
    " sha256 BYTEA NOT NULL, PRIMARY KEY(job, ordinal));"
    "CREATE INDEX inputs_locator ON inputs(locator);"
    "CREATE TABLE results(job BIGINT PRIMARY KEY, body BYTEA NOT NULL);"
    "CREATE TABLE masks(job BIGINT PRIMARY KEY, body BYTEA NOT NULL);"
    "CREATE TABLE explanations(job BIGINT PRIMARY KEY, body BYTEA NOT NULL);"
    "CREATE TABLE idempotency("
    " tenant TEXT NOT NULL, key TEXT NOT NULL, fingerprint BYTEA NOT NULL, job TEXT NOT NULL,"
    " created BIGINT NOT NULL, PRIMARY KEY(tenant, key));"
    "CREATE TABLE counters(name TEXT PRIMARY KEY, value BIGINT NOT NULL) WITH (fillfactor = 50);"
    "CREATE TABLE leases(job BIGINT PRIMARY KEY, deadline BIGINT NOT NULL,"
    " progress DOUBLE PRECISION NOT NULL) WITH (fillfactor = 50);"
    "CREATE INDEX leases_deadline ON leases(deadline);"
    "CREATE TABLE workers("
    " id TEXT PRIMARY KEY, device TEXT NOT NULL, ready BIGINT NOT NULL, models TEXT NOT NULL,"
    " deadline BIGINT NOT NULL);"
    /* A fence never comes again, not even that of a claim whose transaction was undone. */
    "CREATE SEQUENCE fences;";

static const char INSTANCES[] =
    "CREATE TABLE studies("
    " study BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant TEXT NOT NULL, StudyDate TEXT,"
    " StudyTime TEXT, AccessionNumber TEXT, ReferringPhysicianName TEXT,"
    " TimezoneOffsetFromUTC TEXT, StudyDescription TEXT, PatientName TEXT, PatientID TEXT,"
    " IssuerOfPatientID TEXT, PatientBirthDate TEXT, PatientSex TEXT,"
    " StudyInstanceUID TEXT NOT NULL, StudyID TEXT, series BIGINT NOT NULL DEFAULT 0,"
    " instances BIGINT NOT NULL DEFAULT 0, revision BIGINT NOT NULL DEFAULT 0,"
    " first BIGINT NOT NULL, last BIGINT NOT NULL DEFAULT 0, due BIGINT NOT NULL DEFAULT 0,"
    " problem_code TEXT, problem_detail TEXT, UNIQUE(tenant, StudyInstanceUID));"
    "CREATE INDEX studies_due ON studies(due) WHERE due > 0;"
    "CREATE INDEX studies_patient ON studies(tenant, PatientID);"
    "CREATE INDEX studies_date ON studies(tenant, StudyDate);"
    "CREATE INDEX studies_accession ON studies(tenant, AccessionNumber);"
    "CREATE TABLE series("
    " series BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, study BIGINT NOT NULL,"
    " Modality TEXT, SeriesDescription TEXT, BodyPartExamined TEXT,"
    " SeriesInstanceUID TEXT NOT NULL, SeriesNumber TEXT, PerformedProcedureStepStartDate TEXT,"
    " PerformedProcedureStepStartTime TEXT, instances BIGINT NOT NULL DEFAULT 0,"
    " UNIQUE(study, SeriesInstanceUID));"
    "CREATE TABLE instances("
    " instance BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, series BIGINT NOT NULL,"
    " study BIGINT NOT NULL, tenant TEXT NOT NULL, SOPClassUID TEXT NOT NULL,"
    " SOPInstanceUID TEXT NOT NULL, InstanceNumber TEXT, NumberOfFrames TEXT, Rows TEXT,"
    " Columns TEXT, BitsAllocated TEXT, transfer_syntax TEXT NOT NULL, data_set BIGINT NOT NULL,"
    " locator TEXT NOT NULL, \"offset\" BIGINT NOT NULL, size BIGINT NOT NULL,"
    " sha256 BYTEA NOT NULL, source TEXT NOT NULL, received BIGINT NOT NULL,"
    " UNIQUE(tenant, SOPInstanceUID));"
    "CREATE INDEX instances_series ON instances(series);"
    "CREATE INDEX instances_study ON instances(study, received);"
    "CREATE INDEX instances_locator ON instances(locator);"
    "CREATE TABLE study_jobs("
    " study BIGINT NOT NULL, ordinal BIGINT NOT NULL, job TEXT NOT NULL,"
    " PRIMARY KEY(study, ordinal));";

static const char REST[] =
    "CREATE TABLE feedback("
    " change BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job BIGINT NOT NULL,"
    " reader TEXT NOT NULL, time BIGINT NOT NULL, body TEXT NOT NULL, UNIQUE(job, reader));"
    "CREATE TABLE states("
    " tenant TEXT NOT NULL, key TEXT NOT NULL, version BIGINT NOT NULL, time BIGINT NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY(tenant, key, version));"
    "CREATE TABLE outbox("
    " id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant TEXT NOT NULL,"
    " job TEXT NOT NULL, destination TEXT NOT NULL, due BIGINT NOT NULL,"
    " attempts BIGINT NOT NULL DEFAULT 0, problem TEXT, UNIQUE(job, destination));"
    "CREATE INDEX outbox_due ON outbox(due) WHERE due > 0;"
    "CREATE TABLE audit("
    " seq BIGINT PRIMARY KEY, time BIGINT NOT NULL, tenant TEXT NOT NULL, job TEXT NOT NULL,"
    " event TEXT NOT NULL, detail TEXT, actor TEXT, hash BYTEA);"
    "CREATE TABLE audit_base("
    " id BIGINT PRIMARY KEY CHECK (id = 1), seq BIGINT NOT NULL, hash BYTEA NOT NULL);"
    "CREATE TABLE job_changes(number BIGINT PRIMARY KEY, job BIGINT NOT NULL);"
    /* One row: the end of the audit chain, and the number of the last change. */
    "CREATE TABLE store_head("
    " id BIGINT PRIMARY KEY CHECK (id = 1), seq BIGINT NOT NULL, hash BYTEA NOT NULL,"
    " change BIGINT NOT NULL) WITH (fillfactor = 20);"
    "INSERT INTO store_head SELECT 1, 0, decode(repeat('00', 32), 'hex'),"
    " (extract(epoch FROM clock_timestamp()) * 1000000)::int8;"
    "INSERT INTO job_changes SELECT change, 0 FROM store_head;";

static const char TURNS[] =
    "ALTER TABLE jobs ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;"
    "DROP INDEX jobs_open;"
    "CREATE INDEX jobs_turn ON jobs(priority, turn, seq) WHERE state = 0;"
    "CREATE INDEX jobs_tenant_turn ON jobs(priority, tenant, turn) WHERE state = 0;";

static const char DEAD_LETTERS[] =
    "ALTER TABLE outbox ADD COLUMN failed BIGINT NOT NULL DEFAULT 0;"
    "UPDATE outbox SET failed = (extract(epoch FROM clock_timestamp()) * 1000)::int8"
    " WHERE due = 0 AND problem IS NOT NULL;"
    "CREATE INDEX outbox_failed ON outbox(id) WHERE failed > 0;";

/* The texts of each migration; the rest of a row is NULL. */
enum { PARTS = 3 };
static const char *const MIGRATIONS[][PARTS] = {{JOBS, INSTANCES, REST}, {TURNS, DEAD_LETTERS}};

enum { KNOWN = sizeof MIGRATIONS / sizeof *MIGRATIONS };

/* Taken by whoever looks at the schema, so that hosts that start together do so in turn. */
#define LOCK "SELECT pg_advisory_lock(5567110426871)"
#define UNLOCK "SELECT pg_advisory_unlock(5567110426871)"

static bool fail(PGconn *db, const PGresult *result, struct mf_error *err)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    (void)db;
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the database cannot be prepared (PostgreSQL %s)",
                        state ? state : "does not answer");
}

bool mf_pg_execute(PGconn *db, const char *sql, struct mf_error *err)
{
    PGresult *result = PQexec(db, sql);
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || fail(db, result, err);
    PQclear(result);
    return ok;
}

/* The SHA-256 of the digests of a migration's texts. */
static void digest_of(size_t number, char out[MF_SHA256_HEX])
{
    unsigned char digests[PARTS][MF_SHA256_BYTES], digest[MF_SHA256_BYTES];
    size_t n = 0;
    for (; n < PARTS && MIGRATIONS[number][n]; n++)
        mf_sha256(MIGRATIONS[number][n], strlen(MIGRATIONS[number][n]), digests[n]);
    mf_sha256(digests, n * sizeof *digests, digest);
    mf_sha256_to_hex(digest, out);
}

/* Compares what was applied with what this program knows; *ret: how many were. */
static bool check(const PGresult *applied, size_t *ret, struct mf_error *err)
{
    char digest[MF_SHA256_HEX];
    size_t n = (size_t)PQntuples(applied);
    if (n > KNOWN)
        return mf_error_set(err, MF_ERR_USAGE,
                            "store.database: schema version %zu, this program knows %d", n, KNOWN);
    for (size_t i = 0; i < n; i++) {
        digest_of(i, digest);
        if (strtoul(PQgetvalue(applied, (int)i, 0), NULL, 10) != i + 1 ||
            strcmp(PQgetvalue(applied, (int)i, 1), digest) != 0)
            return mf_error_set(err, MF_ERR_USAGE,
                                "store.database: migration %zu is not the one that this program "
                                "has",
                                i + 1);
    }
    *ret = n;
    return true;
}

static bool apply_from(PGconn *db, size_t from, struct mf_error *err)
{
    char digest[MF_SHA256_HEX], note[256];
    for (size_t i = from; i < KNOWN; i++) {
        for (int k = 0; k < PARTS && MIGRATIONS[i][k]; k++)
            if (!mf_pg_execute(db, MIGRATIONS[i][k], err))
                return false;
        digest_of(i, digest);
        snprintf(note, sizeof note,
                 "INSERT INTO store_migrations(version, sha256) VALUES(%zu, '%s')", i + 1, digest);
        if (!mf_pg_execute(db, note, err))
            return false;
    }
    return true;
}

static bool migrate(PGconn *db, bool apply, struct mf_error *err)
{
    size_t n = 0;
    if (apply && !mf_pg_execute(db,
                                "CREATE TABLE IF NOT EXISTS store_migrations("
                                " version BIGINT PRIMARY KEY, sha256 TEXT NOT NULL,"
                                " applied TIMESTAMPTZ NOT NULL DEFAULT now())",
                                err))
        return false;
    PGresult *applied = PQexec(db, "SELECT version, sha256 FROM store_migrations ORDER BY version");
    bool ok = PQresultStatus(applied) == PGRES_TUPLES_OK ? check(applied, &n, err)
                                                         : fail(db, applied, err);
    PQclear(applied);
    if (!ok || n == KNOWN)
        return ok;
    if (!apply)
        return mf_error_set(err, MF_ERR_USAGE, "store.database: the schema has gone back");
    return mf_pg_execute(db, "BEGIN", err) && apply_from(db, n, err) &&
           mf_pg_execute(db, "COMMIT", err);
}

bool mf_pg_migrate(PGconn *db, bool apply, struct mf_error *err)
{
    struct mf_error ignored = MF_ERROR_INIT;
    if (!mf_pg_execute(db, LOCK, err))
        return false;
    bool ok = migrate(db, apply, err);
    if (!ok && PQtransactionStatus(db) != PQTRANS_IDLE)
        (void)mf_pg_execute(db, "ROLLBACK", &ignored);
    return mf_pg_execute(db, UNLOCK, ok ? err : &ignored) && ok;
}
