/*
 * Private to the SQLite store: its struct, the small layer over SQLite that its files share, and
 * what the server loop needs beyond the verbs (group commit, events, timers).
 *
 * Every verb runs inside a savepoint, so it is a transaction of its own when called alone and one
 * step of a group when the loop has opened one: a verb that fails leaves the others of its group
 * untouched.
 */
#ifndef MF_SERVER_STORE_SQLITE_H
#define MF_SERVER_STORE_SQLITE_H

#include "server/store_ahead.h"
#include "server/store_ops.h"

#include <sqlite3.h>

enum { MF_SQLITE_STATEMENTS = 160, MF_SQLITE_LOG_FRAMES = 4000 };

struct mf_sqlite_store {
    struct mf_store base;
    sqlite3 *db;
    struct mf_store_settings settings;
    struct {
        const char *sql; /* the literal's address is the key */
        sqlite3_stmt *statement;
    } statements[MF_SQLITE_STATEMENTS];
    size_t statement_count;

    bool audit_known; /* audit_head is the last row of the trail */
    struct mf_audit_point audit_head;

    bool purged; /* something was, since the log was last truncated */

    /* What the verbs since the last mf_sqlite_events_clear() changed. */
    bool work_changed;        /* something became claimable, or a worker became free */
    char (*ended)[MF_JOB_ID]; /* jobs that became terminal */
    size_t ended_count, ended_capacity;

    struct mf_store_ahead ahead;

    /* Since start, for metrics and estimates. */
    double wait_seconds_total, run_seconds_total,
        typical_run_s; /* typical: moving mean, NaN at first */
    int64_t wait_count, run_count;
};

/* --- verbs (store.h) --- */
bool mf_sqlite_submit(struct mf_store *, const struct mf_submission *, struct mf_submitted *,
                      struct mf_error *);
bool mf_sqlite_claim(struct mf_store *, const struct mf_claim_request *, struct mf_arena *,
                     struct mf_claim **, size_t *, struct mf_error *);
bool mf_sqlite_heartbeat(struct mf_store *, struct mf_heartbeat *, size_t, struct mf_error *);
bool mf_sqlite_finish(struct mf_store *, struct mf_outcome *, size_t, struct mf_error *);
bool mf_sqlite_release(struct mf_store *, const struct mf_job_ref *, size_t, enum mf_attempt_end,
                       struct mf_error *);
bool mf_sqlite_worker_gone(struct mf_store *, const char *, enum mf_attempt_end, struct mf_error *);
bool mf_sqlite_announce(struct mf_store *, const struct mf_worker *, int, struct mf_error *);
bool mf_sqlite_workers(struct mf_store *, struct mf_arena *, struct mf_worker **, size_t *,
                       struct mf_error *);
bool mf_sqlite_job(struct mf_store *, const char *, const char *, struct mf_job *,
                   struct mf_error *);
bool mf_sqlite_result(struct mf_store *, const char *, const char *, struct mf_job *,
                      struct mf_buffer *, struct mf_buffer *, struct mf_error *);
bool mf_sqlite_record(struct mf_store *, const char *, const char *, struct mf_arena *,
                      struct mf_job_record *, struct mf_error *);
bool mf_sqlite_list(struct mf_store *, const struct mf_job_filter *, struct mf_arena *,
                    struct mf_job **, size_t *, int64_t *, struct mf_error *);
bool mf_sqlite_cancel(struct mf_store *, const char *, const char *, struct mf_job *,
                      struct mf_error *);
bool mf_sqlite_purge(struct mf_store *, const char *, const char *, struct mf_arena *,
                     const char *const **, size_t *, struct mf_error *);
bool mf_sqlite_locators_used(struct mf_store *, const char *const *, size_t, bool *,
                             struct mf_error *);
bool mf_sqlite_counts(struct mf_store *, struct mf_store_counts *, struct mf_error *);
bool mf_sqlite_wait_for_jobs(struct mf_store *, const char (*)[MF_JOB_ID], size_t, int, bool *,
                             struct mf_ended_job *, struct mf_error *);
