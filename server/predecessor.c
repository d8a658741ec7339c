/* Predecessor: a study remembers its jobs, newest first. */
#include "server/predecessor.h"

#include <string.h>

bool mf_predecessor(struct mf_store *store, const char *tenant, const char *study_uid,
                    const char *job, struct mf_arena *arena, struct mf_job_record *ret,
                    bool *ret_found, struct mf_error *err)
{
    struct mf_study_state study;
    struct mf_error none = MF_ERROR_INIT;
    bool behind = false;
    *ret_found = false;
    if (!mf_store_study(store, tenant, study_uid, arena, &study, &none))
        return none.code == MF_ERR_NOT_FOUND || mf_error_set(err, none.code, "%s", none.msg);
    for (size_t i = 0; i < study.job_count && !*ret_found; i++) {
        if (behind && !mf_store_record(store, tenant, study.jobs[i], arena, ret, err))
            return false;
        *ret_found = behind && ret->job.state == MF_JOB_SUCCEEDED && ret->result && ret->index;
        behind = behind || strcmp(study.jobs[i], job) == 0;
    }
    return true;
}
