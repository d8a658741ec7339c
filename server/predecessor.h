/* Predecessor: the result that another one supersedes, because images of its study came late. */
#ifndef MF_SERVER_PREDECESSOR_H
#define MF_SERVER_PREDECESSOR_H

#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The record of the newest earlier job of the study that has a result still; *ret_found false: the
 * job was not made of a stored study, or it is the first. Memory of the arena. */
bool mf_predecessor(struct mf_store *store, const char *tenant, const char *study_uid,
                    const char *job, struct mf_arena *arena, struct mf_job_record *ret,
                    bool *ret_found, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
