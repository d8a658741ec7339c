/* Sets and p-values against crepes, TorchCP, MAPIE and NumPy (data/conformal.json, made by
 * data/make_conformal_reference.py), where they define the same thing. */
#include "engine/trust/conformal.h"
#include "engine/trust/raps.h"
#include "engine/trust/weighted.h"
#include "tests/engine/golden_json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROOM = 512, ANY = -1 };

static const struct {
    double alpha;
    const char *sets;
} LEVELS[] = {{0.05, "sets_0.05"}, {0.1, "sets_0.1"}, {0.2, "sets_0.2"}};

static json_t *reference;

static int setup(void **state)
{
    (void)state;
    reference = golden_read("conformal.json");
    return reference ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(reference);
    return 0;
}

struct item {
    float z;
    double weight;
};

static int by_z(const void *a, const void *b)
{
    float x = ((const struct item *)a)->z, y = ((const struct item *)b)->z;
    return x < y ? -1 : x > y;
}

/* The logits of one class, ascending, of one view or of any; their weights where asked. */
static size_t class_logits(const json_t *r, int class, int view, float *logits, float *weights)
{
    struct item items[ROOM];
    size_t n = 0, all = json_array_size(json_object_get(r, "z")), seen = 0;
    for (size_t i = 0; i < all; i++) {
        if ((int)golden(r, "truth", i) != class)
            continue;
        double weight = golden(r, class ? "weights_present" : "weights_absent", seen++);
        if (view == ANY || (int)golden(r, "view", i) == view)
            items[n++] = (struct item){(float)golden(r, "z", i), weight};
    }
    qsort(items, n, sizeof *items, by_z);
    for (size_t i = 0; i < n; i++) {
        logits[i] = items[i].z;
        if (weights)
            weights[i] = (float)items[i].weight;
    }
    return n;
}

static void p_values_equal_crepes(void **state)
{
    static const char *const KEYS[2][3] = {{"p_absent", "p_absent_view0", "p_absent_view1"},
                                           {"p_present", "p_present_view0", "p_present_view1"}};
    const json_t *r = json_object_get(reference, "one_label");
    size_t count = json_array_size(json_object_get(r, "new"));
    float logits[ROOM];
    (void)state;
    for (int class = 0; class < 2; class ++)
        for (int view = ANY; view < 2; view++) {
            size_t n = class_logits(r, class, view, logits, NULL);
            for (size_t i = 0; i < count; i++) {
                float z = (float)golden(r, "new", i);
                double p = mf_conformal_judge(logits, n, class, z, 0.1).p;
                if (fabs(p - golden(r, KEYS[class][view + 1], i)) > 1e-12)
                    fail_msg("%s, z = %g: %.12g", KEYS[class][view + 1], z, p);
            }
        }
}

static void sets_equal_torchcp(void **state)
{
    const json_t *r = json_object_get(reference, "one_label");
    size_t count = json_array_size(json_object_get(r, "new"));
    float logits[2][ROOM];
    size_t n[2];
    (void)state;
    for (int class = 0; class < 2; class ++)
        n[class] = class_logits(r, class, ANY, logits[class], NULL);
    for (size_t a = 0; a < 3; a++)
        for (size_t i = 0; i < count; i++)
            for (int class = 0; class < 2; class ++) {
                float z = (float)golden(r, "new", i);
                bool in =
                    mf_conformal_judge(logits[class], n[class], class, z, LEVELS[a].alpha).included;
                assert_int_equal(in, golden2(r, LEVELS[a].sets, i, class ? 0 : 1));
            }
}

