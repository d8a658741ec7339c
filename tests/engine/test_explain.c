/* Explanations of the golden bundles against autograd (models/medfusion/explain.py), and what must
 * hold of them: shares sum to one, attributions to the change of the logit, Shapley values to the
 * whole. */
#include "engine/explain/explain.h"
#include "engine/explain/shapley.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/parity.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { FRAMES = 32, LABELS = 8, FEATURES = 64 };

/* One golden case as mf_explain() takes it. */
struct given {
    struct mf_safetensors *in, *want;
    float *pixels;
    const float *frames[FRAMES];
    double positions[FRAMES];
    struct mf_feature_value values[FEATURES];
    size_t labels[LABELS];
    struct mf_explain_input input;
};

static void read_features(const struct mf_feature_set *set, struct given *g)
{
    const struct mf_tensor *cat = mf_safetensors_find(g->in, "x_cat");
    const struct mf_tensor *missing = mf_safetensors_find(g->in, "missing");
    float x[FEATURES];
    mf_tensor_to_floats(mf_safetensors_find(g->in, "x_cont"), x);
    for (size_t i = 0; i < set->count; i++) {
        struct mf_feature_value *v = &g->values[i];
        v->status = mf_tensor_integer(missing, i) ? MF_FEATURE_MISSING : MF_FEATURE_USED;
        v->has_number = i < set->numeric_count;
        v->has_category = !v->has_number;
        if (v->has_number)
            v->number = (double)x[i] * set->features[i].std + set->features[i].mean;
        else
            v->category = (uint32_t)mf_tensor_integer(cat, i - set->numeric_count);
    }
    g->input.features = g->values;
}

static void open_case(const char *dir, const struct mf_bundle *bundle, struct given *g)
{
    char path[800];
    struct mf_error err = MF_ERROR_INIT;
    *g = (struct given){.input = {.frame_count = 0}};
    snprintf(path, sizeof path, "%s/input.safetensors", dir);
    g->in = mf_safetensors_open(path, &err);
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    g->want = mf_safetensors_open(path, &err);
    if (!g->in || !g->want)
        fail_msg("%s", err.msg);
    const struct mf_tensor *pixels = mf_safetensors_find(g->in, "pixel_values");
    const struct mf_tensor *labels = mf_safetensors_find(g->in, "labels");
    const struct mf_tensor *where = mf_safetensors_find(g->in, "where");
    size_t n = pixels->shape[0];
    g->pixels = malloc(pixels->count * sizeof *g->pixels);
    mf_tensor_to_floats(pixels, g->pixels);
    for (size_t i = 0; i < n; i++)
        g->frames[i] = g->pixels + i * (pixels->count / n);
    for (size_t i = 0; i < labels->count; i++)
        g->labels[i] = (size_t)mf_tensor_integer(labels, i);
    if (where) {
        float at[FRAMES];
        mf_tensor_to_floats(where, at);
        for (size_t i = 0; i < n; i++)
            g->positions[i] = at[i];
        g->input.positions = g->positions;
    }
    g->input.pixels = g->frames;
    g->input.frame_count = n;
    g->input.labels = g->labels;
    g->input.label_count = labels->count;
    g->input.steps = (size_t)mf_tensor_integer(mf_safetensors_find(g->in, "steps"), 0);
    if (mf_safetensors_find(g->in, "x_cont"))
        read_features(mf_bundle_features(bundle), g);
}

static void close_case(struct given *g)
{
    mf_safetensors_free(g->in);
    mf_safetensors_free(g->want);
    free(g->pixels);
}

static void compare_doubles(struct parity *p, const char *where, const struct given *g,
                            const char *name, const double *values, size_t n)
{
    float as_floats[1024];
    assert_true(n <= 1024);
    for (size_t i = 0; i < n; i++)
        as_floats[i] = (float)values[i];
    if (n && !isnan(values[0]))
        parity_compare(p, where, g->want, name, as_floats, n);
}

static double total(const float *map, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += map[i];
    return sum;
}

static void check_sums(const struct mf_explanation *x)
{
    size_t map = x->frame_count * x->rows * x->cols;
    assert_true(fabs(total(x->rollout, map) + x->rollout_of_ehr - 1) < 1e-5);
    for (size_t c = 0; c < x->label_count; c++) {
        double shares = total(x->relevance + c * map, map) + x->relevance_of_ehr[c];
        double features = 0, worth = x->logit[c] - x->unknown[c];
        assert_true(fabs(shares - 1) < 1e-5);
        for (size_t i = 0; i < x->group_count; i++)
            features += x->shapley[c * x->group_count + i];
        if (x->group_count)
            assert_true(fabs(features - worth) < 1e-5 * (1 + fabs(x->logit[c])));
    }
}

static void run_case(struct parity *p, struct mf_explainer *explainer, const char *where,
                     struct given *g)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_arena *arena = mf_arena_new(0);
    struct mf_explanation x;
    if (!mf_explain(explainer, &g->input, arena, &x, &err))
        fail_msg("%s: %s", where, err.msg);
    size_t map = x.frame_count * x.rows * x.cols, n = x.label_count;
    parity_compare(p, where, g->want, "attribution", x.attribution, n * map);
    parity_compare(p, where, g->want, "relevance", x.relevance, n * map);
    parity_compare(p, where, g->want, "rollout", x.rollout, map);
    compare_doubles(p, where, g, "relevance_of_ehr", x.relevance_of_ehr, n);
    compare_doubles(p, where, g, "rollout_of_ehr", &x.rollout_of_ehr, 1);
    compare_doubles(p, where, g, "logit", x.logit, n);
    compare_doubles(p, where, g, "blurred", x.blurred, n);
    compare_doubles(p, where, g, "frame", x.frame, n * x.frame_count);
    compare_doubles(p, where, g, "shapley", x.shapley, n * x.group_count);
    if (x.group_count)
        compare_doubles(p, where, g, "unknown", x.unknown, n);
    check_sums(&x);
    mf_arena_free(arena);
}

