/*
 * Segmentation (PS3.3 A.51, C.8.20): one multi-frame object for frames of equal size, a plane for
 * every segment of every frame. Planes have the size of the image, so that they lie pixel on pixel
 * also where the image has no frame of reference, as radiographs do.
 */
#include "dicom/write_seg.h"

#include <string.h>

/* --- pixels --- */

static uint64_t total_samples(const struct mf_seg_content *c, const struct mf_index_object *o)
{
    return (uint64_t)c->plane_count * o->rows * o->columns;
}

/* Planes of bits follow each other without gaps (PS3.5 8.1.1); a map has a byte a sample. */
static bool put_pixels(struct mf_writer *w, const struct mf_seg_content *c,
                       const struct mf_index_object *o, struct mf_arena *arena,
                       struct mf_error *err)
{
    uint64_t samples = total_samples(c, o), bytes = c->map ? samples : (samples + 7) / 8;
    size_t plane = (size_t)o->rows * o->columns, at = 0;
    bytes += bytes % 2;
    uint8_t *data = mf_arena_alloc(arena, (size_t)bytes, 1, err);
    uint8_t *values = data ? mf_arena_alloc(arena, plane, 1, err) : NULL;
    if (!values)
        return false;
    for (size_t p = 0; p < c->plane_count; p++) {
        c->planes[p].fill(c->planes[p].context, o->rows, o->columns, values);
        if (c->map)
            memcpy(data + at, values, plane);
        for (size_t i = 0; !c->map && i < plane; i++)
            data[(at + i) / 8] |= (uint8_t)((values[i] != 0) << (at + i) % 8);
        at += plane;
    }
    mf_put_bytes(w, MF_KW_PixelData, data, (size_t)bytes);
    return true;
}

static void put_image(struct mf_writer *w, const struct mf_seg_content *c,
                      const struct mf_write_frame *f)
{
    mf_put_texts(w, MF_KW_ImageType, "DERIVED\\PRIMARY");
    mf_put_int(w, MF_KW_NumberOfFrames, (int64_t)c->plane_count);
    mf_put_int(w, MF_KW_SamplesPerPixel, 1);
    mf_put_text(w, MF_KW_PhotometricInterpretation, "MONOCHROME2");
    mf_put_int(w, MF_KW_Rows, f->object->rows);
    mf_put_int(w, MF_KW_Columns, f->object->columns);
    mf_put_int(w, MF_KW_BitsAllocated, c->map ? 8 : 1);
    mf_put_int(w, MF_KW_BitsStored, c->map ? 8 : 1);
    mf_put_int(w, MF_KW_HighBit, c->map ? 7 : 0);
    mf_put_int(w, MF_KW_PixelRepresentation, 0);
    mf_put_lossy(w, f);
    mf_put_text(w, MF_KW_SegmentationType, c->map ? "FRACTIONAL" : "BINARY");
    if (c->map) {
        mf_put_text(w, MF_KW_SegmentationFractionalType, "PROBABILITY");
        mf_put_int(w, MF_KW_MaximumFractionalValue, 255);
    }
    if (!c->map && c->segment_count > 1)
        mf_put_text(w, MF_KW_SegmentsOverlap, "UNDEFINED");
}

/* --- segments --- */

