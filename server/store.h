/*
 * Store: jobs, their inputs, results, idempotency keys and audit trail, behind one interface.
 *
 * Implementations share the table of operations below: SQL (store_sql*.c) on SQLite in the process
 * that owns the database, or on PostgreSQL, which any number of hosts share; and a client of the
 * host's store process over a Unix socket (store_client.c). That process (store_server.c) commits
 * the requests of many processes in groups. Rules that every implementation keeps:
 *
 *  - A call that returns true is durable (fsync'd), and is one transaction: state, result,
 * idempotency key and audit entry change together or not at all.
 *  - Time is the store's. Leases are kept by its own clock (SQLite: monotonic, PostgreSQL: the
 * database's); no caller's clock is ever compared.
 *  - A claim carries a fence (it grows with every claim of the job). heartbeat, finish and release
 * with an old fence change nothing and report MF_LEASE_LOST.
 *  - A claim is the exception to the first rule: it may be handed out while it is being written. If
 * the store dies just then, the job is queued again (or was never accepted), and whoever runs it
 * finds its lease lost.
 *  - Every verb may be sent again after a broken connection without harm: job ids are made by the
 * caller, a claim whose reply was lost is handed out again, a repeated finish finds its own result.
 *
 * A handle serves one thread at a time; only mf_store_interrupt() may be called from another
 * thread.
 */
#ifndef MF_SERVER_STORE_H
#define MF_SERVER_STORE_H

#include "core/arena.h"
#include "core/auto.h"
#include "core/buffer.h"
#include "core/digest.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MF_JOB_ID = 33, /* 32 lower-case hex digits (128 random bits) and the NUL */
    MF_TENANT = 65,
    MF_WORKER_ID = 65,
    MF_MODEL_NAME = 129,
    MF_STORE_MESSAGE_MAX = 256 << 20 /* bytes of one request or reply */
};

/* The tenant of requests without authentication. */
#define MF_TENANT_DEFAULT "default"

enum mf_job_state {
    MF_JOB_QUEUED,
    MF_JOB_RUNNING,
    MF_JOB_SUCCEEDED,
    MF_JOB_FAILED,
    MF_JOB_CANCELLED,
    MF_JOB_STATE_COUNT
};

/* Queued jobs whose frames may be decoded ahead: those that are next. Further ones would only hold
 * memory. */
enum { MF_STORE_FRAMES_AHEAD = 4 };

enum mf_priority { MF_PRIORITY_STAT, MF_PRIORITY_URGENT, MF_PRIORITY_ROUTINE, MF_PRIORITY_COUNT };

/* Where an input lies. Only "blob" exists so far: locator = name of a pack (blobs.h). */
struct mf_job_input {
    const char *part; /* "dicom" | "ehr" | "options" */
    const char *kind; /* "blob" */
    const char *locator;
    uint64_t offset, size;
    unsigned char sha256[MF_SHA256_BYTES];
};

struct mf_submission {
    char id[MF_JOB_ID]; /* from mf_job_id_new() */
    const char *tenant;
    enum mf_priority priority;
    const char *model;   /* chosen bundle, or NULL: decided by the worker */
    const char *options; /* JSON text, "{}" when none were given */
    const char *index;   /* what `scan` made: opaque JSON text */
    size_t index_len;
    const struct mf_job_input *inputs;
    size_t input_count;
    const char *idempotency_key; /* NULL = none */
    unsigned char fingerprint[MF_SHA256_BYTES];
    int64_t max_queued; /* admission: MF_ERR_BUSY when this many jobs are queued; 0 = no limit. An
                           eighth more are for tenants that have less than that in the queue */
    int frames_ahead; /* > 0: a connection on which the job's frames were asked for (decoder.h). It
                         stays the caller's; a copy is passed to the claim of this job, if that
                         comes soon enough, and is otherwise closed */
};

/* The state of a job, as `medfusion.job/1` shows it. */
struct mf_job {
    char id[MF_JOB_ID];
    char tenant[MF_TENANT];
    char model[MF_MODEL_NAME]; /* "" = not chosen yet */
    enum mf_job_state state;
    enum mf_priority priority;
    int64_t position; /* 1 = next; 0 = not queued */
    double eta_s;     /* NaN = unknown */
    double progress;  /* 0 … 1 */
    int64_t attempts;
    int64_t created_ms, started_ms, finished_ms; /* 0 = not yet */
    bool cancel_requested, purged;
    struct mf_error problem; /* code MF_OK unless failed (or cancelled) */
};

