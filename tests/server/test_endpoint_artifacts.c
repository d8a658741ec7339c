/* The artifacts endpoints without sockets: when there is nothing to give, and what is kept with a
 * result. That objects are right is checked with DICOM readers, in tests/integration. */
#include "loopback.h"

static void finish(struct loopback *l, const char *result, const char *masks)
{
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&l->f, "w", 1, NULL, 0, &c), 1);
    struct mf_outcome outcome = {.job = fixture_ref(c),
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = result,
                                 .result_len = strlen(result),
                                 .masks = masks,
                                 .masks_len = masks ? strlen(masks) : 0};
    assert_true(mf_store_finish(l->f.store, &outcome, 1, NULL));
}

static struct mf_request *get(struct loopback *l, const char *id, const char *rest,
                              const char *headers)
{
    char target[128];
    snprintf(target, sizeof target, "/v1/jobs/%s/artifacts%s", id, rest);
    return loopback_get(l, target, headers);
}

static void check(struct loopback *l, const char *id, const char *rest, int status,
                  const char *detail)
{
    struct mf_request *r = get(l, id, rest, NULL);
    assert_problem(r, status, detail);
    mf_request_free(r);
}

static void a_job_that_has_no_result_has_no_artifacts(void **state)
{
    (void)state;
    static const char *const rests[] = {"", "/sr", "/masks"};
    struct loopback l;
    char id[MF_JOB_ID];
    struct mf_job job;
    loopback_start(&l);
    fixture_submit(&l.f, MF_PRIORITY_ROUTINE, id);
    for (size_t i = 0; i < 3; i++)
        check(&l, id, rests[i], 409, "the job is queued: it has no result yet");
    assert_true(mf_store_cancel(l.f.store, MF_TENANT_DEFAULT, id, &job, NULL));
    for (size_t i = 0; i < 3; i++)
        check(&l, id, rests[i], 409, "the job was cancelled");
    const char *const *locators = NULL;
    size_t n = 0;
    assert_true(mf_store_purge(l.f.store, MF_TENANT_DEFAULT, id, l.f.arena, &locators, &n, NULL));
    for (size_t i = 0; i < 3; i++)
        check(&l, id, rests[i], 410, "the job's data was purged");
    check(&l, "00000000000000000000000000000000", "", 404, "there is no such job");
    check(&l, "x", "/sr", 404, "there is no such job");
    loopback_end(&l);
}

static void what_is_not_acceptable_is_406(void **state)
{
    (void)state;
    struct loopback l;
    char id[MF_JOB_ID];
    loopback_start(&l);
    fixture_submit(&l.f, MF_PRIORITY_ROUTINE, id);
    struct mf_request *r = get(&l, id, "", "Accept: application/dicom");
    assert_problem(r, 406, "this is given as application/json only");
    mf_request_free(r);
    r = get(&l, id, "/seg", "Accept: application/json");
    assert_problem(r, 406, "this is given as application/dicom only");
    mf_request_free(r);
    r = get(&l, id, "/masks", "Accept: application/dicom");
    assert_problem(r, 406, "this is given as application/json only");
    mf_request_free(r);
    loopback_end(&l);
}

static void masks_come_as_they_were_kept(void **state)
{
    (void)state;
    static const char masks[] = "{\"schema\":\"medfusion.masks/1\",\"masks\":[]}";
    struct loopback l;
    char id[MF_JOB_ID];
    loopback_start(&l);
    fixture_submit(&l.f, MF_PRIORITY_ROUTINE, id);
    finish(&l, "{}", masks);
    struct mf_request *r = get(&l, id, "/masks", NULL);
    assert_int_equal(r->response.status, 200);
    assert_string_equal(r->response.content_type, "application/json");
    assert_int_equal(r->response.body_len, strlen(masks));
    assert_memory_equal(r->response.body, masks, strlen(masks));
    mf_request_free(r);
    fixture_submit(&l.f, MF_PRIORITY_ROUTINE, id);
    finish(&l, "{}", NULL);
    check(&l, id, "/masks", 404, "the result has no such artifact");
    loopback_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_that_has_no_result_has_no_artifacts),
        cmocka_unit_test(what_is_not_acceptable_is_406),
        cmocka_unit_test(masks_come_as_they_were_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
