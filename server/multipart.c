/*
 * multipart/form-data: a state machine over bytes.
 *
 *   PREAMBLE ─delimiter→ AFTER ─CRLF→ HEADERS ─blank line→ CONTENT ─delimiter→ AFTER ─"--"→
 * EPILOGUE
 *
 * A delimiter is CRLF "--" boundary. Only its first byte is CR, so a failed match never hides the
 * beginning of another one. At the start of the body and right behind a part's header the CRLF
 * before a delimiter has been seen already: matching then starts behind it, and those two bytes
 * (`unreal`) are never given out as content.
 */
#include "server/multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum state { PREAMBLE, AFTER, AFTER_DASH, AFTER_BLANK, AFTER_CR, HEADERS, CONTENT, EPILOGUE };

enum { DELIMITER = 4 + MF_MULTIPART_BOUNDARY };

struct mf_multipart {
    struct mf_multipart_sink sink;
    void *context;
    bool related; /* multipart/related: parts have no names */
    size_t parts, max_parts;
    enum state state;
    char delimiter[DELIMITER + 1];
    size_t delimiter_len;
    size_t matched; /* bytes of the delimiter that the input has shown so far */
    size_t unreal;  /* how many of them were not content in any case */
    char headers[MF_MULTIPART_HEADERS + 1];
    size_t header_len, line_start;
};

/* --- parameters of Content-Type and Content-Disposition --- */

static bool is_token(char c)
{
    return c > ' ' && c < 127 && !strchr("()<>@,;:\\\"/[]?={}", c);
}

/* Reads a token or quoted-string at *at into out (at most size − 1 bytes). */
static bool read_value(const char **at, char *out, size_t size)
{
    const char *s = *at;
    size_t n = 0;
    bool quoted = *s == '"';
    for (s += quoted; quoted ? *s && *s != '"' : is_token(*s) || (*s && strchr("/:=?@", *s)); s++) {
        if (quoted && *s == '\\' && s[1])
            s++;
        if (n + 1 >= size)
            return false;
        out[n++] = *s;
    }
    if (quoted && *s++ != '"')
        return false;
    out[n] = '\0';
    *at = s;
    return true;
}

/* Finds a parameter in "; a=b; c=\"d\"". 1: found, 0: not there, −1: malformed or twice. */
static int read_parameter(const char *s, const char *wanted, char *out, size_t size)
{
    int found = 0;
    char other[1024];
    for (;;) {
        s += strspn(s, " \t");
        if (!*s)
            return found;
        if (*s++ != ';')
            return -1;
        s += strspn(s, " \t");
        const char *name = s;
        while (is_token(*s))
            s++;
        size_t len = (size_t)(s - name);
        if (len == 0 && (!*s || *s == ';')) /* an empty parameter: tolerated by RFC 9110, 5.6.6 */
            continue;
        if (len == 0 || *s++ != '=')
            return -1;
        bool hit = len == strlen(wanted) && strncasecmp(name, wanted, len) == 0;
        if (hit && found)
            return -1;
        if (!read_value(&s, hit ? out : other, hit ? size : sizeof other))
            return -1;
        found = found || hit;
    }
}

bool mf_multipart_parameter(const char *content_type, const char *name, char *out, size_t size)
{
    return read_parameter(content_type + strcspn(content_type, "; \t"), name, out, size) == 1;
}

static bool valid_boundary(const char *s)
{
    size_t len = strlen(s);
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && !strchr("'()+_,-./:=? ", c))
            return false;
    }
    return len > 0 && s[len - 1] != ' ';
}

struct mf_multipart *mf_multipart_new(const char *content_type, size_t max_parts,
                                      const struct mf_multipart_sink *sink, void *context,
                                      struct mf_error *err)
{
    char boundary[MF_MULTIPART_BOUNDARY + 1];
    const char *parameters = content_type + strcspn(content_type, "; \t");
    if (read_parameter(parameters, "boundary", boundary, sizeof boundary) != 1 ||
        !valid_boundary(boundary)) {
        mf_error_set(err, MF_ERR_MALFORMED, "Content-Type: multipart without a valid boundary");
        return NULL;
    }
    struct mf_multipart *m = calloc(1, sizeof *m);
    if (!m) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a multipart body");
        return NULL;
    }
    m->sink = *sink;
    m->context = context;
    m->related = strncasecmp(content_type, "multipart/related", 17) == 0;
    m->max_parts = max_parts;
    m->delimiter_len = (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
    m->matched = m->unreal = 2;
    return m;
}

