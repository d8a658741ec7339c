/*
 * The part of a document that MedFusion reads: one patient's identifiers, birth date and gender,
 * and of their Observations status, codes, times and values. Everything else (names, addresses,
 * notes, images) stays behind, so a stored job holds no more than it needs.
 *
 * Entries get fullUrls of their own ("urn:medfusion:…") and Observations a subject that names the
 * patient's: resources of two servers with the same id stay two, and the Bundles of several
 * patients can be put into one document. How resources are named to users
 * (mf_fhir_patient.reference) stays the same.
 */
#include "fhir/internal.h"

#include <string.h>

/* Copies the listed members (shared, not cloned); NULL when out of memory. */
static json_t *project(const json_t *object, const char *const members[])
{
    json_t *copy = json_object();
    for (size_t i = 0; copy && members[i]; i++) {
        json_t *v = json_object_get(object, members[i]);
        if (v && json_object_set(copy, members[i], v) != 0) {
            json_decref(copy);
            return NULL;
        }
    }
    return copy;
}

/* Adds a member unless the text is NULL; false when memory ran out. */
static bool put_text(json_t *object, const char *key, const char *text)
{
    return !text || json_object_set_new(object, key, json_string(text)) == 0;
}

static json_t *identifier_of(const struct mf_fhir_identifier *id)
{
    MF_AUTO(mf_json) json_t *identifier = json_pack("{s:s}", "value", id->value);
    if (!put_text(identifier, "system", id->system))
        return NULL;
    if (id->assigner && json_object_set_new(identifier, "assigner",
                                            json_pack("{s:s}", "display", id->assigner)) != 0)
        return NULL;
    return MF_STEAL(identifier);
}

static json_t *identifiers_of(const struct mf_fhir_patient *patient)
{
    MF_AUTO(mf_json) json_t *list = json_array();
    for (size_t i = 0; i < patient->identifier_count; i++)
        if (json_array_append_new(list, identifier_of(&patient->identifiers[i])) != 0)
            return NULL;
    return MF_STEAL(list);
}

/* The id in "TYPE/id", or NULL for other names of a resource. */
static const char *id_in(const char *reference, const char *type)
{
    size_t n = strlen(type);
    return strncmp(reference, type, n) == 0 && reference[n] == '/' ? reference + n + 1 : NULL;
}

/* Whether a name is a fullUrl that can stay one. Our own are given anew, lest two resources share
 * one. */
static bool is_url(const char *reference)
{
    static const char *const SCHEMES[] = {"urn:", "http://", "https://"};
    for (size_t i = 0; i < sizeof SCHEMES / sizeof *SCHEMES; i++)
        if (strncmp(reference, SCHEMES[i], strlen(SCHEMES[i])) == 0)
            return strncmp(reference, "urn:medfusion:", strlen("urn:medfusion:")) != 0;
    return false;
}

static json_t *patient_entry(const struct mf_fhir_patient *patient, const char *url)
{
    json_t *resource =
        json_pack("{s:s, s:o}", "resourceType", "Patient", "identifier", identifiers_of(patient));
    MF_AUTO(mf_json) json_t *entry = json_pack("{s:s, s:o}", "fullUrl", url, "resource", resource);
    if (!entry || !put_text(resource, "id", id_in(patient->reference, "Patient")) ||
        !put_text(resource, "birthDate",
                  mf_json_get_string(patient->resource, "birthDate", NULL)) ||
        !put_text(resource, "gender", mf_json_get_string(patient->resource, "gender", NULL)))
        return NULL;
    return MF_STEAL(entry);
}

static json_t *observation_entry(const json_t *observation, const char *patient_url,
                                 const char *url)
{
    static const char *const MEMBERS[] = {"resourceType",
                                          "status",
                                          "code",
                                          "component",
                                          "effectiveDateTime",
                                          "effectiveInstant",
                                          "effectivePeriod",
                                          "issued",
                                          "valueQuantity",
                                          "valueInteger",
                                          "valueString",
                                          "valueBoolean",
                                          "valueCodeableConcept",
                                          "dataAbsentReason",
                                          NULL};
    json_t *resource = project(observation, MEMBERS);
    if (json_object_set_new(resource, "subject", json_pack("{s:s}", "reference", patient_url)) !=
        0) {
        json_decref(resource);
        return NULL;
    }
    return json_pack("{s:s, s:o}", "fullUrl", url, "resource", resource);
}

/* Entry number `i` of the patient's Observations. One that has no id keeps the name it had as its
 * URL. */
static json_t *numbered_entry(const struct mf_fhir_patient *patient, size_t i,
                              const char *patient_url)
{
    const char *reference = patient->observation_references[i];
    const char *id = strchr(reference, '#') ? NULL : id_in(reference, "Observation");
    MF_AUTO(mf_json)
    json_t *url =
        is_url(reference) ? json_string(reference) : json_sprintf("%s:%zu", patient_url, i + 1);
    json_t *entry =
        observation_entry(patient->observations[i], patient_url, json_string_value(url));
    if (id && json_object_set_new(json_object_get(entry, "resource"), "id", json_string(id)) != 0) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}

json_t *mf_fhir_reduce(const struct mf_fhir_document *doc, const struct mf_fhir_patient *patient)
{
    MF_AUTO(mf_json)
    json_t *url = is_url(patient->reference)
                      ? json_string(patient->reference)
                      : json_sprintf("urn:medfusion:%zu", (size_t)(patient - doc->patients) + 1);
    MF_AUTO(mf_json) json_t *entries = json_array();
    const char *patient_url = json_string_value(url);
    if (!url || !entries ||
        json_array_append_new(entries, patient_entry(patient, patient_url)) != 0)
        return NULL;
    for (size_t i = 0; i < patient->observation_count; i++)
        if (json_array_append_new(entries, numbered_entry(patient, i, patient_url)) != 0)
            return NULL;
    return json_pack("{s:s, s:s, s:O}", "resourceType", "Bundle", "type", "collection", "entry",
                     entries);
}
