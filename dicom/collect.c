/* Collect: picks the indexed attributes out of a data set (PS3.3 C.7 and C.11; functional groups
 * C.7.6.16). */
#include "dicom/collect.h"

#include "dicom/charset.h"
#include "dicom/fields.h"
#include "dicom/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG(group, element) ((uint32_t)(group) << 16 | (uint32_t)(element))

enum { MAX_VALUE = 1024 }; /* bytes of a string value that are looked at */

static uint16_t value16(const struct mf_prescan_element *e, size_t at)
{
    const uint8_t *p = e->value + at;
    return e->big_endian ? (uint16_t)(p[0] << 8 | p[1]) : (uint16_t)(p[1] << 8 | p[0]);
}

/* Drops padding, trims spaces, removes control characters; `ascii` turns other bytes into '?'. */
static size_t clean(const uint8_t *value, size_t length, bool ascii, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < length && n + 1 < size; i++) {
        uint8_t c = value[i];
        if (c == '\0')
            break;
        if ((c < 0x20 && c != 0x1B) || c == 0x7F || (n == 0 && c == ' '))
            continue;
        out[n++] = ascii && (c >= 0x80 || c == 0x1B) ? '?' : (char)c;
    }
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    return n;
}

static bool keep_string(struct mf_collector *c, const char **field, const char *text,
                        struct mf_error *err)
{
    if (!*text)
        return true;
    *field = mf_arena_strndup(c->arena, text, MF_FIELD_MAX_CHARS - 1, err);
    return *field != NULL;
}

/* Removes what a conversion may have brought in and cuts at a character boundary. */
static void finish_text(char *text)
{
    size_t n = 0;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p >= 0x20 && *p != 0x7F)
            text[n++] = *p;
    if (n >= MF_FIELD_MAX_CHARS) {
        n = MF_FIELD_MAX_CHARS - 1;
        while (n && ((unsigned char)text[n] & 0xC0) == 0x80)
            n--;
    }
    text[n] = '\0';
}

void mf_collect_text(const struct mf_prescan_element *e, const char *charset, char *out,
                     size_t size)
{
    char raw[MAX_VALUE], text[4 * MAX_VALUE];
    if (!charset) {
        clean(e->value, e->length, true, out, size);
        return;
    }
    size_t n = clean(e->value, e->length, false, raw, sizeof raw);
    mf_charset_to_utf8(charset, raw, n, text, sizeof text);
    finish_text(text);
    snprintf(out, size, "%s", text);
}

static bool collect_string(struct mf_collector *c, const struct mf_field *f,
                           const struct mf_prescan_element *e, struct mf_error *err)
{
    char raw[MAX_VALUE], text[4 * MAX_VALUE];
    size_t n = clean(e->value, e->length, f->kind != MF_FIELD_TEXT, raw, sizeof raw);
    if (f->kind == MF_FIELD_UID && n && !mf_uid_valid(raw))
        return mf_error_set(err, MF_ERR_MALFORMED, "%s is not a UID", f->name);
    const char *value = raw;
    if (f->kind == MF_FIELD_TEXT) {
        mf_charset_to_utf8(c->charset, raw, n, text, sizeof text);
        value = text;
        finish_text(text);
    } else if (n >= MF_FIELD_MAX_CHARS) {
        raw[MF_FIELD_MAX_CHARS - 1] = '\0';
    }
    return keep_string(c, mf_field_string(c->object, f), value, err);
}

/* DS or IS values into `out`; returns how many of the `n` wanted there are. */
static size_t parse_decimals(const struct mf_prescan_element *e, double *out, size_t n)
{
    char text[MAX_VALUE];
    clean(e->value, e->length, true, text, sizeof text);
    size_t count = 0;
    for (char *p = text, *end; count < n && *p; p = end + 1) {
        size_t token = strcspn(p, "\\");
        if (strspn(p, "0123456789+-.eE ") < token)
            return count;
        double v = strtod(p, &end);
        if (end == p || !isfinite(v))
            return count;
        out[count++] = v;
        end = p + token;
        if (!*end)
            break;
    }
    return count;
}

static bool parse_all(const struct mf_prescan_element *e, double *out, size_t n)
{
    double values[6];
    if (parse_decimals(e, values, n) != n)
        return false;
    memcpy(out, values, n * sizeof *out);
    return true;
}

