/* Sealed packs: see sealed_pack.h. */
#include "server/sealed_pack.h"

#include "core/file_range.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PLACE_BYTES = 2048,
    PLACES = 2,
    HEADER_BYTES = PLACES * PLACE_BYTES,
    SERIAL_AT = 8,
    KEY_AT = 16,
    USED_BYTES = KEY_AT + MF_WRAPPED_KEY,
    PIECE = 64 << 10,
    SEALED_PIECE = PIECE + MF_GCM_TAG,
    NAME_BYTES = 64
};

static const char MAGIC[SERIAL_AT] = "MFPACK1";

/* --- bytes --- */

static bool write_at(int fd, const void *data, size_t len, uint64_t at)
{
    const char *from = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : EIO;
            return false;
        }
        from += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return true;
}

/* --- pieces --- */

/* What is authenticated beside piece number `i`; also makes its nonce. */
static size_t place_of(const char *name, uint64_t i, bool last, char aad[NAME_BYTES],
                       unsigned char nonce[MF_GCM_NONCE])
{
    size_t len = strnlen(name, NAME_BYTES - 2);
    memcpy(aad, name, len);
    aad[len] = '|';
    aad[len + 1] = last ? 'e' : 'm';
    memset(nonce, 0, MF_GCM_NONCE);
    for (int b = 0; b < 8; b++)
        nonce[MF_GCM_NONCE - 1 - b] = (unsigned char)(i >> (8 * b));
    return len + 2;
}

/* --- writing --- */

struct mf_sealer {
    struct mf_gcm *gcm;
    int fd;
    char name[NAME_BYTES];
    uint64_t piece;
    size_t filled;
    unsigned char buffer[SEALED_PIECE];
};

static bool write_failed(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "an upload cannot be stored (%s)", strerror(errno));
}

static void make_place(unsigned char place[USED_BYTES], uint64_t serial)
{
    memcpy(place, MAGIC, sizeof MAGIC);
    for (int b = 0; b < 8; b++)
        place[SERIAL_AT + b] = (unsigned char)(serial >> (8 * b));
}

struct mf_sealer *mf_sealer_new(const struct mf_vault *vault, const char *name, int fd,
                                struct mf_error *err)
{
    unsigned char key[MF_GCM_KEY], header[HEADER_BYTES] = {0};
    MF_AUTO(mf_sealer) struct mf_sealer *s = malloc(sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        return NULL;
    }
    memset(s, 0, offsetof(struct mf_sealer, buffer));
    mf_random_bytes(key, sizeof key);
    s->fd = fd;
    snprintf(s->name, sizeof s->name, "%s", name);
    s->gcm = mf_gcm_new(key);
    make_place(header, 1);
    bool ok = mf_vault_wrap(vault, name, key, header + KEY_AT, err);
    explicit_bzero(key, sizeof key);
    if (ok && !s->gcm)
        ok = mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    if (ok && !write_at(fd, header, sizeof header, 0))
        ok = write_failed(err);
    return ok ? MF_STEAL(s) : NULL;
}

void mf_sealer_free(struct mf_sealer *s)
{
    if (s)
        mf_gcm_free(s->gcm);
    free(s);
}

static bool write_piece(struct mf_sealer *s, bool last, struct mf_error *err)
{
    char aad[NAME_BYTES];
    unsigned char nonce[MF_GCM_NONCE];
    size_t aad_len = place_of(s->name, s->piece, last, aad, nonce);
    if (!mf_gcm_seal(s->gcm, nonce, aad, aad_len, s->buffer, s->filled, s->buffer,
                     s->buffer + s->filled))
        return mf_error_set(err, MF_ERR_INTERNAL, "an upload cannot be encrypted");
    if (!write_at(s->fd, s->buffer, s->filled + MF_GCM_TAG, HEADER_BYTES + s->piece * SEALED_PIECE))
        return write_failed(err);
    s->piece++;
    s->filled = 0;
    return true;
}

bool mf_sealer_write(struct mf_sealer *s, const void *data, size_t len, struct mf_error *err)
{
    const unsigned char *from = data;
    while (len > 0) {
        if (s->filled == PIECE && !write_piece(s, false, err))
            return false;
        size_t n = len < PIECE - s->filled ? len : PIECE - s->filled;
        memcpy(s->buffer + s->filled, from, n);
        s->filled += n;
        from += n;
        len -= n;
    }
    return true;
}

