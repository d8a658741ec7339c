/* What the files of fhir/ share: the inside of a document. Not for other modules. */
#ifndef MF_FHIR_INTERNAL_H
#define MF_FHIR_INTERNAL_H

#include "fhir/record.h"

enum { MF_FHIR_NONE = -1 };

struct mf_fhir_document {
    struct mf_fhir_pool pool;
    struct mf_fhir_record **records; /* each in the arena */
    size_t count, capacity;
    size_t total;             /* resources of all types */
    struct mf_fhir_map index; /* key → number of a record or patient; see patients.c */
    struct mf_fhir_patient *patients;
    size_t patient_count;
};

/* Second half of parsing: marks superseded versions, resolves references, builds the patient
 * table. */
bool mf_fhir_build_patients(struct mf_fhir_document *doc, struct mf_error *err);

#endif
