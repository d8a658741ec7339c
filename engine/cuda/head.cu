/*
 * The head's entropy gradient in double (engine/trust/adapt.h has the formulas): a block a study,
 * its logits summed by threads and then by one of them in a fixed order. Many studies at once are
 * what a device is for: the calibration cases whose thresholds are bound to an adapted head.
 */
#include "engine/cuda/frame_kernels.h"
#include "engine/cuda/kernel.cuh"

enum { THREADS = 128 };

static __device__ __forceinline__ double normal_cdf(double y)
{
    return 0.5 * erfc(-y * 0.70710678118654752440);
}

static __device__ __forceinline__ double normal_density(double y)
{
    return 0.39894228040143267794 * exp(-0.5 * y * y);
}

/* h(σ(z)) = softplus(−|z|) + |z|·σ(−|z|) */
static __device__ __forceinline__ double binary_entropy(double z)
{
    double x = fabs(z), e = exp(-x);
    return log1p(e) + x * e / (1 + e);
}

static __device__ __forceinline__ double standardised(const mf_device_head &h, const double *u,
                                                      size_t i)
{
    return (u[i] - h.mean[i]) / sqrt(h.variance[i] + h.epsilon);
}

/* z[l] = b2[l] + Σ w2[l][i] · a[i], a (width) in shared memory: labels by threads. */
static __device__ __forceinline__ void finish(const mf_device_head &h, const double *a, double *z)
{
    __syncthreads();
    for (size_t l = threadIdx.x; l < h.labels; l += THREADS) {
        double sum = h.b2[l];
        for (size_t i = 0; i < h.width; i++)
            sum += h.w2[l * h.width + i] * a[i];
        z[l] = sum;
    }
    __syncthreads();
}

__global__ void gradient_kernel(mf_device_head h, const double *u, double scale, double *dgamma,
                                double *dbeta, double *loss)
{
    MF_SHARED(double, a); /* (width), then z (labels) */
    double *z = a + h.width;
    size_t b = blockIdx.x;
    u += b * h.width;
    for (size_t i = threadIdx.x; i < h.width; i += THREADS) {
        double y = h.gamma[i] * standardised(h, u, i) + h.beta[i];
        a[i] = y * normal_cdf(y);
    }
    finish(h, a, z);
    if (threadIdx.x == 0) {
        double sum = 0;
        for (size_t l = 0; l < h.labels; l++) {
            double e = exp(-fabs(z[l])); /* p·(1 − p), the same on both sides of 0 */
            sum += scale * binary_entropy(z[l]);
            z[l] = -scale * z[l] * e / ((1 + e) * (1 + e));
        }
        loss[b] = sum;
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < h.width; i += THREADS) {
        double x = standardised(h, u, i), y = h.gamma[i] * x + h.beta[i], sum = 0;
        for (size_t l = 0; l < h.labels; l++)
            sum += h.w2[l * h.width + i] * z[l];
        double delta = sum * (normal_cdf(y) + y * normal_density(y));
        dgamma[b * h.width + i] = delta * x;
        dbeta[b * h.width + i] = delta;
    }
}

extern "C" int mf_launch_head_gradient(void *stream, const struct mf_device_head *head,
                                       const double *u, size_t count, double scale, double *dgamma,
                                       double *dbeta, double *loss)
{
    size_t shared = (head->width + head->labels) * sizeof(double);
    int failed = shared > 48 << 10 ? MF_ALLOW_SHARED(gradient_kernel, shared) : 0;
    return failed ? failed
                  : MF_LAUNCH_TOGETHER(gradient_kernel, (unsigned)count, THREADS, shared, stream,
                                       *head, u, scale, dgamma, dbeta, loss);
}

static __device__ __forceinline__ double moved(double from, double by, double most)
{
    return from - fmin(fmax(by, -most), most);
}

__global__ void step_kernel(mf_device_head h, const double *u, double rate, double bound,
                            const double *dgamma, const double *dbeta, double *z)
{
    MF_SHARED(double, a); /* (width) */
    size_t b = blockIdx.x, row = b * h.width;
    for (size_t i = threadIdx.x; i < h.width; i += THREADS) {
        double most = bound * fabs(h.gamma[i]);
        double gamma = moved(h.gamma[i], rate * dgamma[row + i], most),
               beta = moved(h.beta[i], rate * dbeta[row + i], most);
        double y = gamma * standardised(h, u + row, i) + beta;
        a[i] = y * normal_cdf(y);
    }
    finish(h, a, z + b * h.labels);
}

extern "C" int mf_launch_head_step(void *stream, const struct mf_device_head *head, const double *u,
                                   size_t count, double rate, double bound, const double *dgamma,
                                   const double *dbeta, double *z)
{
    size_t shared = head->width * sizeof(double);
    int failed = shared > 48 << 10 ? MF_ALLOW_SHARED(step_kernel, shared) : 0;
    return failed ? failed
                  : MF_LAUNCH_TOGETHER(step_kernel, (unsigned)count, THREADS, shared, stream, *head,
                                       u, rate, bound, dgamma, dbeta, z);
}

__global__ void sum_kernel(const double *x, size_t count, size_t width, double *y)
{
    MF_EACH(i, width)
    {
        double sum = 0;
        for (size_t b = 0; b < count; b++)
            sum += x[b * width + i];
        y[i] = sum;
    }
}

extern "C" int mf_launch_head_sum(void *stream, const double *x, size_t count, size_t width,
                                  double *y)
{
    return MF_LAUNCH(sum_kernel, mf_blocks(width), MF_BLOCK, 0, stream, x, count, width, y);
}
