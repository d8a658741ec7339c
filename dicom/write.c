/* The set of objects that can be made of a result: frames found in the index, groups, names, UIDs.
 */
#include "dicom/write.h"

#include "core/clock.h"
#include "core/digest.h"
#include "dicom/write_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_FRAMES = 4096, ARENA_CEILING = 512 << 20 };

static const char SR_CLASS[] = "1.2.840.10008.5.1.4.1.1.88.34";
static const char SEG_CLASS[] = "1.2.840.10008.5.1.4.1.1.66.4";
static const char SC_CLASS[] = "1.2.840.10008.5.1.4.1.1.7";
static const char GSPS_CLASS[] = "1.2.840.10008.5.1.4.1.1.11.1";
static const char KOS_CLASS[] = "1.2.840.10008.5.1.4.1.1.88.59";

static const struct {
    const char *name, *sop_class;
    bool needs_picture;
    bool (*write)(struct mf_writer *, const struct mf_write_set *, const struct mf_write_item *,
                  struct mf_arena *, struct mf_error *);
} KINDS[MF_OBJECT_KIND_COUNT] = {
    [MF_OBJECT_SR] = {"sr", SR_CLASS, false, mf_write_sr},
    [MF_OBJECT_SEG] = {"seg", SEG_CLASS, false, mf_write_seg},
    [MF_OBJECT_SC] = {"sc", SC_CLASS, true, mf_write_sc},
    [MF_OBJECT_GSPS] = {"gsps", GSPS_CLASS, true, mf_write_gsps},
    [MF_OBJECT_KOS] = {"kos", KOS_CLASS, false, mf_write_kos},
    [MF_OBJECT_MAP] = {"map", SEG_CLASS, false, mf_write_map},
};

const char *mf_object_kind_name(enum mf_object_kind kind)
{
    return (size_t)kind < MF_OBJECT_KIND_COUNT ? KINDS[kind].name : "";
}

/* --- UIDs --- */

/* Everything that the objects say is in the result but for its timing, which differs from run to
 * run and is in none of them. */
