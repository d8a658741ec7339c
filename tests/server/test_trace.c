/* server/trace.c: traceparent (W3C Trace Context, 3.2), sampling, the address. */
#include "tests/expect.h"

#include "server/trace.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static const struct {
    const char *text;
    bool ok, sampled;
} PARENTS[] = {
    {"00-" TRACE "-" SPAN "-01", true, true},
    {"00-" TRACE "-" SPAN "-00", true, false},
    {"00-" TRACE "-" SPAN "-03", true, true},
    {"00-" TRACE "-" SPAN "-fe", true, false},
    {"cc-" TRACE "-" SPAN "-01-what-comes-later", true, true}, /* of a later version */
    {"cc-" TRACE "-" SPAN "-01", true, true},
    {"00-" TRACE "-" SPAN "-01-more", false, false},
    {"cc-" TRACE "-" SPAN "-01.more", false, false},
    {"ff-" TRACE "-" SPAN "-01", false, false},
    {"00-00000000000000000000000000000000-" SPAN "-01", false, false},
    {"00-" TRACE "-0000000000000000-01", false, false},
    {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", false, false},
    {"00-" TRACE "-" SPAN "-1", false, false},
    {"00-" TRACE "-" SPAN "-0g", false, false},
    {"00_" TRACE "-" SPAN "-01", false, false},
    {"00-" TRACE "_" SPAN "-01", false, false},
    {"00-" TRACE "-" SPAN "_01", false, false},
    {"0-" TRACE "-" SPAN "-01", false, false},
    {"", false, false},
    {NULL, false, false},
};

static void test_parents(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof PARENTS / sizeof *PARENTS; i++) {
        struct mf_trace_context c = {.sampled = false};
        if (mf_trace_context_parse(PARENTS[i].text, &c) != PARENTS[i].ok)
            fail_msg("%s", PARENTS[i].text ? PARENTS[i].text : "NULL");
        if (!PARENTS[i].ok)
            continue;
        assert_string_equal(c.trace, TRACE);
        assert_string_equal(c.span, SPAN);
        assert_int_equal(c.sampled, PARENTS[i].sampled);
    }
}

static struct mf_config *make_config(const char *endpoint, const char *percent)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_config *config = mf_config_new(&err);
    assert_non_null(config);
    assert_true(mf_config_set(config, "trace.endpoint", endpoint, &err));
    assert_true(mf_config_set(config, "trace.percent", percent, &err));
    return config;
}

/* Nothing listens there: what is added is dropped, and stopping does not wait for it. */
static void test_a_share_of_traces_is_recorded(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    MF_AUTO(mf_config) struct mf_config *config = make_config("http://127.0.0.1:9/v1/traces", "25");
    MF_AUTO(mf_trace) struct mf_trace *trace = mf_trace_new(config, "test", &err);
    assert_non_null(trace);
    assert_true(mf_trace_wanted(trace, "00000018" TRACE));  /* 24 */
    assert_false(mf_trace_wanted(trace, "00000019" TRACE)); /* 25 */
    assert_true(mf_trace_wanted(trace, "00000064" TRACE));  /* 100 */
    const struct mf_span span = {.trace = TRACE, .id = SPAN, .kind = MF_SPAN_SERVER, .name = "x"};
    for (int i = 0; i < 10000; i++)
        mf_trace_add(trace, &span);
}

static void test_off_is_no_trace(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    MF_AUTO(mf_config) struct mf_config *config = make_config("off", "100");
    assert_null(mf_trace_new(config, "test", &err));
    assert_no_error(&err);
    assert_true(mf_trace_check(config, &err));
}

static void test_an_address_that_is_none(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    MF_AUTO(mf_config) struct mf_config *config = make_config("collector:4318", "100");
    assert_false(mf_trace_check(config, &err));
    assert_error(&err, MF_ERR_USAGE,
                 "trace.endpoint: \"collector:4318\" is no http or https URL without user, query "
                 "or fragment");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parents),
        cmocka_unit_test(test_a_share_of_traces_is_recorded),
        cmocka_unit_test(test_off_is_no_trace),
        cmocka_unit_test(test_an_address_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
