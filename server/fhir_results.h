/* Stored results as FHIR resources: what reads, searches and CDS cards look at. */
#ifndef MF_SERVER_FHIR_RESULTS_H
#define MF_SERVER_FHIR_RESULTS_H

#include "fhir/report.h"
#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One job's result as a Bundle; the caller owns it. MF_ERR_NOT_FOUND when there is no such job, it
 * did not succeed, or its data was purged. `ret_job` may be NULL. */
json_t *mf_fhir_result(struct mf_request *request, const char *job, enum mf_fhir_bundle_type type,
                       struct mf_job *ret_job, struct mf_error *err) MF_CHECK_RESULT;

/* Whose a result is, in both worlds: DICOM's PatientID and issuer as an identifier, and the
 * reference of the FHIR Patient it was made with. Absent ones are "". */
struct mf_fhir_owner {
    char id[72], system[136], reference[136];
};

/* Goes over the results of succeeded jobs, newest first, from `cursor` on (0 = the newest), at most
 * `limit` jobs; `take` gets each and says whether to go on. What a result says of its patient is
 * remembered, so that most results need not be read again to be passed over. *ret_next is where the
 * next page begins, 0 at the end. */
struct mf_fhir_walk {
    int64_t cursor;
    size_t limit;
    /* Whether the result is wanted at all, by whose it is. */
    bool (*wanted)(void *context, const struct mf_fhir_owner *owner);
    /* One result; false stops. The Bundle is borrowed. */
    bool (*take)(void *context, const struct mf_job *job, const json_t *bundle);
    void *context;
};
bool mf_fhir_walk_results(struct mf_request *request, const struct mf_fhir_walk *walk,
                          int64_t *ret_next, struct mf_error *err) MF_CHECK_RESULT;

/* The resource of a Bundle entry; its owner from the subject of a report. */
const json_t *mf_fhir_entry_resource(const json_t *bundle, size_t i);

#ifdef __cplusplus
}
#endif

#endif
