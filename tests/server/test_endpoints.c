/* The endpoints about existing jobs, models and the server itself. */
#include "loopback.h"

static void finish(struct loopback *l, const char *result)
{
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&l->f, "w", 1, NULL, 0, &c), 1);
    struct mf_outcome outcome = {.job = fixture_ref(c),
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = result,
                                 .result_len = strlen(result)};
    assert_true(mf_store_finish(l->f.store, &outcome, 1, NULL));
}

static struct mf_request *on_job(struct loopback *l, const char *method, const char *id,
                                 const char *rest, const char *headers)
{
    char target[128];
    snprintf(target, sizeof target, "/v1/jobs/%s%s", id, rest);
    return loopback_request(l, method, target, headers, NULL, 0);
}

static void a_job_document_has_every_member(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID];
    fixture_submit(&l.f, MF_PRIORITY_URGENT, id);
    struct mf_request *r = on_job(&l, "GET", id, "", NULL);
    assert_int_equal(r->response.status, 200);
    json_t *job = response_json(r);
    static const char *const members[] = {
        "schema",   "id",       "state",   "priority", "model",    "position",         "eta_s",
        "progress", "attempts", "created", "started",  "finished", "cancel_requested", "purged",
        "problem"};
    assert_int_equal(json_object_size(job), 15);
    for (size_t i = 0; i < 15; i++)
        assert_non_null(json_object_get(job, members[i]));
    assert_int_equal(json_integer_value(json_object_get(job, "position")), 1);
    assert_true(json_is_null(json_object_get(job, "started")));
    json_decref(job);
    mf_request_free(r);
    loopback_end(&l);
}

static void an_unchanged_job_is_304(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID], header[128];
    fixture_submit(&l.f, MF_PRIORITY_URGENT, id);
    struct mf_request *r = on_job(&l, "GET", id, "", NULL);
    snprintf(header, sizeof header, "If-None-Match: %s", response_field(r, "ETag"));
    mf_request_free(r);
    r = on_job(&l, "GET", id, "", header);
    assert_int_equal(r->response.status, 304);
    assert_int_equal(r->response.body_len, 0);
    mf_request_free(r);
    struct mf_claim *c;
    fixture_claim(&l.f, "w", 1, NULL, 0, &c);
    r = on_job(&l, "GET", id, "", header);
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    loopback_end(&l);
}

static void what_is_no_job_is_404(void **state)
{
    (void)state;
    static const char *const targets[] = {"/v1/jobs/00000000000000000000000000000000", "/v1/jobs/x",
                                          "/v1/jobs/%41",
                                          "/v1/jobs/00000000000000000000000000000000/result"};
    struct loopback l;
    loopback_start(&l);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct mf_request *r = loopback_get(&l, targets[i], NULL);
        assert_problem(r, 404, "there is no such job");
        mf_request_free(r);
    }
    loopback_end(&l);
}

static void results_come_as_accept_asks(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID];
    fixture_submit(&l.f, MF_PRIORITY_URGENT, id);
    struct mf_request *r = on_job(&l, "GET", id, "/result", NULL);
    assert_problem(r, 409, "the job is queued: it has no result yet");
    mf_request_free(r);
    finish(&l, "{\"schema\":\"medfusion.result/1\"}");
    r = on_job(&l, "GET", id, "/result", "Accept: application/json");
    assert_int_equal(r->response.status, 200);
    assert_string_equal(r->response.content_type, "application/json");
    assert_string_equal(response_field(r, "Vary"), "Accept");
    mf_request_free(r);
    r = on_job(&l, "GET", id, "/result", "Accept: text/plain, application/json;q=0.5");
    assert_int_equal(r->response.status, 200);
    assert_string_equal(r->response.content_type, "text/plain; charset=utf-8");
    mf_request_free(r);
    r = on_job(&l, "GET", id, "/result", "Accept: application/dicom");
    assert_int_equal(r->response.status, 406);
    mf_request_free(r);
    loopback_end(&l);
}

static void a_failed_job_reads_well_but_has_no_result(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID];
    fixture_submit(&l.f, MF_PRIORITY_URGENT, id);
    struct mf_claim *c;
    fixture_claim(&l.f, "w", 1, NULL, 0, &c);
    struct mf_outcome outcome = {.job = fixture_ref(c), .state = MF_JOB_FAILED};
    mf_error_set(&outcome.problem, MF_ERR_MALFORMED, "frame 1 ends early");
    assert_true(mf_store_finish(l.f.store, &outcome, 1, NULL));
    struct mf_request *r = on_job(&l, "GET", id, "", NULL);
    assert_int_equal(r->response.status, 200);
    json_t *job = response_json(r);
    const json_t *problem = json_object_get(job, "problem");
    assert_int_equal(json_integer_value(json_object_get(problem, "status")), 400);
    json_decref(job);
    mf_request_free(r);
    r = on_job(&l, "GET", id, "/result", NULL);
    assert_problem(r, 409, "the job failed: frame 1 ends early");
    mf_request_free(r);
    loopback_end(&l);
}

