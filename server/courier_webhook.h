/* Courier: telling a webhook that a job has ended. */
#ifndef MF_SERVER_COURIER_WEBHOOK_H
#define MF_SERVER_COURIER_WEBHOOK_H

#include "server/courier_outbox.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether an address of outbox.destinations is one: "webhook:NAME". */
bool mf_courier_webhook_wants(const char *destination);

/* POSTs {"type": "job.STATE", "timestamp": when it ended, "data": {"tenant", "job":
 * medfusion.job/1}}: no patient data, what it is about is read with the receiver's own credentials.
 * webhook-id is the job's, the same however often it is sent. Redirects are failures. MF_ERR_GONE:
 * the receiver answered 410 and wants no more of this; else MF_ERR_IO, MF_ERR_TIMEOUT,
 * MF_ERR_UNAVAILABLE or what the store set. */
bool mf_courier_webhook(const struct mf_courier_outbox *c, const struct mf_delivery *delivery,
                        struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
