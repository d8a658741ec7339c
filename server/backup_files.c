/* Backup: files (backup_files.h). */
#include "server/backup_files.h"

#include "core/auto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

static bool fail(const char *name, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "%s: %s", name, strerror(errno));
}

static bool write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno != EINTR)
            return false;
        data += written > 0 ? written : 0;
        n -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

/* From where the descriptors stand to the end of `in` as it is when it is reached. */
static bool copy_bytes(struct mf_backup_copier *c, const char *name, int in, int out,
                       struct mf_error *err)
{
    uint64_t since_step = 0;
    MF_AUTO(mf_mem) char *piece = malloc(PIECE);
    if (!piece)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a copy");
    for (;;) {
        ssize_t n = read(in, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || !write_all(out, piece, (size_t)n))
            return fail(name, err);
        if (n == 0)
            return true;
        c->bytes += (uint64_t)n;
        since_step += (uint64_t)n;
        if (since_step < MF_BACKUP_STEP)
            continue;
        since_step = 0;
        if (c->step && !c->step(c->context, err))
            return false;
    }
}

bool mf_backup_copy(struct mf_backup_copier *c, const char *name, bool *ret_absent,
                    struct mf_error *err)
{
    struct stat st;
    MF_AUTO(mf_fd) int in = openat(c->from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (ret_absent)
        *ret_absent = in < 0 && errno == ENOENT;
    if (in < 0 && errno == ENOENT && ret_absent)
        return true;
    if (in < 0 || fstat(in, &st) != 0)
        return fail(name, err);
    if (!S_ISREG(st.st_mode))
        return mf_error_set(err, MF_ERR_IO, "%s: is no regular file", name);
    MF_AUTO(mf_fd) int out = openat(c->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0)
        return fail(name, err);
    c->files++;
    return copy_bytes(c, name, in, out, err);
}

/* A stream over a directory that is open. NULL on failure. */
static DIR *list(int directory, struct mf_error *err)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        mf_error_set(err, MF_ERR_IO, "a directory cannot be read (%s)", strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    return dir;
}

/* The next name that is wanted and is a regular file's; NULL: there is no more. */
static const char *next(DIR *dir, bool (*wanted)(const char *name))
{
    struct stat st;
    const struct dirent *entry;
    while ((entry = readdir(dir)))
        if (wanted(entry->d_name) &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            return entry->d_name;
    return NULL;
}

bool mf_backup_each(int directory, bool (*wanted)(const char *name),
                    bool (*visit)(void *context, const char *name, struct mf_error *err),
                    void *context, struct mf_error *err)
{
    const char *name;
    bool ok = true;
    DIR *dir = list(directory, err);
    if (!dir)
        return false;
    while (ok && (name = next(dir, wanted)))
        ok = visit(context, name, err);
    closedir(dir);
    return ok;
}

static bool copy_or_gone(void *context, const char *name, struct mf_error *err)
{
    bool gone;
    return mf_backup_copy(context, name, &gone, err);
}

bool mf_backup_copy_all(struct mf_backup_copier *c, bool (*wanted)(const char *name),
                        struct mf_error *err)
{
    return mf_backup_each(c->from, wanted, copy_or_gone, c, err);
}

bool mf_backup_holds(int directory, bool (*wanted)(const char *name), bool *ret,
                     struct mf_error *err)
{
    DIR *dir = list(directory, err);
    if (!dir)
        return false;
    *ret = next(dir, wanted) != NULL;
    closedir(dir);
    return true;
}

int mf_backup_open(int parent, const char *name, bool make, bool *ret_absent, struct mf_error *err)
{
    if (make && mkdirat(parent, name, 0700) != 0 && errno != EEXIST) {
        fail(name, err);
        return -1;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ret_absent)
        *ret_absent = fd < 0 && errno == ENOENT;
    if (fd < 0 && !(ret_absent && *ret_absent))
        fail(name, err);
    return fd;
}

bool mf_backup_sync(int directory, struct mf_error *err)
{
    return syncfs(directory) == 0 ||
           mf_error_set(err, MF_ERR_IO, "what was copied cannot be synced (%s)", strerror(errno));
}
