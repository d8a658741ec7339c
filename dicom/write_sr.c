/*
 * Comprehensive 3D SR (PS3.3 A.35.13) by TID 1500 "Measurement Report" (PS3.16):
 *
 *   Imaging Measurement Report
 *     language; observer: the model as a device (TID 1001, 1002, 1004); procedure reported
 *     Image Library (TID 1600): every image that was looked at, priors too
 *     Imaging Measurements
 *       one Measurement Group a label (TID 1501): what it is = present | absent | undetermined
 *         (CID 240), certainty in percent, p-values, what the guarantee covers, the algorithm
 *         (TID 4019), the image. Only what is present is also a Finding: a reader who looks for
 *         findings alone must not meet one that is absent
 *       one group a lung outline of the newest image (TID 1410)
 *     Qualitative Evaluations: flags, findings under risk control, record values used
 */
#include "dicom/write_private.h"
#include "dicom/writer_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct mf_coded REPORT = {"126000", "DCM", "Imaging Measurement Report"};
static const struct mf_coded LANGUAGE = {"121049", "DCM",
                                         "Language of Content Item and Descendants"};
static const struct mf_coded ENGLISH = {"en", "RFC5646", "English"};
static const struct mf_coded OBSERVER_TYPE = {"121005", "DCM", "Observer Type"};
static const struct mf_coded DEVICE = {"121007", "DCM", "Device"};
static const struct mf_coded DEVICE_UID = {"121012", "DCM", "Device Observer UID"};
static const struct mf_coded DEVICE_NAME = {"121013", "DCM", "Device Observer Name"};
static const struct mf_coded DEVICE_MANUFACTURER = {"121014", "DCM",
                                                    "Device Observer Manufacturer"};
static const struct mf_coded DEVICE_MODEL = {"121015", "DCM", "Device Observer Model Name"};
static const struct mf_coded DEVICE_SERIAL = {"121016", "DCM", "Device Observer Serial Number"};
static const struct mf_coded PROCEDURE = {"121058", "DCM", "Procedure reported"};
static const struct mf_coded LIBRARY = {"111028", "DCM", "Image Library"};
static const struct mf_coded LIBRARY_GROUP = {"126200", "DCM", "Image Library Group"};
static const struct mf_coded SOURCE = {"260753009", "SCT", "Source"};
static const struct mf_coded MODALITY = {"121139", "DCM", "Modality"};
static const struct mf_coded STUDY_DATE = {"111060", "DCM", "Study Date"};
static const struct mf_coded VIEW = {"111031", "DCM", "Image View"};
static const struct mf_coded ROW_ORIENTATION = {"111044", "DCM", "Patient Orientation Row"};
static const struct mf_coded COLUMN_ORIENTATION = {"111043", "DCM", "Patient Orientation Column"};
static const struct mf_coded HORIZONTAL_SPACING = {"111026", "DCM", "Horizontal Pixel Spacing"};
static const struct mf_coded VERTICAL_SPACING = {"111066", "DCM", "Vertical Pixel Spacing"};
static const struct mf_coded MILLIMETRE = {"mm", "UCUM", "millimeter"};
static const struct mf_coded MEASUREMENTS = {"126010", "DCM", "Imaging Measurements"};
static const struct mf_coded GROUP = {"125007", "DCM", "Measurement Group"};
static const struct mf_coded TRACKING = {"112039", "DCM", "Tracking Identifier"};
static const struct mf_coded TRACKING_UID = {"112040", "DCM", "Tracking Unique Identifier"};
static const struct mf_coded FINDING = {"121071", "DCM", "Finding"};
static const struct mf_coded FINDING_SITE = {"363698007", "SCT", "Finding Site"};
static const struct mf_coded LATERALITY = {"272741003", "SCT", "Laterality"};
static const struct mf_coded ALGORITHM_NAME = {"111001", "DCM", "Algorithm Name"};
static const struct mf_coded ALGORITHM_VERSION = {"111003", "DCM", "Algorithm Version"};
static const struct mf_coded ALGORITHM_PARAMETERS = {"111002", "DCM", "Algorithm Parameters"};
static const struct mf_coded CERTAINTY = {"111012", "DCM", "Certainty of Finding"};
static const struct mf_coded PERCENT = {"%", "UCUM", "Percent"};
static const struct mf_coded P_PRESENT = {"P_PRESENT", "99MEDFUSION",
                                          "Conformal p-value of presence"};
