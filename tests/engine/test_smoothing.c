/*
 * Smoothing for int8, on a vision transformer with channels that dwarf the others: the same
 * function as without them, because the layers behind divide by what the norms multiply with. In
 * int8 it is far from fp32 without smoothing factors and near with them.
 */
#include "core/json.h"
#include "engine/module.h"
#include "engine/net/net.h"
#include "engine/smoothing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 256, HIDDEN = 512, LAYERS = 2, IMAGE = 56, PATCH = 14, TENSORS = 64 };

/* Channels of every norm and of every value that are this much larger than the rest. */
static const size_t OUTLIERS[] = {3, 77, 200};
static const float OUTLIER = 120;

struct fixture {
    char dir[32];
    struct mf_tensor tensors[TENSORS];
    size_t count;
    uint32_t seed;
};

static const char *in_dir(const struct fixture *f, const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return path;
}

static float *add_tensor(struct fixture *f, const char *name, int rank, const size_t *shape)
{
    struct mf_tensor *t = &f->tensors[f->count++];
    assert_true(f->count <= TENSORS);
    *t = (struct mf_tensor){.name = strdup(name), .dtype = MF_DTYPE_F32, .rank = rank, .count = 1};
    for (int i = 0; i < rank; i++)
        t->count *= t->shape[i] = shape[i];
    float *data = malloc(t->count * sizeof *data);
    t->data = data;
    return data;
}

/* Uniform numbers around `mean`. */
static float *add_noise(struct fixture *f, const char *name, int rank, const size_t *shape,
                        float mean, float spread)
{
    float *data = add_tensor(f, name, rank, shape);
    for (size_t i = 0; i < f->tensors[f->count - 1].count; i++) {
        f->seed = f->seed * 1664525 + 1013904223;
        data[i] = mean + spread * ((float)(f->seed >> 8) / (float)(1 << 23) - 1);
    }
    return data;
}

static void add_linear(struct fixture *f, const char *name, size_t out, size_t in, float **weight)
{
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    *weight = add_noise(f, full, 2, (size_t[]){out, in}, 0, 2 / sqrtf((float)in));
    snprintf(full, sizeof full, "%s.bias", name);
    add_noise(f, full, 1, &out, 0, 0.05f);
}

static void divide_columns(float *weight, size_t out, size_t in)
{
    for (size_t k = 0; k < sizeof OUTLIERS / sizeof *OUTLIERS; k++)
        for (size_t i = 0; i < out; i++)
            weight[i * in + OUTLIERS[k]] /= OUTLIER;
}

static void add_norm(struct fixture *f, const char *name, bool outliers)
{
    const size_t d = WIDTH;
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    float *weight = add_noise(f, full, 1, &d, 1, 0.2f);
    snprintf(full, sizeof full, "%s.bias", name);
    float *bias = add_noise(f, full, 1, &d, 0, 0.05f);
    for (size_t k = 0; outliers && k < sizeof OUTLIERS / sizeof *OUTLIERS; k++) {
        weight[OUTLIERS[k]] *= OUTLIER;
        bias[OUTLIERS[k]] *= OUTLIER;
    }
}

static void add_layer(struct fixture *f, size_t i)
{
    static const char *const READERS[] = {"attention.attention.query", "attention.attention.key",
                                          "attention.attention.value", "mlp.fc1"};
    const size_t d = WIDTH;
    char name[96];
    float *weight;
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "encoder.layer.%zu.norm%d", i, k + 1);
        add_norm(f, name, true);
        snprintf(name, sizeof name, "encoder.layer.%zu.layer_scale%d.lambda1", i, k + 1);
        add_noise(f, name, 1, &d, 0.5f, 0.2f);
    }
    for (int k = 0; k < 4; k++) {
        size_t out = k < 3 ? d : (size_t)HIDDEN;
        snprintf(name, sizeof name, "encoder.layer.%zu.%s", i, READERS[k]);
        add_linear(f, name, out, d, &weight);
        divide_columns(weight, out, d);
    }
    snprintf(name, sizeof name, "encoder.layer.%zu.attention.output.dense", i);
    add_linear(f, name, d, d, &weight);
    snprintf(name, sizeof name, "encoder.layer.%zu.mlp.fc2", i);
    add_linear(f, name, d, HIDDEN, &weight);
}

