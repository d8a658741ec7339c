/* Options as they are kept with a job: what a request said, and what a routing rule adds to it. */
#ifndef MF_SERVER_JOB_OPTIONS_H
#define MF_SERVER_JOB_OPTIONS_H

#include "core/arena.h"
#include "server/routing.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Options of a job whose priors could not be asked for. */
#define MF_JOB_WITHOUT_PRIORS "{\"priors_unavailable\":true}"

/* Whether a request may have these options: "destinations", if there are any, are configured for
 * the tenant, and none is ours to set. MF_ERR_UNUSABLE. */
bool mf_job_options_check(const json_t *options, const struct mf_config *config, const char *tenant,
                          struct mf_error *err) MF_CHECK_RESULT;

/* The text of `options` (JSON) with the destinations of the rule, unless it names its own; memory
 * of the arena, or `options` itself. `route` may be NULL. NULL when out of memory. */
const char *mf_job_options_route(const char *options, const struct mf_route *route,
                                 struct mf_arena *arena, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