static const struct mf_coded P_ABSENT = {"P_ABSENT", "99MEDFUSION", "Conformal p-value of absence"};
static const struct mf_coded NO_UNITS = {"1", "UCUM", "no units"};
static const struct mf_coded PRESENT = {"52101004", "SCT", "Present"};
static const struct mf_coded ABSENT = {"272519000", "SCT", "Absent"};
static const struct mf_coded UNDETERMINED = {"373068000", "SCT", "Undetermined"};
static const struct mf_coded COMMENT = {"121106", "DCM", "Comment"};
static const struct mf_coded SOURCE_OF_MEASUREMENT = {"121112", "DCM", "Source of Measurement"};
static const struct mf_coded IMAGE_REGION = {"111030", "DCM", "Image Region"};
static const struct mf_coded EVALUATIONS = {"C0034375", "UMLS", "Qualitative Evaluations"};

static const char HAS_CONCEPT_MOD[] = "HAS CONCEPT MOD";
static const char HAS_OBS_CONTEXT[] = "HAS OBS CONTEXT";
static const char HAS_ACQ_CONTEXT[] = "HAS ACQ CONTEXT";
static const char CONTAINS[] = "CONTAINS";

/* What one report is written with. */
struct report {
    struct mf_writer *w;
    const struct mf_write_set *set;
    struct mf_arena *arena;
    struct mf_error *err;
};

/* --- content items (PS3.3 C.17.3) --- */

/* Opens an item; mf_end_item() closes it. */
static void open_item(struct mf_writer *w, const char *relation, const char *type,
                      const struct mf_coded *name)
{
    mf_begin_item(w, MF_KW_ContentSequence);
    mf_put_text(w, MF_KW_RelationshipType, relation);
    mf_put_text(w, MF_KW_ValueType, type);
    mf_put_code(w, MF_KW_ConceptNameCodeSequence, name);
}

static void put_template(struct mf_writer *w, const char *id)
{
    mf_begin_item(w, MF_KW_ContentTemplateSequence);
    mf_put_text(w, MF_KW_MappingResource, "DCMR");
    mf_put_text(w, MF_KW_TemplateIdentifier, id);
    mf_end_item(w);
}

static void open_container(struct mf_writer *w, const struct mf_coded *name,
                           const char *template_id)
{
    open_item(w, CONTAINS, "CONTAINER", name);
    mf_put_text(w, MF_KW_ContinuityOfContent, "SEPARATE");
    if (template_id)
        put_template(w, template_id);
}

static void text_item(struct mf_writer *w, const char *relation, const struct mf_coded *name,
                      const char *text)
{
    if (!text || !*text) /* TEXT must have a value */
        return;
    open_item(w, relation, "TEXT", name);
    mf_put_text(w, MF_KW_TextValue, text);
    mf_end_item(w);
}

static void open_code_item(struct mf_writer *w, const char *relation, const struct mf_coded *name,
                           const struct mf_coded *value)
{
    open_item(w, relation, "CODE", name);
    mf_put_code(w, MF_KW_ConceptCodeSequence, value);
}

static void code_item(struct mf_writer *w, const char *relation, const struct mf_coded *name,
                      const struct mf_coded *value)
{
    open_code_item(w, relation, name, value);
    mf_end_item(w);
}

static void uid_item(struct mf_writer *w, const char *relation, const struct mf_coded *name,
                     const char *uid)
{
    open_item(w, relation, "UIDREF", name);
    mf_put_text(w, MF_KW_UID, uid);
    mf_end_item(w);
}

/* Six digits: more would claim a precision that no number here has. NaN is left out. */
static void number_item(struct mf_writer *w, const char *relation, const struct mf_coded *name,
                        double value, const struct mf_coded *unit)
{
    char digits[32];
    if (isnan(value))
        return;
    snprintf(digits, sizeof digits, "%.6g", value);
    open_item(w, relation, "NUM", name);
    mf_begin_item(w, MF_KW_MeasuredValueSequence);
    mf_put_text(w, MF_KW_NumericValue, digits);
    mf_put_code(w, MF_KW_MeasurementUnitsCodeSequence, unit);
    mf_end_item(w);
    mf_end_item(w);
}

