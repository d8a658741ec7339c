/* References between the resources of a Bundle. */
#ifndef MF_FHIR_LINKS_H
#define MF_FHIR_LINKS_H

#include "core/json.h"

#include <stdbool.h>

/* Turns every reference to an entry's `fullUrl` into a relative one, "Observation/ID"
 * (http://hl7.org/fhir/R4/references.html#literal). `entries` are a Bundle's; false when out of
 * memory. */
bool mf_fhir_link_by_id(json_t *entries);

#endif
