/*
 * Ids of states that never change: the SHA-256 of their content as JSON with sorted keys and real
 * numbers of 17 digits, so that equal histories have equal ids whoever made them.
 */
#ifndef MF_TRUST_SEAL_H
#define MF_TRUST_SEAL_H

#include "core/digest.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The id of this content (everything but the id). The reference is taken; NULL is an out-of-memory
 * error. */
bool mf_seal_id(json_t *content, char ret_id[MF_SHA256_HEX], struct mf_error *err);
/* The content with its id as a member. The reference is taken and given back; NULL when out of
 * memory. */
json_t *mf_seal_with_id(json_t *content, const char *id);

#ifdef __cplusplus
}
#endif

#endif
