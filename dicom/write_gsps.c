/*
 * Grayscale Softcopy Presentation State (PS3.3 A.33.1, C.11): the image as it was analysed, with
 * the lungs' outlines, the region the model looked at, and what it found.
 */
#include "dicom/write_private.h"

#include "core/grayscale.h"

#include <stdio.h>
#include <string.h>

static const char LAYER[] = "AI";

enum { TEXT_LINES = 24 };

/* --- how the image is shown (C.11.1, C.11.2, C.11.6) --- */

static void put_lut(struct mf_writer *w, const struct mf_lut *lut)
{
    const int64_t descriptor[3] = {lut->count == 65536 ? 0 : lut->count, lut->first, lut->bits};
    mf_put_ints(w, lut->first < 0 ? MF_KW_LUTDescriptorSigned : MF_KW_LUTDescriptor, descriptor, 3);
    mf_put_bytes(w, MF_KW_LUTData, lut->data, (size_t)lut->count * sizeof *lut->data);
}

static void put_modality_lut(struct mf_writer *w, const struct mf_frame *picture)
{
    if (picture->modality_lut.count) {
        mf_begin_item(w, MF_KW_ModalityLUTSequence);
        mf_put_text(w, MF_KW_ModalityLUTType, "US");
        put_lut(w, &picture->modality_lut);
        mf_end_item(w);
        return;
    }
    mf_put_real(w, MF_KW_RescaleIntercept, picture->rescale_intercept);
    mf_put_real(w, MF_KW_RescaleSlope, picture->rescale_slope);
    mf_put_text(w, MF_KW_RescaleType, "US");
}

static void put_window(struct mf_writer *w, const struct mf_frame *picture, double range[2])
{
    static const char *const FUNCTIONS[MF_VOI_FUNCTION_COUNT] = {"LINEAR", "LINEAR_EXACT",
                                                                 "SIGMOID"};
    mf_begin_item(w, MF_KW_SoftcopyVOILUTSequence);
    if (picture->voi_lut.count) {
        mf_begin_item(w, MF_KW_VOILUTSequence);
        put_lut(w, &picture->voi_lut);
        mf_end_item(w);
    } else if (mf_grayscale_has_voi(picture)) {
        mf_put_real(w, MF_KW_WindowCenter, picture->window_center);
        mf_put_real(w, MF_KW_WindowWidth, picture->window_width);
        if (picture->voi_function != MF_VOI_LINEAR)
            mf_put_text(w, MF_KW_VOILUTFunction, FUNCTIONS[picture->voi_function]);
    } else { /* LINEAR maps centre − ½ ± (width − 1)/2 to black and white (C.11.2.1.2.1) */
        mf_put_real(w, MF_KW_WindowCenter, (range[0] + range[1]) / 2 + 0.5);
        mf_put_real(w, MF_KW_WindowWidth, range[1] - range[0] + 1);
    }
    mf_end_item(w);
}

static bool put_display(struct mf_writer *w, const struct mf_frame *picture, struct mf_error *err)
{
    double range[2] = {0, 0};
    if (!mf_grayscale_has_voi(picture) && !mf_grayscale_range(picture, range, err))
        return false;
    put_modality_lut(w, picture);
    put_window(w, picture, range);
    mf_put_text(w, MF_KW_PresentationLUTShape,
                picture->photometric == MF_PHOTOMETRIC_MONOCHROME1 ? "INVERSE" : "IDENTITY");
    return true;
}

static void put_area(struct mf_writer *w, const struct mf_write_frame *f)
{
    const int64_t first[2] = {1, 1}, last[2] = {f->object->columns, f->object->rows};
    static const int64_t square[2] = {1, 1};
    const double *spacing = f->object->pixel_spacing;
    mf_begin_item(w, MF_KW_DisplayedAreaSelectionSequence);
    mf_begin_item(w, MF_KW_ReferencedImageSequence);
    mf_put_reference(w, f);
    mf_end_item(w);
    mf_put_ints(w, MF_KW_DisplayedAreaTopLeftHandCorner, first, 2);
    mf_put_ints(w, MF_KW_DisplayedAreaBottomRightHandCorner, last, 2);
    mf_put_text(w, MF_KW_PresentationSizeMode, "SCALE TO FIT");
    if (spacing[0] > 0 && spacing[1] > 0)
        mf_put_reals(w, MF_KW_PresentationPixelSpacing, spacing, 2);
    else
        mf_put_ints(w, MF_KW_PresentationPixelAspectRatio, square, 2);
    mf_end_item(w);
}

/* --- what is drawn over it (C.10.5) --- */

static void put_polyline(struct mf_writer *w, const double *points, size_t count)
{
    mf_begin_item(w, MF_KW_GraphicObjectSequence);
    mf_put_text(w, MF_KW_GraphicAnnotationUnits, "PIXEL");
    mf_put_int(w, MF_KW_GraphicDimensions, 2);
    mf_put_int(w, MF_KW_NumberOfGraphicPoints, (int64_t)count);
    mf_put_reals(w, MF_KW_GraphicData, points, 2 * count);
    mf_put_text(w, MF_KW_GraphicType, "POLYLINE");
    mf_put_text(w, MF_KW_GraphicFilled, "N");
    mf_end_item(w);
}