/* Whether the element says another value representation than those of `allowed`. Unknown (UN) is
 * none, and what implicit VR has. */
static void check_vr(struct mf_index_object *o, const struct mf_prescan_element *e,
                     const char *allowed)
{
    if (memcmp(e->vr, "UN", 2) != 0 && !strstr(allowed, e->vr))
        o->irregular |= 1u << MF_IRREGULAR_KIND;
}

static bool collect_field(struct mf_collector *c, const struct mf_field *f,
                          const struct mf_prescan_element *e, struct mf_error *err)
{
    double number;
    check_vr(c->object, e, f->vr);
    switch (f->kind) {
    case MF_FIELD_U16:
        if (e->length == 0)
            return true;
        if (e->length % 2 || (e->length > 2 && memcmp(e->vr, "US", 2) != 0))
            return mf_error_set(err, MF_ERR_MALFORMED, "%s has %u bytes, not 2", f->name,
                                e->length);
        *mf_field_u32(c->object, f) = value16(e, 0);
        return true;
    case MF_FIELD_INT:
        if (parse_decimals(e, &number, 1) == 1 && fabs(number) < 4503599627370496.0)
            *mf_field_int(c->object, f) = (int64_t)number;
        return true;
    default:
        return collect_string(c, f, e, err);
    }
}

/* What the table of attributes says of this one, if it is there. */
static bool collect_known(struct mf_collector *c, const struct mf_prescan_element *e,
                          struct mf_error *err)
{
    for (size_t i = 0; i < mf_field_count; i++)
        if (mf_fields[i].tag == e->tag)
            return collect_field(c, &mf_fields[i], e, err);
    return true;
}

/* ---- look-up tables ---- */

/* Descriptor (PS3.3 C.11.1.1.1): entries (0 = 65536), first input, bits. */
static void collect_descriptor(const struct mf_collector *c, struct mf_index_lut *lut,
                               const struct mf_prescan_element *e, bool modality)
{
    if (e->length < 6)
        return;
    uint16_t count = value16(e, 0), first = value16(e, 2);
    bool is_signed = memcmp(e->vr, "SS", 2) == 0 ||
                     (modality && memcmp(e->vr, "US", 2) != 0 && c->object->pixel_representation);
    lut->count = count ? count : 65536;
    lut->first = is_signed ? (int16_t)first : first;
    lut->bits = value16(e, 4);
}

static void collect_table(struct mf_index_lut *lut, const struct mf_prescan_element *e)
{
    lut->range = (struct mf_range){e->offset, e->length};
}

static void collect_segments(struct mf_index_lut *lut, const struct mf_prescan_element *e)
{
    if (lut->range.length)
        return;
    collect_table(lut, e);
    lut->segmented = true;
}

static struct mf_index_lut *item_lut(struct mf_index_object *o, const struct mf_prescan_element *e)
{
    if (e->levels[0].item != 0)
        return NULL;
    return e->levels[0].tag == TAG(0x0028, 0x3000)   ? &o->modality_lut
           : e->levels[0].tag == TAG(0x0028, 0x3010) ? &o->voi_lut
                                                     : NULL;
}

static void collect_lut(struct mf_collector *c, const struct mf_prescan_element *e)
{
    struct mf_index_object *o = c->object;
    struct mf_index_lut *lut = item_lut(o, e);
    if (lut && e->tag == TAG(0x0028, 0x3002))
        collect_descriptor(c, lut, e, lut == &o->modality_lut || !o->modality_lut.count);
    if (lut && e->tag == TAG(0x0028, 0x3006))
        collect_table(lut, e);
}

/* ---- functional groups ---- */

/* The group entry an element of (5200,9229) or (5200,9230) belongs to; NULL = not wanted. The
 * shared groups fill `shared`, which is copied to the object afterwards. */
static bool frame_group(struct mf_collector *c, const struct mf_prescan_element *e,
                        struct mf_index_frame **group, struct mf_error *err)
{
    struct mf_index_object *o = c->object;
    *group = NULL;
    if (e->levels[0].tag != TAG(0x5200, 0x9230) || e->levels[1].item != 0 || c->frames < 1 ||
        c->frames > MF_MAX_FRAMES || e->levels[0].item >= (uint64_t)c->frames)
        return true;
    if (!o->frame_groups) {
        o->frame_groups = mf_arena_alloc(c->arena, (size_t)c->frames, sizeof *o->frame_groups, err);
        if (!o->frame_groups)
            return false;
    }
    *group = &o->frame_groups[e->levels[0].item];
    return true;
}

