/* Encrypted pages through SQLite's VFS interface: see store_sqlite_pages.h. */
#include "server/store_sqlite_pages.h"

#include "core/auto.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE = 4096,
    SALT = 16,
    COUNTER_AT = PAGE + SALT, /* of a sealed page */
    TAG_AT = COUNTER_AT + 8,
    SEALED_PAGE = TAG_AT + MF_GCM_TAG,
    FRAME_HEADER = 24, /* of the log; SQLite file format, 4.1 */
    LOG_HEADER = 32,
    FRAME = FRAME_HEADER + PAGE,
    SEALED_FRAME = FRAME_HEADER + SEALED_PAGE,
    DERIVED = 32 /* keys of earlier salts that are kept */
};

static const uint64_t MOST_PER_SALT = UINT64_C(1) << 32;

struct derived {
    unsigned char salt[SALT];
    struct mf_gcm *gcm; /* NULL: none */
};

struct mf_sqlite_pages {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    char name[40];
    unsigned char key[MF_GCM_KEY];
    struct derived writing;
    uint64_t written; /* pages with that salt */
    struct derived reading[DERIVED];
    unsigned next; /* place of `reading` to be used next */
};

/* --- keys of pages --- */

static struct mf_gcm *derive(const struct mf_sqlite_pages *s, const unsigned char salt[SALT])
{
    unsigned char key[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (!HMAC(EVP_sha256(), s->key, sizeof s->key, salt, SALT, key, &len) || len != MF_GCM_KEY)
        return NULL;
    struct mf_gcm *gcm = mf_gcm_new(key);
    explicit_bzero(key, sizeof key);
    return gcm;
}

static struct mf_gcm *to_write(struct mf_sqlite_pages *s)
{
    if (s->writing.gcm && s->written < MOST_PER_SALT)
        return s->writing.gcm;
    mf_gcm_free(s->writing.gcm);
    mf_random_bytes(s->writing.salt, SALT);
    s->writing.gcm = derive(s, s->writing.salt);
    s->written = 0;
    return s->writing.gcm;
}

static struct mf_gcm *to_read(struct mf_sqlite_pages *s, const unsigned char salt[SALT])
{
    if (s->writing.gcm && memcmp(s->writing.salt, salt, SALT) == 0)
        return s->writing.gcm;
    for (size_t i = 0; i < DERIVED; i++)
        if (s->reading[i].gcm && memcmp(s->reading[i].salt, salt, SALT) == 0)
            return s->reading[i].gcm;
    struct derived *d = &s->reading[s->next++ % DERIVED];
    mf_gcm_free(d->gcm);
    memcpy(d->salt, salt, SALT);
    d->gcm = derive(s, salt);
    return d->gcm;
}

/* --- one page --- */

/* What is authenticated beside a page: 'm' or 'w' and its place. */
static void place_of(char kind, sqlite3_int64 place, unsigned char aad[9])
{
    aad[0] = (unsigned char)kind;
    for (int b = 0; b < 8; b++)
        aad[1 + b] = (unsigned char)((uint64_t)place >> (8 * b));
}

static bool seal_page(struct mf_sqlite_pages *s, char kind, sqlite3_int64 place, const void *page,
                      unsigned char out[SEALED_PAGE])
{
    unsigned char aad[9], nonce[MF_GCM_NONCE] = {0};
    struct mf_gcm *gcm = to_write(s);
    if (!gcm)
        return false;
    uint64_t n = s->written++;
    for (int b = 0; b < 8; b++)
        out[COUNTER_AT + b] = nonce[4 + b] = (unsigned char)(n >> (8 * b));
    memcpy(out + PAGE, s->writing.salt, SALT);
    place_of(kind, place, aad);
    return mf_gcm_seal(gcm, nonce, aad, sizeof aad, page, PAGE, out, out + TAG_AT);
}

static bool open_page(struct mf_sqlite_pages *s, char kind, sqlite3_int64 place,
                      const unsigned char sealed[SEALED_PAGE], void *page)
{
    unsigned char aad[9], nonce[MF_GCM_NONCE] = {0};
    struct mf_gcm *gcm = to_read(s, sealed + PAGE);
    memcpy(nonce + 4, sealed + COUNTER_AT, 8);
    place_of(kind, place, aad);
    return gcm && mf_gcm_open(gcm, nonce, aad, sizeof aad, sealed, PAGE, page, sealed + TAG_AT);
}

/* --- files --- */

enum kind { DATABASE, LOG, JOURNAL };

struct file {
    sqlite3_file base;
    struct mf_sqlite_pages *seal;
    enum kind kind;
    sqlite3_file *real; /* behind this struct */
};

static struct file *self(sqlite3_file *file)
{
    return (struct file *)(void *)file;
}

/* Where a byte of the log lies. */
static sqlite3_int64 log_place(sqlite3_int64 at)
{
    if (at < LOG_HEADER)
        return at;
    sqlite3_int64 frame = (at - LOG_HEADER) / FRAME;
    return LOG_HEADER + frame * SEALED_FRAME + (at - LOG_HEADER) % FRAME;
}

static int read_database(struct file *f, void *out, int len, sqlite3_int64 at)
{
    unsigned char sealed[SEALED_PAGE], page[PAGE];
    sqlite3_int64 number = at / PAGE;
    int offset = (int)(at % PAGE);
    if (offset + len > PAGE)
        return SQLITE_IOERR_READ;
    int rc = f->real->pMethods->xRead(f->real, sealed, SEALED_PAGE, number * SEALED_PAGE);
    if (rc == SQLITE_IOERR_SHORT_READ) /* as SQLite wants it beyond the end */
        memset(out, 0, (size_t)len);
    if (rc != SQLITE_OK)
        return rc;
    if (!open_page(f->seal, 'm', number, sealed, page))
        return SQLITE_IOERR_AUTH;
    memcpy(out, page + offset, (size_t)len);
    return SQLITE_OK;
}

/* A page of the log, or a frame with its header. A frame that does not open was torn, or is room
 * that was made ahead: as zeros its checksum is wrong, and SQLite takes it for the end. */
static int read_log(struct file *f, void *out, int len, sqlite3_int64 at)
{
    unsigned char sealed[SEALED_FRAME];
    sqlite3_int64 in = at - LOG_HEADER;
    bool frame = in >= 0 && in % FRAME == 0 && len == FRAME;
    bool page = in >= 0 && in % FRAME == FRAME_HEADER && len > 0 && len <= PAGE;
    bool header = at + len <= LOG_HEADER || (in >= 0 && in % FRAME + len <= FRAME_HEADER);
    if (header)
        return f->real->pMethods->xRead(f->real, out, len, log_place(at));
    if (!frame && !page)
        return SQLITE_IOERR_READ;
    unsigned char plain[PAGE];
    sqlite3_int64 start = LOG_HEADER + in / FRAME * SEALED_FRAME;
    int rc = f->real->pMethods->xRead(f->real, sealed, SEALED_FRAME, start);
    if (rc == SQLITE_IOERR_SHORT_READ)
        memset(out, 0, (size_t)len);
    if (rc != SQLITE_OK)
        return rc;
    bool opened = open_page(f->seal, 'w', start, sealed + FRAME_HEADER, plain);
    if (!opened && page)
        return SQLITE_IOERR_AUTH;
    if (!opened)
        memset(plain, 0, sizeof plain);
    if (frame)
        memcpy(out, sealed, FRAME_HEADER);
    memcpy((unsigned char *)out + (frame ? FRAME_HEADER : 0), plain, (size_t)(frame ? PAGE : len));
    return SQLITE_OK;
}

static int file_read(sqlite3_file *file, void *out, int len, sqlite3_int64 at)
{
    struct file *f = self(file);
    return f->kind == DATABASE ? read_database(f, out, len, at)
           : f->kind == LOG    ? read_log(f, out, len, at)
                               : f->real->pMethods->xRead(f->real, out, len, at);
}

static bool all_zero(const unsigned char *data, int len)
{
    return len > 0 && data[0] == 0 && memcmp(data, data + 1, (size_t)len - 1) == 0;
}

static int write_page(struct file *f, char kind, sqlite3_int64 place, const void *page,
                      sqlite3_int64 at)
{
    unsigned char sealed[SEALED_PAGE];
    return seal_page(f->seal, kind, place, page, sealed)
               ? f->real->pMethods->xWrite(f->real, sealed, SEALED_PAGE, at)
               : SQLITE_IOERR_WRITE;
}

static int write_log(struct file *f, const void *data, int len, sqlite3_int64 at)
{
    sqlite3_int64 in = at - LOG_HEADER;
    if (at + len <= LOG_HEADER || (in >= 0 && in % FRAME + len <= FRAME_HEADER))
        return f->real->pMethods->xWrite(f->real, data, len, log_place(at));
    if (in >= 0 && in % FRAME == FRAME_HEADER && len == PAGE) {
        sqlite3_int64 start = LOG_HEADER + in / FRAME * SEALED_FRAME;
        return write_page(f, 'w', start, data, start + FRAME_HEADER);
    }
    if (!all_zero(data, len)) /* else room that is made ahead (store_sqlite_log.c) */
        return SQLITE_IOERR_WRITE;
    return f->real->pMethods->xWrite(f->real, data, len, log_place(at));
}

/* A rollback journal begins with this and is written with the first page of a new database; nothing
 * of a page is in it then. */
static bool is_journal_header(const void *data, int len, sqlite3_int64 at)
{
    static const unsigned char magic[] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
    return len < PAGE || (at % 512 == 0 && memcmp(data, magic, sizeof magic) == 0) ||
           all_zero(data, len);
}

static int file_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 at)
{
    struct file *f = self(file);
    if (f->kind == LOG)
        return write_log(f, data, len, at);
    if (f->kind == JOURNAL)
        return is_journal_header(data, len, at) ? f->real->pMethods->xWrite(f->real, data, len, at)
                                                : SQLITE_IOERR_WRITE;
    if (len != PAGE || at % PAGE != 0)
        return SQLITE_IOERR_WRITE;
    return write_page(f, 'm', at / PAGE, data, at / PAGE * SEALED_PAGE);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct file *f = self(file);
    sqlite3_int64 real = f->kind == DATABASE ? size / PAGE * SEALED_PAGE
                         : f->kind == LOG    ? log_place(size)
                                             : size;
    return f->real->pMethods->xTruncate(f->real, real);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    struct file *f = self(file);
    sqlite3_int64 real = 0;
    int rc = f->real->pMethods->xFileSize(f->real, &real);
    if (f->kind == DATABASE)
        *ret = real / SEALED_PAGE * PAGE;
    else if (f->kind == LOG && real > LOG_HEADER) {
        sqlite3_int64 rest = (real - LOG_HEADER) % SEALED_FRAME;
        *ret =
            LOG_HEADER + (real - LOG_HEADER) / SEALED_FRAME * FRAME + (rest < FRAME ? rest : FRAME);
    } else
        *ret = real;
    return rc;
}

