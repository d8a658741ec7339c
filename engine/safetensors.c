/* safetensors: reading with every rule checked, and writing. Format: the safetensors README,
 * "Format". */
#include "engine/safetensors.h"

#include "core/buffer.h"
#include "core/json.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 1 << 20, LENGTH_BYTES = 8, MAX_TENSORS = 65536 };

static const size_t MAX_DIMENSION = (size_t)1 << 31;

struct mf_safetensors {
    struct mf_tensor *tensors; /* sorted by name */
    size_t count;
    json_t *header; /* owns the names */
    void *map;      /* NULL when the bytes are the caller's */
    size_t map_len;
};

static const struct {
    const char *name;
    size_t size;
} DTYPES[MF_DTYPE_COUNT] = {
    [MF_DTYPE_F32] = {"F32", 4}, [MF_DTYPE_F16] = {"F16", 2}, [MF_DTYPE_BF16] = {"BF16", 2},
    [MF_DTYPE_F64] = {"F64", 8}, [MF_DTYPE_I64] = {"I64", 8}, [MF_DTYPE_I32] = {"I32", 4},
    [MF_DTYPE_U8] = {"U8", 1},
};

size_t mf_dtype_size(enum mf_dtype dtype)
{
    return DTYPES[dtype].size;
}

const char *mf_dtype_name(enum mf_dtype dtype)
{
    return DTYPES[dtype].name;
}

const char *mf_shape_text(const size_t *shape, int rank, char out[96])
{
    size_t used = 0;
    out[used++] = '(';
    for (int i = 0; i < rank && used < 80; i++)
        used += (size_t)snprintf(out + used, 96 - used, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(out + used, 96 - used, ")");
    return out;
}

static bool parse_dtype(const char *text, enum mf_dtype *ret)
{
    for (int i = 0; text && i < MF_DTYPE_COUNT; i++)
        if (strcmp(text, DTYPES[i].name) == 0) {
            *ret = (enum mf_dtype)i;
            return true;
        }
    *ret = MF_DTYPE_U8;
    return text && strcmp(text, "BOOL") == 0;
}

static bool parse_shape(const json_t *shape, struct mf_tensor *t, struct mf_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > MF_TENSOR_RANK)
        return mf_error_set(err, MF_ERR_MALFORMED, "\"shape\" must be an array of at most %d sizes",
                            MF_TENSOR_RANK);
    t->rank = (int)json_array_size(shape);
    t->count = 1;
    for (int i = 0; i < t->rank; i++) {
        const json_t *v = json_array_get(shape, (size_t)i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            (size_t)json_integer_value(v) > MAX_DIMENSION)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "every size must be a whole number from 0 to %zu", MAX_DIMENSION);
        t->shape[i] = (size_t)json_integer_value(v);
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count))
            return mf_error_set(err, MF_ERR_MALFORMED, "the shape overflows");
    }
    return true;
}

/* One header entry: dtype, shape, and data_offsets that must begin at `*expected`. */
static bool parse_tensor(const json_t *entry, const char *data, size_t data_len,
                         struct mf_tensor *t, size_t offsets[2], struct mf_error *err)
{
    static const char *const KEYS[] = {"dtype", "shape", "data_offsets", NULL};
    if (!json_is_object(entry))
        return mf_error_set(err, MF_ERR_MALFORMED, "must be an object");
    if (!mf_json_only_keys(entry, KEYS, "header", MF_ERR_MALFORMED, err))
        return false;
    if (!parse_dtype(json_string_value(json_object_get(entry, "dtype")), &t->dtype))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "\"dtype\" must be F32, F16, BF16, F64, I64, I32, U8 or BOOL");
    if (!parse_shape(json_object_get(entry, "shape"), t, err))
        return false;
    const json_t *span = json_object_get(entry, "data_offsets");
    if (!json_is_array(span) || json_array_size(span) != 2)
        return mf_error_set(err, MF_ERR_MALFORMED, "\"data_offsets\" must be two offsets");
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_array_get(span, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return mf_error_set(err, MF_ERR_MALFORMED, "\"data_offsets\" must be two offsets");
        offsets[i] = (size_t)json_integer_value(v);
    }
    if (offsets[0] > offsets[1] || offsets[1] > data_len)
        return mf_error_set(err, MF_ERR_MALFORMED, "its data lies outside the file");
    size_t bytes;
    if (__builtin_mul_overflow(t->count, mf_dtype_size(t->dtype), &bytes) ||
        bytes != offsets[1] - offsets[0])
        return mf_error_set(err, MF_ERR_MALFORMED, "its data is not the size that its shape says");
    t->data = data + offsets[0];
    return true;
}

