/* Options of a request: what is accepted, what is refused and in which words. */
#include "server/pipeline.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void nothing_gives_the_defaults(void **state)
{
    (void)state;
    struct mf_pipeline_options o;
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_pipeline_options_parse(NULL, 0, &o, &err));
    assert_string_equal(o.model, "");
    assert_true(isnan(o.alpha));
    assert_false(o.no_priors);
    assert_true(mf_pipeline_options_parse("{}", 2, &o, &err));
    assert_true(isnan(o.alpha));
}

static void options_survive_being_stored(void **state)
{
    (void)state;
    struct mf_pipeline_options o, again;
    struct mf_error err = MF_ERROR_INIT;
    const char text[] = "{\"alpha\": 0.05, \"model\": \"thorax-nih\", \"priors\": false, "
                        "\"explain\": true}";
    assert_true(mf_pipeline_options_parse(text, sizeof text - 1, &o, &err));
    MF_AUTO(mf_mem) char *stored = mf_pipeline_options_text(&o);
    assert_string_equal(
        stored, "{\"model\":\"thorax-nih\",\"alpha\":0.05,\"explain\":true,\"priors\":false}");
    assert_true(mf_pipeline_options_parse(stored, strlen(stored), &again, &err));
    assert_string_equal(again.model, "thorax-nih");
    assert_true(again.alpha == 0.05);
    assert_true(again.no_priors);
    assert_true(again.explain);
}

static void a_job_of_a_site_survives_being_stored(void **state)
{
    (void)state;
    struct mf_pipeline_options o;
    struct mf_error err = MF_ERROR_INIT;
    const char text[] =
        "{\"site\": \"north\", \"priors_unavailable\": true, \"destinations\": [\"x\"]}";
    assert_true(mf_pipeline_options_parse("x", 0, &o, &err)); /* nothing was given */
    assert_string_equal(o.site, "");
    assert_true(mf_pipeline_options_parse(text, sizeof text - 1, &o, &err));
    assert_string_equal(o.site, "north");
    assert_true(o.priors_unavailable);
    MF_AUTO(mf_mem) char *stored = mf_pipeline_options_text(&o);
    assert_string_equal(stored, "{\"site\":\"north\",\"priors_unavailable\":true,\"priors\":true}");
}

/* Longer than any name. */
#define TEN "0123456789"
#define LONG TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static void wrong_options_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mf_code code;
        const char *message;
    } CASES[] = {
        {"{\"alpha\": 0}", MF_ERR_UNUSABLE,
         "options: \"alpha\" must be a number above 0 and at most 0.5"},
        {"{\"alpha\": 0.6}", MF_ERR_UNUSABLE,
         "options: \"alpha\" must be a number above 0 and at most 0.5"},
        {"{\"alpha\": \"0.1\"}", MF_ERR_UNUSABLE,
         "options: \"alpha\" must be a number above 0 and at most 0.5"},
        {"{\"model\": \"\"}", MF_ERR_UNUSABLE, "options: \"model\" must be the name of a model"},
        {"{\"model\": 3}", MF_ERR_UNUSABLE, "options: \"model\" must be the name of a model"},
        {"{\"priors\": 1}", MF_ERR_UNUSABLE, "options: \"priors\" must be true or false"},
        {"{\"explain\": 1}", MF_ERR_UNUSABLE, "options: \"explain\" must be true or false"},
        {"{\"model\": \"" LONG "\"}", MF_ERR_UNUSABLE,
         "options: \"model\" must be the name of a model"},
        {"{\"site\": \"" LONG "\"}", MF_ERR_UNUSABLE, "options: \"site\" must be a name of at"},
        {"{\"site\": \"\"}", MF_ERR_UNUSABLE, "options: \"site\" must be a name of at most "},
        {"{\"site\": 7}", MF_ERR_UNUSABLE, "options: \"site\" must be a name of at most "},
        {"{\"priors_unavailable\": 1}", MF_ERR_UNUSABLE,
         "options: \"priors_unavailable\" must be true or false"},
        {"{\"destinations\": \"x\"}", MF_ERR_UNUSABLE,
         "options: \"destinations\" must be a list of addresses"},
        {"{\"destinations\": [\"x\", 1, \"y\"]}", MF_ERR_UNUSABLE,
         "options: \"destinations\" must be a list of addresses"},
        {"[]", MF_ERR_UNUSABLE, "options: must be a JSON object"},
        {"{\"alpha\": 0.1, \"alpha\": 0.2}", MF_ERR_MALFORMED,
         "options: a JSON object has the same key"},
        {"{", MF_ERR_MALFORMED, "options: not valid JSON"},
        {"{\"beam\": 4}", MF_ERR_UNUSABLE, "options: "},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct mf_pipeline_options o;
        struct mf_error err = MF_ERROR_INIT;
        assert_false(mf_pipeline_options_parse(CASES[i].text, strlen(CASES[i].text), &o, &err));
        assert_int_equal(err.code, CASES[i].code);
        if (strncmp(err.msg, CASES[i].message, strlen(CASES[i].message)) != 0)
            fail_msg("%s: %s", CASES[i].text, err.msg);
    }
}

static void an_unknown_option_is_named(void **state)
{
    (void)state;
    struct mf_pipeline_options o;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_pipeline_options_parse("{\"beam\": 4}", 11, &o, &err));
    assert_non_null(strstr(err.msg, "beam"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_gives_the_defaults),
        cmocka_unit_test(options_survive_being_stored),
        cmocka_unit_test(a_job_of_a_site_survives_being_stored),
        cmocka_unit_test(wrong_options_are_refused_by_name),
        cmocka_unit_test(an_unknown_option_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
