/*
 * multipart/form-data and multipart/related under libFuzzer. The first byte chooses the slicing and
 * which of the two; whatever the bytes, feeding them at once and in slices must give the same parts
 * and the same verdict.
 */
#include "server/multipart.h"

#include "core/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

static bool parse(const char *type, const char *body, size_t len, size_t slice,
                  struct mf_buffer *out, struct mf_error *err)
{
    static const struct mf_multipart_sink sink = {sink_begin, sink_data, sink_end};
    struct mf_multipart *m = mf_multipart_new(type, 8, &sink, out, err);
    if (!m)
        abort();
    bool ok = true;
    for (size_t at = 0; at < len && ok; at += slice)
        ok = mf_multipart_feed(m, body + at, len - at < slice ? len - at : slice, err);
    ok = ok && mf_multipart_finish(m, err);
    mf_multipart_free(m);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct mf_buffer whole, sliced;
    struct mf_error first = MF_ERROR_INIT, second = MF_ERROR_INIT;
    mf_buffer_init(&whole, 1 << 20);
    mf_buffer_init(&sliced, 1 << 20);
    const char *body = (const char *)data + 1;
    const char *type = data[0] & 16 ? "multipart/related; type=\"application/dicom\"; boundary=B-1"
                                    : "multipart/form-data; boundary=\"B-1\"";
    bool a = parse(type, body, size - 1, size, &whole, &first);
    bool b = parse(type, body, size - 1, data[0] % 16 + 1u, &sliced, &second);
    if (a != b || first.code != second.code || strcmp(first.msg, second.msg) != 0)
        abort();
    if (a && (whole.len != sliced.len ||
              memcmp(whole.data ? whole.data : "", sliced.data ? sliced.data : "", whole.len) != 0))
        abort();
    mf_buffer_free(&whole);
    mf_buffer_free(&sliced);
    return 0;
}
