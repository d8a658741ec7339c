/* dicom/scan.c, zip.c: uploads, good and hostile. */
#include "tests/dicom/scan_expect.h"

#include <unistd.h>

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

/* A zip that has expanded to all that it may: the next member ends it. */
static void nothing_is_left_to_expand_to(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    struct mf_error err = MF_ERROR_INIT;
    build_simple(&b, &CHEST);
    const struct mf_scan_limits limits = {.expanded_bytes = b.bytes.len};
    const struct build_member member = {"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    const struct build_member two[2] = {member, member};
    build_zip(&zip, two, 2);
    alarm(20); /* it went round and round */
    assert_null(build_scan(zip.data, zip.len, &limits, &err));
    alarm(0);
    assert_error(&err, MF_ERR_TOO_LARGE,
                 "part 1, member 2: compressed data grows past 0 bytes, the most that one request "
                 "may expand to");
    build_free(&b);
}

static void inputs_that_are_not_there(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_input closed = {.fd = -1, .length = 10};
    assert_null(mf_scan(&closed, 1, NULL, &err));
    assert_error(&err, MF_ERR_IO, "part 1: cannot be read: Bad file descriptor");
    MF_AUTO(mf_fd) int fd = build_fd("four", 4);
    const struct mf_scan_input behind = {fd, 5, 1};
    mf_error_clear(&err);
    assert_null(mf_scan(&behind, 1, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "part 1: truncated: the payload ends before this part");
}

/* Every cap of struct mf_scan_limits, where it bites and where it just does not. */
static void caps_are_those_that_were_given(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_simple(&b, &CHEST);
    size_t length = b.bytes.len;
    const struct build_member member = {"a.dcm", b.bytes.data, length, true, 0, -1};
    build_zip(&zip, &member, 1);
    static const char *const names[] = {"the most that one request may expand to",
                                        "the largest object accepted"};
    for (int cap = 0; cap < 3; cap++)
        for (size_t less = 0; less < 2; less++) {
            struct mf_scan_limits limits = {.ratio = 100};
            struct mf_error err = MF_ERROR_INIT;
            char message[160];
            /* Data that fill a cap exactly are taken for more: one byte of room is needed. */
            limits.expanded_bytes = cap == 0 ? length + 1 - less * 2 : 0;
            limits.object_bytes = cap == 1 ? length + 1 - less * 2 : 0;
            limits.samples_per_frame = cap == 2 ? 16 - less : 0;
            MF_AUTO(mf_index)
            struct mf_index *index = build_scan(zip.data, zip.len, &limits, &err);
            assert_int_equal(index != NULL, less == 0);
            snprintf(message, sizeof message,
                     cap == 2 ? "part 1, member 1: a frame of 4 x 4 x 1 samples, at most 15 "
                                "samples are accepted"
                              : "part 1, member 1: compressed data grows past %zu bytes, %s",
                     length - 1, names[cap % 2]);
            if (less)
                assert_error(&err, MF_ERR_TOO_LARGE, message);
        }
    build_free(&b);
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

static void zips_without_members(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_limits lenient = {.lenient = true};
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_zip(&zip, NULL, 0);
    expect_refused(zip.data, zip.len, MF_ERR_MALFORMED, "part 1: the zip holds no DICOM file");
    MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, &lenient, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 0);
    assert_int_equal(index->skipped_count, 0);
    /* Not even the beginning of one. */
    static const char *const others[] = {"P", "PKxxxxxxxxxx", "PK\3xxxxxxxxx", "PK\5xxxxxxxxx",
                                         "Pxxxxxxxxxxx"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_refused(others[i], i ? 12 : 1, MF_ERR_MALFORMED, "part 1: not a DICOM file");
}

static void names_of_every_kind(void **state)
{
    (void)state;
    struct builder b;
    char longest[1100];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    build_simple(&b, &CHEST);
    static const char *const fine[] = {"", ".", ".a", "ab", "a..", "..a", "a/./b", "a\\b"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        MF_AUTO(mf_buffer) struct mf_buffer zip;
        struct mf_error err = MF_ERROR_INIT;
        const struct build_member member = {fine[i], b.bytes.data, b.bytes.len, true, 0, -1};
        build_zip(&zip, &member, 1);
        MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
        assert_no_error(&err);
        assert_int_equal(index->object_count, 1);
    }
    struct build_member member = {"\\a", b.bytes.data, b.bytes.len, true, 0, -1};
    expect_zip_refused(&member, 1, MF_ERR_MALFORMED,
                       "part 1: member 1: its name leads out of the zip");
    member.name = longest;
    expect_zip_refused(&member, 1, MF_ERR_MALFORMED,
                       "part 1: member 1: its name is too long or holds NUL");
    member.name = "a\1b";
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_zip(&zip, &member, 1);
    for (size_t i = 1; i + 1 < zip.len; i++)
        if (memcmp(zip.data + i - 1, "a\1b", 3) == 0)
            zip.data[i] = '\0';
    expect_refused(zip.data, zip.len, MF_ERR_MALFORMED,
                   "part 1: member 1: its name is too long or holds NUL");
    build_free(&b);
}

/* Where the central directory and the members' own headers disagree. */
static void directories_that_lie(void **state)
{
    (void)state;
    enum { FLAGS = 8, CRC = 16, PACKED = 20, LOCAL = 42 }; /* offsets in a central entry */
    struct builder b;
    build_simple(&b, &CHEST);
    const struct build_member member = {"a.dcm", b.bytes.data, b.bytes.len, true, 8, -1};
    static const struct {
        size_t at;
        const char *bytes, *message;
    } cases[] = {
        {PACKED, "\xFF\xFF\xFF\x0F", "part 1: member 1: truncated"},
        {CRC, "\1\2\3\4", "part 1, member 1: damaged: its CRC-32 differs"},
        {LOCAL, "\1\0\0\0", "part 1: member 1: the zip is damaged"},
        {LOCAL, "\xFF\xFF\xFF\x0F", "part 1: member 1: the zip is damaged"},
        {0, "XXXX", "part 1: the zip is damaged"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_buffer) struct mf_buffer zip;
        build_zip(&zip, &member, 1); /* flag 8: the sizes follow the data, or so it says */
        char *central = memmem(zip.data, zip.len, "PK\1\2", 4);
        memcpy(central + cases[i].at, cases[i].bytes, 4);
        expect_refused(zip.data, zip.len, MF_ERR_MALFORMED, cases[i].message);
    }
    const struct build_member two[2] = {member, member};
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_zip(&zip, two, 2);
    char *central = memmem(zip.data, zip.len, "PK\1\2", 4);
    memcpy((char *)memmem(central + 4, 200, "PK\1\2", 4), "XXXX", 4);
    expect_refused(zip.data, zip.len, MF_ERR_MALFORMED, "part 1: the zip is damaged");
    build_free(&b);
}

/* Any byte of a zip changed, and every length cut: one of the few answers that there are. */
static void no_byte_of_a_zip_is_trusted(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
    const struct build_member members[2] = {{"a", b.bytes.data, b.bytes.len, true, 0, -1},
                                            {"b", b.bytes.data, b.bytes.len, false, 0, -1}};
    build_zip(&zip, members, 2);
    for (size_t n = 0; n < zip.len - 3; n++) { /* of the directory's end minizip misses no more */
        struct mf_error err = MF_ERROR_INIT;
        assert_null(build_scan(zip.data, n, NULL, &err));
        assert_int_equal(err.code, MF_ERR_MALFORMED);
    }
    size_t readable = 0;
    for (size_t n = 0; n < zip.len; n++)
        for (int flip = 1; flip < 256; flip *= 2) {
            struct mf_error err = MF_ERROR_INIT;
            zip.data[n] = (char)(zip.data[n] ^ flip);
            MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
            zip.data[n] = (char)(zip.data[n] ^ flip);
            assert_true(index || err.code == MF_ERR_MALFORMED || err.code == MF_ERR_UNSUPPORTED ||
                        err.code == MF_ERR_TOO_LARGE);
            assert_true(!index || index->object_count <= 2);
            readable += index && index->object_count == 2;
        }
    assert_in_range(readable, 100, zip.len * 4); /* dates, versions, names */
    build_free(&b);
}

static void members_are_objects_like_others(void **state)
{
    (void)state;
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0010, 0x0010), "PN", 100);
    struct build_member member = {"a.dcm", b.bytes.data, b.bytes.len, false, 0, -1};
    expect_zip_refused(&member, 1, MF_ERR_MALFORMED,
                       "part 1, member 1: truncated: (0010,0010) claims 100 bytes, 0 are left");
    build_free(&b);
    build_start(&b, EXPLICIT_LE); /* hard to compress, so longer than what is peeked into */
    build_image(&b, 512, 512, 8);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", 512 * 512);
    for (uint32_t i = 0, x = 1; i < 512 * 512 / 4; i++) {
        x = x * 1664525 + 1013904223;
        uint32_t mixed = x ^ x >> 15;
        build_bytes(&b, &mixed, 4);
    }
    member = (struct build_member){"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_zip(&zip, &member, 1);
    assert_true(zip.len > 100000);
    const struct mf_scan_limits one = {.objects = 1};
    MF_AUTO(mf_fd) int fd = build_fd(zip.data, zip.len);
    const struct mf_scan_input inputs[2] = {{fd, 0, zip.len}, {fd, 0, zip.len}};
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, 1, &one, &err);
    assert_no_error(&err);
    assert_int_equal(index->objects[0].layers[0].size, b.bytes.len);
    assert_null(mf_scan(inputs, 2, &one, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "part 2, member 1: more than 1 objects in one request");
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
        cmocka_unit_test(nothing_is_left_to_expand_to),
        cmocka_unit_test(inputs_that_are_not_there),
        cmocka_unit_test(caps_are_those_that_were_given),
        cmocka_unit_test(zips_are_opened_and_strangers_skipped),
        cmocka_unit_test(hostile_zips_are_refused),
        cmocka_unit_test(damaged_members_are_refused),
        cmocka_unit_test(zips_without_members),
        cmocka_unit_test(names_of_every_kind),
        cmocka_unit_test(directories_that_lie),
        cmocka_unit_test(no_byte_of_a_zip_is_trusted),
        cmocka_unit_test(members_are_objects_like_others),
        cmocka_unit_test(zip_bombs_and_crowds_are_refused),
        cmocka_unit_test(inputs_share_a_descriptor),
        cmocka_unit_test(strangers_are_refused_or_skipped),
    };
    return cmocka_run_group_tests_name("dicom/scan", tests, start, NULL);
}
