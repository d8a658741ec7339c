/*
 * DiagnosticReport, Provenance, Device and the Bundle of all
 * (http://hl7.org/fhir/R4/diagnosticreport.html and its neighbours); what labels become is in
 * report_labels.c. Elements are in the order of the specification.
 *
 * json_pack() takes what "o" is given and fails as a whole, so half-built documents do not leak.
 * Its optional forms ("s*", "o*") would leave a member out silently when memory runs short: members
 * that may be absent are added by mf_fhir_draft_add_text() and mf_fhir_draft_add(), and one that
 * could not be added fails the report.
 */
#include "fhir/links.h"
#include "fhir/narrative.h"
#include "fhir/report_parts.h"

#include <stdio.h>
#include <string.h>

/* The acquisition of the newest current frame as a FHIR dateTime: a time needs a zone, else only
 * the day. */
static void find_effective(struct mf_fhir_draft *b)
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

static void add_device(struct mf_fhir_draft *b)
{
    const char *digest = mf_json_get_string(b->model, "digest", NULL);
    json_t *identifier = mf_fhir_draft_identifier(b->device);
    if (digest)
        mf_fhir_draft_append(
            b, identifier,
            json_pack("{s:s, s:s}", "system", "urn:medfusion:model-digest", "value", digest));
    json_t *versions =
        json_pack("[{s:{s:s}, s:s}]", "type", "text", "MedFusion software", "value", MF_VERSION);
    const char *version = mf_json_get_string(b->model, "version", NULL);
    if (version)
        mf_fhir_draft_append(
            b, versions, json_pack("{s:{s:s}, s:s}", "type", "text", "model", "value", version));
    json_t *device = json_pack(
        "{s:s, s:o, s:o, s:s, s:[{s:s, s:s}], s:{s:s}, s:o}", "resourceType", "Device", "id",
        mf_fhir_draft_id(b, b->device, "device"), "identifier", identifier, "status", "active",
        "deviceName", "name", mf_json_get_string(b->model, "name", "MedFusion"), "type",
        "model-name", "type", "text", "Image analysis software", "version", versions);
    mf_fhir_draft_add_entry(b, b->device, device);
}

static void add_order(struct mf_fhir_draft *b, json_t *report)
{
    static const char SYSTEM[] = "http://terminology.hl7.org/CodeSystem/v2-0203";
    const struct {
        const char *code, *display, *value;
    } numbers[] = {{"PLAC", "Placer Identifier", b->context->order.placer},
                   {"FILL", "Filler Identifier", b->context->order.filler},
                   {"ACSN", "Accession ID", b->context->order.accession}};
    json_t *orders = json_array();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value && *numbers[i].value)
            mf_fhir_draft_append(
                b, orders,
                json_pack("{s:s, s:{s:o, s:s}}", "type", "ServiceRequest", "identifier", "type",
                          mf_fhir_draft_concept(SYSTEM, numbers[i].code, numbers[i].display),
                          "value", numbers[i].value));
    mf_fhir_draft_add_list(b, report, "basedOn", orders);
}

/* The report that names the Observations `results` (taken) and the findings present, `codes`
 * (taken). */
static void add_report(struct mf_fhir_draft *b, json_t *results, json_t *codes)
{
    char urn[MF_FHIR_URN];
    mf_fhir_draft_urn(b, "DiagnosticReport", "", urn);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:[o], s:o, s:o}", "resourceType", "DiagnosticReport", "id",
        mf_fhir_draft_id(b, urn, ""), "text", mf_fhir_narrative(b->result), "identifier",
        mf_fhir_draft_identifier(urn), "status", b->context->superseded ? "amended" : "preliminary",
        "category",
        mf_fhir_draft_concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology"),
        "code", mf_fhir_draft_concept("http://loinc.org", "18748-4", "Diagnostic imaging study"),
        "conclusion", mf_fhir_conclusion(b->result));
    add_order(b, resource);
    mf_fhir_draft_add_subject(b, resource);
    mf_fhir_draft_add_times(b, resource);
    mf_fhir_draft_add_list(b, resource, "imagingStudy", mf_fhir_draft_imaging_study(b));
    mf_fhir_draft_add_list(b, resource, "result", results);
    mf_fhir_draft_add_list(b, resource, "conclusionCode", codes);
    mf_fhir_draft_add_entry(b, urn, resource);
}

/* Labels are findings, that are there or not at the time of the study, or outcomes to come. */
static bool is_outcome(const json_t *prediction)
{
    return strcmp(mf_json_get_string(prediction, "kind", "finding"), "outcome") == 0;
}

static const char *label_urn(const struct mf_fhir_draft *b, const json_t *prediction,
                             char urn[MF_FHIR_URN])
{
    return mf_fhir_draft_urn(b, is_outcome(prediction) ? "RiskAssessment" : "Observation",
                             mf_json_get_string(prediction, "label", ""), urn);
}

