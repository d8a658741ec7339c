/*
 * safetensors files: 8 bytes of header length (little endian), a JSON header, then raw tensors.
 * Files come from outside, so everything is checked before anything is used: header at most 1 MB,
 * offsets contiguous from 0 without holes or overlaps, sizes by checked multiplication, last end =
 * end of file, no duplicate keys.
 */
#ifndef MF_ENGINE_SAFETENSORS_H
#define MF_ENGINE_SAFETENSORS_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_dtype {
    MF_DTYPE_F32,
    MF_DTYPE_F16,
    MF_DTYPE_BF16,
    MF_DTYPE_F64,
    MF_DTYPE_I64,
    MF_DTYPE_I32,
    MF_DTYPE_U8, /* also BOOL */
    MF_DTYPE_COUNT
};

enum { MF_TENSOR_RANK = 6 };

struct mf_tensor {
    const char *name; /* borrowed from the file */
    enum mf_dtype dtype;
    int rank;
    size_t shape[MF_TENSOR_RANK];
    size_t count;     /* product of the shape */
    const void *data; /* little endian; may be unaligned */
};

struct mf_safetensors;

/* Maps a file. The tensors live as long as the object. MF_ERR_MALFORMED with the file's name when
 * it breaks a rule. */
struct mf_safetensors *mf_safetensors_open(const char *path, struct mf_error *err) MF_CHECK_RESULT;
/* The same over bytes that the caller keeps. */
struct mf_safetensors *mf_safetensors_parse(const void *data, size_t len, const char *name,
                                            struct mf_error *err) MF_CHECK_RESULT;
void mf_safetensors_free(struct mf_safetensors *file);

size_t mf_safetensors_count(const struct mf_safetensors *file);
const struct mf_tensor *mf_safetensors_at(const struct mf_safetensors *file, size_t index);
const struct mf_tensor *mf_safetensors_find(const struct mf_safetensors *file, const char *name);
/* Lets the kernel drop the file's pages; they are read again when touched. */
void mf_safetensors_forget(const struct mf_safetensors *file);
/* The same for the pages of one tensor, if it is one of this file's. */
void mf_safetensors_forget_tensor(const struct mf_safetensors *file,
                                  const struct mf_tensor *tensor);

/* Writes a file with these tensors, in this order (data in host order, which must be little
 * endian). */
bool mf_safetensors_write(const char *path, const struct mf_tensor *tensors, size_t count,
                          struct mf_error *err);

size_t mf_dtype_size(enum mf_dtype dtype);
const char *mf_dtype_name(enum mf_dtype dtype);
/* Converts all elements to float; false when one is not finite. */
bool mf_tensor_to_floats(const struct mf_tensor *tensor, float *out);
/* The same for elements [first, first + n). */
bool mf_tensor_part_to_floats(const struct mf_tensor *tensor, size_t first, size_t n, float *out);
/* Whether n floats at any address are finite. */
bool mf_floats_are_finite(const void *data, size_t n);
/* Whether all elements are finite (integers always are). */
bool mf_tensor_is_finite(const struct mf_tensor *tensor);
/* Element `i` of an integer tensor. */
long long mf_tensor_integer(const struct mf_tensor *tensor, size_t i);
/* "(3, 224, 224)" */
const char *mf_shape_text(const size_t *shape, int rank, char out[96]);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_safetensors, struct mf_safetensors *, mf_safetensors_free(*p))

#endif
