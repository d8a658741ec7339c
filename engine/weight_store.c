/*
 * Packed weights in a memory file: see weight_store.h. The file is one page with the header, then
 * blocks, each after 64 bytes that tell its size. It is locked (flock) through a description of its
 * own while it is looked at and filled; sealed means complete.
 */
#include "engine/weight_store.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 4096, UNIT = 64, KEY_BYTES = 128, PAGE = 4096 };

struct header {
    char key[KEY_BYTES];
    uint64_t used; /* bytes, header included */
};

struct mf_weight_store {
    int fd; /* open, and locked, while filling; −1 afterwards */
    char *base;
    size_t mapped, used;
    bool filled; /* by somebody else */
};

int mf_weight_store_create(void)
{
    return memfd_create("mf-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Another description of the same file: locks belong to descriptions, which forks share. */
static int reopen(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

/* A mapping keeps a description, and with it the lock, beyond close(). */
static void unlock(struct mf_weight_store *s)
{
    if (s->fd < 0)
        return;
    flock(s->fd, LOCK_UN);
    close(s->fd);
    s->fd = -1;
}

/* Maps a complete file, if it is the right one. */
static bool attach(struct mf_weight_store *s, int fd, const char *key)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < HEADER_BYTES)
        return false;
    s->mapped = (size_t)st.st_size;
    s->base = mmap(NULL, s->mapped, PROT_READ, MAP_SHARED, fd, 0);
    if (s->base == MAP_FAILED)
        return false;
    const struct header *h = (const struct header *)(const void *)s->base;
    s->filled = memcmp(h->key, key, strlen(key) + 1) == 0 && h->used <= s->mapped;
    return s->filled;
}

/* Maps an empty file, sparse and larger than what will be used. */
static bool begin(struct mf_weight_store *s, int fd, const char *key, size_t most)
{
    s->mapped = (most / PAGE + 2) * PAGE;
    if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)s->mapped) != 0)
        return false;
    s->base = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s->base == MAP_FAILED)
        return false;
    memcpy(((struct header *)(void *)s->base)->key, key, strlen(key) + 1);
    return true;
}

struct mf_weight_store *mf_weight_store_open(int fd, const char *key, size_t most)
{
    struct mf_weight_store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->base = MAP_FAILED;
    s->used = HEADER_BYTES;
    s->fd = strlen(key) < KEY_BYTES ? reopen(fd) : -1;
    bool ok = s->fd >= 0 && flock(s->fd, LOCK_EX) == 0;
    int seals = ok ? fcntl(s->fd, F_GET_SEALS) : -1;
    bool sealed = seals >= 0 && (seals & F_SEAL_WRITE);
    ok = seals >= 0 && (sealed ? attach(s, s->fd, key) : begin(s, s->fd, key, most));
    if (sealed)
        unlock(s);
    if (ok)
        return s;
    mf_weight_store_close(s);
    return NULL;
}

void mf_weight_store_close(struct mf_weight_store *s)
{
    if (!s)
        return;
    if (s->base != MAP_FAILED)
        munmap(s->base, s->mapped);
    unlock(s);
    free(s);
}

void *mf_weight_store_take(struct mf_weight_store *s, size_t bytes, bool *ret_filled)
{
    size_t room = (bytes + UNIT - 1) / UNIT * UNIT;
    *ret_filled = s->filled;
    if ((s->fd < 0 && !s->filled) || room < bytes || room > s->mapped - s->used ||
        s->mapped - s->used - room < UNIT)
        return NULL;
    char *mark = s->base + s->used;
    uint64_t size = bytes;
    if (s->filled && memcmp(mark, &size, sizeof size) != 0)
        return NULL;
    if (!s->filled)
        memcpy(mark, &size, sizeof size);
    s->used += UNIT + room;
    return mark + UNIT;
}

bool mf_weight_store_seal(struct mf_weight_store *s)
{
    if (s->fd < 0)
        return s->filled;
    ((struct header *)(void *)s->base)->used = s->used;
    size_t keep = (s->used + PAGE - 1) / PAGE * PAGE;
    const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    /* A file can be sealed when nobody maps it for writing; it is mapped again in the same place.
     */
    bool ok = ftruncate(s->fd, (off_t)keep) == 0 &&
              mmap(s->base, s->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                  s->base &&
              fcntl(s->fd, F_ADD_SEALS, seals) == 0 &&
              mmap(s->base, keep, PROT_READ, MAP_SHARED | MAP_FIXED, s->fd, 0) == s->base;
    unlock(s);
    return ok;
}
