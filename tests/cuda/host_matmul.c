/* Plain loops in cuBLASLt's place (engine/cuda/matmul.h), with its rules for what may be asked. */
#include "engine/cuda/matmul.h"

#include <stdlib.h>
#include <string.h>

struct mf_matmuls {
    struct mf_gpu *gpu;
};

struct mf_matmul {
    struct mf_matmuls *all;
    struct mf_matmul_shape shape;
};

struct mf_matmuls *mf_matmuls_new(struct mf_gpu *gpu, struct mf_error *err)
{
    struct mf_matmuls *all = calloc(1, sizeof *all);
    if (all)
        all->gpu = gpu;
    else
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return all;
}

void mf_matmuls_free(struct mf_matmuls *all)
{
    free(all);
}

struct mf_matmul *mf_matmul_new(struct mf_matmuls *all, const struct mf_matmul_shape *shape,
                                struct mf_error *err)
{
    struct mf_matmul *p = calloc(1, sizeof *p);
    if (!p) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    p->all = all;
    p->shape = *shape;
    return p;
}

void mf_matmul_free(struct mf_matmul *plan)
{
    free(plan);
}

static float from_half(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float dot(const struct mf_matmul_shape *s, const void *x, const void *weight, size_t i,
                 size_t j)
{
    double sum = 0;
    const uint16_t *a = (const uint16_t *)x + i * s->x_row;
    const uint16_t *b = (const uint16_t *)weight + j * s->weight_row;
    const float *fa = (const float *)x + i * s->x_row;
    const float *fb = (const float *)weight + j * s->weight_row;
    if (s->half)
        for (size_t k = 0; k < s->in; k++)
            sum += (double)from_half(a[k]) * from_half(b[k]);
    else
        for (size_t k = 0; k < s->in; k++)
            sum += (double)fa[k] * fb[k];
    return (float)sum;
}

void mf_matmul_run(struct mf_matmul *p, const void *x, const void *weight, const void *bias,
                   void *y)
{
    const struct mf_matmul_shape *s = &p->shape;
    if (s->half && ((uintptr_t)x % 16 || s->x_row % 8))
        mf_gpu_note(p->all->gpu, 1, "multiplying arrays that are not aligned");
    for (size_t i = 0; i < s->m; i++)
        for (size_t j = 0; j < s->out; j++) {
            float v = dot(s, x, weight, i, j), *to = (float *)y + i * s->out + j;
            if (s->bias)
                v +=
                    s->half_out ? from_half(((const uint16_t *)bias)[j]) : ((const float *)bias)[j];
            v += s->add ? *to : 0;
            v = s->relu && v < 0 ? 0 : v;
            if (s->half_out)
                ((uint16_t *)y)[i * s->out + j] = to_half(v);
            else
                *to = v;
        }
}