bool mf_sealer_finish(struct mf_sealer *s, struct mf_error *err)
{
    return write_piece(s, true, err);
}

/* --- the header --- */

/* Which place holds (−1: none), and its serial number. */
static int newest_place(const unsigned char header[HEADER_BYTES], uint64_t *ret_serial)
{
    int found = -1;
    *ret_serial = 0;
    for (int i = 0; i < PLACES; i++) {
        const unsigned char *place = header + i * PLACE_BYTES;
        uint64_t serial = 0;
        char id[MF_VAULT_ID];
        for (int b = 0; b < 8; b++)
            serial |= (uint64_t)place[SERIAL_AT + b] << (8 * b);
        if (memcmp(place, MAGIC, sizeof MAGIC) != 0 || serial <= *ret_serial ||
            !mf_vault_wrapped_by(place + KEY_AT, id))
            continue;
        found = i;
        *ret_serial = serial;
    }
    return found;
}

bool mf_sealed_is(int fd, char id[MF_VAULT_ID])
{
    unsigned char header[HEADER_BYTES];
    uint64_t serial;
    int place = mf_read_at(fd, 0, header, sizeof header) == 0 ? newest_place(header, &serial) : -1;
    return place >= 0 && mf_vault_wrapped_by(header + place * PLACE_BYTES + KEY_AT, id);
}

/* The pack's key; *ret_place and *ret_serial say where it was. A place that was torn by a crash
 * does not open, and the other one does. */
static bool open_key(const struct mf_vault *vault, const char *name, int fd,
                     unsigned char key[MF_GCM_KEY], int *ret_place, uint64_t *ret_serial,
                     struct mf_error *err)
{
    unsigned char header[HEADER_BYTES];
    struct mf_error other = MF_ERROR_INIT;
    if (mf_read_at(fd, 0, header, sizeof header) != 0 ||
        (*ret_place = newest_place(header, ret_serial)) < 0)
        return mf_error_set(err, MF_ERR_IO,
                            "payload %s: is not encrypted, or damaged (medfusion vault seal)",
                            name);
    if (mf_vault_unwrap(vault, name, header + *ret_place * PLACE_BYTES + KEY_AT, key, err))
        return true;
    const unsigned char *place = header + (1 - *ret_place) * PLACE_BYTES;
    if (memcmp(place, MAGIC, sizeof MAGIC) != 0 ||
        !mf_vault_unwrap(vault, name, place + KEY_AT, key, &other))
        return mf_error_prefix(err, "payload");
    *ret_place = 1 - *ret_place;
    mf_error_clear(err);
    return true;
}

/* --- reading --- */

/* One opened pack. */
struct opened {
    struct mf_gcm *gcm;
    const char *name;
    int fd;
    uint64_t pieces, size; /* of the plaintext */
};

static bool measure(struct opened *o, struct mf_error *err)
{
    struct stat st;
    if (fstat(o->fd, &st) != 0 || st.st_size < HEADER_BYTES + MF_GCM_TAG)
        return mf_error_set(err, MF_ERR_IO, "payload %s: is cut off", o->name);
    uint64_t sealed = (uint64_t)st.st_size - HEADER_BYTES;
    o->pieces = (sealed + SEALED_PIECE - 1) / SEALED_PIECE;
    uint64_t last = sealed - (o->pieces - 1) * SEALED_PIECE;
    if (last < MF_GCM_TAG)
        return mf_error_set(err, MF_ERR_IO, "payload %s: is cut off", o->name);
    o->size = sealed - o->pieces * MF_GCM_TAG;
    return true;
}

static bool copy_piece(const struct opened *o, uint64_t i, int memory,
                       unsigned char buffer[SEALED_PIECE], struct mf_error *err)
{
    char aad[NAME_BYTES];
    unsigned char nonce[MF_GCM_NONCE];
    uint64_t begin = i * PIECE;
    size_t len = o->size - begin < PIECE ? (size_t)(o->size - begin) : PIECE;
    size_t aad_len = place_of(o->name, i, i + 1 == o->pieces, aad, nonce);
    if (mf_read_at(o->fd, HEADER_BYTES + i * SEALED_PIECE, buffer, len + MF_GCM_TAG) != 0 ||
        !mf_gcm_open(o->gcm, nonce, aad, aad_len, buffer, len, buffer, buffer + len))
        return mf_error_set(err, MF_ERR_IO, "payload %s: is damaged", o->name);
    return write_at(memory, buffer, len, begin) ||
           mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a payload");
}

