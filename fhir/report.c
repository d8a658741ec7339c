/*
 * DiagnosticReport, Observations, RiskAssessments, Provenance, Device
 * (http://hl7.org/fhir/R4/diagnosticreport.html and its neighbours). Elements are in the order of
 * the specification.
 *
 * json_pack() takes what "o" is given and fails as a whole, so half-built documents do not leak.
 * Its optional forms ("s*", "o*") would leave a member out silently when memory runs short: members
 * that may be absent are added by add_text() and add_part(), and one that could not be added fails
 * the report.
 */
#include "fhir/report.h"

#include "core/digest.h"
#include "fhir/links.h"
#include "fhir/narrative.h"

#include <stdio.h>
#include <string.h>

enum { UUID_URN = 46 }; /* "urn:uuid:" and 36 characters */

static const char UID_SYSTEM[] = "urn:dicom:uid";
static const char URI_SYSTEM[] = "urn:ietf:rfc:3986";
static const char COMPONENT_SYSTEM[] = "urn:medfusion:component";

struct builder {
    const json_t *result, *model, *study;
    const struct mf_fhir_report_context *context;
    enum mf_fhir_bundle_type type;
    json_t *entries;
    char effective[40]; /* FHIR dateTime of the study, or "" */
    char device[UUID_URN];
    bool failed; /* an allocation of an optional part failed: nothing is left out silently */
};

static void append(struct builder *b, json_t *list, json_t *item)
{
    b->failed |= json_array_append_new(list, item) != 0;
}

/* Adds a member (taken) that was made, or could not be made. */
static void add_part(struct builder *b, json_t *object, const char *key, json_t *value)
{
    b->failed |= json_object_set_new(object, key, value) != 0;
}

/* Adds a member unless the text is NULL. */
static void add_text(struct builder *b, json_t *object, const char *key, const char *text)
{
    if (text)
        add_part(b, object, key, json_string(text));
}

/* urn:uuid of a resource of this result: the first 16 bytes of a SHA-256, marked as version 8. */
static const char *make_urn(const struct builder *b, const char *kind, const char *name,
                            char out[UUID_URN])
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
    snprintf(out, UUID_URN,
             "urn:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0],
             d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13],
             d[14], d[15]);
    return out;
}

/* The acquisition of the newest current frame as a FHIR dateTime: a time needs a zone, else only
 * the day. */
static void find_effective(struct builder *b)
{
    const json_t *frames = json_object_get(b->study, "frames");
    for (size_t i = json_array_size(frames); i-- > 0;) {
        const json_t *frame = json_array_get(frames, i);
        const char *text = mf_json_get_string(frame, "acquired", "");
        if (!*text || strcmp(mf_json_get_string(frame, "role", ""), "current") != 0)
            continue;
        const char *clock = strchr(text, 'T');
        size_t len = clock && !strpbrk(clock, "Z+-") ? (size_t)(clock - text) : strlen(text);
        if (len < sizeof b->effective) {
            memcpy(b->effective, text, len);
            b->effective[len] = '\0';
        }
        return;
    }
}

static json_t *concept(const char *system, const char *code, const char *display)
{
    return json_pack("{s:[{s:s, s:s, s:s}]}", "coding", "system", system, "code", code, "display",
                     display);
}

static json_t *reference(const char *urn)
{
    return json_pack("{s:s}", "reference", urn);
}

static json_t *urn_identifier(const char *urn)
{
    return json_pack("[{s:s, s:s}]", "system", URI_SYSTEM, "value", urn);
}

/* The `source` of feature `i` if its value was used and came from this type, else NULL. */
static const char *feature_source(const struct builder *b, size_t i, const char *type)
{
    const json_t *list = json_object_get(json_object_get(b->result, "ehr"), "features");
    const json_t *feature = json_array_get(list, i);
    const char *source = mf_json_get_string(feature, "source", "");
    size_t n = strlen(type);
    bool used = strcmp(mf_json_get_string(feature, "status", ""), "used") == 0;
    return used && strncmp(source, type, n) == 0 && source[n] == '/' ? source : NULL;
}

static size_t feature_count(const struct builder *b)
{
    return json_array_size(json_object_get(json_object_get(b->result, "ehr"), "features"));
}

/* The patient in the receiver's EHR: what the caller says, else the Patient that the features came
 * from. */
static const char *patient_reference(const struct builder *b)
{
    const char *found = b->context->patient_reference;
    for (size_t i = 0; i < feature_count(b) && !found && !b->context->foreign; i++)
        found = feature_source(b, i, "Patient");
    return found;
}

