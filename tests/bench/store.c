/*
 * Durable jobs a second through the store, with a model that does nothing: a store process as the
 * daemon has it, `clients` processes that submit (each waits for its answer, so every one is
 * committed before the next) and one process that claims batches and finishes them.
 *
 *   bench_store [SECONDS] [CLIENTS]      SQLite in a temporary directory, or the PostgreSQL
 * database of MEDFUSION_TEST_DATABASE (an empty one)
 */
#include "server/store.h"

#include "core/clock.h"
#include "core/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000, BATCH = 64, INDEX_BYTES = 2000, RESULT_BYTES = 3000 };

static int fail(const struct mf_error *err)
{
    fprintf(stderr, "bench_store: %s\n", err->msg);
    return 1;
}

static int serve(const char *directory, int listen_fd)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_store_server server = {
        .directory = directory,
        .settings = {.lease_s = 30,
                     .max_crashes = 3,
                     .max_losses = 20,
                     .retention_s = 86400,
                     .database = getenv("MEDFUSION_TEST_DATABASE"),
                     .fresh_start = true},
        .listen_fd = listen_fd,
        .stop_fd = -1,
        .ready_fd = -1};
    return mf_store_server_run(&server, &err) ? 0 : fail(&err);
}

static int submit(const char *directory, uint64_t end_ns)
{
    struct mf_error err = MF_ERROR_INIT;
    static char index[INDEX_BYTES];
    MF_AUTO(mf_store) struct mf_store *store = mf_store_connect(directory, PATIENCE_MS, &err);
    struct mf_job_input input = {
        .part = "dicom", .kind = "blob", .locator = "00000000000000000000000000000000", .size = 1};
    memset(index, 'i', sizeof index);
    while (store && mf_clock_monotonic_ns() < end_ns) {
        struct mf_submission s = {.tenant = MF_TENANT_DEFAULT,
                                  .priority = MF_PRIORITY_ROUTINE,
                                  .options = "{}",
                                  .index = index,
                                  .index_len = sizeof index,
                                  .inputs = &input,
                                  .input_count = 1};
        struct mf_submitted made;
        mf_job_id_new(s.id);
        if (!mf_store_submit(store, &s, &made, &err))
            return fail(&err);
    }
    return store ? 0 : fail(&err);
}

/* Claims until nothing has come for a second; *ret_done counts what was finished. */
static bool work(struct mf_store *store, long *ret_done, struct mf_error *err)
{
    static char result[RESULT_BYTES];
    memset(result, 'r', sizeof result);
    for (;;) {
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(64 << 20);
        const struct mf_claim_request request = {.worker = "bench", .max = BATCH, .wait_ms = 1000};
        struct mf_claim *claims = NULL;
        struct mf_outcome outcomes[BATCH];
        size_t n = 0;
        if (!arena || !mf_store_claim(store, &request, arena, &claims, &n, err))
            return false;
        if (n == 0)
            return true;
        for (size_t i = 0; i < n; i++) {
            outcomes[i] = (struct mf_outcome){
                .state = MF_JOB_SUCCEEDED, .result = result, .result_len = sizeof result};
            memcpy(outcomes[i].job.id, claims[i].id, MF_JOB_ID);
            outcomes[i].job.fence = claims[i].fence;
        }
        if (!mf_store_finish(store, outcomes, n, err))
            return false;
        *ret_done += (long)n;
    }
}

static int measure(const char *directory, int clients, int seconds)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_store) struct mf_store *store = mf_store_connect(directory, PATIENCE_MS, &err);
    struct mf_store_counts counts;
    long done = 0;
    if (!store || !mf_store_counts(store, &counts, &err)) /* the store is up */
        return fail(&err);
    const uint64_t begin = mf_clock_monotonic_ns();
    for (int i = 0; i < clients; i++)
        if (fork() == 0)
            _exit(submit(directory, begin + (uint64_t)seconds * 1000000000));
    if (!work(store, &done, &err) || !mf_store_counts(store, &counts, &err))
        return fail(&err);
    const double took =
        (double)(mf_clock_monotonic_ns() - begin) / 1e9 - 1; /* it waited for more */
    printf(
        "%s: %.0f jobs/s durably accepted, claimed and finished (%ld jobs, %.1f s, %d clients)\n",
        getenv("MEDFUSION_TEST_DATABASE") ? "PostgreSQL" : "SQLite", (double)done / took, done,
        took, clients);
    return counts.finished_total[MF_JOB_SUCCEEDED] == done ? 0 : 1;
}

int main(int argc, char **argv)
{
    char directory[] = "/tmp/medfusion-bench-XXXXXX", command[64];
    struct mf_error err = MF_ERROR_INIT;
    const int seconds = argc > 1 ? atoi(argv[1]) : 10, clients = argc > 2 ? atoi(argv[2]) : 32;
    mf_log_setup(MF_LOG_ERROR, "bench");
    if (seconds < 1 || clients < 1 || clients > 1000) {
        fprintf(stderr, "usage: bench_store [SECONDS] [CLIENTS]\n");
        return 2;
    }
    int listen_fd = mkdtemp(directory) ? mf_store_listen(directory, &err) : -1;
    if (listen_fd < 0)
        return fail(&err);
    pid_t server = fork();
    if (server == 0)
        _exit(serve(directory, listen_fd));
    int status = measure(directory, clients, seconds);
    kill(server, SIGTERM);
    while (wait(NULL) > 0) {
    }
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? status : 1;
}