static void write_model(struct fixture *f)
{
    const size_t d = WIDTH, tokens = 1 + IMAGE / PATCH * IMAGE / PATCH;
    add_noise(f, "embeddings.cls_token", 3, (size_t[]){1, 1, d}, 0, 0.5f);
    add_noise(f, "embeddings.mask_token", 2, (size_t[]){1, d}, 0, 0.5f);
    add_noise(f, "embeddings.position_embeddings", 3, (size_t[]){1, tokens, d}, 0, 0.5f);
    add_noise(f, "embeddings.patch_embeddings.projection.weight", 4, (size_t[]){d, 3, PATCH, PATCH},
              0, 0.05f);
    add_noise(f, "embeddings.patch_embeddings.projection.bias", 1, &d, 0, 0.05f);
    for (size_t i = 0; i < LAYERS; i++)
        add_layer(f, i);
    add_norm(f, "layernorm", false);
    assert_true(mf_safetensors_write(in_dir(f, "model.safetensors"), f->tensors, f->count, NULL));
    json_t *config =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type", "dinov2", "hidden_size",
                  WIDTH, "num_hidden_layers", LAYERS, "num_attention_heads", 4, "patch_size", PATCH,
                  "image_size", IMAGE, "mlp_ratio", HIDDEN / WIDTH);
    assert_int_equal(json_dump_file(config, in_dir(f, "config.json"), 0), 0);
    json_decref(config);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->seed = 7;
    snprintf(f->dir, sizeof f->dir, "/tmp/mf-smooth-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    write_model(f);
    struct fixture input = {.seed = 11};
    add_noise(&input, "pixel_values", 4, (size_t[]){2, 3, IMAGE, IMAGE}, 0, 2);
    bool ok = mf_safetensors_write(in_dir(f, "in"), input.tensors, 1, NULL);
    free((void *)(uintptr_t)input.tensors[0].name);
    free((void *)(uintptr_t)input.tensors[0].data);
    return ok ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const FILES[] = {"in", "out", "config.json", "model.safetensors",
                                        "smoothing.safetensors"};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(in_dir(f, FILES[i]));
    rmdir(f->dir);
    for (size_t i = 0; i < f->count; i++) {
        free((void *)(uintptr_t)f->tensors[i].name);
        free((void *)(uintptr_t)f->tensors[i].data);
    }
    free(f);
    return 0;
}

/* The module's tokens in this dtype; the caller frees them. */
static float *run(const struct fixture *f, const char *dtype, size_t *ret_count)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_module_options options = {.device = "cpu", .dtype = dtype, .threads = 2};
    char out[64];
    snprintf(out, sizeof out, "%s/out", f->dir);
    if (!mf_module_run(f->dir, in_dir(f, "in"), out, &options, &err))
        fail_msg("%s", err.msg);
    struct mf_safetensors *file = mf_safetensors_open(out, NULL);
    assert_non_null(file);
    const struct mf_tensor *t = mf_safetensors_find(file, "last_hidden_state");
    float *data = malloc(t->count * sizeof *data);
    mf_tensor_to_floats(t, data);
    *ret_count = t->count;
    mf_safetensors_free(file);
    return data;
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

struct pass {
    struct mf_vit *vit;
    const float *pixels;
};

static void pass_body(struct mf_exec *x, void *arg)
{
    const struct pass *p = arg;
    float *pixels = mf_exec_floats(x, 3 * IMAGE * IMAGE);
    float *hidden = mf_exec_floats(x, mf_vit_tokens(p->vit, IMAGE, IMAGE) * WIDTH);
    MF_DO(x, upload, pixels, p->pixels, 3 * IMAGE * IMAGE);
    mf_vit_run(x, p->vit, pixels, 1, IMAGE, IMAGE, hidden);
}

