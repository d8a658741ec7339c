/* server/fhir_queries.c: a filter loses nothing, a server is asked only what it offers. */
#include "server/fhir_queries.h"

#include "core/buffer.h"
#include "tests/expect.h"

#define SOURCE(resource, codes)                                                                    \
    "{\"id\":\"" resource                                                                          \
    "\",\"kind\":\"numeric\",\"unit\":\"1\",\"pick\":\"count\",\"sources\":[{\"resource\":"        \
    "\"" resource "\",\"fhir\":[" codes "]}],\"mean\":0,\"std\":1}"
#define CODE(code) "{\"system\":\"http://loinc.org\",\"code\":\"" code "\"}"

#define REST(rows) "{\"rest\":[{\"mode\":\"server\",\"resource\":[" rows "]}]}"
#define TYPE(type, parameters, rest)                                                               \
    "{\"type\":\"" type "\",\"searchParam\":[" parameters "]" rest "}"
#define PARAMETER(name) "{\"name\":\"" name "\"}"

static struct mf_feature_set *set_of(const char *features)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_mem) char *text = NULL;
    assert_true(
        asprintf(&text, "{\"schema\":\"medfusion.features/1\",\"features\":[%s]}", features) > 0);
    MF_AUTO(mf_json) json_t *json = json_of(text);
    struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
    assert_no_error(&err);
    return set;
}

/* All queries, a line each, for one definition. */
static char *ask(const char *features, const char *capabilities, const char *as_of)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = set_of(features);
    MF_AUTO(mf_json) json_t *offered = capabilities ? json_of(capabilities) : NULL;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    const struct mf_feature_set *sets[] = {set};
    const struct mf_fhir_wanted wanted = {sets, 1, offered, "7", as_of};
    const char *const *list = NULL, *everything = NULL;
    size_t n = 0;
    struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_true(mf_fhir_queries(&wanted, arena, &list, &n, &err));
    for (size_t i = 0; i < n; i++)
        assert_true(mf_buffer_printf(&out, &err, "%s\n", list[i]));
    assert_true(mf_fhir_everything(&wanted, arena, &everything, &err));
    if (everything)
        assert_true(mf_buffer_printf(&out, &err, "%s\n", everything));
    return mf_buffer_take(&out, NULL);
}

static void the_server_decides_how(void **state)
{
    (void)state;
    static const struct {
        const char *features, *capabilities, *as_of, *expected;
    } cases[] = {
        /* nothing is known of the server: nothing is filtered, for that might lose something */
        {SOURCE("Observation", CODE("1-1")), NULL, NULL, "Observation?patient=7&_count=200\n"},
        {SOURCE("Observation", CODE("1-1") "," CODE("2-2") "," CODE("1-1")),
         REST(TYPE("Observation", PARAMETER("code") "," PARAMETER("combo-code"), "")), NULL,
         "Observation?patient=7&combo-code=http%3A%2F%2Floinc.org%7C1-1,http%3A%2F%2Floinc.org%7C"
         "2-2&_count=200\n"},
        /* `code` alone does not find components */
        {SOURCE("Observation", CODE("1-1")), REST(TYPE("Observation", PARAMETER("code"), "")), NULL,
         "Observation?patient=7&_count=200\n"},
        /* a panel gives its members their time */
        {SOURCE("Observation", CODE("1-1")),
         REST(TYPE("Observation", PARAMETER("combo-code"),
                   ",\"searchRevInclude\":[\"Observation:has-member\"]")),
         NULL,
         "Observation?patient=7&combo-code=http%3A%2F%2Floinc.org%7C1-1&_revinclude=Observation%3A"
         "has-member&_count=200\n"},
        {SOURCE("Condition", CODE("1-1")), REST(TYPE("Condition", PARAMETER("code"), "")), "2020",
         "Condition?patient=7&code=http%3A%2F%2Floinc.org%7C1-1&_lastUpdated=le2020&_count=200\n"},
        /* a medication's code may be another resource's */
        {SOURCE("MedicationRequest", CODE("1-1")),
         REST(TYPE("MedicationRequest", PARAMETER("code"), "")), NULL,
         "MedicationRequest?patient=7&_include=MedicationRequest%3Amedication&_count=200\n"},
        /* a type that it does not have */
        {SOURCE("Procedure", CODE("1-1")), REST(TYPE("Observation", PARAMETER("code"), "")), NULL,
         ""},
        {SOURCE("Condition", CODE("1-1")),
         REST(TYPE("Patient", "", ",\"operation\":[{\"name\":\"everything\"}]")), NULL,
         "Patient/7/$everything?_count=200&_type=Patient%2CCondition\n"},
        /* $everything cannot be asked for what was known then */
        {SOURCE("Condition", CODE("1-1")),
         REST(TYPE("Patient", "", ",\"operation\":[{\"name\":\"everything\"}]")), "2020", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_mem)
        char *got = ask(cases[i].features, cases[i].capabilities, cases[i].as_of);
        assert_string_equal(got, cases[i].expected);
    }
}

static void many_codes_are_many_searches(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer codes, feature;
    mf_buffer_init(&codes, 1 << 20);
    mf_buffer_init(&feature, 1 << 20);
    for (int i = 0; i < 500; i++)
        assert_true(mf_buffer_printf(&codes, &err, "%s" CODE("c%d"), i ? "," : "", i));
    assert_true(mf_buffer_printf(&feature, &err, SOURCE("Condition", "%s"), codes.data));
    MF_AUTO(mf_mem)
    char *got = ask(feature.data, REST(TYPE("Condition", PARAMETER("code"), "")), NULL);
    size_t queries = 0, found = 0;
    for (char *line = got; *line; line += strcspn(line, "\n") + 1, queries++)
        assert_true(strcspn(line, "\n") < 1700);
    for (const char *at = got; (at = strstr(at, "%7Cc")); at++)
        found++;
    assert_int_equal(found, 500);
    assert_true(queries > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_decides_how),
        cmocka_unit_test(many_codes_are_many_searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
