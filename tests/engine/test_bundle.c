/* Bundles: what opens says what it is; every kind of damage is refused with the exact reason. */
#include "engine/bundle.h"
#include "engine/safetensors.h"
#include "engine/trust/trust.h"
#include "tests/engine/bundle_copy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    return f && bundle_copy("full", f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    bundle_remove(f->dir);
    free(f);
    return 0;
}

/* Opening must fail with this message after the bundle's own path. */
static void refuse(const struct fixture *f, const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_FULL, &err);
    assert_null(b);
    assert_int_equal(err.code, MF_ERR_MODEL);
    assert_true(strncmp(err.msg, f->dir, strlen(f->dir)) == 0);
    assert_string_equal(err.msg + strlen(f->dir), reason);
}

static void path_of(const struct fixture *f, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", f->dir, name);
}

static json_t *read_json(const struct fixture *f, const char *name)
{
    char path[512];
    path_of(f, name, path);
    json_t *json = mf_json_read_file(path, NULL, NULL);
    assert_non_null(json);
    return json;
}

/* Writes a document (taking the reference) and a fitting manifest. */
static void write_json(const struct fixture *f, const char *name, json_t *json)
{
    char path[512];
    path_of(f, name, path);
    char *text = mf_json_text(json, 1);
    assert_true(write_text(path, text, strlen(text)));
    free(text);
    json_decref(json);
    assert_true(mf_bundle_write_manifest(f->dir, NULL));
}

static void an_intact_bundle_says_what_it_is(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_FULL, &err);
    if (!b)
        fail_msg("%s", err.msg);
    assert_string_equal(mf_bundle_name(b), "golden-full");
    assert_string_equal(mf_bundle_version(b), "0.0.1");
    assert_int_equal(strlen(mf_bundle_digest(b)), 64);
    assert_int_equal(strlen(mf_bundle_model_hash(b)), 64);
    assert_int_equal(mf_bundle_label_count(b), 5);
    assert_string_equal(mf_bundle_labels(b)[4].id, "L4");
    assert_int_equal(mf_bundle_modules(b)->segmenter, MF_SEGMENTER_SAM2);
    assert_int_equal(mf_bundle_modules(b)->temporal, MF_TEMPORAL_MAMBA);
    assert_int_equal(mf_bundle_features(b)->count, 5);
    assert_int_equal(mf_bundle_max_frames(b), 32);
    assert_null(mf_bundle_volume(b));
    assert_null(mf_trust_id(mf_bundle_trust(b)));
    json_t *json = mf_bundle_describe(b, &err);
    assert_non_null(json);
    assert_string_equal(mf_json_get_string(json, "name", ""), "golden-full");
    assert_true(json_is_null(json_object_get(json, "calibration")));
    json_decref(json);
    mf_bundle_free(b);
}

static void model_hash_ignores_the_card_and_digest_does_not(void **state)
{
    struct fixture *f = *state;
    char path[512];
    struct mf_bundle *a = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, NULL);
    path_of(f, "MODEL_CARD.md", path);
    assert_true(write_text(path, "card\n", 5));
    assert_true(mf_bundle_write_manifest(f->dir, NULL));
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, NULL);
    unlink(path);
    assert_non_null(a);
    assert_non_null(b);
    assert_string_equal(mf_bundle_model_hash(a), mf_bundle_model_hash(b));
    assert_string_not_equal(mf_bundle_digest(a), mf_bundle_digest(b));
    mf_bundle_free(a);
    mf_bundle_free(b);
}

static void a_changed_file_does_not_match_the_manifest(void **state)
{
    struct fixture *f = *state;
    char path[512];
    path_of(f, "ehr/features.json", path);
    assert_true(write_text(path, "{}", 2));
    refuse(f, ": manifest.json: the SHA-256 of ehr/features.json does not match");
}

static void a_file_more_or_less_is_noticed(void **state)
{
    struct fixture *f = *state;
    char path[512];
    path_of(f, "extra.json", path);
    assert_true(write_text(path, "{}", 2));
    refuse(f, ": manifest.json: no SHA-256 for extra.json");
    assert_true(mf_bundle_write_manifest(f->dir, NULL));
    unlink(path);
    refuse(f, ": manifest.json: extra.json is missing");
}

static void a_bundle_without_manifest_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    char path[512];
    path_of(f, "manifest.json", path);
    unlink(path);
    assert_null(mf_bundle_open(f->dir, MF_BUNDLE_FULL, &err));
    assert_int_equal(err.code, MF_ERR_MODEL);
}

