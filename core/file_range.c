/* Ranges of files: see file_range.h. */
#include "core/file_range.h"

#include "core/auto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 256 << 10 };

int mf_read_at(int fd, uint64_t offset, void *out, size_t length)
{
    char *to = out;
    while (length > 0) {
        ssize_t n = pread(fd, to, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENODATA;
        to += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

bool mf_file_range_failed(const char *what, int reason, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "%s cannot be read (%s)", what,
                        reason == ENODATA ? "it ends too soon" : strerror(reason));
}

bool mf_file_range_read(const struct mf_file_range *range, void *out, struct mf_error *err)
{
    int reason = mf_read_at(range->fd, range->offset, out, range->size);
    return reason == 0 || mf_file_range_failed(range->what, reason, err);
}

bool mf_file_range_pieces(const struct mf_file_range *range,
                          bool (*take)(void *context, const void *piece, size_t len,
                                       struct mf_error *err),
                          void *context, struct mf_error *err)
{
    MF_AUTO(mf_mem) char *piece = malloc(range->size < PIECE ? range->size + 1 : PIECE);
    if (!piece)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %s", range->what);
    for (uint64_t done = 0; done < range->size;) {
        size_t n = range->size - done < PIECE ? (size_t)(range->size - done) : PIECE;
        int reason = mf_read_at(range->fd, range->offset + done, piece, n);
        if (reason != 0)
            return mf_file_range_failed(range->what, reason, err);
        if (!take(context, piece, n, err))
            return false;
        done += n;
    }
    return true;
}
