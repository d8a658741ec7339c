/* What the files of fhir/ share: the inside of a document. Not for other modules. */
#ifndef MF_FHIR_INTERNAL_H
#define MF_FHIR_INTERNAL_H

#include "core/arena.h"
#include "fhir/document.h"

enum { MF_FHIR_NONE = -1 };

/* One Patient or Observation of the document. Strings are borrowed from the JSON, keys from the
 * arena. */
struct mf_fhir_resource {
    const json_t *json;
    bool is_patient;
    const char *id;       /* or NULL */
    const char *full_url; /* absolute fullUrl of the Bundle entry without "/_history/…", or NULL */
    const char *reference; /* how it is named to users */
    size_t ordinal; /* of the outermost resource it is in, counted over the document from 1 */
    bool contained;
    bool superseded; /* a newer version of it is in the document */
};

struct mf_fhir_document {
    struct mf_arena *arena;
    json_t *roots; /* array: the parsed JSON values that hold recorded resources */
    struct mf_fhir_resource *resources;
    size_t count, capacity;
    size_t total;  /* resources of all types */
    json_t *index; /* key → number of a resource or patient; see patients.c */
    struct mf_fhir_patient *patients;
    size_t patient_count;
};

/* Whether the parts of a Patient or Observation that MedFusion reads have the types of R4, dates
 * included. Failing names the element. */
bool mf_fhir_check_patient(const json_t *patient, struct mf_error *err);
bool mf_fhir_check_observation(const json_t *observation, struct mf_error *err);

/* Second half of parsing: marks superseded versions, builds the patient table. */
bool mf_fhir_build_patients(struct mf_fhir_document *doc, struct mf_error *err);

/* Observation.effective[x], else issued, as an interval; `ret_text` (nullable) gets it as given.
 * `local_clock`: the wall clock where it was made, time zone ignored. MF_TIME_UNKNOWN when there is
 * none. */
struct mf_time mf_fhir_observation_time(const json_t *observation, bool local_clock,
                                        const char **ret_text);

/* Neither entered in error nor cancelled. */
bool mf_fhir_observation_counts(const json_t *observation);

#endif
