/*
 * Pre-scanner: what comes before the data set (PS3.10 7.1 preamble and file meta information), how
 * to tell where there is none, and the header of an element (PS3.5 7.1.2, 7.1.3).
 */
#include "dicom/prescan_parts.h"

#include "dicom/syntax.h"

#include <stdio.h>
#include <string.h>

enum { PREAMBLE = 128 };

static const uint32_t TAG_TRANSFER_SYNTAX = 0x00020010;

/* VRs with a 16-bit length (PS3.5 table 7.1-2); all others, also those that nobody knows yet, have
 * two reserved bytes and 32 bits. DCMTK reads them so too. */
static bool is_short_vr(const char *vr)
{
    static const char SHORT[] = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US";
    for (const char *p = SHORT; *p; p += p[2] ? 3 : 2)
        if (p[0] == vr[0] && p[1] == vr[1])
            return true;
    return false;
}

static bool is_letter(uint8_t c)
{
    return c >= 'A' && c <= 'Z';
}

bool mf_prescan_header_read(const uint8_t *p, uint64_t room, bool implicit_vr, bool big_endian,
                            struct mf_prescan_header *ret)
{
    if (room < 8)
        return false;
    struct mf_prescan_header h = {.size = 8};
    h.tag = (uint32_t)mf_prescan_u16(p, big_endian) << 16 | mf_prescan_u16(p + 2, big_endian);
    bool delimiter = h.tag >> 16 == 0xFFFE;
    if (implicit_vr || delimiter || !is_letter(p[4]) || !is_letter(p[5])) {
        h.length = mf_prescan_u32(p + 4, big_endian); /* a VR that is none: mixed encodings */
    } else {
        memcpy(h.vr, p + 4, 2);
        h.size = is_short_vr(h.vr) ? 8 : 12;
        if (room < h.size)
            return false;
        h.length =
            h.size == 12 ? mf_prescan_u32(p + 8, big_endian) : mf_prescan_u16(p + 6, big_endian);
    }
    *ret = h;
    return true;
}

/* Guesses the encoding of a data set that nothing describes, from its first element. */
static const char *guess_syntax(const uint8_t *p, uint64_t length)
{
    if (length < 8)
        return NULL;
    if (is_letter(p[4]) && is_letter(p[5]))
        return mf_prescan_u16(p, false) > mf_prescan_u16(p, true) ? "1.2.840.10008.1.2.2"
                                                                  : "1.2.840.10008.1.2.1";
    return "1.2.840.10008.1.2";
}

bool mf_prescan_plausible(const void *data, size_t length)
{
    const uint8_t *p = data;
    if (length >= PREAMBLE + 4 && memcmp(p + PREAMBLE, "DICM", 4) == 0)
        return true;
    if (length < 8)
        return false;
    uint16_t little = mf_prescan_u16(p, false), big = mf_prescan_u16(p, true);
    if (is_letter(p[4]) && is_letter(p[5]))
        return little == 2 || little == 8 || big == 8;
    return little == 8 && mf_prescan_u16(p + 2, false) <= 0x0100 &&
           mf_prescan_u32(p + 4, false) <= length - 8;
}

/* The value of a UI element, without padding. */
static void copy_uid(const uint8_t *value, uint32_t length, char out[65])
{
    size_t n = length < 64 ? length : 64;
    memcpy(out, value, n);
    out[n] = '\0';
    n = strlen(out);
    while (n && out[n - 1] == ' ')
        out[--n] = '\0';
}

/* Reads group 0002 (always Explicit VR Little Endian) and leaves `*at` behind it. */
static bool read_group_2(const uint8_t *p, size_t length, uint64_t *at, struct mf_prescan *out,
                         struct mf_error *err)
{
    while (length - *at >= 8 && mf_prescan_u16(p + *at, false) == 0x0002) {
        struct mf_prescan_header h;
        if (!mf_prescan_header_read(p + *at, length - *at, false, false, &h) ||
            h.length > length - *at - h.size)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "truncated: the file ends inside its meta information");
        if (h.tag == TAG_TRANSFER_SYNTAX)
            copy_uid(p + *at + h.size, h.length, out->transfer_syntax);
        *at += h.size + (uint64_t)h.length;
    }
    return true;
}

static bool choose_syntax(const uint8_t *p, uint64_t length, struct mf_prescan *out,
                          struct mf_error *err)
{
    const char *guess = out->transfer_syntax[0] ? NULL : guess_syntax(p, length);
    if (guess)
        snprintf(out->transfer_syntax, sizeof out->transfer_syntax, "%s", guess);
    if (!out->transfer_syntax[0])
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the file has no data set");
    if (out->transfer_syntax[strspn(out->transfer_syntax, "0123456789.")])
        return mf_error_set(err, MF_ERR_MALFORMED, "the transfer syntax is not a UID");
    const struct mf_syntax *syntax = mf_syntax_find(out->transfer_syntax);
    if (!syntax)
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "the transfer syntax %s is not known",
                            out->transfer_syntax);
    out->implicit_vr = syntax->implicit_vr;
    out->big_endian = syntax->big_endian;
    out->deflated = syntax->deflated;
    out->encapsulated = syntax->encapsulated;
    return true;
}

bool mf_prescan_meta(const uint8_t *data, size_t length, uint64_t *at, struct mf_prescan *out,
                     struct mf_error *err)
{
    bool prefixed = length >= PREAMBLE + 4 && memcmp(data + PREAMBLE, "DICM", 4) == 0;
    *at = prefixed ? PREAMBLE + 4 : 0;
    if (!mf_prescan_plausible(data, length))
        return mf_error_set(err, MF_ERR_MALFORMED, "not a DICOM file");
    if (!read_group_2(data, length, at, out, err))
        return false;
    if (!prefixed || !out->transfer_syntax[0])
        out->irregular |= 1u << MF_IRREGULAR_META;
    return choose_syntax(data + *at, length - *at, out, err);
}