static void weighted_p_values_equal_their_definition(void **state)
{
    const json_t *r = json_object_get(reference, "one_label");
    size_t count = json_array_size(json_object_get(r, "new"));
    double weight = json_number_value(json_object_get(r, "new_weight"));
    float logits[ROOM], weights[ROOM];
    (void)state;
    for (int class = 0; class < 2; class ++) {
        size_t n = class_logits(r, class, ANY, logits, weights);
        for (size_t i = 0; i < count; i++) {
            float z = (float)golden(r, "new", i);
            struct mf_conformal_class c =
                mf_conformal_judge_weighted(logits, weights, n, class, z, weight, 0.1);
            double p = golden(r, class ? "weighted_p_present" : "weighted_p_absent", i);
            assert_true(fabs(c.p - p) < 1e-6);
            assert_int_equal(c.included, p > 0.1);
            assert_int_equal(c.included, (class ? -z : z) <= c.q); /* the threshold says the same */
        }
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void raps_equals_torchcp(void **state)
{
    enum { CLASSES = 6 };
    const json_t *r = json_object_get(reference, "raps");
    const struct mf_raps raps = {json_number_value(json_object_get(r, "lambda")),
                                 (size_t)json_integer_value(json_object_get(r, "free"))};
    size_t n = json_array_size(json_object_get(r, "truth"));
    double scores[ROOM], p[CLASSES];
    float z[CLASSES];
    (void)state;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < CLASSES; k++)
            z[k] = (float)golden2(r, "logits", i, k);
        mf_softmax(z, CLASSES, 1, p);
        scores[i] = mf_raps_score(&raps, p, CLASSES, (size_t)golden(r, "truth", i), 1);
        assert_true(fabs(scores[i] - golden(r, "scores", i)) < 1e-6);
    }
    qsort(scores, n, sizeof *scores, ascending);
    for (size_t a = 0; a < 3; a++)
        for (size_t i = 0; i < json_array_size(json_object_get(r, "new")); i++) {
            bool include[CLASSES], enough, none = true;
            for (size_t k = 0; k < CLASSES; k++) {
                z[k] = (float)golden2(r, "new", i, k);
                none = none && golden2(r, LEVELS[a].sets, i, k) == 0;
            }
            mf_softmax(z, CLASSES, 1, p);
            size_t size =
                mf_raps_set(&raps, scores, n, p, CLASSES, 1, LEVELS[a].alpha, include, &enough);
            assert_true(enough && size >= 1);
            for (size_t k = 0; k < CLASSES; k++) /* TorchCP's empty sets get their best label */
                assert_int_equal(include[k], none ? include[k] : golden2(r, LEVELS[a].sets, i, k));
        }
}

struct miss {
    float z;
    uint32_t weight;
};

static int by_miss(const void *a, const void *b)
{
    float x = ((const struct miss *)a)->z, y = ((const struct miss *)b)->z;
    return x < y ? -1 : x > y;
}

static void risk_control_equals_mapie(void **state)
{
    enum { LABELS = 5 };
    const json_t *r = json_object_get(reference, "risk_control");
    size_t cases = json_array_size(json_object_get(r, "truth")), n = 0;
    struct miss all[ROOM];
    float logits[ROOM];
    uint32_t weights[ROOM];
    (void)state;
    for (size_t i = 0; i < cases; i++) {
        uint32_t present = 0;
        for (size_t k = 0; k < LABELS; k++)
            present += golden2(r, "truth", i, k) > 0;
        for (size_t k = 0; k < LABELS; k++)
            if (golden2(r, "truth", i, k) > 0)
                all[n++] = (struct miss){(float)golden2(r, "z", i, k), present};
    }
    qsort(all, n, sizeof *all, by_miss);
    for (size_t i = 0; i < n; i++) {
        logits[i] = all[i].z;
        weights[i] = all[i].weight;
    }
    for (size_t a = 0; a < 3; a++) {
        float t = mf_conformal_risk_threshold(logits, weights, n, cases, LEVELS[a].alpha);
        for (size_t i = 0; i < json_array_size(json_object_get(r, "new")); i++)
            for (size_t k = 0; k < LABELS; k++) {
                /* MAPIE chooses among all labels' probabilities: its threshold may lie above the
                 * last present label's logit that holds, where no calibration label tells. */
                double z = golden2(r, "new", i, k);
                bool listed = golden2(r, LEVELS[a].sets, i, k) > 0;
                if (listed)
                    assert_true(z >= t);
                else if (z >= t)
                    fail_msg("alpha %g: %g is listed, the threshold is %g", LEVELS[a].alpha, z,
                             (double)t);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(p_values_equal_crepes),
        cmocka_unit_test(sets_equal_torchcp),
        cmocka_unit_test(weighted_p_values_equal_their_definition),
        cmocka_unit_test(raps_equals_torchcp),
        cmocka_unit_test(risk_control_equals_mapie),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