static void put_segment(struct mf_writer *w, const struct mf_write_set *set, size_t number,
                        const struct mf_seg_segment *s)
{
    static const struct mf_coded FAMILY = {"123110", "DCM", "Artificial Intelligence"};
    mf_begin_item(w, MF_KW_SegmentSequence);
    mf_put_int(w, MF_KW_SegmentNumber, (int64_t)number);
    mf_put_text(w, MF_KW_SegmentLabel, s->label);
    mf_put_text(w, MF_KW_SegmentAlgorithmType, "AUTOMATIC");
    mf_put_text(w, MF_KW_SegmentAlgorithmName, mf_write_model(set, "name"));
    mf_put_code(w, MF_KW_SegmentedPropertyCategoryCodeSequence, &s->category);
    mf_begin_item(w, MF_KW_SegmentedPropertyTypeCodeSequence);
    mf_put_text(w, MF_KW_CodeValue, s->type.value);
    mf_put_text(w, MF_KW_CodingSchemeDesignator, s->type.scheme);
    mf_put_text(w, MF_KW_CodeMeaning, s->type.meaning);
    if (s->laterality)
        mf_put_code(w, MF_KW_SegmentedPropertyTypeModifierCodeSequence, s->laterality);
    mf_end_item(w);
    mf_put_ints(w, MF_KW_RecommendedDisplayCIELabValue, s->colour, 3);
    mf_put_text(w, MF_KW_TrackingID, s->label);
    mf_put_text(w, MF_KW_TrackingUID, s->tracking_uid);
    mf_begin_item(w, MF_KW_SegmentationAlgorithmIdentificationSequence);
    mf_put_code(w, MF_KW_AlgorithmFamilyCodeSequence, &FAMILY);
    mf_put_text(w, MF_KW_AlgorithmName, mf_write_model(set, "name"));
    mf_put_text(w, MF_KW_AlgorithmVersion, mf_write_model(set, "version"));
    mf_put_text(w, MF_KW_AlgorithmParameters, mf_write_model(set, "digest"));
    mf_end_item(w);
    mf_end_item(w);
}

/* --- functional groups and dimensions (C.7.6.16, C.7.6.17) --- */

/* The functional groups of a frame of an enhanced object, or NULL. */
static const struct mf_index_frame *groups_of(const struct mf_write_frame *f)
{
    return f->object->frame_groups ? &f->object->frame_groups[f->frame] : NULL;
}

static const double *position_of(const struct mf_write_frame *f)
{
    const struct mf_index_frame *g = groups_of(f);
    return g && g->has_position      ? g->position
           : f->object->has_position ? f->object->position
                                     : NULL;
}

static const double *orientation_of(const struct mf_write_frame *f)
{
    const struct mf_index_frame *g = groups_of(f);
    return g && g->has_orientation      ? g->orientation
           : f->object->has_orientation ? f->object->orientation
                                        : NULL;
}

static const double *spacing_of(const struct mf_write_frame *f)
{
    const struct mf_index_frame *g = groups_of(f);
    return g && g->has_spacing ? g->spacing : f->object->pixel_spacing;
}

/* Whether the frame lies in a frame of reference, and the segmentation with it. */
static bool is_placed(const struct mf_write_frame *f)
{
    return f->object->frame_of_reference_uid && position_of(f) && orientation_of(f) &&
           spacing_of(f)[0] > 0 && spacing_of(f)[1] > 0;
}

static void put_dimension(struct mf_writer *w, const char *uid, enum mf_keyword attribute,
                          enum mf_keyword group)
{
    mf_begin_item(w, MF_KW_DimensionIndexSequence);
    mf_put_text(w, MF_KW_DimensionOrganizationUID, uid);
    mf_put_tag(w, MF_KW_DimensionIndexPointer, attribute);
    mf_put_tag(w, MF_KW_FunctionalGroupPointer, group);
    mf_end_item(w);
}

static void put_dimensions(struct mf_writer *w, const struct mf_write_set *set,
                           const struct mf_write_item *item, bool placed)
{
    char uid[MF_UID], what[64] = "";
    strncat(what, item->name, 32);
    strncat(what, ".dimensions", 16);
    mf_write_uid(set, what, uid);
    mf_begin_item(w, MF_KW_DimensionOrganizationSequence);
    mf_put_text(w, MF_KW_DimensionOrganizationUID, uid);
    mf_end_item(w);
    put_dimension(w, uid, MF_KW_ReferencedSegmentNumber, MF_KW_SegmentIdentificationSequence);
    if (placed)
        put_dimension(w, uid, MF_KW_ImagePositionPatient, MF_KW_PlanePositionSequence);
}

