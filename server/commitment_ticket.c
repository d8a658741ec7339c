/* Tickets: the key's file, and UIDs. */
#include "server/commitment_ticket.h"

#include "core/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COUNT_BITS = 12, CODE_BITS = 62, PATH = 4096 };

static const char ROOT[] = "2.25.";
static const uint64_t ID_LIMIT = UINT64_C(1) << 48, CODE_MASK = (UINT64_C(1) << CODE_BITS) - 1,
                      VERSION = UINT64_C(8) << COUNT_BITS, VARIANT = UINT64_C(2) << CODE_BITS;

/* --- the key --- */

static bool read_key(int fd, unsigned char ret[MF_TICKET_KEY])
{
    return read(fd, ret, MF_TICKET_KEY) == MF_TICKET_KEY;
}

/* A key appears whole or not at all: two processes may make one at once, and the first link wins.
 */
static bool make_key(const char *path, struct mf_error *err)
{
    char temporary[PATH + 32];
    unsigned char key[MF_TICKET_KEY];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    MF_AUTO(mf_fd)
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && RAND_bytes(key, sizeof key) == 1 &&
              write(fd, key, sizeof key) == (ssize_t)sizeof key && fsync(fd) == 0 &&
              (link(temporary, path) == 0 || errno == EEXIST);
    if (!ok)
        mf_error_set(err, MF_ERR_IO, "%s: cannot be made (%s)", path, strerror(errno));
    unlink(temporary);
    return ok;
}

bool mf_ticket_key(const char *directory, unsigned char ret[MF_TICKET_KEY], struct mf_error *err)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/commitment.key", directory) >= (int)sizeof path)
        return mf_error_set(err, MF_ERR_IO, "data.directory: the path is too long");
    if (access(path, F_OK) != 0 && !make_key(path, err))
        return false;
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return (fd >= 0 && read_key(fd, ret)) ||
           mf_error_set(err, MF_ERR_IO, "%s: cannot be read", path);
}

/* --- UIDs --- */

/* The upper half of the UUID (delivery, version, count) decides the lower one. */
static bool make_low(const unsigned char key[MF_TICKET_KEY], uint64_t high, uint64_t *ret)
{
    unsigned char text[8], code[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)(high >> (8 * i));
    if (!HMAC(EVP_sha256(), key, MF_TICKET_KEY, text, sizeof text, code, &len) || len < 8)
        return false;
    for (size_t i = 0; i < 8; i++)
        value = value << 8 | code[i];
    *ret = VARIANT | (value & CODE_MASK);
    return true;
}

void mf_uid_of_uuid(uint64_t high, uint64_t low, char ret[MF_TICKET_UID])
{
    char digits[40];
    size_t at = sizeof digits;
    unsigned __int128 value = (unsigned __int128)high << 64 | low;
    digits[--at] = '\0';
    do {
        digits[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
    } while (value);
    snprintf(ret, MF_TICKET_UID, "%s%s", ROOT, digits + at);
}

bool mf_ticket_make(const unsigned char key[MF_TICKET_KEY], int64_t delivery, size_t objects,
                    char ret[MF_TICKET_UID], struct mf_error *err)
{
    uint64_t low;
    if (delivery < 1 || (uint64_t)delivery >= ID_LIMIT || objects > MF_TICKET_MAX_OBJECTS)
        return mf_error_set(err, MF_ERR_INTERNAL, "a delivery has no transaction UID");
    uint64_t high = (uint64_t)delivery << 16 | VERSION | objects;
    if (!make_low(key, high, &low))
        return mf_error_set(err, MF_ERR_INTERNAL, "OpenSSL makes no code");
    mf_uid_of_uuid(high, low, ret);
    return true;
}

static bool read_decimal(const char *text, uint64_t *ret_high, uint64_t *ret_low)
{
    unsigned __int128 value = 0;
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 39 || text[n])
        return false;
    for (size_t i = 0; i < n; i++)
        value = value * 10 + (unsigned)(text[i] - '0'); /* wraps: then the code is wrong */
    *ret_high = (uint64_t)(value >> 64);
    *ret_low = (uint64_t)value;
    return true;
}

bool mf_ticket_read(const unsigned char key[MF_TICKET_KEY], const char *uid, int64_t *ret_delivery,
                    size_t *ret_objects)
{
    uint64_t high, low, expected;
    if (strncmp(uid, ROOT, strlen(ROOT)) != 0 || !read_decimal(uid + strlen(ROOT), &high, &low) ||
        !make_low(key, high, &expected) || low != expected || (high >> COUNT_BITS & 0xF) != 8)
        return false;
    *ret_delivery = (int64_t)(high >> 16);
    *ret_objects = (size_t)(high & MF_TICKET_MAX_OBJECTS);
    return true;
}
