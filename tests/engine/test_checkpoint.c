/*
 * Checkpoints from outside are hostile: every rule on weight files, configurations and shard
 * indexes (reference: models.md, "Weight files from outside"), each broken once, with the exact
 * error. The structure of one safetensors file is test_safetensors.c's.
 */
#include "core/arena.h"
#include "core/json.h"
#include "engine/net/net.h"

#include <math.h>
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

#define GOLDEN MF_SOURCE_DIR "/tests/golden/modules/dinov2"

enum { PATH_BYTES = 256, MAX_TENSORS = 128 };

/* A directory with a good checkpoint whose parts a test changes before it is written. */
struct fixture {
    char dir[32];
    json_t *config;
    struct mf_safetensors *file;
    struct mf_tensor tensors[MAX_TENSORS];
    size_t count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    snprintf(f->dir, sizeof f->dir, "/tmp/mf-checkpoint-XXXXXX");
    f->config = mf_json_read_file(GOLDEN "/config.json", NULL, NULL);
    f->file = mf_safetensors_open(GOLDEN "/model.safetensors", NULL);
    if (!mkdtemp(f->dir) || !f->config || !f->file)
        return -1;
    f->count = mf_safetensors_count(f->file);
    for (size_t i = 0; i < f->count; i++)
        f->tensors[i] = *mf_safetensors_at(f->file, i);
    return f->count < MAX_TENSORS ? 0 : -1;
}

static const char *path_of(const struct fixture *f, const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return path;
}

static int teardown(void **state)
{
    static const char *const NAMES[] = {"config.json", "model.safetensors",
                                        "model.safetensors.index.json", "a.safetensors",
                                        "b.safetensors"};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (unlink(path_of(f, NAMES[i])) != 0)
            rmdir(path_of(f, NAMES[i]));
    rmdir(f->dir);
    json_decref(f->config);
    mf_safetensors_free(f->file);
    free(f);
    return 0;
}

static void write_text(const struct fixture *f, const char *name, const char *text)
{
    FILE *out = fopen(path_of(f, name), "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void write_config(const struct fixture *f)
{
    assert_int_equal(json_dump_file(f->config, path_of(f, "config.json"), 0), 0);
}

static void write_file(const struct fixture *f, const char *name, size_t first, size_t count)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_safetensors_write(path_of(f, name), f->tensors + first, count, &err))
        fail_msg("%s", err.msg);
}

static void write_all(const struct fixture *f)
{
    write_config(f);
    write_file(f, "model.safetensors", 0, f->count);
}

static struct mf_tensor *tensor(struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Opens and checks the directory as a bundle does; what is said of it, without its name. */
static bool check(const struct fixture *f, struct mf_error *err)
{
    MF_AUTO(mf_weights) struct mf_weights *w = mf_weights_open(f->dir, err);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(64 << 20);
    struct mf_loader ld;
    if (!w || !arena)
        return false;
    mf_loader_init(&ld, w, NULL, arena, err);
    mf_vit_load_any(&ld);
    return mf_loader_finish(&ld, mf_vit_head_names);
}

static void refuse(const struct fixture *f, const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    size_t n = strlen(f->dir);
    assert_false(check(f, &err));
    if (strncmp(err.msg, f->dir, n) != 0 || strcmp(err.msg + n, reason) != 0)
        fail_msg("\"%s\" is not \"…%s\"", err.msg, reason);
}

static void accept(const struct fixture *f)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!check(f, &err))
        fail_msg("%s", err.msg);
}

static void every_tensor_is_asked_for_and_no_other(void **state)
{
    struct fixture *f = *state;
    write_all(f);
    accept(f);
    struct mf_tensor *t = tensor(f, "layernorm.bias");
    t->name = "layernorm.bias2";
    write_all(f);
    refuse(f, ": tensor \"layernorm.bias\" is missing");
    t->name = "layernorm.bias";
    f->tensors[f->count] = *t;
    f->tensors[f->count++].name = "optimizer.state";
    write_all(f);
    refuse(f, ": tensor \"optimizer.state\" does not belong to this model");
    f->tensors[f->count - 1].name = "dinov2.layernorm.bias"; /* a second one under the prefix */
    write_all(f);
    refuse(f, ": tensor \"dinov2.layernorm.bias\" does not belong to this model");
    f->tensors[f->count - 1].name = "classifier.bias"; /* a head is no harm, and not looked at */
    write_all(f);
    accept(f);
}

static void shapes_must_be_exact(void **state)
{
    struct fixture *f = *state;
    struct mf_tensor *t = tensor(f, "layernorm.bias");
    t->rank = 2;
    t->shape[1] = 1;
    write_all(f);
    refuse(f, ": tensor \"layernorm.bias\" has shape (64, 1), (64) is expected");
    *t = *mf_safetensors_find(f->file, "layernorm.bias");
    t->shape[0] = t->count = 63;
    write_all(f);
    refuse(f, ": tensor \"layernorm.bias\" has shape (63), (64) is expected");
    *t = *mf_safetensors_find(f->file, "layernorm.bias");
    t = tensor(f, "embeddings.position_embeddings");
    t->shape[1]--;
    t->count -= 64;
    write_all(f);
    refuse(f, ": tensor \"embeddings.position_embeddings\" has shape (1, 16, 64), (1, 17, 64) is "
              "expected");
}

