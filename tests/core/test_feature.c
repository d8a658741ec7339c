/* core/feature.c: the definition as it is meant, and every mistake by its name. */
#include "core/feature.h"

#include <unistd.h>

#include "tests/expect.h"

#define NUMERIC                                                                                    \
    "{\"id\":\"crp\",\"kind\":\"numeric\",\"unit\":\"mg/L\",\"sources\":[{\"fhir\":"               \
    "[{\"system\":\"http://loinc.org\",\"code\":\"1988-5\"}]}],\"mean\":5,\"std\":2}"
#define CATEGORICAL                                                                                \
    "{\"id\":\"sex\",\"kind\":\"categorical\",\"sources\":[\"fhir:Patient.gender\"],"              \
    "\"categories\":[\"female\",\"male\"],\"map\":{\"F\":\"female\"}}"

static struct mf_feature_set *parse(const char *text, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *json = json_of(text);
    return mf_feature_set_parse(json, "features.json", err);
}

static void a_definition_is_read_whole(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_feature_set)
    struct mf_feature_set *set = parse(
        "{\"schema\":\"medfusion.features/1\",\"features\":["
        "{\"id\":\"temp\",\"display\":\"Temperature\",\"kind\":\"numeric\",\"unit\":\"Cel\","
        "\"conversions\":{\"[degF]\":[0.5,-17.5],\"K\":2},"
        "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"c\",\"display\":\"d\"},"
        "{\"system\":\"s2\",\"code\":\"c2\"}]},\"dicom:PatientAge\"],"
        "\"pick\":\"max\",\"window\":\"P7D\",\"range\":[30,45],\"mean\":37,\"std\":0.5}," NUMERIC
        "," CATEGORICAL "]}",
        &err);
    assert_no_error(&err);
    assert_int_equal(set->count, 3);
    assert_int_equal(set->numeric_count, 2);
    const struct mf_feature *t = &set->features[0], *crp = &set->features[1],
                            *sex = &set->features[2];
    assert_string_equal(t->display, "Temperature");
    assert_int_equal(t->conversion_count, 2);
    assert_string_equal(t->conversions[0].unit, "[degF]");
    assert_float_equal(t->conversions[0].factor, 0.5, 0);
    assert_float_equal(t->conversions[0].offset, -17.5, 0);
    assert_float_equal(t->conversions[1].offset, 0, 0);
    assert_int_equal(t->source_count, 2);
    assert_int_equal(t->sources[0].kind, MF_SOURCE_FHIR_CODINGS);
    assert_int_equal(t->sources[0].coding_count, 2);
    assert_string_equal(t->sources[0].codings[0].display, "d");
    assert_null(t->sources[0].codings[1].display);
    assert_int_equal(t->sources[1].kind, MF_SOURCE_DICOM);
    assert_string_equal(t->sources[1].path, "PatientAge");
    assert_int_equal(t->pick, MF_PICK_MAX);
    assert_int_equal(t->window_ms, INT64_C(7) * 86400000);
    assert_true(t->has_range && t->range_low == 30 && t->range_high == 45);
    assert_string_equal(crp->display, "crp"); /* the id stands in */
    assert_int_equal(crp->pick, MF_PICK_LAST);
    assert_int_equal(crp->window_ms, -1);
    assert_false(crp->has_range);
    assert_null(sex->unit);
    assert_int_equal(sex->category_count, 2);
    assert_string_equal(sex->sources[0].path, "Patient.gender");
    uint32_t category = 9;
    assert_true(mf_feature_category(sex, "male", &category));
    assert_int_equal(category, 1);
    assert_true(mf_feature_category(sex, "F", &category));
    assert_int_equal(category, 0);
    assert_false(mf_feature_category(sex, "M", &category));
    assert_false(mf_feature_category(sex, "Male", &category));
    assert_int_equal(category, 0);
}

