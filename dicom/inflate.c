/* Raw deflate under caps; memory grows with what really comes out, never with what a header claims.
 */
#include "dicom/inflate.h"

#include "core/auto.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>

enum { FREE_BYTES = 16 << 20 }; /* below this size no ratio is judged */

/* The most bytes this stream may grow to, with the name of the cap that decides. */
static uint64_t stream_cap(const struct mf_inflate_budget *budget, size_t length, const char **cap)
{
    uint64_t ratio = length > UINT64_MAX / budget->ratio ? UINT64_MAX : length * budget->ratio;
    if (ratio < FREE_BYTES)
        ratio = FREE_BYTES;
    *cap = "the ratio of a decompression bomb";
    if (budget->object_bytes < ratio) {
        ratio = budget->object_bytes;
        *cap = "the largest object accepted";
    }
    if (budget->remaining < ratio) {
        ratio = budget->remaining;
        *cap = "the most that one request may expand to";
    }
    return ratio;
}

static bool grow(unsigned char **out, size_t *capacity, uint64_t cap, size_t input,
                 struct mf_error *err)
{
    uint64_t want = *capacity ? *capacity * UINT64_C(2) : input * UINT64_C(4) + 4096;
    if (want > cap)
        want = cap;
    unsigned char *bigger = realloc(*out, (size_t)want);
    if (!bigger)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %llu inflated bytes",
                            (unsigned long long)want);
    *out = bigger;
    *capacity = (size_t)want;
    return true;
}

static bool inflate_all(z_stream *z, size_t length, uint64_t cap, const char *cap_name,
                        unsigned char **out, size_t *out_length, struct mf_error *err)
{
    size_t capacity = 0, fed = 0, made = 0;
    for (;;) {
        if (made == capacity) {
            if (capacity >= cap)
                return mf_error_set(err, MF_ERR_TOO_LARGE,
                                    "compressed data grows past %llu bytes, %s",
                                    (unsigned long long)cap, cap_name);
            if (!grow(out, &capacity, cap, length, err))
                return false;
        }
        if (z->avail_in == 0 && fed < length) {
            z->avail_in = length - fed > INT_MAX ? INT_MAX : (uInt)(length - fed);
            fed += z->avail_in;
        }
        size_t room = capacity - made > INT_MAX ? INT_MAX : capacity - made;
        z->next_out = *out + made;
        z->avail_out = (uInt)room;
        int status = inflate(z, Z_NO_FLUSH);
        made += room - z->avail_out;
        if (status == Z_STREAM_END)
            break;
        if (status == Z_MEM_ERROR)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for inflating");
        if (status != Z_OK && !(status == Z_BUF_ERROR && z->avail_out == 0))
            return mf_error_set(err, MF_ERR_MALFORMED,
                                status == Z_BUF_ERROR ? "compressed data is truncated"
                                                      : "compressed data is damaged");
    }
    *out_length = made;
    return true;
}

bool mf_inflate(const void *data, size_t length, struct mf_inflate_budget *budget,
                unsigned char **ret, size_t *ret_length, size_t *ret_used, struct mf_error *err)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data};
    const char *cap_name;
    uint64_t cap = stream_cap(budget, length, &cap_name);
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for inflating");
    MF_AUTO(mf_mem) unsigned char *out = NULL;
    size_t made = 0;
    bool ok = inflate_all(&z, length, cap, cap_name, &out, &made, err);
    size_t used = (size_t)(z.next_in - (Bytef *)(uintptr_t)data);
    inflateEnd(&z);
    if (!ok)
        return false;
    budget->remaining -= made;
    *ret = MF_STEAL(out);
    *ret_length = made;
    if (ret_used)
        *ret_used = used;
    return true;
}
