/* server/store_sql_attempts.c: fences, cancellation, and every rule of crash accounting. */
#include "store_fixture.h"

#include "server/store_sql.h"

static void an_old_fence_changes_nothing(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *old, *now;
    fixture_claim(&f, "slow", 1, NULL, 0, &old);
    assert_true(mf_store_worker_gone(f.store, "slow", MF_END_LOST, NULL));
    fixture_claim(&f, "next", 1, NULL, 0, &now);
    assert_true(now->fence > old->fence);
    struct mf_heartbeat beat = {.job = fixture_ref(old)};
    assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
    assert_int_equal(beat.lease, MF_LEASE_LOST);
    assert_int_equal(fixture_succeed(&f, fixture_ref(old)), MF_LEASE_LOST);
    struct mf_job_ref ref = fixture_ref(old);
    assert_true(mf_store_release(f.store, &ref, 1, MF_END_CRASHED, NULL));
    assert_int_equal(fixture_job(&f, id).state, MF_JOB_RUNNING);
    assert_int_equal(fixture_succeed(&f, fixture_ref(now)), MF_LEASE_KEPT);
    assert_int_equal(fixture_job(&f, id).state, MF_JOB_SUCCEEDED);
    fixture_end(&f);
}

static void a_result_is_recorded_once(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    assert_int_equal(fixture_succeed(&f, fixture_ref(c)), MF_LEASE_KEPT);
    struct mf_outcome other = {
        .job = fixture_ref(c), .state = MF_JOB_SUCCEEDED, .result = "{}", .result_len = 2};
    assert_true(mf_store_finish(f.store, &other, 1, NULL));
    assert_int_equal(other.lease, MF_LEASE_KEPT); /* a repeated call finds it done */
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 1000);
    struct mf_job job;
    assert_true(mf_store_result(f.store, MF_TENANT_DEFAULT, id, &job, &text, NULL, NULL));
    assert_string_equal(text.data, "{\"schema\":\"medfusion.result/1\"}");
    struct mf_store_counts counts;
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.finished_total[MF_JOB_SUCCEEDED], 1);
    fixture_end(&f);
}

static void an_incomplete_outcome_is_refused_and_undoes_its_group(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char a[MF_JOB_ID], b[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, a);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, b);
    struct mf_claim *c;
    fixture_claim(&f, "w", 2, NULL, 0, &c);
    struct mf_outcome outcomes[2] = {
        {.job = fixture_ref(&c[0]), .state = MF_JOB_SUCCEEDED, .result = "{}", .result_len = 2},
        {.job = fixture_ref(&c[1]), .state = MF_JOB_FAILED}};
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_store_finish(f.store, outcomes, 2, &err));
    assert_int_equal(err.code, MF_ERR_INTERNAL);
    assert_int_equal(fixture_job(&f, a).state, MF_JOB_RUNNING);
    fixture_end(&f);
}

static void a_failed_job_keeps_its_problem(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    struct mf_outcome outcome = {.job = fixture_ref(c), .state = MF_JOB_FAILED};
    mf_error_set(&outcome.problem, MF_ERR_UNUSABLE, "frame 3 cannot be decoded");
    assert_true(mf_store_finish(f.store, &outcome, 1, NULL));
    struct mf_job job = fixture_job(&f, id);
    assert_int_equal(job.state, MF_JOB_FAILED);
    assert_int_equal(job.problem.code, MF_ERR_UNUSABLE);
    assert_string_equal(job.problem.msg, "frame 3 cannot be decoded");
    fixture_end(&f);
}

static void three_crashes_alone_fail_the_job(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fixture_job(&f, id).state, MF_JOB_QUEUED);
        assert_int_equal(fixture_claim(&f, "w", 8, NULL, 0, &c), 1);
        assert_int_equal(c->attempt, i + 1);
        assert_true(mf_store_worker_gone(f.store, "w", MF_END_CRASHED, NULL));
    }
    struct mf_job job = fixture_job(&f, id);
    assert_int_equal(job.state, MF_JOB_FAILED);
    assert_int_equal(job.problem.code, MF_ERR_CRASHED);
    assert_string_equal(job.problem.msg, "processing this job alone crashed the worker 3 times");
    fixture_end(&f);
}

static void a_crash_in_a_batch_counts_for_nobody_and_all_rerun_alone(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char a[MF_JOB_ID], b[MF_JOB_ID], later[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, a);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, b);
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&f, "w1", 8, NULL, 0, &c), 2);
    assert_true(mf_store_worker_gone(f.store, "w1", MF_END_CRASHED, NULL));
    fixture_submit(&f, MF_PRIORITY_ROUTINE, later);

    assert_int_equal(fixture_claim(&f, "w2", 8, NULL, 0, &c), 1); /* one at a time */
    assert_string_equal(c->id, a);
    assert_true(c->solo);
    struct mf_job_ref held = fixture_ref(c);
    struct mf_claim *more;
    assert_int_equal(fixture_claim(&f, "w2", 8, &held, 1, &more), 0);
    assert_int_equal(fixture_claim(&f, "w3", 8, NULL, 0, &more), 1); /* another worker may */
    assert_string_equal(more->id, b);
    /* Two more crashes alone do not fail it: the one in the batch did not count. */
    assert_true(mf_store_worker_gone(f.store, "w2", MF_END_CRASHED, NULL));
    fixture_claim(&f, "w4", 8, NULL, 0, &c);
    assert_string_equal(c->id, a);
    assert_true(mf_store_worker_gone(f.store, "w4", MF_END_CRASHED, NULL));
    assert_int_equal(fixture_job(&f, a).state, MF_JOB_QUEUED);
    assert_int_equal(fixture_succeed(&f, fixture_ref(more)), MF_LEASE_KEPT);
    assert_int_equal(fixture_job(&f, b).state, MF_JOB_SUCCEEDED);
    fixture_end(&f);
}

