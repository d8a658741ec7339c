/* De-identification: the table, keyed values and dates. What becomes of whole objects is in
 * tests/integration/test_deidentify.py. */
#include "dicom/deidentify_values.h"
#include "dicom/dicom.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

static struct mf_deidentify_rules rules_of(const char *secret)
{
    struct mf_deidentify_rules r;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_deidentify_rules_make(secret, strlen(secret), "shift", false, &r, &err))
        fail_msg("%s", err.msg);
    return r;
}

static void the_table_is_the_standards(void **state)
{
    (void)state;
    assert_true(mf_deidentify_action_count > 600);
    for (size_t i = 1; i < mf_deidentify_action_count; i++)
        assert_true(mf_deidentify_actions[i - 1].tag < mf_deidentify_actions[i].tag);
    assert_int_equal(mf_deidentify_action(0x00100010), 'Z'); /* Patient's Name */
    assert_int_equal(mf_deidentify_action(0x00100020), 'D'); /* Z/D */
    assert_int_equal(mf_deidentify_action(0x00080018), 'U');
    assert_int_equal(mf_deidentify_action(0x00080080), 'D'); /* X/Z/D */
    assert_int_equal(mf_deidentify_action(0x00081140), 'U'); /* X/Z/U* */
    assert_int_equal(mf_deidentify_action(0x00104000), 'X');
    assert_int_equal(mf_deidentify_action(0xFFFCFFFC), 'X'); /* the last */
    assert_int_equal(mf_deidentify_action(0x00001000), 'X'); /* the first */
    assert_int_equal(mf_deidentify_action(0x00280010), 0);
    assert_int_equal(mf_deidentify_action(0xFFFFFFFF), 0);
    assert_true(mf_deidentify_characteristic(0x00101010));
    assert_false(mf_deidentify_characteristic(0x00100010));
}

static void uids_are_other_ones_and_always_the_same(void **state)
{
    (void)state;
    char a[MF_DEIDENTIFY_UID], b[MF_DEIDENTIFY_UID];
    struct mf_deidentify_rules one = rules_of("0123456789abcdef"),
                               two = rules_of("0123456789abcdeg");
    assert_true(mf_deidentify_uid(&one, "1.2.3.4", a));
    assert_true(mf_deidentify_uid(&one, "1.2.3.4", b));
    assert_string_equal(a, b);
    assert_memory_equal(a, "2.25.", 5);
    assert_true(strlen(a) <= 44 && strspn(a, "0123456789.") == strlen(a) && a[5] != '0');
    assert_true(mf_deidentify_uid(&one, "1.2.3.5", b));
    assert_string_not_equal(a, b);
    assert_true(mf_deidentify_uid(&two, "1.2.3.4", b));
    assert_string_not_equal(a, b);
    assert_true(mf_deidentify_uid(&one, "1.2.840.10008.5.1.4.1.1.2", b));
    assert_string_equal(b, "1.2.840.10008.5.1.4.1.1.2");
    assert_true(mf_deidentify_uid(&one, "", b));
    assert_string_equal(b, "");
}

static void patients_have_pseudonyms_and_shifts_of_their_own(void **state)
{
    (void)state;
    char a[MF_DEIDENTIFY_NAME], b[MF_DEIDENTIFY_NAME];
    int one = 0, two = 0;
    struct mf_deidentify_rules r = rules_of("0123456789abcdef");
    assert_true(mf_deidentify_patient(&r, "", "P1", a));
    assert_true(mf_deidentify_patient(&r, NULL, "P1", b));
    assert_string_equal(a, b);
    assert_int_equal(strlen(a), 21);
    assert_true(mf_deidentify_patient(&r, "P1", "", b)); /* not the same two strings */
    assert_string_not_equal(a, b);
    assert_true(mf_deidentify_days(&r, NULL, "P1", &one) && one >= 1 && one <= 3650);
    assert_true(mf_deidentify_days(&r, NULL, "P2", &two));
    assert_int_not_equal(one, two);
}

static void expect_shift(const char *value, int days, const char *expected)
{
    char out[64];
    assert_int_equal(mf_deidentify_shift(value, days, out, sizeof out), *expected != '\0');
    assert_string_equal(out, expected);
}