/* The report that this one takes the place of, as an entity of the Provenance. */
static json_t *superseded_report(const struct mf_fhir_draft *b)
{
    const json_t *result = b->context->superseded;
    const struct mf_fhir_draft earlier = {.result = result,
                                          .study = json_object_get(result, "study"),
                                          .model = json_object_get(result, "model")};
    char urn[MF_FHIR_URN];
    mf_fhir_draft_urn(&earlier, "DiagnosticReport", "", urn);
    return json_pack("{s:s, s:{s:s, s:{s:s, s:s}}}", "role", "revision", "what", "type",
                     "DiagnosticReport", "identifier", "system", MF_FHIR_URI_SYSTEM, "value", urn);
}

/* Who made what of what: the model's Device, the report and all that belongs to it, the study and
 * the EHR's Observations. Without a time there is none, for FHIR wants to know when. */
static void add_provenance(struct mf_fhir_draft *b, json_t *targets)
{
    char urn[MF_FHIR_URN];
    json_t *entities = json_array(), *sources = mf_fhir_draft_sources(b);
    for (size_t i = 0; i < json_array_size(sources); i++)
        mf_fhir_draft_append(
            b, entities,
            json_pack("{s:s, s:O}", "role", "source", "what", json_array_get(sources, i)));
    json_decref(sources);
    if (b->context->superseded)
        mf_fhir_draft_append(b, entities, superseded_report(b));
    mf_fhir_draft_urn(b, "Provenance", "", urn);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:s, s:o, s:[{s:o, s:o}]}", "resourceType", "Provenance", "id",
        mf_fhir_draft_id(b, urn, "provenance"), "target", targets, "recorded", b->context->issued,
        "activity",
        mf_fhir_draft_concept("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "CREATE",
                              "create"),
        "agent", "type",
        mf_fhir_draft_concept("http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                              "assembler", "Assembler"),
        "who", mf_fhir_draft_reference(b->device));
    mf_fhir_draft_add_list(b, resource, "entity", entities);
    mf_fhir_draft_add_entry(b, urn, resource);
}

/* Report first, then Observations and RiskAssessments in the order of labels, the Provenance, and
 * the Device. */
static void fill(struct mf_fhir_draft *b)
{
    const json_t *predictions = json_object_get(b->result, "predictions");
    json_t *results = json_array(), *codes = json_array(), *targets = json_array();
    char urn[MF_FHIR_URN], suffix[24];
    mf_fhir_draft_append(
        b, targets, mf_fhir_draft_reference(mf_fhir_draft_urn(b, "DiagnosticReport", "", urn)));
    for (size_t i = 0; i < json_array_size(predictions); i++) {
        const json_t *p = json_array_get(predictions, i);
        label_urn(b, p, urn);
        mf_fhir_draft_append(b, targets, mf_fhir_draft_reference(urn));
        if (is_outcome(p)) /* DiagnosticReport.result takes Observations only */
            continue;
        mf_fhir_draft_append(b, results, mf_fhir_draft_reference(urn));
        if (strcmp(mf_json_get_string(p, "state", ""), "present") == 0)
            mf_fhir_draft_append(b, codes, mf_fhir_draft_label(b, p));
    }
    add_report(b, results, codes);
    for (size_t i = 0; i < json_array_size(predictions); i++) {
        const json_t *p = json_array_get(predictions, i);
        snprintf(suffix, sizeof suffix, "%zu", i);
        (is_outcome(p) ? mf_fhir_draft_add_risk
                       : mf_fhir_draft_add_observation)(b, p, label_urn(b, p, urn), suffix);
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
        ok = mf_fhir_draft_knows_state(json_array_get(predictions, i));
    return ok || mf_error_set(err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
}

json_t *mf_fhir_report(const json_t *result, const struct mf_fhir_report_context *context,
                       enum mf_fhir_bundle_type type, struct mf_error *err)
{
    static const struct mf_fhir_report_context NONE;
    char urn[MF_FHIR_URN];
    if (!check_result(result, err))
        return NULL;
    json_t *entries = json_array();
    struct mf_fhir_draft b = {.result = result,
                              .model = json_object_get(result, "model"),
                              .study = json_object_get(result, "study"),
                              .context = context ? context : &NONE,
                              .type = type,
                              .entries = entries};
    find_effective(&b);
    mf_fhir_draft_urn(&b, "Device", "", b.device);
    mf_fhir_draft_urn(&b, "Bundle", "", urn);
    fill(&b);
    MF_AUTO(mf_json)
    json_t *bundle = json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:s, s:o}", "resourceType", "Bundle", "id",
        urn + strlen("urn:uuid:"), "identifier", "system", MF_FHIR_URI_SYSTEM, "value", urn, "type",
        type == MF_FHIR_BUNDLE_TRANSACTION ? "transaction" : "collection", "entry", entries);
    mf_fhir_draft_add_text(&b, bundle, "timestamp", b.context->issued);
    if (bundle && type == MF_FHIR_BUNDLE_STORED)
        b.failed |= !mf_fhir_link_by_id(entries);
    if (b.failed || !bundle) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the FHIR report");
        return NULL;
    }
    return MF_STEAL(bundle);
}