struct span {
    size_t begin, end;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static bool spans_are_contiguous(struct span *spans, size_t n, size_t data_len,
                                 struct mf_error *err)
{
    qsort(spans, n, sizeof *spans, compare_spans);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].begin != at)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                spans[i].begin > at ? "a hole between tensors at offset %zu"
                                                    : "tensors overlap at offset %zu",
                                spans[i].begin > at ? at : spans[i].begin);
        at = spans[i].end;
    }
    if (at != data_len)
        return mf_error_set(err, MF_ERR_MALFORMED, "%zu bytes after the last tensor",
                            data_len - at);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct mf_tensor *)a)->name, ((const struct mf_tensor *)b)->name);
}

static bool parse_header(struct mf_safetensors *file, const char *data, size_t data_len,
                         struct mf_error *err)
{
    size_t n = json_object_size(file->header);
    if (n > MAX_TENSORS)
        return mf_error_set(err, MF_ERR_MALFORMED, "more than %d tensors", MAX_TENSORS);
    MF_AUTO(mf_mem) struct span *spans = calloc(n + 1, sizeof *spans);
    file->tensors = calloc(n + 1, sizeof *file->tensors);
    if (!spans || !file->tensors)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu tensors", n);
    const char *key;
    json_t *entry;
    json_object_foreach(file->header, key, entry)
    {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        struct mf_tensor *t = &file->tensors[file->count];
        size_t offsets[2];
        t->name = key;
        if (!parse_tensor(entry, data, data_len, t, offsets, err))
            return mf_error_prefix(err, "tensor \"%.80s\"", key);
        spans[file->count++] = (struct span){offsets[0], offsets[1]};
    }
    if (!spans_are_contiguous(spans, file->count, data_len, err))
        return false;
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    return true;
}

static bool parse_file(struct mf_safetensors *file, const char *bytes, size_t len,
                       struct mf_error *err)
{
    if (len < LENGTH_BYTES)
        return mf_error_set(err, MF_ERR_MALFORMED, "%zu bytes are too few for safetensors", len);
    uint64_t header_len = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        header_len = header_len << 8 | (unsigned char)bytes[i];
    if (header_len > HEADER_BYTES)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "a header of %" PRIu64 " bytes, at most %d are accepted", header_len,
                            HEADER_BYTES);
    if (header_len > len - LENGTH_BYTES)
        return mf_error_set(err, MF_ERR_MALFORMED, "the file ends inside its header");
    const char *header = bytes + LENGTH_BYTES;
    if (header_len == 0 || header[0] != '{')
        return mf_error_set(err, MF_ERR_MALFORMED, "the header does not start with '{'");
    struct mf_json_limits limits = {HEADER_BYTES, 4};
    file->header = mf_json_parse(header, header_len, &limits, "header", err);
    if (!file->header)
        return false;
    return parse_header(file, header + header_len, len - LENGTH_BYTES - header_len, err);
}

struct mf_safetensors *mf_safetensors_parse(const void *data, size_t len, const char *name,
                                            struct mf_error *err)
{
    MF_AUTO(mf_safetensors) struct mf_safetensors *file = calloc(1, sizeof *file);
    if (!file) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (!parse_file(file, data, len, err)) {
        mf_error_prefix(err, "%s", name);
        return NULL;
    }
    return MF_STEAL(file);
}