struct mf_submitted {
    char id[MF_JOB_ID]; /* of the earlier job when replayed */
    bool replayed;      /* the idempotency key had been used with the same fingerprint */
    int64_t queued;     /* jobs in the queue now */
    bool full;          /* there is no room for one more of this tenant */
};

/* A claimed job: memory of the arena given to mf_store_claim(). */
struct mf_claim {
    char id[MF_JOB_ID];
    int64_t fence;
    const char *tenant;
    const char *model; /* NULL = not chosen */
    const char *options;
    const char *index;
    size_t index_len;
    const struct mf_job_input *inputs;
    size_t input_count;
    int64_t attempt;  /* 1 = first */
    bool solo;        /* it was in a batch that crashed: it must run alone (the store sees to it) */
    int frames_ahead; /* > 0: of its submission; the caller closes or adopts it */
    enum mf_priority priority;
};

struct mf_job_ref {
    char id[MF_JOB_ID];
    int64_t fence;
};

struct mf_claim_request {
    const char *worker; /* unique for each start of a worker process */
    size_t max;         /* most jobs wanted, ≥ 1 */
    int wait_ms;        /* how long to wait for work; 0 = not at all; −1 = until interrupted */
    const struct mf_job_ref
        *held; /* what this worker is running: anything else the store thinks it has
                  was claimed in a reply that got lost, and is handed out again */
    size_t held_count;
};

enum mf_lease { MF_LEASE_KEPT, MF_LEASE_CANCEL, MF_LEASE_LOST };

struct mf_heartbeat {
    struct mf_job_ref job;
    double progress; /* 0 … 1 */
    enum mf_lease
        lease; /* out: CANCEL = stop and finish with cancelled; LOST = somebody else's now */
};

struct mf_outcome {
    struct mf_job_ref job;
    enum mf_job_state state; /* SUCCEEDED, FAILED or CANCELLED */
    const char *result;      /* `medfusion.result/1` text when succeeded */
    size_t result_len;
    const char *masks; /* `medfusion.masks/1` text that belongs to the result, or NULL */
    size_t masks_len;
    const char *explanation; /* `medfusion.explanation/1` text, or NULL: none was asked for */
    size_t explanation_len;
    struct mf_error problem; /* when failed */
    enum mf_lease lease; /* out: KEPT = recorded (also when it had been recorded before, and when a
                            cancel came first: then the state is cancelled), LOST = not recorded */
};

/* How an attempt ended without an outcome. */
enum mf_attempt_end {
    MF_END_RETURNED, /* given back by a graceful stop: counts for nothing */
    MF_END_LOST, /* lease ran out, SIGKILL or SIGTERM from outside: jobs.max_losses of them fail the
                    job */
    MF_END_CRASHED /* the process died by itself: counts if the job was the worker's only one,
                      otherwise all of its jobs run alone next; jobs.max_crashes own crashes fail
                      the job */
};

/* Everything that is kept of a job: memory of the arena given to mf_store_record(). */
struct mf_job_record {
    struct mf_job job;
    /* NULL unless succeeded and not purged; masks and explanation also when there are none. */
    const char *result, *index, *masks, *explanation;
    size_t result_len, index_len, masks_len, explanation_len;
    const struct mf_job_input *inputs;
    size_t input_count;
};

/* What a wait says besides which jobs are over. */
struct mf_ended_job {
    const char *tenant;    /* in: whose jobs are waited for */
    bool known;            /* exactly one of them is over, and it is: */
    struct mf_job job;     /* as of mf_store_result() */
    struct mf_buffer text; /* its result; the caller has initialised it, and frees it */
};

struct mf_worker {
    char id[MF_WORKER_ID];
    char device[32];
    bool ready;
    /* JSON text: [{"name","version","digest","labels":[…]}…], and perhaps what worker_report.h puts
     * behind that; arena memory when read. */
    const char *models;
};

struct mf_job_filter {
    const char *tenant;
    int state;                              /* enum mf_job_state, or −1 */
    int priority;                           /* enum mf_priority, or −1 */
    int64_t created_from_ms, created_to_ms; /* half-open; 0 = open */
    size_t limit;                           /* 1 … 1000 */
    int64_t cursor;                         /* 0 = newest; else the `next` of the page before */
};

