/* Test files in memory: PS3.10 files and zips. */
#include "tests/dicom/builder.h"

#include "tests/expect.h"

#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

static void put(struct mf_buffer *b, const void *data, size_t length)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_buffer_append(b, data, length, &err))
        fail_msg("builder: %s", err.msg);
}

static void put_number(struct mf_buffer *b, uint64_t v, int bytes, bool big)
{
    uint8_t out[8];
    for (int i = 0; i < bytes; i++)
        out[big ? bytes - 1 - i : i] = (uint8_t)(v >> (8 * i));
    put(b, out, (size_t)bytes);
}

static bool is_long(const char *vr)
{
    return strstr("OB OD OF OL OV OW SQ SV UC UN UR UT UV", vr) != NULL;
}

static void put_header(struct mf_buffer *b, uint32_t tag, const char *vr, uint32_t length,
                       bool implicit, bool big)
{
    put_number(b, tag >> 16, 2, big);
    put_number(b, tag & 0xFFFF, 2, big);
    if (!implicit)
        put(b, vr, 2);
    if (!implicit && is_long(vr))
        put_number(b, 0, 2, big);
    put_number(b, length, implicit || is_long(vr) ? 4 : 2, big);
}

void build_start(struct builder *b, const char *syntax)
{
    *b = (struct builder){.data_set = 0};
    mf_buffer_init(&b->bytes, 256 << 20);
    if (!syntax)
        return;
    b->implicit_vr = strcmp(syntax, IMPLICIT_LE) == 0;
    b->big_endian = strcmp(syntax, EXPLICIT_BE) == 0;
    b->deflated = strcmp(syntax, DEFLATED_LE) == 0;
    uint8_t preamble[128] = {0};
    char uid[66] = {0};
    size_t n = strlen(syntax);
    memcpy(uid, syntax, n);
    n += n % 2;
    put(&b->bytes, preamble, sizeof preamble);
    put(&b->bytes, "DICM", 4);
    put_header(&b->bytes, TAG(0x0002, 0x0010), "UI", (uint32_t)n, false, false);
    put(&b->bytes, uid, n);
    b->data_set = b->bytes.len;
}

void build_free(struct builder *b)
{
    mf_buffer_free(&b->bytes);
}

void build_header(struct builder *b, uint32_t tag, const char *vr, int64_t length)
{
    put_header(&b->bytes, tag, vr, (uint32_t)length, b->implicit_vr, b->big_endian);
}

void build_bytes(struct builder *b, const void *data, size_t length)
{
    put(&b->bytes, data, length);
}

void build_item(struct builder *b, uint32_t tag, int64_t length)
{
    put_header(&b->bytes, tag, "", (uint32_t)length, true, b->big_endian);
}

void build_string(struct builder *b, uint32_t tag, const char *vr, const char *value)
{
    if (!value)
        return;
    size_t n = strlen(value);
    build_header(b, tag, vr, (int64_t)(n + n % 2));
    put(&b->bytes, value, n);
    if (n % 2)
        put(&b->bytes, strcmp(vr, "UI") == 0 ? "" : " ", 1);
}

void build_u16(struct builder *b, uint32_t tag, uint16_t value)
{
    build_header(b, tag, "US", 2);
    put_number(&b->bytes, value, 2, b->big_endian);
}

void build_identity(struct builder *b, const struct build_object *o)
{
    char text[64];
    build_string(b, TAG(0x0008, 0x0016), "UI",
                 o->sop_class ? o->sop_class : "1.2.840.10008.5.1.4.1.1.1.1");
    snprintf(text, sizeof text, "1.9.%d.%d.%d", o->study, o->series, o->instance);
    build_string(b, TAG(0x0008, 0x0018), "UI", text);
    build_string(b, TAG(0x0008, 0x0020), "DA", o->date);
    build_string(b, TAG(0x0008, 0x0030), "TM", o->time);
    build_string(b, TAG(0x0008, 0x0060), "CS", o->modality);
    build_string(b, TAG(0x0010, 0x0020), "LO", o->patient);
    build_string(b, TAG(0x0018, 0x0015), "CS", o->body_part);
    build_string(b, TAG(0x0018, 0x5101), "CS", o->view);
    snprintf(text, sizeof text, "1.9.%d", o->study);
    build_string(b, TAG(0x0020, 0x000D), "UI", text);
    snprintf(text, sizeof text, "1.9.%d.%d", o->study, o->series);
    build_string(b, TAG(0x0020, 0x000E), "UI", text);
    snprintf(text, sizeof text, "%d", o->instance);
    build_string(b, TAG(0x0020, 0x0013), "IS", text);
}

