/* `module run`: opens the directory, picks the network by model_type, reads the input and writes
 * the output. */
#include "engine/module.h"

#include "engine/module_io.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *model_type;
    bool (*run)(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io);
} MODULES[] = {
    {"dinov2", mf_module_vit},    {"dinov2_with_registers", mf_module_vit},
    {"vit", mf_module_vit},       {"sam2_vision_model", mf_module_hiera},
    {"sam2", mf_module_sam2},     {"sam2_video", mf_module_sam2},
    {"mamba", mf_module_mamba},   {"transformer", mf_module_temporal},
    {"none", mf_module_temporal}, {"ft_transformer", mf_module_ft},
    {"fusion", mf_module_fusion},
};

bool mf_module_bad(struct mf_module_io *io, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    mf_error_vset(io->err, MF_ERR_MALFORMED, fmt, ap);
    va_end(ap);
    return mf_error_prefix(io->err, "%s", io->input_name);
}

bool mf_module_has(const struct mf_module_io *io, const char *name)
{
    return mf_safetensors_find(io->input, name) != NULL;
}

static const struct mf_tensor *find(struct mf_module_io *io, const char *name, int rank,
                                    size_t *shape)
{
    const struct mf_tensor *t = mf_safetensors_find(io->input, name);
    if (!t || t->rank != rank) {
        mf_module_bad(io, t ? "tensor \"%s\" must have %d dimensions" : "tensor \"%s\" is missing",
                      name, rank);
        return NULL;
    }
    memcpy(shape, t->shape, (size_t)rank * sizeof *shape);
    if (t->count == 0) {
        mf_module_bad(io, "tensor \"%s\" is empty", name);
        return NULL;
    }
    return t;
}

float *mf_module_floats(struct mf_module_io *io, const char *name, int rank, size_t *shape)
{
    const struct mf_tensor *t = find(io, name, rank, shape);
    float *host = t ? mf_arena_alloc(io->arena, t->count, sizeof *host, io->err) : NULL;
    if (host)
        mf_tensor_to_floats(t, host);
    return host;
}

long long *mf_module_integers(struct mf_module_io *io, const char *name, int rank, size_t *shape)
{
    const struct mf_tensor *t = find(io, name, rank, shape);
    long long *host = t ? mf_arena_alloc(io->arena, t->count, sizeof *host, io->err) : NULL;
    for (size_t i = 0; host && i < t->count; i++)
        host[i] = mf_tensor_integer(t, i);
    return host;
}

bool mf_module_scalar(struct mf_module_io *io, const char *name, long long fallback, long long *ret)
{
    const struct mf_tensor *t = mf_safetensors_find(io->input, name);
    *ret = fallback;
    if (!t)
        return true;
    if (t->count != 1)
        return mf_module_bad(io, "tensor \"%s\" must have one element", name);
    *ret = mf_tensor_integer(t, 0);
    return true;
}

float *mf_module_output(struct mf_module_io *io, const char *name, int rank, const size_t *shape)
{
    struct mf_tensor *t = &io->outputs[io->output_count];
    if (io->output_count == MF_MODULE_OUTPUTS) {
        mf_error_set(io->err, MF_ERR_INTERNAL, "too many outputs");
        return NULL;
    }
    *t = (struct mf_tensor){.dtype = MF_DTYPE_F32, .rank = rank, .count = 1};
    for (int i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        t->count *= shape[i];
    }
    t->name = mf_arena_strdup(io->arena, name, io->err);
    float *host = t->name ? mf_arena_alloc(io->arena, t->count, sizeof *host, io->err) : NULL;
    t->data = host;
    io->output_count += host != NULL;
    return host;
}

void mf_module_download_maps(struct mf_exec *x, const float *maps, size_t cells, size_t c,
                             float *out)
{
    MF_AUTO(mf_mem) float *host = mf_exec_live(x) ? malloc(cells * c * sizeof *host) : NULL;
    if (!mf_exec_live(x))
        return;
    if (!host) {
        mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for an output");
        return;
    }
    MF_DO(x, download, host, maps, cells * c);
    for (size_t i = 0; i < cells; i++)
        for (size_t k = 0; k < c; k++)
            out[k * cells + i] = host[i * c + k];
}

static bool run(struct mf_weights *weights, struct mf_exec *x, struct mf_module_io *io)
{
    const char *type = mf_json_get_string(mf_weights_config(weights), "model_type", "");
    bool temporal = json_object_get(mf_weights_config(weights), "vision_hidden_size") != NULL;
    for (size_t i = 0; i < sizeof MODULES / sizeof *MODULES; i++) {
        if (strcmp(MODULES[i].model_type, type) != 0)
            continue;
        struct mf_loader ld;
        mf_loader_init(&ld, weights, x, io->arena, io->err);
        return temporal ? mf_module_temporal(x, &ld, io) : MODULES[i].run(x, &ld, io);
    }
    return mf_error_set(io->err, MF_ERR_MODEL,
                        "%s: config.json: model_type \"%.40s\" is not supported",
                        mf_weights_directory(weights), type);
}

bool mf_module_run(const char *dir, const char *input, const char *output,
                   const struct mf_module_options *options, struct mf_error *err)
{
    static const struct mf_module_options DEFAULTS = {0};
    options = options ? options : &DEFAULTS;
    MF_AUTO(mf_exec) struct mf_exec x = {0};
    if (!mf_exec_init(&x, options->device, options->dtype, options->threads, err) ||
        !mf_exec_kernels(&x, options->kernels, err))
        return false;
    MF_AUTO(mf_weights) struct mf_weights *weights = mf_weights_open(dir, err);
    if (!weights)
        return false;
    MF_AUTO(mf_safetensors) struct mf_safetensors *in = mf_safetensors_open(input, err);
    MF_AUTO(mf_arena) struct mf_arena *arena = in ? mf_arena_new((size_t)4 << 30) : NULL;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    struct mf_module_io io = {.input = in, .input_name = input, .arena = arena, .err = err};
    return run(weights, &x, &io) && mf_safetensors_write(output, io.outputs, io.output_count, err);
}