/* `name` NULL: the concept is said by the parent. */
static void open_image(struct mf_writer *w, const char *relation, const struct mf_coded *name,
                       const struct mf_write_frame *frame)
{
    mf_begin_item(w, MF_KW_ContentSequence);
    mf_put_text(w, MF_KW_RelationshipType, relation);
    mf_put_text(w, MF_KW_ValueType, "IMAGE");
    if (name)
        mf_put_code(w, MF_KW_ConceptNameCodeSequence, name);
    mf_begin_item(w, MF_KW_ReferencedSOPSequence);
    mf_put_reference(w, frame);
    mf_end_item(w);
}

/* --- head --- */

static void put_observer(const struct report *r)
{
    char uid[MF_UID];
    mf_write_device_uid(r->set, uid);
    code_item(r->w, HAS_OBS_CONTEXT, &OBSERVER_TYPE, &DEVICE);
    uid_item(r->w, HAS_OBS_CONTEXT, &DEVICE_UID, uid);
    text_item(r->w, HAS_OBS_CONTEXT, &DEVICE_NAME, mf_write_model(r->set, "name"));
    text_item(r->w, HAS_OBS_CONTEXT, &DEVICE_MANUFACTURER, "MedFusion");
    text_item(r->w, HAS_OBS_CONTEXT, &DEVICE_MODEL, mf_write_model(r->set, "name"));
    text_item(r->w, HAS_OBS_CONTEXT, &DEVICE_SERIAL, mf_write_model(r->set, "digest"));
}

/* Of CID 100 and CID 29: what the modality of an image says of the procedure. */
static const struct {
    const char *modality;
    struct mf_coded code, procedure;
} MODALITIES[] = {
    {"CR", {"CR", "DCM", "Computed Radiography"}, {"43468-8", "LN", "XR unspecified body region"}},
    {"DX", {"DX", "DCM", "Digital Radiography"}, {"43468-8", "LN", "XR unspecified body region"}},
    {"CT", {"CT", "DCM", "Computed Tomography"}, {"25045-6", "LN", "CT unspecified body region"}},
    {"MR", {"MR", "DCM", "Magnetic Resonance"}, {"25056-3", "LN", "MRI unspecified body region"}},
};

enum { MODALITY_COUNT = sizeof MODALITIES / sizeof *MODALITIES };

static size_t find_modality(const struct mf_index_object *o)
{
    size_t i = 0;
    while (i < MODALITY_COUNT && !(o->modality && strcmp(o->modality, MODALITIES[i].modality) == 0))
        i++;
    return i;
}

static void put_procedure(const struct report *r)
{
    static const struct mf_coded IMAGING = {"363679005", "SCT", "Imaging procedure"};
    size_t i = find_modality(r->set->frames[r->set->newest].object);
    code_item(r->w, HAS_CONCEPT_MOD, &PROCEDURE,
              i < MODALITY_COUNT ? &MODALITIES[i].procedure : &IMAGING);
}

/* --- image library --- */

static void put_view(struct mf_writer *w, const struct mf_index_object *o)
{
    static const struct mf_coded PA = {"272479007", "SCT", "postero-anterior"};
    static const struct mf_coded AP = {"399348003", "SCT", "antero-posterior"};
    const char *view = o->view_position ? o->view_position : "";
    if (strcmp(view, "PA") == 0)
        code_item(w, HAS_ACQ_CONTEXT, &VIEW, &PA);
    else if (strcmp(view, "AP") == 0)
        code_item(w, HAS_ACQ_CONTEXT, &VIEW, &AP);
}

static void put_orientation(const struct report *r, const struct mf_index_object *o)
{
    const char *both = o->patient_orientation;
    const char *columns = both ? strchr(both, '\\') : NULL;
    if (!columns)
        return;
    text_item(r->w, HAS_ACQ_CONTEXT, &ROW_ORIENTATION,
              mf_arena_strndup(r->arena, both, (size_t)(columns - both), r->err));
    text_item(r->w, HAS_ACQ_CONTEXT, &COLUMN_ORIENTATION, columns + 1);
}

