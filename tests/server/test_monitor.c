/* server/monitor*.c, reference.c and endpoint_quality.c: results like the calibration raise no
 * alarm; what is planted is found. */
#include "tests/engine/adapter_fixture.h"

#include "loopback.h"

#include "server/monitor.h"
#include "server/reference.h"
#include "server/registry.h"
#include "server/store_sql.h"

enum { RESULTS = 400 };

/* How the planted results differ from the calibration. */
struct plant {
    double shift;     /* added to the logits of the first label */
    bool old_hash;    /* another version of the model made them */
    double wrong;     /* share of sets that miss the truth */
    bool outliers;    /* p-values of 0.001 */
    bool no_category; /* the last feature is missing */
};

static json_t *features_json(const struct mf_bundle *bundle, const struct plant *p)
{
    const struct mf_feature_set *set = mf_bundle_features(bundle);
    json_t *list = json_array();
    for (size_t i = 0; i < set->count; i++) {
        const struct mf_feature *f = &set->features[i];
        bool missing = p->no_category && i + 1 == set->count;
        json_t *value = missing                         ? json_null()
                        : f->kind == MF_FEATURE_NUMERIC ? json_real(uniform())
                                                        : json_string(f->categories[0]);
        json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "id", f->id, "value", value,
                                              "status", missing ? "missing" : "used"));
    }
    return list;
}

/* A result of the bundle, and the truth of its labels as feedback. Every set is {present}. */
static json_t *result_json(struct fixture *b, const struct plant *p, json_t *truth)
{
    float readout[MOST], logits[LABELS];
    const struct mf_label *labels = mf_bundle_labels(b->bundle);
    json_t *predictions = json_array();
    draw(b->head, readout, logits);
    for (size_t l = 0; l < LABELS; l++) {
        double z = logits[l] + (l == 0 ? p->shift : 0), probability = 1 / (1 + exp(-z));
        bool present = uniform() >= p->wrong;
        json_array_append_new(predictions,
                              json_pack("{s:s, s:f, s:f, s:f, s:f, s:s, s:[s], s:s, s:s}", "label",
                                        labels[l].id, "logit", z, "probability", probability,
                                        "p_present", 0.22, "p_absent", 0.05, "state", "present",
                                        "prediction_set", "present", "guarantee", "valid", "method",
                                        "split_conformal"));
        json_object_set_new(truth, labels[l].id, json_string(present ? "present" : "absent"));
    }
    return json_pack("{s:s, s:{s:s}, s:f, s:o, s:{s:o}, s:{s:f, s:[s]}}", "schema",
                     "medfusion.result/1", "model", "model_hash",
                     p->old_hash ? "old" : mf_bundle_model_hash(b->bundle), "alpha", 0.1,
                     "predictions", predictions, "ehr", "features", features_json(b->bundle, p),
                     "quality", "ood_p_value", p->outliers ? 0.001 : uniform(), "flags", "noisy");
}

/* All in one transaction: a disk that is busy must not slow this down. */
static void add_results(struct store_fixture *f, struct fixture *b, const struct plant *p, int n,
                        bool feedback, const char *options)
{
    struct mf_sql_store *s = (struct mf_sql_store *)f->store;
    assert_true(s->engine->begin(s, NULL));
    for (int i = 0; i < n; i++) {
        struct mf_submission sub = fixture_submission();
        struct mf_submitted made;
        struct mf_claim *c;
        json_t *truth = json_object(), *result = result_json(b, p, truth);
        char *text = mf_json_text(result, 0), *said = mf_json_text(truth, 0);
        sub.model = mf_bundle_name(b->bundle);
        sub.options = options;
        assert_true(mf_store_submit(f->store, &sub, &made, NULL));
        assert_int_equal(fixture_claim(f, "w", 1, NULL, 0, &c), 1);
        struct mf_outcome outcome = {.job = fixture_ref(c),
                                     .state = MF_JOB_SUCCEEDED,
                                     .result = text,
                                     .result_len = strlen(text)};
        assert_true(mf_store_finish(f->store, &outcome, 1, NULL));
        struct mf_feedback_put put = {.tenant = MF_TENANT_DEFAULT, .reader = "r", .body = said};
        bool kept = true;
        memcpy(put.job, made.id, sizeof put.job);
        assert_true(!feedback || mf_store_feedback_put(f->store, &put, &kept, NULL));
        assert_true(kept);
        free(text);
        free(said);
        json_decref(truth);
        json_decref(result);
    }
    assert_int_equal(s->engine->commit(s, NULL), MF_SQL_COMMITTED);
}

