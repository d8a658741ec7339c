/* server/multipart.c: every body gives the same parts however it is sliced, or the same refusal. */
#include "server/multipart.h"

#include "core/buffer.h"
#include "tests/expect.h"

/* What came out: "[name:content]" for each part. */
static bool sink_begin(void *context, const char *name, struct mf_error *err)
{
    return mf_buffer_printf(context, err, "[%s:", name);
}

static bool sink_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    return mf_buffer_append(context, data, len, err);
}

static bool sink_end(void *context, struct mf_error *err)
{
    return mf_buffer_append_str(context, "]", err);
}

static const struct mf_multipart_sink SINK = {sink_begin, sink_data, sink_end};

/* Parses `body` in slices of this size (0 = at once). */
static bool parse(const char *type, const char *body, size_t len, size_t slice,
                  struct mf_buffer *out, struct mf_error *err)
{
    mf_buffer_clear(out);
    MF_AUTO(mf_multipart) struct mf_multipart *m = mf_multipart_new(type, 3, &SINK, out, err);
    if (!m)
        return false;
    for (size_t at = 0; at < len;) {
        size_t n = slice && slice < len - at ? slice : len - at;
        if (!mf_multipart_feed(m, body + at, n, err))
            return false;
        at += n;
    }
    return mf_multipart_finish(m, err);
}

struct body_case {
    const char *name, *type, *body;
    size_t len;
    const char *parts;  /* expected output, or */
    const char *detail; /* expected refusal */
    enum mf_code code;
};

#define GOOD(name, type, body, parts)                                                              \
    {                                                                                              \
        name, type, body, sizeof body - 1, parts, NULL, MF_OK                                      \
    }
#define BAD(name, type, body, code, detail)                                                        \
    {                                                                                              \
        name, type, body, sizeof body - 1, NULL, detail, code                                      \
    }
#define FORM "multipart/form-data; boundary=B"
#define RELATED "multipart/related; type=\"application/dicom\"; boundary=B"
#define NAME(n) "Content-Disposition: form-data; name=\"" n "\"\r\n"

