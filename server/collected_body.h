/*
 * A body that an endpoint collects whole before it looks at it. It lies in request->state; the
 * endpoint's begin, data and dispose are, or call, these.
 */
#ifndef MF_SERVER_COLLECTED_BODY_H
#define MF_SERVER_COLLECTED_BODY_H

#include "core/buffer.h"
#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* At most `most` bytes will be taken. */
bool mf_collect_begin(struct mf_request *request, size_t most,
                      struct mf_error *err) MF_CHECK_RESULT;
/* MF_ERR_TOO_LARGE: "WHAT has at most N bytes". */
bool mf_collect_data(struct mf_request *request, const char *what, const void *data, size_t len,
                     struct mf_error *err) MF_CHECK_RESULT;
/* What has come so far; its data is NULL when that is nothing. */
struct mf_buffer *mf_collected(const struct mf_request *request);
void mf_collect_dispose(struct mf_request *request);

#ifdef __cplusplus
}
#endif

#endif
