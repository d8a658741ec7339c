/*
 * A store in a temporary directory, and the few calls every store test makes. With
 * MEDFUSION_TEST_DATABASE (a connection string) it is a PostgreSQL store, in a schema of its own
 * that is dropped at the end.
 */
#ifndef MF_TESTS_SERVER_STORE_FIXTURE_H
#define MF_TESTS_SERVER_STORE_FIXTURE_H

#include "server/store.h"

#include "tests/expect.h"

#include <libpq-fe.h>
#include <sqlite3.h>

struct store_fixture {
    char directory[64];
    char database[512]; /* "" = SQLite */
    struct mf_store_settings settings;
    struct mf_store *store;
    struct mf_arena *arena;
};

static inline bool fixture_on_postgres(void)
{
    return getenv("MEDFUSION_TEST_DATABASE") != NULL;
}

static inline void fixture_execute_at(const char *database, const char *sql)
{
    PGconn *db = PQconnectdb(database);
    PGresult *result = PQexec(db, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(db));
    PQclear(result);
    PQfinish(db);
}

/* Runs SQL on the database of a closed store. */
static inline void fixture_execute(const struct store_fixture *f, const char *sql)
{
    if (f->database[0]) {
        fixture_execute_at(f->database, sql);
        return;
    }
    char path[128], *message = NULL;
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/store.db", f->directory);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static inline void fixture_make_schema(struct store_fixture *f)
{
    const char *base = getenv("MEDFUSION_TEST_DATABASE");
    const char *name = f->directory + strlen("/tmp/medfusion-test-");
    char sql[128];
    f->database[0] = '\0';
    if (!base)
        return;
    snprintf(sql, sizeof sql, "CREATE SCHEMA \"%s\"", name);
    fixture_execute_at(base, sql);
    snprintf(f->database, sizeof f->database, "%s options='-csearch_path=\"%s\"'", base, name);
    f->settings.database = f->database;
}

static inline void fixture_drop_schema(const struct store_fixture *f)
{
    char sql[160];
    if (!f->database[0])
        return;
    snprintf(sql, sizeof sql, "SET client_min_messages = error; DROP SCHEMA \"%s\" CASCADE",
             f->directory + strlen("/tmp/medfusion-test-"));
    fixture_execute_at(f->database, sql);
}

static inline void fixture_open(struct store_fixture *f)
{
    struct mf_error err = MF_ERROR_INIT;
    f->store = mf_store_open(f->directory, &f->settings, &err);
    if (!f->store)
        fail_msg("%s", err.msg);
}

static inline void fixture_start(struct store_fixture *f)
{
    snprintf(f->directory, sizeof f->directory, "/tmp/medfusion-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    f->settings = (struct mf_store_settings){
        .lease_s = 30, .max_crashes = 3, .max_losses = 20, .retention_s = 86400};
    fixture_make_schema(f);
    f->arena = mf_arena_new(0);
    fixture_open(f);
}

static inline void fixture_end(struct store_fixture *f)
{
    mf_store_free(f->store);
    mf_arena_free(f->arena);
    fixture_drop_schema(f);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->directory);
    assert_int_equal(system(command), 0);
}

static inline struct mf_submission fixture_submission(void)
{
    static const struct mf_job_input input = {
        .part = "dicom", .kind = "blob", .locator = "00112233445566778899aabbccddeeff", .size = 7};
    struct mf_submission sub = {.tenant = MF_TENANT_DEFAULT,
                                .priority = MF_PRIORITY_ROUTINE,
                                .options = "{\"alpha\":0.1}",
                                .index = "{\"objects\":[]}",
                                .index_len = 14,
                                .inputs = &input,
                                .input_count = 1};
    mf_job_id_new(sub.id);
    return sub;
}

/* Submits a job and copies its id. */
static inline void fixture_submit(struct store_fixture *f, enum mf_priority priority,
                                  char id[MF_JOB_ID])
{
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    sub.priority = priority;
    assert_true(mf_store_submit(f->store, &sub, &made, NULL));
    memcpy(id, made.id, MF_JOB_ID);
}

/* Claims up to `max` for `worker` without waiting; returns how many came. */
static inline size_t fixture_claim(struct store_fixture *f, const char *worker, size_t max,
                                   const struct mf_job_ref *held, size_t held_count,
                                   struct mf_claim **ret)
{
    struct mf_claim_request request = {
        .worker = worker, .max = max, .held = held, .held_count = held_count};
    struct mf_error err = MF_ERROR_INIT;
    size_t n = 0;
    if (!mf_store_claim(f->store, &request, f->arena, ret, &n, &err))
        fail_msg("%s", err.msg);
    return n;
}

static inline struct mf_job fixture_job(struct store_fixture *f, const char *id)
{
    struct mf_job job;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_store_job(f->store, MF_TENANT_DEFAULT, id, &job, &err))
        fail_msg("%s", err.msg);
    return job;
}

static inline struct mf_job_ref fixture_ref(const struct mf_claim *claim)
{
    struct mf_job_ref ref = {.fence = claim->fence};
    memcpy(ref.id, claim->id, MF_JOB_ID);
    return ref;
}

static inline enum mf_lease fixture_succeed(struct store_fixture *f, struct mf_job_ref ref)
{
    struct mf_outcome outcome = {.job = ref,
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = "{\"schema\":\"medfusion.result/1\"}",
                                 .result_len = 31};
    assert_true(mf_store_finish(f->store, &outcome, 1, NULL));
    return outcome.lease;
}

#endif