/* Nothing for what is no date: an item must have a value. */
static void put_date(struct mf_writer *w, const char *date)
{
    char text[64] = "";
    if (date)
        mf_writer_text("DA", date, strlen(date), text, sizeof text);
    if (!*text)
        return;
    open_item(w, HAS_ACQ_CONTEXT, "DATE", &STUDY_DATE);
    mf_put_text(w, MF_KW_Date, text);
    mf_end_item(w);
}

/* TID 1601 with what TID 1602 and 1603 say and the index knows. */
static void put_library_entry(const struct report *r, const struct mf_write_frame *f)
{
    const struct mf_index_object *o = f->object;
    const double *spacing = o->pixel_spacing[0] > 0 ? o->pixel_spacing : o->imager_pixel_spacing;
    size_t modality = find_modality(o);
    open_image(r->w, CONTAINS, &SOURCE, f);
    if (modality < MODALITY_COUNT)
        code_item(r->w, HAS_ACQ_CONTEXT, &MODALITY, &MODALITIES[modality].code);
    put_date(r->w, o->study_date);
    put_view(r->w, o);
    put_orientation(r, o);
    if (spacing[0] > 0 && spacing[1] > 0) {
        number_item(r->w, HAS_ACQ_CONTEXT, &HORIZONTAL_SPACING, spacing[1], &MILLIMETRE);
        number_item(r->w, HAS_ACQ_CONTEXT, &VERTICAL_SPACING, spacing[0], &MILLIMETRE);
    }
    mf_end_item(r->w);
}

static void put_library(const struct report *r)
{
    open_container(r->w, &LIBRARY, "1600");
    open_container(r->w, &LIBRARY_GROUP, NULL);
    for (size_t i = 0; i < r->set->frame_count; i++)
        put_library_entry(r, &r->set->frames[i]);
    mf_end_item(r->w);
    mf_end_item(r->w);
}

/* --- findings --- */

static void put_tracking(const struct report *r, const char *name, const char *what)
{
    char uid[MF_UID];
    mf_write_uid(r->set, what, uid);
    text_item(r->w, HAS_OBS_CONTEXT, &TRACKING, name);
    uid_item(r->w, HAS_OBS_CONTEXT, &TRACKING_UID, uid);
}

static void put_algorithm(const struct report *r)
{
    const char *digest = mf_write_model(r->set, "digest");
    text_item(r->w, HAS_CONCEPT_MOD, &ALGORITHM_NAME, mf_write_model(r->set, "name"));
    text_item(r->w, HAS_CONCEPT_MOD, &ALGORITHM_VERSION, mf_write_model(r->set, "version"));
    text_item(r->w, HAS_CONCEPT_MOD, &ALGORITHM_PARAMETERS,
              mf_arena_printf(r->arena, r->err, "bundle digest %s", digest));
    text_item(
        r->w, HAS_CONCEPT_MOD, &ALGORITHM_PARAMETERS,
        mf_arena_printf(r->arena, r->err, "model hash %s", mf_write_model(r->set, "model_hash")));
}

static const struct mf_coded *state_code(const json_t *prediction)
{
    const char *state = mf_json_get_string(prediction, "state", "");
    return strcmp(state, "present") == 0  ? &PRESENT
           : strcmp(state, "absent") == 0 ? &ABSENT
                                          : &UNDETERMINED;
}

