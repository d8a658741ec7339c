/*
 * Private to the SQL stores: the verbs (store_sql_*.c) are written once, on the small layer below,
 * which an engine implements (struct mf_sql_engine: store_sqlite.c, store_postgres.c). Their SQL is
 * what both understand. Parameters are `?` or `?1`; what stands in a comment that begins with an
 * exclamation mark is for the engine whose database others share (row locks, for example).
 *
 * Every verb runs inside a savepoint, so it is a transaction of its own when called alone and one
 * step of a group when the loop has opened one: a verb that fails leaves the others of its group
 * untouched.
 */
#ifndef MF_SERVER_STORE_SQL_H
#define MF_SERVER_STORE_SQL_H

#include "server/shares.h"
#include "server/store_ahead.h"
#include "server/store_audit.h"
#include "server/store_changes.h"
#include "server/store_dead_letters.h"
#include "server/store_feedback.h"
#include "server/store_instances.h"
#include "server/store_ops.h"

/* --- the layer --- */

struct mf_sql_store;
struct mf_sql_engine;

/* A statement under way; the first member of an engine's own struct. */
struct mf_sql_rows {
    const struct mf_sql_engine *engine;
};

/* A parameter; its memory must live until the statement has run. */
struct mf_sql_value {
    char type; /* t text (NULL allowed), i integer, d double, b bytes */
    int64_t integer;
    double real;
    const void *bytes;
    size_t len;
};

/* What became of a group. */
enum mf_sql_commit {
    MF_SQL_COMMITTED,
    MF_SQL_REFUSED, /* nothing of it happened: whoever asked is told so */
    MF_SQL_AGAIN,   /* nothing of it happened, or nobody knows: whoever asked asks again */
    MF_SQL_FATAL    /* the log is in doubt: the process must stop (fsync is never tried twice) */
};

struct mf_sql_engine {
    bool shared; /* other processes work on the database */
    size_t
        together; /* queries of one text that may be under way at once, MF_SQL_TOGETHER at most */
    const char *join; /* aggregate that joins distinct texts by commas, with %s for the column */
    void (*free)(struct mf_sql_store *s);
    /* Starts a statement that has rows; `literal`: the text's address stands for it, so that it is
     * prepared once. NULL on failure. */
    struct mf_sql_rows *(*query)(struct mf_sql_store *s, const char *sql, bool literal,
                                 const struct mf_sql_value *values, size_t n, struct mf_error *err);
    /* Runs a statement without rows, at once or not later than the group's commit. */
    bool (*run)(struct mf_sql_store *s, const char *sql, const struct mf_sql_value *values,
                size_t n, struct mf_error *err);
    int (*row)(struct mf_sql_store *s, struct mf_sql_rows *rows, struct mf_error *err);
    void (*done)(struct mf_sql_rows *rows);
    /* Columns of the current row. */
    bool (*null)(struct mf_sql_rows *rows, int column);
    int64_t (*integer)(struct mf_sql_rows *rows, int column);
    double (*real)(struct mf_sql_rows *rows, int column);
    const char *(*text)(struct mf_sql_rows *rows, int column);
    const void *(*bytes)(struct mf_sql_rows *rows, int column, size_t *ret_len);

    int64_t (*now_ms)(struct mf_sql_store *s);
    int64_t (*lease_clock_ns)(struct mf_sql_store *s);
    bool (*savepoint)(struct mf_sql_store *s, struct mf_error *err);
    bool (*end)(struct mf_sql_store *s, bool ok, struct mf_error *err);
    /* Whether a group can begin at all; false: not now, and why. */
    bool (*ready)(struct mf_sql_store *s, struct mf_error *err);
    bool (*begin)(struct mf_sql_store *s, struct mf_error *err);
    bool (*healthy)(struct mf_sql_store *s); /* the group under way can still be committed */
    enum mf_sql_commit (*commit)(struct mf_sql_store *s, struct mf_error *err);

    bool (*audit)(struct mf_sql_store *s, const struct mf_audit_row *row, struct mf_error *err);
    bool (*count)(struct mf_sql_store *s, const char *counter, int64_t by, struct mf_error *err);
    bool (*changed)(struct mf_sql_store *s, int64_t seq, struct mf_error *err);