static bool make_seed(struct mf_write_set *set, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *copy = json_copy((json_t *)(uintptr_t)set->source->result);
    if (copy)
        (void)json_object_del(copy, "timing_ms");
    MF_AUTO(mf_mem) char *text = copy ? mf_json_text(copy, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a DICOM object");
    mf_sha256(text, strlen(text), set->seed);
    return true;
}

/* 2.25 and the decimal of a UUID (PS3.5 B.2) that is the hash of the data. */
static void uid_of(const void *data, size_t length, char out[MF_UID])
{
    unsigned char d[MF_SHA256_BYTES];
    char digits[40];
    size_t n = sizeof digits;
    mf_sha256(data, length, d);
    d[6] = (unsigned char)(0x80 | (d[6] & 0x0F)); /* RFC 9562: version 8, made from a hash */
    d[8] = (unsigned char)(0x80 | (d[8] & 0x3F));
    for (bool left = true; left;) { /* 128 bits to decimal, one digit a round */
        unsigned rest = 0;
        left = false;
        for (int i = 0; i < 16; i++) {
            unsigned value = rest << 8 | d[i];
            d[i] = (unsigned char)(value / 10);
            rest = value % 10;
            left |= d[i] != 0;
        }
        digits[--n] = (char)('0' + rest);
    }
    snprintf(out, MF_UID, "2.25.%.*s", (int)(sizeof digits - n), digits + n);
}

void mf_write_uid(const struct mf_write_set *set, const char *what, char out[MF_UID])
{
    unsigned char seed[MF_SHA256_BYTES + 64];
    size_t length = strnlen(what, 64);
    memcpy(seed, set->seed, MF_SHA256_BYTES);
    memcpy(seed + MF_SHA256_BYTES, what, length);
    uid_of(seed, MF_SHA256_BYTES + length, out);
}

void mf_write_device_uid(const struct mf_write_set *set, char out[MF_UID])
{
    const char *digest = mf_write_model(set, "digest");
    uid_of(digest, strlen(digest), out);
}

/* --- frames --- */

static const struct mf_index_object *find_object(const struct mf_index *index, const char *uid)
{
    for (size_t i = 0; uid && i < index->object_count; i++)
        if (index->objects[i].sop_instance_uid &&
            strcmp(index->objects[i].sop_instance_uid, uid) == 0)
            return &index->objects[i];
    return NULL;
}

static bool has_uids(const struct mf_index_object *o)
{
    return o->study_instance_uid && o->series_instance_uid && o->sop_instance_uid &&
           o->sop_class_uid;
}

static bool read_segmentation(const json_t *json, struct mf_write_frame *f, struct mf_error *err)
{
    const json_t *box = json_object_get(json, "box");
    f->segmented = strcmp(mf_json_get_string(json, "status", ""), "ok") == 0;
    for (size_t i = 0; i < 4; i++) {
        const json_t *edge = json_array_get(box, i);
        json_int_t limit = i % 2 ? f->object->rows : f->object->columns;
        if (!json_is_integer(edge) || json_integer_value(edge) < 0 ||
            json_integer_value(edge) > limit)
            return mf_error_set(err, MF_ERR_MALFORMED, "its box does not fit the image");
        f->box[i] = (uint32_t)json_integer_value(edge);
    }
    return true;
}

static bool read_frame(const struct mf_write_source *source, const json_t *json,
                       struct mf_write_frame *f, struct mf_error *err)
{
    json_int_t index = mf_json_get_int(json, "index", -1);
    f->object = find_object(source->index, mf_json_get_string(json, "sop_instance_uid", NULL));
    if (!f->object)
        return mf_error_set(err, MF_ERR_MALFORMED, "its image is not in the index");
    if (!has_uids(f->object))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "its image has no study, series or SOP class UID: no DICOM object can "
                            "refer to it");
    if (index < 0 || index >= (json_int_t)f->object->frames)
        return mf_error_set(err, MF_ERR_MALFORMED, "its image has no such frame");
    f->frame = (uint32_t)index;
    f->prior = strcmp(mf_json_get_string(json, "role", ""), "prior") == 0;
    return read_segmentation(json_object_get(json, "segmentation"), f, err);
}

static bool read_frames(struct mf_write_set *set, struct mf_error *err)
{
    const json_t *study = json_object_get(set->source->result, "study");
    const json_t *list = json_object_get(study, "frames");
    size_t n = json_array_size(list);
    bool current = false;
    if (strcmp(mf_json_get_string(set->source->result, "schema", ""), "medfusion.result/1") != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "result: the schema is not medfusion.result/1");
    if (n == 0 || n > MAX_FRAMES)
        return mf_error_set(err, MF_ERR_MALFORMED, "result: %s",
                            n ? "too many frames" : "no frame");
    set->frames = mf_arena_alloc(set->arena, n, sizeof *set->frames, err);
    for (size_t i = 0; set->frames && i < n; i++) {
        if (!read_frame(set->source, json_array_get(list, i), &set->frames[i], err))
            return mf_error_prefix(err, "result: frame %zu", i);
        if (!set->frames[i].prior) {
            set->newest = i;
            current = true;
        }
    }
    set->frame_count = n;
    return set->frames &&
           (current || mf_error_set(err, MF_ERR_MALFORMED, "result: no frame of its own study"));
}

/* Planes of a volume that are finer than its slices share a stored one: the first mask stands for
 * it. */
static bool has_mask(const struct mf_write_set *set, const struct mf_mask *mask)
{
    const struct mf_write_frame *f = &set->frames[mask->frame];
    for (size_t i = 0; i < mask->frame; i++)
        if (set->frames[i].object == f->object && set->frames[i].frame == f->frame &&
            set->frames[i].masks[mask->structure])
            return true;
    return false;
}

