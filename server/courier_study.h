/* Courier: from a stored study to a job. */
#ifndef MF_SERVER_COURIER_STUDY_H
#define MF_SERVER_COURIER_STUDY_H

#include "server/blobs.h"
#include "server/config.h"
#include "server/decoder.h"
#include "server/fhir_client.h"
#include "server/registry.h"
#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_courier_study {
    const struct mf_config *config;
    struct mf_registry *registry;
    struct mf_decoder *decoder;
    struct mf_blobs *blobs;
    struct mf_store *store;
    struct mf_fhir_client *fhir; /* of fhir.servers */
};

/* Makes a job of a study that is due, with the patient's earlier stored studies as priors and what
 * the FHIR server of fhir.source knows of the patient, and settles it. Without such data, when that
 * server has none or cannot be reached, the study is run all the same. The job's inputs are ranges
 * of the packs that the instances lie in. The same revision of a study gives the same job however
 * often this is repeated. What cannot become a job is settled with the reason. False: the store or
 * the disk failed, the study stays due. ret_job: its id, "" = none. */
bool mf_courier_study_run(const struct mf_courier_study *c, const struct mf_due_study *study,
                          char ret_job[MF_JOB_ID], struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
