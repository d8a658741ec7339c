/* A data directory and its keys: see vault_directory.h. */
#include "server/vault_directory.h"

#include "server/sealed_pack.h"
#include "server/store.h"
#include "server/store_key.h"
#include "server/store_sqlite_pages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, COPY_BYTES = 1 << 20 };

static const char TEMPORARY[] = "sealing", PLAIN_MAGIC[16] = "SQLite format 3";

static bool fail(const char *directory, const char *what, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "%s/%s: %s", directory, what, strerror(errno));
}

/* Calls `visit` for each pack; a directory without packs has none. */
static bool each_pack(const char *directory,
                      bool (*visit)(void *context, int payloads, const char *name,
                                    struct mf_error *err),
                      void *context, struct mf_error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/payloads", directory);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT || fail(directory, "payloads", err);
    bool ok = true;
    const struct dirent *entry;
    while (ok && (entry = readdir(dir)))
        if (mf_job_id_valid(entry->d_name))
            ok = visit(context, dirfd(dir), entry->d_name, err);
    closedir(dir);
    return ok;
}

/* The database in plain (true), or none, or an encrypted one. */
static bool database_is_plain(const char *directory)
{
    char path[PATH_BYTES], begin[sizeof PLAIN_MAGIC];
    snprintf(path, sizeof path, "%s/store.db", directory);
    MF_AUTO(mf_file) FILE *file = fopen(path, "re");
    return file && fread(begin, 1, sizeof begin, file) == sizeof begin &&
           memcmp(begin, PLAIN_MAGIC, sizeof begin) == 0;
}

/* --- counting --- */

struct counting {
    struct mf_vault_use *uses;
    size_t *count;
};

static struct mf_vault_use *use_of(const struct counting *c, const char *id)
{
    for (size_t i = 0; i < *c->count; i++)
        if (strcmp(c->uses[i].id, id) == 0)
            return &c->uses[i];
    if (*c->count == MF_VAULT_USES)
        return &c->uses[MF_VAULT_USES - 1];
    struct mf_vault_use *use = &c->uses[(*c->count)++];
    *use = (struct mf_vault_use){.packs = 0};
    snprintf(use->id, sizeof use->id, "%s", id);
    return use;
}

