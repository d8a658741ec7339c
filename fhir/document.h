/*
 * A FHIR R4 document: the resources of one input, indexed for the questions that MedFusion asks of
 * it (which patients are there, what is known of each).
 *
 * Accepted: a Bundle of any type (http://hl7.org/fhir/R4/bundle.html), a single resource, or
 * NDJSON, one resource a line (http://hl7.org/fhir/R4/nd-json.html), of R4 and R4B; Bundles inside
 * Bundles are flattened. Read are Patient, Observation, Encounter, Condition, Procedure,
 * MedicationRequest, MedicationStatement, MedicationAdministration (with Medication),
 * AllergyIntolerance, ServiceRequest, ImagingStudy and DiagnosticReport; others are counted.
 *
 * The text is read once, piece by piece, and only flat records stay (record.h): a Bundle of 50 MB
 * takes a fraction of that in memory. A document parses untrusted text: size, depth, the memory of
 * one resource and the number of resources are limited, and messages never hold content. Patient
 * data stays inside the document until the caller asks for it.
 */
#ifndef MF_FHIR_DOCUMENT_H
#define MF_FHIR_DOCUMENT_H

#include "core/auto.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_fhir_document;
struct mf_fhir_record; /* record.h */

struct mf_fhir_limits {
    size_t max_bytes;     /* of text; 0 = 1 GiB */
    int max_depth;        /* of arrays and objects; 0 = 64 */
    size_t max_resources; /* contained ones included; 0 = 1,000,000 */
};

/* Parses `len` bytes; `limits` may be NULL; `name` names the input in messages. NULL on failure:
 * MF_ERR_MALFORMED (not JSON, not FHIR, a resource that breaks the rules of R4 where we depend on
 * them; the message names the element by its path), MF_ERR_UNSUPPORTED (XML), MF_ERR_TOO_LARGE (a
 * limit), MF_ERR_UNUSABLE (FHIR, but nothing about a patient in it). */
struct mf_fhir_document *mf_fhir_document_parse(const char *text, size_t len,
                                                const struct mf_fhir_limits *limits,
                                                const char *name,
                                                struct mf_error *err) MF_CHECK_RESULT;
/* The same from a file, plain or compressed with gzip (how exports of bulk data lie on disks); the
 * text is never whole in memory, and max_bytes is of the text. */
struct mf_fhir_document *mf_fhir_document_load(const char *path,
                                               const struct mf_fhir_limits *limits,
                                               struct mf_error *err) MF_CHECK_RESULT;
void mf_fhir_document_free(struct mf_fhir_document *doc);

/* The same for text that comes in pieces: feed all of it, then finish, then free the reader. After
 * a failure only freeing is allowed. */
struct mf_fhir_reader;
struct mf_fhir_reader *mf_fhir_reader_new(const struct mf_fhir_limits *limits, const char *name,
                                          struct mf_error *err) MF_CHECK_RESULT;
bool mf_fhir_reader_feed(struct mf_fhir_reader *reader, const char *bytes, size_t len,
                         struct mf_error *err) MF_CHECK_RESULT;
struct mf_fhir_document *mf_fhir_reader_finish(struct mf_fhir_reader *reader,
                                               struct mf_error *err) MF_CHECK_RESULT;
void mf_fhir_reader_free(struct mf_fhir_reader *reader);

/* Resources of all types in the document, contained ones included. */
size_t mf_fhir_document_resource_count(const struct mf_fhir_document *doc);

/* A business identifier of a patient (Patient.identifier). Strings live as long as the document. */
struct mf_fhir_identifier {
    const char *system;   /* URI, or NULL */
    const char *value;    /* never NULL or empty */
    const char *assigner; /* Identifier.assigner.display, or NULL */
};

/* A patient of the document, in the order of first mention. */
struct mf_fhir_patient {
    const char *reference; /* "Patient/1"; or the fullUrl where the resource has no id */
    const struct mf_fhir_record *resource; /* NULL when others name a patient who is not there */
    const struct mf_fhir_identifier *identifiers; /* without those of use `old` */
    size_t identifier_count;
    const struct mf_fhir_record *const *records; /* all about them, in document order; superseded
                                                    versions left out */
    size_t record_count;
};

size_t mf_fhir_patient_count(const struct mf_fhir_document *doc);
const struct mf_fhir_patient *mf_fhir_patient(const struct mf_fhir_document *doc, size_t index);

/* The patient with an identifier whose value is `patient_id` (surrounding spaces ignored). `issuer`
 * (IssuerOfPatientID, nullable) decides between several: it is compared with the identifier's
 * system, with and without "urn:oid:", and with its assigner; two different OIDs, or two different
 * URIs, are two issuers. NULL with MF_ERR_UNUSABLE when there is no such patient, or more than one.
 */
const struct mf_fhir_patient *mf_fhir_find_patient(const struct mf_fhir_document *doc,
                                                   const char *patient_id, const char *issuer,
                                                   struct mf_error *err) MF_CHECK_RESULT;

/* Whether this identifier is that PatientID, as mf_fhir_find_patient compares them. */
bool mf_fhir_identifies(const struct mf_fhir_identifier *identifier, const char *patient_id,
                        const char *issuer);

/* The latest clinical date of a patient: the newest Observation.effective[x] of an Observation that
 * counts (see extract.h). For NULL of all patients, and when no Observation has a time, the newest
 * beginning of any other record. MF_TIME_UNKNOWN when there is none. */
struct mf_time mf_fhir_latest_time(const struct mf_fhir_document *doc,
                                   const struct mf_fhir_patient *patient);

/* A Bundle (collection) of what MedFusion reads of one patient and nothing else: identifiers, birth
 * date, gender; of the other resources status, codes, times, values. What a job stores instead of
 * the upload. The Bundles of several patients may be put into one. NULL when out of memory. */
json_t *mf_fhir_reduce(const struct mf_fhir_document *doc, const struct mf_fhir_patient *patient);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_fhir_reader, struct mf_fhir_reader *, mf_fhir_reader_free(*p))
MF_AUTO_DEFINE(mf_fhir_document, struct mf_fhir_document *, mf_fhir_document_free(*p))

#endif
