/* core/json_scan.c: events of good text, whatever the pieces it comes in; bad text is refused where
 * it is bad. */
#include "core/json_scan.h"

#include "core/buffer.h"
#include "tests/expect.h"

/* Events as text: { } [ ] "key": 'string' number literal. */
static bool on_open(void *context, bool object, struct mf_error *err)
{
    return mf_buffer_append_str(context, object ? "{" : "[", err);
}
static bool on_close(void *context, struct mf_error *err)
{
    return mf_buffer_append_str(context, ">", err);
}
static bool on_text(void *context, bool key, const char *bytes, size_t len, bool last,
                    struct mf_error *err)
{
    return mf_buffer_append(context, bytes, len, err) &&
           (!last || mf_buffer_append_str(context, key ? ":" : ";", err));
}
static bool on_number(void *context, const char *text, struct mf_error *err)
{
    return mf_buffer_printf(context, err, "#%s;", text);
}
static bool on_literal(void *context, enum mf_json_literal value, struct mf_error *err)
{
    return mf_buffer_printf(context, err, "!%d;", (int)value);
}
static const struct mf_json_events EVENTS = {on_open, on_close, on_text, on_number, on_literal};

/* Scans `text` in pieces of `piece` bytes; the events or the error's message. */
static const char *scan(const char *text, size_t len, size_t piece, struct mf_buffer *out,
                        struct mf_error *err)
{
    MF_AUTO(mf_json_scan) struct mf_json_scan *s = mf_json_scan_new(&EVENTS, out, 8, "x");
    bool ok = true;
    for (size_t at = 0; ok && at < len; at += piece)
        ok = mf_json_scan_feed(s, text + at, len - at < piece ? len - at : piece, err);
    return ok && mf_json_scan_finish(s, err) ? (out->data ? out->data : "") : err->msg;
}

static void check(const char *text, size_t len, const char *expected)
{
    for (size_t piece = 1; piece <= len + 1; piece++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_buffer) struct mf_buffer out;
        mf_buffer_init(&out, 1 << 16);
        assert_string_equal(scan(text, len, piece, &out, &err), expected);
    }
}
#define CHECK(text, expected) check(text, sizeof(text) - 1, expected)

static void good_text(void **state)
{
    (void)state;
    CHECK("{}", "{>");
    CHECK(" [ ] ", "[>");
    CHECK("{\"a\":1,\"b\":[true,false,null,\"s\"],\"\":{}}", "{a:#1;b:[!2;!1;!0;s;>:{>>");
    CHECK("-0.5e+10", "#-0.5e+10;");
    CHECK("\"\\\"\\\\\\/\\n\\u00e4\\ud83d\\ude00\"", "\"\\/\n\xC3\xA4\xF0\x9F\x98\x80;");
    CHECK("\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80;");
    CHECK("1\n2\n\n[3]\n", "#1;#2;[#3;>");
    CHECK("[[[[[[[[1]]]]]]]]", "[[[[[[[[#1;>>>>>>>>");
}

static void bad_text(void **state)
{
    (void)state;
#define BAD(text, line, column)                                                                    \
    CHECK(text, "x: not valid JSON (line " #line ", column " #column ")")
    BAD("", 1, 0);
    BAD("  ", 1, 2);
    BAD("{", 1, 1);
    BAD("}", 1, 1);
    BAD("[1,]", 1, 4);
    BAD("[1 2]", 1, 4);
    BAD("{\"a\" 1}", 1, 6);
    BAD("{\"a\":1,}", 1, 8);
    BAD("{1:2}", 1, 2);
    BAD("[1}", 1, 3);
    BAD("\n [\n  tru]", 3, 5);
    BAD("nul", 1, 3);
    BAD("01", 1, 2);
    BAD("1.", 1, 2);
    BAD("-", 1, 1);
    BAD("1 2", 1, 3); /* values follow each other on lines of their own */
    BAD("{}{}", 1, 3);
    BAD("\"a", 1, 2);
    BAD("\"\\x\"", 1, 3);
    BAD("\"\\u12g4\"", 1, 6);
    BAD("\"\\u0000\"", 1, 7);
    BAD("\"\\ud83d\"", 1, 8);
    BAD("\"\\ud83dx\"", 1, 8);
    BAD("\"\\ude00\"", 1, 7);
    CHECK("[[[[[[[[[1]]]]]]]]]", "x: JSON is nested deeper than 8 levels");
    CHECK("1\n2\n[[[[[[[[[", "x: line 3: JSON is nested deeper than 8 levels");
}

/* Bytes that are no UTF-8, and control characters in strings, wherever they stand. */
static void bad_bytes(void **state)
{
    (void)state;
    static const char *const ROWS[] = {
        "\"\x80\"",         "\"\xC0\xAF\"",         "\"\xC3\"", "\"\xE0\x80\x80\"",
        "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xF5\"", "\"a\tb\"",
        "\"a\nb\"",         "\xEF\xBB\xBF{}"};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        for (size_t piece = 1; piece < 9; piece++) {
            struct mf_error err = MF_ERROR_INIT;
            MF_AUTO(mf_buffer) struct mf_buffer out;
            mf_buffer_init(&out, 1 << 16);
            scan(ROWS[i], strlen(ROWS[i]), piece, &out, &err);
            assert_int_equal(err.code, MF_ERR_MALFORMED);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_text),
        cmocka_unit_test(bad_text),
        cmocka_unit_test(bad_bytes),
    };
    return cmocka_run_group_tests_name("core/json_scan", tests, NULL, NULL);
}
