/* Reader: pread for plain objects, one inflate per deflated layer for the others. */
#include "dicom/reader.h"

#include "dicom/inflate.h"

#include "core/file_range.h"

#include <errno.h>
#include <string.h>

bool mf_read_exactly(int fd, uint64_t offset, void *out, uint64_t length, struct mf_error *err)
{
    int reason = mf_read_at(fd, offset, out, length);
    if (reason == ENODATA)
        return mf_error_set(err, MF_ERR_MALFORMED, "the payload is shorter than its index");
    return reason == 0 || mf_file_range_failed("the payload", reason, err);
}

/* Inflates `data` and checks that exactly the size of the index comes out. */
static bool inflate_layer(const void *data, size_t length, uint64_t size, unsigned char **ret,
                          struct mf_error *err)
{
    struct mf_inflate_budget budget = {
        .remaining = size + 1, .object_bytes = size + 1, .ratio = UINT32_MAX};
    size_t made;
    if (!mf_inflate(data, length, &budget, ret, &made, NULL, err))
        return false;
    if (made == size)
        return true;
    free(*ret);
    *ret = NULL;
    return mf_error_set(err, MF_ERR_MALFORMED, "compressed data differs from its index");
}

static bool open_deflated(int fd, const struct mf_index_object *o, struct mf_reader *r,
                          struct mf_error *err)
{
    const struct mf_layer *first = &o->layers[0];
    MF_AUTO(mf_mem) unsigned char *bytes = malloc(first->range.length ? first->range.length : 1);
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %llu compressed bytes",
                            (unsigned long long)first->range.length);
    if (!mf_read_exactly(fd, first->range.offset, bytes, first->range.length, err))
        return false;
    r->length = first->range.length;
    for (uint32_t i = 0; i < o->layer_count; i++) {
        const struct mf_layer *layer = &o->layers[i];
        if (!layer->deflated)
            continue;
        struct mf_range in = i ? layer->range : (struct mf_range){0, r->length};
        unsigned char *out = NULL;
        if (in.offset > r->length || in.length > r->length - in.offset)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "a layer of the index lies outside its file");
        if (!inflate_layer(bytes + in.offset, in.length, layer->size, &out, err))
            return false;
        free(bytes);
        bytes = out;
        r->length = layer->size;
    }
    r->inflated = MF_STEAL(bytes);
    return true;
}

bool mf_reader_open(int fd, const struct mf_index_object *o, struct mf_reader *ret,
                    struct mf_error *err)
{
    struct mf_reader r = {.fd = fd};
    bool deflated = false;
    for (uint32_t i = 0; i < o->layer_count; i++)
        deflated = deflated || o->layers[i].deflated;
    if (deflated) {
        if (!open_deflated(fd, o, &r, err))
            return false;
    } else {
        r.base = o->layers[0].range.offset;
        r.length = o->layers[0].range.length;
    }
    *ret = r;
    return true;
}

void mf_reader_close(struct mf_reader *reader)
{
    free(reader->inflated);
    reader->inflated = NULL;
}

bool mf_reader_read(const struct mf_reader *r, struct mf_range range, void *out,
                    struct mf_error *err)
{
    if (range.offset > r->length || range.length > r->length - range.offset)
        return mf_error_set(err, MF_ERR_MALFORMED, "a range of the index lies outside its object");
    if (!r->inflated)
        return mf_read_exactly(r->fd, r->base + range.offset, out, range.length, err);
    memcpy(out, r->inflated + range.offset, range.length);
    return true;
}
