/* A store in a temporary directory, and the few calls every store test makes. */
#ifndef MF_TESTS_SERVER_STORE_FIXTURE_H
#define MF_TESTS_SERVER_STORE_FIXTURE_H

#include "server/store.h"

#include "tests/expect.h"

struct store_fixture {
    char directory[64];
    struct mf_store_settings settings;
    struct mf_store *store;
    struct mf_arena *arena;
};

static inline void fixture_open(struct store_fixture *f)
{
    struct mf_error err = MF_ERROR_INIT;
    f->store = mf_store_open_sqlite(f->directory, &f->settings, &err);
    if (!f->store)
        fail_msg("%s", err.msg);
}

static inline void fixture_start(struct store_fixture *f)
{
    snprintf(f->directory, sizeof f->directory, "/tmp/medfusion-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    f->settings = (struct mf_store_settings){
        .lease_s = 30, .max_crashes = 3, .max_losses = 20, .retention_s = 86400};
    f->arena = mf_arena_new(0);
    fixture_open(f);
}

static inline void fixture_end(struct store_fixture *f)
{
    mf_store_free(f->store);
    mf_arena_free(f->arena);
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
