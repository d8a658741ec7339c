/* dicom/prescan.c: every way in which the structure of a data set can lie. */
#include "tests/dicom/prescan_expect.h"

#include <sys/resource.h>

/* Cutting a valid file anywhere is refused, except between elements before the pixel data, where
 * nothing tells that more was meant to come; then the pixel data is missing. */
static void truncation_is_noticed_at_every_byte(void **state)
{
    (void)state;
    struct builder b;
    build_simple(&b, &CHEST);
    size_t accepted = 0;
    for (size_t n = 0; n < b.bytes.len; n++) {
        char *copy = malloc(n ? n : 1); /* exact size, so that a sanitizer sees a read too far */
        memcpy(copy, b.bytes.data, n);
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        if (prescan(copy, n, &ret, &err)) {
            accepted++;
            assert_int_equal(ret.pixel_data, MF_PIXEL_DATA_NONE);
        } else {
            assert_int_equal(err.code, MF_ERR_MALFORMED);
        }
        free(copy);
    }
    assert_in_range(accepted, 10, 30); /* the element boundaries */
    build_free(&b);
}

static void lengths_beyond_the_end(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0010, 0x0010), "PN", 100);
    build_bytes(&b, "short", 5);
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: (0010,0010) claims 100 bytes, 5 are left");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x7FE0, 0x0010), "OW", 0xFFFFFFFE);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "truncated: (7FE0,0010) claims 4294967294 bytes, 0 are left");
    build_free(&b);
    build_start(&b, EXPLICIT_LE); /* an item larger than its sequence */
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 16);
    build_item(&b, TAG(0xFFFE, 0xE000), 32);
    build_bytes(&b, "................................", 32);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "truncated: an item at byte 180 claims 32 bytes, 8 are left");
    build_free(&b);
}

static void rows_must_be_us(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0010), "UL", 4);
    build_bytes(&b, "\0\0\1\0", 4);
    expect_refused(&b, MF_ERR_MALFORMED, "Rows has the value representation UL, not US");
    build_free(&b);
    build_start(&b, IMPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0011), "US", 4);
    build_bytes(&b, "\0\0\1\0", 4);
    expect_refused(&b, MF_ERR_MALFORMED, "Columns has 4 bytes, not 2");
    build_free(&b);
}

/* `levels` sequences inside each other, of defined or undefined length. */
static void build_nested(struct builder *b, size_t levels, bool undefined, bool close)
{
    size_t left = levels * 20;
    for (size_t i = 0; i < levels; i++, left -= 20) {
        build_header(b, TAG(0x0009, 0x1001), "SQ",
                     undefined ? UNDEFINED_LENGTH : (int64_t)left - 12);
        build_item(b, TAG(0xFFFE, 0xE000), undefined ? UNDEFINED_LENGTH : (int64_t)left - 20);
    }
    for (size_t i = 0; close && undefined && i < levels; i++) {
        build_item(b, TAG(0xFFFE, 0xE00D), 0);
        build_item(b, TAG(0xFFFE, 0xE0DD), 0);
    }
}

static void depth_64_is_accepted_and_65_is_not(void **state)
{
    (void)state;
    for (int undefined = 0; undefined < 2; undefined++) {
        struct builder b;
        build_start(&b, EXPLICIT_LE);
        build_nested(&b, 64, undefined, true);
        expect_accepted(&b);
        build_free(&b);
        build_start(&b, EXPLICIT_LE);
        build_nested(&b, 65, undefined, true);
        expect_refused(&b, MF_ERR_MALFORMED, "sequences are nested deeper than 64 levels");
        build_free(&b);
    }
}

static void a_million_levels_take_no_memory(void **state)
{
    (void)state;
    struct builder b;
    struct rusage before, after;
    build_start(&b, EXPLICIT_LE);
    build_nested(&b, 1000000, true, false);
    getrusage(RUSAGE_SELF, &before);
    expect_refused(&b, MF_ERR_MALFORMED, "sequences are nested deeper than 64 levels");
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
    build_free(&b);
}

static void open_ends_and_stray_delimiters(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_nested(&b, 1, true, false);
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: the file ends inside a sequence at byte 180");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "a delimiter (FFFE,E00D) where no item ends");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 8);
    build_u16(&b, TAG(0x0028, 0x0010), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "a sequence holds (0028,0010) where an item belongs");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0010, 0x0010), "UT", UNDEFINED_LENGTH);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "(0010,0010) has the value representation UT and an undefined length");
    build_free(&b);
}

static void unknown_vr_sequences_are_implicit_inside(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0009, 0x1001), "UN", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    b.implicit_vr = true;
    build_string(&b, TAG(0x0010, 0x0010), "PN", "A^B");
    b.implicit_vr = false;
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
    expect_accepted(&b);
    build_free(&b);
}

