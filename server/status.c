/* Status page: see status.h. */
#include "server/status.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct mf_status *mf_status_new(struct mf_error *err)
{
    void *page = mmap(NULL, sizeof(struct mf_status), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "status page: %s", strerror(errno));
        return NULL;
    }
    return page;
}

static bool is_ready(const struct mf_status_process *process)
{
    return MF_STATUS_GET(&process->state) == MF_PROCESS_READY;
}

bool mf_status_ready(const struct mf_status *status)
{
    uint32_t workers = MF_STATUS_GET(&status->worker_count);
    if (MF_STATUS_GET(&status->draining) || !is_ready(&status->store) ||
        !is_ready(&status->front) || !is_ready(&status->zygote) || workers == 0)
        return false;
    for (uint32_t i = 0; i < workers && i < MF_STATUS_WORKERS; i++)
        if (!is_ready(&status->workers[i].process))
            return false;
    return true;
}
