/* core/feature_read.c, feature_sources.c, feature_expression.c: every value that a definition may
 * not have, changed in one that has everything. */
#include "core/feature.h"
#include "tests/expect.h"
#include "tests/json_patch.h"

static const char DEFINITION[] =
    "{\"schema\":\"medfusion.features/"
    "1\",\"value_sets\":{\"vs\":[{\"system\":\"s\",\"code\":\"v1\"},{\"system\":\"s\",\"prefix\":"
    "\"v\",\"display\":\"V\"}]},"
    "\"helpers\":[{\"id\":\"h\",\"kind\":\"numeric\",\"unit\":\"mg/"
    "L\",\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"h\"}]}]}],"
    "\"features\":[{\"id\":\"n\",\"display\":\"N\",\"group\":\"G\",\"kind\":\"numeric\",\"unit\":"
    "\"mg/L\",\"molar_mass\":100,\"conversions\":{\"{u}\":[2,1]},"
    "\"pick\":\"last\",\"window\":{\"from\":\"P7D\",\"to\":\"P1D\"},\"range\":[0,100],\"mean\":5,"
    "\"std\":2,"
    "\"policy\":{\"missing\":5,\"stale\":\"use\",\"implausible\":\"clamp\"},"
    "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"},{\"value_set\":\"vs\"}]},{"
    "\"derive\":\"h * 2\",\"within\":\"P1D\"}]},"
    "{\"id\":\"k\",\"kind\":\"categorical\",\"categories\":[\"no\",\"yes\"],\"map\":{\"N\":\"no\"},"
    "\"policy\":{\"missing\":\"no\"},"
    "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"k\"}],\"read\":\"interpretation\"},"
    "\"dicom:PatientSex\"]},"
    "{\"id\":\"p\",\"kind\":\"categorical\",\"pick\":\"present\",\"categories\":[\"absent\","
    "\"there\"],"
    "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"p\"}],\"resource\":\"Condition\"}]}]}";

static void a_definition_that_has_everything(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *json = json_of(DEFINITION);
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
    assert_no_error(&err);
    assert_int_equal(set->count, 3);
    assert_int_equal(set->helper_count, 1);
    const struct mf_feature *n = &set->features[0], *k = &set->features[1], *p = &set->features[2];
    assert_string_equal(n->group, "G");
    assert_true(n->molar_mass == 100 && n->conversions[0].factor == 2 &&
                n->conversions[0].offset == 1);
    assert_int_equal(n->window_ms, INT64_C(7) * 86400000);
    assert_int_equal(n->gap_ms, 86400000);
    assert_int_equal(n->policy.missing, MF_MISSING_VALUE);
    assert_true(n->policy.number == 5);
    assert_int_equal(n->policy.stale, MF_STALE_USE);
    assert_int_equal(n->policy.implausible, MF_IMPLAUSIBLE_CLAMP);
    assert_int_equal(n->sources[0].coding_count, 2);
    assert_int_equal(n->sources[0].prefix_count, 1);
    assert_string_equal(n->sources[0].prefixes[0].display, "V");
    assert_int_equal(n->sources[1].kind, MF_SOURCE_DERIVED);
    assert_int_equal(n->sources[1].within_ms, 86400000);
    assert_int_equal(k->policy.category, 0);
    assert_int_equal(k->sources[0].read, MF_READ_INTERPRETATION);
    assert_int_equal(p->pick, MF_PICK_PRESENT);
    assert_int_equal(p->sources[0].resource, MF_RESOURCE_CONDITION);
}

static void every_value_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *mistake; /* value NULL: removed */
    } cases[] = {
        {"schema", "\"x\"", "f: \"schema\" must be \"medfusion.features/1\""},
        {"colour", "1", "f: unknown key \"colour\""},
        {"features", "[]", "f: \"features\" must be a list of 1 to 1024 features"},
        {"features", "{}", "f: \"features\" must be a list of 1 to 1024 features"},
        {"helpers", "{}", "f: \"helpers\" must be a list of features"},
        {"value_sets", "[]", "f: value_sets: must be an object of lists of codings"},
        {"value_sets/vs", "[]", "f: value_sets.vs: must be a non-empty list of codings"},
        {"value_sets/vs", "{}", "f: value_sets.vs: must be a non-empty list of codings"},
        {"value_sets/vs", "[1]", "f: value_sets.vs: every coding must be an object"},
        {"value_sets/vs/0/system", NULL, "f: value_sets.vs.system: must be a non-empty string"},
        {"value_sets/vs/0/colour", "1", "f: value_sets.vs: unknown key \"colour\""},
        {"value_sets/vs/1/code", "\"c\"",
         "f: value_sets.vs.fhir: a coding has a code or a prefix, not both"},
        {"helpers/0/kind", "\"categorical\"", "f: helpers[0].kind: a helper is numeric"},
        {"helpers/0/id", "\"n\"",
         "f: features[0].sources[1].derive: at character 1: \"h\" is neither a helper nor a "
         "numeric feature before this one"},
        {"features/1/id", "\"n\"", "f: features[1].id: the same id twice"},
        {"features/1/id", "\"h\"", "f: features[1].id: the same id twice"},
        {"features/0/display", "\"\"", "f: features[0].display: must be a non-empty string"},
        {"features/0/group", "7", "f: features[0].group: must be a non-empty string"},
        {"features/0/kind", "\"boolean\"", "f: features[0].kind: must be numeric or categorical"},
        {"features/0/map", "{}", "f: features[0].categories: a numeric feature has no categories"},
        {"features/0/unit", NULL, "f: features[0].unit: must be a non-empty string"},
        {"features/0/molar_mass", "\"100\"", "f: features[0].molar_mass: must be a number"},
        {"features/0/molar_mass", "0", "f: features[0].molar_mass: must be above zero (g/mol)"},
        {"features/0/molar_mass", "-1", "f: features[0].molar_mass: must be above zero (g/mol)"},
        {"features/0/conversions", "3",
         "f: features[0].conversions: must be an object of UCUM units"},
        {"features/0/conversions", "{\"{u}\": 0}",
         "f: features[0].conversions: a factor must not be zero"},
        {"features/0/conversions", "{\"{u}\": [1, \"2\"]}",
         "f: features[0].conversions: a rule is a factor or [factor, offset]"},
        {"features/0/conversions", "{\"g/L\": 1}",
         "f: features[0].conversions: 1 g/L is 1000 mg/L by UCUM, not 1"},
        {"features/0/pick", "\"count\"",
         "f: features[0].sources[1].derive: a derived feature is a number"},
        {"features/0/pick", "\"days_since\"",
         "f: features[0].sources[1].derive: a derived feature is a number"},
        {"features/0/window/from", "\"P1D\"",
         "f: features[0].window: \"from\" lies before \"to\", so it must be longer"},
        {"features/0/window/from", "7",
         "f: features[0].from: must be an ISO 8601 duration such as \"P7D\", or null"},
        {"features/0/window/to", "\"soon\"",
         "f: features[0].to: must be an ISO 8601 duration such as \"P7D\", or null"},
        {"features/0/window/since", "\"P1D\"", "f: features[0]: unknown key \"since\""},
        {"features/0/range", "[3, 2]", "f: features[0].range: must be [low, high] or null"},
        {"features/0/mean", "null", "f: features[0].mean: must be a number"},
        {"features/0/std", "-1", "f: features[0].std: must be above zero"},
        {"features/0/policy", "\"token\"", "f: features[0].policy: must be an object"},
        {"features/0/policy/missing", "200",
         "f: features[0].policy.missing: the number lies outside the plausible range"},
        {"features/0/policy/missing", "-200",
         "f: features[0].policy.missing: the number lies outside the plausible range"},
        {"features/0/policy/missing", "\"none\"",
         "f: features[0].policy.missing: must be token, refuse or a number"},
        {"features/0/policy/stale", "\"drop\"",
         "f: features[0].policy.stale: must be missing, use or refuse"},
        {"features/0/policy/implausible", "3",
         "f: features[0].policy.implausible: must be missing, clamp or refuse"},
        {"features/0/policy/colour", "1", "f: features[0]: unknown key \"colour\""},
        {"features/0/sources", "[]", "f: features[0].sources: must be a non-empty list"},
        {"features/0/sources/0", "3",
         "f: features[0].sources[0]: must be a string, {\"fhir\": […]} or {\"derive\": …}"},
        {"features/0/sources/0", "\"fhir:Patient.name\"",
         "f: features[0].sources[0]: not a source that MedFusion knows"},
        {"features/0/sources/0", "\"fhir:Patient.gender\"",
         "f: features[0].sources[0]: this source is not a number"},
        {"features/0/sources/0/fhir", NULL,
         "f: features[0].sources[0].fhir: must be a non-empty list of codings"},
        {"features/0/sources/0/fhir/1/value_set", "\"other\"",
         "f: features[0].sources[0].fhir: there is no value set \"other\""},
        {"features/0/sources/0/fhir/1/code", "\"c\"",
         "f: features[0].sources[0]: unknown key \"code\""},
        {"features/0/sources/0/fhir/0/prefix", "\"c\"",
         "f: features[0].sources[0].fhir: a coding has a code or a prefix, not both"},
        {"features/0/sources/0/fhir/0/display", "3",
         "f: features[0].sources[0].display: must be a non-empty string"},
        {"features/0/sources/0/fhir/0", "\"c\"",
         "f: features[0].sources[0].fhir: every coding must be an object"},
        {"features/0/sources/0/resource", "7",
         "f: features[0].sources[0].resource: must be a non-empty string"},
        {"features/0/sources/0/resource", "\"Patient\"",
         "f: features[0].sources[0].resource: must be Observation, Encounter, Condition, "
         "Procedure, MedicationRequest, MedicationStatement, MedicationAdministration, "
         "AllergyIntolerance, ServiceRequest, ImagingStudy or DiagnosticReport"},
        {"features/0/sources/0/resource", "\"Medication\"",
         "f: features[0].sources[0].resource: must be Observation, Encounter, Condition, "
         "Procedure, MedicationRequest, MedicationStatement, MedicationAdministration, "
         "AllergyIntolerance, ServiceRequest, ImagingStudy or DiagnosticReport"},
        {"features/0/sources/0/resource", "\"Spaceship\"",
         "f: features[0].sources[0].resource: must be Observation, Encounter, Condition, "
         "Procedure, MedicationRequest, MedicationStatement, MedicationAdministration, "
         "AllergyIntolerance, ServiceRequest, ImagingStudy or DiagnosticReport"},
        {"features/0/sources/0/resource", "\"Condition\"",
         "f: features[0].sources[0].resource: only an Observation has a value: pick count, present "
         "or days_since"},
        {"features/0/sources/0/read", "7",
         "f: features[0].sources[0].read: must be a non-empty string"},
        {"features/0/sources/0/read", "\"unit\"",
         "f: features[0].sources[0].read: must be value, interpretation or upper_limits"},
        {"features/0/sources/0/read", "\"interpretation\"",
         "f: features[0].sources[0].read: an interpretation is a category, not a number"},
        {"features/0/sources/1/derive", "7",
         "f: features[0].sources[1].derive: must be a non-empty string"},
        {"features/0/sources/1/derive", "\"h *\"",
         "f: features[0].sources[1].derive: at character 4: something is missing"},
        {"features/0/sources/1/derive", "\"h * later\"",
         "f: features[0].sources[1].derive: at character 5: \"later\" is neither a helper nor a "
         "numeric feature before this one"},
        {"features/0/sources/1/derive", "\"k + 1\"",
         "f: features[0].sources[1].derive: at character 1: \"k\" is neither a helper nor a "
         "numeric feature before this one"},
        {"features/0/sources/1/derive", "\"max(h, 1\"",
         "f: features[0].sources[1].derive: at character 9: ')' expected"},
        {"features/0/sources/1/derive", "\"max(h)\"",
         "f: features[0].sources[1].derive: at character 6: ',' expected"},
        {"features/0/sources/1/derive", "\"max(h, )\"",
         "f: features[0].sources[1].derive: at character 8: a number, a feature or '(' expected"},
        {"features/0/sources/1/derive", "\"max h\"",
         "f: features[0].sources[1].derive: at character 1: \"max\" is neither a helper nor a "
         "numeric feature before this one"},
        {"features/0/sources/1/derive", "\"-\"",
         "f: features[0].sources[1].derive: at character 2: something is missing"},
        {"features/0/sources/1/derive", "\"h ^\"",
         "f: features[0].sources[1].derive: at character 4: something is missing"},
        {"features/0/sources/1/derive", "\"1e999\"",
         "f: features[0].sources[1].derive: at character 1: not a number"},
        {"features/0/sources/1/derive", "\".\"",
         "f: features[0].sources[1].derive: at character 1: not a number"},
        {"features/0/sources/1/derive", "\"h $ 2\"",
         "f: features[0].sources[1].derive: at character 3: '$' is not expected here"},
        {"features/0/sources/1/derive", "\"(h + 2\"",
         "f: features[0].sources[1].derive: at character 7: ')' expected"},
        {"features/0/sources/1/derive", "\"h h\"",
         "f: features[0].sources[1].derive: at character 3: 'h' is not expected here"},
        {"features/0/sources/1/within", "\"long\"",
         "f: features[0].sources[1].within: must be an ISO 8601 duration such as \"P7D\", or null"},
        {"features/0/sources/1/since", "\"P1D\"",
         "f: features[0].sources[1]: unknown key \"since\""},
        {"features/1/sources/1", "\"dicom:PatientAge\"",
         "f: features[1].sources[1]: this source is not a category"},
        {"features/1/sources/0/read", "\"upper_limits\"",
         "f: features[1].sources[0].read: upper limits are a number, not a category"},
        {"features/1/sources/0", "{\"derive\": \"h\"}",
         "f: features[1].sources[0].derive: a derived feature is a number"},
        {"features/1/unit", "\"1\"", "f: features[1].unit: belongs to numeric features"},
        {"features/1/categories", "[]", "f: features[1].categories: must be a non-empty list"},
        {"features/1/categories", "[\"no\", \"\"]",
         "f: features[1].categories: must be a non-empty string each"},
        {"features/1/categories", "[\"no\", 1]",
         "f: features[1].categories: must be a non-empty string each"},
        {"features/1/categories", "[\"no\", \"no\"]",
         "f: features[1].categories: the same category twice"},
        {"features/1/map", "[]", "f: features[1].map: must be an object of spellings"},
        {"features/1/map", "{\"N\": 0}",
         "f: features[1].map: every spelling must name one of the categories"},
        {"features/1/map", "{\"N\": \"maybe\"}",
         "f: features[1].map: every spelling must name one of the categories"},
        {"features/1/pick", "\"mean\"",
         "f: features[1].pick: a categorical feature takes last, first or present"},
        {"features/1/policy/missing", "\"maybe\"",
         "f: features[1].policy.missing: must be token, refuse or a category"},
        {"features/1/policy/missing", "3",
         "f: features[1].policy.missing: must be token, refuse or a category"},
        {"features/2/categories", "[\"absent\"]",
         "f: features[2].categories: present needs two: the absent one, the present one"},
        {"features/2/sources/0", "\"dicom:PatientSex\"",
         "f: features[2].sources[0]: count, present and days_since ask for resources, this is "
         "none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_json) json_t *json = json_of(DEFINITION);
        if (!json_patch(json, cases[i].path, cases[i].value))
            fail_msg("there is no %s", cases[i].path);
        struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
        assert_null(set);
        assert_error(&err, MF_ERR_MODEL, cases[i].mistake);
    }
}