/* A feature list with one numeric feature in which `from` is replaced by `to`. */
static char *with(const char *feature, const char *from, const char *to)
{
    const char *at = strstr(feature, from);
    char *text = malloc(4096);
    assert_non_null(at);
    snprintf(text, 4096, "{\"schema\":\"medfusion.features/1\",\"features\":[%.*s%s%s]}",
             (int)(at - feature), feature, to, at + strlen(from));
    return text;
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *feature, *from, *to, *msg;
    } ROWS[] = {
        {NUMERIC, "\"id\":\"crp\",", "", "features[0].id: must be a non-empty string"},
        {NUMERIC, "\"crp\"", "\"\"", "features[0].id: must be a non-empty string"},
        {NUMERIC, "\"crp\"", "7", "features[0].id: must be a non-empty string"},
        {NUMERIC, "\"numeric\"", "\"number\"", "features[0].kind: must be numeric or categorical"},
        {NUMERIC, "\"unit\":\"mg/L\",", "", "features[0].unit: must be a non-empty string"},
        {NUMERIC, "\"mean\":5", "\"mean\":\"5\"", "features[0].mean: must be a number"},
        {NUMERIC, "\"std\":2", "\"std\":0", "features[0].std: must be above zero"},
        {NUMERIC, ",\"std\":2", "", "features[0].std: must be a number"},
        {NUMERIC, "\"mean\"", "\"pick\":\"newest\",\"mean\"",
         "features[0].pick: must be last, first, min, max or mean"},
        {NUMERIC, "\"mean\"", "\"pick\":3,\"mean\"",
         "features[0].pick: must be last, first, min, max or mean"},
        {NUMERIC, "\"mean\"", "\"window\":\"7 days\",\"mean\"",
         "features[0].window: must be an ISO 8601 duration such as \"P7D\", or null"},
        {NUMERIC, "\"mean\"", "\"window\":7,\"mean\"",
         "features[0].window: must be an ISO 8601 duration such as \"P7D\", or null"},
        {NUMERIC, "\"mean\"", "\"range\":[2,1],\"mean\"",
         "features[0].range: must be [low, high] or null"},
        {NUMERIC, "\"mean\"", "\"range\":[1],\"mean\"",
         "features[0].range: must be [low, high] or null"},
        {NUMERIC, "\"mean\"", "\"range\":{\"low\":1},\"mean\"",
         "features[0].range: must be [low, high] or null"},
        {NUMERIC, "\"mean\"", "\"conversions\":[1],\"mean\"",
         "features[0].conversions: must be an object of UCUM units"},
        {NUMERIC, "\"mean\"", "\"conversions\":{\"g\":\"2\"},\"mean\"",
         "features[0].conversions: a rule is a factor or [factor, offset]"},
        {NUMERIC, "\"mean\"", "\"conversions\":{\"g\":[1,2,3]},\"mean\"",
         "features[0].conversions: a rule is a factor or [factor, offset]"},
        {NUMERIC, "\"mean\"", "\"conversions\":{\"g\":0},\"mean\"",
         "features[0].conversions: a factor must not be zero"},
        {NUMERIC, "\"mean\"", "\"categories\":[\"a\"],\"mean\"",
         "features[0].categories: a numeric feature has no categories"},
        {NUMERIC, "\"mean\"", "\"windw\":\"P7D\",\"mean\"", "features[0]: unknown key \"windw\""},
        {NUMERIC, "[{\"fhir\"", "[{\"hl7\"", "features[0].sources[0]: unknown key \"hl7\""},
        {NUMERIC, "[{\"system\":\"http://loinc.org\",\"code\":\"1988-5\"}]", "[]",
         "features[0].sources[0].fhir: must be a non-empty list of codings"},
        {NUMERIC, "\"code\":\"1988-5\"", "\"code\":\"\"",
         "features[0].sources[0].code: must be a non-empty string"},
        {NUMERIC, "\"code\":\"1988-5\"", "\"value\":\"1988-5\"",
         "features[0].sources[0]: unknown key \"value\""},
        {NUMERIC, "{\"system\":\"http://loinc.org\",\"code\":\"1988-5\"}", "7",
         "features[0].sources[0].fhir: every coding must be an object"},
        {NUMERIC, "\"sources\":[{", "\"sources\":[5,{",
         "features[0].sources[0]: must be a string or {\"fhir\": [\xE2\x80\xA6]}"},
        {NUMERIC, "\"sources\":[{", "\"sources\":[\"fhir:Patient.gender\",{",
         "features[0].sources[0]: this source is not a number"},
        {NUMERIC, "\"sources\":[{", "\"sources\":[\"dicom:PatientName\",{",
         "features[0].sources[0]: not a source that MedFusion knows"},
        {CATEGORICAL, "fhir:Patient.gender", "dicom:PatientAge",
         "features[0].sources[0]: this source is not a category"},
        {CATEGORICAL, "[\"fhir:Patient.gender\"]", "[]",
         "features[0].sources: must be a non-empty list"},
        {CATEGORICAL, "[\"fhir:Patient.gender\"]", "\"fhir:Patient.gender\"",
         "features[0].sources: must be a non-empty list"},
        {CATEGORICAL, "[\"female\",\"male\"]", "[]",
         "features[0].categories: must be a non-empty list"},
        {CATEGORICAL, "[\"female\",\"male\"]", "[\"female\",\"female\"]",
         "features[0].categories: the same category twice"},
        {CATEGORICAL, "[\"female\",\"male\"]", "[\"female\",1]",
         "features[0].categories: must be a non-empty string each"},
        {CATEGORICAL, "{\"F\":\"female\"}", "{\"F\":\"woman\"}",
         "features[0].map: every spelling must name one of the categories"},
        {CATEGORICAL, "{\"F\":\"female\"}", "[\"F\"]",
         "features[0].map: must be an object of spellings"},
        {CATEGORICAL, "\"map\"", "\"pick\":\"mean\",\"map\"",
         "features[0].pick: a categorical feature takes last or first"},
        {CATEGORICAL, "\"map\"", "\"unit\":\"a\",\"map\"",
         "features[0].unit: belongs to numeric features"},
        {CATEGORICAL, CATEGORICAL, "[]", "features[0]: must be an object"},
        {CATEGORICAL, CATEGORICAL, CATEGORICAL "," CATEGORICAL,
         "features[1].id: the same id twice"},
        {CATEGORICAL, CATEGORICAL, CATEGORICAL "," NUMERIC,
         "features[1].kind: numeric features come before categorical ones"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        char expected[256];
        MF_AUTO(mf_mem) char *text = with(ROWS[i].feature, ROWS[i].from, ROWS[i].to);
        assert_null(parse(text, &err));
        snprintf(expected, sizeof expected, "features.json: %s", ROWS[i].msg);
        assert_error(&err, MF_ERR_MODEL, expected);
    }
}