static bool read_masks(struct mf_write_set *set, struct mf_error *err)
{
    struct mf_mask *masks = NULL;
    size_t n = 0;
    if (!set->source->masks)
        return true;
    if (!mf_masks_parse(set->source->masks, set->frame_count, set->arena, &masks, &n, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (set->frames[masks[i].frame].segmented && !has_mask(set, &masks[i]))
            set->frames[masks[i].frame].masks[masks[i].structure] = &masks[i];
    return true;
}

bool mf_write_seen(const struct mf_write_set *set, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (set->frames[k].object == set->frames[i].object &&
            set->frames[k].prior == set->frames[i].prior)
            return true;
    return false;
}

/* --- groups --- */

static bool same_uid(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* Whether two frames may share a segmentation: a frame of reference with positions, or an object.
 */
static bool same_group(const struct mf_write_frame *a, const struct mf_write_frame *b)
{
    const struct mf_index_object *x = a->object, *y = b->object;
    if (x == y)
        return true;
    return x->rows == y->rows && x->columns == y->columns && x->has_position && y->has_position &&
           same_uid(x->frame_of_reference_uid, y->frame_of_reference_uid) &&
           same_uid(x->series_instance_uid, y->series_instance_uid);
}

static bool has_masks(const struct mf_write_set *set, size_t frame)
{
    const struct mf_write_frame *f = &set->frames[frame];
    return f->masks[MF_STRUCTURE_IMAGE_LEFT] || f->masks[MF_STRUCTURE_IMAGE_RIGHT];
}

bool mf_write_group_frames(struct mf_write_set *set, mf_write_in_group *in,
                           struct mf_write_groups *ret, struct mf_error *err)
{
    size_t n = set->frame_count;
    ret->list = mf_arena_alloc(set->arena, n, sizeof *ret->list, err);
    ret->of = mf_arena_alloc(set->arena, n, sizeof *ret->of, err);
    if (!ret->list || !ret->of)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t g = 0;
        ret->of[i] = SIZE_MAX;
        if (set->frames[i].prior || !in(set, i))
            continue;
        while (g < ret->count && !same_group(&set->frames[ret->list[g].first], &set->frames[i]))
            g++;
        if (g == ret->count)
            ret->list[ret->count++] = (struct mf_write_group){.first = i};
        ret->list[g].count++;
        ret->of[i] = g;
    }
    return true;
}

/* The frame that pictures show: the newest one, or the middle one of a stack of slices. */
static void choose_shown(struct mf_write_set *set)
{
    size_t stack = 0, at = 0;
    for (size_t i = 0; i < set->frame_count; i++)
        stack += !set->frames[i].prior && same_group(&set->frames[i], &set->frames[set->newest]);
    set->shown = set->newest;
    for (size_t i = 0; i < set->frame_count && stack > 2; i++)
        if (!set->frames[i].prior && same_group(&set->frames[i], &set->frames[set->newest]) &&
            at++ == stack / 2)
            set->shown = i;
}

/* --- items --- */

static bool is_greyscale(const struct mf_index_object *o)
{
    return o->photometric && strncmp(o->photometric, "MONOCHROME", 10) == 0;
}

static bool has_present(const struct mf_write_set *set)
{
    const json_t *list = mf_write_predictions(set);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (mf_write_is_present(json_array_get(list, i)))
            return true;
    return false;
}

static void add_item(struct mf_write_set *set, enum mf_object_kind kind, size_t number)
{
    struct mf_write_item *item = &set->items[set->item_count++];
    char what[64];
    item->kind = kind;
    item->sop_class_uid = KINDS[kind].sop_class;
    item->needs_picture = KINDS[kind].needs_picture;
    if (number == 0)
        snprintf(item->name, sizeof item->name, "%s", KINDS[kind].name);
    else
        snprintf(item->name, sizeof item->name, "%s-%u", KINDS[kind].name, (unsigned)number + 1);
    snprintf(what, sizeof what, "%s.series", KINDS[kind].name);
    mf_write_uid(set, what, item->series_instance_uid);
    snprintf(what, sizeof what, "%s.instance", item->name);
    mf_write_uid(set, what, item->sop_instance_uid);
}

static bool make_items(struct mf_write_set *set, struct mf_error *err)
{
    set->items =
        mf_arena_alloc(set->arena, set->segmented.count + set->mapped.count + MF_OBJECT_KIND_COUNT,
                       sizeof *set->items, err);
    if (!set->items)
        return false;
    add_item(set, MF_OBJECT_SR, 0);
    for (size_t i = 0; i < set->segmented.count; i++)
        add_item(set, MF_OBJECT_SEG, i);
    add_item(set, MF_OBJECT_SC, 0);
    if (is_greyscale(set->frames[set->shown].object))
        add_item(set, MF_OBJECT_GSPS, 0);
    if (has_present(set))
        add_item(set, MF_OBJECT_KOS, 0);
    for (size_t i = 0; i < set->mapped.count; i++)
        add_item(set, MF_OBJECT_MAP, i);
    return true;
}

/* The date and time of the result as the images count time: in their zone where they name one, else
 * in that of this machine. */
static void set_time(struct mf_write_set *set)
{
    const char *zone = set->frames[set->newest].object->timezone_offset;
    time_t seconds = (time_t)(set->source->made_ms / 1000);
    struct tm tm = {0};
    if (zone && strlen(zone) == 5) {
        int hours = (zone[1] - '0') * 10 + zone[2] - '0',
            minutes = (zone[3] - '0') * 10 + zone[4] - '0';
        seconds += (zone[0] == '-' ? -60 : 60) * (60 * hours + minutes);
        gmtime_r(&seconds, &tm);
    } else {
        localtime_r(&seconds, &tm);
    }
    strftime(set->date, sizeof set->date, "%Y%m%d", &tm);
    snprintf(set->time, sizeof set->time, "%02u%02u%02u.%03u", (unsigned)tm.tm_hour % 24,
             (unsigned)tm.tm_min % 60, (unsigned)tm.tm_sec % 62,
             (unsigned)(set->source->made_ms % 1000));
}

struct mf_write_set *mf_write_set_new(const struct mf_write_source *source, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_CEILING);
    struct mf_write_set *set = arena ? mf_arena_alloc(arena, 1, sizeof *set, err) : NULL;
    if (!set) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for DICOM objects");
        return NULL;
    }
    set->arena = arena;
    set->source = source;
    if (!read_frames(set, err) || !read_masks(set, err) ||
        !mf_write_group_frames(set, has_masks, &set->segmented, err) ||
        !mf_write_read_maps(set, err) || !make_seed(set, err))
        return NULL;
    choose_shown(set);
    set_time(set);
    if (!make_items(set, err))
        return NULL;
    arena = NULL;
    return set;
}