static void too_much_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *item, *mistake;
    } cases[] = {
        {"features", "{}", "f: \"features\" must be a list of 1 to 1024 features"},
        {"helpers", "{}", "f: \"features\" must be a list of 1 to 1024 features"},
        {"features/0/sources", "\"dicom:PatientAge\"",
         "f: features[0].sources: must be a non-empty list"},
        {"features/0/sources/0/fhir", "{\"system\":\"s\",\"code\":\"c\"}",
         "f: features[0].sources[0].fhir: must be a non-empty list of codings"},
        {"value_sets/vs", "{\"system\":\"s\",\"code\":\"c\"}",
         "f: value_sets.vs: must be a non-empty list of codings"},
        {"features/1/categories", "\"a\"", "f: features[1].categories: must be a non-empty list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_json) json_t *json = json_of(DEFINITION);
        MF_AUTO(mf_json) json_t *item = json_of(cases[i].item);
        char *text;
        json_t *list = json_array();
        for (int k = 0; k < 20000; k++)
            json_array_append(list, item);
        text = json_dumps(list, JSON_COMPACT);
        json_decref(list);
        assert_true(json_patch(json, cases[i].path, text));
        free(text);
        struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
        assert_null(set);
        assert_error(&err, MF_ERR_MODEL, cases[i].mistake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_definition_that_has_everything),
        cmocka_unit_test(every_value_is_checked),
        cmocka_unit_test(too_much_is_refused),
    };
    return cmocka_run_group_tests_name("core/feature_refused", tests, NULL, NULL);
}