static bool count_pack(void *context, int payloads, const char *name, struct mf_error *err)
{
    char id[MF_VAULT_ID];
    MF_AUTO(mf_fd) int fd = openat(payloads, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || fail("payloads", name, err); /* deleted meanwhile */
    use_of(context, mf_sealed_is(fd, id) ? id : "")->packs++;
    return true;
}

bool mf_vault_directory_uses(const char *directory, struct mf_vault_use uses[MF_VAULT_USES],
                             size_t *ret_count, struct mf_error *err)
{
    struct counting c = {uses, ret_count};
    char id[MF_VAULT_ID];
    *ret_count = 0;
    if (!each_pack(directory, count_pack, &c, err))
        return false;
    if (database_is_plain(directory))
        use_of(&c, "")->database = true;
    else if (mf_store_key_wrapped_by(directory, id))
        use_of(&c, id)->database = true;
    return true;
}

/* --- wrapping anew --- */

struct changing {
    const struct mf_vault *vault;
    size_t *changed;
};

static bool rewrap_pack(void *context, int payloads, const char *name, struct mf_error *err)
{
    const struct changing *c = context;
    char id[MF_VAULT_ID];
    bool changed = false;
    MF_AUTO(mf_fd) int fd = openat(payloads, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || fail("payloads", name, err);
    if (!mf_sealed_is(fd, id))
        return true;
    bool ok = mf_sealed_rewrap(c->vault, name, fd, &changed, err);
    *c->changed += changed;
    return ok;
}

bool mf_vault_directory_rewrap(const struct mf_vault *vault, const char *directory,
                               size_t *ret_changed, struct mf_error *err)
{
    struct changing c = {vault, ret_changed};
    bool changed = false;
    *ret_changed = 0;
    if (!each_pack(directory, rewrap_pack, &c, err) ||
        !mf_store_key_rewrap(vault, directory, &changed, err))
        return false;
    *ret_changed += changed;
    return true;
}

/* --- encrypting --- */

static bool copy_sealed(const struct mf_vault *vault, const char *name, int from, int to,
                        struct mf_error *err)
{
    MF_AUTO(mf_sealer) struct mf_sealer *sealer = mf_sealer_new(vault, name, to, err);
    MF_AUTO(mf_mem) char *buffer = malloc(COPY_BYTES);
    ssize_t n = -1;
    if (!sealer || !buffer)
        return sealer ? mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory") : false;
    while ((n = read(from, buffer, COPY_BYTES)) > 0)
        if (!mf_sealer_write(sealer, buffer, (size_t)n, err))
            return false;
    return n == 0 ? mf_sealer_finish(sealer, err) : fail("payloads", name, err);
}

static bool seal_pack(void *context, int payloads, const char *name, struct mf_error *err)
{
    const struct changing *c = context;
    char id[MF_VAULT_ID];
    MF_AUTO(mf_fd) int from = openat(payloads, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0)
        return fail("payloads", name, err);
    if (mf_sealed_is(from, id))
        return true;
    MF_AUTO(mf_fd)
    int to = openat(payloads, TEMPORARY, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0)
        return fail("payloads", TEMPORARY, err);
    if (!copy_sealed(c->vault, name, from, to, err))
        return false;
    if (fsync(to) != 0 || renameat(payloads, TEMPORARY, payloads, name) != 0 ||
        fsync(payloads) != 0)
        return fail("payloads", name, err);
    ++*c->changed;
    return true;
}

static bool copy_pages(sqlite3 *from, sqlite3 *to)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    return backup && sqlite3_backup_step(backup, -1) == SQLITE_DONE &&
           sqlite3_backup_finish(backup) == SQLITE_OK;
}

/* Copies the plain database (with what is in its log) page by page. */
static bool copy_database(const char *path, const char *sealed, const unsigned char key[MF_GCM_KEY],
                          struct mf_error *err)
{
    sqlite3 *from = NULL, *to = NULL;
    MF_AUTO(mf_sqlite_pages) struct mf_sqlite_pages *pages = mf_sqlite_pages_new(key, err);
    if (!pages)
        return false;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    bool ok = sqlite3_open_v2(path, &from, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
              sqlite3_open_v2(sealed, &to, flags, mf_sqlite_pages_vfs(pages)) == SQLITE_OK &&
              sqlite3_exec(to, "PRAGMA journal_mode=OFF", NULL, NULL, NULL) == SQLITE_OK &&
              copy_pages(from, to) &&
              sqlite3_exec(from, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL) == SQLITE_OK;
    if (!ok)
        mf_error_set(err, MF_ERR_IO, "%s: cannot be copied (%s)", path,
                     sqlite3_errmsg(to ? to : from));
    sqlite3_close(from);
    sqlite3_close(to);
    return ok;
}

static bool sync_path(const char *path)
{
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0;
}

static bool seal_database(const struct mf_vault *vault, const char *directory, struct mf_error *err)
{
    char path[PATH_BYTES], sealed[PATH_BYTES], log[PATH_BYTES + 8];
    unsigned char key[MF_GCM_KEY];
    char id[MF_VAULT_ID];
    bool has_key;
    snprintf(path, sizeof path, "%s/store.db", directory);
    snprintf(sealed, sizeof sealed, "%s/store.sealing", directory);
    snprintf(log, sizeof log, "%s-wal", path);
    (void)unlink(sealed); /* of a time that was interrupted */
    bool ok = mf_store_key_wrapped_by(directory, id)
                  ? mf_store_key_open(vault, directory, key, &has_key, err)
                  : mf_store_key_make(vault, directory, key, err);
    ok = ok && copy_database(path, sealed, key, err);
    explicit_bzero(key, sizeof key);
    if (!ok)
        return false;
    /* The log is empty now; should it stay beside the new database, it belongs to none of its
     * pages. */
    if (!sync_path(sealed) || (unlink(log) != 0 && errno != ENOENT) || rename(sealed, path) != 0 ||
        !sync_path(directory))
        return fail(directory, "store.db", err);
    return true;
}

bool mf_vault_directory_seal(const struct mf_vault *vault, const char *directory,
                             size_t *ret_changed, struct mf_error *err)
{
    struct changing c = {vault, ret_changed};
    *ret_changed = 0;
    MF_AUTO(mf_fd) int lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", directory, strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) != 0)
        return mf_error_set(err, MF_ERR_CONFLICT, "%s: a daemon works there: stop it first",
                            directory);
    mode_t mask = umask(077);
    bool plain = database_is_plain(directory);
    bool ok = each_pack(directory, seal_pack, &c, err) &&
              (!plain || seal_database(vault, directory, err));
    umask(mask);
    *ret_changed += ok && plain;
    return ok;
}
