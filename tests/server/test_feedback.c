/* server/endpoint_feedback.c, feedback.c and levels.c: statements of readers, what they agree on,
 * and what adaptive conformal inference learns from it. */
#include "loopback.h"

#include "server/feedback.h"
#include "server/levels.h"

#include <math.h>

static const char HASH[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char *const LABELS[] = {"Effusion", "Mass"};

/* A job whose sets were issued by `method`: Effusion {present}, Mass {present, absent}. */
static void finish(struct loopback *l, const char *method, const char *options, char id[MF_JOB_ID])
{
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_claim *c;
    char result[1024];
    sub.options = options;
    assert_true(mf_store_submit(l->f.store, &sub, &made, NULL));
    memcpy(id, made.id, MF_JOB_ID);
    snprintf(result, sizeof result,
             "{\"schema\":\"medfusion.result/1\",\"model\":{\"model_hash\":\"%s\"},\"alpha\":0.1,"
             "\"predictions\":[{\"label\":\"Effusion\",\"prediction_set\":[\"present\"],"
             "\"method\":\"%s\"},{\"label\":\"Mass\",\"prediction_set\":[\"present\",\"absent\"],"
             "\"method\":\"%s\"}]}",
             HASH, method, method);
    assert_int_equal(fixture_claim(&l->f, "w", 1, NULL, 0, &c), 1);
    struct mf_outcome outcome = {.job = fixture_ref(c),
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = result,
                                 .result_len = strlen(result)};
    assert_true(mf_store_finish(l->f.store, &outcome, 1, NULL));
}

static struct mf_request *put(struct loopback *l, const char *id, const char *body)
{
    char target[128];
    snprintf(target, sizeof target, "/v1/jobs/%s/feedback", id);
    return loopback_request(l, "PUT", target, "Content-Type: application/json", body, strlen(body));
}

static json_t *say(struct loopback *l, const char *id, const char *body)
{
    struct mf_request *r = put(l, id, body);
    json_t *json = response_json(r);
    assert_int_equal(r->response.status, 200);
    mf_request_free(r);
    return json;
}

static const char *agreed(const json_t *feedback, const char *label)
{
    return mf_json_get_string(json_object_get(feedback, "agreed"), label, "");
}

static struct mf_aci *levels(struct loopback *l, const char *site)
{
    const struct mf_levels_key key = {MF_TENANT_DEFAULT, HASH, site, 0.1, LABELS, 2};
    struct mf_error err = MF_ERROR_INIT;
    struct mf_aci *aci = mf_levels_load(l->f.store, &key, &err);
    if (!aci)
        fail_msg("%s", err.msg);
    return aci;
}

/* The levels of the site are these (Effusion present, absent, Mass present, absent). */
static void assert_levels(struct loopback *l, const char *site, uint64_t version, double a,
                          double b, double c, double d)
{
    const double wanted[] = {a, b, c, d};
    struct mf_aci *aci = levels(l, site);
    assert_int_equal(mf_aci_version(aci), version);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(mf_aci_levels(aci)[i] - wanted[i]) < 1e-12);
    mf_aci_free(aci);
}

static void a_reader_has_one_statement_and_readers_must_agree(void **state)
{
    (void)state;
    struct loopback l;
    char id[MF_JOB_ID], target[128];
    loopback_start(&l);
    finish(&l, "split_conformal", "{}", id);
    json_t *f = say(&l, id, "{\"labels\":{\"Mass\":\"unknown\",\"Effusion\":\"present\"}}");
    assert_string_equal(mf_json_get_string(f, "schema", ""), "medfusion.feedback/1");
    assert_string_equal(mf_json_get_string(f, "job", ""), id);
    const json_t *only = json_array_get(json_object_get(f, "feedback"), 0);
    assert_string_equal(mf_json_get_string(only, "reader", ""), "anonymous");
    assert_int_equal(json_object_size(json_object_get(only, "labels")), 1);
    assert_string_equal(agreed(f, "Effusion"), "present");
    json_decref(f);
    f = say(&l, id,
            "{\"reader\":\"anna\",\"labels\":{\"Effusion\":\"absent\",\"Mass\":\"absent\"}}");
    assert_int_equal(json_array_size(json_object_get(f, "feedback")), 2);
    assert_string_equal(agreed(f, "Effusion"), ""); /* in dispute */
    assert_string_equal(agreed(f, "Mass"), "absent");
    json_decref(f);
    f = say(&l, id, "{\"reader\":\"anna\",\"labels\":{\"Effusion\":\"present\"}}");
    assert_int_equal(json_array_size(json_object_get(f, "feedback")), 2);
    assert_string_equal(agreed(f, "Effusion"), "present");
    assert_string_equal(agreed(f, "Mass"), "");
    snprintf(target, sizeof target, "/v1/jobs/%s/feedback", id);
    struct mf_request *r = loopback_get(&l, target, NULL);
    json_t *again = response_json(r);
    assert_true(json_equal(f, again));
    json_decref(again);
    json_decref(f);
    mf_request_free(r);
    struct mf_aci *aci = levels(&l, "");
    assert_int_equal(mf_aci_version(aci), 0); /* split conformal sets teach nothing */
    mf_aci_free(aci);
    loopback_end(&l);
}

