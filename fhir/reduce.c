/*
 * The part of a document that MedFusion reads, written as FHIR again: one patient's identifiers,
 * birth date and gender, and of everything else about them status, codes, times and values. The
 * rest (names, addresses, notes, images) stays behind, so a stored job holds no more than it needs.
 *
 * Entries get fullUrls of their own ("urn:medfusion:…") and resources a subject that names the
 * patient's: resources of two servers with the same id stay two, and the Bundles of several
 * patients can be put into one document. How resources are named to users
 * (mf_fhir_patient.reference) stays the same.
 */
#include "fhir/internal.h"

#include <math.h>
#include <string.h>

/* One resource being written; a failed allocation fails the whole. */
struct writer {
    json_t *resource;
    bool failed;
};

/* Adds a member that was made (taken), or could not be made. */
static void put(struct writer *w, json_t *object, const char *key, json_t *value)
{
    w->failed |= json_object_set_new(object, key, value) != 0;
}

/* Adds a member unless the text is NULL. */
static void put_text(struct writer *w, json_t *object, const char *key, const char *text)
{
    if (text)
        put(w, object, key, json_string(text));
}

static void append(struct writer *w, json_t *list, json_t *item)
{
    w->failed |= json_array_append_new(list, item) != 0;
}

static json_t *concept_of(struct writer *w, const struct mf_fhir_concept *c)
{
    json_t *concept = json_object(), *list = c->count ? json_array() : NULL;
    for (size_t i = 0; i < c->count; i++) {
        json_t *coding = json_object();
        put_text(w, coding, "system", c->codings[i].system);
        put_text(w, coding, "code", c->codings[i].code);
        put_text(w, coding, "display", c->codings[i].display);
        append(w, list, coding);
    }
    if (c->count)
        put(w, concept, "coding", list);
    put_text(w, concept, "text", c->text);
    return concept;
}

static json_t *quantity_of(struct writer *w, double value, const char *unit)
{
    json_t *quantity = json_object();
    put(w, quantity, "value", json_real(value));
    put_text(w, quantity, "unit", unit);
    return quantity;
}

static void put_value(struct writer *w, json_t *object, const struct mf_fhir_value *v)
{
    switch (v->kind) {
    case MF_FHIR_NO_VALUE:
        break;
    case MF_FHIR_QUANTITY:
        put(w, object, "valueQuantity", quantity_of(w, v->number, v->unit));
        break;
    case MF_FHIR_INTEGER:
        put(w, object, "valueInteger", json_integer((json_int_t)v->number));
        break;
    case MF_FHIR_STRING:
        put_text(w, object, "valueString", v->text);
        break;
    case MF_FHIR_BOOLEAN:
        put(w, object, "valueBoolean", json_boolean(v->number != 0));
        break;
    case MF_FHIR_CONCEPT:
        put(w, object, "valueCodeableConcept", concept_of(w, &v->concept));
        break;
    case MF_FHIR_OTHER: /* that there was one, not which */
        put(w, object, "valueRange", json_object());
        break;
    }
}

static void put_item(struct writer *w, json_t *object, const struct mf_fhir_item *item)
{
    put_value(w, object, &item->value);
    if (item->interpretation.count || item->interpretation.text) {
        json_t *list = json_array();
        append(w, list, concept_of(w, &item->interpretation));
        put(w, object, "interpretation", list);
    }
    if (isnan(item->low) && isnan(item->high))
        return;
    json_t *range = json_object(), *list = json_array();
    if (!isnan(item->low))
        put(w, range, "low", quantity_of(w, item->low, item->range_unit));
    if (!isnan(item->high))
        put(w, range, "high", quantity_of(w, item->high, item->range_unit));
    append(w, list, range);
    put(w, object, "referenceRange", list);
}

static void put_components(struct writer *w, const struct mf_fhir_record *record)
{
    json_t *list = json_array();
    for (size_t i = 0; i < record->component_count; i++) {
        json_t *component = json_object();
        put(w, component, "code", concept_of(w, &record->components[i].code));
        put_item(w, component, &record->components[i]);
        append(w, list, component);
    }
    put(w, w->resource, "component", list);
}

static void put_times(struct writer *w, const struct mf_fhir_record *record,
                      const struct mf_fhir_shape *shape)
{
    if (record->is_period && (record->start || record->end)) {
        json_t *period = json_object();
        put_text(w, period, "start", record->start);
        put_text(w, period, "end", record->end);
        put(w, w->resource, shape->period, period);
    } else if (shape->moments[0]) {
        put_text(w, w->resource, shape->moments[0], record->start);
    }
    if (shape->issued)
        put_text(w, w->resource, shape->issued, record->issued);
    if (shape->ended)
        put_text(w, w->resource, shape->ended, record->ended);
}

