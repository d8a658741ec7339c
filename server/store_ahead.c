/* Frames asked for ahead: see store_ahead.h. */
#include "server/store_ahead.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void mf_store_ahead_keep(struct mf_store_ahead *ahead, const char *job, int connection)
{
    if (ahead->count == MF_STORE_FRAMES_AHEAD)
        return;
    int copy = fcntl(connection, F_DUPFD_CLOEXEC, 3); /* never 0, which stands for none */
    if (copy < 0)
        return;
    memcpy(ahead->kept[ahead->count].job, job, MF_JOB_ID);
    ahead->kept[ahead->count++].connection = copy;
}

int mf_store_ahead_take(struct mf_store_ahead *ahead, const char *job)
{
    for (size_t i = 0; i < ahead->count; i++) {
        if (strcmp(ahead->kept[i].job, job) != 0)
            continue;
        int connection = ahead->kept[i].connection;
        ahead->kept[i] = ahead->kept[--ahead->count];
        return connection;
    }
    return 0;
}

void mf_store_ahead_drop(struct mf_store_ahead *ahead, const char *job)
{
    int connection = job ? mf_store_ahead_take(ahead, job) : 0;
    if (connection > 0)
        close(connection);
    while (!job && ahead->count > 0)
        close(ahead->kept[--ahead->count].connection);
}