static void wrong_documents(void **state)
{
    (void)state;
    static const struct {
        const char *text, *msg;
    } ROWS[] = {
        {"{}", "features.json: \"schema\" must be \"medfusion.features/1\""},
        {"[]", "features.json: \"schema\" must be \"medfusion.features/1\""},
        {"{\"schema\":\"medfusion.features/2\",\"features\":[]}",
         "features.json: \"schema\" must be \"medfusion.features/1\""},
        {"{\"schema\":\"medfusion.features/1\"}",
         "features.json: \"features\" must be a list of 1 to 1024 features"},
        {"{\"schema\":\"medfusion.features/1\",\"features\":[]}",
         "features.json: \"features\" must be a list of 1 to 1024 features"},
        {"{\"schema\":\"medfusion.features/1\",\"features\":[" NUMERIC "],\"extra\":1}",
         "features.json: unknown key \"extra\""},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_null(parse(ROWS[i].text, &err));
        assert_error(&err, MF_ERR_MODEL, ROWS[i].msg);
    }
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char path[] = "/tmp/mf_test_XXXXXX", expected[200];
    MF_AUTO(mf_fd) int fd = mkstemp(path);
    assert_int_equal(write(fd, "{\"schema\"", 9), 9);
    assert_null(mf_feature_set_load(path, &err));
    snprintf(expected, sizeof expected, "%s: not valid JSON (line 1, column 9)", path);
    assert_error(&err, MF_ERR_MODEL, expected);
    unlink(path);
    mf_error_clear(&err);
    assert_null(mf_feature_set_load(path, &err));
    snprintf(expected, sizeof expected, "%s: No such file or directory", path);
    assert_error(&err, MF_ERR_NOT_FOUND, expected);
    mf_feature_set_free(NULL);
}

static void values_as_json(void **state)
{
    (void)state;
    const char *const categories[] = {"female", "male"};
    const struct mf_feature age = {.id = "age", .unit = "a"};
    const struct mf_feature sex = {.id = "sex", .categories = categories, .category_count = 2};
    const struct {
        const struct mf_feature *feature;
        struct mf_feature_value value;
        const char *json;
    } ROWS[] = {
        {&age,
         {.status = MF_FEATURE_USED,
          .has_number = true,
          .number = 45,
          .unit = "a",
          .source = "Patient/1"},
         "{\"id\":\"age\",\"value\":45.0,\"unit\":\"a\",\"status\":\"used\","
         "\"source\":\"Patient/1\",\"time\":null}"},
        {&age,
         {.status = MF_FEATURE_MISSING},
         "{\"id\":\"age\",\"value\":null,\"unit\":\"a\",\"status\":\"missing\",\"source\":null,"
         "\"time\":null}"},
        {&age,
         {.status = MF_FEATURE_IMPLAUSIBLE,
          .has_number = true,
          .number = 7,
          .unit = "furlong",
          .source = "Observation/2",
          .time = "2019"},
         "{\"id\":\"age\",\"value\":7.0,\"unit\":\"furlong\",\"status\":\"implausible\","
         "\"source\":\"Observation/2\",\"time\":\"2019\"}"},
        {&sex,
         {.status = MF_FEATURE_STALE, .has_category = true, .category = 1},
         "{\"id\":\"sex\",\"value\":\"male\",\"unit\":null,\"status\":\"stale\",\"source\":null,"
         "\"time\":null}"},
        {&sex,
         {.status = MF_FEATURE_IMPLAUSIBLE, .text = "O", .source = "dicom:PatientSex"},
         "{\"id\":\"sex\",\"value\":\"O\",\"unit\":null,\"status\":\"implausible\","
         "\"source\":\"dicom:PatientSex\",\"time\":null}"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_json)
        json_t *json = mf_feature_value_to_json(ROWS[i].feature, &ROWS[i].value);
        assert_json(json, ROWS[i].json);
    }
    assert_string_equal(mf_feature_status_name((enum mf_feature_status)99), "missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_definition_is_read_whole),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(wrong_documents),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(values_as_json),
    };
    return cmocka_run_group_tests_name("core/feature", tests, NULL, NULL);
}