/* reference.json of cases like the results that are planted with nothing. */
static void write_reference(struct fixture *b)
{
    const struct plant none = {.shift = 0};
    json_t *cases[300];
    char path[256];
    for (int i = 0; i < 300; i++)
        cases[i] = features_json(b->bundle, &none);
    json_t *reference = mf_reference_make(b->bundle, cases, 300, NULL);
    assert_non_null(reference);
    snprintf(path, sizeof path, "%s/reference.json", b->out);
    assert_int_equal(json_dump_file(reference, path, 0), 0);
    for (int i = 0; i < 300; i++)
        json_decref(cases[i]);
    json_decref(reference);
}

static json_t *report_of(struct store_fixture *f, struct fixture *b, const char *site, size_t last)
{
    const struct mf_monitor_window window = {MF_TENANT_DEFAULT, site, last};
    struct mf_error err = MF_ERROR_INIT;
    json_t *report = mf_monitor_report(f->store, b->bundle, &window, &err);
    if (!report)
        fail_msg("%s", err.msg);
    return report;
}

static size_t alarms(const json_t *report, const char *kind)
{
    const json_t *list = json_object_get(report, "alarms");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        n += strcmp(mf_json_get_string(json_array_get(list, i), "kind", ""), kind) == 0;
    return n;
}

static json_int_t in_window(const json_t *report, const char *member)
{
    return mf_json_get_int(json_object_get(report, "window"), member, -1);
}

static void what_is_as_in_the_calibration_raises_no_alarm(void **state)
{
    struct fixture *b = *state;
    const struct plant none = {.shift = 0};
    struct store_fixture f;
    fixture_start(&f);
    write_reference(b);
    add_results(&f, b, &none, RESULTS, true, "{}");
    json_t *r = report_of(&f, b, NULL, 1000);
    assert_int_equal(json_array_size(json_object_get(r, "alarms")) - alarms(r, "calibration"), 0);
    assert_int_equal(in_window(r, "results"), RESULTS);
    assert_int_equal(in_window(r, "with_feedback"), RESULTS);
    const json_t *curve = json_object_get(r, "calibration_curve"), *bin;
    double before = 0;
    json_int_t known = 0;
    size_t at;
    json_array_foreach(curve, at, bin) /* everything is present here */
    {
        double predicted = mf_json_get_number(bin, "predicted", -1);
        assert_true(predicted >= before);
        assert_true(mf_json_get_number(bin, "observed", 0) == 1);
        assert_true(mf_json_get_number(bin, "low", 1) < 1);
        before = predicted;
        known += mf_json_get_int(bin, "n", 0);
    }
    assert_int_equal(json_array_size(curve), 10);
    assert_int_equal(known, RESULTS * LABELS);
    const json_t *label = json_array_get(json_object_get(r, "labels"), 1);
    const json_t *scores = json_object_get(label, "scores"), *sets = json_object_get(label, "sets");
    assert_int_equal(mf_json_get_int(scores, "n", 0), RESULTS);
    assert_int_equal(mf_json_get_int(scores, "reference", 0), CASES);
    assert_true(mf_json_get_number(scores, "psi", 9) < 0.2);
    assert_true(mf_json_get_number(scores, "p_value", 0) > 0.001);
    assert_true(mf_json_get_number(sets, "present", 0) == 1);
    assert_true(mf_json_get_number(sets, "mean_size", 0) == 1);
    const json_t *coverage = json_object_get(json_object_get(label, "coverage"), "present");
    assert_int_equal(mf_json_get_int(coverage, "n", 0), RESULTS);
    assert_true(mf_json_get_number(coverage, "coverage", 0) == 1);
    assert_true(fabs(mf_json_get_number(coverage, "promised", 0) - 0.9) < 1e-9);
    assert_int_equal(mf_json_get_int(json_object_get(r, "flags"), "noisy", 0), RESULTS);
    json_decref(r);
    fixture_end(&f);
}