static void a_solo_job_waits_for_a_worker_of_its_own_and_is_not_overtaken_for_ever(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char a[MF_JOB_ID], b[MF_JOB_ID], running[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_STAT, running);
    struct mf_claim *busy, *c;
    fixture_claim(&f, "busy", 1, NULL, 0, &busy);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, a);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, b);
    fixture_claim(&f, "w", 2, NULL, 0, &c);
    assert_true(mf_store_worker_gone(f.store, "w", MF_END_CRASHED, NULL));
    struct mf_job_ref held = fixture_ref(busy);
    assert_int_equal(fixture_claim(&f, "busy", 8, &held, 1, &c), 0);
    fixture_succeed(&f, held);
    assert_int_equal(fixture_claim(&f, "busy", 8, NULL, 0, &c), 1);
    assert_string_equal(c->id, a);
    fixture_end(&f);
}

static void outside_kills_do_not_count_until_the_cap(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(fixture_job(&f, id).state, MF_JOB_QUEUED);
        assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
        assert_true(mf_store_worker_gone(f.store, "w", MF_END_LOST, NULL));
    }
    struct mf_job job = fixture_job(&f, id);
    assert_int_equal(job.state, MF_JOB_FAILED);
    assert_string_equal(job.problem.msg,
                        "the worker was stopped or lost 20 times while running this job");
    fixture_end(&f);
}

static void a_graceful_return_counts_for_nothing(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
        struct mf_job_ref ref = fixture_ref(c);
        assert_true(mf_store_release(f.store, &ref, 1, MF_END_RETURNED, NULL));
    }
    struct mf_job job = fixture_job(&f, id);
    assert_int_equal(job.state, MF_JOB_QUEUED);
    assert_int_equal(job.attempts, 0);
    fixture_end(&f);
}

static void a_lease_that_runs_out_gives_the_job_back(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    mf_store_free(f.store);
    if (fixture_on_postgres())
        fixture_execute(&f, "UPDATE leases SET deadline = 1");
    f.settings.lease_s = 0; /* whatever was running has a lease that is over when the store opens */
    fixture_open(&f);
    assert_true(mf_sql_expire_leases((struct mf_sql_store *)f.store, NULL));
    assert_int_equal(fixture_job(&f, id).state, MF_JOB_QUEUED);
    assert_int_equal(fixture_succeed(&f, fixture_ref(c)), MF_LEASE_LOST);
    fixture_end(&f);
}

static void cancelling_a_queued_job_is_final_at_once(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_job job;
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, &err));
    assert_int_equal(job.state, MF_JOB_CANCELLED);
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 0);
    assert_false(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, &err));
    assert_int_equal(err.code, MF_ERR_CONFLICT);
    fixture_end(&f);
}

static void cancelling_a_running_job_wins_over_its_result(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    struct mf_job job;
    for (int i = 0; i < 2; i++) { /* repeatable */
        assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL));
        assert_int_equal(job.state, MF_JOB_RUNNING);
        assert_true(job.cancel_requested);
    }
    struct mf_heartbeat beat = {.job = fixture_ref(c), .progress = 0.5};
    assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
    assert_int_equal(beat.lease, MF_LEASE_CANCEL);
    assert_true(fixture_job(&f, id).progress == 0.5);
    assert_int_equal(fixture_succeed(&f, fixture_ref(c)), MF_LEASE_KEPT);
    assert_int_equal(fixture_job(&f, id).state, MF_JOB_CANCELLED);
    fixture_end(&f);
}

static void a_cancelled_job_does_not_come_back_after_a_crash(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *c;
    struct mf_job job;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL));
    assert_true(mf_store_worker_gone(f.store, "w", MF_END_CRASHED, NULL));
    assert_int_equal(fixture_job(&f, id).state, MF_JOB_CANCELLED);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_fence_changes_nothing),
        cmocka_unit_test(a_result_is_recorded_once),
        cmocka_unit_test(an_incomplete_outcome_is_refused_and_undoes_its_group),
        cmocka_unit_test(a_failed_job_keeps_its_problem),
        cmocka_unit_test(three_crashes_alone_fail_the_job),
        cmocka_unit_test(a_crash_in_a_batch_counts_for_nobody_and_all_rerun_alone),
        cmocka_unit_test(a_solo_job_waits_for_a_worker_of_its_own_and_is_not_overtaken_for_ever),
        cmocka_unit_test(outside_kills_do_not_count_until_the_cap),
        cmocka_unit_test(a_graceful_return_counts_for_nothing),
        cmocka_unit_test(a_lease_that_runs_out_gives_the_job_back),
        cmocka_unit_test(cancelling_a_queued_job_is_final_at_once),
        cmocka_unit_test(cancelling_a_running_job_wins_over_its_result),
        cmocka_unit_test(a_cancelled_job_does_not_come_back_after_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