/* PatientID and its issuer: an OID or URI is a system, a name an assigner. */
static json_t *patient_identifier(struct builder *b, const char *id, const char *issuer)
{
    json_t *identifier = json_pack("{s:s}", "value", id);
    if (!issuer || !*issuer)
        return identifier;
    if (strchr(issuer, ':'))
        add_text(b, identifier, "system", issuer);
    else if (strchr(issuer, '.') && strspn(issuer, "0123456789.") == strlen(issuer))
        add_part(b, identifier, "system", json_sprintf("urn:oid:%s", issuer));
    else
        add_part(b, identifier, "assigner", json_pack("{s:s}", "display", issuer));
    return identifier;
}

/* Adds the patient by reference, identifier or both, as far as they are known. */
static void add_subject(struct builder *b, json_t *resource)
{
    const struct mf_fhir_report_context *c = b->context;
    const char *ref = patient_reference(b);
    bool has_id = c->patient_id && *c->patient_id;
    if (!ref && !has_id)
        return;
    json_t *subject = json_pack("{s:s}", "type", "Patient");
    add_text(b, subject, "reference", ref);
    if (has_id)
        add_part(b, subject, "identifier", patient_identifier(b, c->patient_id, c->patient_issuer));
    add_part(b, resource, "subject", subject);
}

/* A list with the imaging study by its UID, a logical reference; empty without a UID. */
static json_t *imaging_study(struct builder *b)
{
    const char *uid = mf_json_get_string(b->study, "study_instance_uid", NULL);
    json_t *list = json_array();
    if (uid)
        append(b, list,
               json_pack("{s:s, s:{s:s, s:o}}", "type", "ImagingStudy", "identifier", "system",
                         UID_SYSTEM, "value", json_sprintf("urn:oid:%s", uid)));
    return list;
}

/* Adds a list (taken) unless it is empty: FHIR has no empty lists. */
static void add_list(struct builder *b, json_t *object, const char *key, json_t *list)
{
    if (list && json_array_size(list) == 0)
        json_decref(list);
    else
        add_part(b, object, key, list);
}

/* When the study was made and the result was issued. */
static void add_times(struct builder *b, json_t *resource)
{
    add_text(b, resource, "effectiveDateTime", *b->effective ? b->effective : NULL);
    add_text(b, resource, "issued", b->context->issued);
}

/* What a prediction was made from: the study, and the EHR's Observations that were used. */
static json_t *derived_from(struct builder *b)
{
    json_t *list = imaging_study(b);
    for (size_t i = 0; i < feature_count(b); i++) {
        const char *source = feature_source(b, i, "Observation");
        bool again = false;
        for (size_t k = 0; k < i && source && !again; k++) {
            const char *earlier = feature_source(b, k, "Observation");
            again = earlier && strcmp(earlier, source) == 0;
        }
        if (source && !again)
            append(b, list,
                   b->context->foreign
                       ? json_pack("{s:s, s:s}", "type", "Observation", "display", source)
                       : reference(source));
    }
    return list;
}

/* The id of a resource: of a result that is served "JOB" or "JOB-SUFFIX", so that it can be read
 * again by it; else the UUID of its URN. */
static json_t *resource_id(const struct builder *b, const char *urn, const char *suffix)
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
                     json_sprintf("identifier=%s|%s", URI_SYSTEM, urn));
}

/* Adds a resource (taken; NULL fails) as an entry. */
static void add_entry(struct builder *b, const char *urn, json_t *resource)
{
    json_t *entry = json_pack("{s:s, s:O}", "fullUrl", urn, "resource", resource);
    const char *type = mf_json_get_string(resource, "resourceType", "");
    if (b->type == MF_FHIR_BUNDLE_TRANSACTION) {
        if (strcmp(type, "Provenance") == 0) /* it is put under its own name */
            add_text(b, resource, "id", urn + strlen("urn:uuid:"));
        add_part(b, entry, "request", request_of(type, urn));
    }
    append(b, b->entries, entry);
    json_decref(resource);
}

