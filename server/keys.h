/* Idempotency keys whose first request is still under way in this process: a second one gets 409.
 */
#ifndef MF_SERVER_KEYS_H
#define MF_SERVER_KEYS_H

#include "core/auto.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_IDEMPOTENCY_KEY = 255 };

struct mf_keys;

struct mf_keys *mf_keys_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_keys_free(struct mf_keys *keys);
/* Reserves a key for a tenant. MF_ERR_CONFLICT when it is reserved; MF_ERR_MALFORMED unless it is 1
 * to 255 visible ASCII characters. */
bool mf_keys_reserve(struct mf_keys *keys, const char *tenant, const char *key,
                     struct mf_error *err) MF_CHECK_RESULT;
void mf_keys_release(struct mf_keys *keys, const char *tenant, const char *key);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_keys, struct mf_keys *, mf_keys_free(*p))

#endif