static bool copy_pieces(const struct opened *o, int memory, uint64_t offset, uint64_t size,
                        struct mf_error *err)
{
    uint64_t end = size > o->size || offset > o->size - size ? o->size : offset + size;
    MF_AUTO(mf_mem) unsigned char *buffer = malloc(SEALED_PIECE);
    if (!buffer || ftruncate(memory, (off_t)o->size) != 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a payload");
    bool ok = true;
    /* The last piece is always opened: only it shows that nothing was cut off. */
    for (uint64_t i = 0; ok && i < o->pieces; i++)
        if (i + 1 == o->pieces || (i * PIECE < end && (i + 1) * PIECE > offset))
            ok = copy_piece(o, i, memory, buffer, err);
    explicit_bzero(buffer, SEALED_PIECE);
    return ok;
}

int mf_sealed_open(const struct mf_vault *vault, const char *name, int fd, uint64_t offset,
                   uint64_t size, struct mf_error *err)
{
    unsigned char key[MF_GCM_KEY];
    struct opened o = {.name = name, .fd = fd};
    int place;
    uint64_t serial;
    if (!open_key(vault, name, fd, key, &place, &serial, err))
        return -1;
    MF_AUTO(mf_gcm) struct mf_gcm *gcm = mf_gcm_new(key);
    explicit_bzero(key, sizeof key);
    int memory = memfd_create("payload", MFD_CLOEXEC);
    if (!gcm || memory < 0)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a payload");
    o.gcm = gcm;
    if (gcm && memory >= 0 && measure(&o, err) && copy_pieces(&o, memory, offset, size, err))
        return memory;
    if (memory >= 0)
        close(memory);
    return -1;
}

/* The header, the pieces, and the last one, which mf_sealed_open() always opens. */
size_t mf_sealed_ranges(uint64_t offset, uint64_t size, struct mf_s3_range ret[MF_SEALED_RANGES])
{
    const uint64_t first = offset / PIECE, behind = (offset + size + PIECE - 1) / PIECE;
    const bool joined = first == 0;
    size_t n = 0;
    ret[n++] = (struct mf_s3_range){0, HEADER_BYTES + (joined ? behind * SEALED_PIECE : 0)};
    if (!joined && behind > first)
        ret[n++] = (struct mf_s3_range){HEADER_BYTES + first * SEALED_PIECE,
                                        (behind - first) * SEALED_PIECE};
    ret[n++] = (struct mf_s3_range){UINT64_MAX, SEALED_PIECE};
    return n;
}

/* --- another wrapping --- */

bool mf_sealed_rewrap(const struct mf_vault *vault, const char *name, int fd, bool *ret_changed,
                      struct mf_error *err)
{
    unsigned char key[MF_GCM_KEY], place[USED_BYTES] = {0};
    static const unsigned char nothing[USED_BYTES];
    char id[MF_VAULT_ID];
    int at = 0;
    uint64_t serial = 0;
    *ret_changed = false;
    if (mf_sealed_is(fd, id) && strcmp(id, mf_vault_newest(vault)) == 0)
        return true;
    if (!open_key(vault, name, fd, key, &at, &serial, err))
        return false;
    make_place(place, serial + 1);
    bool ok = mf_vault_wrap(vault, name, key, place + KEY_AT, err);
    explicit_bzero(key, sizeof key);
    if (!ok)
        return false;
    if (!write_at(fd, place, sizeof place, (uint64_t)(1 - at) * PLACE_BYTES) ||
        fdatasync(fd) != 0 || !write_at(fd, nothing, sizeof nothing, (uint64_t)at * PLACE_BYTES) ||
        fdatasync(fd) != 0)
        return mf_error_set(err, MF_ERR_IO, "payload %s: its key cannot be written (%s)", name,
                            strerror(errno));
    *ret_changed = true;
    return true;
}
