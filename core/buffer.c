/* Buffer: growable bytes with a ceiling. */
#include "core/buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void mf_buffer_init(struct mf_buffer *b, size_t ceiling)
{
    /* Half of what can be addressed is unlimited; sums and doubling stay inside size_t. */
    *b = (struct mf_buffer){.ceiling = ceiling < SIZE_MAX / 2 ? ceiling : SIZE_MAX / 2 - 1};
}

void mf_buffer_free(struct mf_buffer *b)
{
    if (!b)
        return;
    free(b->data);
    *b = (struct mf_buffer){.ceiling = b->ceiling};
}

void mf_buffer_clear(struct mf_buffer *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

char *mf_buffer_reserve(struct mf_buffer *b, size_t extra, struct mf_error *err)
{
    if (extra > b->ceiling - b->len) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "more than the allowed %zu bytes", b->ceiling);
        return NULL;
    }
    size_t need = b->len + extra + 1;
    if (need > b->capacity) {
        size_t capacity = b->capacity ? b->capacity : 256;
        while (capacity < need)
            capacity = capacity > b->ceiling / 2 ? b->ceiling + 1 : capacity * 2;
        char *data = realloc(b->data, capacity);
        if (!data) {
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu bytes", capacity);
            return NULL;
        }
        b->data = data;
        b->capacity = capacity;
        data[b->len] = '\0'; /* the content ends with a NUL even when nothing follows */
    }
    return b->data + b->len;
}

bool mf_buffer_append(struct mf_buffer *b, const void *data, size_t len, struct mf_error *err)
{
    char *at = mf_buffer_reserve(b, len, err);
    if (!at)
        return false;
    if (len)
        memcpy(at, data, len);
    b->len += len;
    b->data[b->len] = '\0';
    return true;
}

bool mf_buffer_append_str(struct mf_buffer *b, const char *s, struct mf_error *err)
{
    return mf_buffer_append(b, s, strlen(s), err);
}

bool mf_buffer_printf(struct mf_buffer *b, struct mf_error *err, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n < 0 ? NULL : mf_buffer_reserve(b, (size_t)n, err);
    if (at) {
        vsnprintf(at, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return at != NULL;
}

char *mf_buffer_take(struct mf_buffer *b, size_t *len)
{
    char *data = b->data ? b->data : calloc(1, 1);
    if (len)
        *len = b->len;
    *b = (struct mf_buffer){.ceiling = b->ceiling};
    return data;
}

bool mf_buffer_read_fd(struct mf_buffer *b, int fd, const char *name, struct mf_error *err)
{
    for (;;) {
        size_t room = b->ceiling - b->len;
        size_t step = room < 65536 ? room : 65536;
        char probe;
        char *at = step ? mf_buffer_reserve(b, step, err) : &probe;
        if (!at)
            return mf_error_prefix(err, "%s", name);
        ssize_t n = read(fd, at, step ? step : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mf_error_set(err, MF_ERR_IO, "%s: %s", name, strerror(errno));
        if (n == 0)
            return true;
        if (!step)
            return mf_error_set(err, MF_ERR_TOO_LARGE, "%s: more than the allowed %zu bytes", name,
                                b->ceiling);
        b->len += (size_t)n;
        b->data[b->len] = '\0';
    }
}

bool mf_buffer_read_file(struct mf_buffer *b, const char *path, struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "%s: %s", path,
                            strerror(errno));
    return mf_buffer_read_fd(b, fd, path, err);
}
