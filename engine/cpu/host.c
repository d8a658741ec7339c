/* Host work (host.h): OpenMP threads and the best kernels. */
#include "engine/host.h"

#include "engine/cpu/backend.h"

#include <sched.h>

int mf_host_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set);
}

void mf_host_parallel(int threads, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
#else
    (void)threads;
#endif
    for (size_t i = 0; i < n; i++)
        body(arg, i);
}

void mf_host_weighted_sum(const float *const *rows, const float *weights, size_t count, size_t n,
                          bool add, float *out)
{
    mf_cpu_kernels_choose(NULL)->weighted_sum(rows, weights, count, n, add, out);
}
