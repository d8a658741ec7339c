/* server/ups_item.c and ups_config.c: what is read of a work item, what is written, where it goes.
 */
#include "server/ups_item.h"

#include "server/ups_client.h"

#include "tests/expect.h"

#include <stdlib.h>
#include <string.h>

/* A work item with this JSON between its braces. */
static struct mf_ups_item read_item(const char *members)
{
    char text[8192];
    struct mf_ups_item item;
    struct mf_error err = MF_ERROR_INIT;
    snprintf(text, sizeof text, "[{\"00080018\":{\"vr\":\"UI\",\"Value\":[\"1.2.3\"]}%s}]",
             members);
    MF_AUTO(mf_json) json_t *json = mf_json_parse(text, strlen(text), NULL, "item", &err);
    if (!json || !mf_ups_item_read(json, &item, &err))
        fail_msg("%s", err.msg);
    return item;
}

#define TEXT(tag, value) ",\"" tag "\":{\"vr\":\"CS\",\"Value\":[\"" value "\"]}"
#define CODE(value, scheme)                                                                        \
    "{\"00080100\":{\"vr\":\"SH\",\"Value\":[\"" value "\"]}" TEXT("00080102", scheme) "}"

static void what_counts_is_read(void **state)
{
    (void)state;
    struct mf_ups_item item =
        read_item(TEXT("00741000", "IN PROGRESS") TEXT("00404041", "READY") TEXT("00741200", "HIGH")
                      TEXT("00404005", "20240102101500.5+0100")
                          TEXT("00100020", "P-1") ",\"00404018\":{\"vr\":\"SQ\",\"Value\":[" CODE(
                              "A", "X") "," CODE("B", "Y") "]}");
    assert_string_equal(item.uid, "1.2.3");
    assert_int_equal(item.state, MF_UPS_IN_PROGRESS);
    assert_true(item.ready && item.high);
    assert_int_equal(item.start_ms, INT64_C(1704186900500));
    assert_string_equal(item.patient_id, "P-1");
    assert_int_equal(item.work.count, 2);
    assert_true(mf_ups_codes_have(&item.work, &(struct mf_ups_code){"B", "Y", ""}));
    assert_false(mf_ups_codes_have(&item.work, &(struct mf_ups_code){"A", "Y", ""}));
    item = read_item("");
    assert_int_equal(item.state, MF_UPS_OTHER);
    assert_false(item.ready || item.high || item.start_ms || item.input_count || item.work.count);
}

static void each_study_is_read_once(void **state)
{
    (void)state;
    struct mf_ups_item item = read_item(
        ",\"00404021\":{\"vr\":\"SQ\",\"Value\":["
        "{\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"1.1\"]}},"
        "{\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"1.1\"]},\"0040E025\":{\"vr\":\"SQ\",\"Value\":["
        "{\"00081190\":{\"vr\":\"UR\",\"Value\":[\"http://h/studies/1.1\"]}}]}},"
        "{\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"1.1/../x\"]}},"
        "{\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"1.2\"]},\"0040E021\":{\"vr\":\"SQ\",\"Value\":["
        "{\"00080054\":{\"vr\":\"AE\",\"Value\":[\"PACS\"]}}]}},7]}");
    assert_int_equal(item.input_count, 2);
    assert_string_equal(item.inputs[0].study, "1.1");
    assert_string_equal(item.inputs[0].place.url, "http://h/studies/1.1");
    assert_string_equal(item.inputs[1].study, "1.2");
    assert_string_equal(item.inputs[1].place.ae, "PACS");
    assert_false(item.too_many);
}

static void too_many_studies_are_told(void **state)
{
    (void)state;
    char list[4096] = ",\"00404021\":{\"vr\":\"SQ\",\"Value\":[{}";
    for (size_t i = 0, n = strlen(list); i <= MF_UPS_STUDIES; i++, n = strlen(list))
        snprintf(list + n, sizeof list - n, ",{\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"1.%zu\"]}}",
                 i);
    snprintf(list + strlen(list), sizeof list - strlen(list), "]}");
    struct mf_ups_item item = read_item(list);
    assert_int_equal(item.input_count, MF_UPS_STUDIES);
    assert_true(item.too_many);
}

static void odd_documents_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"[]", "[{},{}]", "\"x\"", "[7]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mf_ups_item item;
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_json) json_t *json = mf_json_parse(bad[i], strlen(bad[i]), NULL, "x", &err);
        assert_false(mf_ups_item_read(json, &item, &err));
        assert_error(&err, MF_ERR_MALFORMED, "the work item is no DICOM JSON object");
    }
}