struct mf_safetensors *mf_safetensors_open(const char *path, struct mf_error *err)
{
    MF_AUTO(mf_fd)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hang */
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        mf_error_set(err, MF_ERR_MODEL, "%s: cannot be read as a file", path);
        return NULL;
    }
    if (st.st_size < LENGTH_BYTES) {
        mf_error_set(err, MF_ERR_MALFORMED, "%s: %lld bytes are too few for safetensors", path,
                     (long long)st.st_size);
        return NULL;
    }
    size_t len = (size_t)st.st_size;
    void *map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "%s: cannot be mapped", path);
        return NULL;
    }
    struct mf_safetensors *file = mf_safetensors_parse(map, len, path, err);
    if (!file) {
        munmap(map, len);
        return NULL;
    }
    file->map = map;
    file->map_len = len;
    return file;
}

void mf_safetensors_free(struct mf_safetensors *file)
{
    if (!file)
        return;
    if (file->map)
        munmap(file->map, file->map_len);
    json_decref(file->header);
    free(file->tensors);
    free(file);
}

size_t mf_safetensors_count(const struct mf_safetensors *file)
{
    return file->count;
}

const struct mf_tensor *mf_safetensors_at(const struct mf_safetensors *file, size_t index)
{
    return index < file->count ? &file->tensors[index] : NULL;
}

const struct mf_tensor *mf_safetensors_find(const struct mf_safetensors *file, const char *name)
{
    struct mf_tensor key = {.name = name};
    return bsearch(&key, file->tensors, file->count, sizeof key, compare_names);
}

void mf_safetensors_forget(const struct mf_safetensors *file)
{
    if (file->map)
        madvise(file->map, file->map_len, MADV_DONTNEED);
}

void mf_safetensors_forget_tensor(const struct mf_safetensors *file, const struct mf_tensor *tensor)
{
    const char *map = file->map, *data = tensor->data;
    if (!map || data < map || data >= map + file->map_len)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), at = (size_t)(data - map);
    size_t end = (at + tensor->count * mf_dtype_size(tensor->dtype)) / page * page;
    at = (at + page - 1) / page * page;
    if (at < end)
        madvise((char *)file->map + at, end - at, MADV_DONTNEED);
}

static json_t *header_of(const struct mf_tensor *tensors, size_t count)
{
    json_t *header = json_object();
    size_t at = 0;
    for (size_t i = 0; header && i < count; i++) {
        const struct mf_tensor *t = &tensors[i];
        size_t end = at + t->count * mf_dtype_size(t->dtype);
        json_t *shape = json_array();
        for (int k = 0; k < t->rank; k++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[k]));
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", mf_dtype_name(t->dtype), "shape",
                                  shape, "data_offsets", (json_int_t)at, (json_int_t)end);
        if (!entry || json_object_set_new(header, t->name, entry) != 0) {
            json_decref(header);
            return NULL;
        }
        at = end;
    }
    return header;
}