static void put_shared(struct mf_writer *w, const struct mf_write_frame *f)
{
    mf_begin_item(w, MF_KW_SharedFunctionalGroupsSequence);
    if (is_placed(f)) {
        mf_begin_item(w, MF_KW_PlaneOrientationSequence);
        mf_put_reals(w, MF_KW_ImageOrientationPatient, orientation_of(f), 6);
        mf_end_item(w);
        mf_begin_item(w, MF_KW_PixelMeasuresSequence);
        mf_put_reals(w, MF_KW_PixelSpacing, spacing_of(f), 2);
        mf_put_real(w, MF_KW_SliceThickness, spacing_of(f)[0]);
        mf_end_item(w);
    }
    mf_end_item(w);
}

/* Where the plane comes from. */
static void put_derivation(struct mf_writer *w, const struct mf_write_frame *f)
{
    static const struct mf_coded SEGMENTATION = {"113076", "DCM", "Segmentation"};
    static const struct mf_coded SOURCE = {"121322", "DCM",
                                           "Source Image for Image Processing Operation"};
    mf_begin_item(w, MF_KW_DerivationImageSequence);
    mf_begin_item(w, MF_KW_SourceImageSequence);
    mf_put_reference(w, f);
    mf_put_code(w, MF_KW_PurposeOfReferenceCodeSequence, &SOURCE);
    mf_put_text(w, MF_KW_SpatialLocationsPreserved, "YES");
    mf_end_item(w);
    mf_put_code(w, MF_KW_DerivationCodeSequence, &SEGMENTATION);
    mf_end_item(w);
}

/* The rank of a plane's frame among the frames before it: the index of its position. */
static int64_t rank_of(const struct mf_seg_content *c, size_t plane)
{
    int64_t rank = 1;
    for (size_t i = 0; i < c->plane_count; i++) {
        bool counted = c->planes[i].frame < c->planes[plane].frame;
        for (size_t k = 0; counted && k < i; k++)
            counted = c->planes[k].frame != c->planes[i].frame;
        rank += counted;
    }
    return rank;
}

static void put_plane(struct mf_writer *w, const struct mf_write_set *set,
                      const struct mf_seg_content *c, size_t i, bool placed)
{
    const struct mf_write_frame *f = &set->frames[c->planes[i].frame];
    const int64_t index[2] = {(int64_t)c->planes[i].segment + 1, rank_of(c, i)};
    mf_begin_item(w, MF_KW_PerFrameFunctionalGroupsSequence);
    put_derivation(w, f);
    mf_begin_item(w, MF_KW_FrameContentSequence);
    mf_put_ints(w, MF_KW_DimensionIndexValues, index, placed ? 2 : 1);
    mf_end_item(w);
    if (placed) {
        mf_begin_item(w, MF_KW_PlanePositionSequence);
        mf_put_reals(w, MF_KW_ImagePositionPatient, position_of(f), 3);
        mf_end_item(w);
    }
    mf_begin_item(w, MF_KW_SegmentIdentificationSequence);
    mf_put_int(w, MF_KW_ReferencedSegmentNumber, index[0]);
    mf_end_item(w);
    mf_end_item(w);
}

/* Common Instance Reference (C.12.2): the source images, once each. */
static void put_source_series(struct mf_writer *w, const struct mf_write_set *set,
                              const struct mf_seg_content *c)
{
    const struct mf_index_object *last = NULL;
    mf_begin_item(w, MF_KW_ReferencedSeriesSequence);
    mf_put_text(w, MF_KW_SeriesInstanceUID,
                set->frames[c->planes[0].frame].object->series_instance_uid);
    for (size_t i = 0; i < c->plane_count; i++) {
        const struct mf_index_object *o = set->frames[c->planes[i].frame].object;
        if (o == last)
            continue;
        last = o;
        mf_begin_item(w, MF_KW_ReferencedInstanceSequence);
        mf_put_text(w, MF_KW_ReferencedSOPClassUID, o->sop_class_uid);
        mf_put_text(w, MF_KW_ReferencedSOPInstanceUID, o->sop_instance_uid);
        mf_end_item(w);
    }
    mf_end_item(w);
}

