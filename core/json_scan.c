/* JSON scanner: see json_scan.h. A state machine over bytes; every state may be left at the end of
 * a piece and entered again with the next one. */
#include "core/json_scan.h"

#include <stdint.h>
#include <string.h>

enum { DEFAULT_DEPTH = 64, MAX_DEPTH = 512, NUMBER_TEXT = 256, NAME_TEXT = 160 };

enum state {
    BEFORE_VALUE, /* a value must come */
    FIRST_ITEM,   /* a value or "]" */
    FIRST_KEY,    /* a key or "}" */
    NEXT_KEY,     /* a key, after a comma */
    BEFORE_COLON,
    AFTER_VALUE, /* "," or a closing bracket; between values of the document: a line break */
    IN_STRING,
    IN_ESCAPE, /* behind a backslash */
    IN_HEX,    /* inside \uXXXX */
    IN_NUMBER,
    IN_WORD /* true, false, null */
};

struct mf_json_scan {
    const struct mf_json_events *events;
    void *context;
    char name[NAME_TEXT], where[NAME_TEXT + 32];
    enum state state;
    int depth, max_depth;
    bool object[MAX_DEPTH]; /* what is open at each level */
    bool is_key;            /* the string being read is a key */
    bool fresh_line;        /* a line break since the last value of the document */
    size_t values, line, column;
    /* strings */
    unsigned utf8_left;           /* continuation bytes still to come */
    unsigned utf8_low, utf8_high; /* what the next one may be */
    unsigned hex, hex_digits, high_surrogate;
    /* numbers and words */
    char token[NUMBER_TEXT];
    size_t token_len;
};

struct mf_json_scan *mf_json_scan_new(const struct mf_json_events *events, void *context,
                                      int max_depth, const char *name)
{
    struct mf_json_scan *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->events = events;
    s->context = context;
    s->max_depth = max_depth <= 0 ? DEFAULT_DEPTH : max_depth > MAX_DEPTH ? MAX_DEPTH : max_depth;
    s->line = 1;
    s->fresh_line = true;
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

void mf_json_scan_free(struct mf_json_scan *s)
{
    free(s);
}

size_t mf_json_scan_line(const struct mf_json_scan *s)
{
    return s->line;
}

size_t mf_json_scan_values(const struct mf_json_scan *s)
{
    return s->values;
}

const char *mf_json_scan_where(struct mf_json_scan *s)
{
    if (s->values == 0)
        return s->name;
    snprintf(s->where, sizeof s->where, "%s: line %zu", s->name, s->line);
    return s->where;
}

static bool invalid(struct mf_json_scan *s, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "%s: not valid JSON (line %zu, column %zu)", s->name,
                        s->line, s->column);
}

/* --- values --- */

static bool value_done(struct mf_json_scan *s)
{
    s->state = AFTER_VALUE;
    if (s->depth == 0) {
        s->values++;
        s->fresh_line = false;
    }
    return true;
}

static bool open_bracket(struct mf_json_scan *s, bool object, struct mf_error *err)
{
    if (s->depth == s->max_depth)
        return mf_error_set(err, MF_ERR_MALFORMED, "%s: JSON is nested deeper than %d levels",
                            mf_json_scan_where(s), s->max_depth);
    s->object[s->depth++] = object;
    s->state = object ? FIRST_KEY : FIRST_ITEM;
    return s->events->open(s->context, object, err);
}

static bool close_bracket(struct mf_json_scan *s, bool object, struct mf_error *err)
{
    if (s->depth == 0 || s->object[s->depth - 1] != object)
        return invalid(s, err);
    s->depth--;
    return s->events->close(s->context, err) && value_done(s);
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? */
static bool is_number(const char *p)
{
    static const char DIGITS[] = "0123456789";
    p += *p == '-';
    size_t n = strspn(p, DIGITS);
    if (n == 0 || (n > 1 && *p == '0'))
        return false;
    p += n;
    if (*p == '.') {
        n = strspn(p + 1, DIGITS);
        p += 1 + n;
        if (n == 0)
            return false;
    }
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '+' || p[1] == '-');
        n = strspn(p, DIGITS);
        p += n;
        if (n == 0)
            return false;
    }
    return *p == '\0';
}

