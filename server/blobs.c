/* Payloads in a directory: <data>/payloads/<32 hex digits>, one file per pack, or in a bucket, one
 * object per pack; deleting, sweeping. */
#include "server/blobs_private.h"

#include "server/config.h"
#include "server/sealed_pack.h"
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

enum { SWEEP_BATCH = 256, SYNCS_AT_ONCE = 4, DIGESTS_AT_ONCE = 2 };

/* Opens a directory below another one; both are created. */
static int open_below(const char *directory, const char *name, struct mf_error *err)
{
    (void)mkdir(directory, 0700); /* there already, or opening it tells why not */
    MF_AUTO(mf_fd) int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || (mkdirat(parent, name, 0700) < 0 && errno != EEXIST) || fsync(parent) < 0) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot create the payload directory (%s)", directory,
                     strerror(errno));
        return -1;
    }
    const int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        mf_error_set(err, MF_ERR_IO, "%s: cannot open the payload directory (%s)", directory,
                     strerror(errno));
    return dir;
}

/* `staging`: a bucket keeps them. */
static struct mf_blobs *open_blobs(const char *directory, const char *keys, uint64_t min_free,
                                   bool staging, struct mf_error *err)
{
    struct mf_error unreadable = MF_ERROR_INIT;
    MF_AUTO(mf_blobs) struct mf_blobs *blobs = calloc(1, sizeof *blobs);
    if (!blobs) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the payload directory");
        return NULL;
    }
    blobs->dir = blobs->before = -1;
    blobs->min_free = min_free;
    blobs->vault = mf_vault_open(keys, &unreadable);
    if (unreadable.code != MF_OK) {
        mf_error_set(err, unreadable.code, "data.keys: %s", unreadable.msg);
        return NULL;
    }
    blobs->dir = open_below(directory, staging ? "staging" : "payloads", err);
    if (blobs->dir < 0 || (staging && (blobs->before = open_below(directory, "payloads", err)) < 0))
        return NULL;
    blobs->contents = mf_syncer_new(SYNCS_AT_ONCE, err);
    blobs->names = blobs->contents ? mf_syncer_new(1, err) : NULL;
    blobs->digests = blobs->names ? mf_syncer_new(DIGESTS_AT_ONCE, err) : NULL;
    blobs->spares = blobs->digests ? calloc(MF_PACK_SPARES, sizeof(struct mf_pack *)) : NULL;
    if (blobs->digests && !blobs->spares)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the payload directory");
    return blobs->spares ? MF_STEAL(blobs) : NULL;
}

struct mf_blobs *mf_blobs_open(const char *directory, const char *keys, uint64_t min_free,
                               struct mf_error *err)
{
    return open_blobs(directory, keys, min_free, false, err);
}

struct mf_blobs *mf_blobs_open_configured(const struct mf_config *config, uint64_t min_free,
                                          struct mf_error *err)
{
    const bool bucket = strcmp(config->payloads.s3, "off") != 0;
    MF_AUTO(mf_blobs)
    struct mf_blobs *blobs =
        open_blobs(config->data.directory, config->data.keys, min_free, bucket, err);
    if (!blobs || (bucket && !(blobs->s3 = mf_s3_new(config, err))))
        return NULL;
    return MF_STEAL(blobs);
}

void mf_blobs_free(struct mf_blobs *blobs)
{
    if (!blobs)
        return;
    if (blobs->spares)
        mf_pack_drop_spares(blobs);
    free(blobs->spares);
    mf_syncer_free(blobs->contents);
    mf_syncer_free(blobs->names);
    mf_syncer_free(blobs->digests);
    mf_s3_free(blobs->s3);
    if (blobs->dir >= 0)
        close(blobs->dir);
    if (blobs->before >= 0)
        close(blobs->before);
    mf_vault_free(blobs->vault);
    free(blobs);
}

int mf_blobs_open_pack(const struct mf_blobs *blobs, const char *name, struct mf_error *err)
{
    return mf_blobs_open_part(blobs, name, 0, UINT64_MAX, err);
}

static int open_file(int dir, const char *name, struct mf_error *err)
{
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "payload %s: %s", name,
                     strerror(errno));
    return fd;
}

/* What is needed of an object for these bytes of the pack. */
static int fetch(const struct mf_blobs *blobs, const char *name, uint64_t offset, uint64_t size,
                 struct mf_error *err)
{
    struct mf_s3_range ranges[MF_SEALED_RANGES] = {{.offset = offset, .size = size}};
    size_t n = 1;
    if (size < UINT64_MAX && blobs->vault)
        n = mf_sealed_ranges(offset, size, ranges);
    else if (size == UINT64_MAX)
        ranges[0].offset = 0;
    return mf_s3_get(blobs->s3, name, ranges, n, err);
}

