/* Courier: from a stored study to a job. */
#ifndef MF_SERVER_COURIER_STUDY_H
#define MF_SERVER_COURIER_STUDY_H

#include "server/courier_collect.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_courier_study {
    struct mf_courier_tools tools;
    uint64_t rest_until_ns; /* before it no source is asked for priors: the last one failed */
};

/* Makes a job of a study that is due, with the patient's earlier studies as priors (stored ones,
 * and those of the tenant's first source in fetch.sources that the models want) and what the FHIR
 * server of fhir.source knows of the patient, and settles it. Without such data, when those servers
 * have none or cannot be reached, the study is run all the same; a result that lacks the source's
 * priors says so. The job's inputs are ranges of packs. The same revision of a study gives the same
 * job however often this is repeated. What cannot become a job is settled with the reason. False:
 * the store or the disk failed, the study stays due. ret_job: its id, "" = none. */
bool mf_courier_study_run(struct mf_courier_study *c, const struct mf_due_study *study,
                          char ret_job[MF_JOB_ID], struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