/* --- what is passed on --- */

static int file_close(sqlite3_file *file)
{
    return self(file)->real->pMethods->xClose(self(file)->real);
}

static int file_sync(sqlite3_file *file, int flags)
{
    return self(file)->real->pMethods->xSync(self(file)->real, flags);
}

static int file_lock(sqlite3_file *file, int level)
{
    return self(file)->real->pMethods->xLock(self(file)->real, level);
}

static int file_unlock(sqlite3_file *file, int level)
{
    return self(file)->real->pMethods->xUnlock(self(file)->real, level);
}

static int file_reserved(sqlite3_file *file, int *ret)
{
    return self(file)->real->pMethods->xCheckReservedLock(self(file)->real, ret);
}

/* Hints about sizes would be about other sizes. */
static int file_control(sqlite3_file *file, int what, void *argument)
{
    if (what == SQLITE_FCNTL_SIZE_HINT || what == SQLITE_FCNTL_CHUNK_SIZE)
        return SQLITE_OK;
    return self(file)->real->pMethods->xFileControl(self(file)->real, what, argument);
}

static int file_sector(sqlite3_file *file)
{
    return self(file)->real->pMethods->xSectorSize(self(file)->real);
}

/* A page is no longer a sector: it may be torn where a plain one would not be. */
static int file_characteristics(sqlite3_file *file)
{
    return self(file)->real->pMethods->xDeviceCharacteristics(self(file)->real) &
           (SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN);
}

