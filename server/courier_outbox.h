/* Courier: results on their way to where they are stored back. */
#ifndef MF_SERVER_COURIER_OUTBOX_H
#define MF_SERVER_COURIER_OUTBOX_H

#include "server/blobs.h"
#include "server/config.h"
#include "server/decoder.h"
#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_courier_outbox {
    const struct mf_config *config;
    struct mf_decoder *decoder;
    struct mf_blobs *blobs;
    struct mf_store *store;
};

/* Makes the DICOM objects of the result, sends them (STOW-RS or C-STORE, by the destination's
 * address) and settles the delivery: done, again later, or given up. The objects have the same UIDs
 * however often they are sent. False: the store or the disk failed, the delivery stays due. */
bool mf_courier_deliver(const struct mf_courier_outbox *c, const struct mf_delivery *delivery,
                        struct mf_error *err) MF_CHECK_RESULT;

/* Splits "dicom://AE@host:port"; false when it is something else. */
bool mf_courier_dicom_address(const char *address, char ae[17], char host[256], int *port);

#ifdef __cplusplus
}
#endif

#endif