static const struct body_case CASES[] = {
    GOOD("two parts", FORM,
         "--B\r\n" NAME("a") "\r\none\r\n--B\r\n" NAME("b") "\r\ntwo\r\n--B--\r\n",
         "[a:one][b:two]"),
    GOOD("preamble and epilogue", FORM,
         "ignored\r\n--B\r\n" NAME("a") "\r\nx\r\n--B--\r\nignored --B\r\n--B\r\n", "[a:x]"),
    GOOD("quoted boundary with blanks inside", "multipart/form-data; charset=x; BOUNDARY=\"a b:c\"",
         "--a b:c\r\n" NAME("a") "\r\nx\r\n--a b:c--", "[a:x]"),
    GOOD("escaped boundary", "multipart/form-data; boundary=\"\\B\"",
         "--B\r\n" NAME("a") "\r\nx\r\n--B--", "[a:x]"),
    GOOD("other parameters and empty ones",
         "multipart/form-data; ;encoding=\"\\\"x\"; boundary=a/b:c ;",
         "--a/b:c\r\n" NAME("a") "\r\nx\r\n--a/b:c--", "[a:x]"),
    GOOD("a field that begins like another one", FORM,
         "--B\r\nContent-Disposition-X: y\r\n" NAME("a") "\r\nx\r\n--B--", "[a:x]"),
    GOOD("empty content", FORM, "--B\r\n" NAME("a") "\r\n\r\n--B--", "[a:]"),
    GOOD("no content at all", FORM, "--B\r\n" NAME("a") "\r\n--B--", "[a:]"),
    GOOD("content that nearly is a boundary", FORM,
         "--B\r\n" NAME("a") "\r\n\r\n\r\r\n--\r\n-B\r\n--A\r\n\r\n--B--",
         "[a:\r\n\r\r\n--\r\n-B\r\n--A\r\n]"),
    GOOD("boundary only in the middle of a line", FORM, "--B\r\n" NAME("a") "\r\nx--B--\r\n--B--",
         "[a:x--B--]"),
    GOOD("boundary after a bare LF is content", FORM, "--B\r\n" NAME("a") "\r\nx\n--B--\r\n--B--",
         "[a:x\n--B--]"),
    GOOD("blanks behind a boundary", FORM, "--B \t\r\n" NAME("a") "\r\nx\r\n--B--", "[a:x]"),
    GOOD("no parts", FORM, "--B--", ""),
    GOOD("other fields, any case", FORM,
         "--B\r\ncontent-type: "
         "text/plain\r\nCONTENT-DISPOSITION:form-data;filename=\"q\\\"x\";name=a\r\n"
         "Content-Transfer-Encoding: binary\r\n\r\nx\r\n--B--",
         "[a:x]"),
    GOOD("NUL bytes in the content", FORM, "--B\r\n" NAME("a") "\r\n\0\0\r\n--B--", "[a:\0\0]"),
    GOOD("related: the name is the content type", RELATED,
         "--B\r\nContent-Type: application/dicom; transfer-syntax=1.2\r\nContent-ID: <a@b>\r\n\r\nx"
         "\r\n--B\r\n\r\ny\r\n--B--",
         "[application/dicom; transfer-syntax=1.2:x][:y]"),
    GOOD("related: a disposition is of no interest", RELATED,
         "--B\r\nContent-Disposition: attachment; filename=a.dcm\r\n\r\nx\r\n--B--", "[:x]"),
    BAD("related: base64", RELATED, "--B\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--B--",
        MF_ERR_UNSUPPORTED, "multipart body, part 1: Content-Transfer-Encoding is not supported"),
    BAD("related: cut", RELATED, "--B\r\n\r\nx\r\n--", MF_ERR_MALFORMED,
        "multipart body: it ends before the closing boundary"),
    BAD("no boundary", "multipart/form-data", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("empty boundary", "multipart/form-data; boundary=", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("two boundaries", "multipart/form-data; boundary=a; boundary=b", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("boundary of 71 characters",
        "multipart/form-data; "
        "boundary=12345678901234567890123456789012345678901234567890123456789012345678901",
        "", MF_ERR_MALFORMED, "Content-Type: multipart without a valid boundary"),
    BAD("open quote", "multipart/form-data; boundary=\"B", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("boundary with a blank at the end", "multipart/form-data; boundary=\"B \"", "",
        MF_ERR_MALFORMED, "Content-Type: multipart without a valid boundary"),
    BAD("a parameter behind nothing", "multipart/form-data; boundary=B x=y", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("a parameter without a value", "multipart/form-data; boundary=B; x", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("a parameter without a name", "multipart/form-data; boundary=B; =x", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("a quote that ends with its escape", "multipart/form-data; boundary=\"B\\", "",
        MF_ERR_MALFORMED, "Content-Type: multipart without a valid boundary"),
    BAD("boundary with a sign that it may not have", "multipart/form-data; boundary=B!", "",
        MF_ERR_MALFORMED, "Content-Type: multipart without a valid boundary"),
    BAD("boundary with a bracket", "multipart/form-data; boundary=\"B[\"", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("boundary with a brace", "multipart/form-data; boundary=\"B{\"", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("boundary with DEL", "multipart/form-data; boundary=B\x7f", "", MF_ERR_MALFORMED,
        "Content-Type: multipart without a valid boundary"),
    BAD("disposition of as many letters", FORM,
        "--B\r\nContent-Disposition: form_data; name=a\r\n\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: Content-Disposition is not form-data"),
    BAD("empty name", FORM, "--B\r\n" NAME("") "\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: Content-Disposition has no valid name"),
    BAD("field without a name", FORM, "--B\r\n: x\r\n" NAME("a") "\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: a header line is not a field"),
    BAD("field without a colon", FORM, "--B\r\nnothing\r\n" NAME("a") "\r\nx\r\n--B--",
        MF_ERR_MALFORMED, "multipart body, part 1: a header line is not a field"),
    BAD("CR without LF behind a boundary", FORM, "--B\rX", MF_ERR_MALFORMED,
        "multipart body: a boundary is followed by something else than CRLF"),
    BAD("empty body", FORM, "", MF_ERR_MALFORMED,
        "multipart body: it ends before the closing boundary"),
    BAD("cut in the content", FORM, "--B\r\n" NAME("a") "\r\nx", MF_ERR_MALFORMED,
        "multipart body: it ends before the closing boundary"),
    BAD("cut in the closing boundary", FORM, "--B\r\n" NAME("a") "\r\nx\r\n--B-", MF_ERR_MALFORMED,
        "multipart body: it ends before the closing boundary"),
    BAD("longer boundary", FORM, "--BC\r\n" NAME("a") "\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body: a boundary is followed by something else than CRLF"),
    BAD("one dash", FORM, "--B-x", MF_ERR_MALFORMED,
        "multipart body: a boundary is followed by something else than CRLF"),
    BAD("header with bare LF", FORM,
        "--B\r\nContent-Disposition: form-data; name=a\n\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: a header line does not end with CRLF"),
    BAD("header with bare CR", FORM, "--B\r\nContent-Disposition: \rform-data\r\n\r\nx\r\n--B--",
        MF_ERR_MALFORMED, "multipart body, part 1: a header line does not end with CRLF"),
    BAD("header with NUL", FORM, "--B\r\nContent-\0isposition: form-data\r\n\r\nx\r\n--B--",
        MF_ERR_MALFORMED, "multipart body, part 1: a header line does not end with CRLF"),
    BAD("folded header", FORM,
        "--B\r\nContent-Disposition: form-data;\r\n name=\"a\"\r\n\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: Content-Disposition has no valid name"),
    BAD("no disposition", FORM, "--B\r\nContent-Type: a/b\r\n\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: no Content-Disposition"),
    BAD("no header at all", FORM, "--B\r\n\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: no Content-Disposition"),
    BAD("two dispositions", FORM, "--B\r\n" NAME("a") NAME("b") "\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: Content-Disposition is given twice"),
    BAD("two names", FORM,
        "--B\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx\r\n--B--", MF_ERR_MALFORMED,
        "multipart body, part 1: Content-Disposition has no valid name"),
    BAD("attachment", FORM, "--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--B--",
        MF_ERR_MALFORMED, "multipart body, part 1: Content-Disposition is not form-data"),
    BAD("base64", FORM, "--B\r\n" NAME("a") "Content-Transfer-Encoding: base64\r\n\r\nx\r\n--B--",
        MF_ERR_UNSUPPORTED, "multipart body, part 1: Content-Transfer-Encoding is not supported"),
    BAD("four parts where three are allowed", FORM,
        "--B\r\n" NAME("a") "\r\n\r\n--B\r\n" NAME("a") "\r\n\r\n--B\r\n" NAME(
            "a") "\r\n\r\n--B\r\n" NAME("a") "\r\n\r\n--B--",
        MF_ERR_TOO_LARGE, "multipart body: more than 3 parts"),
};

static void every_slicing_gives_the_same(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer out;
    mf_buffer_init(&out, 10000);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const struct body_case *c = &CASES[i];
        for (size_t slice = 0; slice <= c->len; slice++) {
            struct mf_error err = MF_ERROR_INIT;
            bool ok = parse(c->type, c->body, c->len, slice, &out, &err);
            if (ok != (c->detail == NULL))
                fail_msg("%s, slices of %zu: %s", c->name, slice, ok ? "accepted" : err.msg);
            if (!ok) {
                if (strcmp(err.msg, c->detail) != 0 || err.code != c->code)
                    fail_msg("%s, slices of %zu: %s", c->name, slice, err.msg);
                continue;
            }
            size_t expected =
                strcmp(c->name, "NUL bytes in the content") == 0 ? 6 : strlen(c->parts);
            if (out.len != expected || (expected && memcmp(out.data, c->parts, expected) != 0))
                fail_msg("%s, slices of %zu: %s", c->name, slice, out.data);
        }
    }
}

static void header_fields_have_a_ceiling(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer body, out;
    mf_buffer_init(&body, 100000);
    mf_buffer_init(&out, 100000);
    assert_true(mf_buffer_append_str(&body, "--B\r\nX: ", NULL));
    for (int i = 0; i < 9000; i++)
        assert_true(mf_buffer_append_str(&body, "y", NULL));
    struct mf_error err = MF_ERROR_INIT;
    assert_false(parse(FORM, body.data, body.len, 100, &out, &err));
    assert_error(&err, MF_ERR_TOO_LARGE,
                 "multipart body, part 1: header fields of more than 8192 bytes");
}

static bool stop(void *context, const void *data, size_t len, struct mf_error *err)
{
    (void)context;
    (void)data;
    (void)len;
    return mf_error_set(err, MF_ERR_IO, "the disk is full");
}

static bool stop_at_end(void *context, struct mf_error *err)
{
    (void)context;
    return mf_error_set(err, MF_ERR_IO, "the disk is full");
}

static void an_error_of_the_sink_stops_the_parser(void **state)
{
    (void)state;
    const struct mf_multipart_sink sink = {sink_begin, stop, sink_end};
    MF_AUTO(mf_buffer) struct mf_buffer out;
    mf_buffer_init(&out, 100);
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_multipart) struct mf_multipart *m = mf_multipart_new(FORM, 3, &sink, &out, &err);
    static const char body[] = "--B\r\n" NAME("a") "\r\nxyz\r\n--B--";
    assert_false(mf_multipart_feed(m, body, sizeof body - 1, &err));
    assert_error(&err, MF_ERR_IO, "the disk is full");
    const struct mf_multipart_sink late = {sink_begin, sink_data, stop_at_end};
    mf_error_clear(&err);
    MF_AUTO(mf_multipart) struct mf_multipart *other = mf_multipart_new(FORM, 3, &late, &out, &err);
    assert_false(mf_multipart_feed(other, body, sizeof body - 1, &err));
    assert_error(&err, MF_ERR_IO, "the disk is full");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_slicing_gives_the_same),
        cmocka_unit_test(header_fields_have_a_ceiling),
        cmocka_unit_test(an_error_of_the_sink_stops_the_parser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
