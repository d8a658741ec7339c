/* core/feature.c: the definition as it is meant, and every mistake by its name. */
#include "core/feature.h"

#include <unistd.h>

#include <math.h>

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
        "\"conversions\":{\"{reading}\":[0.5,-17.5],\"{sensor}/min\":2},"
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
    assert_string_equal(t->conversions[0].unit, "{reading}");
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

#define PICKS                                                                                      \
    "features[0].pick: must be last, first, min, max, mean, median, sum, delta, count, present "   \
    "or days_since"
/* Replaces the sources of NUMERIC. */
#define SOURCE "{\"fhir\":[{\"system\":\"http://loinc.org\",\"code\":\"1988-5\"}]}"

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
        {NUMERIC, "\"mean\"", "\"pick\":\"newest\",\"mean\"", PICKS},
        {NUMERIC, "\"mean\"", "\"pick\":3,\"mean\"", PICKS},
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
         "features[0].sources[0]: must be a string, {\"fhir\": [\xE2\x80\xA6]} or "
         "{\"derive\": \xE2\x80\xA6}"},
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
         "features[0].pick: a categorical feature takes last, first or present"},
        {CATEGORICAL, "\"map\"", "\"unit\":\"a\",\"map\"",
         "features[0].unit: belongs to numeric features"},
        /* units */
        {NUMERIC, "\"mean\"", "\"conversions\":{\"mg/dL\":100},\"mean\"",
         "features[0].conversions: 1 mg/dL is 10 mg/L by UCUM, not 100"},
        {NUMERIC, "\"mean\"", "\"molar_mass\":0,\"mean\"",
         "features[0].molar_mass: must be above zero (g/mol)"},
        {NUMERIC, "\"mean\"", "\"pick\":\"count\",\"mean\"",
         "features[0].unit: what is counted has the unit 1"},
        {NUMERIC, "\"mean\"", "\"pick\":\"days_since\",\"mean\"",
         "features[0].unit: days_since is a time: d, wk, mo or a"},
        /* sources */
        {NUMERIC, SOURCE, "{\"fhir\":[{\"value_set\":\"x\"}]}",
         "features[0].sources[0].fhir: there is no value set \"x\""},
        {NUMERIC, SOURCE, "{\"fhir\":[{\"system\":\"s\",\"code\":\"c\",\"prefix\":\"p\"}]}",
         "features[0].sources[0].fhir: a coding has a code or a prefix, not both"},
        {NUMERIC, SOURCE,
         "{\"resource\":\"Condition\",\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}",
         "features[0].sources[0].resource: only an Observation has a value: pick count, present or "
         "days_since"},
        {NUMERIC, SOURCE, "{\"resource\":\"Patient\",\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}",
         "features[0].sources[0].resource: must be Observation, Encounter, Condition, Procedure, "
         "MedicationRequest, MedicationStatement, MedicationAdministration, AllergyIntolerance, "
         "ServiceRequest, ImagingStudy or DiagnosticReport"},
        {NUMERIC, SOURCE,
         "{\"read\":\"interpretation\",\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}",
         "features[0].sources[0].read: an interpretation is a category, not a number"},
        {NUMERIC, SOURCE, "{\"read\":\"colour\",\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}",
         "features[0].sources[0].read: must be value, interpretation or upper_limits"},
        {NUMERIC, SOURCE, "{\"derive\":\"weight / height\"}",
         "features[0].sources[0].derive: at character 1: \"weight\" is neither a helper nor a "
         "numeric feature before this one"},
        {NUMERIC, SOURCE, "{\"derive\":\"2 * (3 + 4\"}",
         "features[0].sources[0].derive: at character 11: ')' expected"},
        {NUMERIC, SOURCE, "{\"derive\":\"2 *\"}",
         "features[0].sources[0].derive: at character 4: something is missing"},
        {NUMERIC, SOURCE, "{\"derive\":\"2 3\"}",
         "features[0].sources[0].derive: at character 3: '3' is not expected here"},
        {NUMERIC, SOURCE, "{\"derive\":\"log(3)\"}",
         "features[0].sources[0].derive: at character 1: there is no function \"log\""},
        {NUMERIC, SOURCE, "{\"derive\":\"1\",\"within\":\"a day\"}",
         "features[0].sources[0].within: must be an ISO 8601 duration such as \"P7D\", or null"},
        /* windows and policies */
        {NUMERIC, "\"mean\"", "\"window\":{\"from\":\"P1D\",\"to\":\"P2D\"},\"mean\"",
         "features[0].window: \"from\" lies before \"to\", so it must be longer"},
        {NUMERIC, "\"mean\"", "\"policy\":{\"stale\":\"keep\"},\"mean\"",
         "features[0].policy.stale: must be missing, use or refuse"},
        {NUMERIC, "\"mean\"", "\"policy\":{\"implausible\":\"clamp\"},\"mean\"",
         "features[0].policy.implausible: clamping needs a range"},
        {NUMERIC, "\"mean\"", "\"range\":[1,9],\"policy\":{\"missing\":10},\"mean\"",
         "features[0].policy.missing: the number lies outside the plausible range"},
        {CATEGORICAL, "\"map\"", "\"policy\":{\"missing\":\"woman\"},\"map\"",
         "features[0].policy.missing: must be token, refuse or a category"},
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

struct mistakes {
    char text[2048];
};

