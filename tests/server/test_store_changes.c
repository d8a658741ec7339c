/* server/store_sql_changes.c: which jobs changed, in what order, and for whom. */
#include "store_fixture.h"

#include "server/store_changes.h"

static struct mf_changes ask(struct store_fixture *f, const char *tenant, int64_t after)
{
    struct mf_changes changes;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_store_changes(f->store, tenant, after, 0, f->arena, &changes, &err))
        fail_msg("%s", err.msg);
    return changes;
}

static int64_t head(struct store_fixture *f)
{
    struct mf_changes changes = ask(f, NULL, -1);
    assert_int_equal(changes.count, 0);
    assert_false(changes.lost);
    return changes.head;
}

static void test_every_step_of_a_job_is_a_change(void **state)
{
    struct store_fixture f;
    struct mf_claim *claim = NULL;
    struct mf_changes c;
    char id[MF_JOB_ID];
    (void)state;
    fixture_start(&f);
    int64_t at = head(&f);
    assert_int_equal(ask(&f, NULL, at).count, 0);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    c = ask(&f, NULL, at);
    assert_int_equal(c.count, 1);
    assert_string_equal(c.list[0].job.id, id);
    assert_int_equal(c.list[0].job.state, MF_JOB_QUEUED);
    assert_int_equal(c.list[0].job.position, 1);
    assert_int_equal(c.list[0].number, c.head);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &claim), 1);
    c = ask(&f, NULL, c.head);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.list[0].job.state, MF_JOB_RUNNING);
    struct mf_heartbeat beat = {.job = fixture_ref(claim), .progress = 0.5};
    assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
    c = ask(&f, NULL, c.head);
    assert_int_equal(c.count, 1);
    assert_true(c.list[0].job.progress == 0.5);
    assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL)); /* no progress: no change */
    assert_int_equal(ask(&f, NULL, c.head).count, 0);
    fixture_succeed(&f, fixture_ref(claim));
    c = ask(&f, NULL, c.head);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.list[0].job.state, MF_JOB_SUCCEEDED);
    fixture_end(&f);
}

static void test_a_job_is_told_once_by_its_last_change(void **state)
{
    struct store_fixture f;
    struct mf_claim *claim = NULL;
    char first[MF_JOB_ID], second[MF_JOB_ID];
    (void)state;
    fixture_start(&f);
    int64_t at = head(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, first);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, second);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &claim), 1);
    fixture_succeed(&f, fixture_ref(claim));
    struct mf_changes c = ask(&f, NULL, at);
    assert_int_equal(c.count, 2);
    assert_string_equal(c.list[0].job.id, second);
    assert_string_equal(c.list[1].job.id, first);
    assert_true(c.list[0].number < c.list[1].number);
    c = ask(&f, NULL, c.list[0].number);
    assert_int_equal(c.count, 1);
    assert_string_equal(c.list[0].job.id, first);
    fixture_end(&f);
}

static void test_a_tenant_is_told_of_its_own(void **state)
{
    struct store_fixture f;
    struct mf_submission north = fixture_submission();
    struct mf_submitted made;
    char id[MF_JOB_ID];
    (void)state;
    fixture_start(&f);
    int64_t at = head(&f);
    north.tenant = "north";
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_true(mf_store_submit(f.store, &north, &made, NULL));
    assert_int_equal(ask(&f, NULL, at).count, 2);
    struct mf_changes c = ask(&f, "north", at);
    assert_int_equal(c.count, 1);
    assert_string_equal(c.list[0].job.id, made.id);
    assert_string_equal(c.list[0].job.tenant, "north");
    assert_int_equal(ask(&f, "south", at).count, 0);
    assert_int_equal(ask(&f, "south", at).head, c.head);
    fixture_end(&f);
}

static void test_pages_leave_nothing_out(void **state)
{
    struct store_fixture f;
    char ids[MF_CHANGES_PAGE + 3][MF_JOB_ID];
    (void)state;
    fixture_start(&f);
    int64_t at = head(&f);
    for (size_t i = 0; i < MF_CHANGES_PAGE + 3; i++)
        fixture_submit(&f, MF_PRIORITY_ROUTINE, ids[i]);
    struct mf_changes c = ask(&f, NULL, at);
    assert_int_equal(c.count, MF_CHANGES_PAGE);
    assert_int_equal(c.head, c.list[MF_CHANGES_PAGE - 1].number);
    c = ask(&f, NULL, c.head);
    assert_int_equal(c.count, 3);
    assert_string_equal(c.list[2].job.id, ids[MF_CHANGES_PAGE + 2]);
    fixture_end(&f);
}

static void test_what_is_not_known_any_more_is_lost(void **state)
{
    struct store_fixture f;
    struct mf_claim *claim = NULL;
    char id[MF_JOB_ID];
    (void)state;
    fixture_start(&f);
    int64_t at = head(&f);
    assert_true(ask(&f, NULL, 0).lost);
    assert_true(ask(&f, NULL, at + 1).lost); /* from the future: a clock that was wrong */
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &claim), 1);
    int64_t then = head(&f);
    if (fixture_on_postgres()) { /* as if many jobs had changed */
        mf_store_free(f.store);
        fixture_execute(&f, "DELETE FROM job_changes; UPDATE store_head SET change = change + 9999;"
                            "INSERT INTO job_changes SELECT change, 1 FROM store_head");
        fixture_open(&f);
        assert_true(ask(&f, NULL, then).lost);
        fixture_end(&f);
        return;
    }
    struct mf_heartbeat beat = {.job = fixture_ref(claim)};
    for (int i = 1; i <= MF_CHANGES_KEPT; i++) {
        beat.progress = i / 20000.0;
        assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
    }
    assert_false(ask(&f, NULL, then).lost);
    assert_int_equal(ask(&f, NULL, then).count, 1);
    assert_true(ask(&f, NULL, then - 1).lost);
    assert_int_equal(ask(&f, NULL, then - 1).count, 0);
    int64_t last = head(&f);
    mf_store_free(f.store);
    fixture_open(&f); /* the next run of the store */
    assert_true(head(&f) > last);
    assert_true(ask(&f, NULL, last).lost);
    fixture_end(&f);
}

static void test_what_fails_is_no_change(void **state)
{
    struct store_fixture f;
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    fixture_start(&f);
    int64_t at = head(&f);
    sub.max_queued = 1;
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    mf_job_id_new(sub.id);
    assert_false(mf_store_submit(f.store, &sub, &made, &err));
    assert_int_equal(err.code, MF_ERR_BUSY);
    assert_int_equal(ask(&f, NULL, at).count, 1);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step_of_a_job_is_a_change),
        cmocka_unit_test(test_a_job_is_told_once_by_its_last_change),
        cmocka_unit_test(test_a_tenant_is_told_of_its_own),
        cmocka_unit_test(test_pages_leave_nothing_out),
        cmocka_unit_test(test_what_is_not_known_any_more_is_lost),
        cmocka_unit_test(test_what_fails_is_no_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
