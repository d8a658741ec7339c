/* dicom/scan.c, zip.c: uploads, good and hostile. */
#include "tests/dicom/scan_expect.h"

static void more_objects_than_allowed(void **state)
{
    (void)state;
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_limits one = {.objects = 1};
    build_simple(&b, &CHEST);
    MF_AUTO(mf_fd) int fd = build_fd(b.bytes.data, b.bytes.len);
    const struct mf_scan_input inputs[2] = {{fd, 0, b.bytes.len}, {fd, 0, b.bytes.len}};
    assert_null(mf_scan(inputs, 2, &one, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "part 2: more than 1 objects in one request");
    build_free(&b);
}

static void only_regular_files_are_scanned(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const struct mf_scan_input input = {.fd = ends[0], .length = 10};
    assert_null(mf_scan(&input, 1, NULL, &err));
    assert_error(&err, MF_ERR_IO, "part 1: not a regular file");
    close(ends[0]);
    close(ends[1]);
}

/* ---- zips ---- */

static void expect_zip_refused(const struct build_member *members, size_t count, enum mf_code code,
                               const char *message)
{
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_zip(&zip, members, count);
    expect_refused(zip.data, zip.len, code, message);
}

static void zips_are_opened_and_strangers_skipped(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip, inner;
    struct mf_error err = MF_ERROR_INIT;
    build_simple(&b, &CHEST);
    const struct build_member one[] = {{"a", "x", 1, false, 0, -1}};
    build_zip(&inner, one, 1);
    const struct build_member members[] = {
        {"study/", "", 0, false, 0, -1},
        {"study/a.dcm", b.bytes.data, b.bytes.len, true, 0, -1},
        {"README", "text for people, longer than a header", 37, true, 0, -1},
        {"b.dcm", b.bytes.data, b.bytes.len, false, 0, -1},
        {"inner.zip", inner.data, inner.len, false, 0, -1},
    };
    build_zip(&zip, members, 5);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 2);
    assert_string_equal(index->objects[0].name, "part 1, member 1");
    assert_string_equal(index->objects[1].name, "part 1, member 3");
    assert_true(index->objects[0].layers[0].deflated);
    assert_false(index->objects[1].layers[0].deflated);
    assert_int_equal(index->objects[0].layers[0].size, b.bytes.len);
    assert_int_equal(index->skipped_count, 2);
    assert_string_equal(index->skipped[0].name, "part 1, member 2");
    assert_string_equal(index->skipped[0].reason, "not a DICOM file");
    assert_string_equal(index->skipped[1].reason, "a zip inside a zip is not opened");
    build_free(&b);
}

static void hostile_zips_are_refused(void **state)
{
    (void)state;
    struct builder b;
    build_simple(&b, &CHEST);
    const struct build_member good = {"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    static const char *const escapes[] = {"../a.dcm", "x/../../a", "/etc/passwd",
                                          "C:\\a",    "..",        "a\\..\\b"};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        struct build_member pair[2] = {good, good};
        pair[1].name = escapes[i];
        expect_zip_refused(pair, 2, MF_ERR_MALFORMED,
                           "part 1: member 2: its name leads out of the zip");
    }
    struct build_member bad = good;
    bad.flags = 1;
    expect_zip_refused(&bad, 1, MF_ERR_UNSUPPORTED,
                       "part 1: member 1: encrypted zips are not read");
    bad = good;
    bad.deflate = false;
    bad.method = 12;
    expect_zip_refused(&bad, 1, MF_ERR_UNSUPPORTED,
                       "part 1: member 1: the zip's compression method 12 is not read");
    const struct build_member text = {"a.txt", "only text in this archive", 25, true, 0, -1};
    expect_zip_refused(&text, 1, MF_ERR_MALFORMED, "part 1: the zip holds no DICOM file");
    expect_refused("PK\3\4 and nothing more", 22, MF_ERR_MALFORMED,
                   "part 1: the zip is damaged or truncated");
    build_free(&b);
}

static void damaged_members_are_refused(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_simple(&b, &CHEST);
    const struct build_member stored = {"a.dcm", b.bytes.data, b.bytes.len, false, 0, -1};
    build_zip(&zip, &stored, 1);
    zip.data[35 + b.bytes.len - 1] ^= 1; /* the last pixel */
    expect_refused(zip.data, zip.len, MF_ERR_MALFORMED,
                   "part 1, member 1: damaged: its CRC-32 differs");
    build_free(&b);
}

static void zip_bombs_and_crowds_are_refused(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    struct mf_error err = MF_ERROR_INIT;
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 8192, 8192, 8);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", 8192 * 8192);
    char *zeros = calloc(8192, 8192);
    build_bytes(&b, zeros, 8192 * 8192);
    free(zeros);
    const struct build_member bomb = {"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    build_zip(&zip, &bomb, 1);
    assert_null(build_scan(zip.data, zip.len, NULL, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "part 1, member 1: compressed data grows past "));
    build_free(&b);

    build_simple(&b, &CHEST);
    const struct build_member small = {"a.dcm", b.bytes.data, b.bytes.len, false, 0, -1};
    struct build_member crowd[6] = {small, small, small, small, small, small};
    MF_AUTO(mf_buffer) struct mf_buffer many;
    build_zip(&many, crowd, 6);
    const struct mf_scan_limits five = {.objects = 5};
    mf_error_clear(&err);
    assert_null(build_scan(many.data, many.len, &five, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "part 1: the zip has 6 members, at most 5 are read");
    build_free(&b);
}

static void inputs_share_a_descriptor(void **state)
{
    (void)state;
    struct builder a, b;
    struct build_object other = CHEST;
    other.instance = 2;
    build_simple(&a, &CHEST);
    build_simple(&b, &other);
    size_t first = a.bytes.len;
    build_bytes(&a, b.bytes.data, b.bytes.len);
    MF_AUTO(mf_fd) int fd = build_fd(a.bytes.data, a.bytes.len);
    const struct mf_scan_input inputs[2] = {{fd, 0, first}, {fd, first, b.bytes.len}};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, 2, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 2);
    assert_int_equal(index->objects[1].layers[0].range.offset, first);
    assert_int_equal(index->objects[1].input, 1);
    assert_string_equal(index->objects[1].name, "part 2");
    const struct mf_scan_input beyond = {fd, first, b.bytes.len + 1};
    assert_null(mf_scan(&beyond, 1, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "part 1: truncated: the payload ends before this part");
    build_free(&a);
    build_free(&b);
}

static void strangers_are_refused_or_skipped(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_limits lenient = {.lenient = true};
    expect_refused("hello, world", 12, MF_ERR_MALFORMED, "part 1: not a DICOM file");
    expect_refused("", 0, MF_ERR_MALFORMED, "part 1: empty");
    MF_AUTO(mf_index) struct mf_index *index = build_scan("hello, world", 12, &lenient, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 0);
    assert_int_equal(index->skipped_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_objects_than_allowed),
        cmocka_unit_test(only_regular_files_are_scanned),
        cmocka_unit_test(zips_are_opened_and_strangers_skipped),
        cmocka_unit_test(hostile_zips_are_refused),
        cmocka_unit_test(damaged_members_are_refused),
        cmocka_unit_test(zip_bombs_and_crowds_are_refused),
        cmocka_unit_test(inputs_share_a_descriptor),
        cmocka_unit_test(strangers_are_refused_or_skipped),
    };
    return cmocka_run_group_tests_name("dicom/scan", tests, start, NULL);
}
