/*
 * Modules that every object has (PS3.3 C.7.1.1 Patient, C.7.2.1 General Study, C.7.3.1 General
 * Series, C.7.5.1 and C.7.5.2 Equipment, C.12.1 SOP Common), and references to images.
 */
#include "dicom/write_private.h"

#include <stdio.h>
#include <string.h>

static const char MANUFACTURER[] = "MedFusion";
/* The designator of codes that only we have. */
static const char OUR_SCHEME[] = "99MEDFUSION";

/* --- codes --- */

/* Code Sequence Macro, PS3.3 8.8: long values have an attribute of their own. */
void mf_put_code(struct mf_writer *w, enum mf_keyword sequence, const struct mf_coded *code)
{
    enum { SHORT_VALUE = 16 };
    mf_begin_item(w, sequence);
    mf_put_text(w, strlen(code->value) > SHORT_VALUE ? MF_KW_LongCodeValue : MF_KW_CodeValue,
                code->value);
    mf_put_text(w, MF_KW_CodingSchemeDesignator, code->scheme);
    mf_put_text(w, MF_KW_CodeMeaning, code->meaning);
    mf_end_item(w);
}

struct mf_coded mf_write_label_code(const json_t *prediction)
{
    static const struct {
        const char *system, *designator; /* PS3.16 chapter 8 */
    } SCHEMES[] = {{"http://snomed.info/sct", "SCT"},
                   {"http://www.radlex.org", "RADLEX"},
                   {"http://radlex.org", "RADLEX"},
                   {"http://loinc.org", "LN"},
                   {"http://dicom.nema.org/resources/ontology/DCM", "DCM"}};
    const char *display = mf_json_get_string(prediction, "display", NULL);
    const char *label = mf_json_get_string(prediction, "label", "");
    const json_t *codings = json_object_get(prediction, "coding");
    for (size_t i = 0; i < json_array_size(codings); i++) {
        const json_t *coding = json_array_get(codings, i);
        const char *system = mf_json_get_string(coding, "system", "");
        const char *value = mf_json_get_string(coding, "code", "");
        for (size_t k = 0; *value && k < sizeof SCHEMES / sizeof *SCHEMES; k++)
            if (strcmp(system, SCHEMES[k].system) == 0)
                return (struct mf_coded){
                    value, SCHEMES[k].designator,
                    mf_json_get_string(coding, "display", display ? display : label)};
    }
    return (struct mf_coded){label, OUR_SCHEME, display ? display : label};
}

/* --- patient, study, order --- */

static void put_patient(struct mf_writer *w, const struct mf_index_object *o)
{
    mf_put_text(w, MF_KW_PatientName, o->patient_name);
    mf_put_text(w, MF_KW_PatientID, o->patient_id);
    if (o->patient_id_issuer)
        mf_put_text(w, MF_KW_IssuerOfPatientID, o->patient_id_issuer);
    mf_put_text(w, MF_KW_PatientBirthDate, o->patient_birth_date);
    mf_put_text(w, MF_KW_PatientSex, o->patient_sex);
}

static void put_study(struct mf_writer *w, const struct mf_index_object *o)
{
    mf_put_text(w, MF_KW_StudyInstanceUID, o->study_instance_uid);
    mf_put_text(w, MF_KW_StudyDate, o->study_date);
    mf_put_text(w, MF_KW_StudyTime, o->study_time);
    mf_put_text(w, MF_KW_ReferringPhysicianName, o->referring_physician);
    mf_put_text(w, MF_KW_StudyID, o->study_id);
    mf_put_text(w, MF_KW_AccessionNumber, o->accession_number);
    if (o->study_description)
        mf_put_text(w, MF_KW_StudyDescription, o->study_description);
    if (o->patient_age)
        mf_put_text(w, MF_KW_PatientAge, o->patient_age);
    if (o->timezone_offset)
        mf_put_text(w, MF_KW_TimezoneOffsetFromUTC, o->timezone_offset);
}

static bool has_order(const struct mf_index_object *o)
{
    return o->requested_procedure_id || o->placer_order || o->filler_order || o->scheduled_step_id;
}

/* Request Attributes Macro (10.6), of a series (C.7.3.1); documents have a sequence of their own.
 */
static void put_request_attributes(struct mf_writer *w, const struct mf_index_object *o)
{
    if (!has_order(o))
        return;
    mf_begin_item(w, MF_KW_RequestAttributesSequence);
    if (o->requested_procedure_id)
        mf_put_text(w, MF_KW_RequestedProcedureID, o->requested_procedure_id);
    if (o->accession_number)
        mf_put_text(w, MF_KW_AccessionNumber, o->accession_number);
    mf_put_text(w, MF_KW_StudyInstanceUID, o->study_instance_uid);
    if (o->requested_procedure)
        mf_put_text(w, MF_KW_RequestedProcedureDescription, o->requested_procedure);
    if (o->scheduled_step_id)
        mf_put_text(w, MF_KW_ScheduledProcedureStepID, o->scheduled_step_id);
    mf_end_item(w);
    if (o->placer_order) /* of the request (C.4.11); beside it, as modalities write them */
        mf_put_text(w, MF_KW_PlacerOrderNumberImagingServiceRequest, o->placer_order);
    if (o->filler_order)
        mf_put_text(w, MF_KW_FillerOrderNumberImagingServiceRequest, o->filler_order);
}

