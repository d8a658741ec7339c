/* The heartbeat against a real store process: leases hold, cancellation and loss are heard, a
 * hanging job ends. */
#include "server/heartbeat.h"

#include "server/process.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "store_fixture.h"

/* The lease is short, so that a missing beat is noticed; a beat comes every third of it. */
enum { LEASE_S = 1, LONGER_THAN_A_LEASE_MS = 2500, PATIENCE_MS = 20000 };

struct heartbeat_fixture {
    struct store_fixture f; /* its store is a client of the process */
    pid_t server;
    char id[MF_JOB_ID];
    struct mf_job_ref ref, other;
};

static int run_store(void *context)
{
    const struct store_fixture *f = context;
    const struct mf_store_server server = {.directory = f->directory,
                                           .settings = f->settings,
                                           .listen_fd = mf_store_listen(f->directory, NULL),
                                           .stop_fd = -1,
                                           .ready_fd = -1};
    return mf_store_server_run(&server, NULL) ? 0 : 1;
}

static int set_up_with(void **state, int64_t lease_s)
{
    static struct heartbeat_fixture h;
    struct mf_claim *claim;
    fixture_start(&h.f);
    mf_store_free(h.f.store); /* the server owns the database */
    h.f.settings.lease_s = lease_s;
    h.server = mf_process_fork("store", run_store, &h.f, NULL);
    h.f.store = mf_store_connect(h.f.directory, PATIENCE_MS, NULL);
    fixture_submit(&h.f, MF_PRIORITY_ROUTINE, h.id);
    assert_int_equal(fixture_claim(&h.f, "worker", 1, NULL, 0, &claim), 1);
    h.ref = fixture_ref(claim);
    *state = &h;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, LEASE_S);
}

/* Leases that nobody loses. */
static int set_up_patient(void **state)
{
    return set_up_with(state, 600);
}

static int tear_down(void **state)
{
    struct heartbeat_fixture *h = *state;
    int status;
    kill(h->server, SIGTERM);
    waitpid(h->server, &status, 0);
    fixture_end(&h->f);
    return status;
}

static struct mf_heartbeat_thread *start(struct heartbeat_fixture *h, int64_t job_timeout_s)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_heartbeat_options options = {
        .directory = h->f.directory,
        .worker = {.id = "worker", .device = "cpu", .ready = true, .models = "[]"},
        .lease_s = LEASE_S,
        .job_timeout_s = job_timeout_s};
    struct mf_heartbeat_thread *t = mf_heartbeat_start(&options, &err);
    if (!t)
        fail_msg("%s", err.msg);
    mf_heartbeat_hold(t, &h->ref, 1);
    mf_heartbeat_running(t, 0, 1);
    return t;
}

/* Waits until the store has said this about the job. */
static void wait_for_lease(struct mf_heartbeat_thread *t, enum mf_lease lease)
{
    for (int i = 0; i < PATIENCE_MS / 20 && mf_heartbeat_lease(t, 0) != lease; i++)
        poll(NULL, 0, 20);
    assert_int_equal(mf_heartbeat_lease(t, 0), lease);
}

static void a_worker_is_announced_from_the_start(void **state)
{
    struct heartbeat_fixture *h = *state;
    MF_AUTO(mf_heartbeat_thread) struct mf_heartbeat_thread *t = start(h, 600);
    struct mf_worker *workers;
    size_t count = 0;
    assert_true(mf_store_workers(h->f.store, h->f.arena, &workers, &count, NULL));
    assert_int_equal(count, 1);
    assert_string_equal(workers[0].id, "worker");
    assert_true(workers[0].ready);
}