static void add_device(struct builder *b)
{
    const char *digest = mf_json_get_string(b->model, "digest", NULL);
    json_t *identifier = urn_identifier(b->device);
    if (digest)
        append(b, identifier,
               json_pack("{s:s, s:s}", "system", "urn:medfusion:model-digest", "value", digest));
    json_t *versions =
        json_pack("[{s:{s:s}, s:s}]", "type", "text", "MedFusion software", "value", MF_VERSION);
    const char *version = mf_json_get_string(b->model, "version", NULL);
    if (version)
        append(b, versions, json_pack("{s:{s:s}, s:s}", "type", "text", "model", "value", version));
    json_t *device = json_pack(
        "{s:s, s:o, s:o, s:s, s:[{s:s, s:s}], s:{s:s}, s:o}", "resourceType", "Device", "id",
        resource_id(b, b->device, "device"), "identifier", identifier, "status", "active",
        "deviceName", "name", mf_json_get_string(b->model, "name", "MedFusion"), "type",
        "model-name", "type", "text", "Image analysis software", "version", versions);
    add_entry(b, b->device, device);
}

/* Appends one component of an Observation unless the number is null. */
static void append_component(struct builder *b, json_t *list, const json_t *prediction,
                             const char *member, const char *display)
{
    const json_t *number = json_object_get(prediction, member);
    if (!json_is_number(number))
        return;
    append(b, list,
           json_pack("{s:o, s:{s:f, s:s, s:s, s:s}}", "code",
                     concept(COMPONENT_SYSTEM, member, display), "valueQuantity", "value",
                     json_number_value(number), "unit", "1", "system", "http://unitsofmeasure.org",
                     "code", "1"));
}

static json_t *components(struct builder *b, const json_t *prediction)
{
    json_t *list = json_array();
    append_component(b, list, prediction, "probability", "Calibrated probability of presence");
    append_component(b, list, prediction, "p_present", "Conformal p-value of presence");
    append_component(b, list, prediction, "p_absent", "Conformal p-value of absence");
    return list;
}

/* The label's own codings, with null members left out, and its display as text. */
static json_t *label_concept(struct builder *b, const json_t *prediction)
{
    static const char *const MEMBERS[] = {"system", "code", "display"};
    const json_t *codings = json_object_get(prediction, "coding");
    const char *label = mf_json_get_string(prediction, "label", "");
    json_t *list = json_array();
    json_t *whole = json_pack("{s:s}", "text", mf_json_get_string(prediction, "display", label));
    for (size_t i = 0; i < json_array_size(codings); i++) {
        json_t *coding = json_object();
        for (size_t m = 0; m < sizeof MEMBERS / sizeof *MEMBERS; m++)
            add_text(b, coding, MEMBERS[m],
                     mf_json_get_string(json_array_get(codings, i), MEMBERS[m], NULL));
        append(b, list, coding);
    }
    add_list(b, whole, "coding", list);
    return whole;
}

/* SNOMED CT qualifier and HL7 interpretation of a conformal state. An empty set has no value:
 * neither class is like the calibration cases. */
static const struct state {
    const char *name, *snomed, *display, *interpretation, *interpretation_display;
} STATES[] = {
    {"present", "52101004", "Present", "POS", "Positive"},
    {"absent", "2667000", "Absent", "NEG", "Negative"},
    {"uncertain", "82334004", "Indeterminate", "IND", "Indeterminate"},
    {"empty", NULL, NULL, "IND", "Indeterminate"},
};

static const struct state *state_of(const json_t *prediction)
{
    const char *name = mf_json_get_string(prediction, "state", "");
    for (size_t i = 0; i < sizeof STATES / sizeof *STATES; i++)
        if (strcmp(STATES[i].name, name) == 0)
            return &STATES[i];
    return NULL;
}

/* Observation.value[x] by the state; for an empty set why there is none. */
static void add_value(struct builder *b, json_t *resource, const struct state *s)
{
    if (s->snomed)
        add_part(b, resource, "valueCodeableConcept",
                 concept("http://snomed.info/sct", s->snomed, s->display));
    else
        add_part(b, resource, "dataAbsentReason",
                 concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "unknown",
                         "Unknown"));
}

static void add_observation(struct builder *b, const json_t *prediction, const char *urn,
                            const char *suffix)
{
    const struct state *s = state_of(prediction);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:s, s:[o], s:o, s:[o], s:o, s:{s:s}, s:o}", "resourceType", "Observation",
        "id", resource_id(b, urn, suffix), "identifier", urn_identifier(urn), "status",
        "preliminary", "category",
        concept("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging"),
        "code", label_concept(b, prediction), "interpretation",
        concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                s->interpretation, s->interpretation_display),
        "note", mf_fhir_prediction_note(b->result, prediction), "method", "text",
        "Conformal prediction per label and class (split_conformal, label_class)", "device",
        reference(b->device));
    add_subject(b, resource);
    add_times(b, resource);
    add_value(b, resource, s);
    add_list(b, resource, "derivedFrom", derived_from(b));
    add_list(b, resource, "component", components(b, prediction));
    add_entry(b, urn, resource);
}

