/* A label as a resource: an Observation of a finding, a RiskAssessment of an outcome
 * (http://hl7.org/fhir/R4/observation.html, riskassessment.html). Elements are in the order of the
 * specification. */
#include "fhir/report_parts.h"

#include "fhir/narrative.h"

#include <string.h>

static const char COMPONENT_SYSTEM[] = "urn:medfusion:component";

/* Appends one component of an Observation unless the number is null. */
static void append_component(struct mf_fhir_draft *b, json_t *list, const json_t *prediction,
                             const char *member, const char *display)
{
    const json_t *number = json_object_get(prediction, member);
    if (!json_is_number(number))
        return;
    mf_fhir_draft_append(b, list,
                         json_pack("{s:o, s:{s:f, s:s, s:s, s:s}}", "code",
                                   mf_fhir_draft_concept(COMPONENT_SYSTEM, member, display),
                                   "valueQuantity", "value", json_number_value(number), "unit", "1",
                                   "system", "http://unitsofmeasure.org", "code", "1"));
}

static json_t *components(struct mf_fhir_draft *b, const json_t *prediction)
{
    json_t *list = json_array();
    append_component(b, list, prediction, "probability", "Calibrated probability of presence");
    append_component(b, list, prediction, "p_present", "Conformal p-value of presence");
    append_component(b, list, prediction, "p_absent", "Conformal p-value of absence");
    return list;
}

/* The label's own codings, with null members left out, and its display as text. */
json_t *mf_fhir_draft_label(struct mf_fhir_draft *b, const json_t *prediction)
{
    static const char *const MEMBERS[] = {"system", "code", "display"};
    const json_t *codings = json_object_get(prediction, "coding");
    const char *label = mf_json_get_string(prediction, "label", "");
    json_t *list = json_array();
    json_t *whole = json_pack("{s:s}", "text", mf_json_get_string(prediction, "display", label));
    for (size_t i = 0; i < json_array_size(codings); i++) {
        json_t *coding = json_object();
        for (size_t m = 0; m < sizeof MEMBERS / sizeof *MEMBERS; m++)
            mf_fhir_draft_add_text(
                b, coding, MEMBERS[m],
                mf_json_get_string(json_array_get(codings, i), MEMBERS[m], NULL));
        mf_fhir_draft_append(b, list, coding);
    }
    mf_fhir_draft_add_list(b, whole, "coding", list);
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

bool mf_fhir_draft_knows_state(const json_t *prediction)
{
    return state_of(prediction) != NULL;
}

/* Observation.value[x] by the state; for an empty set why there is none. */
static void add_value(struct mf_fhir_draft *b, json_t *resource, const struct state *s)
{
    if (s->snomed)
        mf_fhir_draft_add(b, resource, "valueCodeableConcept",
                          mf_fhir_draft_concept("http://snomed.info/sct", s->snomed, s->display));
    else
        mf_fhir_draft_add(
            b, resource, "dataAbsentReason",
            mf_fhir_draft_concept("http://terminology.hl7.org/CodeSystem/data-absent-reason",
                                  "unknown", "Unknown"));
}

void mf_fhir_draft_add_observation(struct mf_fhir_draft *b, const json_t *prediction,
                                   const char *urn, const char *suffix)
{
    const struct state *s = state_of(prediction);
    json_t *resource = json_pack(
        "{s:s, s:o, s:o, s:s, s:[o], s:o, s:[o], s:o, s:{s:s}, s:o}", "resourceType", "Observation",
        "id", mf_fhir_draft_id(b, urn, suffix), "identifier", mf_fhir_draft_identifier(urn),
        "status", "preliminary", "category",
        mf_fhir_draft_concept("http://terminology.hl7.org/CodeSystem/observation-category",
                              "imaging", "Imaging"),
        "code", mf_fhir_draft_label(b, prediction), "interpretation",
        mf_fhir_draft_concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                              s->interpretation, s->interpretation_display),
        "note", mf_fhir_prediction_note(b->result, prediction), "method", "text",
        "Conformal prediction per label and class (split_conformal, label_class)", "device",
        mf_fhir_draft_reference(b->device));
    mf_fhir_draft_add_subject(b, resource);
    mf_fhir_draft_add_times(b, resource);
    add_value(b, resource, s);
    mf_fhir_draft_add_list(b, resource, "derivedFrom", mf_fhir_draft_sources(b));
    mf_fhir_draft_add_list(b, resource, "component", components(b, prediction));
    mf_fhir_draft_add_entry(b, urn, resource);
}

/* An outcome that is to come: its probability, and as a qualitative risk what the conformal set
 * says. */
void mf_fhir_draft_add_risk(struct mf_fhir_draft *b, const json_t *prediction, const char *urn,
                            const char *suffix)
{
    const struct state *s = state_of(prediction);
    const json_t *probability = json_object_get(prediction, "probability");
    const char *horizon = mf_json_get_string(prediction, "horizon", NULL);
    json_t *outcome = json_pack("{s:o}", "outcome", mf_fhir_draft_label(b, prediction));
    if (json_is_number(probability))
        mf_fhir_draft_add(b, outcome, "probabilityDecimal", json_incref((json_t *)probability));
    if (s->snomed)
        mf_fhir_draft_add(b, outcome, "qualitativeRisk",
                          mf_fhir_draft_concept("http://snomed.info/sct", s->snomed, s->display));
    mf_fhir_draft_add_text(b, outcome, "rationale", horizon);
    json_t *resource =
        json_pack("{s:s, s:o, s:o, s:s, s:{s:s}, s:o, s:[o], s:o}", "resourceType",
                  "RiskAssessment", "id", mf_fhir_draft_id(b, urn, suffix), "identifier",
                  mf_fhir_draft_identifier(urn), "status", "preliminary", "method", "text",
                  "Conformal prediction per label and class (split_conformal, label_class)",
                  "performer", mf_fhir_draft_reference(b->device), "prediction", outcome, "note",
                  mf_fhir_prediction_note(b->result, prediction));
    mf_fhir_draft_add_subject(b, resource);
    if (!json_object_get(resource, "subject")) /* it must have one */
        mf_fhir_draft_add(
            b, resource, "subject",
            json_pack("{s:s, s:s}", "type", "Patient", "display", "Patient without an identifier"));
    mf_fhir_draft_add_text(b, resource, "occurrenceDateTime", *b->effective ? b->effective : NULL);
    mf_fhir_draft_add_list(b, resource, "basis", mf_fhir_draft_sources(b));
    mf_fhir_draft_add_entry(b, urn, resource);
}