void mf_multipart_free(struct mf_multipart *m)
{
    free(m);
}

/* --- a part's header fields --- */

static bool bad(struct mf_error *err, const struct mf_multipart *m, const char *reason)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "multipart body, part %zu: %s", m->parts, reason);
}

/* The value of a field line when it has this name. */
static const char *field_value(const char *line, const char *name)
{
    size_t len = strlen(name);
    if (strncasecmp(line, name, len) != 0 || line[len] != ':')
        return NULL;
    line += len + 1;
    return line + strspn(line, " \t");
}

static bool check_encoding(const struct mf_multipart *m, const char *value, struct mf_error *err)
{
    static const char *const plain[] = {"binary", "8bit", "7bit"};
    for (size_t i = 0; i < 3; i++)
        if (strcasecmp(value, plain[i]) == 0)
            return true;
    return mf_error_set(err, MF_ERR_UNSUPPORTED,
                        "multipart body, part %zu: Content-Transfer-Encoding is not supported",
                        m->parts);
}

static bool read_disposition(const struct mf_multipart *m, const char *value,
                             char name[MF_MULTIPART_NAME], struct mf_error *err)
{
    if (name[0])
        return bad(err, m, "Content-Disposition is given twice");
    size_t len = strcspn(value, "; \t");
    if (len != 9 || strncasecmp(value, "form-data", 9) != 0)
        return bad(err, m, "Content-Disposition is not form-data");
    if (read_parameter(value + len, "name", name, MF_MULTIPART_NAME) != 1 || !name[0])
        return bad(err, m, "Content-Disposition has no valid name");
    return true;
}

/* All header lines of a part are in, each ended by a NUL: begins the part. */
static bool begin_part(struct mf_multipart *m, struct mf_error *err)
{
    char name[MF_MULTIPART_NAME] = "";
    const char *type = "";
    for (size_t at = 0; at < m->header_len; at += strlen(m->headers + at) + 1) {
        const char *line = m->headers + at;
        const char *disposition = field_value(line, "Content-Disposition");
        const char *encoding = field_value(line, "Content-Transfer-Encoding");
        if (!is_token(line[0]) || !strchr(line, ':'))
            return bad(err, m, "a header line is not a field");
        if (m->related && field_value(line, "Content-Type"))
            type = field_value(line, "Content-Type");
        if (disposition && !m->related && !read_disposition(m, disposition, name, err))
            return false;
        if (encoding && !check_encoding(m, encoding, err))
            return false;
    }
    if (!m->related && !name[0])
        return bad(err, m, "no Content-Disposition");
    m->state = CONTENT;
    m->matched = m->unreal = 2;
    return m->sink.begin(m->context, m->related ? type : name, err);
}

/* Takes header bytes up to the blank line. Returns how many were used. */
static size_t feed_headers(struct mf_multipart *m, const char *data, size_t len,
                           struct mf_error *err, bool *ok)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (m->header_len == MF_MULTIPART_HEADERS) {
            *ok = mf_error_set(err, MF_ERR_TOO_LARGE,
                               "multipart body, part %zu: header fields of more than %d bytes",
                               m->parts, MF_MULTIPART_HEADERS);
            return i;
        }
        bool after_cr = m->header_len > m->line_start && m->headers[m->header_len - 1] == '\r';
        if (after_cr != (c == '\n') || c == '\0') {
            *ok = bad(err, m, "a header line does not end with CRLF");
            return i;
        }
        m->headers[m->header_len++] = c;
        if (c != '\n')
            continue;
        m->header_len -= 2; /* CRLF becomes the NUL that ends the line */
        if (m->header_len == m->line_start) {
            *ok = begin_part(m, err);
            return i + 1;
        }
        m->headers[m->header_len++] = '\0';
        m->line_start = m->header_len;
    }
    return len;
}

/* --- content and delimiters --- */

