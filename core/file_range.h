/*
 * Reading a range of a file, wherever its offset is and however few bytes a read gives.
 */
#ifndef MF_CORE_FILE_RANGE_H
#define MF_CORE_FILE_RANGE_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_file_range {
    const char *what; /* names it in errors: "a stored instance" */
    int fd;
    uint64_t offset, size; /* bytes */
};

/* Fills `out` with `length` bytes from `offset`. 0 or errno; ENODATA: the file ends before. */
int mf_read_at(int fd, uint64_t offset, void *out, size_t length);
/* MF_ERR_IO "WHAT cannot be read (reason)", for such a status; always false. */
bool mf_file_range_failed(const char *what, int reason, struct mf_error *err);
/* All of it to `out`, which has room for `size` bytes. MF_ERR_IO. */
bool mf_file_range_read(const struct mf_file_range *range, void *out, struct mf_error *err);
/* Piece by piece: it is never whole in memory. Ends at the first piece that `take` refuses, with
 * its error. MF_ERR_IO, MF_ERR_NO_MEMORY. */
bool mf_file_range_pieces(const struct mf_file_range *range,
                          bool (*take)(void *context, const void *piece, size_t len,
                                       struct mf_error *err),
                          void *context, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
