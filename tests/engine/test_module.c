/* `module run`: names with a prefix work, and every mistake in a directory or an input is named. */
#include "core/buffer.h"
#include "core/json.h"
#include "engine/module.h"
#include "engine/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN MF_SOURCE_DIR "/tests/golden/modules/"

struct fixture {
    char dir[32], input[64], output[64], config[64], weights[64];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    snprintf(f->dir, sizeof f->dir, "/tmp/mf-module-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->input, sizeof f->input, "%s/in", f->dir);
    snprintf(f->output, sizeof f->output, "%s/out", f->dir);
    snprintf(f->config, sizeof f->config, "%s/config.json", f->dir);
    snprintf(f->weights, sizeof f->weights, "%s/model.safetensors", f->dir);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    unlink(f->input);
    unlink(f->output);
    unlink(f->config);
    unlink(f->weights);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* An input with one tensor of zeros. */
static void write_input(const struct fixture *f, const char *name, int rank, const size_t *shape)
{
    struct mf_tensor t = {.name = name, .dtype = MF_DTYPE_F32, .rank = rank, .count = 1};
    for (int i = 0; i < rank; i++)
        t.count *= t.shape[i] = shape[i];
    float *zeros = calloc(t.count + 1, sizeof *zeros);
    t.data = zeros;
    assert_true(mf_safetensors_write(f->input, &t, 1, NULL));
    free(zeros);
}

static void refuse(const struct fixture *f, const char *dir,
                   const struct mf_module_options *options, enum mf_code code, const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_module_run(dir, f->input, f->output, options, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, reason))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, reason);
    assert_int_not_equal(access(f->output, F_OK), 0);
}

static void inputs_of_the_wrong_shape_are_named(void **state)
{
    struct fixture *f = *state;
    write_input(f, "pixel_values", 4, (size_t[]){1, 1, 56, 56});
    refuse(f, GOLDEN "dinov2", NULL, MF_ERR_MALFORMED,
           "tensor \"pixel_values\" must be (b, 3, h, w) with h and w at least 14");
    write_input(f, "pixel_values", 3, (size_t[]){3, 56, 56});
    refuse(f, GOLDEN "dinov2", NULL, MF_ERR_MALFORMED,
           "tensor \"pixel_values\" must have 4 dimensions");
    write_input(f, "pixel_values", 4, (size_t[]){0, 3, 56, 56});
    refuse(f, GOLDEN "dinov2", NULL, MF_ERR_MALFORMED, "tensor \"pixel_values\" is empty");
    write_input(f, "image", 1, (size_t[]){1});
    refuse(f, GOLDEN "dinov2", NULL, MF_ERR_MALFORMED, "tensor \"pixel_values\" is missing");
    refuse(f, GOLDEN "mamba", NULL, MF_ERR_MALFORMED, "tensor \"inputs_embeds\" is missing");
    refuse(f, GOLDEN "fusion", NULL, MF_ERR_MALFORMED, "tensor \"image_tokens\" is missing");
    refuse(f, GOLDEN "ft_transformer", NULL, MF_ERR_MALFORMED, "tensor \"x_cont\" is missing");
    write_input(f, "pixel_values", 4, (size_t[]){1, 3, 64, 64});
    refuse(f, GOLDEN "sam2", NULL, MF_ERR_MALFORMED,
           "tensor \"pixel_values\" must be (b, 3, 96, 96)");
    write_input(f, "region_tokens", 3, (size_t[]){33, 17, 64});
    refuse(f, GOLDEN "mamba", NULL, MF_ERR_MALFORMED,
           "tensor \"region_tokens\" must be (frames ≤ 32, 17, 64)");
}

static void categories_out_of_range_are_refused(void **state)
{
    struct fixture *f = *state;
    const float cont[3] = {0};
    const int64_t cat[2] = {2, 0};
    const struct mf_tensor t[] = {
        {.name = "x_cont",
         .dtype = MF_DTYPE_F32,
         .rank = 2,
         .shape = {1, 3},
         .count = 3,
         .data = cont},
        {.name = "x_cat",
         .dtype = MF_DTYPE_I64,
         .rank = 2,
         .shape = {1, 2},
         .count = 2,
         .data = cat},
    };
    assert_true(mf_safetensors_write(f->input, t, 2, NULL));
    refuse(f, GOLDEN "ft_transformer", NULL, MF_ERR_MALFORMED,
           "tensor \"x_cat\" holds 2 for feature 0, categories are 0 to 1");
}

static void devices_and_dtypes_that_are_not_there_are_named(void **state)
{
    struct fixture *f = *state;
    write_input(f, "pixel_values", 4, (size_t[]){1, 3, 56, 56});
    refuse(f, GOLDEN "dinov2", &(struct mf_module_options){.device = "cuda:0"}, MF_ERR_UNAVAILABLE,
           "device \"cuda:0\" is not available: only cpu is");
    refuse(f, GOLDEN "dinov2", &(struct mf_module_options){.dtype = "f16"}, MF_ERR_UNAVAILABLE,
           "dtype \"f16\" is not available on cpu: f32, bf16 and int8 are");
}

/* dinov2's directory with changed names (a prefix before each) or another model_type. */
static void copy_module(const struct fixture *f, const char *prefix, const char *type)
{
    struct mf_safetensors *file = mf_safetensors_open(GOLDEN "dinov2/model.safetensors", NULL);
    json_t *config = mf_json_read_file(GOLDEN "dinov2/config.json", NULL, NULL);
    assert_true(file && config);
    json_object_set_new(config, "model_type", json_string(type));
    assert_int_equal(json_dump_file(config, f->config, 0), 0);
    json_decref(config);
    size_t n = mf_safetensors_count(file);
    struct mf_tensor *t = calloc(n, sizeof *t);
    char(*names)[128] = calloc(n, sizeof *names);
    for (size_t i = 0; i < n; i++) {
        t[i] = *mf_safetensors_at(file, i);
        snprintf(names[i], sizeof names[i], "%s%s", prefix, t[i].name);
        t[i].name = names[i];
    }
    assert_true(mf_safetensors_write(f->weights, t, n, NULL));
    free(t);
    free(names);
    mf_safetensors_free(file);
}

static void names_with_the_models_prefix_are_found(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    write_input(f, "pixel_values", 4, (size_t[]){1, 3, 56, 56});
    copy_module(f, "dinov2.", "dinov2");
    if (!mf_module_run(f->dir, f->input, f->output, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(access(f->output, F_OK), 0);
}

static void other_names_and_models_are_refused(void **state)
{
    struct fixture *f = *state;
    write_input(f, "pixel_values", 4, (size_t[]){1, 3, 56, 56});
    copy_module(f, "teacher.", "dinov2");
    refuse(f, f->dir, NULL, MF_ERR_MODEL, "tensor \"embeddings.cls_token\" is missing");
    copy_module(f, "", "resnet");
    refuse(f, f->dir, NULL, MF_ERR_MODEL, "config.json: model_type \"resnet\" is not supported");
    unlink(f->weights);
    refuse(f, f->dir, NULL, MF_ERR_MODEL, "no model.safetensors");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(inputs_of_the_wrong_shape_are_named),
        TEST(categories_out_of_range_are_refused),
        TEST(devices_and_dtypes_that_are_not_there_are_named),
        TEST(names_with_the_models_prefix_are_found),
        TEST(other_names_and_models_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