static bool emit(struct mf_multipart *m, const char *data, size_t len, struct mf_error *err)
{
    if (len == 0 || m->state == PREAMBLE)
        return true;
    return m->sink.data(m->context, data, len, err);
}

static bool delimiter_found(struct mf_multipart *m, struct mf_error *err)
{
    bool in_part = m->state == CONTENT;
    m->state = AFTER;
    m->matched = m->unreal = 0;
    return !in_part || m->sink.end(m->context, err);
}

/* Goes on with a match that an earlier slice (or the start) began. Returns how many bytes were
 * used. */
static size_t continue_match(struct mf_multipart *m, const char *data, size_t len,
                             struct mf_error *err, bool *ok)
{
    size_t i = 0;
    while (i < len && m->matched < m->delimiter_len && data[i] == m->delimiter[m->matched]) {
        m->matched++;
        i++;
    }
    if (m->matched == m->delimiter_len) {
        *ok = delimiter_found(m, err);
    } else if (i < len) { /* no delimiter after all: what was matched is content */
        *ok = emit(m, m->delimiter + m->unreal, m->matched - m->unreal, err);
        m->matched = m->unreal = 0;
    }
    return i;
}

/* Where a delimiter may begin in the last bytes of a slice; `len` when nowhere. */
static size_t partial_match(const struct mf_multipart *m, const char *data, size_t len)
{
    size_t from = len >= m->delimiter_len ? len - m->delimiter_len + 1 : 0;
    for (size_t i = from; i < len; i++) {
        const char *cr = memchr(data + i, '\r', len - i);
        if (!cr)
            break;
        i = (size_t)(cr - data);
        if (memcmp(cr, m->delimiter, len - i) == 0)
            return i;
    }
    return len;
}

static size_t feed_content(struct mf_multipart *m, const char *data, size_t len,
                           struct mf_error *err, bool *ok)
{
    if (m->matched > 0)
        return continue_match(m, data, len, err, ok);
    const char *found = memmem(data, len, m->delimiter, m->delimiter_len);
    if (found) {
        size_t before = (size_t)(found - data);
        *ok = emit(m, data, before, err) && delimiter_found(m, err);
        return before + m->delimiter_len;
    }
    size_t plain = partial_match(m, data, len);
    *ok = emit(m, data, plain, err);
    m->matched = len - plain;
    return len;
}

/* One byte behind a delimiter: "--" ends the body, blanks and CRLF begin a part. */
static bool feed_after(struct mf_multipart *m, char c, struct mf_error *err)
{
    switch (m->state) {
    case AFTER:
        if (c == '-') {
            m->state = AFTER_DASH;
            return true;
        }
        /* fall through */
    case AFTER_BLANK:
        m->state = c == '\r' ? AFTER_CR : AFTER_BLANK;
        if (c == '\r' || c == ' ' || c == '\t')
            return true;
        break;
    case AFTER_DASH:
        if (c == '-') {
            m->state = EPILOGUE;
            return true;
        }
        break;
    default:
        if (c != '\n')
            break;
        if (m->parts == m->max_parts)
            return mf_error_set(err, MF_ERR_TOO_LARGE, "multipart body: more than %zu parts",
                                m->max_parts);
        m->parts++;
        m->state = HEADERS;
        m->header_len = m->line_start = 0;
        return true;
    }
    return mf_error_set(err, MF_ERR_MALFORMED,
                        "multipart body: a boundary is followed by something else than CRLF");
}

bool mf_multipart_feed(struct mf_multipart *m, const void *bytes, size_t len, struct mf_error *err)
{
    const char *data = bytes;
    bool ok = true;
    while (len > 0 && ok && m->state != EPILOGUE) {
        size_t used = 1;
        if (m->state == PREAMBLE || m->state == CONTENT)
            used = feed_content(m, data, len, err, &ok);
        else if (m->state == HEADERS)
            used = feed_headers(m, data, len, err, &ok);
        else
            ok = feed_after(m, *data, err);
        data += used;
        len -= used;
    }
    return ok;
}

bool mf_multipart_finish(struct mf_multipart *m, struct mf_error *err)
{
    if (m->state == EPILOGUE)
        return true;
    return mf_error_set(err, MF_ERR_MALFORMED,
                        "multipart body: it ends before the closing boundary");
}