static void delete_cancels_and_purge_removes(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID];
    fixture_submit(&l.f, MF_PRIORITY_URGENT, id);
    struct mf_request *r = on_job(&l, "DELETE", id, "/data", NULL);
    assert_problem(r, 409, "the job is still queued: cancel it first");
    mf_request_free(r);
    struct mf_claim *c;
    fixture_claim(&l.f, "w", 1, NULL, 0, &c);
    for (int i = 0; i < 2; i++) {
        r = on_job(&l, "DELETE", id, "", NULL);
        assert_int_equal(r->response.status, 202);
        mf_request_free(r);
    }
    fixture_succeed(&l.f, fixture_ref(c)); /* the cancel came first */
    r = on_job(&l, "DELETE", id, "", NULL);
    assert_problem(r, 409, "the job is cancelled already");
    mf_request_free(r);
    r = on_job(&l, "GET", id, "/result", NULL);
    assert_problem(r, 409, "the job was cancelled");
    mf_request_free(r);
    for (int i = 0; i < 2; i++) {
        r = on_job(&l, "DELETE", id, "/data", NULL);
        assert_int_equal(r->response.status, 204);
        mf_request_free(r);
    }
    r = on_job(&l, "GET", id, "/result", NULL);
    assert_problem(r, 410, "the job's data was purged");
    mf_request_free(r);
    loopback_end(&l);
}

static void lists_are_filtered_and_paged(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID], target[256] = "/v1/jobs?priority=stat&limit=2";
    for (int i = 0; i < 5; i++)
        fixture_submit(&l.f, MF_PRIORITY_STAT, id);
    fixture_submit(&l.f, MF_PRIORITY_ROUTINE, id);
    size_t seen = 0, pages = 0;
    while (target[0]) {
        struct mf_request *r = loopback_get(&l, target, NULL);
        assert_int_equal(r->response.status, 200);
        json_t *page = response_json(r);
        const char *next = json_string_value(json_object_get(page, "next"));
        seen += json_array_size(json_object_get(page, "jobs"));
        assert_int_equal(next != NULL, response_field(r, "Link") != NULL);
        snprintf(target, sizeof target, "%s", next ? next : "");
        json_decref(page);
        mf_request_free(r);
        pages++;
    }
    assert_int_equal(seen, 5);
    assert_int_equal(pages, 3);
    loopback_end(&l);
}

static void wrong_query_parameters_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *target, *detail;
    } cases[] = {
        {"/v1/jobs?state=done", "query parameter \"state\" has an invalid value"},
        {"/v1/jobs?priority=1", "query parameter \"priority\" has an invalid value"},
        {"/v1/jobs?limit=0", "query parameter \"limit\" has an invalid value"},
        {"/v1/jobs?limit=+3", "query parameter \"limit\" has an invalid value"},
        {"/v1/jobs?cursor=99999999999999999999", "query parameter \"cursor\" has an invalid value"},
        {"/v1/jobs?created_from=yesterday",
         "query parameter \"created_from\" has an invalid value"},
        {"/v1/jobs?colour=red", "unknown query parameter"},
        {"/v1/jobs?limit=1&limit=2", "query parameter \"limit\" is given twice"},
    };
    struct loopback l;
    loopback_start(&l);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mf_request *r = loopback_get(&l, cases[i].target, NULL);
        assert_problem(r, 400, cases[i].detail);
        mf_request_free(r);
    }
    loopback_end(&l);
}

static void health_is_honest(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = loopback_get(&l, "/v2/health/live", NULL);
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    r = loopback_get(&l, "/v2/health/ready", NULL);
    assert_problem(r, 503, "no worker is ready for model \"thorax\"");
    mf_request_free(r);
    r = loopback_get(&l, "/v2/health/accepting", NULL); /* the job would wait for one */
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    struct mf_worker worker = {
        .id = "w", .device = "cpu", .ready = true, .models = "[{\"name\":\"other\"}]"};
    assert_true(mf_store_announce(l.f.store, &worker, 60, NULL));
    r = loopback_get(&l, "/v2/health/ready", NULL);
    assert_int_equal(r->response.status, 503);
    mf_request_free(r);
    worker.models = "[{\"name\":\"thorax\"}]";
    assert_true(mf_store_announce(l.f.store, &worker, 60, NULL));
    r = loopback_get(&l, "/v2/health/ready", NULL);
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    r = loopback_get(&l, "/v2/models/thorax/ready", NULL);
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    r = loopback_get(&l, "/v2/models/nothing/ready", NULL);
    assert_problem(r, 404, "there is no such model");
    mf_request_free(r);
    assert_true(mf_store_worker_gone(l.f.store, "w", MF_END_LOST, NULL));
    r = loopback_get(&l, "/v2/health/ready", NULL);
    assert_int_equal(r->response.status, 503);
    mf_request_free(r);
    loopback_end(&l);
}

