/* Store messages: writing and reading of frames (store_wire.h). */
#include "server/store_wire.h"

#include "server/store_changes.h"

#include <string.h>

uint32_t mf_wire_magic(void)
{
    size_t sizes[] = {sizeof(struct mf_submitted),    sizeof(struct mf_job),
                      sizeof(struct mf_job_ref),      sizeof(struct mf_heartbeat),
                      sizeof(struct mf_store_counts), sizeof(struct mf_error),
                      sizeof(struct mf_job_change),   MF_VERB_COUNT};
    uint32_t magic = 0x4d465331; /* "MFS1" */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        magic = magic * 31 + (uint32_t)sizes[i];
    return magic;
}

/* --- writing --- */

void mf_wire_put(struct mf_wire_writer *w, const void *data, size_t len)
{
    if (!w->failed && !mf_buffer_append(w->out, data, len, NULL))
        w->failed = true;
}

void mf_wire_put_int(struct mf_wire_writer *w, int64_t value)
{
    mf_wire_put(w, &value, sizeof value);
}

void mf_wire_put_text(struct mf_wire_writer *w, const char *text)
{
    mf_wire_put_int(w, text ? (int64_t)strlen(text) : -1);
    if (text)
        mf_wire_put(w, text, strlen(text) + 1);
}

void mf_wire_put_block(struct mf_wire_writer *w, const void *data, size_t len)
{
    mf_wire_put_int(w, (int64_t)len);
    mf_wire_put(w, data, len);
    mf_wire_put(w, "", 1);
}

size_t mf_wire_begin(struct mf_wire_writer *w, uint32_t kind)
{
    size_t begin = w->out->len;
    struct mf_wire_header header = {mf_wire_magic(), kind, 0};
    mf_wire_put(w, &header, sizeof header);
    return begin;
}

void mf_wire_end(struct mf_wire_writer *w, size_t begin)
{
    if (w->failed)
        return;
    uint64_t len = w->out->len - begin - sizeof(struct mf_wire_header);
    memcpy(w->out->data + begin + offsetof(struct mf_wire_header, len), &len, sizeof len);
}

/* --- reading --- */

static const char *take(struct mf_wire_reader *r, size_t len)
{
    if (r->failed || len > r->left) {
        r->failed = true;
        return NULL;
    }
    const char *at = r->at;
    r->at += len;
    r->left -= len;
    return at;
}

void mf_wire_get(struct mf_wire_reader *r, void *out, size_t len)
{
    const char *at = take(r, len);
    if (at)
        memcpy(out, at, len);
    else
        memset(out, 0, len);
}

int64_t mf_wire_get_int(struct mf_wire_reader *r)
{
    int64_t value = 0;
    mf_wire_get(r, &value, sizeof value);
    return value;
}

size_t mf_wire_get_count(struct mf_wire_reader *r, size_t least)
{
    int64_t n = mf_wire_get_int(r);
    if (n >= 0 && (uint64_t)n <= r->left / (least ? least : 1))
        return (size_t)n;
    r->failed = true;
    return 0;
}

const char *mf_wire_get_block(struct mf_wire_reader *r, size_t *len)
{
    int64_t n = mf_wire_get_int(r);
    *len = 0;
    if (n < 0 || (uint64_t)n >= r->left) {
        r->failed = true;
        return NULL;
    }
    const char *at = take(r, (size_t)n + 1);
    if (!at || at[n] != '\0') {
        r->failed = true;
        return NULL;
    }
    *len = (size_t)n;
    return at;
}

const char *mf_wire_get_text(struct mf_wire_reader *r)
{
    int64_t n = mf_wire_get_int(r);
    if (n == -1)
        return NULL;
    if (n < 0 || (uint64_t)n >= r->left) {
        r->failed = true;
        return NULL;
    }
    const char *at = take(r, (size_t)n + 1);
    if (!at || memchr(at, '\0', (size_t)n + 1) != at + n) {
        r->failed = true;
        return NULL;
    }
    return at;
}

const char *mf_wire_copy_text(struct mf_wire_reader *r, struct mf_arena *arena,
                              struct mf_error *err)
{
    const char *text = mf_wire_get_text(r);
    if (!text)
        return NULL;
    const char *copy = mf_arena_strdup(arena, text, err);
    r->failed = r->failed || !copy;
    return copy;
}

const char *mf_wire_copy_block(struct mf_wire_reader *r, struct mf_arena *arena, size_t *len,
                               struct mf_error *err)
{
    const char *data = mf_wire_get_block(r, len);
    if (!data)
        return NULL;
    char *copy = mf_arena_alloc(arena, *len + 1, 1, err);
    r->failed = r->failed || !copy;
    if (copy)
        memcpy(copy, data, *len);
    return copy;
}
