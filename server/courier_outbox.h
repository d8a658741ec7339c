/* Courier: results on their way to where they are stored back. */
#ifndef MF_SERVER_COURIER_OUTBOX_H
#define MF_SERVER_COURIER_OUTBOX_H

#include "server/blobs.h"
#include "server/config.h"
#include "server/decoder.h"
#include "server/deidentify.h"
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
    struct mf_deidentify_rules deidentify; /* for destinations of outbox.deidentify */
};

/* Sends the result as the destination's address says (the DICOM objects by STOW-RS or C-STORE, a
 * document as courier_push.h tells, the news as courier_webhook.h) and settles the delivery: done,
 * again later, or given up; with *ret_waiting it waits for a storage commitment
 * (courier_commit.h). The objects have the same UIDs however often they are sent. False: the
 * store or the disk failed, the delivery stays due. */
bool mf_courier_deliver(const struct mf_courier_outbox *c, const struct mf_delivery *delivery,
                        bool *ret_waiting, struct mf_error *err) MF_CHECK_RESULT;

/* What was sent: one object of a result as it is called at its destination. */
struct mf_courier_object {
    char study[65], series[65], sop_class[65], sop_instance[65];
};
enum { MF_COURIER_OBJECTS = 256 };

/* Sends the objects of a job that has succeeded to an address of the forms http(s):// and
 * dicom(s)://, as a delivery does; nothing is settled. `ret` has room for MF_COURIER_OBJECTS.
 * MF_ERR_GONE, MF_ERR_NOT_FOUND, MF_ERR_MALFORMED, MF_ERR_USAGE: another attempt will end alike. */
bool mf_courier_send(const struct mf_courier_outbox *c, const char *tenant, const char *job,
                     const char *address, struct mf_courier_object *ret, size_t *ret_count,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Whether another attempt may end otherwise. */
bool mf_courier_may_pass(enum mf_code code);

/* Opens and closes what a thread delivers with. Close it also after a failure. */
bool mf_courier_outbox_open(struct mf_courier_outbox *c, const struct mf_config *config,
                            const char *decoder_address, struct mf_error *err) MF_CHECK_RESULT;
void mf_courier_outbox_close(struct mf_courier_outbox *c);

/* Whether all addresses of outbox.destinations are understood, and the FHIR servers and webhooks
 * that they name are known. MF_ERR_USAGE names the address. */
bool mf_courier_outbox_check(const struct mf_config *config, const struct mf_fhir_client *fhir,
                             const struct mf_webhooks *webhooks,
                             struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
