/* dicom/commitment.c: what peers send, in both encodings, and what is none of it. */
#include "dicom/commitment.h"

#include "core/buffer.h"
#include "tests/expect.h"

enum { EXPLICIT, IMPLICIT };

static const uint32_t UNDEFINED = 0xFFFFFFFF;

/* Appends an element's header. */
static void header(struct mf_buffer *b, int encoding, uint32_t tag, const char *vr, uint32_t length)
{
    unsigned char h[12] = {(unsigned char)(tag >> 16), (unsigned char)(tag >> 24),
                           (unsigned char)tag, (unsigned char)(tag >> 8)};
    size_t at = 4, n = 4;
    bool item = tag >> 16 == 0xFFFE;
    if (encoding == EXPLICIT && !item) {
        h[4] = (unsigned char)vr[0];
        h[5] = (unsigned char)vr[1];
        at = strcmp(vr, "SQ") == 0 ? 8 : 6;
        n = at == 8 ? 4 : 2;
    }
    for (size_t i = 0; i < n; i++)
        h[at + i] = (unsigned char)(length >> (8 * i));
    assert_true(mf_buffer_append(b, h, at + n, NULL));
}

static void text(struct mf_buffer *b, int encoding, uint32_t tag, const char *value)
{
    size_t n = strlen(value);
    header(b, encoding, tag, "UI", (uint32_t)(n + n % 2));
    assert_true(mf_buffer_append(b, value, n + n % 2, NULL)); /* the NUL pads */
}

/* An item of a sequence: class and instance; reason 0 = none. */
static void item(struct mf_buffer *b, int encoding, bool defined, const char *instance,
                 uint16_t reason)
{
    MF_AUTO(mf_buffer) struct mf_buffer content;
    mf_buffer_init(&content, 1 << 20);
    text(&content, encoding, 0x00081150, "1.2.840.10008.5.1.4.1.1.1");
    text(&content, encoding, 0x00081155, instance);
    if (reason) {
        const unsigned char value[2] = {(unsigned char)reason, (unsigned char)(reason >> 8)};
        header(&content, encoding, 0x00081197, "US", 2);
        assert_true(mf_buffer_append(&content, value, 2, NULL));
    }
    header(b, encoding, 0xFFFEE000, "", defined ? (uint32_t)content.len : UNDEFINED);
    assert_true(mf_buffer_append(b, content.data, content.len, NULL));
    if (!defined)
        header(b, encoding, 0xFFFEE00D, "", 0);
}

/* A report of two objects, one of them failed, beside elements of no interest. */
static void make(struct mf_buffer *b, int encoding, bool defined)
{
    MF_AUTO(mf_buffer) struct mf_buffer failed, referenced, nested;
    mf_buffer_init(&failed, 1 << 20);
    mf_buffer_init(&referenced, 1 << 20);
    mf_buffer_init(&nested, 1 << 20);
    item(&failed, encoding, defined, "1.2.3.4", MF_COMMITMENT_NO_SUCH_OBJECT);
    item(&referenced, encoding, defined, "1.2.3.55", 0);
    item(&nested, encoding, defined, "1.2.3.777", 0);
    text(b, encoding, 0x00080054, "NOBODY");
    header(b, encoding, 0x00081111, "SQ", defined ? (uint32_t)nested.len : UNDEFINED);
    assert_true(mf_buffer_append(b, nested.data, nested.len, NULL));
    if (!defined)
        header(b, encoding, 0xFFFEE0DD, "", 0);
    text(b, encoding, 0x00081195, "1.2.3.9");
    header(b, encoding, 0x00081198, "SQ", defined ? (uint32_t)failed.len : UNDEFINED);
    assert_true(mf_buffer_append(b, failed.data, failed.len, NULL));
    if (!defined)
        header(b, encoding, 0xFFFEE0DD, "", 0);
    header(b, encoding, 0x00081199, "SQ", defined ? (uint32_t)referenced.len : UNDEFINED);
    assert_true(mf_buffer_append(b, referenced.data, referenced.len, NULL));
    if (!defined)
        header(b, encoding, 0xFFFEE0DD, "", 0);
}