/* Sets one member of preprocessing and opens the bundle. */
static void try_volume(struct fixture *f, const char *spacing, const char *volume,
                       const char *reason)
{
    json_t *json = read_json(f, "bundle.json");
    json_t *p = json_object_get(json, "preprocessing");
    json_object_set_new(p, "voxel_spacing_mm", json_loads(spacing, JSON_DECODE_ANY, NULL));
    json_object_del(p, "volume");
    if (volume)
        json_object_set_new(p, "volume", json_loads(volume, 0, NULL));
    write_json(f, "bundle.json", json);
    refuse(f, reason);
}

static void what_is_said_of_volumes_is_checked(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *spacing, *volume, *reason;
    } CASES[] = {
        {"null", "{}", "volume: needs voxel_spacing_mm beside it"},
        {"[1, 1, 1]", NULL, "volume: is needed beside voxel_spacing_mm"},
        {"[1, 1]", "{}", "voxel_spacing_mm: must be three numbers from 0.01 to 100, or null"},
        {"[1, 0, 1]", "{}", "voxel_spacing_mm: must be three numbers from 0.01 to 100, or null"},
        {"[1, 1, 1]", "{\"slice\": 1}", "volume: unknown key \"slice\""},
        {"[1, 1, 1]", "{}", "volume.slices: must be uniform, central or range"},
        {"[1, 1, 1]", "{\"slices\": \"all\"}", "volume.slices: must be uniform, central or range"},
        {"[1, 1, 1]", "{\"slices\": \"range\", \"range\": [0.6, 0.4]}",
         "volume.range: must be [low, high] within 0 and 1"},
        {"[1, 1, 1]", "{\"slices\": \"central\", \"range\": [0, 1]}",
         "volume.range: only goes with slices range"},
        {"[1, 1, 1]", "{\"slices\": \"uniform\", \"background\": \"air\"}",
         "volume.background: must be a number from -1e6 to 1e6"},
        {"[1, 1, 1]", "{\"slices\": \"uniform\", \"background\": 0, \"window\": [40, 0]}",
         "volume.window: must be [center, width] with a width above 0"},
        {"[1, 1, 1]", "{\"slices\": \"uniform\", \"background\": 0}",
         "voxel_spacing_mm: is for stacks, sequence.position \"slice\""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char reason[160];
        snprintf(reason, sizeof reason, "/bundle.json: preprocessing.%s", CASES[i].reason);
        try_volume(f, CASES[i].spacing, CASES[i].volume, reason);
    }
}

static void wrong_values_in_bundle_json_are_named(void **state)
{
    struct fixture *f = *state;
    json_t *json = read_json(f, "bundle.json");
    json_object_set_new(json, "colour", json_true());
    write_json(f, "bundle.json", json);
    refuse(f, "/bundle.json: bundle: unknown key \"colour\"");
    json = read_json(f, "bundle.json");
    json_object_del(json, "colour");
    json_object_set_new(json_object_get(json, "modules"), "vision", json_string("resnet"));
    write_json(f, "bundle.json", json);
    refuse(f, "/bundle.json: modules.vision: \"resnet\" is not one of its values");
    json = read_json(f, "bundle.json");
    json_object_set_new(json_object_get(json, "modules"), "vision", json_string("dinov2"));
    json_object_set_new(json_object_get(json, "directories"), "vision", json_string("../vision"));
    write_json(f, "bundle.json", json);
    refuse(f, "/bundle.json: directories.vision: must be the name of a sub-directory");
    json = read_json(f, "bundle.json");
    json_object_set_new(json_object_get(json, "directories"), "vision", json_string("vision"));
    json_object_set_new(json_object_get(json_object_get(json, "segmentation"), "gate"), "ratio",
                        json_integer(2));
    write_json(f, "bundle.json", json);
    refuse(f, "/bundle.json: segmentation.gate.ratio: must be a number from 0 to 1");
}