static void adaptive_sets_teach_their_site_once(void **state)
{
    (void)state;
    struct loopback l;
    char id[MF_JOB_ID];
    loopback_start(&l);
    finish(&l, "adaptive_conformal", "{\"site\":\"north\"}", id);
    static const char body[] =
        "{\"reader\":\"anna\",\"labels\":{\"Effusion\":\"absent\",\"Mass\":\"present\"}}";
    json_decref(say(&l, id, body)); /* Effusion, absent: missed; Mass, present: covered */
    assert_levels(&l, "north", 1, 0.1, 0.1 - 0.0045, 0.1 + 0.0005, 0.1);
    json_decref(say(&l, id, body)); /* the same again */
    assert_levels(&l, "north", 1, 0.1, 0.1 - 0.0045, 0.1 + 0.0005, 0.1);
    assert_levels(&l, "south", 0, 0.1, 0.1, 0.1, 0.1);
    json_decref(say(&l, id, "{\"reader\":\"ben\",\"labels\":{\"Effusion\":\"absent\"}}"));
    assert_levels(&l, "north", 1, 0.1, 0.1 - 0.0045, 0.1 + 0.0005, 0.1); /* a study counts once */
    /* Corrected by one reader: in dispute, so nothing is learnt; by both: the other truth. */
    json_decref(say(&l, id, "{\"reader\":\"anna\",\"labels\":{\"Effusion\":\"present\"}}"));
    assert_levels(&l, "north", 2, 0.1, 0.1, 0.1, 0.1);
    json_decref(say(&l, id, "{\"reader\":\"ben\",\"labels\":{\"Effusion\":\"present\"}}"));
    assert_levels(&l, "north", 3, 0.1 + 0.0005, 0.1, 0.1, 0.1);
    json_decref(say(&l, id, "{\"reader\":\"anna\",\"labels\":{}}"));
    json_decref(say(&l, id, "{\"reader\":\"ben\",\"labels\":{}}"));
    assert_levels(&l, "north", 4, 0.1, 0.1, 0.1, 0.1);
    loopback_end(&l);
}

static void bad_statements_are_refused_by_name(void **state)
{
    static const struct {
        const char *body;
        int status;
        const char *detail;
    } CASES[] = {
        {"{", 400, NULL},
        {"[]", 422, "feedback: must be an object with \"labels\", an object"},
        {"{\"labels\":[]}", 422, "feedback: must be an object with \"labels\", an object"},
        {"{\"labels\":{},\"x\":1}", 422, NULL},
        {"{\"labels\":{\"Hernia\":\"present\"}}", 422,
         "feedback: the result has no label \"Hernia\""},
        {"{\"labels\":{\"Mass\":\"maybe\"}}", 422,
         "feedback: a label is present, absent or unknown"},
        {"{\"labels\":{\"Mass\":true}}", 422, "feedback: a label is present, absent or unknown"},
        {"{\"labels\":{},\"reader\":\"\"}", 422,
         "feedback: \"reader\" must be a name of at most 128 bytes"},
        {"{\"labels\":{},\"reader\":7}", 422,
         "feedback: \"reader\" must be a name of at most 128 bytes"},
        {"{\"labels\":{},\"reader\":\"a\\nb\"}", 422,
         "feedback: \"reader\" must be a name of at most 128 bytes"},
    };
    (void)state;
    struct loopback l;
    char id[MF_JOB_ID];
    loopback_start(&l);
    finish(&l, "adaptive_conformal", "{}", id);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct mf_request *r = put(&l, id, CASES[i].body);
        assert_int_equal(r->response.status, CASES[i].status);
        if (CASES[i].detail)
            assert_problem(r, CASES[i].status, CASES[i].detail);
        mf_request_free(r);
    }
    struct mf_request *r =
        loopback_request(&l, "PUT", "/v1/jobs/x/feedback", "Content-Type: text/plain", "{}", 2);
    assert_problem(r, 415, "Content-Type must be application/json");
    mf_request_free(r);
    json_t *f = say(&l, id, "{\"labels\":{}}"); /* none of them left a trace */
    assert_int_equal(json_array_size(json_object_get(f, "feedback")), 1);
    json_decref(f);
    loopback_end(&l);
}

