/* server/endpoint_jobs_post.c: uploads become jobs, or are refused without a trace. */
#include "loopback.h"

#include <dirent.h>

static size_t count_payloads(const struct loopback *l)
{
    char path[128];
    snprintf(path, sizeof path, "%s/payloads", l->f.directory);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    size_t n = 0;
    for (const struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static int64_t count_jobs(struct loopback *l)
{
    struct mf_store_counts counts;
    assert_true(mf_store_counts(l->f.store, &counts, NULL));
    return counts.submitted_total;
}

static void an_upload_is_accepted_with_its_address(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r =
        loopback_post(&l, MULTIPART,
                      PART("dicom", "one") PART("dicom", "two") PART("ehr", "{}")
                          PART("options", "{\"alpha\":0.2,\"priority\":\"stat\"}") END_PARTS);
    assert_int_equal(r->response.status, 202);
    json_t *job = response_json(r);
    const char *id = json_string_value(json_object_get(job, "id"));
    char location[64];
    snprintf(location, sizeof location, "/v1/jobs/%s", id);
    assert_string_equal(response_field(r, "Location"), location);
    assert_string_equal(json_string_value(json_object_get(job, "state")), "queued");
    assert_string_equal(json_string_value(json_object_get(job, "priority")), "stat");
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&l.f, "w", 1, NULL, 0, &c), 1);
    assert_string_equal(c->options,
                        "{\"alpha\":0.2}"); /* priority is the queue's, not the pipeline's */
    assert_string_equal(c->model, "thorax");
    assert_int_equal(c->input_count, 4);
    int fd = mf_blobs_open_pack(l.services.blobs, c->inputs[1].locator, NULL);
    char text[4] = "";
    assert_int_equal(pread(fd, text, 3, (off_t)c->inputs[1].offset), 3);
    assert_string_equal(text, "two");
    close(fd);
    json_decref(job);
    mf_request_free(r);
    assert_int_equal(count_payloads(&l), 1);
    loopback_end(&l);
}

static void a_zip_alone_is_one_dicom_part(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = loopback_post(&l, "Content-Type: application/zip", "PK-bytes");
    assert_int_equal(r->response.status, 202);
    struct mf_claim *c;
    assert_int_equal(fixture_claim(&l.f, "w", 1, NULL, 0, &c), 1);
    assert_int_equal(c->input_count, 1);
    assert_string_equal(c->inputs[0].part, "dicom");
    assert_int_equal(c->inputs[0].size, 8);
    mf_request_free(r);
    loopback_end(&l);
}

struct refusal {
    const char *headers, *body;
    int status;
    const char *detail;
};

static const struct refusal REFUSALS[] = {
    {"Content-Type: text/plain", "x", 415,
     "Content-Type must be multipart/form-data, application/zip or application/json"},
    {NULL, "x", 415,
     "Content-Type must be multipart/form-data, application/zip or application/json"},
    {"Content-Type: multipart/form-data", "x", 400,
     "Content-Type: multipart without a valid boundary"},
    {MULTIPART "\nContent-Encoding: gzip", "x", 415, "Content-Encoding is not supported"},
    {MULTIPART "\nContent-Type: application/zip", "x", 400, "Content-Type is given more than once"},
    {MULTIPART, PART("dicom", "x"), 400, "multipart body: it ends before the closing boundary"},
    {MULTIPART, END_PARTS, 422, "multipart body: there is no part \"dicom\""},
    {MULTIPART, PART("ehr", "{}") END_PARTS, 422, "multipart body: there is no part \"dicom\""},
    {MULTIPART, PART("file", "x") END_PARTS, 422,
     "multipart body: parts are named dicom, ehr or options"},
    {MULTIPART, PART("dicom", "x") PART("ehr", "a") PART("ehr", "b") END_PARTS, 422,
     "multipart body: more than one part \"ehr\""},
    {MULTIPART, PART("dicom", "x") PART("options", "{") END_PARTS, 400,
     "part \"options\": not valid JSON (line 1, column 1)"},
    {MULTIPART, PART("dicom", "x") PART("options", "[]") END_PARTS, 422,
     "part \"options\": must be a JSON object"},
    {MULTIPART, PART("dicom", "x") PART("options", "{\"priority\":\"now\"}") END_PARTS, 422,
     "part \"options\": \"priority\" must be stat, urgent or routine"},
    {MULTIPART, PART("dicom", "refuse:too-large") END_PARTS, 413, "refused by the test"},
    {MULTIPART, PART("dicom", "refuse:unusable") END_PARTS, 422, "refused by the test"},
    {MULTIPART "\nIdempotency-Key: a b", PART("dicom", "x") END_PARTS, 400,
     "Idempotency-Key must be 1 to 255 visible ASCII characters"},
    {MULTIPART "\nPrefer: wait=3\nAccept: image/png", PART("dicom", "x") END_PARTS, 406,
     "a result is given as application/json, application/fhir+json or text/plain"},
    {MULTIPART "\nContent-Length: 99999999999", "x", 413,
     "the body has more than 2147483648 bytes"},
};