static void put_finding(const struct report *r, const json_t *prediction)
{
    const struct mf_coded code = mf_write_label_code(prediction);
    const char *label = mf_json_get_string(prediction, "label", "");
    char what[64];
    snprintf(what, sizeof what, "sr.finding.%.48s", label);
    open_container(r->w, &GROUP, "1501");
    put_tracking(r, mf_json_get_string(prediction, "display", label), what);
    if (mf_write_is_present(prediction))
        code_item(r->w, CONTAINS, &FINDING, &code);
    put_algorithm(r);
    number_item(r->w, CONTAINS, &CERTAINTY,
                100 * mf_json_get_number(prediction, "probability", NAN), &PERCENT);
    number_item(r->w, CONTAINS, &P_PRESENT, mf_json_get_number(prediction, "p_present", NAN),
                &NO_UNITS);
    number_item(r->w, CONTAINS, &P_ABSENT, mf_json_get_number(prediction, "p_absent", NAN),
                &NO_UNITS);
    code_item(r->w, CONTAINS, &code, state_code(prediction));
    text_item(r->w, CONTAINS, &COMMENT,
              mf_write_coverage(r->arena, r->set->source->result, prediction, r->err));
    for (size_t i = 0; i < r->set->frame_count; i++) {
        if (r->set->frames[i].prior)
            continue;
        open_image(r->w, CONTAINS, &SOURCE_OF_MEASUREMENT, &r->set->frames[i]);
        mf_end_item(r->w);
    }
    mf_end_item(r->w);
}

/* --- lungs --- */

static void put_lung(const struct report *r, const struct mf_write_frame *f,
                     const struct mf_mask *mask)
{
    char what[64], side = mf_write_side(f->object, mask->structure);
    double *points = NULL;
    size_t count = 0;
    if (!mf_mask_outline(mask, f->object->rows, f->object->columns, r->arena, &points, &count,
                         r->err) ||
        count == 0)
        return;
    snprintf(what, sizeof what, "sr.lung.%s", mf_structure_name(mask->structure));
    open_container(r->w, &GROUP, "1410");
    put_tracking(r, mf_write_lung(f->object, mask->structure), what);
    code_item(r->w, CONTAINS, &FINDING, &mf_coded_lung);
    open_code_item(r->w, CONTAINS, &FINDING_SITE, &mf_coded_lung);
    if (side)
        code_item(r->w, HAS_CONCEPT_MOD, &LATERALITY,
                  side == 'R' ? &mf_coded_right : &mf_coded_left);
    mf_end_item(r->w);
    put_algorithm(r);
    open_item(r->w, CONTAINS, "SCOORD", &IMAGE_REGION);
    mf_put_reals(r->w, MF_KW_GraphicData, points, 2 * count);
    mf_put_text(r->w, MF_KW_GraphicType, "POLYLINE");
    open_image(r->w, "SELECTED FROM", NULL, f);
    mf_end_item(r->w);
    mf_end_item(r->w);
    mf_end_item(r->w);
}

static void put_measurements(const struct report *r)
{
    const json_t *predictions = mf_write_predictions(r->set);
    const struct mf_write_frame *shown = &r->set->frames[r->set->shown];
    open_container(r->w, &MEASUREMENTS, NULL);
    for (size_t i = 0; i < json_array_size(predictions); i++)
        put_finding(r, json_array_get(predictions, i));
    for (size_t i = 0; i < MF_STRUCTURE_COUNT; i++)
        if (shown->masks[i])
            put_lung(r, shown, shown->masks[i]);
    mf_end_item(r->w);
}

/* --- evaluations of the whole --- */

/* "Lead: a, b" as a comment; nothing for an empty list. */
static void put_list(const struct report *r, const char *lead, const json_t *list)
{
    const char *text = lead;
    for (size_t i = 0; text && i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        text = mf_arena_printf(r->arena, r->err, "%s%s%s", text, i ? ", " : " ", item ? item : "-");
    }
    if (json_array_size(list))
        text_item(r->w, CONTAINS, &COMMENT, text);
}

static void put_features(const struct report *r)
{
    const json_t *list =
        json_object_get(json_object_get(r->set->source->result, "ehr"), "features");
    const char *text = "Record values used:", *separator = " ";
    for (size_t i = 0; text && i < json_array_size(list); i++) {
        const json_t *feature = json_array_get(list, i), *value = json_object_get(feature, "value");
        const char *unit = mf_json_get_string(feature, "unit", "");
        char number[32];
        if (strcmp(mf_json_get_string(feature, "status", ""), "used") != 0)
            continue;
        snprintf(number, sizeof number, "%.6g", json_number_value(value));
        text = mf_arena_printf(r->arena, r->err, "%s%s%s %s%s%s", text, separator,
                               mf_json_get_string(feature, "id", "-"),
                               json_is_string(value) ? json_string_value(value) : number,
                               *unit ? " " : "", unit);
        separator = ", ";
    }
    text_item(r->w, CONTAINS, &COMMENT, *separator == ',' ? text : "Record values used: none");
}