static void collect_geometry(struct mf_index_frame *g, const struct mf_prescan_element *e)
{
    uint32_t sequence = e->levels[1].tag;
    if (sequence == TAG(0x0020, 0x9113) && e->tag == TAG(0x0020, 0x0032))
        g->has_position = parse_all(e, g->position, 3);
    else if (sequence == TAG(0x0020, 0x9116) && e->tag == TAG(0x0020, 0x0037))
        g->has_orientation = parse_all(e, g->orientation, 6);
    else if (sequence == TAG(0x0028, 0x9110) && e->tag == TAG(0x0028, 0x0030))
        g->has_spacing = parse_all(e, g->spacing, 2);
}

static void collect_values(struct mf_index_frame *g, const struct mf_prescan_element *e)
{
    uint32_t sequence = e->levels[1].tag;
    if (sequence == TAG(0x0028, 0x9145)) {
        if (e->tag == TAG(0x0028, 0x1052))
            parse_all(e, &g->intercept, 1);
        if (e->tag == TAG(0x0028, 0x1053))
            g->has_rescale = parse_all(e, &g->slope, 1);
    } else if (sequence == TAG(0x0028, 0x9132)) {
        if (e->tag == TAG(0x0028, 0x1050))
            parse_all(e, &g->center, 1);
        if (e->tag == TAG(0x0028, 0x1051))
            g->has_window = parse_all(e, &g->width, 1);
    }
}

/* The shared groups are kept in the object's own fields. */
static void collect_shared(struct mf_index_object *o, const struct mf_prescan_element *e)
{
    struct mf_index_frame g = {.intercept = o->intercept, .center = o->window_center};
    collect_geometry(&g, e);
    collect_values(&g, e);
    o->intercept = g.intercept;
    o->window_center = g.center;
    if (g.has_position)
        memcpy(o->position, g.position, sizeof o->position);
    if (g.has_orientation)
        memcpy(o->orientation, g.orientation, sizeof o->orientation);
    if (g.has_spacing)
        memcpy(o->pixel_spacing, g.spacing, sizeof o->pixel_spacing);
    if (g.has_rescale)
        o->slope = g.slope;
    if (g.has_window)
        o->window_width = g.width;
    o->has_position |= g.has_position;
    o->has_orientation |= g.has_orientation;
    o->has_rescale |= g.has_rescale;
    o->has_window |= g.has_window;
}

/* View Code Sequence (PS3.3 C.8.11.5), where View Position is missing. */
static void collect_view(struct mf_index_object *o, const struct mf_prescan_element *e)
{
    char code[32];
    if (e->levels[0].tag != TAG(0x0054, 0x0220) || e->levels[0].item != 0 ||
        e->tag != TAG(0x0008, 0x0100) || o->view_position)
        return;
    clean(e->value, e->length, true, code, sizeof code);
    o->view_position = mf_view_from_code(code);
}

/* The order, from the first item of Request Attributes Sequence (PS3.3 10.6; order numbers are not
 * of it, but are found there), unless the image itself names it. */
static bool collect_request(struct mf_collector *c, const struct mf_prescan_element *e,
                            struct mf_error *err)
{
    bool order = e->levels[0].tag == TAG(0x0040, 0x0275) && e->levels[0].item == 0 &&
                 (e->tag == TAG(0x0032, 0x1060) || e->tag == TAG(0x0040, 0x0009) ||
                  e->tag == TAG(0x0040, 0x1001) || e->tag == TAG(0x0040, 0x2016) ||
                  e->tag == TAG(0x0040, 0x2017) ||
                  (e->tag == TAG(0x0008, 0x0050) && !c->object->accession_number));
    return !order || collect_known(c, e, err);
}

static bool collect_nested(struct mf_collector *c, const struct mf_prescan_element *e,
                           struct mf_error *err)
{
    if (!e->value)
        return true;
    if (e->depth == 1) {
        collect_lut(c, e);
        collect_view(c->object, e);
        if (!collect_request(c, e, err))
            return false;
    }
    if (e->depth != 2)
        return true;
    if (e->levels[0].tag == TAG(0x5200, 0x9229))
        collect_shared(c->object, e);
    struct mf_index_frame *group;
    if (!frame_group(c, e, &group, err))
        return false;
    if (group) {
        collect_geometry(group, e);
        collect_values(group, e);
    }
    return true;
}