/* One fp32 pass over noise that the test's input is not; smoothing.safetensors of what was seen. */
static void calibrate(const struct fixture *f)
{
    struct fixture noise = {.seed = 23};
    struct mf_smoothing *smoothing = mf_smoothing_new(NULL);
    struct mf_arena *arena = mf_arena_new(1 << 28);
    struct mf_weights *weights = mf_weights_open(f->dir, NULL);
    struct mf_exec x;
    struct mf_loader ld;
    assert_true(smoothing && arena && weights && mf_exec_init(&x, "cpu", "f32", 2, NULL));
    x.observer = mf_smoothing_observer(smoothing);
    mf_loader_init(&ld, weights, &x, arena, NULL);
    struct pass p = {.vit = mf_vit_load_any(&ld)};
    p.pixels = add_noise(&noise, "", 3, (size_t[]){3, IMAGE, IMAGE}, 0, 2);
    assert_int_equal(mf_smoothing_count(smoothing, 0), 0);
    assert_true(p.vit && mf_exec_run(&x, pass_body, &p, false, NULL));
    assert_int_equal(mf_smoothing_count(smoothing, 0), 1 + 4 * LAYERS);
    assert_int_equal(mf_smoothing_count(smoothing, 1), 0);
    assert_true(mf_smoothing_write(smoothing, 0, MF_SMOOTHING_ALPHA,
                                   in_dir(f, "smoothing.safetensors"), NULL));
    mf_exec_free(&x);
    mf_weights_free(weights);
    mf_arena_free(arena);
    mf_smoothing_free(smoothing);
    free((void *)(uintptr_t)noise.tensors[0].name);
    free((void *)(uintptr_t)noise.tensors[0].data);
}

/* Whether this processor has products in 8 bits at all. */
static bool has_int8(void)
{
    struct mf_exec x;
    assert_true(mf_exec_init(&x, "cpu", "int8", 1, NULL));
    bool has = strcmp(x.ops->dtype(x.backend), "int8") == 0;
    mf_exec_free(&x);
    if (!has)
        printf("skipped: int8 is computed in f32 here\n");
    return has;
}

static void outlier_channels_need_smoothing_and_get_it(void **state)
{
    const struct fixture *f = *state;
    size_t n;
    if (!has_int8())
        return;
    float *want = run(f, "f32", &n), *rough = run(f, "int8", &n);
    calibrate(f);
    float *smooth = run(f, "int8", &n);
    double before = cosine(rough, want, n), after = cosine(smooth, want, n);
    printf("cosine to fp32: int8 %.6f, smoothed %.6f\n", before, after);
    assert_true(before < 0.995);
    assert_true(after >= 0.999);
    free(want);
    free(rough);
    free(smooth);
}

static void other_dtypes_do_not_change(void **state)
{
    static const char *const DTYPES[] = {"f32", "bf16"};
    const struct fixture *f = *state;
    float *before[2];
    size_t n;
    for (int i = 0; i < 2; i++)
        before[i] = run(f, DTYPES[i], &n);
    calibrate(f);
    for (int i = 0; i < 2; i++) {
        float *after = run(f, DTYPES[i], &n);
        assert_memory_equal(before[i], after, n * sizeof *after);
        free(after);
        free(before[i]);
    }
}

/* Layers that come with the largest magnitude of their input, and the largest of those. */
struct peaks {
    size_t layers;
    float most;
};

static bool take_peak(void *arg, const struct mf_linear *linear,
                      const struct mf_linear_source *source, struct mf_error *err)
{
    struct peaks *p = arg;
    (void)linear, (void)err;
    p->layers += source->peak > 0;
    p->most = fmaxf(p->most, source->peak);
    return true;
}