static void only_three_number_formats_are_weights(void **state)
{
    static const struct {
        enum mf_dtype dtype;
        const char *reason;
    } WRONG[] = {
        {MF_DTYPE_F64, ": tensor \"layernorm.bias\" is F64, weights must be F32, F16 or BF16"},
        {MF_DTYPE_I64, ": tensor \"layernorm.bias\" is I64, weights must be F32, F16 or BF16"},
        {MF_DTYPE_I32, ": tensor \"layernorm.bias\" is I32, weights must be F32, F16 or BF16"},
        {MF_DTYPE_U8, ": tensor \"layernorm.bias\" is U8, weights must be F32, F16 or BF16"},
    };
    static const char ZEROS[64 * 8] = {0};
    struct fixture *f = *state;
    struct mf_tensor *t = tensor(f, "layernorm.bias");
    t->data = ZEROS;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        t->dtype = WRONG[i].dtype;
        write_all(f);
        refuse(f, WRONG[i].reason);
    }
    static const enum mf_dtype RIGHT[] = {MF_DTYPE_F32, MF_DTYPE_F16, MF_DTYPE_BF16};
    for (size_t i = 0; i < 3; i++) {
        t->dtype = RIGHT[i];
        write_all(f);
        accept(f);
    }
}

static void numbers_must_be_finite(void **state)
{
    struct fixture *f = *state;
    struct mf_tensor *t = tensor(f, "layernorm.bias");
    const char *reason = ": tensor \"layernorm.bias\" holds a NaN or an infinity";
    float wide[64] = {0};
    uint16_t narrow[64] = {0};
    t->data = wide;
    t->dtype = MF_DTYPE_F32;
    wide[63] = NAN;
    write_all(f);
    refuse(f, reason);
    wide[63] = -INFINITY;
    write_all(f);
    refuse(f, reason);
    t->data = narrow;
    t->dtype = MF_DTYPE_F16;
    narrow[0] = 0xFC00; /* −∞ */
    write_all(f);
    refuse(f, reason);
    t->dtype = MF_DTYPE_BF16;
    narrow[0] = 0x7F81; /* a signalling NaN */
    write_all(f);
    refuse(f, reason);
}

