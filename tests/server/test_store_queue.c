/* server/store_sql_queue.c: admission, order, idempotency, claims. */
#include "store_fixture.h"

static void start_is_in_the_queue_with_a_position(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char first[MF_JOB_ID], second[MF_JOB_ID], urgent[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, first);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, second);
    fixture_submit(&f, MF_PRIORITY_STAT, urgent);
    assert_int_equal(fixture_job(&f, urgent).position, 1);
    assert_int_equal(fixture_job(&f, first).position, 2);
    assert_int_equal(fixture_job(&f, second).position, 3);
    assert_int_equal(fixture_job(&f, first).state, MF_JOB_QUEUED);
    fixture_end(&f);
}

static void claims_follow_priority_then_age(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char routine[MF_JOB_ID], urgent[MF_JOB_ID], stat[MF_JOB_ID], later[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, routine);
    fixture_submit(&f, MF_PRIORITY_URGENT, urgent);
    fixture_submit(&f, MF_PRIORITY_STAT, stat);
    fixture_submit(&f, MF_PRIORITY_STAT, later);
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&f, "w", 10, NULL, 0, &c), 4);
    assert_string_equal(c[0].id, stat);
    assert_string_equal(c[1].id, later);
    assert_string_equal(c[2].id, urgent);
    assert_string_equal(c[3].id, routine);
    assert_int_equal(fixture_job(&f, stat).state, MF_JOB_RUNNING);
    fixture_end(&f);
}

static void a_claim_carries_everything_the_worker_needs(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    struct mf_submission sub = fixture_submission();
    struct mf_job_input inputs[2] = {
        {.part = "dicom", .kind = "blob", .locator = "aa", .offset = 8, .size = 100},
        {.part = "ehr", .kind = "blob", .locator = "aa", .offset = 112, .size = 5}};
    memset(inputs[0].sha256, 0x5A, MF_SHA256_BYTES);
    sub.inputs = inputs;
    sub.input_count = 2;
    sub.model = "thorax";
    struct mf_submitted made;
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
    assert_string_equal(c->model, "thorax");
    assert_string_equal(c->options, "{\"alpha\":0.1}");
    assert_int_equal(c->index_len, 14);
    assert_memory_equal(c->index, "{\"objects\":[]}", 14);
    assert_int_equal(c->input_count, 2);
    assert_string_equal(c->inputs[1].part, "ehr");
    assert_int_equal(c->inputs[1].offset, 112);
    assert_int_equal(c->inputs[0].sha256[31], 0x5A);
    assert_int_equal(c->attempt, 1);
    assert_false(c->solo);
    fixture_end(&f);
}

static void a_submission_has_an_id_and_a_priority(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    for (int wrong = 0; wrong < 3; wrong++) {
        struct mf_submission sub = fixture_submission();
        struct mf_submitted made;
        struct mf_store_counts counts;
        struct mf_error err = MF_ERROR_INIT;
        if (wrong == 0)
            sub.id[5] = 'g';
        else
            sub.priority = wrong == 1 ? MF_PRIORITY_COUNT : (enum mf_priority) - 1;
        assert_false(mf_store_submit(f.store, &sub, &made, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a submission has an invalid id or priority");
        assert_true(mf_store_counts(f.store, &counts, NULL));
        assert_int_equal(counts.jobs[MF_JOB_QUEUED], 0);
    }
    fixture_end(&f);
}

static void a_full_queue_refuses_and_says_busy(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_error err = MF_ERROR_INIT;
    sub.max_queued = 1;
    assert_true(mf_store_submit(f.store, &sub, &made, &err));
    assert_int_equal(made.queued, 1);
    sub = fixture_submission();
    sub.max_queued = 1;
    assert_false(mf_store_submit(f.store, &sub, &made, &err));
    assert_int_equal(err.code, MF_ERR_BUSY);
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1); /* running jobs do not count */
    mf_error_clear(&err);
    assert_true(mf_store_submit(f.store, &sub, &made, &err));
    fixture_end(&f);
}

static void the_same_key_and_content_is_the_same_job_in_any_state(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    struct mf_submission sub = fixture_submission();
    struct mf_submitted first, again;
    sub.idempotency_key = "key-1";
    memset(sub.fingerprint, 1, sizeof sub.fingerprint);
    assert_true(mf_store_submit(f.store, &sub, &first, NULL));
    assert_false(first.replayed);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    fixture_succeed(&f, fixture_ref(c));
    mf_job_id_new(sub.id);
    sub.max_queued = 1; /* a replay is no new work: admission does not matter */
    assert_true(mf_store_submit(f.store, &sub, &again, NULL));
    assert_true(again.replayed);
    assert_string_equal(again.id, first.id);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 0);
    fixture_end(&f);
}

