/* Bundles whose bundle.json says something wrong: each value is named in the reason. */
#include "engine/bundle.h"
#include "engine/trust/quality.h"
#include "tests/engine/bundle_copy.h"
#include "tests/expect.h"
#include "tests/json_patch.h"

struct patch {
    const char *path, *value, *reason; /* value NULL: removed */
};

struct fixture {
    char dir[64];
    json_t *bundle; /* bundle.json as it should be */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char path[128];
    *state = f;
    if (!f || !bundle_copy("full", f->dir))
        return -1;
    snprintf(path, sizeof path, "%s/bundle.json", f->dir);
    f->bundle = mf_json_read_file(path, NULL, NULL);
    return f->bundle ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    bundle_remove(f->dir);
    json_decref(f->bundle);
    free(f);
    return 0;
}

/* Opens the bundle with this bundle.json. */
static struct mf_bundle *open_with(const struct fixture *f, const json_t *json,
                                   struct mf_error *err)
{
    char path[128];
    snprintf(path, sizeof path, "%s/bundle.json", f->dir);
    char *text = mf_json_text(json, 1);
    assert_true(write_text(path, text, strlen(text)) && mf_bundle_write_manifest(f->dir, NULL));
    free(text);
    return mf_bundle_open(f->dir, MF_BUNDLE_METADATA, err);
}

static void expect_refused(const struct fixture *f, const json_t *base, const struct patch *patches,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mf_error err = MF_ERROR_INIT;
        char reason[256];
        MF_AUTO(mf_json) json_t *json = json_deep_copy(base);
        if (!json_patch(json, patches[i].path, patches[i].value))
            fail_msg("there is no %s", patches[i].path);
        assert_null(open_with(f, json, &err));
        snprintf(reason, sizeof reason, "%s/bundle.json: %s", f->dir, patches[i].reason);
        assert_string_equal(err.msg, reason);
    }
}