/* A number or word ends where something else begins. */
static bool end_token(struct mf_json_scan *s, struct mf_error *err)
{
    static const char *const WORDS[] = {"null", "false", "true"};
    bool number = s->state == IN_NUMBER;
    s->token[s->token_len] = '\0';
    if (number)
        return (is_number(s->token) || invalid(s, err)) &&
               s->events->number(s->context, s->token, err) && value_done(s);
    for (int i = 0; i < 3; i++)
        if (strcmp(s->token, WORDS[i]) == 0)
            return s->events->literal(s->context, (enum mf_json_literal)i, err) && value_done(s);
    return invalid(s, err);
}

static bool begin_token(struct mf_json_scan *s, enum state state, char c)
{
    s->state = state;
    s->token[0] = c;
    s->token_len = 1;
    return true;
}

static bool begin_string(struct mf_json_scan *s, bool key)
{
    s->state = IN_STRING;
    s->is_key = key;
    return true;
}

static bool begin_value(struct mf_json_scan *s, char c, struct mf_error *err)
{
    if (c == '{' || c == '[')
        return open_bracket(s, c == '{', err);
    if (c == '"')
        return begin_string(s, false);
    if (c == '-' || (c >= '0' && c <= '9'))
        return begin_token(s, IN_NUMBER, c);
    if (c >= 'a' && c <= 'z')
        return begin_token(s, IN_WORD, c);
    return invalid(s, err);
}

/* A character that is no space, outside strings, numbers and words. */
static bool structure(struct mf_json_scan *s, char c, struct mf_error *err)
{
    switch (s->state) {
    case FIRST_KEY:
    case NEXT_KEY:
        if (c == '"')
            return begin_string(s, true);
        return c == '}' && s->state == FIRST_KEY ? close_bracket(s, true, err) : invalid(s, err);
    case BEFORE_COLON:
        s->state = BEFORE_VALUE;
        return c == ':' || invalid(s, err);
    case FIRST_ITEM:
        return c == ']' ? close_bracket(s, false, err) : begin_value(s, c, err);
    case AFTER_VALUE:
        if (s->depth == 0)
            return s->fresh_line ? begin_value(s, c, err) : invalid(s, err);
        if (c == '}' || c == ']')
            return close_bracket(s, c == '}', err);
        s->state = s->object[s->depth - 1] ? NEXT_KEY : BEFORE_VALUE;
        return c == ',' || invalid(s, err);
    default:
        return begin_value(s, c, err);
    }
}

/* --- strings --- */

static bool emit(struct mf_json_scan *s, const char *bytes, size_t len, bool last,
                 struct mf_error *err)
{
    return s->events->text(s->context, s->is_key, bytes, len, last, err);
}

static bool end_string(struct mf_json_scan *s)
{
    if (s->is_key) {
        s->state = BEFORE_COLON;
        return true;
    }
    return value_done(s);
}

/* One byte from 0x80 of a UTF-8 sequence (RFC 3629). */
static bool take_utf8(struct mf_json_scan *s, unsigned char c)
{
    if (s->utf8_left) {
        bool ok = c >= s->utf8_low && c <= s->utf8_high;
        s->utf8_left--;
        s->utf8_low = 0x80;
        s->utf8_high = 0xBF;
        return ok;
    }
    s->utf8_low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    s->utf8_high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    s->utf8_left = c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2 : 3;
    return c >= 0xC2 && c <= 0xF4;
}

/* Reads a run of plain text up to a quote, a backslash or the end of the piece. */
static bool take_plain(struct mf_json_scan *s, const char **p, const char *end,
                       struct mf_error *err)
{
    const char *start = *p, *c = start;
    for (; c < end; c++) {
        unsigned char u = (unsigned char)*c;
        if (u < 0x80 && !s->utf8_left) {
            if (u == '"' || u == '\\' || u < 0x20)
                break;
        } else if (u < 0x80 || !take_utf8(s, u)) {
            return invalid(s, err);
        }
    }
    *p = c;
    s->column += (size_t)(c - start);
    if (c == end)
        return emit(s, start, (size_t)(c - start), false, err);
    if ((unsigned char)*c < 0x20 || s->high_surrogate)
        return (*c == '\\' && c == start) || invalid(s, err);
    (*p)++;
    s->column++;
    if (*c == '\\') {
        s->state = IN_ESCAPE;
        return c == start || emit(s, start, (size_t)(c - start), false, err);
    }
    return emit(s, start, (size_t)(c - start), true, err) && end_string(s);
}