static void the_same_key_with_other_content_is_refused(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_error err = MF_ERROR_INIT;
    sub.idempotency_key = "key-1";
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    mf_job_id_new(sub.id);
    sub.fingerprint[0] ^= 1;
    assert_false(mf_store_submit(f.store, &sub, &made, &err));
    assert_int_equal(err.code, MF_ERR_UNUSABLE);
    sub.tenant = "other"; /* keys of other tenants are other keys */
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    fixture_end(&f);
}

static void a_repeated_submit_of_one_id_makes_one_job(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    struct mf_store_counts counts;
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.jobs[MF_JOB_QUEUED], 1);
    assert_int_equal(counts.submitted_total, 1);
    fixture_end(&f);
}

static void a_claim_whose_reply_was_lost_is_handed_out_again(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_claim *lost, *c;
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &lost), 1);
    assert_int_equal(fixture_claim(&f, "other", 1, NULL, 0, &c), 0);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
    assert_string_equal(c->id, id);
    assert_int_equal(c->fence, lost->fence);
    struct mf_job_ref held = fixture_ref(c);
    assert_int_equal(fixture_claim(&f, "w", 1, &held, 1, &c), 0);
    assert_int_equal(fixture_job(&f, id).attempts, 1);
    fixture_end(&f);
}

static void jobs_of_another_tenant_do_not_exist(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char id[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    struct mf_error err = MF_ERROR_INIT;
    struct mf_job job;
    assert_false(mf_store_job(f.store, "other", id, &job, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    mf_error_clear(&err);
    assert_false(mf_store_cancel(f.store, "other", id, &job, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    fixture_end(&f);
}

static void jobs_survive_a_restart(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char queued[MF_JOB_ID], running[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_STAT, running);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, queued);
    mf_store_free(f.store);
    fixture_open(&f); /* the store alone was restarted: the worker goes on */
    assert_int_equal(fixture_job(&f, queued).state, MF_JOB_QUEUED);
    assert_int_equal(fixture_job(&f, running).state, MF_JOB_RUNNING);
    mf_store_free(f.store);
    f.settings.fresh_start = true; /* everything of this host was restarted */
    fixture_open(&f);
    if (fixture_on_postgres()) { /* its workers may be elsewhere: the lease goes on */
        assert_int_equal(fixture_job(&f, running).state, MF_JOB_RUNNING);
        assert_int_equal(fixture_succeed(&f, fixture_ref(c)), MF_LEASE_KEPT);
    } else {
        assert_int_equal(fixture_job(&f, running).state, MF_JOB_QUEUED);
        assert_int_equal(fixture_succeed(&f, fixture_ref(c)), MF_LEASE_LOST);
    }
    fixture_end(&f);
}

/* One more STAT job with every claim: they overtake, and still the routine job has its turn. */
static void stat_overtakes_and_routine_does_not_starve(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char routine[MF_JOB_ID], stat[MF_JOB_ID];
    int served = 0;
    fixture_submit(&f, MF_PRIORITY_ROUTINE, routine);
    fixture_submit(&f, MF_PRIORITY_STAT, stat);
    for (int i = 1; i <= 16 && served == 0; i++) {
        struct mf_claim *c;
        fixture_submit(&f, MF_PRIORITY_STAT, stat);
        assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
        if (strcmp(c->id, routine) == 0)
            served = i;
        fixture_succeed(&f, fixture_ref(c));
    }
    assert_int_equal(served, 8);
    struct mf_claim *all; /* in a batch, too, and each job once */
    for (int i = 0; i < 3; i++)
        fixture_submit(&f, i ? MF_PRIORITY_STAT : MF_PRIORITY_ROUTINE, routine);
    size_t n = fixture_claim(&f, "w", 20, NULL, 0, &all);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(all[i].id, all[k].id);
    assert_int_equal(n, 5);
    fixture_end(&f);
}

static void a_second_owner_is_kept_out(void **state)
{
    (void)state;
    struct store_fixture f;
    if (fixture_on_postgres())
        skip(); /* any number is welcome */
    fixture_start(&f);
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_store_open_sqlite(f.directory, &f.settings, &err));
    assert_int_equal(err.code, MF_ERR_IO);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_is_in_the_queue_with_a_position),
        cmocka_unit_test(claims_follow_priority_then_age),
        cmocka_unit_test(a_claim_carries_everything_the_worker_needs),
        cmocka_unit_test(a_submission_has_an_id_and_a_priority),
        cmocka_unit_test(a_full_queue_refuses_and_says_busy),
        cmocka_unit_test(the_same_key_and_content_is_the_same_job_in_any_state),
        cmocka_unit_test(the_same_key_with_other_content_is_refused),
        cmocka_unit_test(a_repeated_submit_of_one_id_makes_one_job),
        cmocka_unit_test(a_claim_whose_reply_was_lost_is_handed_out_again),
        cmocka_unit_test(jobs_of_another_tenant_do_not_exist),
        cmocka_unit_test(jobs_survive_a_restart),
        cmocka_unit_test(stat_overtakes_and_routine_does_not_starve),
        cmocka_unit_test(a_second_owner_is_kept_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
