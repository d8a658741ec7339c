/* Private to fetch: which studies of a patient are fetched beside the one that is asked for. */
#ifndef MF_SERVER_FETCH_PRIORS_H
#define MF_SERVER_FETCH_PRIORS_H

#include "server/fetch_private.h"

/* Looks for earlier studies of the patient of `current` (its row) and fetches them, the newest
 * first, at most fetch.max_priors. */
bool mf_fetch_priors(const struct mf_fetch *f, const struct mf_fetch_way *way,
                     const struct mf_fetch_source *from, const json_t *current,
                     struct mf_error *err) MF_CHECK_RESULT;

#endif