static void who_authenticated_speaks_for_its_own_readers_only(void **state)
{
    (void)state;
    struct loopback l;
    char id[MF_JOB_ID], longest[129];
    struct mf_observed o;
    struct mf_error err = MF_ERROR_INIT;
    static const char anna[] = "{\"reader\":\"anna\",\"labels\":{\"Mass\":\"absent\"}}";
    static const char nobody[] = "{\"labels\":{\"Mass\":\"present\"}}";
    loopback_start(&l);
    finish(&l, "split_conformal", "{}", id);
    assert_true(mf_feedback_give(l.f.store, MF_TENANT_DEFAULT, "key:pacs", id, anna, strlen(anna),
                                 l.f.arena, &o, &err));
    assert_true(mf_feedback_give(l.f.store, MF_TENANT_DEFAULT, "key:page", id, anna, strlen(anna),
                                 l.f.arena, &o, &err));
    assert_true(mf_feedback_give(l.f.store, MF_TENANT_DEFAULT, "key:page", id, nobody,
                                 strlen(nobody), l.f.arena, &o, &err));
    assert_int_equal(o.feedback_count, 3);
    assert_string_equal(o.feedback[0].reader, "key:pacs/anna");
    assert_string_equal(o.feedback[1].reader, "key:page/anna");
    assert_string_equal(o.feedback[2].reader, "key:page");
    memset(longest, 'k', 128);
    longest[128] = '\0';
    assert_false(mf_feedback_give(l.f.store, MF_TENANT_DEFAULT, longest, id, anna, strlen(anna),
                                  l.f.arena, &o, &err));
    assert_string_equal(err.msg, "feedback: \"reader\" must be a name of at most 128 bytes");
    loopback_end(&l);
}

static void without_a_result_there_is_nothing_to_speak_about(void **state)
{
    (void)state;
    struct loopback l;
    char id[MF_JOB_ID];
    const char *const *locators = NULL;
    size_t n = 0;
    loopback_start(&l);
    fixture_submit(&l.f, MF_PRIORITY_ROUTINE, id);
    struct mf_request *r = put(&l, id, "{\"labels\":{}}");
    assert_problem(r, 409, "the job is queued: it has no result to speak about");
    mf_request_free(r);
    struct mf_claim *c;
    fixture_claim(&l.f, "w", 1, NULL, 0, &c);
    fixture_succeed(&l.f, fixture_ref(c));
    assert_true(mf_store_purge(l.f.store, MF_TENANT_DEFAULT, id, l.f.arena, &locators, &n, NULL));
    r = put(&l, id, "{\"labels\":{}}");
    assert_problem(r, 410, "the job's data was purged");
    mf_request_free(r);
    r = put(&l, "00000000000000000000000000000000", "{\"labels\":{}}");
    assert_problem(r, 404, "there is no such job");
    mf_request_free(r);
    loopback_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_has_one_statement_and_readers_must_agree),
        cmocka_unit_test(adaptive_sets_teach_their_site_once),
        cmocka_unit_test(bad_statements_are_refused_by_name),
        cmocka_unit_test(who_authenticated_speaks_for_its_own_readers_only),
        cmocka_unit_test(without_a_result_there_is_nothing_to_speak_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
