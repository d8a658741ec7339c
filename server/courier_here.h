/* Courier: results kept among our own stored instances (the destination "here:"), where QIDO-RS and
 * WADO-RS find them beside the images. */
#ifndef MF_SERVER_COURIER_HERE_H
#define MF_SERVER_COURIER_HERE_H

#include "server/courier_outbox.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether a destination is this one. */
bool mf_courier_here_wants(const char *destination);

/* Stores Part 10 files as instances of the tenant, in one transaction; again changes nothing.
 * MF_ERR_UNUSABLE: one of them cannot be stored. */
bool mf_courier_here(const struct mf_courier_outbox *c, const char *tenant,
                     const struct mf_buffer *files, size_t n, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
