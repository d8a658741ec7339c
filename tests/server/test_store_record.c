/* server/store_sql_record.c and its way over the socket: what is kept of a job, in one answer.
 */
#include "served_fixture.h"

static void finish(struct store_fixture *f, const char *result, const char *masks)
{
    struct mf_claim *c;
    assert_int_equal(fixture_claim(f, "w", 1, NULL, 0, &c), 1);
    struct mf_outcome outcome = {.job = fixture_ref(c),
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = result,
                                 .result_len = strlen(result),
                                 .masks = masks,
                                 .masks_len = masks ? strlen(masks) : 0};
    assert_true(mf_store_finish(f->store, &outcome, 1, NULL));
}

static struct mf_job_record record_of(struct store_fixture *f, const char *id)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_job_record record;
    if (!mf_store_record(f->store, MF_TENANT_DEFAULT, id, f->arena, &record, &err))
        fail_msg("%s", err.msg);
    return record;
}

static void check_life_of_a_record(struct store_fixture *f)
{
    char id[MF_JOB_ID];
    fixture_submit(f, MF_PRIORITY_ROUTINE, id);
    struct mf_job_record r = record_of(f, id);
    assert_int_equal(r.job.state, MF_JOB_QUEUED);
    assert_null(r.result);
    assert_null(r.masks);
    assert_int_equal(r.input_count, 1);
    finish(f, "{\"schema\":\"medfusion.result/1\"}", "{\"masks\":[]}");
    r = record_of(f, id);
    assert_int_equal(r.job.state, MF_JOB_SUCCEEDED);
    assert_string_equal(r.result, "{\"schema\":\"medfusion.result/1\"}");
    assert_int_equal(r.result_len, strlen(r.result));
    assert_string_equal(r.index, "{\"objects\":[]}");
    assert_string_equal(r.masks, "{\"masks\":[]}");
    assert_int_equal(r.masks_len, strlen(r.masks));
    assert_string_equal(r.inputs[0].locator, "00112233445566778899aabbccddeeff");
    assert_int_equal(r.inputs[0].size, 7);
    const char *const *locators = NULL;
    size_t n = 0;
    assert_true(mf_store_purge(f->store, MF_TENANT_DEFAULT, id, f->arena, &locators, &n, NULL));
    r = record_of(f, id);
    assert_true(r.job.purged);
    assert_null(r.result);
    assert_null(r.index);
    assert_null(r.masks);
    assert_int_equal(r.input_count, 0);
    fixture_submit(f, MF_PRIORITY_ROUTINE, id);
    finish(f, "{}", NULL);
    assert_null(record_of(f, id).masks);
}

static void a_record_holds_all_of_a_job(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    check_life_of_a_record(&f);
    fixture_end(&f);
}

static void what_is_no_job_has_no_record(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_job_record record;
    char id[MF_JOB_ID];
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_false(mf_store_record(f.store, "somebody else", id, f.arena, &record, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such job");
    fixture_end(&f);
}

static void a_record_is_the_same_over_the_socket(void **state)
{
    (void)state;
    struct served_fixture v;
    served_start(&v);
    check_life_of_a_record(&v.f);
    served_end(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_holds_all_of_a_job),
        cmocka_unit_test(what_is_no_job_has_no_record),
        cmocka_unit_test(a_record_is_the_same_over_the_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
