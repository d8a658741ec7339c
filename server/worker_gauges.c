/* See worker_gauges.h. */
#include "server/worker_gauges.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct mf_worker_gauges *mf_worker_gauges_new(struct mf_error *err)
{
    void *all = mmap(NULL, MF_WORKER_GAUGES * sizeof(struct mf_worker_gauges),
                     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all != MAP_FAILED)
        return all;
    mf_error_set(err, MF_ERR_NO_MEMORY, "memory for the workers' metrics: %s", strerror(errno));
    return NULL;
}

struct mf_worker_gauges *mf_worker_gauges_take(struct mf_worker_gauges *all)
{
    for (size_t i = 0; all && i < MF_WORKER_GAUGES; i++)
        if (!all[i].taken) {
            all[i].taken = 1;
            return &all[i];
        }
    return NULL;
}

void mf_worker_gauges_leave(struct mf_worker_gauges *place)
{
    if (place)
        memset(place, 0, sizeof *place);
}