struct mf_store_counts {
    int64_t jobs[MF_JOB_STATE_COUNT];           /* rows in each state now */
    int64_t finished_total[MF_JOB_STATE_COUNT]; /* ever, the terminal states only */
    int64_t submitted_total, replayed_total, crashes_total, losses_total;
    int64_t deliveries, dead_letters; /* of the outbox: still to be made, given up */
    double wait_seconds_total,
        run_seconds_total; /* over claims and over succeeded jobs, since start */
    int64_t wait_count, run_count;
};

struct mf_store;

/* The operations of an implementation: exactly the functions below. */
struct mf_store_ops;

void mf_store_free(struct mf_store *store);

/* Queues a job. MF_ERR_BUSY: queue full; MF_ERR_UNUSABLE: the key was used with another
 * fingerprint. */
bool mf_store_submit(struct mf_store *store, const struct mf_submission *s,
                     struct mf_submitted *ret, struct mf_error *err) MF_CHECK_RESULT;
/* Hands out up to `max` jobs (by priority, then by the tenants' turns), waiting for work;
 * *ret_count 0 = none came. A
 * claim that waits is served in the transaction of the submit that brings the work. */
bool mf_store_claim(struct mf_store *store, const struct mf_claim_request *request,
                    struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                    struct mf_error *err) MF_CHECK_RESULT;
