/*
 * Store: instances (STOW-RS, C-STORE, fetched), their series and studies. They exist before and
 * independently of jobs; a job's inputs may lie in the same packs.
 *
 * A study is complete when nothing of it has arrived for the quiet time that its last instance was
 * added with: then it is `due`, somebody makes a job of it and settles it. What arrives later makes
 * it due again. The rules of store.h hold: true means durable, every call may be repeated.
 */
#ifndef MF_SERVER_STORE_INSTANCES_H
#define MF_SERVER_STORE_INSTANCES_H

#include "dicom/instance.h"
#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MF_STORE_BATCH = 1000, /* instances of one call, rows of one answer */
    MF_STORE_NOT_DUE = -1  /* as a quiet time: whether and when the study is due stays as it was */
};

/* One stored instance: what it is, and where its bytes (a Part 10 file) lie. */
struct mf_stored {
    struct mf_instance instance;
    const char *locator; /* of a pack */
    uint64_t offset, size;
    unsigned char sha256[MF_SHA256_BYTES];
    const char *source;  /* "stow", "dimse:CALLING", "dimse:CALLING\CALLED" (routing.h) */
    int64_t received_ms; /* the store's */
};

enum mf_add_result {
    MF_ADD_STORED,
    MF_ADD_KNOWN,        /* these very bytes are stored already */
    MF_ADD_DIFFERENT,    /* other bytes are stored under its SOP Instance UID: nothing changed */
    MF_ADD_OTHER_PATIENT /* its study is another patient's: nothing changed */
};

struct mf_added {
    enum mf_add_result result;
    char locator[MF_JOB_ID]; /* unless STORED: of what is there */
    uint64_t offset, size, data_set;
};

/* Adds up to MF_STORE_BATCH instances in one transaction; ret[i] tells what became of each. Their
 * packs must be durable. A study that got something is due quiet_ms from now (or
 * MF_STORE_NOT_DUE). */
bool mf_store_instances_add(struct mf_store *store, const char *tenant, int64_t quiet_ms,
                            const struct mf_stored *instances, size_t n, struct mf_added *ret,
                            struct mf_error *err) MF_CHECK_RESULT;

/* --- searching --- */

enum mf_match_kind {
    MF_MATCH_EQUAL,   /* "" fits what is absent */
    MF_MATCH_PATTERN, /* '*' any text, '?' one character; letters of any case */
    MF_MATCH_RANGE,   /* "from-to" of DA and TM, either end may be missing */
    MF_MATCH_LIST     /* any of the values between ',' or '\' */
};

struct mf_match {
    enum mf_attribute_id attribute;
    enum mf_match_kind kind;
    const char *value;
};

struct mf_search {
    const char *tenant;
    enum mf_level level; /* of the rows wanted */
    const struct mf_match *matches;
    size_t match_count;
    size_t limit, offset; /* limit 1 … MF_STORE_BATCH */
};

/* One study, series or instance: `stored.instance` has the attributes of its level and those above;
 * `stored`'s place is an instance's only. */
struct mf_found {
    struct mf_stored stored;
    int64_t series_count, instance_count; /* of a study; the latter of a series, too */
    const char *modalities;               /* of a study, between '\' */
};

/* Oldest first. Memory of the arena. */
bool mf_store_instances_search(struct mf_store *store, const struct mf_search *search,
                               struct mf_arena *arena, struct mf_found **ret, size_t *ret_count,
                               struct mf_error *err) MF_CHECK_RESULT;

/* --- studies and their jobs --- */

struct mf_due_study {
    char tenant[MF_TENANT];
    char uid[65];
    int64_t revision; /* grows with every instance */
};

/* Studies that are due now, up to `max`; *ret_next_ms: how long until the next one is, −1 = none.
 */
bool mf_store_studies_due(struct mf_store *store, struct mf_due_study *ret, size_t max,
                          size_t *ret_count, int64_t *ret_next_ms,
                          struct mf_error *err) MF_CHECK_RESULT;

/* Records what became of a due study: its job, or (job NULL) why there is none. retry_ms > 0: due
 * again then, unless something new makes it due earlier. */
bool mf_store_study_settle(struct mf_store *store, const struct mf_due_study *study,
                           const char *job, const struct mf_error *problem, int64_t retry_ms,
                           struct mf_error *err) MF_CHECK_RESULT;

/* The sender has said that it has sent everything: if the study is waiting for its quiet time, it
 * is due now. */
bool mf_store_study_hasten(struct mf_store *store, const char *tenant, const char *uid,
                           struct mf_error *err) MF_CHECK_RESULT;

/* What is known of one study. */
struct mf_study_state {
    int64_t instances, revision, first_ms, last_ms;
    int64_t due_in_ms;             /* −1 = settled */
    struct mf_error problem;       /* why there is no job; MF_OK = none */
    const char (*jobs)[MF_JOB_ID]; /* newest first: each supersedes the one behind it */
    size_t job_count;
};

/* MF_ERR_NOT_FOUND: nothing of this study is stored. */
bool mf_store_study(struct mf_store *store, const char *tenant, const char *uid,
                    struct mf_arena *arena, struct mf_study_state *ret,
                    struct mf_error *err) MF_CHECK_RESULT;

/* --- the outbox: results on their way to where they are stored back --- */

enum { MF_DESTINATION = 256 };

/* A result that is due at a destination. Rows are made in the transaction in which a job succeeds,
 * one for each of the settings' destinations. */
struct mf_delivery {
    int64_t id, attempts;
    char tenant[MF_TENANT], job[MF_JOB_ID], destination[MF_DESTINATION];
};

/* Some of the destinations: those in a list (addresses, a blank before, between and after them), or
 * with `others` those that are not in it. */
struct mf_destinations {
    const char *list;
    bool others;
};

/* Deliveries that are due now, of these destinations (NULL: of all); *ret_next_ms as for studies.
 * In a database that hosts share nobody else gets them for a while: whoever asks deals with all. */
bool mf_store_deliveries_due(struct mf_store *store, const struct mf_destinations *which,
                             struct mf_delivery *ret, size_t max, size_t *ret_count,
                             int64_t *ret_next_ms, struct mf_error *err) MF_CHECK_RESULT;
/* A delivery is done (problem NULL), is tried again in retry_ms, or (0) has failed for good: then
 * it is a dead letter (store_dead_letters.h). */
bool mf_store_delivery_settle(struct mf_store *store, int64_t id, const struct mf_error *problem,
                              int64_t retry_ms, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
