/*
 * Buffer: growable bytes with a ceiling given at init. Appending past the ceiling fails with
 * MF_ERR_TOO_LARGE and leaves the content as it was. The content is always followed by a NUL that
 * does not count, so text can be used as a C string.
 */
#ifndef MF_CORE_BUFFER_H
#define MF_CORE_BUFFER_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_buffer {
    char *data; /* owned; NULL until the first append */
    size_t len, capacity, ceiling;
};

/* ceiling: the most bytes of content it may ever hold. No allocation happens here. */
void mf_buffer_init(struct mf_buffer *b, size_t ceiling);
void mf_buffer_free(struct mf_buffer *b);
/* Forgets the content, keeps the memory. */
void mf_buffer_clear(struct mf_buffer *b);

bool mf_buffer_append(struct mf_buffer *b, const void *data, size_t len,
                      struct mf_error *err) MF_CHECK_RESULT;
bool mf_buffer_append_str(struct mf_buffer *b, const char *s, struct mf_error *err) MF_CHECK_RESULT;
bool mf_buffer_printf(struct mf_buffer *b, struct mf_error *err, const char *fmt, ...)
    MF_PRINTF(3, 4);
/* Makes room for `extra` more bytes and returns where they go (set b->len after writing), or NULL.
 */
char *mf_buffer_reserve(struct mf_buffer *b, size_t extra, struct mf_error *err) MF_CHECK_RESULT;
/* Gives the content away (caller frees; "" for an empty buffer) and empties the buffer. */
char *mf_buffer_take(struct mf_buffer *b, size_t *len);

/* Reads a whole file; more than the ceiling fails. `name` names a descriptor in messages. */
bool mf_buffer_read_file(struct mf_buffer *b, const char *path,
                         struct mf_error *err) MF_CHECK_RESULT;
bool mf_buffer_read_fd(struct mf_buffer *b, int fd, const char *name,
                       struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_buffer, struct mf_buffer, mf_buffer_free(p))

#endif