static int file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret)
{
    return self(file)->real->pMethods->xShmMap(self(file)->real, page, size, extend, ret);
}

static int file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return self(file)->real->pMethods->xShmLock(self(file)->real, offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
    self(file)->real->pMethods->xShmBarrier(self(file)->real);
}

static int file_shm_unmap(sqlite3_file *file, int remove)
{
    return self(file)->real->pMethods->xShmUnmap(self(file)->real, remove);
}

static const sqlite3_io_methods METHODS = {.iVersion = 2,
                                           .xClose = file_close,
                                           .xRead = file_read,
                                           .xWrite = file_write,
                                           .xTruncate = file_truncate,
                                           .xSync = file_sync,
                                           .xFileSize = file_size,
                                           .xLock = file_lock,
                                           .xUnlock = file_unlock,
                                           .xCheckReservedLock = file_reserved,
                                           .xFileControl = file_control,
                                           .xSectorSize = file_sector,
                                           .xDeviceCharacteristics = file_characteristics,
                                           .xShmMap = file_shm_map,
                                           .xShmLock = file_shm_lock,
                                           .xShmBarrier = file_shm_barrier,
                                           .xShmUnmap = file_shm_unmap};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret)
{
    struct mf_sqlite_pages *s = vfs->pAppData;
    struct file *f = self(file);
    memset(f, 0, sizeof *f);
    bool log = flags & SQLITE_OPEN_WAL, journal = flags & SQLITE_OPEN_MAIN_JOURNAL;
    if (!log && !journal && !(flags & SQLITE_OPEN_MAIN_DB))
        return SQLITE_CANTOPEN; /* it would be in plain */
    f->seal = s;
    f->kind = log ? LOG : journal ? JOURNAL : DATABASE;
    f->real = (sqlite3_file *)(void *)(f + 1);
    int rc = s->real->xOpen(s->real, name, f->real, flags, ret);
    f->base.pMethods = rc == SQLITE_OK ? &METHODS : NULL;
    return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xDelete(s->real, name, sync);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xAccess(s->real, name, flags, ret);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int len, char *out)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xFullPathname(s->real, name, len, out);
}