static void labels_are_findings_or_outcomes(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    json_t *json = read_json(f, "bundle.json");
    json_object_set_new(json_array_get(json_object_get(json, "labels"), 1), "horizon",
                        json_string("within 30 days"));
    write_json(f, "bundle.json", json);
    refuse(f, "/bundle.json: labels[1]: \"horizon\" is for outcomes only");
    json = read_json(f, "bundle.json");
    json_object_set_new(json_array_get(json_object_get(json, "labels"), 1), "kind",
                        json_string("wish"));
    write_json(f, "bundle.json", json);
    refuse(f, "/bundle.json: labels[1]: \"kind\" must be finding or outcome");
    json = read_json(f, "bundle.json");
    json_object_set_new(json_array_get(json_object_get(json, "labels"), 1), "kind",
                        json_string("outcome"));
    write_json(f, "bundle.json", json);
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, &err);
    if (!bundle)
        fail_msg("%s", err.msg);
    assert_false(mf_bundle_labels(bundle)[0].outcome);
    assert_true(mf_bundle_labels(bundle)[1].outcome);
    assert_string_equal(mf_bundle_labels(bundle)[1].horizon, "within 30 days");
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    struct fixture *f = *state;
    json_t *json = read_json(f, "bundle.json");
    json_array_remove(json_object_get(json, "labels"), 4);
    write_json(f, "bundle.json", json);
    refuse(f, ": fusion's num_labels is not the number of labels");
    json = read_json(f, "ehr/features.json");
    json_array_remove(json_object_get(json, "features"), 4);
    write_json(f, "ehr/features.json", json);
    json = read_json(f, "bundle.json");
    json_array_append_new(json_object_get(json, "labels"), json_pack("{s:s}", "id", "L4"));
    write_json(f, "bundle.json", json);
    refuse(f, ": features.json and the EHR module's config.json count features differently");
}

static void a_config_with_absurd_sizes_is_refused(void **state)
{
    struct fixture *f = *state;
    json_t *json = read_json(f, "vision/config.json");
    json_object_set_new(json, "hidden_size", json_integer(1 << 30));
    write_json(f, "vision/config.json", json);
    refuse(f, "/vision: config.json: \"hidden_size\" must be a whole number from 1 to 8192");
    json = read_json(f, "vision/config.json");
    json_object_set_new(json, "hidden_size", json_integer(128));
    write_json(f, "vision/config.json", json);
    refuse(
        f,
        "/vision: tensor \"embeddings.cls_token\" has shape (1, 1, 64), (1, 1, 128) is expected");
}

/* Rewrites vision/model.safetensors with one tensor changed by `change`. */
static void rewrite_weights(const struct fixture *f,
                            void (*change)(struct mf_tensor *tensors, size_t *count))
{
    char path[512];
    path_of(f, "vision/model.safetensors", path);
    struct mf_safetensors *file = mf_safetensors_open(path, NULL);
    assert_non_null(file);
    size_t n = mf_safetensors_count(file);
    struct mf_tensor *tensors = calloc(n + 1, sizeof *tensors);
    void **copies = calloc(n + 1, sizeof *copies);
    for (size_t i = 0; i < n; i++) {
        tensors[i] = *mf_safetensors_at(file, i);
        size_t bytes = tensors[i].count * mf_dtype_size(tensors[i].dtype);
        copies[i] = malloc(bytes + 1);
        memcpy(copies[i], tensors[i].data, bytes);
        tensors[i].data = copies[i];
    }
    size_t kept = n;
    change(tensors, &kept);
    char other[600];
    snprintf(other, sizeof other, "%s.new", path);
    assert_true(mf_safetensors_write(other, tensors, kept, NULL));
    mf_safetensors_free(file);
    assert_int_equal(rename(other, path), 0);
    for (size_t i = 0; i < n; i++)
        free(copies[i]);
    free(copies);
    free(tensors);
    assert_true(mf_bundle_write_manifest(f->dir, NULL));
}

static void put_nan(struct mf_tensor *tensors, size_t *count)
{
    uint16_t nan = 0x7E00;
    memcpy((char *)(uintptr_t)tensors[*count - 1].data, &nan, sizeof nan);
}

static void drop_last(struct mf_tensor *tensors, size_t *count)
{
    (void)tensors;
    (*count)--;
}

static void add_one(struct mf_tensor *tensors, size_t *count)
{
    tensors[*count] = tensors[0];
    tensors[(*count)++].name = "backdoor.weight";
}

static void use_integers(struct mf_tensor *tensors, size_t *count)
{
    struct mf_tensor *t = &tensors[*count - 1];
    t->dtype = MF_DTYPE_U8;
}

static void weights_with_a_nan_are_refused(void **state)
{
    rewrite_weights(*state, put_nan);
    refuse(*state, "/vision: tensor \"layernorm.weight\" holds a NaN or an infinity");
}