static void moved_scores_features_and_images_raise_theirs(void **state)
{
    struct fixture *b = *state;
    const struct plant moved = {.shift = 3, .outliers = true, .no_category = true};
    struct store_fixture f;
    fixture_start(&f);
    write_reference(b);
    add_results(&f, b, &moved, RESULTS, false, "{}");
    json_t *r = report_of(&f, b, NULL, 1000);
    assert_int_equal(alarms(r, "score_drift"), 1);
    assert_int_equal(alarms(r, "feature_drift"), 1);
    assert_int_equal(alarms(r, "out_of_distribution"), 1);
    assert_int_equal(alarms(r, "coverage"), 0); /* nobody said anything */
    const json_t *alarm = json_array_get(json_object_get(r, "alarms"), 0);
    assert_string_equal(mf_json_get_string(alarm, "name", ""), mf_bundle_labels(b->bundle)[0].id);
    json_decref(r);
    fixture_end(&f);
}

static void sets_that_miss_the_truth_raise_one_for_every_label(void **state)
{
    struct fixture *b = *state;
    const struct plant wrong = {.wrong = 0.4};
    struct store_fixture f;
    fixture_start(&f);
    add_results(&f, b, &wrong, 60, true, "{}");
    json_t *r = report_of(&f, b, NULL, 1000);
    assert_int_equal(alarms(r, "coverage"), LABELS); /* absent is never in a set */
    const json_t *levels = json_object_get(r, "coverage_by_alpha"), *at;
    size_t i;
    json_array_foreach(levels, i, at) /* p-values are 0.22 and 0.05 throughout */
    {
        double alpha = mf_json_get_number(at, "alpha", NAN);
        assert_true(mf_json_get_number(at, "present", NAN) == (alpha < 0.22));
        assert_true(mf_json_get_number(at, "absent", NAN) == (alpha < 0.05));
    }
    assert_int_equal(json_array_size(levels), 10);
    assert_int_equal(alarms(r, "score_drift"), 0); /* too few to tell */
    json_decref(r);
    fixture_end(&f);
}

static void windows_leave_out_other_sites_and_other_versions(void **state)
{
    struct fixture *b = *state;
    const struct plant none = {.shift = 0}, old = {.old_hash = true};
    struct store_fixture f;
    fixture_start(&f);
    add_results(&f, b, &old, 7, false, "{}");
    add_results(&f, b, &none, 20, false, "{\"site\":\"north\"}");
    add_results(&f, b, &none, 60, false, "{\"site\":\"south\"}"); /* more than a page */
    json_t *r = report_of(&f, b, NULL, 1000);
    assert_int_equal(in_window(r, "results"), 80);
    assert_int_equal(in_window(r, "other_versions"), 7);
    json_decref(r);
    r = report_of(&f, b, "north", 1000);
    assert_int_equal(in_window(r, "results"), 20);
    assert_string_equal(mf_json_get_string(r, "site", ""), "north");
    json_decref(r);
    r = report_of(&f, b, NULL, 5);
    assert_int_equal(in_window(r, "results"), 5);
    assert_int_equal(in_window(r, "last"), 5);
    json_decref(r);
    fixture_end(&f);
}

