/* What the tests of decoding share: images of 2 x 2 pixels, and the samples expected of them. */
#ifndef MF_TESTS_DICOM_DECODE_EXPECT_H
#define MF_TESTS_DICOM_DECODE_EXPECT_H

#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

/* Scans the file and decodes a frame of it. */
static inline bool decode(struct builder *b, uint32_t frame, struct mf_frame *ret,
                          struct mf_error *err)
{
    build_finish(b);
    MF_AUTO(mf_fd) int fd = build_fd(b->bytes.data, b->bytes.len);
    struct mf_scan_input input = {.fd = fd, .length = b->bytes.len};
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(&input, 1, NULL, err);
    bool ok = index && mf_decode_frame(fd, &index->objects[0], frame, ret, err);
    build_free(b);
    return ok;
}

static inline void expect_samples(struct builder *b, uint32_t frame, enum mf_sample_type type,
                                  const void *want, size_t bytes)
{
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(decode(b, frame, &f, &err));
    assert_no_error(&err);
    assert_int_equal(f.type, type);
    assert_int_equal(mf_frame_bytes(&f), bytes);
    assert_memory_equal(f.samples, want, bytes);
}

static inline void expect_refused(struct builder *b, uint32_t frame, enum mf_code code,
                                  const char *message)
{
    struct mf_frame f = {.owned = NULL};
    struct mf_error err = MF_ERROR_INIT;
    assert_false(decode(b, frame, &f, &err));
    assert_error(&err, code, message);
}

/* The attributes of a 2 × 2 image; then the caller writes the pixels. */
struct layout {
    const char *photometric, *frames;
    uint16_t samples, planar, allocated, stored, representation;
};

static inline void build_layout(struct builder *b, const char *syntax, const struct layout *l)
{
    build_start(b, syntax);
    build_u16(b, TAG(0x0028, 0x0002), l->samples);
    build_string(b, TAG(0x0028, 0x0004), "CS", l->photometric);
    build_u16(b, TAG(0x0028, 0x0006), l->planar);
    build_string(b, TAG(0x0028, 0x0008), "IS", l->frames);
    build_u16(b, TAG(0x0028, 0x0010), 2);
    build_u16(b, TAG(0x0028, 0x0011), 2);
    build_u16(b, TAG(0x0028, 0x0100), l->allocated);
    build_u16(b, TAG(0x0028, 0x0101), l->stored);
    build_u16(b, TAG(0x0028, 0x0102), (uint16_t)(l->stored - 1));
    build_u16(b, TAG(0x0028, 0x0103), l->representation);
}

static inline void build_value(struct builder *b, const char *vr, const void *data, size_t length)
{
    build_header(b, TAG(0x7FE0, 0x0010), vr, (int64_t)length);
    build_bytes(b, data, length);
}

/* One fragment with these bytes. */
static inline void build_fragment(struct builder *b, const char *syntax, const struct layout *l,
                                  const void *data, size_t length)
{
    build_layout(b, syntax, l);
    build_header(b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(b, TAG(0xFFFE, 0xE000), 0);
    build_item(b, TAG(0xFFFE, 0xE000), (int64_t)length);
    build_bytes(b, data, length);
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

#endif