/* An outcome that is to come: its probability, and as a qualitative risk what the conformal set
 * says. */
static void add_risk(struct builder *b, const json_t *prediction, const char *urn,
                     const char *suffix)
{
    const struct state *s = state_of(prediction);
    const json_t *probability = json_object_get(prediction, "probability");
    const char *horizon = mf_json_get_string(prediction, "horizon", NULL);
    json_t *outcome = json_pack("{s:o}", "outcome", label_concept(b, prediction));
    if (json_is_number(probability))
        add_part(b, outcome, "probabilityDecimal", json_incref((json_t *)probability));
    if (s->snomed)
        add_part(b, outcome, "qualitativeRisk",
                 concept("http://snomed.info/sct", s->snomed, s->display));
    add_text(b, outcome, "rationale", horizon);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:s, s:{s:s}, s:o, s:[o], s:o}", "resourceType", "RiskAssessment", "id",
        resource_id(b, urn, suffix), "identifier", urn_identifier(urn), "status", "preliminary",
        "method", "text", "Conformal prediction per label and class (split_conformal, label_class)",
        "performer", reference(b->device), "prediction", outcome, "note",
        mf_fhir_prediction_note(b->result, prediction));
    add_subject(b, resource);
    if (!json_object_get(resource, "subject")) /* it must have one */
        add_part(
            b, resource, "subject",
            json_pack("{s:s, s:s}", "type", "Patient", "display", "Patient without an identifier"));
    add_text(b, resource, "occurrenceDateTime", *b->effective ? b->effective : NULL);
    add_list(b, resource, "basis", derived_from(b));
    add_entry(b, urn, resource);
}

static void add_order(struct builder *b, json_t *report)
{
    const char *accession = b->context->accession_number;
    if (accession && *accession)
        add_part(b, report, "basedOn",
                 json_pack("[{s:s, s:{s:o, s:s}}]", "type", "ServiceRequest", "identifier", "type",
                           concept("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN",
                                   "Accession ID"),
                           "value", accession));
}

/* The report that names the Observations `results` (taken) and the findings present, `codes`
 * (taken). */
static void add_report(struct builder *b, json_t *results, json_t *codes)
{
    char urn[UUID_URN];
    make_urn(b, "DiagnosticReport", "", urn);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:[o], s:o, s:o}", "resourceType", "DiagnosticReport", "id",
        resource_id(b, urn, ""), "text", mf_fhir_narrative(b->result), "identifier",
        urn_identifier(urn), "status", b->context->superseded ? "amended" : "preliminary",
        "category", concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology"),
        "code", concept("http://loinc.org", "18748-4", "Diagnostic imaging study"), "conclusion",
        mf_fhir_conclusion(b->result));
    add_order(b, resource);
    add_subject(b, resource);
    add_times(b, resource);
    add_list(b, resource, "imagingStudy", imaging_study(b));
    add_list(b, resource, "result", results);
    add_list(b, resource, "conclusionCode", codes);
    add_entry(b, urn, resource);
}

/* Labels are findings, that are there or not at the time of the study, or outcomes to come. */
static bool is_outcome(const json_t *prediction)
{
    return strcmp(mf_json_get_string(prediction, "kind", "finding"), "outcome") == 0;
}

static const char *label_urn(const struct builder *b, const json_t *prediction, char urn[UUID_URN])
{
    return make_urn(b, is_outcome(prediction) ? "RiskAssessment" : "Observation",
                    mf_json_get_string(prediction, "label", ""), urn);
}

/* The report that this one takes the place of, as an entity of the Provenance. */
static json_t *superseded_report(const struct builder *b)
{
    const json_t *result = b->context->superseded;
    const struct builder earlier = {.result = result,
                                    .study = json_object_get(result, "study"),
                                    .model = json_object_get(result, "model")};
    char urn[UUID_URN];
    make_urn(&earlier, "DiagnosticReport", "", urn);
    return json_pack("{s:s, s:{s:s, s:{s:s, s:s}}}", "role", "revision", "what", "type",
                     "DiagnosticReport", "identifier", "system", URI_SYSTEM, "value", urn);
}

