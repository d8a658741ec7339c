/* server/endpoint_dead_letters.c: /v1/admin/dead-letters. */
#include "loopback.h"

#include "server/router.h"
#include "server/store_dead_letters.h"

/* A service with one dead letter for each of two destinations. */
static void start(struct loopback *l)
{
    const struct mf_error refused = {MF_ERR_UNUSABLE, "the destination answered 400"};
    struct mf_claim *claim;
    struct mf_delivery due[2];
    char id[MF_JOB_ID];
    size_t n = 0;
    int64_t next = 0;
    loopback_start(l);
    mf_store_free(l->f.store);
    l->f.settings.destinations = "http://a/dicom-web webhook:b";
    fixture_open(&l->f);
    fixture_submit(&l->f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&l->f, "w", 1, NULL, 0, &claim), 1);
    fixture_succeed(&l->f, fixture_ref(claim));
    assert_true(mf_store_deliveries_due(l->f.store, NULL, due, 2, &n, &next, NULL));
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++)
        assert_true(mf_store_delivery_settle(l->f.store, due[i].id, &refused, 0, NULL));
}

static struct mf_request *ask(struct loopback *l, const char *method, const char *target)
{
    return loopback_request(l, method, target, NULL, NULL, 0);
}

/* The answer is this JSON, but for what is different each time. */
static void expect(struct loopback *l, const char *method, const char *target, const char *json)
{
    struct mf_request *r = ask(l, method, target);
    json_t *value = response_json(r),
           *letter = json_object_get(value, "destination") ? value : NULL;
    assert_int_equal(r->response.status, 200);
    if (letter) {
        assert_true(mf_job_id_valid(json_string_value(json_object_get(letter, "job"))));
        assert_non_null(json_object_get(letter, "failed"));
        json_object_del(letter, "job");
        json_object_del(letter, "failed");
    }
    assert_json(value, json);
    json_decref(value);
    mf_request_free(r);
}

static size_t listed(struct loopback *l, const char *target, const char **ret_next)
{
    static char next[128];
    struct mf_request *r = ask(l, "GET", target);
    json_t *value = response_json(r);
    size_t n = json_array_size(json_object_get(value, "dead_letters"));
    const char *text = json_string_value(json_object_get(value, "next"));
    const char *link = response_field(r, "Link");
    assert_int_equal(r->response.status, 200);
    snprintf(next, sizeof next, "%s", text ? text : "");
    assert_int_equal(link != NULL, text != NULL);
    *ret_next = text ? next : NULL;
    json_decref(value);
    mf_request_free(r);
    return n;
}

static void they_are_listed_page_by_page(void **state)
{
    (void)state;
    struct loopback l;
    const char *next;
    start(&l);
    assert_int_equal(listed(&l, "/v1/admin/dead-letters", &next), 2);
    assert_null(next);
    assert_int_equal(
        listed(&l, "/v1/admin/dead-letters?limit=1&destination=http%3A%2F%2Fa%2Fdicom-web", &next),
        1);
    assert_null(next);
    assert_int_equal(listed(&l, "/v1/admin/dead-letters?limit=1&tenant=default", &next), 1);
    assert_string_equal(next, "/v1/admin/dead-letters?tenant=default&limit=1&cursor=1");
    char second[128];
    snprintf(second, sizeof second, "%s", next);
    assert_int_equal(listed(&l, second, &next), 1);
    assert_null(next);
    assert_int_equal(listed(&l, "/v1/admin/dead-letters?tenant=south", &next), 0);
    expect(&l, "GET", "/v1/admin/dead-letters/2",
           "{\"id\":\"2\",\"tenant\":\"default\",\"destination\":\"webhook:b\",\"attempts\":1,"
           "\"reason\":\"the destination answered 400\"}");
    loopback_end(&l);
}

static void they_are_retried_and_dropped(void **state)
{
    (void)state;
    struct loopback l;
    const char *next;
    start(&l);
    expect(&l, "POST", "/v1/admin/dead-letters/2", "{\"retried\":1}");
    struct mf_request *r = ask(&l, "POST", "/v1/admin/dead-letters/2"); /* it is none now */
    assert_problem(r, 404, "there is no such dead letter");
    mf_request_free(r);
    expect(&l, "POST", "/v1/admin/dead-letters?destination=webhook%3Ab", "{\"retried\":0}");
    expect(&l, "DELETE", "/v1/admin/dead-letters/1", "{\"dropped\":1}");
    assert_int_equal(listed(&l, "/v1/admin/dead-letters", &next), 0);
    loopback_end(&l);
    start(&l);
    expect(&l, "POST", "/v1/admin/dead-letters", "{\"retried\":2}");
    loopback_end(&l);
    start(&l);
    expect(&l, "DELETE", "/v1/admin/dead-letters?tenant=default", "{\"dropped\":2}");
    loopback_end(&l);
}

static void what_is_wrong_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target;
        int status;
        const char *detail;
    } cases[] = {
        {"GET", "/v1/admin/dead-letters/3", 404, "there is no such dead letter"},
        {"GET", "/v1/admin/dead-letters/0", 404, "there is no such dead letter"},
        {"GET", "/v1/admin/dead-letters/-1", 404, "there is no such dead letter"},
        {"GET", "/v1/admin/dead-letters/1x", 404, "there is no such dead letter"},
        {"DELETE", "/v1/admin/dead-letters/9007199254740992", 404, "there is no such dead letter"},
        {"DELETE", "/v1/admin/dead-letters/99999999999999999999", 404,
         "there is no such dead letter"},
        {"DELETE", "/v1/admin/dead-letters", 400,
         "the query must say which are dropped: \"tenant\" or \"destination\""},
        {"DELETE", "/v1/admin/dead-letters?tenant=", 400,
         "query parameter \"tenant\" has an invalid value"},
        {"DELETE", "/v1/admin/dead-letters?destination=", 400,
         "query parameter \"destination\" has an invalid value"},
        {"GET", "/v1/admin/dead-letters?limit=0", 400,
         "query parameter \"limit\" has an invalid value"},
        {"GET", "/v1/admin/dead-letters?limit=1001", 400,
         "query parameter \"limit\" has an invalid value"},
        {"GET", "/v1/admin/dead-letters?cursor=x", 400,
         "query parameter \"cursor\" has an invalid value"},
        {"POST", "/v1/admin/dead-letters?limit=1", 400, "unknown query parameter"},
        {"POST", "/v1/admin/dead-letters/1?tenant=default", 400, "unknown query parameter"},
        {"PUT", "/v1/admin/dead-letters/1", 405,
         "this method is not allowed here: GET, HEAD, DELETE, POST"},
    };
    struct loopback l;
    const char *next;
    start(&l);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_request *r = ask(&l, cases[i].method, cases[i].target);
        assert_problem(r, cases[i].status, cases[i].detail);
        mf_request_free(r);
    }
    assert_int_equal(listed(&l, "/v1/admin/dead-letters", &next), 2);
    loopback_end(&l);
}

static void they_are_the_administrators(void **state)
{
    (void)state;
    size_t seen = 0;
    for (size_t i = 0; i < mf_route_count(); i++)
        if (strstr(mf_route_at(i)->pattern, "/dead-letters")) {
            assert_int_equal(mf_route_access(mf_route_at(i)), MF_ACCESS_ADMIN);
            seen++;
        }
    assert_int_equal(seen, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_listed_page_by_page),
        cmocka_unit_test(they_are_retried_and_dropped),
        cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(they_are_the_administrators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
