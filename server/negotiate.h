/* Content negotiation (RFC 9110, 12.5.1) over the media types an endpoint offers. */
#ifndef MF_SERVER_NEGOTIATE_H
#define MF_SERVER_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The index of the offer that an Accept field prefers; equal preference goes to the first offer.
 * NULL or empty accepts anything. −1: none is acceptable. Offers are "type/subtype" in lower case.
 */
int mf_negotiate(const char *accept, const char *const offers[], size_t count);

/* Whether a Content-Type is of this type, whatever its parameters and case. */
bool mf_media_type_is(const char *content_type, const char *type);

#ifdef __cplusplus
}
#endif

#endif