static void nothing_yet_is_a_report_of_nothing(void **state)
{
    struct fixture *b = *state;
    struct store_fixture f;
    fixture_start(&f);
    json_t *r = report_of(&f, b, NULL, 1000);
    assert_int_equal(in_window(r, "results"), 0);
    assert_true(json_is_null(json_object_get(r, "outliers")));
    const json_t *first = json_array_get(json_object_get(r, "coverage_by_alpha"), 0);
    assert_true(json_is_null(json_object_get(first, "present")));
    assert_int_equal(json_array_size(json_object_get(r, "calibration_curve")), 0);
    assert_int_equal(json_array_size(json_object_get(r, "alarms")), 0);
    assert_int_equal(json_array_size(json_object_get(r, "labels")), LABELS);
    json_decref(r);
    fixture_end(&f);
}

static void a_damaged_reference_is_an_error_that_names_it(void **state)
{
    struct fixture *b = *state;
    const struct mf_monitor_window window = {MF_TENANT_DEFAULT, NULL, 10};
    struct store_fixture f;
    struct mf_error err = MF_ERROR_INIT;
    char path[256], text[256];
    fixture_start(&f);
    snprintf(path, sizeof path, "%s/reference.json", b->out);
    snprintf(text, sizeof text, "{\"model_hash\":\"%s\",\"features\":[]}",
             mf_bundle_model_hash(b->bundle));
    assert_true(write_text(path, text, strlen(text)));
    assert_null(mf_monitor_report(f.store, b->bundle, &window, &err));
    assert_int_equal(err.code, MF_ERR_MODEL);
    assert_non_null(strstr(err.msg, "reference.json: not a valid medfusion.reference/1"));
    assert_true(write_text(path, "{\"model_hash\":\"x\"}", 18)); /* of another model: none */
    json_decref(report_of(&f, b, NULL, 10));
    fixture_end(&f);
}

static void the_endpoint_checks_its_query(void **state)
{
    static const struct {
        const char *target;
        int status;
        const char *detail;
    } BAD[] = {
        {"/v1/quality?last=0", 400, "last must be a number from 1 to 5000"},
        {"/v1/quality?last=5001", 400, "last must be a number from 1 to 5000"},
        {"/v1/quality?last=-3", 400, "last must be a number from 1 to 5000"},
        {"/v1/quality?last=1x", 400, "last must be a number from 1 to 5000"},
        {"/v1/quality?site=", 400, "site must be a name of at most 64 bytes"},
        {"/v1/quality?model=none", 404, "there is no such model"},
    };
    struct fixture *b = *state;
    const char *const directories[] = {b->out};
    struct loopback l;
    loopback_start(&l);
    struct mf_registry *registry = mf_registry_open(directories, 1, NULL, NULL);
    assert_non_null(registry);
    l.services.registry = registry;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct mf_request *r = loopback_get(&l, BAD[i].target, NULL);
        assert_problem(r, BAD[i].status, BAD[i].detail);
        mf_request_free(r);
    }
    struct mf_request *r = loopback_get(&l, "/v1/quality?last=20&site=north", NULL);
    json_t *json = response_json(r);
    assert_int_equal(r->response.status, 200);
    assert_string_equal(mf_json_get_string(json, "schema", ""), "medfusion.quality/1");
    const json_t *model = json_array_get(json_object_get(json, "models"), 0);
    assert_string_equal(mf_json_get_string(model, "model", ""), mf_bundle_name(b->bundle));
    json_decref(json);
    mf_request_free(r);
    r = loopback_get(&l, "/metrics", NULL);
    assert_int_equal(r->response.status, 200);
    assert_non_null(strstr(r->response.body, "medfusion_quality_alarms{model=\""));
    assert_non_null(strstr(r->response.body, "kind=\"score_drift\"} 0\n"));
    mf_request_free(r);
    mf_registry_free(registry);
    loopback_end(&l);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_as_in_the_calibration_raises_no_alarm),
        TEST(moved_scores_features_and_images_raise_theirs),
        TEST(sets_that_miss_the_truth_raise_one_for_every_label),
        TEST(windows_leave_out_other_sites_and_other_versions),
        TEST(nothing_yet_is_a_report_of_nothing),
        TEST(a_damaged_reference_is_an_error_that_names_it),
        TEST(the_endpoint_checks_its_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