static void run_bundle(struct parity *p, const char *name)
{
    char dir[64], cases[512];
    struct mf_error err = MF_ERROR_INIT;
    assert_true(bundle_copy(name, dir));
    struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    struct mf_explainer *explainer = bundle ? mf_explainer_new(bundle, 2, &err) : NULL;
    if (!explainer)
        fail_msg("%s: %s", name, err.msg);
    snprintf(cases, sizeof cases, MF_SOURCE_DIR "/tests/golden/explain/%s/cases", name);
    DIR *d = opendir(cases);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[800], where[300];
        struct given g;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", cases, e->d_name);
        snprintf(where, sizeof where, "%s/%s", name, e->d_name);
        open_case(path, bundle, &g);
        run_case(p, explainer, where, &g);
        close_case(&g);
    }
    closedir(d);
    mf_explainer_free(explainer);
    mf_bundle_free(bundle);
    bundle_remove(dir);
}

static void every_map_equals_autograd(void **state)
{
    static const char *const NAMES[] = {"full",          "no-ehr",    "transformer",
                                        "temporal-none", "vit-clahe", "stack"};
    struct parity p = {0};
    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        run_bundle(&p, NAMES[i]);
    printf("%zu compared, %zu too far, worst %.2e\n", p.compared, p.failed, p.worst);
    assert_int_equal(p.failed, 0);
    assert_true(p.compared >= 40);
}

/* With many steps the patches' sum is the change of the logit, whatever the network. */
static void patches_sum_to_the_change_of_the_logit(void **state)
{
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    struct given g;
    struct mf_explanation x;
    (void)state;
    assert_true(bundle_copy("full", dir));
    struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    struct mf_explainer *explainer = mf_explainer_new(bundle, 2, &err);
    struct mf_arena *arena = mf_arena_new(0);
    open_case(MF_SOURCE_DIR "/tests/golden/explain/full/cases/frames-3", bundle, &g);
    g.input.steps = 64;
    assert_true(mf_explain(explainer, &g.input, arena, &x, &err));
    size_t map = x.frame_count * x.rows * x.cols;
    for (size_t c = 0; c < x.label_count; c++) {
        double change = x.logit[c] - x.blurred[c], sum = total(x.attribution + c * map, map);
        printf("label %zu: change %.6f, sum %.6f\n", g.labels[c], change, sum);
        assert_true(fabs(sum - change) < 2e-3 * fabs(change) + 1e-5);
    }
    close_case(&g);
    mf_arena_free(arena);
    mf_explainer_free(explainer);
    mf_bundle_free(bundle);
    bundle_remove(dir);
}

static void what_cannot_be_explained_is_said(void **state)
{
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    struct given g;
    struct mf_explanation x;
    (void)state;
    assert_true(bundle_copy("no-ehr", dir));
    struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    struct mf_explainer *explainer = mf_explainer_new(bundle, 1, &err);
    struct mf_arena *arena = mf_arena_new(0);
    open_case(MF_SOURCE_DIR "/tests/golden/explain/no-ehr/cases/frames-1", bundle, &g);
    g.labels[1] = 5;
    assert_false(mf_explain(explainer, &g.input, arena, &x, &err));
    assert_string_equal(err.msg, "there is no label 5");
    mf_error_clear(&err);
    g.labels[1] = 1;
    g.input.frame_count = 0;
    assert_false(mf_explain(explainer, &g.input, arena, &x, &err));
    assert_string_equal(err.msg, "0 frames, the model takes 1 to 32");
    mf_error_clear(&err);
    g.input.frame_count = 1;
    g.input.steps = 5000;
    assert_false(mf_explain(explainer, &g.input, arena, &x, &err));
    assert_string_equal(err.msg, "5000 steps, at most 1024 are taken");
    close_case(&g);
    mf_arena_free(arena);
    mf_explainer_free(explainer);
    mf_bundle_free(bundle);
    bundle_remove(dir);
}

/* value = Σ w_i present_i + present_0 · present_1; the product is shared equally. */
static bool play(void *arg, const unsigned char *present, double *ret, struct mf_error *err)
{
    size_t n = *(const size_t *)arg;
    (void)err;
    ret[0] = 7;
    for (size_t i = 0; i < n; i++)
        ret[0] += present[i] * (double)(i + 1);
    ret[0] += present[0] * present[1];
    ret[1] = -ret[0];
    return true;
}

static void shares_of_a_game_are_those_of_shapley(void **state)
{
    static const size_t SIZES[] = {2, 5, MF_SHAPLEY_EXACT, MF_SHAPLEY_EXACT + 1, 100};
    (void)state;
    for (size_t k = 0; k < sizeof SIZES / sizeof *SIZES; k++) {
        size_t n = SIZES[k];
        double shares[200], none[2], all[2], sum = 0;
        const struct mf_shapley game = {n, 2, play, &n};
        assert_true(mf_shapley(&game, shares, none, all, NULL));
        for (size_t i = 0; i < n; i++) {
            assert_true(fabs(shares[i] - ((double)(i + 1) + (i < 2 ? 0.5 : 0))) < 1e-9);
            assert_true(fabs(shares[n + i] + shares[i]) < 1e-9);
            sum += shares[i];
        }
        assert_true(fabs(sum - (all[0] - none[0])) < 1e-9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_map_equals_autograd),
        cmocka_unit_test(patches_sum_to_the_change_of_the_logit),
        cmocka_unit_test(what_cannot_be_explained_is_said),
        cmocka_unit_test(shares_of_a_game_are_those_of_shapley),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