    /* For the loop: a descriptor that tells of what others did (−1 = none), when leases are to be
     * looked at next (monotonic ns), and what to do when there is nothing to do. */
    int (*descriptor)(struct mf_sql_store *s);
    uint64_t (*next_lease_ns)(struct mf_sql_store *s);
    void (*idle)(struct mf_sql_store *s);
    /* mf_store_hold(); NULL: the database is in no file of ours. */
    int64_t (*hold)(struct mf_sql_store *s, int64_t ms);
};

/* HELD_MS: for how long a courier of a shared database has what it was handed for itself. */
enum { MF_SQL_DESTINATIONS = 64, MF_SQL_HELD_MS = 120000, MF_SQL_TOGETHER = 24 };

struct mf_sql_store {
    struct mf_store base;
    const struct mf_sql_engine *engine;
    struct mf_store_settings settings;
    struct {
        char tenant[MF_TENANT], address[MF_DESTINATION];
    } * destinations; /* that results are stored back to */
    size_t destination_count;
    struct mf_shares shares;

    bool purged; /* something was: the engine's idle() sees to its traces */

    /* What the verbs since the last mf_sql_events_clear() changed. */
    bool work_changed;        /* something became claimable, or a worker became free */
    char (*ended)[MF_JOB_ID]; /* jobs that became terminal */
    size_t ended_count, ended_capacity;
    bool heard;                     /* others changed something */
    bool missed;                    /* they may have changed anything */
    uint64_t work_made, work_taken; /* jobs that became claimable, and that were claimed */
    uint64_t writes, changes; /* statements that change something, and jobs changed; since start */
    bool singly; /* the loop's: each group is one request, so what fails is its own fault */

    struct mf_store_ahead ahead;

    /* Since start, for metrics and estimates. */
    double wait_seconds_total, run_seconds_total,
        typical_run_s; /* typical: moving mean, NaN at first */
    int64_t wait_count, run_count;
};

/* The job of this id and tenant. Of a table that is new PostgreSQL knows nothing: without the
 * joined text it may go through all jobs of the tenant instead of to the one with the id. */
#define MF_SQL_IS_JOB "id = ? AND tenant/*! || ''*/ = ?"

/* A prepared statement with its parameters bound: one letter of `types` per parameter (struct
 * mf_sql_value; b is pointer, size_t). `sql` must be a literal. NULL on failure. */
struct mf_sql_rows *mf_sql_query(struct mf_sql_store *s, struct mf_error *err, const char *sql,
                                 const char *types, ...);
/* 1: a row is there; 0: done (the statement is let go); −1: failed. */
int mf_sql_row(struct mf_sql_store *s, struct mf_sql_rows *rows, struct mf_error *err);
/* Lets go of a statement before its last row. */
void mf_sql_done(struct mf_sql_rows *rows);
/* Runs a statement without rows. */
bool mf_sql_run(struct mf_sql_store *s, struct mf_error *err, const char *sql, const char *types,
                ...) MF_CHECK_RESULT;
/* One integer of one row; false when there is no row or on failure. */
bool mf_sql_int(struct mf_sql_store *s, struct mf_sql_rows *rows, int64_t *ret,
                struct mf_error *err);

bool mf_sql_null(struct mf_sql_rows *rows, int column);
int64_t mf_sql_int64(struct mf_sql_rows *rows, int column); /* 0 for NULL; 1 for true */
double mf_sql_double(struct mf_sql_rows *rows, int column);
const char *mf_sql_text(struct mf_sql_rows *rows, int column); /* NULL for NULL */
const void *mf_sql_blob(struct mf_sql_rows *rows, int column);
size_t mf_sql_bytes(struct mf_sql_rows *rows, int column);
/* Copies at most size − 1 bytes of a text column; NULL becomes "". */
void mf_sql_copy_text(struct mf_sql_rows *rows, int column, char *out, size_t size);
/* A column with 32 bytes; anything else becomes zeros. */
void mf_sql_copy_digest(struct mf_sql_rows *rows, int column, unsigned char out[MF_SHA256_BYTES]);

bool mf_sql_savepoint(struct mf_sql_store *s, struct mf_error *err);
/* Keeps (ok) or undoes what happened since the savepoint; returns ok unless keeping failed. */
bool mf_sql_end(struct mf_sql_store *s, bool ok, struct mf_error *err);