bool mf_put_segmentation(struct mf_writer *w, const struct mf_write_set *set,
                         const struct mf_write_item *item, const struct mf_seg_content *c,
                         struct mf_arena *arena, struct mf_error *err)
{
    const struct mf_write_frame *first = &set->frames[c->planes[0].frame];
    bool placed = is_placed(first);
    mf_put_text(w, MF_KW_ContentDate, set->date);
    mf_put_text(w, MF_KW_ContentTime, set->time);
    mf_put_int(w, MF_KW_InstanceNumber, 1 + (item - set->items));
    mf_put_text(w, MF_KW_ContentLabel, c->label);
    mf_put_text(w, MF_KW_ContentDescription, c->description);
    mf_put_text(w, MF_KW_ContentCreatorName, "MedFusion^Software");
    mf_put_texts(w, MF_KW_PatientOrientation, first->object->patient_orientation);
    if (placed) {
        mf_put_text(w, MF_KW_FrameOfReferenceUID, first->object->frame_of_reference_uid);
        mf_put_empty(w, MF_KW_PositionReferenceIndicator);
    }
    put_image(w, c, first);
    for (size_t i = 0; i < c->segment_count; i++)
        put_segment(w, set, i + 1, &c->segments[i]);
    put_dimensions(w, set, item, placed);
    put_shared(w, first);
    for (size_t i = 0; i < c->plane_count; i++)
        put_plane(w, set, c, i, placed);
    put_source_series(w, set, c);
    return put_pixels(w, c, first->object, arena, err);
}

/* --- the lungs --- */

static void fill_from_mask(const void *mask, uint32_t rows, uint32_t columns, uint8_t *out)
{
    mf_mask_stretch(mask, rows, columns, out);
}

static struct mf_seg_segment lung_segment(const struct mf_write_set *set,
                                          const struct mf_index_object *o,
                                          enum mf_structure structure)
{
    static const int64_t COLOURS[MF_STRUCTURE_COUNT][3] = {{43803, 26565, 37722},
                                                           {51143, 22680, 45230}};
    char side = mf_write_side(o, structure);
    struct mf_seg_segment s = {.label = mf_write_lung(o, structure),
                               .category = {"123037004", "SCT", "Anatomical Structure"},
                               .type = mf_coded_lung,
                               .laterality = side == 'R'   ? &mf_coded_right
                                             : side == 'L' ? &mf_coded_left
                                                           : NULL};
    memcpy(s.colour, COLOURS[structure], sizeof s.colour);
    /* The report tracks the same lung under the same UID. */
    mf_write_uid(
        set, structure == MF_STRUCTURE_IMAGE_LEFT ? "sr.lung.image_left" : "sr.lung.image_right",
        s.tracking_uid);
    return s;
}

bool mf_write_seg(struct mf_writer *w, const struct mf_write_set *set,
                  const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err)
{
    size_t group = (size_t)(item - mf_write_set_find(set, "seg")), segments = 0, planes = 0;
    struct mf_seg_segment segment[MF_STRUCTURE_COUNT];
    struct mf_seg_plane *plane = mf_arena_alloc(
        arena, set->segmented.list[group].count * MF_STRUCTURE_COUNT, sizeof *plane, err);
    if (!plane)
        return false;
    for (int k = 0; k < MF_STRUCTURE_COUNT; k++) {
        size_t before = planes;
        for (size_t i = 0; i < set->frame_count; i++)
            if (set->segmented.of[i] == group && set->frames[i].masks[k])
                plane[planes++] = (struct mf_seg_plane){.frame = i,
                                                        .segment = segments,
                                                        .fill = fill_from_mask,
                                                        .context = set->frames[i].masks[k]};
        if (planes > before)
            segment[segments++] = lung_segment(
                set, set->frames[set->segmented.list[group].first].object, (enum mf_structure)k);
    }
    const struct mf_seg_content content = {.label = "LUNGS",
                                           .description = "Lungs found by the model",
                                           .segments = segment,
                                           .segment_count = segments,
                                           .planes = plane,
                                           .plane_count = planes};
    mf_put_common(w, set, item, "SEG", "AI segmentation of the lungs");
    return mf_put_segmentation(w, set, item, &content, arena, err);
}
