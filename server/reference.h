/*
 * How the features of the calibration cases were distributed: what GET /v1/quality compares the
 * features of now with. `medfusion calibrate` leaves it in the bundle.
 *
 * reference.json, `medfusion.reference/1`: {"schema", "model_hash", "features": [{"id", "cases",
 * "missing", "values": [ascending]} or {"id", "cases", "missing", "categories": {name: count}}]}:
 * `cases` have a value, `missing` have none. Of more than 1000 values, 1000 evenly spaced ones of
 * their order are kept.
 */
#ifndef MF_SERVER_REFERENCE_H
#define MF_SERVER_REFERENCE_H

#include "core/json.h"
#include "engine/bundle.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `cases`: what each case's result says under ehr.features (may be NULL). The caller owns what is
 * returned; NULL on failure. */
json_t *mf_reference_make(const struct mf_bundle *bundle, json_t *const *cases, size_t count,
                          struct mf_error *err);
/* The features of the bundle's reference.json, an array to be owned; json null when there is none
 * of this model. NULL on failure. */
json_t *mf_reference_load(const struct mf_bundle *bundle, struct mf_error *err);

/* The value of a feature in a result's ehr.features entry, and whether it was used. */
bool mf_reference_value(const json_t *entry, const json_t **ret);

#ifdef __cplusplus
}
#endif

#endif
