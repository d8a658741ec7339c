/* DIMSE: storage commitment (PS3.4 annex J): what of a request is stored, and who is told. */
#ifndef MF_SERVER_DIMSE_COMMITMENT_H
#define MF_SERVER_DIMSE_COMMITMENT_H

#include "dicom/deidentify.h"
#include "dicom/net.h"
#include "server/dicom_address.h"
#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sets the reason of every item that is not stored as the tenant's; with `deidentify` it is stored
 * under the UIDs that these rules give. When all are stored the sender
 * has sent what it wanted to: their studies become jobs without waiting for their quiet time. */
bool mf_dimse_commit(struct mf_store *store, const char *tenant,
                     const struct mf_deidentify_rules *deidentify, struct mf_commitment *commitment,
                     struct mf_error *err) MF_CHECK_RESULT;

/* Where the reports of an AE title go, by dimse.report_to; false: nowhere of their own. */
bool mf_dimse_report_address(const struct mf_config *config, const char *ae,
                             struct mf_dicom_address *ret);

/* Whether all addresses of dimse.report_to are understood. MF_ERR_USAGE names the address. */
bool mf_dimse_report_check(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
