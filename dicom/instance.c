/* Instance: the table of attributes, and reading them with the pre-scanner. */
#include "dicom/instance.h"

#include "dicom/collect.h"
#include "dicom/fields.h"
#include "dicom/prescan_parts.h"
#include "dicom/syntax.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TAG(group, element) ((uint32_t)(group) << 16 | (uint32_t)(element))

const struct mf_attribute mf_attributes[MF_ATTRIBUTE_COUNT] = {
    [MF_STUDY_DATE] = {TAG(0x0008, 0x0020), "DA", "StudyDate", MF_LEVEL_STUDY},
    [MF_STUDY_TIME] = {TAG(0x0008, 0x0030), "TM", "StudyTime", MF_LEVEL_STUDY},
    [MF_ACCESSION_NUMBER] = {TAG(0x0008, 0x0050), "SH", "AccessionNumber", MF_LEVEL_STUDY},
    [MF_REFERRING_PHYSICIAN] = {TAG(0x0008, 0x0090), "PN", "ReferringPhysicianName",
                                MF_LEVEL_STUDY},
    [MF_TIMEZONE_OFFSET] = {TAG(0x0008, 0x0201), "SH", "TimezoneOffsetFromUTC", MF_LEVEL_STUDY},
    [MF_STUDY_DESCRIPTION] = {TAG(0x0008, 0x1030), "LO", "StudyDescription", MF_LEVEL_STUDY},
    [MF_PATIENT_NAME] = {TAG(0x0010, 0x0010), "PN", "PatientName", MF_LEVEL_STUDY},
    [MF_PATIENT_ID] = {TAG(0x0010, 0x0020), "LO", "PatientID", MF_LEVEL_STUDY},
    [MF_PATIENT_ID_ISSUER] = {TAG(0x0010, 0x0021), "LO", "IssuerOfPatientID", MF_LEVEL_STUDY},
    [MF_PATIENT_BIRTH_DATE] = {TAG(0x0010, 0x0030), "DA", "PatientBirthDate", MF_LEVEL_STUDY},
    [MF_PATIENT_SEX] = {TAG(0x0010, 0x0040), "CS", "PatientSex", MF_LEVEL_STUDY},
    [MF_STUDY_UID] = {TAG(0x0020, 0x000D), "UI", "StudyInstanceUID", MF_LEVEL_STUDY},
    [MF_STUDY_ID] = {TAG(0x0020, 0x0010), "SH", "StudyID", MF_LEVEL_STUDY},
    [MF_MODALITY] = {TAG(0x0008, 0x0060), "CS", "Modality", MF_LEVEL_SERIES},
    [MF_SERIES_DESCRIPTION] = {TAG(0x0008, 0x103E), "LO", "SeriesDescription", MF_LEVEL_SERIES},
    [MF_BODY_PART] = {TAG(0x0018, 0x0015), "CS", "BodyPartExamined", MF_LEVEL_SERIES},
    [MF_SERIES_UID] = {TAG(0x0020, 0x000E), "UI", "SeriesInstanceUID", MF_LEVEL_SERIES},
    [MF_SERIES_NUMBER] = {TAG(0x0020, 0x0011), "IS", "SeriesNumber", MF_LEVEL_SERIES},
    [MF_STEP_DATE] = {TAG(0x0040, 0x0244), "DA", "PerformedProcedureStepStartDate",
                      MF_LEVEL_SERIES},
    [MF_STEP_TIME] = {TAG(0x0040, 0x0245), "TM", "PerformedProcedureStepStartTime",
                      MF_LEVEL_SERIES},
    [MF_SOP_CLASS_UID] = {TAG(0x0008, 0x0016), "UI", "SOPClassUID", MF_LEVEL_INSTANCE},
    [MF_SOP_INSTANCE_UID] = {TAG(0x0008, 0x0018), "UI", "SOPInstanceUID", MF_LEVEL_INSTANCE},
    [MF_INSTANCE_NUMBER] = {TAG(0x0020, 0x0013), "IS", "InstanceNumber", MF_LEVEL_INSTANCE},
    [MF_FRAME_COUNT] = {TAG(0x0028, 0x0008), "IS", "NumberOfFrames", MF_LEVEL_INSTANCE},
    [MF_ROWS] = {TAG(0x0028, 0x0010), "US", "Rows", MF_LEVEL_INSTANCE},
    [MF_COLUMNS] = {TAG(0x0028, 0x0011), "US", "Columns", MF_LEVEL_INSTANCE},
    [MF_BITS_ALLOCATED] = {TAG(0x0028, 0x0100), "US", "BitsAllocated", MF_LEVEL_INSTANCE},
};

static const enum mf_attribute_id UIDS[] = {MF_STUDY_UID, MF_SERIES_UID, MF_SOP_CLASS_UID,
                                            MF_SOP_INSTANCE_UID};

enum { UID_COUNT = sizeof UIDS / sizeof *UIDS, VALUE_BYTES = 1024 };

int mf_attribute_find(const char *name)
{
    char *end;
    unsigned long tag = strlen(name) == 8 ? strtoul(name, &end, 16) : 0;
    bool is_tag = tag && !*end;
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        if (is_tag ? mf_attributes[i].tag == tag : strcmp(mf_attributes[i].keyword, name) == 0)
            return i;
    return -1;
}

