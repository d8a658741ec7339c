/*
 * Key Object Selection (PS3.3 A.35.4; TID 2010): the images of a study with a present finding,
 * flagged "Of Interest" with the findings as description (IHE AIR).
 */
#include "dicom/write_private.h"

static const struct mf_coded OF_INTEREST = {"113000", "DCM", "Of Interest"};
static const struct mf_coded DESCRIPTION = {"113012", "DCM", "Key Object Description"};
static const struct mf_coded OBSERVER_TYPE = {"121005", "DCM", "Observer Type"};
static const struct mf_coded DEVICE = {"121007", "DCM", "Device"};
static const struct mf_coded DEVICE_UID = {"121012", "DCM", "Device Observer UID"};
static const struct mf_coded DEVICE_NAME = {"121013", "DCM", "Device Observer Name"};

static void open_item(struct mf_writer *w, const char *relation, const char *type,
                      const struct mf_coded *name)
{
    mf_begin_item(w, MF_KW_ContentSequence);
    mf_put_text(w, MF_KW_RelationshipType, relation);
    mf_put_text(w, MF_KW_ValueType, type);
    if (name)
        mf_put_code(w, MF_KW_ConceptNameCodeSequence, name);
}

static void put_observer(struct mf_writer *w, const struct mf_write_set *set)
{
    char uid[MF_UID];
    mf_write_device_uid(set, uid);
    open_item(w, "HAS OBS CONTEXT", "CODE", &OBSERVER_TYPE);
    mf_put_code(w, MF_KW_ConceptCodeSequence, &DEVICE);
    mf_end_item(w);
    open_item(w, "HAS OBS CONTEXT", "UIDREF", &DEVICE_UID);
    mf_put_text(w, MF_KW_UID, uid);
    mf_end_item(w);
    open_item(w, "HAS OBS CONTEXT", "TEXT", &DEVICE_NAME);
    mf_put_text(w, MF_KW_TextValue, mf_write_model(set, "name"));
    mf_end_item(w);
}

/* "AI, not reviewed: Pleural effusion: 0.710, present (valid); …" */
static const char *describe(const struct mf_write_set *set, struct mf_arena *arena,
                            struct mf_error *err)
{
    const json_t *list = mf_write_predictions(set);
    const char *text = "AI, not reviewed:", *separator = " ";
    for (size_t i = 0; text && i < json_array_size(list); i++) {
        const json_t *prediction = json_array_get(list, i);
        if (!mf_write_is_present(prediction))
            continue;
        const char *line = mf_write_finding_line(arena, prediction, err);
        text = line ? mf_arena_printf(arena, err, "%s%s%s", text, separator, line) : NULL;
        separator = "; ";
    }
    return text;
}

bool mf_write_kos(struct mf_writer *w, const struct mf_write_set *set,
                  const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err)
{
    const char *description = describe(set, arena, err);
    if (!description)
        return false;
    mf_put_common(w, set, item, "KO", "AI key images");
    mf_put_int(w, MF_KW_InstanceNumber, 1);
    mf_put_text(w, MF_KW_ContentDate, set->date);
    mf_put_text(w, MF_KW_ContentTime, set->time);
    mf_put_empty(w, MF_KW_ReferencedPerformedProcedureStepSequence);
    mf_put_referenced_request(w, set);
    mf_put_evidence(w, set, MF_KW_CurrentRequestedProcedureEvidenceSequence, false);
    mf_put_text(w, MF_KW_ValueType, "CONTAINER");
    mf_put_code(w, MF_KW_ConceptNameCodeSequence, &OF_INTEREST);
    mf_put_text(w, MF_KW_ContinuityOfContent, "SEPARATE");
    mf_begin_item(w, MF_KW_ContentTemplateSequence);
    mf_put_text(w, MF_KW_MappingResource, "DCMR");
    mf_put_text(w, MF_KW_TemplateIdentifier, "2010");
    mf_end_item(w);
    put_observer(w, set);
    open_item(w, "CONTAINS", "TEXT", &DESCRIPTION);
    mf_put_text(w, MF_KW_TextValue, description);
    mf_end_item(w);
    for (size_t i = 0; i < set->frame_count; i++) {
        if (set->frames[i].prior)
            continue;
        open_item(w, "CONTAINS", "IMAGE", NULL);
        mf_begin_item(w, MF_KW_ReferencedSOPSequence);
        mf_put_reference(w, &set->frames[i]);
        mf_end_item(w);
        mf_end_item(w);
    }
    return true;
}
