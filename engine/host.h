/* Work on the host, whatever the device: threads, and the vector kernels of the processor. */
#ifndef MF_ENGINE_HOST_H
#define MF_ENGINE_HOST_H

#include <stdbool.h>
#include <stddef.h>

/* Cores that this process may use. */
int mf_host_cores(void);

/* Runs body(arg, i) for i in [0, n) on up to `threads` threads. */
void mf_host_parallel(int threads, size_t n, void (*body)(void *arg, size_t i), void *arg);

/* out[x] = Σ weights[j] · rows[j][x] for x < n; added to out when `add`. */
void mf_host_weighted_sum(const float *const *rows, const float *weights, size_t count, size_t n,
                          bool add, float *out);

#endif