static void a_full_disk_accepts_nothing(void **state)
{
    (void)state;
    static const char *const paths[] = {"/v2/health/accepting", "/v2/health/ready"};
    struct loopback l;
    struct mf_error err = MF_ERROR_INIT;
    loopback_start(&l);
    mf_blobs_free(l.services.blobs);
    l.services.blobs = mf_blobs_open(l.f.directory, "off", UINT64_C(1) << 62, &err);
    assert_non_null(l.services.blobs);
    for (size_t i = 0; i < 2; i++) {
        struct mf_request *r = loopback_get(&l, paths[i], NULL);
        assert_problem(r, 503, "the disk has no room for this upload; try again later");
        mf_request_free(r);
    }
    loopback_end(&l);
}

static void metrics_count_jobs_and_requests(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    char id[MF_JOB_ID];
    fixture_submit(&l.f, MF_PRIORITY_STAT, id);
    mf_metrics_request(l.services.metrics, mf_route_at(0), 202, 0.004, 100);
    struct mf_request *r = loopback_get(&l, "/metrics", NULL);
    assert_int_equal(r->response.status, 200);
    const char *text = r->response.body;
    assert_non_null(strstr(text, "\nmedfusion_jobs{state=\"queued\"} 1\n"));
    assert_non_null(strstr(text, "\nmedfusion_jobs_submitted_total 1\n"));
    assert_non_null(strstr(text, "medfusion_http_requests_total{method=\"POST\",route=\"/v1/jobs\","
                                 "status=\"202\"} 1\n"));
    assert_non_null(strstr(text, "route=\"/v1/jobs\",le=\"0.005\"} 1\n"));
    assert_non_null(strstr(text, "route=\"/v1/jobs\",le=\"0.0025\"} 0\n"));
    assert_null(strstr(text, id));
    mf_request_free(r);
    loopback_end(&l);
}

static void the_contract_is_served(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = loopback_get(&l, "/openapi.json", NULL);
    json_t *contract = response_json(r);
    const json_t *paths = json_object_get(contract, "paths");
    for (size_t i = 0; i < mf_route_count(); i++) {
        const struct mf_endpoint *e = mf_route_at(i);
        const char *method = strcmp(e->method, "GET") == 0    ? "get"
                             : strcmp(e->method, "POST") == 0 ? "post"
                             : strcmp(e->method, "PUT") == 0  ? "put"
                                                              : "delete";
        assert_non_null(json_object_get(json_object_get(paths, e->pattern), method));
    }
    json_decref(contract);
    mf_request_free(r);
    loopback_end(&l);
}

static void unknown_paths_and_methods_are_told_apart(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = loopback_get(&l, "/v1/jobs/", NULL);
    assert_int_equal(r->response.status, 404);
    mf_request_free(r);
    r = loopback_get(&l, "/v3", NULL);
    assert_problem(r, 404, "there is nothing at this path");
    mf_request_free(r);
    r = loopback_request(&l, "PUT", "/v1/jobs", NULL, NULL, 0);
    assert_problem(r, 405, "this method is not allowed here: POST, GET, HEAD");
    assert_string_equal(response_field(r, "Allow"), "POST, GET, HEAD");
    mf_request_free(r);
    r = loopback_request(&l, "HEAD", "/v2", NULL, NULL, 0);
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    loopback_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_document_has_every_member),
        cmocka_unit_test(an_unchanged_job_is_304),
        cmocka_unit_test(what_is_no_job_is_404),
        cmocka_unit_test(results_come_as_accept_asks),
        cmocka_unit_test(a_failed_job_reads_well_but_has_no_result),
        cmocka_unit_test(delete_cancels_and_purge_removes),
        cmocka_unit_test(lists_are_filtered_and_paged),
        cmocka_unit_test(wrong_query_parameters_are_named),
        cmocka_unit_test(health_is_honest),
        cmocka_unit_test(a_full_disk_accepts_nothing),
        cmocka_unit_test(metrics_count_jobs_and_requests),
        cmocka_unit_test(the_contract_is_served),
        cmocka_unit_test(unknown_paths_and_methods_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