bool mf_sqlite_changes(struct mf_store *, const char *, int64_t, int, struct mf_arena *,
                       struct mf_changes *, struct mf_error *);

bool mf_sqlite_instances_add(struct mf_store *, const char *, int64_t, const struct mf_stored *,
                             size_t, struct mf_added *, struct mf_error *);
bool mf_sqlite_instances_search(struct mf_store *, const struct mf_search *, struct mf_arena *,
                                struct mf_found **, size_t *, struct mf_error *);
bool mf_sqlite_studies_due(struct mf_store *, struct mf_due_study *, size_t, size_t *, int64_t *,
                           struct mf_error *);
bool mf_sqlite_study_settle(struct mf_store *, const struct mf_due_study *, const char *,
                            const struct mf_error *, int64_t, struct mf_error *);
bool mf_sqlite_study_hasten(struct mf_store *, const char *, const char *, struct mf_error *);
bool mf_sqlite_study(struct mf_store *, const char *, const char *, struct mf_arena *,
                     struct mf_study_state *, struct mf_error *);
bool mf_sqlite_deliveries_due(struct mf_store *, struct mf_delivery *, size_t, size_t *, int64_t *,
                              struct mf_error *);
bool mf_sqlite_delivery_settle(struct mf_store *, int64_t, const struct mf_error *, int64_t,
                               struct mf_error *);

bool mf_sqlite_feedback(struct mf_store *, const char *, const char *, struct mf_arena *,
                        struct mf_observed *, struct mf_error *);
bool mf_sqlite_feedback_put(struct mf_store *, const struct mf_feedback_put *, bool *,
                            struct mf_error *);
bool mf_sqlite_state(struct mf_store *, const char *, const char *, int64_t, struct mf_arena *,
                     const char **, int64_t *, struct mf_error *);
bool mf_sqlite_observed(struct mf_store *, const char *, const char *, int64_t, size_t,
                        struct mf_arena *, struct mf_observed **, size_t *, int64_t *,
                        struct mf_error *);

bool mf_sqlite_audit_add(struct mf_store *, const struct mf_audit_row *, struct mf_error *);
bool mf_sqlite_audit_read(struct mf_store *, int64_t, struct mf_arena *, struct mf_audit_point *,
                          struct mf_audit_row **, size_t *, struct mf_error *);

/* --- for the loop --- */

/* Opens and closes a group. Until the group is committed nothing in it may be acknowledged. A
 * commit that fails has undone the group; *ret_fatal: for another reason than a full disk, so the
 * log is in doubt and the process must stop (fsync is never tried twice). */
bool mf_sqlite_begin(struct mf_sqlite_store *s, struct mf_error *err);
bool mf_sqlite_commit(struct mf_sqlite_store *s, bool *ret_fatal, struct mf_error *err);
void mf_sqlite_events_clear(struct mf_sqlite_store *s);
/* Gives back what is running on leases that ran out. */
bool mf_sqlite_expire_leases(struct mf_sqlite_store *s, struct mf_error *err);
/* When the next lease runs out (monotonic ns); UINT64_MAX = no job is running. */
uint64_t mf_sqlite_next_lease_ns(struct mf_sqlite_store *s);
/* Removes up to `limit` jobs that finished longer than retention_s ago, and idempotency keys as
 * old. */
bool mf_sqlite_expire_jobs(struct mf_sqlite_store *s, int limit, int *ret_removed,
                           struct mf_error *err);
/* Removes up to `limit` settled studies whose last instance came longer than retention_s ago. */
bool mf_sqlite_expire_studies(struct mf_sqlite_store *s, int limit, int *ret_removed,
                              struct mf_error *err);
