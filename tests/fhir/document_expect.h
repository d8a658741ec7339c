/* What the tests of documents share: FHIR text, and whose what it holds is. */
#ifndef MF_TESTS_FHIR_DOCUMENT_EXPECT_H
#define MF_TESTS_FHIR_DOCUMENT_EXPECT_H

#include "fhir/record.h"
#include "tests/expect.h"

#define PATIENT(id) "{\"resourceType\":\"Patient\",\"id\":\"" id "\"}"
#define OBSERVATION(id, subject)                                                                   \
    "{\"resourceType\":\"Observation\",\"id\":\"" id "\",\"status\":\"final\",\"code\":{},"        \
    "\"subject\":" subject "}"
#define REF(reference) "{\"reference\":\"" reference "\"}"
#define BUNDLE(entries)                                                                            \
    "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[" entries "]}"
#define ENTRY(url, resource) "{\"fullUrl\":\"" url "\",\"resource\":" resource "}"

static inline struct mf_fhir_document *parse(const char *text, struct mf_error *err)
{
    return mf_fhir_document_parse(text, strlen(text), NULL, "ehr", err);
}

/* "Patient/1: Observation/2 Observation/3; Patient/4:" */
static inline char *summary(const struct mf_fhir_document *doc)
{
    char *text = calloc(1, 4096);
    size_t n = 0;
    for (size_t i = 0; i < mf_fhir_patient_count(doc); i++) {
        const struct mf_fhir_patient *p = mf_fhir_patient(doc, i);
        n += (size_t)snprintf(text + n, 4096 - n, "%s%s:", i ? "; " : "", p->reference);
        for (size_t k = 0; k < p->record_count; k++)
            n += (size_t)snprintf(text + n, 4096 - n, " %s", p->records[k]->reference);
    }
    return text;
}

#endif