/* Counts the visits of one tag at one depth. */
struct seen {
    uint32_t tag, depth;
    int count;
};

static bool count_visits(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    struct seen *seen = context;
    (void)err;
    seen->count += e->tag == seen->tag && e->depth == seen->depth;
    return true;
}

/* Implicit VR and UN do not say what is a sequence; those with tables and geometry are entered all
 * the same. */
static void known_sequences_are_entered_without_a_vr(void **state)
{
    (void)state;
    for (int un = 0; un < 2; un++) {
        struct builder b;
        struct seen seen = {.tag = TAG(0x0028, 0x3002), .depth = 1};
        struct mf_inflate_budget allowed = prescan_budget();
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, un ? EXPLICIT_LE : IMPLICIT_LE);
        build_header(&b, TAG(0x0028, 0x3010), "UN", 8 + 8 + 6);
        build_item(&b, TAG(0xFFFE, 0xE000), 8 + 6);
        b.implicit_vr = true;
        build_header(&b, TAG(0x0028, 0x3002), "US", 6);
        build_bytes(&b, "\1\0\0\0\10\0", 6);
        assert_true(
            mf_prescan_run(b.bytes.data, b.bytes.len, &allowed, count_visits, &seen, &ret, &err));
        assert_int_equal(seen.count, 1);
        build_free(&b);
    }
}

/* What the visitor saw of one tag. */
struct look {
    uint32_t tag;
    int count;
    struct mf_prescan_element last;
    uint32_t sequence; /* that it was in; 0: none */
};

static bool look_at(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    struct look *look = context;
    (void)err;
    if (e->tag != look->tag)
        return true;
    look->count++;
    look->last = *e;
    look->last.levels = NULL;
    look->sequence = e->depth ? e->levels[e->depth - 1].tag : 0;
    return true;
}

/* Scans, frees the file, and tells what was seen of `tag`, once. */
static struct look expect_seen(struct builder *b, uint32_t tag, uint32_t irregular)
{
    struct look look = {.tag = tag};
    struct mf_inflate_budget allowed = prescan_budget();
    MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_prescan_run(b->bytes.data, b->bytes.len, &allowed, look_at, &look, &ret, &err));
    assert_no_error(&err);
    assert_int_equal(look.count, 1);
    assert_int_equal(ret.irregular, irregular);
    look.last.value = NULL;
    build_free(b);
    return look;
}

/* PS3.5 6.2.2: UN is little endian, whatever is around it. */
static void unknown_values_are_little_endian(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_BE);
    build_header(&b, TAG(0x0009, 0x1002), "UN", 2);
    build_bytes(&b, "\1\0", 2);
    struct look look = expect_seen(&b, TAG(0x0009, 0x1002), 0);
    assert_false(look.last.big_endian);
    assert_string_equal(look.last.vr, "UN");
    build_start(&b, EXPLICIT_BE);
    build_u16(&b, TAG(0x0009, 0x1002), 1);
    assert_true(expect_seen(&b, TAG(0x0009, 0x1002), 0).last.big_endian);
}

static void odd_lengths_are_read_and_flagged(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0010, 0x0020), "LO", 3);
    build_bytes(&b, "ABC", 3);
    assert_int_equal(expect_seen(&b, TAG(0x0010, 0x0020), 1u << MF_IRREGULAR_LENGTH).last.length,
                     3);
}

static void rows_may_be_of_unknown_kind_or_empty(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0010), "UN", 2);
    build_bytes(&b, "\4\0", 2);
    assert_int_equal(expect_seen(&b, TAG(0x0028, 0x0010), 0).last.length, 2);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0011), "US", 0);
    assert_int_equal(expect_seen(&b, TAG(0x0028, 0x0011), 0).last.length, 0);
}

/* An element header without value representation, as implicit VR has it. */
static void build_bare(struct builder *b, uint32_t tag, int64_t length)
{
    build_item(b, tag, length);
}

/* In explicit VR: what has no value representation is as in implicit VR, in the same byte order;
 * so are sequences of it, and what is in them. */
