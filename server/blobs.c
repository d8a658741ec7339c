/* Payloads in a directory: <data>/payloads/<32 hex digits>, one file per pack; deleting, sweeping.
 */
#include "server/blobs_private.h"

#include "server/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { SWEEP_BATCH = 256 };

struct mf_blobs *mf_blobs_open(const char *directory, uint64_t min_free, struct mf_error *err)
{
    MF_AUTO(mf_blobs) struct mf_blobs *blobs = calloc(1, sizeof *blobs);
    if (!blobs) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the payload directory");
        return NULL;
    }
    blobs->dir = -1;
    blobs->min_free = min_free;
    (void)mkdir(directory, 0700); /* there already, or opening it tells why not */
    MF_AUTO(mf_fd) int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || (mkdirat(parent, "payloads", 0700) < 0 && errno != EEXIST) ||
        fsync(parent) < 0) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot create the payload directory (%s)", directory,
                     strerror(errno));
        return NULL;
    }
    blobs->dir = openat(parent, "payloads", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (blobs->dir < 0) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot open the payload directory (%s)", directory,
                     strerror(errno));
        return NULL;
    }
    blobs->contents = mf_syncer_new(err);
    blobs->names = blobs->contents ? mf_syncer_new(err) : NULL;
    blobs->spare = blobs->names ? calloc(1, sizeof(struct mf_pack *)) : NULL;
    if (blobs->names && !blobs->spare)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the payload directory");
    return blobs->spare ? MF_STEAL(blobs) : NULL;
}

void mf_blobs_free(struct mf_blobs *blobs)
{
    if (!blobs)
        return;
    if (blobs->spare)
        mf_pack_drop_spare(blobs);
    free(blobs->spare);
    mf_syncer_free(blobs->contents);
    mf_syncer_free(blobs->names);
    if (blobs->dir >= 0)
        close(blobs->dir);
    free(blobs);
}

int mf_blobs_open_pack(const struct mf_blobs *blobs, const char *name, struct mf_error *err)
{
    if (!mf_job_id_valid(name)) {
        mf_error_set(err, MF_ERR_NOT_FOUND, "payload: not a name that was given out");
        return -1;
    }
    int fd = openat(blobs->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "payload %s: %s", name,
                     strerror(errno));
    return fd;
}

bool mf_blobs_delete(const struct mf_blobs *blobs, const char *name, struct mf_error *err)
{
    if (!mf_job_id_valid(name))
        return mf_error_set(err, MF_ERR_NOT_FOUND, "payload: not a name that was given out");
    if (unlinkat(blobs->dir, name, 0) < 0 && errno != ENOENT)
        return mf_error_set(err, MF_ERR_IO, "payload %s: cannot be deleted (%s)", name,
                            strerror(errno));
    return true;
}

bool mf_blobs_have_room(const struct mf_blobs *blobs, uint64_t expected, struct mf_error *err)
{
    struct statvfs fs;
    if (fstatvfs(blobs->dir, &fs) < 0)
        return mf_error_set(err, MF_ERR_IO, "payload directory: %s", strerror(errno));
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room < blobs->min_free || room - blobs->min_free < expected)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the disk has no room for this upload; try again later");
    return true;
}

/* --- sweep --- */

struct sweep {
    const struct mf_blobs *blobs;
    char names[SWEEP_BATCH][MF_BLOB_NAME];
    const char *list[SWEEP_BATCH];
    bool used[SWEEP_BATCH];
    size_t count, deleted;
};

typedef bool (*used_fn)(void *context, const char *const *names, size_t n, bool *ret_used,
                        struct mf_error *err);

static bool sweep_batch(struct sweep *s, used_fn used, void *context, struct mf_error *err)
{
    if (s->count > 0 && !used(context, s->list, s->count, s->used, err))
        return false;
    for (size_t i = 0; i < s->count; i++) {
        if (s->used[i])
            continue;
        if (!mf_blobs_delete(s->blobs, s->names[i], err))
            return false;
        s->deleted++;
    }
    s->count = 0;
    return true;
}

static bool old_enough(const struct mf_blobs *blobs, const char *name, time_t before)
{
    struct stat st;
    return mf_job_id_valid(name) && fstatat(blobs->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && st.st_mtime <= before;
}

bool mf_blobs_sweep(const struct mf_blobs *blobs, int64_t min_age_s, used_fn used, void *context,
                    size_t *ret_deleted, struct mf_error *err)
{
    MF_AUTO(mf_mem) struct sweep *s = calloc(1, sizeof *s);
    int fd = openat(blobs->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!s || !dir) {
        if (fd >= 0 && !dir)
            close(fd);
        if (dir)
            closedir(dir);
        return mf_error_set(err, MF_ERR_IO, "payload directory: cannot be read");
    }
    s->blobs = blobs;
    mf_pack_drop_spare(blobs); /* it would look abandoned; one that is taken looks new */
    time_t before = time(NULL) - (time_t)min_age_s;
    bool ok = true;
    const struct dirent *entry;
    while (ok && (entry = readdir(dir))) {
        if (!old_enough(blobs, entry->d_name, before))
            continue;
        memcpy(s->names[s->count], entry->d_name, MF_BLOB_NAME);
        s->list[s->count] = s->names[s->count];
        if (++s->count == SWEEP_BATCH)
            ok = sweep_batch(s, used, context, err);
    }
    ok = ok && sweep_batch(s, used, context, err);
    *ret_deleted = s->deleted;
    closedir(dir);
    return ok;
}
