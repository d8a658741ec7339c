/* Whole networks of tests/golden/bundles against PyTorch: every stage with the reference's boxes
 * injected, and end to end. */
#include "engine/engine.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/parity.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MAX_FRAMES = 32, MAX_CASES = 32 };

/* A case being compared: which tensors of `expected` each tap belongs to. */
struct comparison {
    struct parity *p;
    const char *where;
    const struct mf_safetensors *expected;
};

/* "boxes.1" is part 1 of the expected "boxes"; "temporal" is compared whole. */
static void see(void *arg, const char *name, const float *data, const size_t *shape, int rank)
{
    struct comparison *c = arg;
    size_t n = 1, frame;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    char base[64];
    snprintf(base, sizeof base, "%.63s", name);
    char *dot = strrchr(base, '.');
    if (!dot || strncmp(name, "region_weight", 13) == 0) {
        parity_compare(c->p, c->where, c->expected, name, data, n);
        return;
    }
    *dot = '\0';
    frame = (size_t)atoi(dot + 1);
    const struct mf_tensor *whole = mf_safetensors_find(c->expected, base);
    if (!whole)
        return;
    float *all = malloc(whole->count * sizeof *all);
    mf_tensor_to_floats(whole, all);
    bool fits = (frame + 1) * n <= whole->count;
    double distance = fits ? parity_distance(data, all + frame * n, n) : INFINITY;
    free(all);
    bool ok = distance <= parity_limit();
    if (!ok || frame == 0)
        printf("%-44s %-22s %9zu %10.2e%s\n", c->where, name, n, distance, ok ? "" : "  TOO FAR");
    c->p->compared++;
    c->p->failed += !ok;
    c->p->worst = fmax(c->p->worst, distance);
}

/* A frame whose display values are the given floats: a linear-exact window over [0, 1]. */
static struct mf_frame make_frame(const struct mf_tensor *t, float *samples)
{
    struct mf_frame f = {.rows = (uint32_t)t->shape[0],
                         .columns = (uint32_t)t->shape[1],
                         .samples_per_pixel = 1,
                         .type = MF_SAMPLE_F32,
                         .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                         .bits_stored = 32,
                         .high_bit = 31,
                         .samples = samples,
                         .rescale_slope = 1,
                         .has_window = true,
                         .voi_function = MF_VOI_LINEAR_EXACT,
                         .window_center = 0.5,
                         .window_width = 1};
    mf_tensor_to_floats(t, samples);
    return f;
}

/* Feature values whose standardised form is the case's x_cont. */
static void make_features(const struct mf_feature_set *set, const struct mf_safetensors *in,
                          struct mf_feature_value *values)
{
    const struct mf_tensor *cont = mf_safetensors_find(in, "x_cont"),
                           *cat = mf_safetensors_find(in, "x_cat");
    const struct mf_tensor *missing = mf_safetensors_find(in, "missing");
    float x[64];
    mf_tensor_to_floats(cont, x);
    for (size_t i = 0; i < set->count; i++) {
        struct mf_feature_value *v = &values[i];
        memset(v, 0, sizeof *v);
        v->status = mf_tensor_integer(missing, i) ? MF_FEATURE_MISSING : MF_FEATURE_USED;
        if (i < set->numeric_count) {
            v->has_number = true;
            v->number = (double)x[i] * set->features[i].std + set->features[i].mean;
        } else {
            v->has_category = true;
            v->category = (uint32_t)mf_tensor_integer(cat, i - set->numeric_count);
        }
    }
}

static void compare_regions(struct comparison *c, const struct mf_segmentation *s, size_t n)
{
    static const int CODES[] = {
        [MF_SEGMENTATION_OFF] = 2, [MF_SEGMENTATION_OK] = 1, [MF_SEGMENTATION_FALLBACK] = 0};
    const struct mf_tensor *status = mf_safetensors_find(c->expected, "region_status");
    const struct mf_tensor *box = mf_safetensors_find(c->expected, "region_box");
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(CODES[s[i].status], mf_tensor_integer(status, i));
        for (size_t k = 0; k < 4; k++)
            assert_int_equal(s[i].box[k], mf_tensor_integer(box, 4 * i + k));
    }
}