static void weights_that_lack_a_tensor_are_refused(void **state)
{
    rewrite_weights(*state, drop_last);
    refuse(*state, "/vision: tensor \"layernorm.weight\" is missing");
}

static void weights_with_a_tensor_too_many_are_refused(void **state)
{
    rewrite_weights(*state, add_one);
    refuse(*state, "/vision: tensor \"backdoor.weight\" does not belong to this model");
}

static void weights_of_another_dtype_are_refused(void **state)
{
    rewrite_weights(*state, use_integers);
    refuse(*state, "/vision: tensor \"layernorm.weight\" is U8, weights must be F32, F16 or BF16");
}

/* Moves model.safetensors behind an index whose shard has this name. */
static void make_index(const struct fixture *f, const char *shard)
{
    char from[512], to[512];
    path_of(f, "vision/model.safetensors", from);
    struct mf_safetensors *file = mf_safetensors_open(from, NULL);
    json_t *map = json_object();
    for (size_t i = 0; i < mf_safetensors_count(file); i++)
        json_object_set_new(map, mf_safetensors_at(file, i)->name, json_string(shard));
    mf_safetensors_free(file);
    path_of(f, "vision/part.safetensors", to);
    assert_int_equal(rename(from, to), 0);
    write_json(f, "vision/model.safetensors.index.json", json_pack("{s:o}", "weight_map", map));
}

static void remove_index(const struct fixture *f)
{
    char path[512];
    path_of(f, "vision/model.safetensors.index.json", path);
    unlink(path);
    path_of(f, "vision/part.safetensors", path);
    unlink(path);
}

static void shards_are_read_through_their_index(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    make_index(f, "part.safetensors");
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_FULL, &err);
    remove_index(f);
    if (!b)
        fail_msg("%s", err.msg);
    mf_bundle_free(b);
}

static void a_shard_outside_the_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    make_index(f, "../../etc/part.safetensors");
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_FULL, &err);
    remove_index(f);
    assert_null(b);
    assert_non_null(
        strstr(err.msg, "weight_map: a shard's name must be a file name without a path"));
}

static void accepted_images_follow_the_rules(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    json_t *json = read_json(f, "bundle.json"), *accepts = json_object_get(json, "accepts");
    json_object_set_new(accepts, "views", json_pack("[s, s]", "PA", "AP"));
    json_object_set_new(accepts, "require", json_pack("[s]", "views"));
    write_json(f, "bundle.json", json);
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, &err);
    assert_non_null(b);
    assert_true(mf_bundle_accepts(b, "DX", "PA", NULL, &err));
    assert_true(mf_bundle_accepts(b, "cr", "ap", "FOOT", &err));
    assert_false(mf_bundle_accepts(b, "MR", "PA", NULL, &err));
    assert_string_equal(err.msg, "modality MR is not accepted by model golden-full");
    assert_int_equal(err.code, MF_ERR_UNUSABLE);
    mf_error_clear(&err);
    assert_false(mf_bundle_accepts(b, "DX", "LL", NULL, &err));
    assert_string_equal(err.msg, "view position LL is not accepted by model golden-full");
    mf_error_clear(&err);
    assert_false(mf_bundle_accepts(b, "DX", "", NULL, &err));
    assert_string_equal(err.msg, "view position is absent and model golden-full requires it");
    mf_bundle_free(b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_intact_bundle_says_what_it_is),
        TEST(model_hash_ignores_the_card_and_digest_does_not),
        TEST(a_changed_file_does_not_match_the_manifest),
        TEST(a_file_more_or_less_is_noticed),
        TEST(a_bundle_without_manifest_is_refused),
        TEST(what_is_said_of_volumes_is_checked),
        TEST(wrong_values_in_bundle_json_are_named),
        TEST(labels_are_findings_or_outcomes),
        TEST(parts_that_do_not_fit_are_refused),
        TEST(a_config_with_absurd_sizes_is_refused),
        TEST(weights_with_a_nan_are_refused),
        TEST(weights_that_lack_a_tensor_are_refused),
        TEST(weights_with_a_tensor_too_many_are_refused),
        TEST(weights_of_another_dtype_are_refused),
        TEST(shards_are_read_through_their_index),
        TEST(a_shard_outside_the_directory_is_refused),
        TEST(accepted_images_follow_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