/* --- reading a data set --- */

struct reading {
    struct mf_arena *arena;
    struct mf_instance *instance;
    char charset[256];
};

static bool keep(struct reading *r, enum mf_attribute_id id, const struct mf_prescan_element *e,
                 struct mf_error *err)
{
    char text[VALUE_BYTES];
    const char *vr = mf_attributes[id].vr;
    if (memcmp(vr, "US", 2) == 0) {
        if (e->length < 2)
            return true;
        snprintf(text, sizeof text, "%u", mf_prescan_u16(e->value, e->big_endian));
    } else {
        bool encoded = memcmp(vr, "LO", 2) == 0 || memcmp(vr, "SH", 2) == 0 ||
                       memcmp(vr, "PN", 2) == 0; /* PS3.5 6.1.2.3 */
        mf_collect_text(e, encoded ? r->charset : NULL, text, sizeof text);
    }
    if (!*text)
        return true;
    r->instance->values[id] = mf_arena_strdup(r->arena, text, err);
    return r->instance->values[id] != NULL;
}

static bool visit(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    struct reading *r = context;
    if (e->depth || !e->value)
        return true;
    if (e->tag == TAG(0x0008, 0x0005))
        mf_collect_text(e, NULL, r->charset, sizeof r->charset);
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        if (mf_attributes[i].tag == e->tag)
            return keep(r, (enum mf_attribute_id)i, e, err);
    return true;
}

static bool check_uids(const struct mf_instance *instance, struct mf_error *err)
{
    for (size_t i = 0; i < UID_COUNT; i++) {
        const char *value = instance->values[UIDS[i]];
        const char *keyword = mf_attributes[UIDS[i]].keyword;
        if (!value)
            return mf_error_set(err, MF_ERR_MALFORMED, "the object has no %s", keyword);
        if (!mf_uid_valid(value))
            return mf_error_set(err, MF_ERR_MALFORMED, "%s is not a UID", keyword);
    }
    return true;
}

/* Who sends it is told now, and not the job that comes of it. */
static bool check_syntax(const struct mf_prescan *prescan, struct mf_error *err)
{
    const struct mf_syntax *syntax = mf_syntax_find(prescan->transfer_syntax);
    if (prescan->pixel_data == MF_PIXEL_DATA_NONE || !syntax || syntax->codec != MF_CODEC_NONE)
        return true;
    return mf_error_set(err, MF_ERR_UNSUPPORTED, "images in the transfer syntax %s are not read",
                        syntax->name);
}

bool mf_instance_read(const void *data, size_t length, struct mf_arena *arena,
                      struct mf_instance *ret, struct mf_error *err)
{
    struct mf_instance instance = {.data_set = 0};
    struct reading reading = {.arena = arena, .instance = &instance};
    struct mf_inflate_budget budget = {
        .remaining = UINT64_C(1) << 30, .object_bytes = UINT64_C(512) << 20, .ratio = 200};
    struct mf_prescan meta = {.transfer_syntax = ""};
    MF_AUTO(mf_prescan) struct mf_prescan prescan = {.transfer_syntax = ""};
    if (!mf_prescan_meta(data, length, &instance.data_set, &meta, err) ||
        !mf_prescan_run(data, length, &budget, visit, &reading, &prescan, err) ||
        !check_uids(&instance, err) || !check_syntax(&prescan, err))
        return false;
    instance.transfer_syntax = mf_arena_strdup(arena, prescan.transfer_syntax, err);
    if (!instance.transfer_syntax)
        return false;
    *ret = instance;
    return true;
}

/* --- JSON --- */

json_t *mf_instance_to_json(const struct mf_instance *instance)
{
    json_t *values = json_array();
    for (int i = 0; values && i < MF_ATTRIBUTE_COUNT; i++)
        if (json_array_append_new(values, mf_json_string(instance->values[i])) != 0) {
            json_decref(values);
            return NULL;
        }
    return json_pack("{s:s, s:I, s:o}", "transfer_syntax", instance->transfer_syntax, "data_set",
                     (json_int_t)instance->data_set, "values", values);
}

bool mf_instance_from_json(const json_t *json, struct mf_arena *arena, struct mf_instance *ret,
                           struct mf_error *err)
{
    struct mf_instance instance = {.data_set = 0};
    json_int_t data_set = 0;
    const char *syntax = mf_json_need_string(json, "transfer_syntax", err);
    const json_t *values = syntax ? mf_json_need_array(json, "values", err) : NULL;
    if (!values || !mf_json_need_int(json, "data_set", 0, INT64_MAX, &data_set, err))
        return false;
    if (json_array_size(values) != MF_ATTRIBUTE_COUNT || !mf_uid_valid(syntax))
        return mf_error_set(err, MF_ERR_MALFORMED, "an instance's description is incomplete");
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++) {
        const char *text = json_string_value(json_array_get(values, (size_t)i));
        if (text && *text && !(instance.values[i] = mf_arena_strdup(arena, text, err)))
            return false;
    }
    instance.data_set = (uint64_t)data_set;
    instance.transfer_syntax = mf_arena_strdup(arena, syntax, err);
    if (!instance.transfer_syntax || !check_uids(&instance, err))
        return false;
    *ret = instance;
    return true;
}
