/*
 * multipart/form-data (RFC 7578) and multipart/related (RFC 2387) as a stream: bytes in any slicing
 * go in, parts come out through callbacks, and nothing but one delimiter and one part's header
 * fields is ever held.
 *
 * The syntax of both is that of RFC 2046 5.1. Stricter than the RFCs where senders never need the
 * slack: lines end with CRLF, header fields are not folded, a delimiter is followed by nothing but
 * blanks.
 */
#ifndef MF_SERVER_MULTIPART_H
#define MF_SERVER_MULTIPART_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_MULTIPART_NAME = 64, MF_MULTIPART_HEADERS = 8192, MF_MULTIPART_BOUNDARY = 70 };

/* What the parser calls; a false return stops it with that error. `name` is the part's, in
 * multipart/related its Content-Type ("" = none), valid during the call. */
struct mf_multipart_sink {
    bool (*begin)(void *context, const char *name, struct mf_error *err);
    bool (*data)(void *context, const void *data, size_t len, struct mf_error *err);
    bool (*end)(void *context, struct mf_error *err);
};

struct mf_multipart;

/* The value of a parameter of a Content-Type ("type" in multipart/related); false when it is not
 * there, twice, malformed or longer than size − 1 bytes. */
bool mf_multipart_parameter(const char *content_type, const char *name, char *out, size_t size);

/* content_type: the request's, with the boundary (quoted or not). MF_ERR_MALFORMED: no boundary, or
 * none that RFC 2046 allows. More than max_parts parts is MF_ERR_TOO_LARGE. */
struct mf_multipart *mf_multipart_new(const char *content_type, size_t max_parts,
                                      const struct mf_multipart_sink *sink, void *context,
                                      struct mf_error *err) MF_CHECK_RESULT;
void mf_multipart_free(struct mf_multipart *m);

/* Takes the next bytes. After a failure it must not be called again. */
bool mf_multipart_feed(struct mf_multipart *m, const void *data, size_t len,
                       struct mf_error *err) MF_CHECK_RESULT;
/* The body is over: MF_ERR_MALFORMED unless the closing delimiter was there. */
bool mf_multipart_finish(struct mf_multipart *m, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_multipart, struct mf_multipart *, mf_multipart_free(*p))

#endif