static bool emit_code_point(struct mf_json_scan *s, unsigned u, struct mf_error *err)
{
    char out[4];
    size_t n = u < 0x80 ? 1 : u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    static const unsigned char LEAD[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; u >>= 6)
        out[i] = (char)(0x80 | (u & 0x3F));
    out[0] = (char)(LEAD[n] | u);
    s->state = IN_STRING;
    return emit(s, out, n, false, err);
}

static bool take_escape(struct mf_json_scan *s, char c, struct mf_error *err)
{
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    const char *at = c ? strchr(FROM, c) : NULL;
    if (c == 'u') {
        s->state = IN_HEX;
        s->hex = s->hex_digits = 0;
        return true;
    }
    if (!at || s->high_surrogate)
        return invalid(s, err);
    return emit_code_point(s, (unsigned char)TO[at - FROM], err);
}

static bool take_hex(struct mf_json_scan *s, char c, struct mf_error *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    const char *at = c ? strchr(DIGITS, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;
    if (!at)
        return invalid(s, err);
    s->hex = s->hex << 4 | (unsigned)(at - DIGITS);
    if (++s->hex_digits < 4)
        return true;
    bool low = s->hex >= 0xDC00 && s->hex <= 0xDFFF;
    if (s->hex == 0 || low != (s->high_surrogate != 0))
        return invalid(s, err);
    if (s->hex >= 0xD800 && s->hex <= 0xDBFF) {
        s->high_surrogate = s->hex;
        s->state = IN_STRING;
        return true;
    }
    unsigned u = low ? 0x10000 + ((s->high_surrogate - 0xD800) << 10) + (s->hex - 0xDC00) : s->hex;
    s->high_surrogate = 0;
    return emit_code_point(s, u, err);
}

/* --- feeding --- */

/* A surrogate pair is two escapes with nothing between them. */
static bool take_string(struct mf_json_scan *s, const char **p, const char *end,
                        struct mf_error *err)
{
    if (s->state == IN_STRING && s->high_surrogate) {
        s->column++;
        if (*(*p)++ != '\\')
            return invalid(s, err);
        s->state = IN_ESCAPE;
        return true;
    }
    if (s->state == IN_STRING)
        return take_plain(s, p, end, err);
    s->column++;
    char c = *(*p)++;
    return s->state == IN_ESCAPE ? take_escape(s, c, err) : take_hex(s, c, err);
}

static bool is_token_byte(enum state state, char c)
{
    return state == IN_WORD
               ? c >= 'a' && c <= 'z'
               : (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

bool mf_json_scan_feed(struct mf_json_scan *s, const char *bytes, size_t len, struct mf_error *err)
{
    const char *p = bytes, *end = bytes + len;
    while (p < end) {
        if (s->state == IN_STRING || s->state == IN_ESCAPE || s->state == IN_HEX) {
            if (!take_string(s, &p, end, err))
                return false;
            continue;
        }
        if (s->state == IN_NUMBER || s->state == IN_WORD) {
            if (is_token_byte(s->state, *p)) {
                s->column++;
                if (s->token_len + 1 == NUMBER_TEXT)
                    return invalid(s, err);
                s->token[s->token_len++] = *p++;
            } else if (!end_token(s, err)) {
                return false;
            }
            continue;
        }
        char c = *p++;
        s->column++;
        if (c == '\n') {
            s->line++;
            s->column = 0;
            s->fresh_line = true;
        } else if (c != ' ' && c != '\t' && c != '\r' && !structure(s, c, err)) {
            return false;
        }
    }
    return true;
}

bool mf_json_scan_finish(struct mf_json_scan *s, struct mf_error *err)
{
    if ((s->state == IN_NUMBER || s->state == IN_WORD) && !end_token(s, err))
        return false;
    return (s->depth == 0 && s->state == AFTER_VALUE) || invalid(s, err);
}