/* The store's clocks: wall time, and the one that leases are kept by. */
int64_t mf_sql_now_ms(struct mf_sql_store *s);
int64_t mf_sql_lease_clock_ns(struct mf_sql_store *s);
/* When a lease given now runs out. */
int64_t mf_sql_lease_deadline(struct mf_sql_store *s);

/* --- what several verbs share --- */

/* The inputs of the job in row `seq`, in their order. */
bool mf_sql_inputs(struct mf_sql_store *s, int64_t seq, struct mf_arena *arena,
                   const struct mf_job_input **ret, size_t *ret_count, struct mf_error *err);
/* A row of the audit trail; `event` is a literal, `detail` may be NULL. */
bool mf_sql_audit(struct mf_sql_store *s, const char *tenant, const char *job, const char *event,
                  const char *detail, struct mf_error *err);
/* For engines: gives a row its number, time and hash behind `head`, which then is that row. */
void mf_sql_audit_link(struct mf_sql_store *s, struct mf_audit_point *head,
                       struct mf_audit_row *row);
/* The same, and inserts it. */
bool mf_sql_audit_insert(struct mf_sql_store *s, struct mf_audit_point *head,
                         const struct mf_audit_row *given, struct mf_error *err);
bool mf_sql_count(struct mf_sql_store *s, const char *counter, int64_t by, struct mf_error *err);
/* The job in row `seq` looks different to those who follow it. */
bool mf_sql_changed(struct mf_sql_store *s, int64_t seq, struct mf_error *err);
bool mf_sql_note_end(struct mf_sql_store *s, const char *id, struct mf_error *err);
/* Fills the outbox with the end of a job. */
bool mf_sql_deliver(struct mf_sql_store *s, const char *tenant, const char *job,
                    enum mf_job_state state, struct mf_error *err);
/* Of a query for the earliest time that something is due: how long until then, −1 = nothing is. */
bool mf_sql_next_due(struct mf_sql_store *s, struct mf_sql_rows *q, int64_t now, int64_t *ret_ms,
                     struct mf_error *err);
/* Reads settings.destinations. */
bool mf_sql_read_destinations(struct mf_sql_store *s, struct mf_error *err);

/* --- verbs (store.h) --- */
bool mf_sql_submit(struct mf_store *, const struct mf_submission *, struct mf_submitted *,
                   struct mf_error *);
bool mf_sql_claim(struct mf_store *, const struct mf_claim_request *, struct mf_arena *,
                  struct mf_claim **, size_t *, struct mf_error *);
bool mf_sql_heartbeat(struct mf_store *, struct mf_heartbeat *, size_t, struct mf_error *);
bool mf_sql_finish(struct mf_store *, struct mf_outcome *, size_t, struct mf_error *);
bool mf_sql_release(struct mf_store *, const struct mf_job_ref *, size_t, enum mf_attempt_end,
                    struct mf_error *);
bool mf_sql_worker_gone(struct mf_store *, const char *, enum mf_attempt_end, struct mf_error *);
bool mf_sql_announce(struct mf_store *, const struct mf_worker *, int, struct mf_error *);
bool mf_sql_workers(struct mf_store *, struct mf_arena *, struct mf_worker **, size_t *,
                    struct mf_error *);
bool mf_sql_job(struct mf_store *, const char *, const char *, struct mf_job *, struct mf_error *);
bool mf_sql_result(struct mf_store *, const char *, const char *, struct mf_job *,
                   struct mf_buffer *, struct mf_buffer *, struct mf_error *);
bool mf_sql_record(struct mf_store *, const char *, const char *, struct mf_arena *,
                   struct mf_job_record *, struct mf_error *);
bool mf_sql_list(struct mf_store *, const struct mf_job_filter *, struct mf_arena *,
                 struct mf_job **, size_t *, int64_t *, struct mf_error *);
bool mf_sql_cancel(struct mf_store *, const char *, const char *, struct mf_job *,
                   struct mf_error *);
bool mf_sql_purge(struct mf_store *, const char *, const char *, struct mf_arena *,
                  const char *const **, size_t *, struct mf_error *);
bool mf_sql_locators_used(struct mf_store *, const char *const *, size_t, bool *,
                          struct mf_error *);