static void run_case(struct parity *p, struct mf_engine *engine, const struct mf_bundle *bundle,
                     const char *dir, const char *where, bool inject)
{
    char path[640];
    struct mf_error err = MF_ERROR_INIT;
    snprintf(path, sizeof path, "%s/input.safetensors", dir);
    struct mf_safetensors *in = mf_safetensors_open(path, &err);
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    struct mf_safetensors *want = mf_safetensors_open(path, &err);
    if (!in || !want)
        fail_msg("%s", err.msg);
    struct mf_frame frames[MAX_FRAMES];
    const struct mf_frame *pointers[MAX_FRAMES];
    struct mf_segmentation segmentation[MAX_FRAMES];
    struct mf_feature_value values[64];
    float logits[64], boxes[MAX_FRAMES * 8];
    size_t n = 0;
    const struct mf_tensor *t;
    for (char name[16]; snprintf(name, sizeof name, "frame.%zu", n),
                        n < MAX_FRAMES && (t = mf_safetensors_find(in, name));
         n++) {
        frames[n] = make_frame(t, malloc(t->count * sizeof(float)));
        pointers[n] = &frames[n];
    }
    struct mf_engine_input input = {.frames = pointers, .frame_count = n};
    if (mf_safetensors_find(in, "x_cont")) {
        make_features(mf_bundle_features(bundle), in, values);
        input.features = values;
    }
    double where_in_stack[MAX_FRAMES];
    if ((t = mf_safetensors_find(in, "where"))) {
        float at[MAX_FRAMES];
        mf_tensor_to_floats(t, at);
        for (size_t i = 0; i < n; i++)
            where_in_stack[i] = at[i];
        input.positions = where_in_stack;
    }
    if (inject && (t = mf_safetensors_find(want, "boxes"))) {
        mf_tensor_to_floats(t, boxes);
        input.boxes = boxes;
    }
    struct mf_engine_output output = {.logits = logits, .segmentation = segmentation};
    struct comparison c = {p, where, want};
    struct mf_tap tap = {see, &c};
    if (!mf_engine_run(engine, &input, &tap, &output, &err))
        fail_msg("%s: %s", where, err.msg);
    compare_regions(&c, segmentation, n);
    for (size_t i = 0; i < n; i++)
        free((void *)frames[i].samples);
    mf_safetensors_free(in);
    mf_safetensors_free(want);
}

static void run_bundle(struct parity *p, const char *name, int threads)
{
    char dir[64], cases[512];
    struct mf_error err = MF_ERROR_INIT;
    struct mf_engine_options options = {.device = parity_device(),
                                        .threads = threads,
                                        .dtype = parity_dtype(),
                                        .kernels = getenv("MF_TEST_KERNELS")};
    size_t count = 0;
    assert_true(bundle_copy(name, dir));
    struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    struct mf_engine *engine = bundle ? mf_engine_new(bundle, &options, &err) : NULL;
    if (!engine)
        fail_msg("%s: %s", name, err.msg);
    snprintf(cases, sizeof cases, MF_SOURCE_DIR "/tests/golden/bundles/%s/cases", name);
    DIR *d = opendir(cases);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[800], where[300];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", cases, e->d_name);
        snprintf(where, sizeof where, "%s/%s", name, e->d_name);
        run_case(p, engine, bundle, path, where, true);
        run_case(p, engine, bundle, path, where, false);
        count++;
    }
    closedir(d);
    assert_true(count > 0);
    mf_engine_free(engine);
    mf_bundle_free(bundle);
    bundle_remove(dir);
}

static void every_bundle_equals_pytorch(void **state)
{
    static const char *const NAMES[] = {"full",          "no-segmenter", "no-ehr", "transformer",
                                        "temporal-none", "vit-clahe",    "stack"};
    struct parity p = {0};
    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        run_bundle(&p, NAMES[i], i % 2 ? 1 : 2);
    printf("%zu tensors compared, worst %.2e\n", p.compared, p.worst);
    assert_true(p.compared > 0);
    assert_int_equal(p.failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_bundle_equals_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