static void refusals_say_why_and_leave_nothing(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++) {
        struct mf_request *r = loopback_post(&l, REFUSALS[i].headers, REFUSALS[i].body);
        assert_problem(r, REFUSALS[i].status, REFUSALS[i].detail);
        mf_request_free(r);
        assert_int_equal(count_payloads(&l), 0);
        assert_int_equal(count_jobs(&l), 0);
    }
    loopback_end(&l);
}

static void an_ehr_over_its_limit_is_refused_while_it_comes_in(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    l.config->http.max_ehr_bytes = 4;
    struct mf_request *r =
        loopback_post(&l, MULTIPART, PART("dicom", "x") PART("ehr", "12345") END_PARTS);
    assert_problem(r, 413, "part \"ehr\": more than 4 bytes");
    mf_request_free(r);
    loopback_end(&l);
}

static void a_body_without_length_is_counted(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    l.config->http.max_body_bytes = 10;
    struct mf_request *r = loopback_post(&l, "Content-Type: application/zip", "12345678901");
    assert_problem(r, 413, "the body has more than 10 bytes");
    mf_request_free(r);
    loopback_end(&l);
}

static void a_full_queue_gives_429_and_then_refuses_before_the_body(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    l.config->jobs.max_queued = 1;
    mf_request_free(loopback_post(&l, MULTIPART, PART("dicom", "x") END_PARTS));
    struct mf_error err = MF_ERROR_INIT;
    struct mf_request *early = loopback_open(&l, "POST", "/v1/jobs", MULTIPART, &err);
    assert_int_equal(err.code, MF_ERR_BUSY);
    mf_request_free(early);
    memset(l.services.full_seen_ns, 0, sizeof l.services.full_seen_ns); /* that is long ago: the
                                                                           store decides */
    size_t scans = l.scans;
    struct mf_request *r = loopback_post(&l, MULTIPART, PART("dicom", "x") END_PARTS);
    assert_problem(r, 429, "the queue is full (1 jobs); try again later");
    assert_non_null(response_field(r, "Retry-After"));
    assert_int_equal(l.scans, scans + 1);
    mf_request_free(r);
    assert_int_equal(count_payloads(&l), 1);
    loopback_end(&l);
}

static void a_draining_server_refuses_with_503(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    l.services.draining = 1;
    struct mf_request *r = loopback_post(&l, MULTIPART, PART("dicom", "x") END_PARTS);
    assert_problem(r, 503, "the server is stopping");
    assert_non_null(response_field(r, "Retry-After"));
    mf_request_free(r);
    loopback_end(&l);
}

static void a_full_disk_refuses_with_503(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    mf_blobs_free(l.services.blobs);
    l.services.blobs = mf_blobs_open(l.f.directory, "off", UINT64_MAX / 2, NULL);
    struct mf_request *r = loopback_post(&l, MULTIPART, PART("dicom", "x") END_PARTS);
    assert_problem(r, 503, "the disk has no room for this upload; try again later");
    mf_request_free(r);
    loopback_end(&l);
}

#define KEYED MULTIPART "\nIdempotency-Key: k1"

static void a_replay_has_the_same_address_and_makes_no_payload(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *first = loopback_post(&l, KEYED, PART("dicom", "x") END_PARTS);
    /* Another boundary and other part headers: the same content all the same. */
    struct mf_request *again = loopback_post(
        &l, "Content-Type: multipart/form-data; boundary=\"other\"\nIdempotency-Key: k1",
        "--other\r\nContent-Type: application/dicom\r\n"
        "Content-Disposition: form-data; name=dicom; filename=\"a.dcm\"\r\n\r\nx\r\n--other--");
    assert_int_equal(again->response.status, 202);
    assert_string_equal(response_field(again, "Location"), response_field(first, "Location"));
    struct mf_request *other = loopback_post(&l, KEYED, PART("dicom", "y") END_PARTS);
    assert_problem(other, 422, "Idempotency-Key: it was used before for a different request");
    mf_request_free(first);
    mf_request_free(again);
    mf_request_free(other);
    assert_int_equal(count_payloads(&l), 1);
    assert_int_equal(count_jobs(&l), 1);
    loopback_end(&l);
}