static void put_evaluations(const struct report *r)
{
    const json_t *result = r->set->source->result;
    const json_t *findings = json_object_get(result, "finding_set");
    double p = mf_json_get_number(json_object_get(result, "quality"), "ood_p_value", NAN);
    open_container(r->w, &EVALUATIONS, NULL);
    text_item(r->w, CONTAINS, &COMMENT,
              "Made by software without review by a physician; see the model card for intended "
              "use.");
    put_list(r, "Quality flags:", json_object_get(json_object_get(result, "quality"), "flags"));
    if (!isnan(p))
        text_item(r->w, CONTAINS, &COMMENT,
                  mf_arena_printf(r->arena, r->err,
                                  "p-value of the input under the calibrated population: %.4g", p));
    put_list(r,
             mf_arena_printf(r->arena, r->err,
                             "Findings kept at a false negative rate of at most %g:",
                             mf_json_get_number(findings, "alpha", NAN)),
             json_object_get(findings, "labels"));
    put_features(r);
    mf_end_item(r->w);
}

/* --- the document --- */

static void put_replaced(struct mf_writer *w, const struct mf_write_set *set)
{
    const struct mf_write_source *s = set->source;
    if (!s->replaced_series_uid || !s->replaced_instance_uid)
        return;
    mf_begin_item(w, MF_KW_PredecessorDocumentsSequence);
    mf_put_text(w, MF_KW_StudyInstanceUID, set->frames[set->newest].object->study_instance_uid);
    mf_begin_item(w, MF_KW_ReferencedSeriesSequence);
    mf_put_text(w, MF_KW_SeriesInstanceUID, s->replaced_series_uid);
    mf_begin_item(w, MF_KW_ReferencedSOPSequence);
    mf_put_text(w, MF_KW_ReferencedSOPClassUID, set->items[0].sop_class_uid);
    mf_put_text(w, MF_KW_ReferencedSOPInstanceUID, s->replaced_instance_uid);
    mf_end_item(w);
    mf_end_item(w);
    mf_end_item(w);
}

static void put_document(struct mf_writer *w, const struct mf_write_set *set)
{
    mf_put_int(w, MF_KW_InstanceNumber, 1);
    mf_put_text(w, MF_KW_ContentDate, set->date);
    mf_put_text(w, MF_KW_ContentTime, set->time);
    mf_put_text(w, MF_KW_PreliminaryFlag, "PRELIMINARY");
    mf_put_text(w, MF_KW_CompletionFlag, "COMPLETE");
    mf_put_text(w, MF_KW_VerificationFlag, "UNVERIFIED");
    mf_put_empty(w, MF_KW_ReferencedPerformedProcedureStepSequence);
    mf_put_empty(w, MF_KW_PerformedProcedureCodeSequence);
    mf_put_referenced_request(w, set);
    mf_put_evidence(w, set, MF_KW_CurrentRequestedProcedureEvidenceSequence, false);
    mf_put_evidence(w, set, MF_KW_PertinentOtherEvidenceSequence, true);
    put_replaced(w, set);
}

bool mf_write_sr(struct mf_writer *w, const struct mf_write_set *set,
                 const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    const struct report r = {w, set, arena, &first};
    mf_put_common(w, set, item, "SR", "AI findings");
    mf_put_our_scheme(w);
    put_document(w, set);
    mf_put_text(w, MF_KW_ValueType, "CONTAINER");
    mf_put_code(w, MF_KW_ConceptNameCodeSequence, &REPORT);
    mf_put_text(w, MF_KW_ContinuityOfContent, "SEPARATE");
    put_template(w, "1500");
    code_item(w, HAS_CONCEPT_MOD, &LANGUAGE, &ENGLISH);
    put_observer(&r);
    put_procedure(&r);
    put_library(&r);
    put_measurements(&r);
    put_evaluations(&r);
    if (first.code != MF_OK)
        return mf_error_set(err, first.code, "%s", first.msg);
    return true;
}