/* ---- top level ---- */

static void collect_padding(struct mf_index_object *o, const struct mf_prescan_element *e)
{
    if (e->length != 2 && e->length != 4)
        return;
    uint32_t raw = value16(e, 0);
    int64_t value = o->pixel_representation ? (int16_t)raw : (int64_t)raw;
    if (e->length == 4) {
        raw = e->big_endian ? raw << 16 | value16(e, 2) : raw | (uint32_t)value16(e, 2) << 16;
        value = o->pixel_representation ? (int32_t)raw : (int64_t)raw;
    }
    if (e->tag == TAG(0x0028, 0x0120)) {
        o->padding = value;
        o->has_padding = true;
    } else {
        o->padding_limit = value;
        o->has_padding_limit = true;
    }
}

/* The value representations that an element of collect_numbers() may have; NULL: any. */
static const char *vrs_of_number(uint32_t tag)
{
    switch (tag) {
    case TAG(0x0028, 0x0008):
        return "IS";
    case TAG(0x0018, 0x1164):
    case TAG(0x0020, 0x0032):
    case TAG(0x0020, 0x0037):
    case TAG(0x0028, 0x0030):
    case TAG(0x0028, 0x1050):
    case TAG(0x0028, 0x1051):
    case TAG(0x0028, 0x1052):
    case TAG(0x0028, 0x1053):
        return "DS";
    case TAG(0x0028, 0x0120):
    case TAG(0x0028, 0x0121):
        return "US SS";
    default:
        return NULL;
    }
}

static void collect_numbers(struct mf_collector *c, const struct mf_prescan_element *e)
{
    struct mf_index_object *o = c->object;
    const char *vrs = vrs_of_number(e->tag);
    double frames;
    if (vrs)
        check_vr(o, e, vrs);
    switch (e->tag) {
    case TAG(0x0018, 0x1164):
        parse_all(e, o->imager_pixel_spacing, 2);
        break;
    case TAG(0x0020, 0x0032):
        o->has_position = parse_all(e, o->position, 3);
        break;
    case TAG(0x0020, 0x0037):
        o->has_orientation = parse_all(e, o->orientation, 6);
        break;
    case TAG(0x0028, 0x0008):
        if (parse_decimals(e, &frames, 1) == 1 && fabs(frames) < 2147483648.0)
            c->frames = (int64_t)frames;
        break;
    case TAG(0x0028, 0x0030):
        parse_all(e, o->pixel_spacing, 2);
        break;
    case TAG(0x0028, 0x0120):
    case TAG(0x0028, 0x0121):
        collect_padding(o, e);
        break;
    case TAG(0x0028, 0x1050):
        parse_decimals(e, &o->window_center, 1);
        break;
    case TAG(0x0028, 0x1051):
        o->has_window = parse_decimals(e, &o->window_width, 1) == 1;
        break;
    case TAG(0x0028, 0x1052):
        o->has_rescale |= parse_all(e, &o->intercept, 1);
        break;
    case TAG(0x0028, 0x1053):
        o->has_rescale |= parse_all(e, &o->slope, 1);
        break;
    case TAG(0x0028, 0x1101):
    case TAG(0x0028, 0x1102):
    case TAG(0x0028, 0x1103):
        collect_descriptor(c, &o->palette[e->tag - TAG(0x0028, 0x1101)], e, false);
        break;
    case TAG(0x0028, 0x1201):
    case TAG(0x0028, 0x1202):
    case TAG(0x0028, 0x1203):
        collect_table(&o->palette[e->tag - TAG(0x0028, 0x1201)], e);
        break;
    case TAG(0x0028, 0x1221):
    case TAG(0x0028, 0x1222):
    case TAG(0x0028, 0x1223):
        collect_segments(&o->palette[e->tag - TAG(0x0028, 0x1221)], e);
        break;
    default:
        break;
    }
}

bool mf_collect(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    struct mf_collector *c = context;
    if (e->depth)
        return collect_nested(c, e, err);
    if (!e->value)
        return true;
    if (e->tag == TAG(0x0008, 0x0005)) {
        clean(e->value, e->length, true, c->charset, sizeof c->charset);
        return true;
    }
    collect_numbers(c, e);
    return collect_known(c, e, err);
}
