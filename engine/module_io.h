/* Inputs and outputs of `module run`: named tensors of a safetensors file as host floats. Private
 * to engine/module*.c. */
#ifndef MF_ENGINE_MODULE_IO_H
#define MF_ENGINE_MODULE_IO_H

#include "engine/net/net.h"

enum { MF_MODULE_OUTPUTS = 16 };

struct mf_module_io {
    struct mf_safetensors *input;
    const char *input_name;
    struct mf_arena *arena; /* holds everything read and computed */
    struct mf_tensor outputs[MF_MODULE_OUTPUTS];
    size_t output_count;
    struct mf_error *err;
};

/* Whether the input has this tensor. */
bool mf_module_has(const struct mf_module_io *io, const char *name);
/* A tensor of this rank as floats; shape filled. NULL and an error when it is missing or of another
 * rank. */
float *mf_module_floats(struct mf_module_io *io, const char *name, int rank, size_t *shape);
/* The same as whole numbers. */
long long *mf_module_integers(struct mf_module_io *io, const char *name, int rank, size_t *shape);
/* A one-element tensor, or the fallback. */
bool mf_module_scalar(struct mf_module_io *io, const char *name, long long fallback,
                      long long *ret);
/* Host memory of an output; NULL on failure. The shape has `rank` sizes. */
float *mf_module_output(struct mf_module_io *io, const char *name, int rank, const size_t *shape);
/* Copies device maps (cells, c) to the host as (c, cells). */
void mf_module_download_maps(struct mf_exec *x, const float *maps, size_t cells, size_t c,
                             float *out);
/* An error about the input. Always false. */
bool mf_module_bad(struct mf_module_io *io, const char *fmt, ...) MF_PRINTF(2, 3);

/* One per kind of module: loads from `ld`, runs, adds its outputs. */
bool mf_module_vit(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_hiera(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_sam2(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_stack(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_mamba(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_temporal(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_ft(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
bool mf_module_fusion(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);

#endif