static void a_key_under_way_gives_409_and_a_refusal_frees_it(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_error err = MF_ERROR_INIT;
    struct mf_request *open = loopback_open(&l, "POST", "/v1/jobs", KEYED, &err);
    assert_no_error(&err);
    struct mf_request *second = loopback_post(&l, KEYED, PART("dicom", "x") END_PARTS);
    assert_problem(second, 409, "a request with this Idempotency-Key is still being processed");
    mf_request_free(second);
    mf_request_free(open); /* its client went away */
    struct mf_request *refused =
        loopback_post(&l, KEYED, PART("dicom", "refuse:malformed") END_PARTS);
    assert_int_equal(refused->response.status, 400);
    mf_request_free(refused);
    struct mf_request *good = loopback_post(&l, KEYED, PART("dicom", "x") END_PARTS);
    assert_int_equal(good->response.status, 202);
    mf_request_free(good);
    loopback_end(&l);
}

static struct mf_request *post_waiting(struct loopback *l, const char *accept)
{
    char headers[256];
    snprintf(headers, sizeof headers, MULTIPART "\nPrefer: wait=5%s%s", accept ? "\nAccept: " : "",
             accept ? accept : "");
    struct mf_request *r = loopback_post(l, headers, PART("dicom", "x") END_PARTS);
    assert_int_equal(r->response.status, 0);
    assert_true(mf_job_id_valid(r->wait_for));
    return r;
}

static void a_waiting_post_gives_the_result(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = post_waiting(&l, NULL);
    struct mf_claim *c;
    fixture_claim(&l.f, "w", 1, NULL, 0, &c);
    fixture_succeed(&l.f, fixture_ref(c));
    assert_true(r->endpoint->resume(r, NULL));
    assert_int_equal(r->response.status, 200);
    assert_int_equal(r->response.body_len, 31);
    assert_memory_equal(r->response.body, "{\"schema\":\"medfusion.result/1\"}", 31);
    assert_string_equal(response_field(r, "Preference-Applied"), "wait=5");
    mf_request_free(r);
    loopback_end(&l);
}

static void a_waiting_post_whose_time_is_over_gives_202(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = post_waiting(&l, NULL);
    assert_true(r->endpoint->resume(r, NULL));
    assert_int_equal(r->response.status, 202);
    assert_non_null(response_field(r, "Location"));
    mf_request_free(r);
    loopback_end(&l);
}

static void a_waiting_post_whose_job_fails_gives_the_problem_with_its_job(void **state)
{
    (void)state;
    struct loopback l;
    loopback_start(&l);
    struct mf_request *r = post_waiting(&l, "text/plain");
    struct mf_claim *c;
    fixture_claim(&l.f, "w", 1, NULL, 0, &c);
    struct mf_outcome outcome = {.job = fixture_ref(c), .state = MF_JOB_FAILED};
    mf_error_set(&outcome.problem, MF_ERR_UNSUPPORTED, "frame 2: JPIP is not supported");
    assert_true(mf_store_finish(l.f.store, &outcome, 1, NULL));
    assert_true(r->endpoint->resume(r, NULL));
    assert_problem(r, 415, "frame 2: JPIP is not supported");
    json_t *problem = response_json(r);
    assert_string_equal(json_string_value(json_object_get(problem, "job")), c->id);
    json_decref(problem);
    mf_request_free(r);
    loopback_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_is_accepted_with_its_address),
        cmocka_unit_test(a_zip_alone_is_one_dicom_part),
        cmocka_unit_test(refusals_say_why_and_leave_nothing),
        cmocka_unit_test(an_ehr_over_its_limit_is_refused_while_it_comes_in),
        cmocka_unit_test(a_body_without_length_is_counted),
        cmocka_unit_test(a_full_queue_gives_429_and_then_refuses_before_the_body),
        cmocka_unit_test(a_draining_server_refuses_with_503),
        cmocka_unit_test(a_full_disk_refuses_with_503),
        cmocka_unit_test(a_replay_has_the_same_address_and_makes_no_payload),
        cmocka_unit_test(a_key_under_way_gives_409_and_a_refusal_frees_it),
        cmocka_unit_test(a_waiting_post_gives_the_result),
        cmocka_unit_test(a_waiting_post_whose_time_is_over_gives_202),
        cmocka_unit_test(a_waiting_post_whose_job_fails_gives_the_problem_with_its_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