static int vfs_random(sqlite3_vfs *vfs, int len, char *out)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xRandomness(s->real, len, out);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xSleep(s->real, us);
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xCurrentTimeInt64(s->real, ret);
}

static int vfs_error(sqlite3_vfs *vfs, int len, char *out)
{
    const struct mf_sqlite_pages *s = vfs->pAppData;
    return s->real->xGetLastError(s->real, len, out);
}

static int register_vfs(struct mf_sqlite_pages *s)
{
    s->real = sqlite3_vfs_find(NULL);
    if (!s->real)
        return SQLITE_ERROR;
    snprintf(s->name, sizeof s->name, "medfusion-%p", (void *)s);
    s->vfs = (sqlite3_vfs){.iVersion = 2,
                           .szOsFile = (int)sizeof(struct file) + s->real->szOsFile,
                           .mxPathname = s->real->mxPathname,
                           .zName = s->name,
                           .pAppData = s,
                           .xOpen = vfs_open,
                           .xDelete = vfs_delete,
                           .xAccess = vfs_access,
                           .xFullPathname = vfs_full_path,
                           .xRandomness = vfs_random,
                           .xSleep = vfs_sleep,
                           .xGetLastError = vfs_error,
                           .xCurrentTimeInt64 = vfs_time};
    return sqlite3_vfs_register(&s->vfs, 0);
}

/* --- life --- */

struct mf_sqlite_pages *mf_sqlite_pages_new(const unsigned char key[MF_GCM_KEY],
                                            struct mf_error *err)
{
    MF_AUTO(mf_mem) struct mf_sqlite_pages *s = calloc(1, sizeof *s);
    if (s)
        memcpy(s->key, key, sizeof s->key);
    if (!s || register_vfs(s) != SQLITE_OK) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the job store");
        return NULL;
    }
    return MF_STEAL(s);
}

void mf_sqlite_pages_free(struct mf_sqlite_pages *s)
{
    if (!s)
        return;
    sqlite3_vfs_unregister(&s->vfs);
    mf_gcm_free(s->writing.gcm);
    for (size_t i = 0; i < DERIVED; i++)
        mf_gcm_free(s->reading[i].gcm);
    explicit_bzero(s->key, sizeof s->key);
    free(s);
}

const char *mf_sqlite_pages_vfs(const struct mf_sqlite_pages *s)
{
    return s ? s->name : NULL;
}
