/* Courier: results on their way to where they are stored back. */
#ifndef MF_SERVER_COURIER_OUTBOX_H
#define MF_SERVER_COURIER_OUTBOX_H

#include "server/blobs.h"
#include "server/config.h"
#include "server/decoder.h"
#include "server/fhir_client.h"
#include "server/store_instances.h"
#include "server/webhooks.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_courier_outbox {
    const struct mf_config *config;
    struct mf_decoder *decoder;
    struct mf_blobs *blobs;
    struct mf_store *store;
    struct mf_fhir_client *fhir;
    struct mf_webhooks *webhooks;
};

/* Sends the result as the destination's address says (the DICOM objects by STOW-RS or C-STORE, a
 * document as courier_push.h tells, the news as courier_webhook.h) and settles the delivery: done,
 * again later, or given up. The objects have the same UIDs however often they are sent. False: the
 * store or the disk failed, the delivery stays due. */
bool mf_courier_deliver(const struct mf_courier_outbox *c, const struct mf_delivery *delivery,
                        struct mf_error *err) MF_CHECK_RESULT;

/* Whether all addresses of outbox.destinations are understood, and the FHIR servers and webhooks
 * that they name are known. MF_ERR_USAGE names the address. */
bool mf_courier_outbox_check(const struct mf_config *config, const struct mf_fhir_client *fhir,
                             const struct mf_webhooks *webhooks,
                             struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
