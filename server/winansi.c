/* UTF-8 to WinAnsiEncoding (winansi.h). */
#include "server/winansi.h"

#include <stdint.h>
#include <string.h>

enum { FIRST_SPECIAL = 0x80, LAST_SPECIAL = 0x9f, NONE = 0 };

/* Code points of 0x80 … 0x9f. */
static const uint16_t SPECIAL[LAST_SPECIAL - FIRST_SPECIAL + 1] = {
    0x20ac, NONE,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, NONE,   0x017d, NONE,   NONE,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, NONE,   0x017e, 0x0178};

static const struct {
    uint32_t code;
    const char *text;
} WORDS[] = {{0x2212, "-"}, {0x2264, "<="}, {0x2265, ">="}, {0x3b1, "alpha"}, {0x3bc, "\xb5"}};

/* The code point at *at, which is moved on; 0xfffd for what is none. */
static uint32_t next_code(const char **at)
{
    const unsigned char *s = (const unsigned char *)*at;
    int more = s[0] < 0x80                    ? 0
               : s[0] >= 0xc2 && s[0] < 0xe0  ? 1
               : (s[0] & 0xf0) == 0xe0        ? 2
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 3
                                              : -1;
    uint32_t code = more <= 0 ? s[0] : s[0] & (0x3fU >> more);
    int i = 1;
    for (; i <= more && (s[i] & 0xc0) == 0x80; i++)
        code = code << 6 | (s[i] & 0x3f);
    *at += i;
    return more < 0 || i <= more ? 0xfffd : code;
}

/* Its bytes in `one`; '?' and false where there are none. */
static bool encode(uint32_t code, char one[8])
{
    memset(one, 0, 8);
    one[0] = '?';
    if ((code >= 0x20 && code < 0x7f) || (code >= 0xa0 && code <= 0xff)) {
        one[0] = (char)code;
        return true;
    }
    for (size_t i = 0; i < sizeof SPECIAL / sizeof *SPECIAL; i++)
        if (SPECIAL[i] == code && code != NONE) {
            one[0] = (char)(FIRST_SPECIAL + i);
            return true;
        }
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (WORDS[i].code == code) {
            memcpy(one, WORDS[i].text, strlen(WORDS[i].text) + 1);
            return true;
        }
    return false;
}

bool mf_winansi(const char *utf8, char *ret, size_t size)
{
    size_t n = 0;
    bool whole = true;
    while (*utf8) {
        char one[8];
        whole &= encode(next_code(&utf8), one);
        size_t len = strlen(one);
        if (n + len >= size) {
            whole = false;
            break;
        }
        memcpy(ret + n, one, len);
        n += len;
    }
    ret[n] = '\0';
    return whole;
}