bool mf_sql_counts(struct mf_store *, struct mf_store_counts *, struct mf_error *);
bool mf_sql_wait_for_jobs(struct mf_store *, const char (*)[MF_JOB_ID], size_t, int, bool *,
                          struct mf_ended_job *, struct mf_error *);
bool mf_sql_changes(struct mf_store *, const char *, int64_t, int, struct mf_arena *,
                    struct mf_changes *, struct mf_error *);

bool mf_sql_instances_add(struct mf_store *, const char *, int64_t, const struct mf_stored *,
                          size_t, struct mf_added *, struct mf_error *);
bool mf_sql_instances_search(struct mf_store *, const struct mf_search *, struct mf_arena *,
                             struct mf_found **, size_t *, struct mf_error *);
bool mf_sql_studies_due(struct mf_store *, struct mf_due_study *, size_t, size_t *, int64_t *,
                        struct mf_error *);
bool mf_sql_study_settle(struct mf_store *, const struct mf_due_study *, const char *,
                         const struct mf_error *, int64_t, struct mf_error *);
bool mf_sql_study_hasten(struct mf_store *, const char *, const char *, struct mf_error *);
bool mf_sql_study(struct mf_store *, const char *, const char *, struct mf_arena *,
                  struct mf_study_state *, struct mf_error *);
bool mf_sql_deliveries_due(struct mf_store *, const struct mf_destinations *, struct mf_delivery *,
                           size_t, size_t *, int64_t *, struct mf_error *);
bool mf_sql_delivery_settle(struct mf_store *, int64_t, const struct mf_error *, int64_t,
                            struct mf_error *);

bool mf_sql_dead_letters(struct mf_store *, const struct mf_dead_letter_filter *, int64_t, size_t,
                         struct mf_arena *, struct mf_dead_letter **, size_t *, int64_t *,
                         struct mf_error *);
bool mf_sql_dead_letters_end(struct mf_store *, const struct mf_dead_letter_filter *,
                             enum mf_dead_letter_end, const char *, int64_t *, int64_t *,
                             struct mf_error *);

bool mf_sql_feedback(struct mf_store *, const char *, const char *, struct mf_arena *,
                     struct mf_observed *, struct mf_error *);
bool mf_sql_feedback_put(struct mf_store *, const struct mf_feedback_put *, bool *,
                         struct mf_error *);
bool mf_sql_state(struct mf_store *, const char *, const char *, int64_t, struct mf_arena *,
                  const char **, int64_t *, struct mf_error *);
bool mf_sql_observed(struct mf_store *, const char *, const char *, int64_t, size_t,
                     struct mf_arena *, struct mf_observed **, size_t *, int64_t *,
                     struct mf_error *);

bool mf_sql_audit_add(struct mf_store *, const struct mf_audit_row *, struct mf_error *);
bool mf_sql_audit_read(struct mf_store *, int64_t, struct mf_arena *, struct mf_audit_point *,
                       struct mf_audit_row **, size_t *, struct mf_error *);

/* --- for the loop --- */

void mf_sql_events_clear(struct mf_sql_store *s);
/* Gives back what is running on leases that ran out. */
bool mf_sql_expire_leases(struct mf_sql_store *s, struct mf_error *err);
/* Removes up to `limit` jobs that finished longer than retention_s ago, and idempotency keys as
 * old. */
bool mf_sql_expire_jobs(struct mf_sql_store *s, int limit, int *ret_removed, struct mf_error *err);
/* Removes up to `limit` settled studies whose last instance came longer than retention_s ago. */
bool mf_sql_expire_studies(struct mf_sql_store *s, int limit, int *ret_removed,
                           struct mf_error *err);
/* The last row of the trail, to be kept elsewhere. */
bool mf_sql_audit_head(struct mf_sql_store *s, struct mf_audit_point *ret, struct mf_error *err);
/* Removes the oldest rows of the trail once they are older than audit_retention_s, at most once a
 * day and some thousand at a time. */
bool mf_sql_expire_audit(struct mf_sql_store *s, struct mf_error *err);
/* Removes versions of states from before then, but for the newest of each. */
bool mf_sql_expire_states(struct mf_sql_store *s, int64_t before_ms, struct mf_error *err);

/* What both engines answer with. */
extern const struct mf_store_ops mf_sql_verbs;

#endif
