/*
 * Secondary Capture (PS3.3 A.8.1): the picture in colour, at most 1024 pixels long, with the lungs'
 * outlines and the region burned in, and the findings in a panel below. For viewers that show
 * neither SR, nor SEG, nor presentation states.
 */
#include "dicom/write_private.h"

#include "core/grayscale.h"
#include "dicom/font.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1024, MAX_LINES = 40, LINE_CHARS = 120, MARGIN = 8, NARROWEST = 400 };

struct canvas {
    uint32_t width, height, picture_width, picture_height;
    uint32_t scale;  /* image pixels a canvas pixel, each way */
    uint32_t letter; /* canvas pixels a dot of the font */
    uint8_t *rgb;
};

static const uint8_t WHITE[3] = {255, 255, 255}, GREY[3] = {160, 160, 160},
                     YELLOW[3] = {255, 214, 10}, CYAN[3] = {0, 229, 255}, RED[3] = {255, 105, 97};

static void dot(struct canvas *c, uint32_t x, uint32_t y, const uint8_t colour[3])
{
    if (x < c->width && y < c->height)
        memcpy(c->rgb + 3 * ((size_t)y * c->width + x), colour, 3);
}

/* --- the picture --- */

/* The mean of the image pixels under each canvas pixel. */
static void shrink(const uint8_t *image, uint32_t channels, uint32_t rows, uint32_t columns,
                   struct canvas *c)
{
    for (uint32_t y = 0; y < c->picture_height; y++)
        for (uint32_t x = 0; x < c->picture_width; x++) {
            uint32_t sum[3] = {0}, n = 0;
            for (uint32_t v = y * c->scale; v < (y + 1) * c->scale && v < rows; v++)
                for (uint32_t h = x * c->scale; h < (x + 1) * c->scale && h < columns; h++, n++)
                    for (uint32_t k = 0; k < channels; k++)
                        sum[k] += image[((size_t)v * columns + h) * channels + k];
            for (uint32_t k = 0; k < 3 && n; k++)
                c->rgb[3 * ((size_t)y * c->width + x) + k] =
                    (uint8_t)(sum[channels == 3 ? k : 0] / n);
        }
}

static bool draw_picture(const struct mf_frame *picture, struct canvas *c, struct mf_error *err)
{
    uint32_t channels = mf_grayscale_channels(picture);
    MF_AUTO(mf_mem) uint8_t *image = malloc((size_t)picture->rows * picture->columns * channels);
    if (!image)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    if (!mf_grayscale_display8(picture, image, err))
        return false;
    shrink(image, channels, picture->rows, picture->columns, c);
    return true;
}

/* --- outlines --- */

/* The inner edge of a mask: its pixels with a neighbour outside, two wide on a large canvas. */
static bool draw_mask(const struct mf_mask *mask, struct canvas *c, struct mf_arena *arena,
                      struct mf_error *err)
{
    uint32_t w = c->picture_width, h = c->picture_height;
    long reach = w > 512 ? 2 : 1;
    uint8_t *inside = mf_arena_alloc(arena, (size_t)w * h, 1, err);
    if (!inside)
        return false;
    mf_mask_stretch(mask, h, w, inside);
    for (long y = 0; y < (long)h; y++)
        for (long x = 0; x < (long)w; x++) {
            bool edge = false;
            for (long d = -reach; d <= reach; d++) {
                bool column = y + d < 0 || y + d >= (long)h || !inside[(y + d) * (long)w + x];
                bool row = x + d < 0 || x + d >= (long)w || !inside[y * (long)w + x + d];
                edge |= column || row;
            }
            if (edge && inside[y * (long)w + x])
                dot(c, (uint32_t)x, (uint32_t)y, CYAN);
        }
    return true;
}

static void draw_box(const struct mf_write_frame *f, struct canvas *c)
{
    uint32_t x0 = f->box[0] / c->scale, y0 = f->box[1] / c->scale;
    uint32_t x1 = (f->box[2] - 1) / c->scale, y1 = (f->box[3] - 1) / c->scale;
    if (f->box[2] <= f->box[0] || f->box[3] <= f->box[1])
        return;
    for (uint32_t x = x0; x <= x1; x++) {
        dot(c, x, y0, YELLOW);
        dot(c, x, y1, YELLOW);
    }
    for (uint32_t y = y0; y <= y1; y++) {
        dot(c, x0, y, YELLOW);
        dot(c, x1, y, YELLOW);
    }
}

/* --- the panel --- */

struct line {
    char text[LINE_CHARS];
    const uint8_t *colour;
};

static void draw_text(struct canvas *c, uint32_t x, uint32_t y, const struct line *line)
{
    for (const char *p = line->text; *p; p++) {
        if (((unsigned char)*p & 0xC0) == 0x80)
            continue; /* the rest of a character that the font does not have */
        const uint8_t *glyph = mf_font_glyph(*p);
        for (uint32_t v = 0; v < MF_FONT_ROWS * c->letter; v++)
            for (uint32_t h = 0; h < MF_FONT_COLUMNS * c->letter; h++)
                if (glyph[v / c->letter] >> (MF_FONT_COLUMNS - 1 - h / c->letter) & 1)
                    dot(c, x + h, y + v, line->colour);
        x += (MF_FONT_COLUMNS + 1) * c->letter;
    }
}

static const uint8_t *state_colour(const char *state)
{
    return strcmp(state, "present") == 0 ? RED : strcmp(state, "absent") == 0 ? GREY : WHITE;
}