/* Who made what of what: the model's Device, the report and all that belongs to it, the study and
 * the EHR's Observations. Without a time there is none, for FHIR wants to know when. */
static void add_provenance(struct builder *b, json_t *targets)
{
    char urn[UUID_URN];
    json_t *entities = json_array(), *sources = derived_from(b);
    for (size_t i = 0; i < json_array_size(sources); i++)
        append(b, entities,
               json_pack("{s:s, s:O}", "role", "source", "what", json_array_get(sources, i)));
    json_decref(sources);
    if (b->context->superseded)
        append(b, entities, superseded_report(b));
    make_urn(b, "Provenance", "", urn);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:s, s:o, s:[{s:o, s:o}]}", "resourceType", "Provenance", "id",
        resource_id(b, urn, "provenance"), "target", targets, "recorded", b->context->issued,
        "activity",
        concept("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "CREATE", "create"),
        "agent", "type",
        concept("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "assembler",
                "Assembler"),
        "who", reference(b->device));
    add_list(b, resource, "entity", entities);
    add_entry(b, urn, resource);
}

/* Report first, then Observations and RiskAssessments in the order of labels, the Provenance, and
 * the Device. */
static void fill(struct builder *b)
{
    const json_t *predictions = json_object_get(b->result, "predictions");
    json_t *results = json_array(), *codes = json_array(), *targets = json_array();
    char urn[UUID_URN], suffix[24];
    append(b, targets, reference(make_urn(b, "DiagnosticReport", "", urn)));
    for (size_t i = 0; i < json_array_size(predictions); i++) {
        const json_t *p = json_array_get(predictions, i);
        label_urn(b, p, urn);
        append(b, targets, reference(urn));
        if (is_outcome(p)) /* DiagnosticReport.result takes Observations only */
            continue;
        append(b, results, reference(urn));
        if (strcmp(mf_json_get_string(p, "state", ""), "present") == 0)
            append(b, codes, label_concept(b, p));
    }
    add_report(b, results, codes);
    for (size_t i = 0; i < json_array_size(predictions); i++) {
        const json_t *p = json_array_get(predictions, i);
        snprintf(suffix, sizeof suffix, "%zu", i);
        (is_outcome(p) ? add_risk : add_observation)(b, p, label_urn(b, p, urn), suffix);
    }
    if (b->context->issued)
        add_provenance(b, targets);
    else
        json_decref(targets);
    add_device(b);
}

/* The members that the report cannot do without. */
static bool check_result(const json_t *result, struct mf_error *err)
{
    const json_t *predictions = json_object_get(result, "predictions");
    bool ok = strcmp(mf_json_get_string(result, "schema", ""), "medfusion.result/1") == 0 &&
              json_is_object(json_object_get(result, "study")) &&
              json_is_object(json_object_get(result, "model")) && json_is_array(predictions);
    for (size_t i = 0; ok && i < json_array_size(predictions); i++)
        ok = state_of(json_array_get(predictions, i)) != NULL;
    return ok || mf_error_set(err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
}

json_t *mf_fhir_report(const json_t *result, const struct mf_fhir_report_context *context,
                       enum mf_fhir_bundle_type type, struct mf_error *err)
{
    static const struct mf_fhir_report_context NONE;
    char urn[UUID_URN];
    if (!check_result(result, err))
        return NULL;
    json_t *entries = json_array();
    struct builder b = {.result = result,
                        .model = json_object_get(result, "model"),
                        .study = json_object_get(result, "study"),
                        .context = context ? context : &NONE,
                        .type = type,
                        .entries = entries};
    find_effective(&b);
    make_urn(&b, "Device", "", b.device);
    make_urn(&b, "Bundle", "", urn);
    fill(&b);
    MF_AUTO(mf_json)
    json_t *bundle = json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:s, s:o}", "resourceType", "Bundle", "id",
        urn + strlen("urn:uuid:"), "identifier", "system", URI_SYSTEM, "value", urn, "type",
        type == MF_FHIR_BUNDLE_TRANSACTION ? "transaction" : "collection", "entry", entries);
    add_text(&b, bundle, "timestamp", b.context->issued);
    if (bundle && type == MF_FHIR_BUNDLE_STORED)
        b.failed |= !mf_fhir_link_by_id(entries);
    if (b.failed || !bundle) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the FHIR report");
        return NULL;
    }
    return MF_STEAL(bundle);
}
