/* See worker_device.h. */
#include "server/worker_device.h"

#include <stdio.h>
#include <string.h>

const char *mf_worker_device(const char *list, size_t number, char ret[MF_WORKER_DEVICE])
{
    size_t count = 1;
    for (const char *p = list; (p = strchr(p, ',')); p++)
        count++;
    for (number %= count; number > 0; number--)
        list = strchr(list, ',') + 1;
    snprintf(ret, MF_WORKER_DEVICE, "%.*s", (int)strcspn(list, ","), list);
    return ret[0] == '\0' || strcmp(ret, "auto") == 0 ? NULL : ret;
}

bool mf_worker_devices_check(const char *list, size_t count, struct mf_error *err)
{
    char one[MF_WORKER_DEVICE], other[MF_WORKER_DEVICE];
    for (size_t i = 1; i < count; i++) {
        if (!mf_worker_device(list, i, one) || strncmp(one, "cuda", 4) != 0)
            continue;
        for (size_t k = 0; k < i; k++)
            if (mf_worker_device(list, k, other) && strcmp(one, other) == 0)
                return mf_error_set(err, MF_ERR_USAGE,
                                    "worker.count: %zu workers, and worker.device names %s for two "
                                    "of them: a GPU takes one, which computes jobs together",
                                    count, one);
    }
    return true;
}
