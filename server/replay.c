/* Used ids: a list of digests, and a file of the same records, appended to and synced. */
#include "server/replay.h"

#include "core/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 1 << 16, PATH_BYTES = 4096 };

struct used {
    unsigned char digest[MF_SHA256_BYTES];
    int64_t expires;
};

struct mf_replay {
    pthread_mutex_t lock;
    int fd;
    struct used *list; /* MOST of them */
    size_t count;
    off_t seen; /* bytes of the file that are in the list, or have expired */
};

static bool fail(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "the file of used token ids: %s", strerror(errno));
}

static void drop_expired(struct mf_replay *r, int64_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->count; i++)
        if (r->list[i].expires > now)
            r->list[kept++] = r->list[i];
    r->count = kept;
}

/* Writes the file anew with what is in the list. */
static bool rewrite(struct mf_replay *r, struct mf_error *err)
{
    size_t size = r->count * sizeof *r->list;
    if (ftruncate(r->fd, 0) != 0 || (size && write(r->fd, r->list, size) != (ssize_t)size) ||
        fdatasync(r->fd) != 0)
        return fail(err);
    r->seen = (off_t)size;
    return true;
}

/* Reads what another process has added; during a reload there are two fronts. One that wrote the
 * file anew left out only what has expired. */
static bool read_on(struct mf_replay *r, struct mf_error *err)
{
    struct stat st;
    if (fstat(r->fd, &st) != 0)
        return fail(err);
    if (st.st_size < r->seen) {
        r->count = 0;
        r->seen = 0;
    }
    while (r->count < MOST &&
           pread(r->fd, &r->list[r->count], sizeof *r->list, r->seen) == (ssize_t)sizeof *r->list) {
        r->count++;
        r->seen += (off_t)sizeof *r->list;
    }
    return true;
}

static bool load(struct mf_replay *r, int64_t now, struct mf_error *err)
{
    if (flock(r->fd, LOCK_EX) != 0)
        return fail(err);
    bool ok = read_on(r, err);
    drop_expired(r, now);
    ok = ok && rewrite(r, err);
    flock(r->fd, LOCK_UN);
    return ok;
}

struct mf_replay *mf_replay_open(const char *directory, int64_t now, struct mf_error *err)
{
    char path[PATH_BYTES];
    MF_AUTO(mf_replay) struct mf_replay *r = calloc(1, sizeof *r);
    if (r) {
        pthread_mutex_init(&r->lock, NULL);
        r->fd = -1;
        r->list = calloc(MOST, sizeof *r->list);
    }
    if (!r || !r->list) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for token ids");
        return NULL;
    }
    snprintf(path, sizeof path, "%s/used-tokens", directory);
    r->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (r->fd < 0)
        fail(err);
    if (r->fd < 0 || !load(r, now, err))
        return NULL;
    return MF_STEAL(r);
}

void mf_replay_close(struct mf_replay *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    pthread_mutex_destroy(&r->lock);
    free(r->list);
    free(r);
}

static bool remember(struct mf_replay *r, const struct used *u, int64_t now, struct mf_error *err)
{
    if (!read_on(r, err))
        return false;
    for (size_t i = 0; i < r->count; i++)
        if (memcmp(r->list[i].digest, u->digest, sizeof u->digest) == 0 && r->list[i].expires > now)
            return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token was used before (jti)");
    if (r->count == MOST) {
        drop_expired(r, now);
        if (r->count == MOST)
            return mf_error_set(err, MF_ERR_BUSY, "too many tokens were asked for");
        if (!rewrite(r, err))
            return false;
    }
    if (write(r->fd, u, sizeof *u) != (ssize_t)sizeof *u || fdatasync(r->fd) != 0)
        return fail(err);
    r->list[r->count++] = *u;
    r->seen += (off_t)sizeof *u;
    return true;
}

bool mf_replay_use(struct mf_replay *r, const char *owner, const char *id, int64_t now,
                   int64_t expires, struct mf_error *err)
{
    struct used u = {.expires = expires};
    MF_AUTO(mf_sha256) struct mf_sha256 *hash = mf_sha256_new();
    if (!hash)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for token ids");
    mf_sha256_update(hash, owner, strlen(owner) + 1);
    mf_sha256_update(hash, id, strlen(id));
    mf_sha256_final(hash, u.digest);
    pthread_mutex_lock(&r->lock);
    bool ok = flock(r->fd, LOCK_EX) == 0 ? remember(r, &u, now, err) : fail(err);
    flock(r->fd, LOCK_UN);
    pthread_mutex_unlock(&r->lock);
    return ok;
}
