/* Elements that the resources of a report share (http://hl7.org/fhir/R4/datatypes.html, references,
 * Bundle entries). */
#include "fhir/report_parts.h"

#include "core/digest.h"

#include <stdio.h>
#include <string.h>

static const char UID_SYSTEM[] = "urn:dicom:uid";

void mf_fhir_draft_append(struct mf_fhir_draft *b, json_t *list, json_t *item)
{
    b->failed |= json_array_append_new(list, item) != 0;
}

/* Adds a member (taken) that was made, or could not be made. */
void mf_fhir_draft_add(struct mf_fhir_draft *b, json_t *object, const char *key, json_t *value)
{
    b->failed |= json_object_set_new(object, key, value) != 0;
}

/* Adds a member unless the text is NULL. */
void mf_fhir_draft_add_text(struct mf_fhir_draft *b, json_t *object, const char *key,
                            const char *text)
{
    if (text)
        mf_fhir_draft_add(b, object, key, json_string(text));
}

/* urn:uuid of a resource of this result: the first 16 bytes of a SHA-256, marked as version 8. */
const char *mf_fhir_draft_urn(const struct mf_fhir_draft *b, const char *kind, const char *name,
                              char out[MF_FHIR_URN])
{
    unsigned char d[MF_SHA256_BYTES];
    char seed[1024];
    snprintf(seed, sizeof seed, "medfusion|%s|%s|%s|%s|%s",
             mf_json_get_string(b->study, "study_instance_uid", ""),
             mf_json_get_string(b->model, "digest", ""), mf_json_get_string(b->result, "job", ""),
             kind, name);
    mf_sha256(seed, strlen(seed), d);
    d[6] = (unsigned char)(0x80 | (d[6] & 0x0F));
    d[8] = (unsigned char)(0x80 | (d[8] & 0x3F));
    snprintf(out, MF_FHIR_URN,
             "urn:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0],
             d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13],
             d[14], d[15]);
    return out;
}

json_t *mf_fhir_draft_concept(const char *system, const char *code, const char *display)
{
    return json_pack("{s:[{s:s, s:s, s:s}]}", "coding", "system", system, "code", code, "display",
                     display);
}

json_t *mf_fhir_draft_reference(const char *urn)
{
    return json_pack("{s:s}", "reference", urn);
}

json_t *mf_fhir_draft_identifier(const char *urn)
{
    return json_pack("[{s:s, s:s}]", "system", MF_FHIR_URI_SYSTEM, "value", urn);
}

/* The `source` of feature `i` if its value was used and came from this type, else NULL. */
static const char *feature_source(const struct mf_fhir_draft *b, size_t i, const char *type)
{
    const json_t *list = json_object_get(json_object_get(b->result, "ehr"), "features");
    const json_t *feature = json_array_get(list, i);
    const char *source = mf_json_get_string(feature, "source", "");
    size_t n = strlen(type);
    bool used = strcmp(mf_json_get_string(feature, "status", ""), "used") == 0;
    return used && strncmp(source, type, n) == 0 && source[n] == '/' ? source : NULL;
}

static size_t feature_count(const struct mf_fhir_draft *b)
{
    return json_array_size(json_object_get(json_object_get(b->result, "ehr"), "features"));
}

/* The patient in the receiver's EHR: what the caller says, else the Patient that the features came
 * from. */
static const char *patient_reference(const struct mf_fhir_draft *b)
{
    const char *found = b->context->patient_reference;
    for (size_t i = 0; i < feature_count(b) && !found && !b->context->foreign; i++)
        found = feature_source(b, i, "Patient");
    return found;
}

/* PatientID and its issuer: an OID or URI is a system, a name an assigner. */
static json_t *patient_identifier(struct mf_fhir_draft *b, const char *id, const char *issuer)
{
    json_t *identifier = json_pack("{s:s}", "value", id);
    if (!issuer || !*issuer)
        return identifier;
    if (strchr(issuer, ':'))
        mf_fhir_draft_add_text(b, identifier, "system", issuer);
    else if (strchr(issuer, '.') && strspn(issuer, "0123456789.") == strlen(issuer))
        mf_fhir_draft_add(b, identifier, "system", json_sprintf("urn:oid:%s", issuer));
    else
        mf_fhir_draft_add(b, identifier, "assigner", json_pack("{s:s}", "display", issuer));
    return identifier;
}

