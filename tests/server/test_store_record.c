/* server/store_sqlite_record.c and its way over the socket: what is kept of a job, in one answer.
 */
#include "store_fixture.h"

#include "server/store_server.h"

#include <pthread.h>
#include <unistd.h>

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

static void *serve(void *server)
{
    struct mf_error err = MF_ERROR_INIT;
    return mf_store_server_run(server, &err) ? server : NULL;
}

static void a_record_is_the_same_over_the_socket(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err = MF_ERROR_INIT;
    int stop[2];
    pthread_t thread;
    void *ended = NULL;
    fixture_start(&f);
    mf_store_free(f.store);
    assert_int_equal(pipe(stop), 0);
    struct mf_store_server server = {.directory = f.directory,
                                     .settings = f.settings,
                                     .listen_fd = mf_store_listen(f.directory, &err),
                                     .stop_fd = stop[0],
                                     .ready_fd = -1};
    assert_no_error(&err);
    assert_int_equal(pthread_create(&thread, NULL, serve, &server), 0);
    f.store = mf_store_connect(f.directory, 10000, &err);
    assert_non_null(f.store);
    check_life_of_a_record(&f);
    close(stop[1]);
    pthread_join(thread, &ended);
    assert_non_null(ended);
    close(stop[0]);
    close(server.listen_fd);
    fixture_end(&f);
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
