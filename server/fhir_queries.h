/* Searches that bring what feature definitions need of a patient, within what a server offers
 * (http://hl7.org/fhir/R4/search.html). */
#ifndef MF_SERVER_FHIR_QUERIES_H
#define MF_SERVER_FHIR_QUERIES_H

#include "core/arena.h"
#include "core/feature.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_fhir_wanted {
    const struct mf_feature_set *const *sets; /* of the bundles that may run */
    size_t set_count;
    const json_t *capabilities; /* CapabilityStatement; NULL = nothing is known */
    const char *patient;        /* id */
    const char *as_of; /* dateTime: only what the server had then (_lastUpdated); or NULL */
};

/* "Observation?patient=1&combo-code=…&_count=200" and so on, relative to the server's base: by code
 * where the server can search so and the definition names codes, else all of that type; long lists
 * of codes make several. The Patient itself is in none. Memory of the arena. */
bool mf_fhir_queries(const struct mf_fhir_wanted *wanted, struct mf_arena *arena,
                     const char *const **ret, size_t *ret_count,
                     struct mf_error *err) MF_CHECK_RESULT;

/* "Patient/1/$everything?_type=…", or NULL where the server does not offer it, or `as_of` cannot be
 * asked of it. *ret points into the arena. */
bool mf_fhir_everything(const struct mf_fhir_wanted *wanted, struct mf_arena *arena,
                        const char **ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