static void note(void *context, const char *mistake)
{
    struct mistakes *m = context;
    size_t len = strlen(m->text);
    snprintf(m->text + len, sizeof m->text - len, "%s\n", mistake);
}

/* A checker tells all mistakes at once, one of each feature; a good definition has none. */
static void all_mistakes_are_found(void **state)
{
    (void)state;
    struct mistakes found = {""};
    MF_AUTO(mf_json)
    json_t *bad = json_of(
        "{\"schema\":\"medfusion.features/"
        "1\",\"extra\":1,\"helpers\":[{\"id\":\"h\",\"unit\":\"1\","
        "\"sources\":[{\"derive\":\"1 +\"}]}],\"features\":[{\"id\":\"a\",\"kind\":\"numeric\","
        "\"unit\":\"1\",\"sources\":[{\"derive\":\"h + 1\"}],\"mean\":0,\"std\":1},5,{\"id\":\"c\","
        "\"kind\":\"colour\"}]}");
    assert_int_equal(mf_feature_set_check(bad, "f", note, &found), 4);
    assert_string_equal(found.text, "f: unknown key \"extra\"\n"
                                    "f: helpers[0].sources[0].derive: at character 4: something is "
                                    "missing\n"
                                    "f: features[1]: must be an object\n"
                                    "f: features[2].kind: must be numeric or categorical\n");
    MF_AUTO(mf_json)
    json_t *good = json_of("{\"schema\":\"medfusion.features/1\",\"features\":[" NUMERIC "]}");
    assert_int_equal(mf_feature_set_check(good, "f", note, &found), 0);
    MF_AUTO(mf_json) json_t *none = json_of("[]");
    assert_int_equal(mf_feature_set_check(none, "f", note, &found), 1);
}

static long variable(void *context, const char *id)
{
    (void)context;
    return id[0] >= 'a' && id[0] <= 'c' && !id[1] ? id[0] - 'a' : -1;
}

static void expressions(void **state)
{
    (void)state;
    static const double VALUES[] = {2, 3, -4};
    static const struct {
        const char *text;
        double value;
    } ROWS[] = {
        {"1", 1},
        {"a + b * c", -10},
        {"(a + b) * c", -20},
        {"a - b - c", 3},
        {"a / b / a", 1 / 3.0},
        {"a ^ b", 8},
        {"a ^ b ^ a", 512},
        {"-a ^ 2", -4},
        {"2 * -b", -6},
        {"min(a, b) + max(a, b)", 5},
        {"abs(c)", 4},
        {"sqrt(abs(c))", 2},
        {"ln(exp(a))", 2},
        {"70 / (1.75)^2", 70 / 3.0625},
        {" .5*a ", 1},
    };
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_expression *e = mf_expression_parse(ROWS[i].text, variable, NULL, arena, &err);
        assert_no_error(&err);
        assert_float_equal(mf_expression_evaluate(e, VALUES), ROWS[i].value, 1e-12);
    }
    struct mf_error err = MF_ERROR_INIT;
    struct mf_expression *e = mf_expression_parse("a / (b - 3)", variable, NULL, arena, &err);
    assert_false(mf_expression_evaluate(e, VALUES) < INFINITY);
    char deep[200];
    memset(deep, '(', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_null(mf_expression_parse(deep, variable, NULL, arena, &err));
    assert_error(&err, MF_ERR_MODEL, "at character 33: nested too deep");
    mf_error_clear(&err);
    char wide[600] = "1";
    for (int i = 0; i < 140; i++)
        memcpy(wide + 1 + 2 * i, "+1", 3);
    assert_null(mf_expression_parse(wide, variable, NULL, arena, &err));
    assert_int_equal(err.code, MF_ERR_MODEL);
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
         "\"source\":\"Patient/1\",\"time\":null,\"policy\":null}"},
        {&age,
         {.status = MF_FEATURE_MISSING},
         "{\"id\":\"age\",\"value\":null,\"unit\":\"a\",\"status\":\"missing\",\"source\":null,"
         "\"time\":null,\"policy\":null}"},
        {&age,
         {.status = MF_FEATURE_IMPLAUSIBLE,
          .has_number = true,
          .number = 7,
          .unit = "furlong",
          .source = "Observation/2",
          .time = "2019"},
         "{\"id\":\"age\",\"value\":7.0,\"unit\":\"furlong\",\"status\":\"implausible\","
         "\"source\":\"Observation/2\",\"time\":\"2019\",\"policy\":null}"},
        {&sex,
         {.status = MF_FEATURE_STALE, .has_category = true, .category = 1},
         "{\"id\":\"sex\",\"value\":\"male\",\"unit\":null,\"status\":\"stale\",\"source\":null,"
         "\"time\":null,\"policy\":null}"},
        {&sex,
         {.status = MF_FEATURE_IMPLAUSIBLE, .text = "O", .source = "dicom:PatientSex"},
         "{\"id\":\"sex\",\"value\":\"O\",\"unit\":null,\"status\":\"implausible\","
         "\"source\":\"dicom:PatientSex\",\"time\":null,\"policy\":null}"},
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
        cmocka_unit_test(all_mistakes_are_found),
        cmocka_unit_test(expressions),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(values_as_json),
    };
    return cmocka_run_group_tests_name("core/feature", tests, NULL, NULL);
}