/* The most points that the graphic's number, a US, can count; a longer outline is thinned. */
static size_t thin(double *points, size_t count)
{
    size_t step = count / 60000 + 1, n = 0;
    for (size_t i = 0; i < count; i++)
        if (i % step == 0 || i + 1 == count) {
            points[2 * n] = points[2 * i];
            points[2 * n + 1] = points[2 * i + 1];
            n++;
        }
    return n;
}

static bool put_outlines(struct mf_writer *w, const struct mf_write_frame *f,
                         struct mf_arena *arena, struct mf_error *err)
{
    for (int k = 0; k < MF_STRUCTURE_COUNT; k++) {
        double *points = NULL;
        size_t count = 0;
        if (!f->masks[k])
            continue;
        if (!mf_mask_outline(f->masks[k], f->object->rows, f->object->columns, arena, &points,
                             &count, err))
            return false;
        if (count)
            put_polyline(w, points, thin(points, count));
    }
    return true;
}

static void put_box(struct mf_writer *w, const uint32_t box[4])
{
    const double points[10] = {box[0], box[1], box[2], box[1], box[2],
                               box[3], box[0], box[3], box[0], box[1]};
    put_polyline(w, points, 5);
}

/* Findings that are not ruled out, one a line. */
static const char *summary(const struct mf_write_set *set, struct mf_arena *arena,
                           struct mf_error *err)
{
    const json_t *list = mf_write_predictions(set);
    const char *text = "AI, not reviewed by a physician";
    size_t lines = 0;
    for (size_t i = 0; text && i < json_array_size(list) && lines < TEXT_LINES; i++) {
        const json_t *prediction = json_array_get(list, i);
        if (strcmp(mf_json_get_string(prediction, "state", ""), "absent") == 0)
            continue;
        const char *line = mf_write_finding_line(arena, prediction, err);
        text = line ? mf_arena_printf(arena, err, "%s\r\n%s", text, line) : NULL;
        lines++;
    }
    return text;
}

static void put_text_box(struct mf_writer *w, const char *text)
{
    static const double FIRST[2] = {0.01, 0.01}, LAST[2] = {0.5, 0.5};
    mf_begin_item(w, MF_KW_TextObjectSequence);
    mf_put_text(w, MF_KW_BoundingBoxAnnotationUnits, "DISPLAY");
    mf_put_text(w, MF_KW_UnformattedTextValue, text);
    mf_put_reals(w, MF_KW_BoundingBoxTopLeftHandCorner, FIRST, 2);
    mf_put_reals(w, MF_KW_BoundingBoxBottomRightHandCorner, LAST, 2);
    mf_put_text(w, MF_KW_BoundingBoxTextHorizontalJustification, "LEFT");
    mf_end_item(w);
}

static bool put_graphics(struct mf_writer *w, const struct mf_write_set *set,
                         struct mf_arena *arena, struct mf_error *err)
{
    static const int64_t colour[3] = {51143, 22680, 45230};
    const struct mf_write_frame *f = &set->frames[set->shown];
    const char *text = summary(set, arena, err);
    if (!text)
        return false;
    mf_begin_item(w, MF_KW_GraphicLayerSequence);
    mf_put_text(w, MF_KW_GraphicLayer, LAYER);
    mf_put_int(w, MF_KW_GraphicLayerOrder, 1);
    mf_put_ints(w, MF_KW_GraphicLayerRecommendedDisplayCIELabValue, colour, 3);
    mf_put_text(w, MF_KW_GraphicLayerDescription, "Result of the model");
    mf_end_item(w);
    mf_begin_item(w, MF_KW_GraphicAnnotationSequence);
    mf_begin_item(w, MF_KW_ReferencedImageSequence);
    mf_put_reference(w, f);
    mf_end_item(w);
    mf_put_text(w, MF_KW_GraphicLayer, LAYER);
    put_text_box(w, text);
    if (f->segmented)
        put_box(w, f->box);
    bool ok = put_outlines(w, f, arena, err);
    mf_end_item(w);
    return ok;
}

bool mf_write_gsps(struct mf_writer *w, const struct mf_write_set *set,
                   const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err)
{
    const struct mf_write_frame *f = &set->frames[set->shown];
    mf_put_common(w, set, item, "PR", "AI presentation state");
    mf_put_int(w, MF_KW_InstanceNumber, 1);
    mf_put_text(w, MF_KW_ContentLabel, "AI_RESULT");
    mf_put_text(w, MF_KW_ContentDescription, "Outlines and findings of the model");
    mf_put_text(w, MF_KW_ContentCreatorName, "MedFusion^Software");
    mf_put_text(w, MF_KW_PresentationCreationDate, set->date);
    mf_put_text(w, MF_KW_PresentationCreationTime, set->time);
    mf_begin_item(w, MF_KW_ReferencedSeriesSequence);
    mf_put_text(w, MF_KW_SeriesInstanceUID, f->object->series_instance_uid);
    mf_begin_item(w, MF_KW_ReferencedImageSequence);
    mf_put_reference(w, f);
    mf_end_item(w);
    mf_end_item(w);
    put_area(w, f);
    return put_graphics(w, set, arena, err) && put_display(w, set->picture, err);
}