/* The outbox: its table, and what fills it when a job succeeds. */
bool mf_sqlite_outbox_open(struct mf_sqlite_store *s, struct mf_error *err);
/* The table of changed jobs, and what fills it. */
bool mf_sqlite_changes_open(struct mf_sqlite_store *s, struct mf_error *err);
extern const char mf_sqlite_instances_schema[]; /* SQL; does nothing when it is there */
extern const char mf_sqlite_feedback_schema[];  /* the same */
extern const char mf_sqlite_audit_schema[];     /* the same */
/* Chains the audit trail of a database from before there was a chain. */
bool mf_sqlite_audit_migrate(struct mf_sqlite_store *s, struct mf_error *err);
/* The last row of the trail, to be kept elsewhere. */
bool mf_sqlite_audit_head(struct mf_sqlite_store *s, struct mf_audit_point *ret,
                          struct mf_error *err);
/* Removes the oldest rows of the trail once they are older than audit_retention_s, at most once a
 * day and some thousand at a time. */
bool mf_sqlite_expire_audit(struct mf_sqlite_store *s, struct mf_error *err);
/* Removes versions of states from before then, but for the newest of each. */
bool mf_sqlite_expire_states(struct mf_sqlite_store *s, int64_t before_ms, struct mf_error *err);
/* The log is moved into the database file by the commit that makes it MF_SQLITE_LOG_FRAMES long. */
void mf_sqlite_limit_log(struct mf_sqlite_store *s);
/* Moves the log into the database file without waiting for anybody, and gives the log its whole
 * size (16 MB) so that commits need not grow it. For when nothing else is to be done. */
void mf_sqlite_checkpoint(struct mf_sqlite_store *s);

/* --- what several verbs share --- */

/* The inputs of the job in row `seq`, in their order. */
bool mf_sqlite_inputs(struct mf_sqlite_store *s, int64_t seq, struct mf_arena *arena,
                      const struct mf_job_input **ret, size_t *ret_count, struct mf_error *err);

/* --- the layer over SQLite --- */

/* A prepared statement with its parameters bound: one letter of `types` per parameter: t text (NULL
 * allowed), i int64_t, d double, b blob (pointer, size_t). Bound memory must live until the
 * statement is stepped. `sql` must be a literal. NULL on failure. */
sqlite3_stmt *mf_sqlite_query(struct mf_sqlite_store *s, struct mf_error *err, const char *sql,
                              const char *types, ...);
/* 1: a row is there; 0: done (the statement is reset); −1: failed. */
int mf_sqlite_row(struct mf_sqlite_store *s, sqlite3_stmt *statement, struct mf_error *err);
/* Lets go of a statement before its last row. */
void mf_sqlite_done(sqlite3_stmt *statement);
/* Runs a statement without rows. */
#define MF_SQLITE_RUN(s, err, sql, ...)                                                            \
    (mf_sqlite_row((s), mf_sqlite_query((s), (err), sql, __VA_ARGS__), (err)) == 0)
/* One integer of one row; false when there is no row or on failure. */
bool mf_sqlite_int(struct mf_sqlite_store *s, sqlite3_stmt *statement, int64_t *ret,
                   struct mf_error *err);
bool mf_sqlite_fail(struct mf_sqlite_store *s, struct mf_error *err);

bool mf_sqlite_savepoint(struct mf_sqlite_store *s, struct mf_error *err);
/* Keeps (ok) or undoes what happened since the savepoint; returns ok unless keeping failed. */
bool mf_sqlite_end(struct mf_sqlite_store *s, bool ok, struct mf_error *err);

/* A row of the audit trail; `event` is a literal, `detail` may be NULL. */
bool mf_sqlite_audit(struct mf_sqlite_store *s, const char *tenant, const char *job,
                     const char *event, const char *detail, struct mf_error *err);
bool mf_sqlite_count(struct mf_sqlite_store *s, const char *counter, int64_t by,
                     struct mf_error *err);
bool mf_sqlite_note_end(struct mf_sqlite_store *s, const char *id, struct mf_error *err);

/* When a lease given now runs out: monotonic ns. */
int64_t mf_sqlite_lease_deadline(const struct mf_sqlite_store *s);

/* Copies at most size − 1 bytes of a text column; NULL becomes "". */
void mf_sqlite_text(sqlite3_stmt *statement, int column, char *out, size_t size);

#endif
