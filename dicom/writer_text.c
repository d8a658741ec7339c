/*
 * Text as a value of its VR (PS3.5 6.2): lengths count characters, not bytes; backslash separates
 * values and so cannot be in one; control characters other than those of ST, LT and UT go.
 */
#include "dicom/writer_text.h"

#include <ctype.h>
#include <string.h>

enum { PN_COMPONENT = 64 };

/* Most characters of a value; 0 = no limit. */
static size_t limit_of(const char *vr)
{
    static const struct {
        char vr[3];
        size_t limit;
    } LIMITS[] = {{"AE", 16}, {"CS", 16}, {"SH", 16},    {"LO", 64},   {"DS", 16},
                  {"IS", 12}, {"UI", 64}, {"LT", 10240}, {"ST", 1024}, {"DT", 26}};
    for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
        if (strcmp(vr, LIMITS[i].vr) == 0)
            return LIMITS[i].limit;
    return 0;
}

static bool is_paragraph(const char *vr)
{
    return strcmp(vr, "ST") == 0 || strcmp(vr, "LT") == 0 || strcmp(vr, "UT") == 0;
}

/* Copies with what the VR forbids as a space, trimmed, at most `limit` characters. */
static void copy_clean(const char *vr, const char *text, size_t length, size_t limit, char *out,
                       size_t size)
{
    bool paragraph = is_paragraph(vr);
    size_t n = 0, characters = 0;
    for (size_t i = 0; i < length && n + 1 < size; i++) {
        unsigned char c = (unsigned char)text[i];
        bool lead = (c & 0xC0) != 0x80;
        if (lead && limit && characters == limit)
            break;
        if (lead && n + 5 > size) /* room for a whole character */
            break;
        characters += lead;
        bool kept = c >= 0x20 ? c != 0x7F && (paragraph || c != '\\')
                              : paragraph && (c == '\n' || c == '\r' || c == '\t');
        c = kept ? c : ' ';
        if (c != ' ' || n > 0)
            out[n++] = (char)c;
    }
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
}

/* Up to three component groups, of five components together at most 64 characters each. */
static void copy_name(const char *text, size_t length, char *out, size_t size)
{
    size_t n = 0;
    for (int group = 0; group < 3; group++) {
        const char *end = memchr(text, '=', length);
        size_t part = end ? (size_t)(end - text) : length;
        if (n + 4 * PN_COMPONENT + 8 > size)
            break;
        if (group)
            out[n++] = '=';
        copy_clean("PN", text, part, PN_COMPONENT, out + n, size - n);
        n += strlen(out + n);
        if (!end)
            break;
        length -= part + 1;
        text = end + 1;
    }
    while (n && (out[n - 1] == '=' || out[n - 1] == '^'))
        n--;
    out[n] = '\0';
}

/* Dates also as ACR-NEMA wrote them, with dots. */
static void copy_date(const char *text, size_t length, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '.')
            continue;
        if (!isdigit((unsigned char)text[i]) || n == 8) {
            n = 0;
            break;
        }
        out[n++] = text[i];
    }
    out[n == 8 ? n : 0] = '\0';
}

/* HH, HHMM, HHMMSS and a fraction of up to six digits; also with colons. */
static void copy_time(const char *text, size_t length, char *out)
{
    size_t n = 0, fraction = 0;
    for (size_t i = 0; i < length; i++) {
        bool digit = isdigit((unsigned char)text[i]) != 0;
        if (text[i] == ':' && !fraction)
            continue;
        if (!(digit && (fraction ? fraction <= 6 : n < 6)) &&
            !(text[i] == '.' && n == 6 && !fraction)) {
            n = 0;
            break;
        }
        fraction += fraction || !digit;
        out[n++] = text[i];
    }
    n -= fraction == 1; /* a dot without digits */
    out[n >= 2 && (n % 2 == 0 || n > 6) ? n : 0] = '\0';
}

static void keep_if(bool good, char *out)
{
    if (!good)
        *out = '\0';
}

void mf_writer_text(const char *vr, const char *utf8, size_t length, char *out, size_t size)
{
    if (strcmp(vr, "PN") == 0) {
        copy_name(utf8, length, out, size);
        return;
    }
    if (strcmp(vr, "DA") == 0) {
        copy_date(utf8, length, out);
        return;
    }
    if (strcmp(vr, "TM") == 0) {
        copy_time(utf8, length, out);
        return;
    }
    copy_clean(vr, utf8, length, limit_of(vr), out, size);
    if (strcmp(vr, "CS") == 0)
        keep_if(strspn(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _") == strlen(out), out);
    else if (strcmp(vr, "AS") == 0)
        keep_if(strlen(out) == 4 && strspn(out, "0123456789") == 3 && strchr("DWMY", out[3]), out);
    else if (strcmp(vr, "UI") == 0)
        keep_if(strspn(out, "0123456789.") == strlen(out), out);
    else if (strcmp(vr, "DS") == 0 || strcmp(vr, "IS") == 0)
        keep_if(strspn(out, "0123456789+-.eE ") == strlen(out), out);
}
