/* Courier: one result on its way as a document: a transaction to a FHIR server, an HL7 v2 message
 * to an interface engine. */
#ifndef MF_SERVER_COURIER_PUSH_H
#define MF_SERVER_COURIER_PUSH_H

#include "server/courier_outbox.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether an address of outbox.destinations is one of these: "fhir:NAME", "mllp://…". */
bool mf_courier_push_wants(const char *destination);

/* Sends it. FHIR: one transaction of conditional creates, so that repeating it makes nothing twice;
 * the receiver's Patient is looked up by the study's PatientID. HL7: ORU^R01 whose control id is
 * the job's, and its acknowledgement. What the client, mf_mllp_send() and the store set. */
bool mf_courier_push(const struct mf_courier_outbox *c, const struct mf_delivery *delivery,
                     struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