static size_t make_lines(const struct mf_write_set *set, struct line *lines)
{
    const json_t *list = mf_write_predictions(set);
    const json_t *flags = json_object_get(json_object_get(set->source->result, "quality"), "flags");
    size_t n = 0;
    snprintf(lines[n].text, LINE_CHARS, "AI result, not reviewed by a physician");
    lines[n++].colour = YELLOW;
    snprintf(lines[n].text, LINE_CHARS, "%s %s (%.12s)", mf_write_model(set, "name"),
             mf_write_model(set, "version"), mf_write_model(set, "digest"));
    lines[n++].colour = GREY;
    for (size_t i = 0; i < json_array_size(flags) && n < MAX_LINES; i++) {
        snprintf(lines[n].text, LINE_CHARS, "Quality: %s",
                 json_string_value(json_array_get(flags, i)));
        lines[n++].colour = YELLOW;
    }
    for (size_t i = 0; i < json_array_size(list) && n < MAX_LINES; i++) {
        const json_t *p = json_array_get(list, i);
        const char *state = mf_json_get_string(p, "state", "uncertain");
        const char *guarantee = mf_json_get_string(p, "guarantee", "void");
        double probability = mf_json_get_number(p, "probability", NAN);
        snprintf(lines[n].text, LINE_CHARS, "%-28.28s %5.1f %%  %-9s%s",
                 mf_json_get_string(p, "display", "-"), isnan(probability) ? 0 : 100 * probability,
                 state, strcmp(guarantee, "valid") == 0 ? "" : " (no guarantee)");
        lines[n++].colour = state_colour(state);
    }
    return n;
}

/* --- the object --- */

static bool make_canvas(const struct mf_write_set *set, size_t lines, struct mf_arena *arena,
                        struct canvas *c, struct mf_error *err)
{
    const struct mf_index_object *o = set->frames[set->shown].object;
    uint32_t longest = o->rows > o->columns ? o->rows : o->columns;
    c->scale = (longest + LONGEST - 1) / LONGEST;
    c->picture_width = (o->columns + c->scale - 1) / c->scale;
    c->width = c->picture_width > NARROWEST ? c->picture_width : NARROWEST;
    c->picture_height = (o->rows + c->scale - 1) / c->scale;
    c->letter = c->width >= 900 ? 2 : 1;
    uint32_t panel = (uint32_t)lines * (MF_FONT_ROWS + 3) * c->letter + 2 * MARGIN;
    c->height = c->picture_height + panel;
    c->rgb = mf_arena_alloc(arena, (size_t)c->width * c->height * 3 + 1, 1, err);
    return c->rgb != NULL;
}

static void put_image(struct mf_writer *w, const struct mf_write_set *set, const struct canvas *c)
{
    static const struct mf_coded SOURCE = {"121322", "DCM",
                                           "Source Image for Image Processing Operation"};
    const struct mf_write_frame *f = &set->frames[set->shown];
    size_t bytes = (size_t)c->width * c->height * 3;
    mf_put_texts(w, MF_KW_ImageType, "DERIVED\\SECONDARY");
    mf_put_text(w, MF_KW_ConversionType, "WSD");
    mf_put_text(w, MF_KW_DateOfSecondaryCapture, set->date);
    mf_put_text(w, MF_KW_TimeOfSecondaryCapture, set->time);
    mf_put_int(w, MF_KW_InstanceNumber, 1);
    mf_put_text(w, MF_KW_ContentDate, set->date);
    mf_put_text(w, MF_KW_ContentTime, set->time);
    mf_put_texts(w, MF_KW_PatientOrientation, f->object->patient_orientation);
    mf_put_text(w, MF_KW_DerivationDescription, "Picture with outlines and findings of the model");
    mf_begin_item(w, MF_KW_SourceImageSequence);
    mf_put_reference(w, f);
    mf_put_code(w, MF_KW_PurposeOfReferenceCodeSequence, &SOURCE);
    mf_end_item(w);
    mf_put_lossy(w, f);
    mf_put_int(w, MF_KW_SamplesPerPixel, 3);
    mf_put_text(w, MF_KW_PhotometricInterpretation, "RGB");
    mf_put_int(w, MF_KW_PlanarConfiguration, 0);
    mf_put_int(w, MF_KW_Rows, c->height);
    mf_put_int(w, MF_KW_Columns, c->width);
    mf_put_int(w, MF_KW_BitsAllocated, 8);
    mf_put_int(w, MF_KW_BitsStored, 8);
    mf_put_int(w, MF_KW_HighBit, 7);
    mf_put_int(w, MF_KW_PixelRepresentation, 0);
    mf_put_bytes(w, MF_KW_PixelData, c->rgb, bytes + bytes % 2);
}

bool mf_write_sc(struct mf_writer *w, const struct mf_write_set *set,
                 const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err)
{
    const struct mf_write_frame *f = &set->frames[set->shown];
    struct line *lines = mf_arena_alloc(arena, MAX_LINES, sizeof *lines, err);
    struct canvas c = {.rgb = NULL};
    size_t count = lines ? make_lines(set, lines) : 0;
    if (!lines || !make_canvas(set, count, arena, &c, err) || !draw_picture(set->picture, &c, err))
        return false;
    for (int k = 0; k < MF_STRUCTURE_COUNT; k++)
        if (f->masks[k] && !draw_mask(f->masks[k], &c, arena, err))
            return false;
    if (f->segmented)
        draw_box(f, &c);
    for (size_t i = 0; i < count; i++)
        draw_text(&c, MARGIN,
                  c.picture_height + MARGIN + (uint32_t)i * (MF_FONT_ROWS + 3) * c.letter,
                  &lines[i]);
    mf_put_common(w, set, item, "OT", "AI picture with findings");
    put_image(w, set, &c);
    return true;
}
