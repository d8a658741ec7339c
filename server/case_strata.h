/* What the trust layer may group cases by (engine/trust/strata.h), taken from a planned study: the
 * same for `calibrate`, `predict` and the daemon. */
#ifndef MF_SERVER_CASE_STRATA_H
#define MF_SERVER_CASE_STRATA_H

#include "dicom/study.h"
#include "engine/trust/strata.h"

#ifdef __cplusplus
extern "C" {
#endif

/* View, sex and age of the current study; strings are borrowed from the request and from `site`
 * (NULL = unknown). */
struct mf_strata mf_case_strata(const struct mf_study_request *request, const char *site);

#ifdef __cplusplus
}
#endif

#endif
