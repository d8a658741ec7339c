/* Backup: a bucket's objects to files and back (backup_bucket.h). */
#include "server/backup_bucket.h"

#include "server/s3_client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fetching {
    struct mf_s3 *s3;
    struct mf_backup_copier *copier;
    bool (*wanted)(const char *name);
};

bool mf_backup_has_bucket(const struct mf_config *config)
{
    return strcmp(config->payloads.s3, "off") != 0;
}

static bool count(struct mf_backup_copier *copier, const char *name, int fd, struct mf_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", name, strerror(errno));
    copier->files++;
    copier->bytes += (uint64_t)st.st_size;
    return true;
}

static bool fetch(void *context, const char *name, struct mf_error *err)
{
    struct fetching *f = context;
    struct mf_error reason = MF_ERROR_INIT;
    const int to = f->copier->to;
    if (!f->wanted(name))
        return true;
    MF_AUTO(mf_fd) int file = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", name, strerror(errno));
    if (mf_s3_fetch(f->s3, name, file, &reason))
        return count(f->copier, name, file, err);
    if (reason.code == MF_ERR_NOT_FOUND) /* its job has been purged */
        return unlinkat(to, name, 0) == 0 ||
               mf_error_set(err, MF_ERR_IO, "%s: %s", name, strerror(errno));
    return mf_error_set(err, reason.code, "%s", reason.msg);
}

bool mf_backup_fetch(const struct mf_config *config, struct mf_backup_copier *copier,
                     bool (*wanted)(const char *name), struct mf_error *err)
{
    MF_AUTO(mf_s3) struct mf_s3 *s3 = mf_s3_new(config, err);
    return s3 && mf_s3_all(s3, fetch, &(struct fetching){s3, copier, wanted}, err);
}

static bool put(void *context, const char *name, struct mf_error *err)
{
    struct fetching *f = context;
    MF_AUTO(mf_fd) int file = openat(f->copier->from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (file < 0 || fstat(file, &st) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", name, strerror(errno));
    return mf_s3_put(f->s3, name, file, (uint64_t)st.st_size, err) &&
           count(f->copier, name, file, err);
}

bool mf_backup_put(const struct mf_config *config, struct mf_backup_copier *copier,
                   bool (*wanted)(const char *name), struct mf_error *err)
{
    MF_AUTO(mf_s3) struct mf_s3 *s3 = mf_s3_new(config, err);
    struct fetching f = {s3, copier, wanted};
    return s3 && mf_backup_each(copier->from, wanted, put, &f, err);
}
