/* What a result says, in words: findings, guarantees, which lung is which. */
#include "dicom/write_private.h"

#include <math.h>
#include <string.h>

const struct mf_coded mf_coded_lung = {"39607008", "SCT", "Lung"};
const struct mf_coded mf_coded_right = {"24028007", "SCT", "Right"};
const struct mf_coded mf_coded_left = {"7771000", "SCT", "Left"};

const json_t *mf_write_predictions(const struct mf_write_set *set)
{
    return json_object_get(set->source->result, "predictions");
}

bool mf_write_is_present(const json_t *prediction)
{
    return strcmp(mf_json_get_string(prediction, "state", ""), "present") == 0;
}

const char *mf_write_finding_line(struct mf_arena *arena, const json_t *prediction,
                                  struct mf_error *err)
{
    const char *name = mf_json_get_string(prediction, "display",
                                          mf_json_get_string(prediction, "label", "finding"));
    double probability = mf_json_get_number(prediction, "probability", NAN);
    const char *state = mf_json_get_string(prediction, "state", "uncertain");
    const char *guarantee = mf_json_get_string(prediction, "guarantee", "void");
    if (isnan(probability))
        return mf_arena_printf(arena, err, "%s: %s (%s)", name, state, guarantee);
    return mf_arena_printf(arena, err, "%s: %.3f, %s (%s)", name, probability, state, guarantee);
}

/* The classes of the prediction set: "{present, absent}". */
static const char *set_of(const json_t *prediction)
{
    const char *state = mf_json_get_string(prediction, "state", "");
    return strcmp(state, "present") == 0     ? "{present}"
           : strcmp(state, "absent") == 0    ? "{absent}"
           : strcmp(state, "uncertain") == 0 ? "{present, absent}"
                                             : "{}";
}

const char *mf_write_coverage(struct mf_arena *arena, const json_t *result,
                              const json_t *prediction, struct mf_error *err)
{
    const char *guarantee = mf_json_get_string(prediction, "guarantee", "void");
    double alpha = mf_json_get_number(result, "alpha", NAN);
    const char *says = "no thresholds belong to this model: nothing is guaranteed";
    if (strcmp(guarantee, "valid") == 0)
        return mf_arena_printf(
            arena, err,
            "Conformal prediction set %s at error level %g: among patients like those of the "
            "calibration (%lld with and %lld without the finding) such sets hold the truth in at "
            "least %g %% of those with and of those without it.",
            set_of(prediction), alpha, (long long)mf_json_get_int(prediction, "n_cal_pos", 0),
            (long long)mf_json_get_int(prediction, "n_cal_neg", 0), 100 * (1 - alpha));
    if (strcmp(guarantee, "insufficient_calibration") == 0)
        says = "there were too few calibration cases for this error level: nothing is guaranteed";
    else if (strcmp(guarantee, "shifted") == 0)
        says = "the input lies outside the calibrated population: nothing is guaranteed";
    return mf_arena_printf(arena, err, "Conformal prediction set %s at error level %g: %s.",
                           set_of(prediction), alpha, says);
}

/* The direction of rows says where the left of the picture lies in the patient: rows that run to
 * the patient's left begin at the right (PS3.3 C.7.6.1.1.1, C.7.6.2.1.1). */
char mf_write_side(const struct mf_index_object *o, enum mf_structure structure)
{
    bool left = structure == MF_STRUCTURE_IMAGE_LEFT;
    if (o->has_orientation && fabs(o->orientation[0]) > 0.5)
        return (o->orientation[0] > 0) == left ? 'R' : 'L';
    const char *rows = o->patient_orientation;
    if (!rows || (*rows != 'L' && *rows != 'R'))
        return 0;
    return (*rows == 'L') == left ? 'R' : 'L';
}

const char *mf_write_lung(const struct mf_index_object *o, enum mf_structure structure)
{
    char side = mf_write_side(o, structure);
    if (side)
        return side == 'R' ? "Right lung" : "Left lung";
    return structure == MF_STRUCTURE_IMAGE_LEFT ? "Lung at the left of the image"
                                                : "Lung at the right of the image";
}