void mf_write_set_free(struct mf_write_set *set)
{
    if (set)
        mf_arena_free(set->arena); /* the set lies in it */
}

const struct mf_write_item *mf_write_set_items(const struct mf_write_set *set, size_t *count)
{
    *count = set->item_count;
    return set->items;
}

const struct mf_write_item *mf_write_set_find(const struct mf_write_set *set, const char *name)
{
    for (size_t i = 0; i < set->item_count; i++)
        if (strcmp(set->items[i].name, name) == 0)
            return &set->items[i];
    return NULL;
}

const struct mf_index_object *mf_write_set_picture(const struct mf_write_set *set,
                                                   uint32_t *ret_frame)
{
    *ret_frame = set->frames[set->shown].frame;
    return set->frames[set->shown].object;
}

void mf_write_set_give_picture(struct mf_write_set *set, const struct mf_frame *picture)
{
    set->picture = picture;
}

static bool check_picture(const struct mf_write_set *set, struct mf_error *err)
{
    const struct mf_index_object *o = set->frames[set->shown].object;
    if (!set->picture || set->picture->rows != o->rows || set->picture->columns != o->columns)
        return mf_error_set(err, MF_ERR_INTERNAL, "the picture of the result is not at hand");
    return true;
}

bool mf_write_object(const struct mf_write_set *set, const struct mf_write_item *item,
                     struct mf_buffer *out, struct mf_error *err)
{
    if (item->needs_picture && !check_picture(set, err))
        return false;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_CEILING);
    MF_AUTO(mf_writer) struct mf_writer *w = arena ? mf_writer_new(err) : NULL;
    if (!w)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a DICOM object");
    return KINDS[item->kind].write(w, set, item, arena, err) && mf_writer_encode(w, out, err);
}