/* A status that is a concept: one code, the only part of it that is read. */
static void put_code(struct writer *w, const char *key, const char *code)
{
    if (code)
        put(w, w->resource, key, json_pack("{s:[{s:s}]}", "coding", "code", code));
}

static void put_status(struct writer *w, const struct mf_fhir_record *record,
                       const struct mf_fhir_shape *shape)
{
    if (shape->status_is_concept)
        put_code(w, shape->status, record->status);
    else
        put_text(w, w->resource, shape->status, record->status);
    put_code(w, "clinicalStatus", record->clinical);
}

static json_t *resource_of(const struct mf_fhir_record *record, const char *patient_url)
{
    const struct mf_fhir_shape *shape = mf_fhir_shape(record->type);
    struct writer w = {.resource =
                           json_pack("{s:s}", "resourceType", mf_resource_type_name(record->type))};
    bool list = shape->last_is_list && shape->codes[1];
    bool required = record->type == MF_RESOURCE_OBSERVATION;
    put_status(&w, record, shape);
    if (required || record->item.code.count || record->item.code.text) {
        json_t *code = concept_of(&w, &record->item.code);
        if (list) {
            json_t *codes = json_array();
            append(&w, codes, code);
            put(&w, w.resource, shape->codes[1], codes);
        } else {
            put(&w, w.resource, shape->codes[0], code);
        }
    }
    put_times(&w, record, shape);
    if (required) {
        put_item(&w, w.resource, &record->item);
        if (record->component_count)
            put_components(&w, record);
    }
    put(&w, w.resource, shape->subject, json_pack("{s:s}", "reference", patient_url));
    if (w.failed) {
        json_decref(w.resource);
        return NULL;
    }
    return w.resource;
}

/* --- entries --- */

/* The id in "TYPE/id", or NULL for other names of a resource. */
static const char *id_in(const char *reference, enum mf_resource_type type)
{
    const char *name = mf_resource_type_name(type);
    size_t n = strlen(name);
    return strncmp(reference, name, n) == 0 && reference[n] == '/' && !strchr(reference, '#')
               ? reference + n + 1
               : NULL;
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
    struct writer w = {.resource = json_pack("{s:s}", "resourceType", "Patient")};
    json_t *list = json_array();
    for (size_t i = 0; i < patient->identifier_count; i++) {
        const struct mf_fhir_identifier *id = &patient->identifiers[i];
        json_t *identifier = json_pack("{s:s}", "value", id->value);
        put_text(&w, identifier, "system", id->system);
        if (id->assigner)
            put(&w, identifier, "assigner", json_pack("{s:s}", "display", id->assigner));
        append(&w, list, identifier);
    }
    put(&w, w.resource, "identifier", list);
    put_text(&w, w.resource, "id", id_in(patient->reference, MF_RESOURCE_PATIENT));
    if (patient->resource) {
        put_text(&w, w.resource, "birthDate", patient->resource->birth_date);
        put_text(&w, w.resource, "gender", patient->resource->gender);
    }
    if (w.failed) {
        json_decref(w.resource);
        return NULL;
    }
    return json_pack("{s:s, s:o}", "fullUrl", url, "resource", w.resource);
}

/* Entry number `i` of the patient's records. One that has no id keeps the name it had as its URL.
 */
static json_t *numbered_entry(const struct mf_fhir_patient *patient, size_t i,
                              const char *patient_url)
{
    const struct mf_fhir_record *record = patient->records[i];
    const char *reference = record->reference;
    const char *id = id_in(reference, record->type);
    MF_AUTO(mf_json)
    json_t *url =
        is_url(reference) ? json_string(reference) : json_sprintf("%s:%zu", patient_url, i + 1);
    MF_AUTO(mf_json) json_t *resource = url ? resource_of(record, patient_url) : NULL;
    if (!resource || (id && json_object_set_new(resource, "id", json_string(id)) != 0))
        return NULL;
    return json_pack("{s:O, s:O}", "fullUrl", url, "resource", resource);
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
    for (size_t i = 0; i < patient->record_count; i++)
        if (json_array_append_new(entries, numbered_entry(patient, i, patient_url)) != 0)
            return NULL;
    return json_pack("{s:s, s:s, s:O}", "resourceType", "Bundle", "type", "collection", "entry",
                     entries);
}