static void every_value_of_bundle_json_is_checked(void **state)
{
    static const struct patch patches[] = {
        {"schema", "\"medfusion.bundle/2\"", "not a medfusion.bundle/1"},
        {"name", NULL, "\"name\" must be a string"},
        {"version", NULL, "\"version\" must be a string"},
        {"accepts", NULL, "\"accepts\" must be an object"},
        {"accepts/colours", "[]", "accepts: unknown key \"colours\""},
        {"accepts/views", "\"PA\"", "accepts.views: must be an array of strings"},
        {"accepts/views", "[1]", "accepts.views: must be an array of strings"},
        {"accepts/require", "[\"colours\"]",
         "accepts.require: \"colours\" is not modalities, views or body_parts"},
        {"labels", "{}", "\"labels\" must be an array"},
        {"labels", "[]", "labels: there must be 1 to 4096"},
        {"labels/0/id", NULL, "labels[0]: \"id\" must be a string"},
        {"labels/0/id", "\"\"", "labels[0]: \"id\" must not be empty"},
        {"labels/1/id", "\"L0\"", "labels[1]: \"L0\" is there twice"},
        {"labels/0/coding", "[{\"code\":\"1\"}]", "labels[0]: \"system\" must be a string"},
        {"labels/0/coding", "[{\"system\":\"s\"}]", "labels[0]: \"code\" must be a string"},
        {"exclusive", "1", "\"exclusive\" must be true or false"},
        {"modules", NULL, "\"modules\" must be an object"},
        {"directories", NULL, "\"directories\" must be an object"},
        {"modules/segmenter", "\"unet\"", "modules.segmenter: \"unet\" is not one of its values"},
        {"modules/vision", NULL, "modules.vision: \"\" is not one of its values"},
        {"modules/temporal", "\"lstm\"", "modules.temporal: \"lstm\" is not one of its values"},
        {"modules/ehr", "3", "modules.ehr: \"\" is not one of its values"},
        {"directories/vision", NULL, "directories.vision: must be the name of a sub-directory"},
        {"directories/vision", "\"\"", "directories.vision: must be the name of a sub-directory"},
        {"directories/vision", "\".\"", "directories.vision: must be the name of a sub-directory"},
        {"directories/vision", "\"a/b\"",
         "directories.vision: must be the name of a sub-directory"},
        {"directories/vision",
         "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxxxxxx\"",
         "directories.vision: must be the name of a sub-directory"},
        {"preprocessing", NULL, "\"preprocessing\" must be an object"},
        {"preprocessing/sharpen", "true", "preprocessing: unknown key \"sharpen\""},
        {"preprocessing/equalisation", "\"local\"",
         "preprocessing.equalisation: \"local\" is not one of its values"},
        {"preprocessing/vision", NULL,
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/size", "[70]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/mean", "[0.5, 0.5]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/std", "[1, 1]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/std", "[1, 1, 0]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/std", "[1, 1, \"1\"]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/mean", "[1, 1, 1e7]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/mean", "[1, 1, null]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/size", "[13, 70]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/vision/size", "[70, 4097]",
         "preprocessing.vision: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/segmenter/size", "[]",
         "preprocessing.segmenter: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and "
         "positive \"std\" of three channels"},
        {"preprocessing/volume", "{}", "preprocessing.volume: needs voxel_spacing_mm beside it"},
        {"preprocessing/voxel_spacing_mm", "[1, 1, 1]",
         "preprocessing.volume: is needed beside voxel_spacing_mm"},
        {"segmentation", NULL, "\"segmentation\" must be an object"},
        {"segmentation/colour", "1", "segmentation: unknown key \"colour\""},
        {"segmentation/mask_dilation", "0.3",
         "segmentation.mask_dilation: must be a number from 0 to 0.25"},
        {"segmentation/mask_blur", "-0.1",
         "segmentation.mask_blur: must be a number from 0 to 0.25"},
        {"segmentation/background", "\"black\"",
         "segmentation.background: must be a number from 0 to 1"},
        {"segmentation/roi_margin", "2", "segmentation.roi_margin: must be a number from 0 to 1"},
        {"segmentation/gate", NULL, "\"gate\" must be an object"},
        {"segmentation/gate/colour", "1", "segmentation.gate: unknown key \"colour\""},
        {"segmentation/gate/area", "[0.1]",
         "segmentation.gate.area: must be [low, high] within 0 and 1"},
        {"segmentation/gate/area", "[-0.1, 0.5]",
         "segmentation.gate.area: must be [low, high] within 0 and 1"},
        {"segmentation/gate/area", "[0.6, 0.5]",
         "segmentation.gate.area: must be [low, high] within 0 and 1"},
        {"segmentation/gate/area", "[0.1, 1.5]",
         "segmentation.gate.area: must be [low, high] within 0 and 1"},
        {"segmentation/gate/iou_score", "2",
         "segmentation.gate.iou_score: must be a number from 0 to 1"},
        {"segmentation/gate/object_score", "-1e7",
         "segmentation.gate.object_score: must be a number from -1e+06 to 1e+06"},
        {"segmentation/gate/stability", "null",
         "segmentation.gate.stability: must be a number from 0 to 1"},
        {"segmentation/gate/ratio", "-1", "segmentation.gate.ratio: must be a number from 0 to 1"},
        {"segmentation/propagate", "true",
         "segmentation.propagate: is for stacks, sequence.position \"slice\""},
        {"sequence", NULL, "\"sequence\" must be an object"},
        {"sequence/priors", "{\"since\": 3}", "sequence.priors: unknown key \"since\""},
        {"sequence/priors", "{\"max\": 32}", "\"max\" must be a whole number from 0 to 31"},
        {"sequence/priors", "{\"days\": -1}", "\"days\" must be a whole number from 0 to 36500"},
        {"sequence/priors", "{\"body_part\": \"other\"}",
         "sequence.priors.body_part: \"other\" is not one of its values"},
        {"sequence/max_frames", "0", "\"max_frames\" must be a whole number from 1 to 32"},
        {"sequence/position", "\"year\"", "sequence.position: \"year\" is not one of its values"},
        {"regions", "17", "\"regions\" must be a whole number from 1 to 16"},
        {"quality", "{\"require\": []}", "quality: unknown key \"require\""},
        {"quality", "{}", "quality.refuse: must be an array of flags"},
        {"quality", "{\"refuse\": [\"ugly\"]}", "quality.refuse: \"ugly\" is no quality flag"},
        {"quality", "{\"refuse\": [1]}", "quality.refuse: \"\" is no quality flag"},
    };
    const struct fixture *f = *state;
    expect_refused(f, f->bundle, patches, sizeof patches / sizeof *patches);
}

static json_t *volume_json(const struct fixture *f)
{
    json_t *json = json_deep_copy(f->bundle);
    assert_true(json_patch(json, "preprocessing/voxel_spacing_mm", "[1, 0.5, 0.25]") &&
                json_patch(json, "preprocessing/volume",
                           "{\"slices\": \"range\", \"range\": [0.25, 0.75], \"background\": -1000,"
                           " \"window\": [40, 400]}") &&
                json_patch(json, "sequence/position", "\"slice\""));
    return json;
}

static void every_value_of_a_volume_is_checked(void **state)
{
    static const struct patch patches[] = {
        {"preprocessing/voxel_spacing_mm", "[1, 1]",
         "preprocessing.voxel_spacing_mm: must be three numbers from 0.01 to 100, or null"},
        {"preprocessing/voxel_spacing_mm", "[1, 1, 0.001]",
         "preprocessing.voxel_spacing_mm: must be three numbers from 0.01 to 100, or null"},
        {"preprocessing/voxel_spacing_mm", "[1, 1, 101]",
         "preprocessing.voxel_spacing_mm: must be three numbers from 0.01 to 100, or null"},
        {"preprocessing/volume", "[]", "preprocessing.volume: is needed beside voxel_spacing_mm"},
        {"preprocessing/volume/depth", "3", "preprocessing.volume: unknown key \"depth\""},
        {"preprocessing/volume/slices", "\"all\"",
         "preprocessing.volume.slices: must be uniform, central or range"},
        {"preprocessing/volume/slices", NULL,
         "preprocessing.volume.slices: must be uniform, central or range"},
        {"preprocessing/volume", "{\"slices\": \"uniform\", \"range\": [0, 1], \"background\": 0}",
         "preprocessing.volume.range: only goes with slices range"},
        {"preprocessing/volume", "{\"slices\": \"range\", \"background\": 0}",
         "preprocessing.volume.range: must be [low, high] within 0 and 1"},
        {"preprocessing/volume",
         "{\"slices\": \"range\", \"range\": [0.5, 0.5], \"background\": 0}",
         "preprocessing.volume.range: must be [low, high] within 0 and 1"},
        {"preprocessing/volume",
         "{\"slices\": \"range\", \"range\": [-0.5, 0.5], \"background\": 0}",
         "preprocessing.volume.range: must be [low, high] within 0 and 1"},
        {"preprocessing/volume",
         "{\"slices\": \"range\", \"range\": [0.5, 1.5], \"background\": 0}",
         "preprocessing.volume.range: must be [low, high] within 0 and 1"},
        {"preprocessing/volume",
         "{\"slices\": \"range\", \"range\": [0.5, \"1\"], \"background\": 0}",
         "preprocessing.volume.range: must be [low, high] within 0 and 1"},
        {"preprocessing/volume",
         "{\"slices\": \"range\", \"range\": [0.1, 0.5, 0.9], \"background\": 0}",
         "preprocessing.volume.range: must be [low, high] within 0 and 1"},
        {"preprocessing/volume/background", NULL,
         "preprocessing.volume.background: must be a number from -1e6 to 1e6"},
        {"preprocessing/volume/background", "1e7",
         "preprocessing.volume.background: must be a number from -1e6 to 1e6"},
        {"preprocessing/volume/background", "-1e7",
         "preprocessing.volume.background: must be a number from -1e6 to 1e6"},
        {"preprocessing/volume/window", "[40, 0]",
         "preprocessing.volume.window: must be [center, width] with a width above 0"},
        {"preprocessing/volume/window", "[40]",
         "preprocessing.volume.window: must be [center, width] with a width above 0"},
        {"preprocessing/volume/window", "[40, 1e7]",
         "preprocessing.volume.window: must be [center, width] with a width above 0"},
        {"preprocessing/volume/window", "[-1e7, 400]",
         "preprocessing.volume.window: must be [center, width] with a width above 0"},
        {"sequence/position", "\"rank\"",
         "preprocessing.voxel_spacing_mm: is for stacks, sequence.position \"slice\""},
    };
    const struct fixture *f = *state;
    MF_AUTO(mf_json) json_t *base = volume_json(f);
    expect_refused(f, base, patches, sizeof patches / sizeof *patches);
}

static void volumes_are_read(void **state)
{
    const struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *json = volume_json(f);
    MF_AUTO(mf_bundle) struct mf_bundle *b = open_with(f, json, &err);
    assert_no_error(&err);
    const struct mf_bundle_volume *v = mf_bundle_volume(b);
    assert_true(v->voxel[0] == 1 && v->voxel[1] == 0.5 && v->voxel[2] == 0.25);
    assert_int_equal(v->slices, MF_SLICES_RANGE);
    assert_true(v->range[0] == 0.25 && v->range[1] == 0.75 && v->background == -1000);
    assert_true(v->has_window && v->window_center == 40 && v->window_width == 400);
    assert_true(
        json_patch(json, "preprocessing/volume", "{\"slices\": \"central\", \"background\": 0}"));
    MF_AUTO(mf_bundle) struct mf_bundle *central = open_with(f, json, &err);
    assert_no_error(&err);
    assert_int_equal(mf_bundle_volume(central)->slices, MF_SLICES_CENTRAL);
    assert_false(mf_bundle_volume(central)->has_window);
}

static void rules_and_options_are_read(void **state)
{
    const struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_bundle_rules rules;
    MF_AUTO(mf_json) json_t *json = json_deep_copy(f->bundle);
    assert_true(json_patch(json, "accepts/require", "[\"body_parts\", \"modalities\"]") &&
                json_patch(json, "accepts/views", NULL) &&
                json_patch(json, "sequence/priors",
                           "{\"max\": 3, \"days\": 365, \"body_part\": \"same\"}") &&
                json_patch(json, "quality", "{\"refuse\": [\"noisy\", \"blurred\"]}") &&
                json_patch(json, "exclusive", "true") &&
                json_patch(json, "labels/0/coding",
                           "[{\"system\": \"s\", \"code\": \"c\", \"display\": \"d\"}, "
                           "{\"system\": \"s\", \"code\": \"e\"}]"));
    MF_AUTO(mf_bundle) struct mf_bundle *b = open_with(f, json, &err);
    assert_no_error(&err);
    mf_bundle_rules(b, &rules);
    assert_true(rules.require_modality && rules.require_body_part && !rules.require_view);
    assert_int_equal(rules.modality_count, 2);
    assert_int_equal(rules.view_count, 0);
    assert_true(rules.priors.max_studies == 3 && rules.priors.days == 365 &&
                rules.priors.same_body_part);
    const struct mf_label *label = &mf_bundle_labels(b)[0];
    assert_int_equal(label->coding_count, 2);
    assert_string_equal(label->codings[0].display, "d");
    assert_string_equal(label->codings[1].code, "e");
    assert_null(label->codings[1].display);
    MF_AUTO(mf_json) json_t *described = mf_bundle_describe(b, &err);
    assert_true(json_is_true(json_object_get(described, "exclusive")));
    assert_true(json_patch(json, "sequence/priors", "{}"));
    MF_AUTO(mf_bundle) struct mf_bundle *unbound = open_with(f, json, &err);
    assert_no_error(&err);
    mf_bundle_rules(unbound, &rules);
    assert_true(rules.priors.max_studies == 31 && rules.priors.days == 0 &&
                !rules.priors.same_body_part);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_value_of_bundle_json_is_checked),
        TEST(every_value_of_a_volume_is_checked),
        TEST(volumes_are_read),
        TEST(rules_and_options_are_read),
    };
    return cmocka_run_group_tests_name("engine/bundle_refused", tests, NULL, NULL);
}
