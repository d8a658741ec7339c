/* Part 10: preamble and file meta information, Explicit VR Little Endian (PS3.10 table 7.1-1). */
#include "dicom/part10.h"

#include <stdint.h>
#include <string.h>

enum { PREAMBLE = 128, GROUP_LENGTH_END = PREAMBLE + 4 + 12, SHORT_MAX = 64 };

static bool put(struct mf_buffer *b, uint16_t element, const char *vr, const void *value,
                size_t len, struct mf_error *err)
{
    unsigned char head[8] = {0x02,
                             0x00,
                             (unsigned char)(element & 0xFF),
                             (unsigned char)(element >> 8),
                             (unsigned char)vr[0],
                             (unsigned char)vr[1],
                             (unsigned char)(len & 0xFF),
                             (unsigned char)(len >> 8)};
    return mf_buffer_append(b, head, sizeof head, err) && mf_buffer_append(b, value, len, err);
}

/* A text of at most 64 bytes, padded to an even length: UI with NUL, others with a space. */
static bool put_text(struct mf_buffer *b, uint16_t element, const char *vr, const char *text,
                     struct mf_error *err)
{
    char value[SHORT_MAX + 2] = {0};
    size_t len = strnlen(text, SHORT_MAX);
    memcpy(value, text, len);
    if (len % 2)
        value[len++] = memcmp(vr, "UI", 2) == 0 ? '\0' : ' ';
    return put(b, element, vr, value, len, err);
}

/* (0002,0001), VR OB with its long header. */
static bool put_version(struct mf_buffer *b, struct mf_error *err)
{
    static const unsigned char bytes[] = {2, 0, 1, 0, 'O', 'B', 0, 0, 2, 0, 0, 0, 0, 1};
    return mf_buffer_append(b, bytes, sizeof bytes, err);
}

bool mf_part10_header(const struct mf_part10 *meta, struct mf_buffer *ret, struct mf_error *err)
{
    static const char preamble[PREAMBLE];
    static const unsigned char unknown[4];
    char name[17];
    size_t begin = ret->len;
    memcpy(name, MF_IMPLEMENTATION_NAME,
           sizeof MF_IMPLEMENTATION_NAME < 17 ? sizeof MF_IMPLEMENTATION_NAME : 17);
    name[16] = '\0';
    if (!mf_buffer_append(ret, preamble, sizeof preamble, err) ||
        !mf_buffer_append_str(ret, "DICM", err) ||
        !put(ret, 0x0000, "UL", unknown, sizeof unknown, err) || !put_version(ret, err) ||
        !put_text(ret, 0x0002, "UI", meta->sop_class, err) ||
        !put_text(ret, 0x0003, "UI", meta->sop_instance, err) ||
        !put_text(ret, 0x0010, "UI", meta->transfer_syntax, err) ||
        !put_text(ret, 0x0012, "UI", MF_IMPLEMENTATION_UID, err) ||
        !put_text(ret, 0x0013, "SH", name, err) ||
        (meta->source && *meta->source && !put_text(ret, 0x0016, "AE", meta->source, err)))
        return false;
    size_t group = ret->len - begin - GROUP_LENGTH_END;
    for (size_t i = 0; i < 4; i++)
        ret->data[begin + GROUP_LENGTH_END - 4 + i] = (char)(group >> (8 * i) & 0xFF);
    return true;
}
