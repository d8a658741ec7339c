/*
 * Courier: storage commitment of what was sent (PS3.4 annex J, as SCU). A destination
 * "dicom(s)://AE@host:port?commit" has a result only when it has said that it keeps all objects.
 * Its report comes on the association that asked, or later on one of its own to the DIMSE process;
 * until then the delivery waits in the outbox, and is made again after outbox.commit_s.
 */
#ifndef MF_SERVER_COURIER_COMMIT_H
#define MF_SERVER_COURIER_COMMIT_H

#include "server/courier_outbox.h"
#include "server/dicom_address.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Asks for the commitment of objects that were sent. True: *ret_waiting tells whether the report is
 * still to come, the delivery then is settled to wait for it; else all is committed. False: the
 * peer refused, or has not kept everything (MF_ERR_UNAVAILABLE names how much), or the store
 * failed. */
bool mf_courier_commit(const struct mf_courier_outbox *c, const struct mf_delivery *delivery,
                       const struct mf_net_peer *peer, struct mf_commitment_item *items,
                       size_t count, bool *ret_waiting, struct mf_error *err) MF_CHECK_RESULT;

/* Takes a report that came to the DIMSE process: settles its delivery. MF_ERR_NOT_FOUND: it is
 * about nothing that we have asked for. */
bool mf_courier_commit_report(const struct mf_config *config, struct mf_store *store,
                              const struct mf_commitment *report,
                              struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