int mf_blobs_open_part(const struct mf_blobs *blobs, const char *name, uint64_t offset,
                       uint64_t size, struct mf_error *err)
{
    struct mf_error absent = MF_ERROR_INIT;
    if (!mf_job_id_valid(name)) {
        mf_error_set(err, MF_ERR_NOT_FOUND, "payload: not a name that was given out");
        return -1;
    }
    int fd = open_file(blobs->s3 ? blobs->before : blobs->dir, name, &absent);
    if (fd < 0 && blobs->s3 && absent.code == MF_ERR_NOT_FOUND)
        fd = fetch(blobs, name, offset, size, err);
    else if (fd < 0)
        mf_error_set(err, absent.code, "%s", absent.msg);
    if (fd < 0 || !blobs->vault)
        return fd;
    int plain = mf_sealed_open(blobs->vault, name, fd, offset, size, err);
    close(fd);
    return plain;
}

bool mf_blobs_delete(const struct mf_blobs *blobs, const char *name, struct mf_error *err)
{
    if (!mf_job_id_valid(name))
        return mf_error_set(err, MF_ERR_NOT_FOUND, "payload: not a name that was given out");
    if (unlinkat(blobs->s3 ? blobs->before : blobs->dir, name, 0) < 0 && errno != ENOENT)
        return mf_error_set(err, MF_ERR_IO, "payload %s: cannot be deleted (%s)", name,
                            strerror(errno));
    return !blobs->s3 || mf_s3_delete(blobs->s3, name, err);
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

typedef bool (*used_fn)(void *context, const char *const *names, size_t n, bool *ret_used,
                        struct mf_error *err);

struct sweep {
    const struct mf_blobs *blobs;
    used_fn used_by;
    void *context;
    char names[SWEEP_BATCH][MF_BLOB_NAME];
    const char *list[SWEEP_BATCH];
    bool used[SWEEP_BATCH];
    size_t count, deleted;
};

static bool sweep_batch(struct sweep *s, struct mf_error *err)
{
    if (s->count > 0 && !s->used_by(s->context, s->list, s->count, s->used, err))
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

static bool old_enough(int dir, const char *name, time_t before)
{
    struct stat st;
    return mf_job_id_valid(name) && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && st.st_mtime <= before;
}

/* Calls `visit` for each pack of a directory from before then. */
static bool each_file(int dir, time_t before,
                      bool (*visit)(void *context, const char *name, struct mf_error *err),
                      void *context, struct mf_error *err)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && !list)
        close(fd);
    if (!list)
        return mf_error_set(err, MF_ERR_IO, "payload directory: cannot be read");
    bool ok = true;
    const struct dirent *entry;
    while (ok && (entry = readdir(list)))
        if (old_enough(dir, entry->d_name, before))
            ok = visit(context, entry->d_name, err);
    closedir(list);
    return ok;
}

/* What a killed process left of an upload that the bucket has, or has not. */
static bool drop_staged(void *context, const char *name, struct mf_error *err)
{
    const struct mf_blobs *blobs = context;
    return unlinkat(blobs->dir, name, 0) == 0 || errno == ENOENT ||
           mf_error_set(err, MF_ERR_IO, "payload %s: cannot be deleted (%s)", name,
                        strerror(errno));
}

static bool note(void *context, const char *name, struct mf_error *err)
{
    struct sweep *s = context;
    if (!mf_job_id_valid(name)) /* not ours */
        return true;
    memcpy(s->names[s->count], name, MF_BLOB_NAME);
    s->list[s->count] = s->names[s->count];
    return ++s->count < SWEEP_BATCH || sweep_batch(s, err);
}

bool mf_blobs_sweep(const struct mf_blobs *blobs, int64_t min_age_s, used_fn used, void *context,
                    size_t *ret_deleted, struct mf_error *err)
{
    MF_AUTO(mf_mem) struct sweep *s = calloc(1, sizeof *s);
    const time_t before = time(NULL) - (time_t)min_age_s;
    if (!s)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for payloads");
    s->blobs = blobs;
    s->used_by = used;
    s->context = context;
    mf_pack_drop_spares(blobs); /* they would look abandoned; one that is taken looks new */
    bool ok = each_file(blobs->s3 ? blobs->before : blobs->dir, before, note, s, err);
    if (blobs->s3)
        ok = ok && each_file(blobs->dir, before, drop_staged, (void *)blobs, err) &&
             mf_s3_each(blobs->s3, min_age_s, note, s, err);
    ok = ok && sweep_batch(s, err);
    *ret_deleted = s->deleted;
    return ok;
}
