/*
 * JSON: compact text. jansson prints every number through snprintf and every byte of a string
 * through a callback, which took longer than all else that makes a result's document; here the
 * common number is written from its digits. The text is byte for byte jansson's
 * (tests/core/test_json.c).
 */
#include "core/buffer.h"
#include "core/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DIGITS = 9, NUMBER_BYTES = 32, ESCAPE_BYTES = 6 };

static bool write_value(struct mf_buffer *b, const json_t *value);

static bool put(struct mf_buffer *b, const void *data, size_t len)
{
    return mf_buffer_append(b, data, len, NULL);
}

/* --- strings --- */

static const char *escape(unsigned char c, char out[ESCAPE_BYTES + 1])
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *at = memchr(plain, c, sizeof plain - 1);
    if (at)
        snprintf(out, ESCAPE_BYTES + 1, "\\%c", letter[at - plain]);
    else
        snprintf(out, ESCAPE_BYTES + 1, "\\u%04X", c);
    return out;
}

static bool write_string(struct mf_buffer *b, const char *s, size_t len)
{
    bool ok = put(b, "\"", 1);
    for (size_t from = 0, i = 0; ok && i <= len; i++) {
        unsigned char c = i < len ? (unsigned char)s[i] : 0;
        if (c >= ' ' && c != '"' && c != '\\')
            continue;
        ok = put(b, s + from, i - from);
        from = i + 1;
        char text[ESCAPE_BYTES + 1];
        if (ok && i < len)
            ok = mf_buffer_append_str(b, escape(c, text), NULL);
    }
    return ok && put(b, "\"", 1);
}

/* --- numbers --- */

/* The nine significant digits of 1e-4 <= value < 1e9 as an integer, and how many of them stand
 * before the point (0 or less: zeros follow it). False where a double cannot tell how they round.
 */
static bool significant(double value, uint32_t *ret_digits, int *ret_point)
{
    static const double power[] = {1e0, 1e1, 1e2, 1e3,  1e4,  1e5, 1e6,
                                   1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    enum { MOST = sizeof power / sizeof power[0] };
    const double from = 1e8, to = 1e9, doubt = 1e-6; /* doubt: several times the product's error */
    int point = DIGITS;
    while (DIGITS - point + 1 < MOST && value * power[DIGITS - point] < from)
        point--;
    double scaled = value * power[DIGITS - point], whole = floor(scaled);
    double rest = scaled - whole;
    if (fabs(rest - 0.5) < doubt || scaled < from)
        return false;
    whole += rest > 0.5 ? 1 : 0;
    if (whole >= to) { /* 9.999999999 became 10 */
        whole /= 10;
        point++;
    }
    *ret_digits = (uint32_t)whole;
    *ret_point = point;
    return true;
}

/* Writes digits as %.9g does: no zeros at the end, but one digit after the point. */
static size_t lay_out(uint32_t digits, int point, char out[NUMBER_BYTES])
{
    char text[DIGITS];
    size_t n = DIGITS, len = 0;
    for (size_t i = DIGITS; i-- > 0; digits /= 10)
        text[i] = (char)('0' + digits % 10);
    while (n > 1 && text[n - 1] == '0')
        n--;
    if (point <= 0)
        out[len++] = '0';
    for (int i = 0; i < point; i++)
        out[len++] = (size_t)i < n ? text[i] : '0';
    out[len++] = '.';
    for (int i = point; i < 0; i++)
        out[len++] = '0';
    size_t after = point > 0 ? (size_t)point : 0;
    if (after >= n)
        out[len++] = '0';
    for (; after < n; after++)
        out[len++] = text[after];
    return len;
}

/* Any number, as jansson writes it: %.9g with a point, and no zeros or plus in the exponent. */
static size_t lay_out_any(double value, char out[NUMBER_BYTES])
{
    snprintf(out, NUMBER_BYTES, "%.*g", DIGITS, value);
    char *comma = strchr(out, ','), *e = strchr(out, 'e');
    if (comma) /* a locale's */
        *comma = '.';
    size_t len = strlen(out);
    if (!e && !strchr(out, '.'))
        return len + (size_t)snprintf(out + len, NUMBER_BYTES - len, ".0");
    if (!e)
        return len;
    char *from = e + 1, *to = e + 1;
    if (*from == '-')
        to++;
    from += strcspn(from, "123456789");
    memmove(to, from, strlen(from) + 1);
    return strlen(out);
}

static bool write_real(struct mf_buffer *b, double value)
{
    char text[NUMBER_BYTES + 1] = "-";
    size_t sign = signbit(value) ? 1 : 0;
    double size = fabs(value);
    uint32_t digits = 0;
    int point = 0;
    size_t len;
    if (size >= 1e-4 && size < 999999999.0 && significant(size, &digits, &point))
        len = lay_out(digits, point, text + sign);
    else
        len = lay_out_any(size, text + sign);
    return put(b, text, sign + len);
}

static bool write_integer(struct mf_buffer *b, json_int_t value)
{
    char text[NUMBER_BYTES], *end = text + sizeof text, *at = end;
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--at = (char)('0' + size % 10);
    while (size /= 10);
    if (value < 0)
        *--at = '-';
    return put(b, at, (size_t)(end - at));
}

/* --- values --- */

static bool write_array(struct mf_buffer *b, const json_t *array)
{
    bool ok = put(b, "[", 1);
    for (size_t i = 0, n = json_array_size(array); ok && i < n; i++)
        ok = (i == 0 || put(b, ",", 1)) && write_value(b, json_array_get(array, i));
    return ok && put(b, "]", 1);
}

static bool write_object(struct mf_buffer *b, const json_t *value)
{
    json_t *object = (json_t *)(uintptr_t)value; /* jansson's iterators do not know const */
    bool ok = put(b, "{", 1), first = true;
    for (void *i = json_object_iter(object); ok && i; i = json_object_iter_next(object, i)) {
        const char *key = json_object_iter_key(i);
        ok = (first || put(b, ",", 1)) && write_string(b, key, strlen(key)) && put(b, ":", 1) &&
             write_value(b, json_object_iter_value(i));
        first = false;
    }
    return ok && put(b, "}", 1);
}

static bool write_value(struct mf_buffer *b, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return write_object(b, value);
    case JSON_ARRAY:
        return write_array(b, value);
    case JSON_STRING:
        return write_string(b, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        return write_integer(b, json_integer_value(value));
    case JSON_REAL:
        return write_real(b, json_real_value(value));
    case JSON_TRUE:
        return put(b, "true", 4);
    case JSON_FALSE:
        return put(b, "false", 5);
    case JSON_NULL:
        break;
    }
    return put(b, "null", 4);
}

char *mf_json_text(const json_t *value, int indent)
{
    enum { USUAL = 16 << 10 };
    if (indent > 0)
        return json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(DIGITS) |
                                     JSON_INDENT((size_t)indent));
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, SIZE_MAX);
    if (!value || !mf_buffer_reserve(&text, USUAL, NULL) || !write_value(&text, value))
        return NULL;
    return mf_buffer_take(&text, NULL);
}
