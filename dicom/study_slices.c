/* Requests by slice: the volume that a series becomes, and what of the study is left out. */
#include "dicom/study_list.h"

#include <string.h>

bool mf_study_is_usable(const struct mf_study_list *l, const struct mf_index_object *o)
{
    return l->entries[o - l->index->objects].reason == NULL;
}

bool mf_study_in_series(const struct mf_index_object *o, const char *series)
{
    return !series || strcmp(o->series_instance_uid ? o->series_instance_uid : "", series) == 0;
}

size_t mf_study_count_frames(const struct mf_study_list *l, const struct mf_study *study,
                             const char *series)
{
    size_t n = 0;
    for (size_t i = 0; i < study->object_count; i++)
        if (mf_study_is_usable(l, study->objects[i]) &&
            mf_study_in_series(study->objects[i], series))
            n += study->objects[i]->frames;
    return n;
}

/* ---- what is left out ---- */

static const char *fate_reason(enum mf_volume_fate fate)
{
    return fate == MF_VOLUME_DUPLICATE ? "at the position of another slice of the volume"
           : fate == MF_VOLUME_OTHER   ? "another orientation, size or spacing than the volume's"
                                       : "it has no position or orientation";
}

/* Objects of the series none of whose frames is in the volume. */
static bool leave_out_objects(struct mf_study_list *l, const struct mf_study_frames *frames,
                              const enum mf_volume_fate *fates, struct mf_study_request *request,
                              struct mf_study_skipped *out, struct mf_error *err)
{
    const struct mf_study *study = request->study;
    enum mf_volume_fate *best = mf_arena_alloc(l->arena, l->count, sizeof *best, err);
    if (!best)
        return false;
    for (size_t i = 0; i < l->count; i++)
        best[i] = MF_VOLUME_NOWHERE;
    for (size_t i = 0; i < frames->count; i++) {
        enum mf_volume_fate *of = &best[frames->list[i].object_index];
        *of = fates[i] < *of ? fates[i] : *of; /* used < duplicate < other < nowhere */
    }
    for (size_t i = 0; i < study->object_count; i++) {
        const struct mf_index_object *o = study->objects[i];
        enum mf_volume_fate fate = best[o - l->index->objects];
        if (mf_study_is_usable(l, o) && mf_study_in_series(o, frames->series) &&
            fate != MF_VOLUME_USED)
            out[request->left_out_count++] = (struct mf_study_skipped){
                .object = o,
                .name = o->sop_instance_uid ? o->sop_instance_uid : o->name,
                .reason = fate_reason(fate)};
    }
    return true;
}

static bool is_listed(const struct mf_study_skipped *list, size_t count, const char *series)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, series) == 0)
            return true;
    return false;
}

/* The study's other series, each as a whole. */
static bool leave_out_series(struct mf_study_list *l, const struct mf_study_frames *frames,
                             struct mf_study_request *request, struct mf_study_skipped *out,
                             struct mf_error *err)
{
    const struct mf_study *study = request->study;
    size_t begin = request->left_out_count, n = begin;
    for (size_t i = 0; i < study->object_count; i++) {
        const struct mf_index_object *o = study->objects[i];
        const char *uid = o->series_instance_uid ? o->series_instance_uid : "";
        if (!mf_study_is_usable(l, o) || mf_study_in_series(o, frames->series) ||
            is_listed(out + begin, n - begin, uid))
            continue;
        const char *reason =
            mf_arena_printf(l->arena, err, "another series than the one analysed (%zu frames)",
                            mf_study_count_frames(l, study, uid));
        if (!reason)
            return false;
        out[n++] = (struct mf_study_skipped){.object = o, .name = uid, .reason = reason};
    }
    request->left_out_count = n;
    return true;
}

/* ---- the volume ---- */

/* The frames of the planes that were chosen: of each the stored slice nearest to it. */
static bool take_planes(struct mf_study_list *l, struct mf_study_request *request,
                        struct mf_error *err)
{
    const struct mf_volume *v = request->volume;
    struct mf_study_frame *frames = mf_arena_alloc(l->arena, v->chosen_count, sizeof *frames, err);
    for (size_t k = 0; frames && k < v->chosen_count; k++) {
        frames[k] = v->slices[mf_volume_plane_slice(v, v->chosen[k])];
        frames[k].slice_position = mf_volume_plane_position(v, v->chosen[k]);
    }
    request->frames = frames;
    request->frame_count = v->chosen_count;
    return frames != NULL;
}

static bool make_volume(struct mf_study_list *l, const struct mf_study_frames *frames,
                        struct mf_study_request *request, struct mf_study_skipped *left_out,
                        struct mf_error *err)
{
    enum mf_volume_fate *fates = mf_arena_alloc(l->arena, frames->count, sizeof *fates, err);
    struct mf_volume_rules rules = l->rules.volume;
    rules.max_slices = l->rules.max_frames;
    request->volume =
        fates ? mf_volume_make(l->arena, frames->list, frames->count, &rules, fates, err) : NULL;
    return request->volume && leave_out_objects(l, frames, fates, request, left_out, err) &&
           take_planes(l, request, err);
}

bool mf_study_finish_slices(struct mf_study_list *l, const struct mf_study_frames *frames,
                            struct mf_study_request *request, struct mf_error *err)
{
    struct mf_study_skipped *left_out =
        mf_arena_alloc(l->arena, request->study->object_count, sizeof *left_out, err);
    request->left_out = left_out;
    return left_out &&
           (l->rules.volume.voxel[0] <= 0 || make_volume(l, frames, request, left_out, err)) &&
           leave_out_series(l, frames, request, left_out, err);
}