static void elements_without_a_vr_are_implicit_inside(void **state)
{
    (void)state;
    const char *const syntaxes[] = {EXPLICIT_LE, EXPLICIT_BE};
    const uint32_t tags[] = {TAG(0x0009, 0x1001), TAG(0x0028, 0x3010)};
    for (int i = 0; i < 4; i++) {
        struct builder b;
        build_start(&b, syntaxes[i / 2]);
        bool defined = i % 2; /* only of a known sequence: nothing else says that it is one */
        build_bare(&b, tags[i % 2], defined ? 8 + 10 : UNDEFINED_LENGTH);
        build_item(&b, TAG(0xFFFE, 0xE000), defined ? 10 : UNDEFINED_LENGTH);
        build_bare(&b, TAG(0x0028, 0x3002), 2);
        build_bytes(&b, "\1\2", 2);
        if (!defined) {
            build_item(&b, TAG(0xFFFE, 0xE00D), 0);
            build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        }
        struct look look = expect_seen(&b, TAG(0x0028, 0x3002), 1u << MF_IRREGULAR_VR);
        assert_int_equal(look.last.depth, 1);
        assert_int_equal(look.sequence, tags[i % 2]);
        assert_string_equal(look.last.vr, "UN");
        assert_int_equal(look.last.big_endian, i / 2);
    }
}

/* One letter is no value representation: the byte belongs to a length of 66. */
static void one_letter_is_no_vr(void **state)
{
    (void)state;
    struct builder b;
    char value[66];
    memset(value, ' ', sizeof value);
    build_start(&b, EXPLICIT_LE);
    build_bare(&b, TAG(0x0008, 0x0005), sizeof value);
    build_bytes(&b, value, sizeof value);
    assert_int_equal(expect_seen(&b, TAG(0x0008, 0x0005), 1u << MF_IRREGULAR_VR).last.length, 66);
}

/* Sequences in big endian: their items are too, unless the sequence is of unknown kind. */
static void sequences_in_big_endian(void **state)
{
    (void)state;
    for (int un = 0; un < 2; un++)
        for (int undefined = 0; undefined < 2; undefined++) {
            struct builder b;
            build_start(&b, EXPLICIT_BE);
            build_header(&b, TAG(0x0028, 0x3010), un ? "UN" : "SQ",
                         undefined ? UNDEFINED_LENGTH : 8 + 10);
            b.big_endian = !un;
            b.implicit_vr = un;
            build_item(&b, TAG(0xFFFE, 0xE000), undefined ? UNDEFINED_LENGTH : 10);
            build_u16(&b, TAG(0x0028, 0x3002), 0x0102);
            if (undefined) {
                build_item(&b, TAG(0xFFFE, 0xE00D), 0);
                build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
            }
            struct look look = expect_seen(&b, TAG(0x0028, 0x3002), 0);
            assert_int_equal(look.sequence, TAG(0x0028, 0x3010));
            assert_int_equal(look.last.big_endian, !un);
            assert_string_equal(look.last.vr, un ? "UN" : "US");
        }
}

static void sequences_that_end_in_the_middle(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 4);
    build_bytes(&b, "\xFE\xFF\x00\xE0", 4);
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: the file ends inside a sequence at byte 172");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 8);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "a sequence holds (FFFE,E0DD) where an item belongs");
    build_free(&b);
    build_start(&b, EXPLICIT_LE); /* an item of known length ends by it alone */
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 16);
    build_item(&b, TAG(0xFFFE, 0xE000), 8);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "a delimiter (FFFE,E00D) where no item ends");
    build_free(&b);
}

static bool refuse(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    (void)context;
    (void)e;
    return mf_error_set(err, MF_ERR_UNUSABLE, "enough");
}

static void visitors_can_stop_the_scan(void **state)
{
    (void)state;
    struct builder b;
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_inflate_budget allowed = prescan_budget();
    build_simple(&b, &CHEST);
    assert_false(mf_prescan_run(b.bytes.data, b.bytes.len, &allowed, refuse, NULL, &ret, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "enough");
    build_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncation_is_noticed_at_every_byte),
        cmocka_unit_test(lengths_beyond_the_end),
        cmocka_unit_test(rows_must_be_us),
        cmocka_unit_test(depth_64_is_accepted_and_65_is_not),
        cmocka_unit_test(a_million_levels_take_no_memory),
        cmocka_unit_test(open_ends_and_stray_delimiters),
        cmocka_unit_test(unknown_vr_sequences_are_implicit_inside),
        cmocka_unit_test(known_sequences_are_entered_without_a_vr),
        cmocka_unit_test(unknown_values_are_little_endian),
        cmocka_unit_test(odd_lengths_are_read_and_flagged),
        cmocka_unit_test(rows_may_be_of_unknown_kind_or_empty),
        cmocka_unit_test(elements_without_a_vr_are_implicit_inside),
        cmocka_unit_test(one_letter_is_no_vr),
        cmocka_unit_test(sequences_in_big_endian),
        cmocka_unit_test(sequences_that_end_in_the_middle),
        cmocka_unit_test(visitors_can_stop_the_scan),
    };
    return cmocka_run_group_tests_name("dicom/prescan", tests, NULL, NULL);
}