void mf_put_referenced_request(struct mf_writer *w, const struct mf_write_set *set)
{
    const struct mf_index_object *o = set->frames[set->newest].object;
    if (!has_order(o) && !o->accession_number)
        return;
    mf_begin_item(w, MF_KW_ReferencedRequestSequence);
    mf_put_text(w, MF_KW_StudyInstanceUID, o->study_instance_uid);
    mf_put_empty(w, MF_KW_ReferencedStudySequence);
    mf_put_text(w, MF_KW_AccessionNumber, o->accession_number);
    mf_put_text(w, MF_KW_PlacerOrderNumberImagingServiceRequest, o->placer_order);
    mf_put_text(w, MF_KW_FillerOrderNumberImagingServiceRequest, o->filler_order);
    mf_put_text(w, MF_KW_RequestedProcedureID, o->requested_procedure_id);
    mf_put_text(w, MF_KW_RequestedProcedureDescription, o->requested_procedure);
    mf_put_empty(w, MF_KW_RequestedProcedureCodeSequence);
    mf_end_item(w);
}

/* General Series wants a side where nothing says that the body part is none of a pair. */
static void put_body_part(struct mf_writer *w, const struct mf_index_object *o)
{
    bool sided = o->laterality && (*o->laterality == 'L' || *o->laterality == 'R');
    if (o->body_part)
        mf_put_text(w, MF_KW_BodyPartExamined, o->body_part);
    if (sided || !o->body_part)
        mf_put_text(w, MF_KW_Laterality, sided ? o->laterality : NULL);
}

/* --- equipment --- */

const char *mf_write_model(const struct mf_write_set *set, const char *key)
{
    return mf_json_get_string(json_object_get(set->source->result, "model"), key, "unknown");
}

static void put_versions(struct mf_writer *w, const struct mf_write_set *set)
{
    char versions[160];
    snprintf(versions, sizeof versions, "%s\\%.64s", MF_VERSION, mf_write_model(set, "version"));
    mf_put_texts(w, MF_KW_SoftwareVersions, versions);
}

/* The serial number of an installation of software is the model that it runs. */
static void put_equipment(struct mf_writer *w, const struct mf_write_set *set)
{
    char serial[17];
    snprintf(serial, sizeof serial, "%.16s", mf_write_model(set, "digest"));
    mf_put_text(w, MF_KW_Manufacturer, MANUFACTURER);
    mf_put_text(w, MF_KW_ManufacturerModelName, mf_write_model(set, "name"));
    mf_put_text(w, MF_KW_DeviceSerialNumber, serial);
    put_versions(w, set);
}

static void put_contributing_equipment(struct mf_writer *w, const struct mf_write_set *set)
{
    static const struct mf_coded PROCESSING = {"109102", "DCM", "Processing Equipment"};
    char text[512], moment[32];
    snprintf(text, sizeof text, "%.64s %.64s; digest %.64s; model hash %.64s; device %.32s %.16s",
             mf_write_model(set, "name"), mf_write_model(set, "version"),
             mf_write_model(set, "digest"), mf_write_model(set, "model_hash"),
             mf_write_model(set, "device"), mf_write_model(set, "dtype"));
    snprintf(moment, sizeof moment, "%s%s", set->date, set->time);
    mf_begin_item(w, MF_KW_ContributingEquipmentSequence);
    mf_put_code(w, MF_KW_PurposeOfReferenceCodeSequence, &PROCESSING);
    put_equipment(w, set);
    mf_put_text(w, MF_KW_ContributionDateTime, moment);
    mf_put_text(w, MF_KW_ContributionDescription, text);
    mf_end_item(w);
}

/* --- all of them --- */