/* Adds the patient by reference, identifier or both, as far as they are known. */
void mf_fhir_draft_add_subject(struct mf_fhir_draft *b, json_t *resource)
{
    const struct mf_fhir_report_context *c = b->context;
    const char *ref = patient_reference(b);
    bool has_id = c->patient_id && *c->patient_id;
    if (!ref && !has_id)
        return;
    json_t *subject = json_pack("{s:s}", "type", "Patient");
    mf_fhir_draft_add_text(b, subject, "reference", ref);
    if (has_id)
        mf_fhir_draft_add(b, subject, "identifier",
                          patient_identifier(b, c->patient_id, c->patient_issuer));
    mf_fhir_draft_add(b, resource, "subject", subject);
}

/* A list with the imaging study by its UID, a logical reference; empty without a UID. */
json_t *mf_fhir_draft_imaging_study(struct mf_fhir_draft *b)
{
    const char *uid = mf_json_get_string(b->study, "study_instance_uid", NULL);
    json_t *list = json_array();
    if (uid)
        mf_fhir_draft_append(b, list,
                             json_pack("{s:s, s:{s:s, s:o}}", "type", "ImagingStudy", "identifier",
                                       "system", UID_SYSTEM, "value",
                                       json_sprintf("urn:oid:%s", uid)));
    return list;
}

/* Adds a list (taken) unless it is empty: FHIR has no empty lists. */
void mf_fhir_draft_add_list(struct mf_fhir_draft *b, json_t *object, const char *key, json_t *list)
{
    if (list && json_array_size(list) == 0)
        json_decref(list);
    else
        mf_fhir_draft_add(b, object, key, list);
}

/* When the study was made and the result was issued. */
void mf_fhir_draft_add_times(struct mf_fhir_draft *b, json_t *resource)
{
    mf_fhir_draft_add_text(b, resource, "effectiveDateTime", *b->effective ? b->effective : NULL);
    mf_fhir_draft_add_text(b, resource, "issued", b->context->issued);
}

/* What a prediction was made from: the study, and the EHR's Observations that were used. */
json_t *mf_fhir_draft_sources(struct mf_fhir_draft *b)
{
    json_t *list = mf_fhir_draft_imaging_study(b);
    for (size_t i = 0; i < feature_count(b); i++) {
        const char *source = feature_source(b, i, "Observation");
        bool again = false;
        for (size_t k = 0; k < i && source && !again; k++) {
            const char *earlier = feature_source(b, k, "Observation");
            again = earlier && strcmp(earlier, source) == 0;
        }
        if (source && !again)
            mf_fhir_draft_append(b, list,
                                 b->context->foreign ? json_pack("{s:s, s:s}", "type",
                                                                 "Observation", "display", source)
                                                     : mf_fhir_draft_reference(source));
    }
    return list;
}

/* The id of a resource: of a result that is served "JOB" or "JOB-SUFFIX", so that it can be read
 * again by it; else the UUID of its URN. */
json_t *mf_fhir_draft_id(const struct mf_fhir_draft *b, const char *urn, const char *suffix)
{
    const char *job = mf_json_get_string(b->result, "job", NULL);
    if (!job)
        return json_string(urn + strlen("urn:uuid:"));
    return json_sprintf("%s%s%s", job, *suffix ? "-" : "", suffix);
}

/* How a receiver makes it once: by its identifier; a Provenance has none, so it brings its name. */
static json_t *request_of(const char *type, const char *urn)
{
    if (strcmp(type, "Provenance") == 0)
        return json_pack("{s:s, s:o}", "method", "PUT", "url",
                         json_sprintf("%s/%s", type, urn + strlen("urn:uuid:")));
    return json_pack("{s:s, s:s, s:o}", "method", "POST", "url", type, "ifNoneExist",
                     json_sprintf("identifier=%s|%s", MF_FHIR_URI_SYSTEM, urn));
}

/* Adds a resource (taken; NULL fails) as an entry. */
void mf_fhir_draft_add_entry(struct mf_fhir_draft *b, const char *urn, json_t *resource)
{
    json_t *entry = json_pack("{s:s, s:O}", "fullUrl", urn, "resource", resource);
    const char *type = mf_json_get_string(resource, "resourceType", "");
    if (b->type == MF_FHIR_BUNDLE_TRANSACTION) {
        if (strcmp(type, "Provenance") == 0) /* it is put under its own name */
            mf_fhir_draft_add_text(b, resource, "id", urn + strlen("urn:uuid:"));
        mf_fhir_draft_add(b, entry, "request", request_of(type, urn));
    }
    mf_fhir_draft_append(b, b->entries, entry);
    json_decref(resource);
}