static void all_encodings(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        int encoding = i / 2;
        MF_AUTO(mf_buffer) struct mf_buffer data;
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(1 << 20);
        struct mf_error err = MF_ERROR_INIT;
        struct mf_commitment c;
        mf_buffer_init(&data, 1 << 20);
        make(&data, encoding, i % 2);
        if (!mf_commitment_read(data.data, data.len, encoding == IMPLICIT, arena, &c, &err))
            fail_msg("encoding %d: %s", i, err.msg);
        assert_string_equal(c.transaction, "1.2.3.9");
        assert_int_equal(c.count, 2);
        assert_string_equal(c.items[0].sop_instance, "1.2.3.4");
        assert_string_equal(c.items[0].sop_class, "1.2.840.10008.5.1.4.1.1.1");
        assert_int_equal(c.items[0].reason, MF_COMMITMENT_NO_SUCH_OBJECT);
        assert_string_equal(c.items[1].sop_instance, "1.2.3.55");
        assert_int_equal(c.items[1].reason, MF_COMMITTED);
    }
}

/* Every prefix of a data set is refused: the last element is needed. */
static void truncated(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        MF_AUTO(mf_buffer) struct mf_buffer data;
        mf_buffer_init(&data, 1 << 20);
        make(&data, i / 2, i % 2);
        size_t accepted = 0;
        for (size_t len = 0; len < data.len; len++) {
            MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(1 << 20);
            struct mf_error err = MF_ERROR_INIT;
            struct mf_commitment c;
            /* a copy of its own size, so that a sanitizer sees what is read beyond it */
            char *copy = malloc(len + 1);
            assert_non_null(copy);
            memcpy(copy, data.data, len);
            if (mf_commitment_read(copy, len, i / 2 == IMPLICIT, arena, &c, &err))
                accepted++;
            else
                assert_int_equal(err.code, MF_ERR_MALFORMED);
            free(copy);
        }
        assert_int_equal(accepted, 1); /* the one that ends before Referenced SOP Sequence */
    }
}

static void refused(const struct mf_buffer *data, enum mf_code code, const char *why)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(16 << 20);
    struct mf_error err = MF_ERROR_INIT;
    struct mf_commitment c;
    assert_false(mf_commitment_read(data->data, data->len, true, arena, &c, &err));
    assert_error(&err, code, why);
}

static void what_is_no_commitment(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer data;
    mf_buffer_init(&data, 64 << 20);
    text(&data, IMPLICIT, 0x00081195, "1.2.x");
    refused(&data, MF_ERR_MALFORMED, "the commitment's data set has a UID that is none");
    data.len = 0;
    text(&data, IMPLICIT, 0x00081195, "1.2.3");
    refused(&data, MF_ERR_MALFORMED,
            "the commitment's data set has no Transaction UID, or no objects");
    header(&data, IMPLICIT, 0x00081199, "SQ", 8);
    header(&data, IMPLICIT, 0xFFFEE000, "", 0);
    refused(&data, MF_ERR_MALFORMED, "the commitment's data set has an item without its two UIDs");
    data.len = 0;
    for (int i = 0; i < 100; i++) { /* sequences in sequences without end */
        header(&data, IMPLICIT, 0x00081111, "SQ", UNDEFINED);
        header(&data, IMPLICIT, 0xFFFEE000, "", UNDEFINED);
    }
    refused(&data, MF_ERR_MALFORMED, "the commitment's data set is not well-formed");
    data.len = 0;
    header(&data, IMPLICIT, 0x00081199, "SQ", UNDEFINED);
    for (int i = 0; i <= MF_COMMITMENT_ITEMS; i++)
        item(&data, IMPLICIT, true, "1.2.3", 0);
    refused(&data, MF_ERR_TOO_LARGE, "a commitment has at most 20000 objects");
    for (int i = 0; i <= 3 * MF_COMMITMENT_ITEMS; i++)
        item(&data, IMPLICIT, true, "1.2.3", 0);
    refused(&data, MF_ERR_TOO_LARGE, "a commitment has at most 4194304 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_encodings), cmocka_unit_test(truncated),
                                       cmocka_unit_test(what_is_no_commitment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