void build_image(struct builder *b, uint16_t rows, uint16_t columns, uint16_t bits)
{
    build_u16(b, TAG(0x0028, 0x0002), 1);
    build_string(b, TAG(0x0028, 0x0004), "CS", "MONOCHROME2");
    build_u16(b, TAG(0x0028, 0x0010), rows);
    build_u16(b, TAG(0x0028, 0x0011), columns);
    build_u16(b, TAG(0x0028, 0x0100), bits);
    build_u16(b, TAG(0x0028, 0x0101), bits);
    build_u16(b, TAG(0x0028, 0x0102), (uint16_t)(bits - 1));
    build_u16(b, TAG(0x0028, 0x0103), 0);
}

void build_pixels(struct builder *b, size_t length)
{
    build_header(b, TAG(0x7FE0, 0x0010), "OW", (int64_t)length);
    for (size_t i = 0; i < length; i++) {
        uint8_t v = (uint8_t)i;
        put(&b->bytes, &v, 1);
    }
}

/* Raw deflate of `data`, appended to `out`; returns its length. */
static size_t put_deflated(struct mf_buffer *out, const void *data, size_t length)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)length};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    uLong bound = deflateBound(&z, (uLong)length);
    Bytef *packed = malloc(bound);
    z.next_out = packed;
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t made = z.total_out;
    put(out, packed, made);
    deflateEnd(&z);
    free(packed);
    return made;
}

void build_finish(struct builder *b)
{
    if (!b->deflated)
        return;
    size_t length = b->bytes.len - b->data_set;
    char *plain = malloc(length ? length : 1);
    memcpy(plain, b->bytes.data + b->data_set, length);
    b->bytes.len = b->data_set;
    put_deflated(&b->bytes, plain, length);
    free(plain);
}

void build_simple(struct builder *b, const struct build_object *o)
{
    build_start(b, EXPLICIT_LE);
    build_identity(b, o);
    build_image(b, 4, 4, 8);
    build_pixels(b, 16);
}

int build_fd(const void *data, size_t length)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), length);
    return fd;
}

struct mf_index *build_scan(const void *data, size_t length, const struct mf_scan_limits *limits,
                            struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = build_fd(data, length);
    struct mf_scan_input input = {.fd = fd, .length = length};
    return mf_scan(&input, 1, limits, err);
}

struct zip_entry {
    size_t offset, packed;
    uint32_t crc;
    int method;
};

static void put_central(struct mf_buffer *out, const struct build_member *m,
                        const struct zip_entry *e)
{
    size_t n = strlen(m->name);
    put(out, "PK\1\2\x14\0\x14\0", 8);
    put_number(out, (uint64_t)m->flags, 2, false);
    put_number(out, (uint64_t)e->method, 2, false);
    put_number(out, 0, 4, false);
    put_number(out, e->crc, 4, false);
    put_number(out, e->packed, 4, false);
    put_number(out, m->length, 4, false);
    put_number(out, n, 2, false);
    put_number(out, 0, 8, false);
    put_number(out, 0, 4, false);
    put_number(out, e->offset, 4, false);
    put(out, m->name, n);
}

static void put_local(struct mf_buffer *out, const struct build_member *m, struct zip_entry *e)
{
    size_t n = strlen(m->name);
    e->offset = out->len;
    e->method = m->method >= 0 && !m->deflate ? m->method : m->deflate ? 8 : 0;
    e->crc = (uint32_t)crc32(0, m->data, (uInt)m->length);
    put(out, "PK\3\4\x14\0", 6);
    put_number(out, (uint64_t)m->flags, 2, false);
    put_number(out, (uint64_t)e->method, 2, false);
    put_number(out, 0, 4, false);
    put_number(out, e->crc, 4, false);
    size_t sizes = out->len;
    put_number(out, 0, 4, false);
    put_number(out, m->length, 4, false);
    put_number(out, n, 2, false);
    put_number(out, 0, 2, false);
    put(out, m->name, n);
    if (m->deflate) {
        e->packed = put_deflated(out, m->data, m->length);
    } else {
        put(out, m->data, m->length);
        e->packed = m->length;
    }
    for (int i = 0; i < 4; i++)
        out->data[sizes + (size_t)i] = (char)(e->packed >> (8 * i));
}

void build_zip(struct mf_buffer *out, const struct build_member *members, size_t count)
{
    struct zip_entry *entries = calloc(count + 1, sizeof *entries);
    mf_buffer_init(out, 256 << 20);
    for (size_t i = 0; i < count; i++)
        put_local(out, &members[i], &entries[i]);
    size_t begin = out->len;
    for (size_t i = 0; i < count; i++)
        put_central(out, &members[i], &entries[i]);
    size_t length = out->len - begin;
    put(out, "PK\5\6\0\0\0\0", 8);
    put_number(out, count, 2, false);
    put_number(out, count, 2, false);
    put_number(out, length, 4, false);
    put_number(out, begin, 4, false);
    put_number(out, 0, 2, false);
    free(entries);
}
