/* The document between scan and pipeline: see upload.h. */
#include "server/upload.h"

#include "core/json.h"

#include <string.h>

/* An index is our own text: larger and not deeper than what users may send. */
static const struct mf_json_limits LIMITS = {MF_UPLOAD_MAX, 64};

/* True when all objects are of one patient (PatientID and issuer). */
static bool one_patient(const struct mf_index *index, const char **ret_id, const char **ret_issuer)
{
    for (size_t i = 0; i < index->object_count; i++) {
        const struct mf_index_object *o = &index->objects[i];
        const char *id = o->patient_id ? o->patient_id : "";
        const char *issuer = o->patient_id_issuer ? o->patient_id_issuer : "";
        if (i == 0) {
            *ret_id = id;
            *ret_issuer = issuer;
        } else if (strcmp(id, *ret_id) != 0 || strcmp(issuer, *ret_issuer) != 0) {
            return false;
        }
    }
    return index->object_count > 0;
}

static json_t *problem_json(const struct mf_error *problem)
{
    return json_pack("{s:s, s:s}", "code", mf_code_name(problem->code), "detail", problem->msg);
}

/* The resources of every patient as one Bundle of Bundles. */
static json_t *all_patients(const struct mf_fhir_document *ehr)
{
    json_t *entries = json_array();
    for (size_t i = 0; entries && i < mf_fhir_patient_count(ehr); i++) {
        json_t *bundle = mf_fhir_reduce(ehr, mf_fhir_patient(ehr, i));
        if (!bundle ||
            json_array_append_new(entries, json_pack("{s:o}", "resource", bundle)) != 0) {
            json_decref(entries);
            return NULL;
        }
    }
    return json_pack("{s:s, s:s, s:o}", "resourceType", "Bundle", "type", "collection", "entry",
                     entries);
}

/* Systems of the patient's identifiers that are the PatientID. */
static json_t *matched_systems(const struct mf_fhir_patient *patient, const char *id,
                               const char *issuer)
{
    json_t *systems = json_array();
    for (size_t i = 0; systems && i < patient->identifier_count; i++) {
        const struct mf_fhir_identifier *identifier = &patient->identifiers[i];
        if (mf_fhir_identifies(identifier, id, issuer) &&
            json_array_append_new(systems,
                                  json_string(identifier->system ? identifier->system : "")) != 0) {
            json_decref(systems);
            return NULL;
        }
    }
    return systems;
}

static json_t *ehr_json(const struct mf_index *index, const struct mf_fhir_document *ehr)
{
    const char *id, *issuer;
    struct mf_error problem = MF_ERROR_INIT;
    if (!index || !one_patient(index, &id, &issuer))
        return json_pack("{s:n, s:o}", "problem", "bundle", all_patients(ehr));
    issuer = *issuer ? issuer : NULL;
    const struct mf_fhir_patient *patient = mf_fhir_find_patient(ehr, id, issuer, &problem);
    if (!patient)
        return json_pack("{s:o, s:n}", "problem", problem_json(&problem), "bundle");
    return json_pack("{s:n, s:o, s:o}", "problem", "systems", matched_systems(patient, id, issuer),
                     "bundle", mf_fhir_reduce(ehr, patient));
}

char *mf_upload_text(const struct mf_index *index, const struct mf_fhir_document *ehr,
                     struct mf_error *err)
{
    const struct mf_index none = {0};
    MF_AUTO(mf_json)
    json_t *document = json_pack("{s:s, s:o, s:o}", "schema", "medfusion.scan/1", "dicom",
                                 mf_index_to_json(index ? index : &none), "ehr",
                                 ehr ? ehr_json(index, ehr) : json_null());
    char *text = document ? mf_json_text(document, 0) : NULL;
    if (!text)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the index");
    return text;
}

static bool parse_systems(json_t *systems, struct mf_upload *u, struct mf_error *err)
{
    size_t i;
    const json_t *system;
    if (!systems)
        return true;
    json_array_foreach(systems, i, system) if (!json_is_string(system)) return mf_error_set(
        err, MF_ERR_MALFORMED, "ehr.systems: not a list of strings");
    if (!json_is_array(systems))
        return mf_error_set(err, MF_ERR_MALFORMED, "ehr.systems: not a list of strings");
    u->ehr_systems = json_incref(systems);
    return true;
}

static bool parse_ehr(const json_t *ehr, enum mf_upload_read what, struct mf_upload *u,
                      struct mf_error *err)
{
    const json_t *problem = json_object_get(ehr, "problem");
    if (!parse_systems(json_object_get(ehr, "systems"), u, err))
        return false;
    if (json_is_object(problem)) {
        mf_error_set(&u->ehr_problem, mf_code_from_name(mf_json_get_string(problem, "code", "")),
                     "%s", mf_json_get_string(problem, "detail", "the FHIR part cannot be used"));
        return true;
    }
    if (what == MF_UPLOAD_WITHOUT_EHR)
        return true;
    const json_t *bundle = mf_json_need_object(ehr, "bundle", err);
    MF_AUTO(mf_mem) char *text = bundle ? mf_json_text(bundle, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    const struct mf_fhir_limits limits = {LIMITS.max_bytes, LIMITS.max_depth, 0};
    u->ehr = mf_fhir_document_parse(text, strlen(text), &limits, "FHIR", err);
    return u->ehr != NULL;
}

bool mf_upload_parse(const char *text, size_t len, enum mf_upload_read what, struct mf_upload *ret,
                     struct mf_error *err)
{
    struct mf_upload u = {0};
    MF_AUTO(mf_json) json_t *document = mf_json_parse(text, len, &LIMITS, "index", err);
    if (!document)
        return false;
    if (strcmp(mf_json_get_string(document, "schema", ""), "medfusion.scan/1") != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "index: not a medfusion.scan/1");
    const json_t *ehr = json_object_get(document, "ehr");
    u.index = mf_index_from_json(json_object_get(document, "dicom"), err);
    if (!u.index || (json_is_object(ehr) && !parse_ehr(ehr, what, &u, err))) {
        mf_upload_free(&u);
        return mf_error_prefix(err, "index");
    }
    *ret = u;
    return true;
}

bool mf_upload_rename(struct mf_error *err, const char *from, const char *to)
{
    enum { ROOM = 120 };
    char reason[sizeof err->msg];
    size_t n = strlen(from), length = strlen(to);
    if (!err || err->code == MF_OK || strncmp(err->msg, from, n) != 0 ||
        (err->msg[n] != ':' && err->msg[n] != ','))
        return false;
    memcpy(reason, err->msg, sizeof reason);
    enum mf_code code = err->code;
    mf_error_clear(err);
    mf_error_set(err, code, "%s%s%s", length > ROOM ? "..." : "",
                 length > ROOM ? to + length - ROOM : to, reason + n);
    return true;
}

void mf_upload_free(struct mf_upload *u)
{
    if (!u)
        return;
    mf_fhir_document_free(u->ehr);
    json_decref(u->ehr_systems);
    mf_index_free(u->index);
    *u = (struct mf_upload){0};
}