static void a_lease_is_kept_while_the_job_runs_and_its_progress_is_told(void **state)
{
    struct heartbeat_fixture *h = *state;
    MF_AUTO(mf_heartbeat_thread) struct mf_heartbeat_thread *t = start(h, 600);
    mf_heartbeat_progress(t, 0, 0.5);
    poll(NULL, 0, LONGER_THAN_A_LEASE_MS);
    struct mf_job job = fixture_job(&h->f, h->id);
    assert_int_equal(job.state, MF_JOB_RUNNING);
    assert_int_equal(job.attempts, 1);
    assert_true(job.progress == 0.5);
    assert_int_equal(mf_heartbeat_lease(t, 0), MF_LEASE_KEPT);
}

static void a_job_that_nobody_holds_any_more_is_given_to_others(void **state)
{
    struct heartbeat_fixture *h = *state;
    MF_AUTO(mf_heartbeat_thread) struct mf_heartbeat_thread *t = start(h, 600);
    mf_heartbeat_hold(t, NULL, 0);
    struct mf_claim *claim;
    const struct mf_claim_request request = {.worker = "other", .max = 1, .wait_ms = PATIENCE_MS};
    size_t count = 0;
    assert_true(mf_store_claim(h->f.store, &request, h->f.arena, &claim, &count, NULL));
    assert_int_equal(count, 1);
    assert_string_equal(claim->id, h->id);
    mf_heartbeat_hold(t, &h->ref, 1); /* the one who lost it hears so */
    wait_for_lease(t, MF_LEASE_LOST);
}

static void cancellation_is_heard(void **state)
{
    struct heartbeat_fixture *h = *state;
    MF_AUTO(mf_heartbeat_thread) struct mf_heartbeat_thread *t = start(h, 600);
    struct mf_job job;
    assert_true(mf_store_cancel(h->f.store, MF_TENANT_DEFAULT, h->id, &job, NULL));
    wait_for_lease(t, MF_LEASE_CANCEL);
}

static int hang(void *context)
{
    struct mf_heartbeat_thread *t = start(context, 1);
    poll(NULL, 0, PATIENCE_MS);
    mf_heartbeat_stop(t);
    return 0; /* it should have ended before */
}

static void a_job_that_hangs_fails_and_takes_its_process_with_it(void **state)
{
    struct heartbeat_fixture *h = *state;
    int status;
    pid_t pid = mf_process_fork("worker", hang, h, NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    struct mf_job job = fixture_job(&h->f, h->id);
    assert_int_equal(job.state, MF_JOB_FAILED);
    assert_int_equal(job.problem.code, MF_ERR_TIMEOUT);
    assert_string_equal(job.problem.msg, "the job took more than 1 seconds");
}

static int hang_together(void *context)
{
    struct heartbeat_fixture *h = context;
    struct mf_heartbeat_thread *t = start(h, 1);
    const struct mf_job_ref refs[] = {h->ref, h->other};
    mf_heartbeat_hold(t, refs, 2);
    mf_heartbeat_running(t, 0, 2);
    poll(NULL, 0, PATIENCE_MS);
    mf_heartbeat_stop(t);
    return 0; /* it should have ended before */
}

static void jobs_that_hang_together_are_tried_alone(void **state)
{
    struct heartbeat_fixture *h = *state;
    struct mf_claim *claim;
    char id[MF_JOB_ID];
    int status;
    fixture_submit(&h->f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&h->f, "worker", 1, &h->ref, 1, &claim), 1);
    h->other = fixture_ref(claim);
    pid_t pid = mf_process_fork("worker", hang_together, h, NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_int_equal(fixture_job(&h->f, h->id).state, MF_JOB_QUEUED);
    assert_int_equal(fixture_job(&h->f, id).state, MF_JOB_QUEUED);
    assert_int_equal(fixture_claim(&h->f, "next", 2, NULL, 0, &claim), 1); /* not both */
    assert_true(claim->solo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_is_announced_from_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lease_is_kept_while_the_job_runs_and_its_progress_is_told,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_job_that_nobody_holds_any_more_is_given_to_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(cancellation_is_heard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_job_that_hangs_fails_and_takes_its_process_with_it,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(jobs_that_hang_together_are_tried_alone, set_up_patient,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