static void times_are_read_to_their_precision(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"20240102+0000", INT64_C(1704153600000)},
                 {"202401021015+0000", INT64_C(1704190500000)},
                 {"20240102101530-0130", INT64_C(1704195930000)},
                 {"2024", 0},
                 {"2024010x", 0},
                 {"tomorrow", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char members[128];
        snprintf(members, sizeof members, ",\"00404005\":{\"vr\":\"DT\",\"Value\":[\"%s\"]}",
                 cases[i].text);
        assert_int_equal(read_item(members).start_ms, cases[i].ms);
    }
}

static void codes_of_the_configuration(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "A", "^S", "A^", "A^B^C", "A^B="};
    struct mf_ups_code code;
    char model[128];
    assert_true(mf_ups_code_parse("A^S=m", &code, model));
    assert_string_equal(code.value, "A");
    assert_string_equal(code.scheme, "S");
    assert_string_equal(model, "m");
    assert_true(mf_ups_code_parse("A^S", &code, NULL));
    assert_false(mf_ups_code_parse("A^S=m", &code, NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(mf_ups_code_parse(bad[i], &code, model));
}

static void expect_output(const char *url, const char *ae, const char *expected)
{
    const struct mf_config config = {
        .ups = {.outputs = "http://pacs/dicom-web/ dicom://STORE@h:104"}};
    struct mf_ups_item item = {.output_count = 1};
    char address[MF_UPS_URL];
    snprintf(item.outputs[0].url, MF_UPS_URL, "%s", url);
    snprintf(item.outputs[0].ae, MF_UPS_AE, "%s", ae);
    mf_ups_output(&config, &item, address);
    assert_string_equal(address, expected);
}

static void results_go_to_configured_places_only(void **state)
{
    (void)state;
    expect_output("", "STORE", "dicom://STORE@h:104");
    expect_output("http://pacs/dicom-web/studies", "", "http://pacs/dicom-web");
    expect_output("http://pacs/dicom-webx", "", "http://pacs/dicom-web");
    expect_output("http://evil/", "", "http://pacs/dicom-web");
    expect_output("", "OTHER", "http://pacs/dicom-web");
}

static void expect_json(json_t *made, const char *expected)
{
    MF_AUTO(mf_json) json_t *owned = made;
    MF_AUTO(mf_mem) char *text = mf_json_text(owned, 0);
    assert_non_null(text);
    assert_string_equal(text, expected);
}

static void what_is_written(void **state)
{
    (void)state;
    struct mf_error why = MF_ERROR_INIT;
    expect_json(mf_ups_change("2.25.1", MF_UPS_IN_PROGRESS),
                "{\"00081195\":{\"vr\":\"UI\",\"Value\":[\"2.25.1\"]},"
                "\"00741000\":{\"vr\":\"CS\",\"Value\":[\"IN PROGRESS\"]}}");
    mf_error_set(&why, MF_ERR_MALFORMED, "part 1: truncated");
    expect_json(
        mf_ups_discontinue("2.25.1", &why, INT64_C(1704190500000)),
        "{\"00081195\":{\"vr\":\"UI\",\"Value\":[\"2.25.1\"]},\"00741002\":{\"vr\":\"SQ\","
        "\"Value\":[{\"00741006\":{\"vr\":\"ST\",\"Value\":[\"canceled\"]},"
        "\"00404052\":{\"vr\":\"DT\",\"Value\":[\"20240102101500+0000\"]},"
        "\"00741238\":{\"vr\":\"LT\",\"Value\":[\"part 1: truncated\"]},"
        "\"0074100E\":{\"vr\":\"SQ\",\"Value\":["
        "{\"00080100\":{\"vr\":\"SH\",\"Value\":[\"110521\"]},"
        "\"00080102\":{\"vr\":\"SH\",\"Value\":[\"DCM\"]},"
        "\"00080104\":{\"vr\":\"LO\",\"Value\":[\"Objects incorrectly formatted\"]}}]}}]}}");
}

static void every_error_has_a_reason_code(void **state)
{
    (void)state;
    static const struct {
        enum mf_code code;
        const char *reason;
    } cases[] = {{MF_ERR_UNUSABLE, "110522"},
                 {MF_ERR_NOT_FOUND, "110523"},
                 {MF_ERR_CONFLICT, "110513"},
                 {MF_ERR_IO, "110501"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error why = {cases[i].code, "x"};
        MF_AUTO(mf_json) json_t *made = mf_ups_discontinue("1", &why, 0);
        MF_AUTO(mf_mem) char *text = mf_json_text(made, 0);
        assert_non_null(strstr(text, cases[i].reason));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_counts_is_read),
        cmocka_unit_test(each_study_is_read_once),
        cmocka_unit_test(too_many_studies_are_told),
        cmocka_unit_test(odd_documents_are_refused),
        cmocka_unit_test(times_are_read_to_their_precision),
        cmocka_unit_test(codes_of_the_configuration),
        cmocka_unit_test(results_go_to_configured_places_only),
        cmocka_unit_test(what_is_written),
        cmocka_unit_test(every_error_has_a_reason_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