static void configurations_stay_within_bounds(void **state)
{
    static const struct {
        const char *key, *value, *reason;
    } WRONG[] = {
        {"hidden_size", "1000000000", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"hidden_size", "0", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"hidden_size", "-64", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"hidden_size", "\"64\"", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"hidden_size", "1e300", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"hidden_size", "[64]", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"hidden_size", "null", "\"hidden_size\" must be a whole number from 1 to 8192"},
        {"num_hidden_layers", "4000000000",
         "\"num_hidden_layers\" must be a whole number from 1 to 128"},
        {"num_attention_heads", "3", "hidden_size 64 is not a multiple of 3 heads"},
        {"patch_size", "0", "\"patch_size\" must be a whole number from 1 to 256"},
        {"image_size", "[56, 28]", "image_size must be square and at least one patch"},
        {"image_size", "[56, 56, 56]", "\"image_size\" must be 2 whole numbers from 1 to 8192"},
        {"image_size", "9", "image_size must be square and at least one patch"},
        {"num_channels", "1", "\"num_channels\" must be a whole number from 3 to 3"},
        {"mlp_ratio", "-4", "mlp_ratio is out of range"},
        {"mlp_ratio", "\"4\"", "\"mlp_ratio\" must be a number"},
        {"use_swiglu_ffn", "1", "\"use_swiglu_ffn\" must be true or false"},
        {"hidden_act", "\"gelu_new\"", "hidden_act \"gelu_new\" is not supported, only gelu is"},
        {"model_type", "\"resnet\"", "\"model_type\" must be dinov2, dinov2_with_registers or vit"},
        {"model_type", "7", "\"model_type\" must be dinov2, dinov2_with_registers or vit"},
    };
    struct fixture *f = *state;
    write_all(f);
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        char reason[160];
        json_t *before = json_incref(json_object_get(f->config, WRONG[i].key));
        json_t *value = json_loads(WRONG[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(f->config, WRONG[i].key, value);
        write_config(f);
        snprintf(reason, sizeof reason, ": config.json: %s", WRONG[i].reason);
        refuse(f, reason);
        json_object_set_new(f->config, WRONG[i].key, before);
    }
    write_config(f);
    accept(f);
}

static void configurations_must_be_plain_json(void **state)
{
    struct fixture *f = *state;
    write_all(f);
    write_text(f, "config.json", "");
    refuse(f, "/config.json: not valid JSON (line 1, column 0)");
    write_text(f, "config.json", "[]");
    refuse(f, "/config.json: must be an object");
    write_text(f, "config.json", "{\"a\":1,\"a\":1}");
    refuse(f, "/config.json: a JSON object has the same key twice (line 1, column 10)");
    char *deep = calloc(300, 1);
    memset(deep, '[', 200);
    write_text(f, "config.json", deep);
    free(deep);
    refuse(f, "/config.json: JSON is nested deeper than 64 levels");
    unlink(path_of(f, "config.json"));
    refuse(f, "/config.json: cannot be read as a file");
    assert_int_equal(mkfifo(path_of(f, "config.json"), 0600), 0);
    refuse(f, "/config.json: cannot be read as a file");
}

static void weights_must_be_a_file(void **state)
{
    struct fixture *f = *state;
    write_config(f);
    refuse(f, ": no model.safetensors");
    assert_int_equal(mkfifo(path_of(f, "model.safetensors"), 0600), 0);
    refuse(f, "/model.safetensors: cannot be read as a file");
    unlink(path_of(f, "model.safetensors"));
    assert_int_equal(mkdir(path_of(f, "model.safetensors"), 0700), 0);
    refuse(f, "/model.safetensors: cannot be read as a file");
    rmdir(path_of(f, "model.safetensors"));
    write_text(f, "model.safetensors", "short");
    refuse(f, "/model.safetensors: 5 bytes are too few for safetensors");
}

/* Both halves of the tensors in shards a and b, and an index that says so; `name` replaces the
 * shard of the first tensor. */
static void write_shards(const struct fixture *f, const char *name)
{
    json_t *map = json_object(), *index = json_object();
    size_t half = f->count / 2;
    for (size_t i = 0; i < f->count; i++)
        json_object_set_new(map, f->tensors[i].name,
                            json_string(i == 0 && name ? name
                                        : i < half     ? "a.safetensors"
                                                       : "b.safetensors"));
    json_object_set_new(index, "weight_map", map);
    assert_int_equal(json_dump_file(index, path_of(f, "model.safetensors.index.json"), 0), 0);
    json_decref(index);
    write_config(f);
    write_file(f, "a.safetensors", 0, half);
    write_file(f, "b.safetensors", half, f->count - half);
}

static void shards_stay_in_their_directory(void **state)
{
    static const char *const OUTSIDE[] = {
        "../a.safetensors", "/etc/passwd", "x/a.safetensors", ".", "..", ".hidden", ""};
    struct fixture *f = *state;
    write_shards(f, NULL);
    accept(f);
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof *OUTSIDE; i++) {
        write_shards(f, OUTSIDE[i]);
        refuse(f, "/model.safetensors.index.json: weight_map: a shard's name must be a file name "
                  "without a path");
    }
}

static void an_index_must_match_its_shards(void **state)
{
    struct fixture *f = *state;
    char reason[200];
    write_shards(f, "c.safetensors");
    snprintf(reason, sizeof reason,
             "/model.safetensors.index.json: %s/c.safetensors: cannot be read as a file", f->dir);
    refuse(f, reason);
    write_shards(f, "b.safetensors");
    snprintf(reason, sizeof reason,
             "/model.safetensors.index.json: weight_map: b.safetensors has no tensor \"%s\"",
             f->tensors[0].name);
    refuse(f, reason);
    write_shards(f, NULL);
    write_file(f, "b.safetensors", f->count / 2 - 1, f->count - f->count / 2 + 1);
    snprintf(reason, sizeof reason,
             "/model.safetensors.index.json: the shards hold %zu tensors, weight_map names %zu",
             f->count + 1, f->count);
    refuse(f, reason);
}

static void an_index_must_be_an_index(void **state)
{
    struct fixture *f = *state;
    write_shards(f, NULL);
    write_text(f, "model.safetensors.index.json", "{");
    refuse(f, "/model.safetensors.index.json: not valid JSON (line 1, column 1)");
    write_text(f, "model.safetensors.index.json", "{}");
    refuse(f, "/model.safetensors.index.json: \"weight_map\" must be an object");
    write_text(f, "model.safetensors.index.json", "{\"weight_map\":{\"x\":[]}}");
    refuse(f, "/model.safetensors.index.json: weight_map: a shard's name must be a file name "
              "without a path");
    write_text(f, "model.safetensors.index.json",
               "{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"b.safetensors\"}}");
    refuse(f, "/model.safetensors.index.json: a JSON object has the same key twice (line 1, "
              "column 38)");
    unlink(path_of(f, "model.safetensors.index.json"));
    assert_int_equal(mkfifo(path_of(f, "model.safetensors.index.json"), 0600), 0);
    refuse(f, "/model.safetensors.index.json: cannot be read as a file");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_tensor_is_asked_for_and_no_other),
        TEST(shapes_must_be_exact),
        TEST(only_three_number_formats_are_weights),
        TEST(numbers_must_be_finite),
        TEST(configurations_stay_within_bounds),
        TEST(configurations_must_be_plain_json),
        TEST(weights_must_be_a_file),
        TEST(shards_stay_in_their_directory),
        TEST(an_index_must_match_its_shards),
        TEST(an_index_must_be_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
