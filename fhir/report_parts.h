/* What the files of a FHIR report share: the report in the making, and elements of its resources.
 * Not for other modules. JSON that is returned is new and the caller's; what is passed as `value`,
 * `item`, `list` or `resource` is taken, NULL (it could not be made) fails the report. */
#ifndef MF_FHIR_REPORT_PARTS_H
#define MF_FHIR_REPORT_PARTS_H

#include "fhir/report.h"

enum { MF_FHIR_URN = 46 }; /* "urn:uuid:" and 36 characters */

#define MF_FHIR_URI_SYSTEM "urn:ietf:rfc:3986"

struct mf_fhir_draft {
    const json_t *result, *model, *study;
    const struct mf_fhir_report_context *context;
    enum mf_fhir_bundle_type type;
    json_t *entries;
    char effective[40]; /* FHIR dateTime of the study, or "" */
    char device[MF_FHIR_URN];
    bool failed; /* an allocation of an optional part failed: nothing is left out silently */
};

/* --- adding --- */

void mf_fhir_draft_append(struct mf_fhir_draft *b, json_t *list, json_t *item);
void mf_fhir_draft_add(struct mf_fhir_draft *b, json_t *object, const char *key, json_t *value);
/* A string, unless it is NULL. */
void mf_fhir_draft_add_text(struct mf_fhir_draft *b, json_t *object, const char *key,
                            const char *text);
/* A list, unless it is empty: FHIR has no empty lists. */
void mf_fhir_draft_add_list(struct mf_fhir_draft *b, json_t *object, const char *key, json_t *list);
/* The patient as `subject`, by reference, identifier or both, as far as they are known. */
void mf_fhir_draft_add_subject(struct mf_fhir_draft *b, json_t *resource);
/* When the study was made and the result was issued. */
void mf_fhir_draft_add_times(struct mf_fhir_draft *b, json_t *resource);
/* The resource as an entry of the Bundle. */
void mf_fhir_draft_add_entry(struct mf_fhir_draft *b, const char *urn, json_t *resource);

/* --- making --- */

/* urn:uuid of a resource of this result, the same every time; returns `out`. */
const char *mf_fhir_draft_urn(const struct mf_fhir_draft *b, const char *kind, const char *name,
                              char out[MF_FHIR_URN]);
/* The id of a resource: of a result that is served "JOB" or "JOB-SUFFIX", so that it can be read
 * again by it; else the UUID of its URN. */
json_t *mf_fhir_draft_id(const struct mf_fhir_draft *b, const char *urn, const char *suffix);
json_t *mf_fhir_draft_identifier(const char *urn); /* the URN as a list of one Identifier */
json_t *mf_fhir_draft_concept(const char *system, const char *code, const char *display);
json_t *mf_fhir_draft_reference(const char *urn);
/* A list with the imaging study by its UID, a logical reference; empty without a UID. */
json_t *mf_fhir_draft_imaging_study(struct mf_fhir_draft *b);
/* What a prediction was made from: the study, and the EHR's Observations that were used. */
json_t *mf_fhir_draft_sources(struct mf_fhir_draft *b);

/* --- labels (report_labels.c) --- */

/* Whether the prediction's state is one that there is. */
bool mf_fhir_draft_knows_state(const json_t *prediction);
/* The label's own codings, and its display as text. */
json_t *mf_fhir_draft_label(struct mf_fhir_draft *b, const json_t *prediction);
/* The label's resource, with `urn` and an id that ends in `suffix`. */
void mf_fhir_draft_add_observation(struct mf_fhir_draft *b, const json_t *prediction,
                                   const char *urn, const char *suffix);
void mf_fhir_draft_add_risk(struct mf_fhir_draft *b, const json_t *prediction, const char *urn,
                            const char *suffix);

#endif