/* Renews leases and reports progress; `lease` of each entry is filled in. */
bool mf_store_heartbeat(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                        struct mf_error *err) MF_CHECK_RESULT;
/* Records results and problems; `lease` of each entry is filled in. */
bool mf_store_finish(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Gives claimed jobs back. Entries with an old fence are ignored. */
bool mf_store_release(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                      enum mf_attempt_end end, struct mf_error *err) MF_CHECK_RESULT;
/* The process of this worker is gone: all it was running is given back, and it is forgotten. */
bool mf_store_worker_gone(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                          struct mf_error *err) MF_CHECK_RESULT;
/* Tells who works here and with which models; forgotten after ttl_s without renewal. */
bool mf_store_announce(struct mf_store *store, const struct mf_worker *worker, int ttl_s,
                       struct mf_error *err) MF_CHECK_RESULT;
bool mf_store_workers(struct mf_store *store, struct mf_arena *arena, struct mf_worker **ret,
                      size_t *ret_count, struct mf_error *err) MF_CHECK_RESULT;

/* For a copy of the database while it is in use: for `ms` from now (0: it has been made) nothing is
 * moved from the log into the database file, so that file and log, copied in this order, are the
 * database as it was when the log was copied. Asked for again before that time is over it goes on;
 * *ret_hold is another number whenever it had not. MF_ERR_USAGE: the database is not in a file. */
bool mf_store_hold(struct mf_store *store, int64_t ms, int64_t *ret_hold,
                   struct mf_error *err) MF_CHECK_RESULT;

/* One job. MF_ERR_NOT_FOUND also when it is another tenant's. */
bool mf_store_job(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                  struct mf_error *err) MF_CHECK_RESULT;
/* The job, the text of its result appended to `ret_text`, and, unless NULL, its index to
 * `ret_index` (nothing unless succeeded and not purged). */
bool mf_store_result(struct mf_store *store, const char *tenant, const char *id,
                     struct mf_job *ret_job, struct mf_buffer *ret_text,
                     struct mf_buffer *ret_index, struct mf_error *err) MF_CHECK_RESULT;
/* The job with all that belongs to it, from which its artifacts are made. */
bool mf_store_record(struct mf_store *store, const char *tenant, const char *id,
                     struct mf_arena *arena, struct mf_job_record *ret,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Newest first; *ret_next = cursor of the next page, 0 at the end. */
bool mf_store_list(struct mf_store *store, const struct mf_job_filter *filter,
                   struct mf_arena *arena, struct mf_job **ret, size_t *ret_count,
                   int64_t *ret_next, struct mf_error *err) MF_CHECK_RESULT;
/* Asks for cancellation: a queued job is cancelled at once, a running one when its worker hears of
 * it. MF_ERR_CONFLICT when terminal. */
bool mf_store_cancel(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Forgets inputs, index, result and what is kept beside it of a terminal job; the locators to
 * delete are returned (each once). MF_ERR_CONFLICT unless terminal; purging again succeeds with
 * none. */
bool mf_store_purge(struct mf_store *store, const char *tenant, const char *id,
                    struct mf_arena *arena, const char *const **ret_locators, size_t *ret_count,
                    struct mf_error *err) MF_CHECK_RESULT;
/* For each locator whether a job refers to it: what is left over may be deleted. */
bool mf_store_locators_used(struct mf_store *store, const char *const *locators, size_t n,
                            bool *ret_used, struct mf_error *err) MF_CHECK_RESULT;
bool mf_store_counts(struct mf_store *store, struct mf_store_counts *ret,
                     struct mf_error *err) MF_CHECK_RESULT;

/* Waits until at least one of these jobs is terminal (or unknown); ret_terminal[i] tells which. All
 * false when the time is over (wait_ms −1 = never) or the wait was interrupted. `ended`, unless
 * NULL, gets the job and its result in the same answer when only one is over. */
bool mf_store_wait_for_jobs(struct mf_store *store, const char (*ids)[MF_JOB_ID], size_t n,
                            int wait_ms, bool *ret_terminal, struct mf_ended_job *ended,
                            struct mf_error *err) MF_CHECK_RESULT;
/* Ends a claim or wait that another thread is blocked in on this handle, or the next one, early.
 * What had been claimed is still returned. Async-signal-safe. */
void mf_store_interrupt(struct mf_store *store);

/* --- opening --- */

struct mf_vault;

struct mf_store_settings {
    int64_t lease_s, max_crashes, max_losses, retention_s;
    int64_t audit_retention_s; /* 0 = for ever */
    const char *destinations;  /* addresses that results are stored back to, between spaces; NULL =
                                  none */
    const char *shares;        /* of tenants in the queue (shares.h); NULL = all are equal */
    const struct mf_vault
        *vault;           /* the database is encrypted (store_sqlite_pages.h); NULL = plain */
    const char *database; /* where a PostgreSQL database is (libpq's connection string); NULL =
                             SQLite in the directory */
    bool fresh_start;     /* no worker can be alive: what was running is taken as lost at once.
                             Otherwise running jobs get a new lease (the store alone was restarted) */
};

/* The SQLite database "store.db" in `directory`, owned by this process; a second owner fails with
 * MF_ERR_IO. Claims and waits of this handle do not wait. */
struct mf_store *mf_store_open_sqlite(const char *directory,
                                      const struct mf_store_settings *settings,
                                      struct mf_error *err) MF_CHECK_RESULT;

/* The PostgreSQL database settings.database. The same holds; leases are the database's, so
 * fresh_start means nothing. MF_ERR_UNAVAILABLE when it cannot be reached. */
struct mf_store *mf_store_open_postgres(const struct mf_store_settings *settings,
                                        struct mf_error *err) MF_CHECK_RESULT;

/* Whichever of the two the settings say. */
struct mf_store *mf_store_open(const char *directory, const struct mf_store_settings *settings,
                               struct mf_error *err) MF_CHECK_RESULT;

/* A client of the store process that listens in `directory`. Connects on first use, and again when
 * the connection breaks; a call fails with MF_ERR_IO when the store has not answered for
 * patience_ms. */
struct mf_store *mf_store_connect(const char *directory, int patience_ms,
                                  struct mf_error *err) MF_CHECK_RESULT;

/* Binds and listens on "store.sock" in `directory` (any length of path). The supervisor keeps this
 * socket across restarts of the store, so that clients find it at once. The caller closes it. −1 on
 * failure. */
int mf_store_listen(const char *directory, struct mf_error *err) MF_CHECK_RESULT;

struct mf_store_server {
    const char *directory;
    struct mf_store_settings settings;
    int listen_fd; /* from mf_store_listen(); borrowed */
    int stop_fd;   /* serving ends when it becomes readable; −1 = none */
    int ready_fd;  /* gets one byte when the database is open, and is closed; −1 = none */
};

/* The store process: opens the database and serves until SIGTERM or SIGINT (which it blocks and
 * takes itself) or stop_fd. Returns false when the disk failed: nothing was acknowledged that is
 * not durable, and the process should be started again. */
bool mf_store_server_run(const struct mf_store_server *server,
                         struct mf_error *err) MF_CHECK_RESULT;

/* --- names --- */

/* A new random id (getrandom). */
void mf_job_id_new(char out[MF_JOB_ID]);
/* Whether the text is 32 lower-case hex digits. */
bool mf_job_id_valid(const char *id);
bool mf_job_state_terminal(enum mf_job_state state);
const char *mf_job_state_name(enum mf_job_state state);
bool mf_job_state_parse(const char *name, enum mf_job_state *ret);
const char *mf_priority_name(enum mf_priority priority);
bool mf_priority_parse(const char *name, enum mf_priority *ret);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_store, struct mf_store *, mf_store_free(*p))

#endif