bool mf_safetensors_write(const char *path, const struct mf_tensor *tensors, size_t count,
                          struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *header = header_of(tensors, count);
    MF_AUTO(mf_mem) char *text = header ? mf_json_text(header, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    MF_AUTO(mf_file) FILE *f = fopen(path, "wbe");
    if (!f)
        return mf_error_set(err, MF_ERR_IO, "%s: cannot be written", path);
    size_t text_len = strlen(text), padded = (text_len + 7) / 8 * 8;
    unsigned char length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    bool ok = fwrite(length, 1, sizeof length, f) == sizeof length &&
              fwrite(text, 1, text_len, f) == text_len &&
              fwrite("       ", 1, padded - text_len, f) == padded - text_len;
    for (size_t i = 0; ok && i < count; i++) {
        size_t bytes = tensors[i].count * mf_dtype_size(tensors[i].dtype);
        ok = fwrite(tensors[i].data, 1, bytes, f) == bytes;
    }
    ok = fflush(f) == 0 && ok;
    return ok || mf_error_set(err, MF_ERR_IO, "%s: writing failed", path);
}

static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7F800000u | mantissa << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else { /* zero or subnormal: mantissa · 2^−24 */
        float value = ldexpf((float)mantissa, -24);
        return sign ? -value : value;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float element(const struct mf_tensor *t, size_t i)
{
    const char *p = (const char *)t->data + i * mf_dtype_size(t->dtype);
    uint16_t half;
    uint32_t word;
    float f;
    double d;
    switch (t->dtype) {
    case MF_DTYPE_F32:
        memcpy(&f, p, sizeof f);
        return f;
    case MF_DTYPE_F16:
        memcpy(&half, p, sizeof half);
        return half_to_float(half);
    case MF_DTYPE_BF16:
        memcpy(&half, p, sizeof half);
        word = (uint32_t)half << 16;
        memcpy(&f, &word, sizeof f);
        return f;
    case MF_DTYPE_F64:
        memcpy(&d, p, sizeof d);
        return (float)d;
    default:
        return (float)mf_tensor_integer(t, i);
    }
}

/* A number is finite unless all bits of its exponent are set. */
static bool halves_are_finite(const char *p, size_t n, uint16_t exponent)
{
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, p + 2 * i, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return !bad;
}

bool mf_floats_are_finite(const void *data, size_t n)
{
    const uint32_t exponent = 0x7F800000;
    const char *p = data;
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, p + 4 * i, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return !bad;
}

/* 16-bit floats without branches: both kinds are the upper bits of a float but for the bias of the
 * exponent, which a product puts right, subnormal numbers included. */
static void halves_to_floats(const char *p, size_t n, float *out)
{
    const float bias = 0x1p112f;
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, p + 2 * i, sizeof half);
        uint32_t bits = (uint32_t)(half & 0x7FFF) << 13, sign = (uint32_t)(half & 0x8000) << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        value *= bias;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
        memcpy(out + i, &bits, sizeof bits);
    }
}

static void bfloats_to_floats(const char *p, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, p + 2 * i, sizeof half);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(out + i, &bits, sizeof bits);
    }
}

bool mf_tensor_part_to_floats(const struct mf_tensor *tensor, size_t first, size_t n, float *out)
{
    const char *p = (const char *)tensor->data + first * mf_dtype_size(tensor->dtype);
    bool finite = true;
    switch (tensor->dtype) {
    case MF_DTYPE_F32:
        memcpy(out, p, n * sizeof *out);
        break;
    case MF_DTYPE_F16:
        finite = halves_are_finite(p, n, 0x7C00);
        halves_to_floats(p, n, out);
        break;
    case MF_DTYPE_BF16:
        bfloats_to_floats(p, n, out);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = element(tensor, first + i);
    }
    return finite && mf_floats_are_finite(out, n);
}

bool mf_tensor_to_floats(const struct mf_tensor *tensor, float *out)
{
    return mf_tensor_part_to_floats(tensor, 0, tensor->count, out);
}

bool mf_tensor_is_finite(const struct mf_tensor *tensor)
{
    switch (tensor->dtype) {
    case MF_DTYPE_F16:
        return halves_are_finite(tensor->data, tensor->count, 0x7C00);
    case MF_DTYPE_BF16:
        return halves_are_finite(tensor->data, tensor->count, 0x7F80);
    case MF_DTYPE_F32:
        return mf_floats_are_finite(tensor->data, tensor->count);
    default:
        break;
    }
    bool finite = true; /* F64: as a float, which is what it is used as */
    for (size_t i = 0; i < tensor->count; i++)
        finite &= isfinite(element(tensor, i)) != 0;
    return finite;
}

long long mf_tensor_integer(const struct mf_tensor *tensor, size_t i)
{
    const char *p = (const char *)tensor->data + i * mf_dtype_size(tensor->dtype);
    int64_t wide;
    int32_t narrow;
    switch (tensor->dtype) {
    case MF_DTYPE_I64:
        memcpy(&wide, p, sizeof wide);
        return wide;
    case MF_DTYPE_I32:
        memcpy(&narrow, p, sizeof narrow);
        return narrow;
    case MF_DTYPE_U8:
        return *(const unsigned char *)p;
    default: {
        float f = element(tensor, i);
        return f > -1e15f && f < 1e15f ? (long long)f : 0;
    }
    }
}