static struct peaks peaks_of(const struct fixture *f)
{
    struct peaks peaks = {0};
    const struct mf_observer observer = {.layer = take_peak, .arg = &peaks};
    struct mf_arena *arena = mf_arena_new(1 << 28);
    struct mf_weights *weights = mf_weights_open(f->dir, NULL);
    struct mf_exec x;
    struct mf_loader ld;
    assert_true(arena && weights && mf_exec_init(&x, "cpu", "f32", 1, NULL));
    x.observer = &observer;
    mf_loader_init(&ld, weights, &x, arena, NULL);
    assert_non_null(mf_vit_load_any(&ld));
    assert_true(mf_loader_finish(&ld, NULL));
    mf_exec_free(&x);
    mf_weights_free(weights);
    mf_arena_free(arena);
    return peaks;
}

static void the_largest_inputs_come_back_with_the_layers(void **state)
{
    const struct fixture *f = *state;
    assert_int_equal(peaks_of(f).layers, 0);
    calibrate(f);
    struct peaks peaks = peaks_of(f);
    assert_int_equal(peaks.layers, 1 + 4 * LAYERS);
    assert_true(peaks.most > 1 && isfinite(peaks.most));
}

static void refuse(const struct fixture *f, const char *name, enum mf_dtype dtype, size_t count,
                   const void *data, const char *reason)
{
    const struct mf_tensor t = {
        .name = name, .dtype = dtype, .rank = 1, .shape = {count}, .count = count, .data = data};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_safetensors_write(in_dir(f, "smoothing.safetensors"), &t, 1, NULL));
    char input[64], out[64];
    snprintf(input, sizeof input, "%s/in", f->dir);
    snprintf(out, sizeof out, "%s/out", f->dir);
    assert_false(mf_module_run(f->dir, input, out, NULL, &err));
    assert_int_equal(err.code, MF_ERR_MODEL);
    if (!strstr(err.msg, reason))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, reason);
}

static void factors_that_do_not_fit_are_refused(void **state)
{
    const struct fixture *f = *state;
    float factors[WIDTH];
    for (size_t i = 0; i < WIDTH; i++)
        factors[i] = 1;
    refuse(f, "encoder.layer.0.mlp.fc1", MF_DTYPE_F32, WIDTH - 1, factors,
           "smoothing.safetensors: \"encoder.layer.0.mlp.fc1\" has 255 factors for 256 inputs");
    refuse(f, "encoder.layer.9.mlp.fc1", MF_DTYPE_F32, WIDTH, factors,
           "smoothing.safetensors: \"encoder.layer.9.mlp.fc1\" is no layer of this model");
    refuse(f, "encoder.layer.0.mlp.fc1", MF_DTYPE_I32, WIDTH, factors,
           "\"encoder.layer.0.mlp.fc1\" must be a vector of F32 numbers above 0");
    refuse(f, "encoder.layer.0.mlp.fc1.max", MF_DTYPE_F32, 2, factors,
           "smoothing.safetensors: \"encoder.layer.0.mlp.fc1.max\" must be one number");
    refuse(f, "encoder.layer.9.mlp.fc1.max", MF_DTYPE_F32, 1, factors,
           "smoothing.safetensors: \"encoder.layer.9.mlp.fc1.max\" is no layer of this model");
    factors[9] = 0;
    refuse(f, "encoder.layer.0.mlp.fc1", MF_DTYPE_F32, WIDTH, factors,
           "\"encoder.layer.0.mlp.fc1\" must be a vector of F32 numbers above 0");
    factors[9] = NAN;
    refuse(f, "encoder.layer.0.mlp.fc1", MF_DTYPE_F32, WIDTH, factors,
           "\"encoder.layer.0.mlp.fc1\" must be a vector of F32 numbers above 0");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(outlier_channels_need_smoothing_and_get_it),
        TEST(other_dtypes_do_not_change),
        TEST(the_largest_inputs_come_back_with_the_layers),
        TEST(factors_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