static void dates_move_back_over_months_and_leap_years(void **state)
{
    (void)state;
    expect_shift("20240301", 1, "20240229");
    expect_shift("20230301", 1, "20230228");
    expect_shift("20000301", 1, "20000229");
    expect_shift("19000301", 1, "19000228");
    expect_shift("20240101", 1, "20231231");
    expect_shift("20240229", 366, "20230228");
    expect_shift("20240315", 3650, "20140318");
    expect_shift("20240105101500.5+0100", 5, "20231231101500.5+0100");
    expect_shift("20241399", 1, "");
    expect_shift("2024", 1, "");
    expect_shift("2024.1.1", 1, "");
    expect_shift("", 1, "");
    for (int days = 0; days < 1500; days++) { /* every day of four years, back and counted */
        char out[64], next[64];
        assert_true(mf_deidentify_shift("20240704", days, out, sizeof out));
        assert_true(mf_deidentify_shift(out, 1, next, sizeof next));
        char direct[64];
        assert_true(mf_deidentify_shift("20240704", days + 1, direct, sizeof direct));
        assert_string_equal(next, direct);
        assert_true(strcmp(next, out) < 0);
    }
}

static void wrong_rules_are_named(void **state)
{
    (void)state;
    struct mf_deidentify_rules r;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_deidentify_rules_make("short", 5, "keep", false, &r, &err));
    assert_error(&err, MF_ERR_USAGE, "the secret has 5 bytes, at least 16 are needed");
    err = (struct mf_error)MF_ERROR_INIT;
    assert_false(mf_deidentify_rules_make("0123456789abcdef", 16, "blur", false, &r, &err));
    assert_error(&err, MF_ERR_USAGE, "dates: must be remove, shift or keep");
}

static void what_is_no_object_is_refused(void **state)
{
    (void)state;
    struct mf_deidentify_rules r = rules_of("0123456789abcdef");
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_false(mf_deidentify("no DICOM", 8, &r, &out, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a DICOM file");
    assert_int_equal(out.len, 0);
}

static void foreign_groups_are_told(void **state)
{
    (void)state;
    static const uint32_t FOREIGN[] = {0x00000100, 0x00020010, 0x00041130, 0x00060010, 0x00090010,
                                       0x00100000, 0x50000030, 0x60003000, 0x601E0010, 0x7FE10010},
                          OWN[] = {0x00080018, 0x00280010, 0x30020002, 0x7FE00010};
    for (size_t i = 0; i < sizeof FOREIGN / sizeof *FOREIGN; i++)
        assert_true(mf_deidentify_foreign(FOREIGN[i]));
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++)
        assert_false(mf_deidentify_foreign(OWN[i]));
}

static bool has(const struct mf_buffer *b, const char *text)
{
    return memmem(b->data, b->len, text, strlen(text)) != NULL;
}

/* An element of group 0002 that stands in the data set would be read as meta information of what is
 * written: here it names another transfer syntax, and an application. */
static void meta_information_inside_the_data_set_goes(void **state)
{
    (void)state;
    struct mf_deidentify_rules r = rules_of("0123456789abcdef");
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer out;
    struct builder b;
    assert_true(mf_dicom_init(&err));
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0008, 0x0005), "CS", "ISO_IR 192");
    build_string(&b, TAG(0x0002, 0x0010), "UI", "1.2.840.10068.1.2.4.50");
    build_string(&b, TAG(0x0002, 0x0016), "AE", "SISTER_RATCHED");
    build_identity(&b, &(struct build_object){.modality = "DX", .patient = "P", .study = 1});
    build_image(&b, 4, 4, 8);
    build_pixels(&b, 16);
    build_finish(&b);
    mf_buffer_init(&out, 1 << 20);
    assert_true(mf_buffer_append(&out, "before", 6, &err));
    if (!mf_deidentify(b.bytes.data, b.bytes.len, &r, &out, &err))
        fail_msg("%s", err.msg);
    assert_memory_equal(out.data, "before", 6);
    assert_false(has(&out, "SISTER_RATCHED"));
    assert_false(has(&out, "1.2.840.10068"));
    build_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_the_standards),
        cmocka_unit_test(uids_are_other_ones_and_always_the_same),
        cmocka_unit_test(patients_have_pseudonyms_and_shifts_of_their_own),
        cmocka_unit_test(dates_move_back_over_months_and_leap_years),
        cmocka_unit_test(wrong_rules_are_named),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(foreign_groups_are_told),
        cmocka_unit_test(meta_information_inside_the_data_set_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