void mf_put_common(struct mf_writer *w, const struct mf_write_set *set,
                   const struct mf_write_item *item, const char *modality, const char *description)
{
    const struct mf_index_object *o = set->frames[set->newest].object;
    mf_put_text(w, MF_KW_SpecificCharacterSet, "ISO_IR 192");
    mf_put_text(w, MF_KW_SOPClassUID, item->sop_class_uid);
    mf_put_text(w, MF_KW_SOPInstanceUID, item->sop_instance_uid);
    mf_put_text(w, MF_KW_InstanceCreationDate, set->date);
    mf_put_text(w, MF_KW_InstanceCreationTime, set->time);
    put_patient(w, o);
    put_study(w, o);
    mf_put_text(w, MF_KW_Modality, modality);
    mf_put_text(w, MF_KW_SeriesInstanceUID, item->series_instance_uid);
    mf_put_int(w, MF_KW_SeriesNumber, 9001 + (int)item->kind);
    mf_put_text(w, MF_KW_SeriesDate, set->date);
    mf_put_text(w, MF_KW_SeriesTime, set->time);
    mf_put_text(w, MF_KW_SeriesDescription, description);
    put_equipment(w, set);
    put_contributing_equipment(w, set);
    if (item->kind != MF_OBJECT_SR && item->kind != MF_OBJECT_KOS)
        put_request_attributes(w, o);
    if (item->kind == MF_OBJECT_SC || item->kind == MF_OBJECT_GSPS)
        put_body_part(w, o);
}

void mf_put_our_scheme(struct mf_writer *w)
{
    mf_begin_item(w, MF_KW_CodingSchemeIdentificationSequence);
    mf_put_text(w, MF_KW_CodingSchemeDesignator, OUR_SCHEME);
    mf_put_text(w, MF_KW_CodingSchemeName, "MedFusion labels and conformal statistics");
    mf_put_text(w, MF_KW_CodingSchemeResponsibleOrganization, MANUFACTURER);
    mf_end_item(w);
}

/* --- references --- */

void mf_put_reference(struct mf_writer *w, const struct mf_write_frame *frame)
{
    mf_put_text(w, MF_KW_ReferencedSOPClassUID, frame->object->sop_class_uid);
    mf_put_text(w, MF_KW_ReferencedSOPInstanceUID, frame->object->sop_instance_uid);
    if (frame->object->frames > 1)
        mf_put_int(w, MF_KW_ReferencedFrameNumber, (int64_t)frame->frame + 1);
}

/* Whether this frame's study (or series of it) was met before among frames of the same role. */
static bool met_before(const struct mf_write_set *set, size_t i, bool series)
{
    for (size_t k = 0; k < i; k++) {
        const struct mf_index_object *a = set->frames[k].object, *b = set->frames[i].object;
        if (set->frames[k].prior == set->frames[i].prior &&
            strcmp(a->study_instance_uid, b->study_instance_uid) == 0 &&
            (!series || strcmp(a->series_instance_uid, b->series_instance_uid) == 0))
            return true;
    }
    return false;
}

static void put_series_evidence(struct mf_writer *w, const struct mf_write_set *set, size_t first)
{
    const struct mf_write_frame *f = &set->frames[first];
    mf_begin_item(w, MF_KW_ReferencedSeriesSequence);
    mf_put_text(w, MF_KW_SeriesInstanceUID, f->object->series_instance_uid);
    for (size_t i = first; i < set->frame_count; i++) {
        const struct mf_index_object *o = set->frames[i].object;
        if (set->frames[i].prior != f->prior || mf_write_seen(set, i) ||
            strcmp(o->series_instance_uid, f->object->series_instance_uid) != 0 ||
            strcmp(o->study_instance_uid, f->object->study_instance_uid) != 0)
            continue;
        mf_begin_item(w, MF_KW_ReferencedSOPSequence);
        mf_put_text(w, MF_KW_ReferencedSOPClassUID, o->sop_class_uid);
        mf_put_text(w, MF_KW_ReferencedSOPInstanceUID, o->sop_instance_uid);
        mf_end_item(w);
    }
    mf_end_item(w);
}

void mf_put_evidence(struct mf_writer *w, const struct mf_write_set *set, enum mf_keyword sequence,
                     bool prior)
{
    for (size_t i = 0; i < set->frame_count; i++) {
        const char *study = set->frames[i].object->study_instance_uid;
        if (set->frames[i].prior != prior || met_before(set, i, false))
            continue;
        mf_begin_item(w, sequence);
        mf_put_text(w, MF_KW_StudyInstanceUID, study);
        for (size_t k = i; k < set->frame_count; k++)
            if (set->frames[k].prior == prior && !met_before(set, k, true) &&
                strcmp(set->frames[k].object->study_instance_uid, study) == 0)
                put_series_evidence(w, set, k);
        mf_end_item(w);
    }
}

void mf_put_lossy(struct mf_writer *w, const struct mf_write_frame *frame)
{
    const struct mf_index_object *o = frame->object;
    bool lossy = o->lossy && strcmp(o->lossy, "01") == 0;
    mf_put_text(w, MF_KW_LossyImageCompression, lossy ? "01" : "00");
    if (lossy && o->lossy_ratio)
        mf_put_texts(w, MF_KW_LossyImageCompressionRatio, o->lossy_ratio);
    if (lossy && o->lossy_method)
        mf_put_texts(w, MF_KW_LossyImageCompressionMethod, o->lossy_method);
}
