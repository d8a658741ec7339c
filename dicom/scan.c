/* Scan: inputs → Part 10 files and zip members → pre-scanner and collector → index. */
#include "dicom/scan.h"

#include "dicom/collect.h"
#include "dicom/inflate.h"
#include "dicom/prescan.h"
#include "dicom/zip.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>

enum { PEEK_BYTES = 256, ARENA_CEILING = 256 << 20, NAME_BYTES = 48 };

/* ---- a read-only view of a range of a descriptor ---- */

struct view {
    const uint8_t *data;
    size_t length;
    void *map;
    size_t map_length;
};

MF_AUTO_DEFINE(view, struct view, if (p->map) munmap(p->map, p->map_length))

static bool view_open(const struct mf_scan_input *input, struct view *ret, struct mf_error *err)
{
    struct stat st;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), begin = input->offset / page * page;
    if (fstat(input->fd, &st) != 0)
        return mf_error_set(err, MF_ERR_IO, "cannot be read: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return mf_error_set(err, MF_ERR_IO, "not a regular file");
    if (input->offset > (uint64_t)st.st_size ||
        input->length > (uint64_t)st.st_size - input->offset)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the payload ends before this part");
    if (input->length == 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "empty");
    size_t map_length = (size_t)(input->offset - begin + input->length);
    void *map = mmap(NULL, map_length, PROT_READ, MAP_PRIVATE, input->fd, (off_t)begin);
    if (map == MAP_FAILED)
        return mf_error_set(err, errno == ENOMEM ? MF_ERR_NO_MEMORY : MF_ERR_IO,
                            "cannot be mapped: %s", strerror(errno));
    *ret = (struct view){.data = (const uint8_t *)map + (input->offset - begin),
                         .length = (size_t)input->length,
                         .map = map,
                         .map_length = map_length};
    return true;
}

/* ---- the index while it grows ---- */

struct scanner {
    struct mf_index *index;
    size_t object_capacity, skipped_capacity;
    struct mf_scan_limits limits;
    struct mf_inflate_budget budget;
    /* The input at hand: */
    const struct mf_scan_input *input;
    uint32_t input_number; /* 0-based */
    const uint8_t *archive;
    uint32_t member; /* 1-based, 0 = not in a zip */
    size_t objects_before;
};

/* "part 2" or "part 2, member 14". */
static void name_input(const struct scanner *s, char out[NAME_BYTES])
{
    if (s->member)
        snprintf(out, NAME_BYTES, "part %u, member %u", s->input_number + 1, s->member);
    else
        snprintf(out, NAME_BYTES, "part %u", s->input_number + 1);
}

/* Grows an array of the index; the old one stays in the arena, at most as much as the new. */
static void *grow(struct mf_arena *arena, void *old, size_t count, size_t *capacity, size_t size,
                  struct mf_error *err)
{
    if (count < *capacity)
        return old;
    size_t more = *capacity ? *capacity * 2 : 4;
    void *bigger = mf_arena_alloc(arena, more, size, err);
    if (!bigger)
        return NULL;
    if (count)
        memcpy(bigger, old, count * size);
    *capacity = more;
    return bigger;
}

static bool add_skipped(struct scanner *s, const char *reason, struct mf_error *err)
{
    struct mf_index *index = s->index;
    char name[NAME_BYTES];
    struct mf_index_skipped *list = grow(index->arena, index->skipped, index->skipped_count,
                                         &s->skipped_capacity, sizeof *list, err);
    if (!list)
        return false;
    name_input(s, name);
    index->skipped = list;
    list[index->skipped_count].name = mf_arena_strdup(index->arena, name, err);
    list[index->skipped_count].reason = reason;
    if (!list[index->skipped_count].name)
        return false;
    index->skipped_count++;
    return true;
}

static bool check_count(const struct scanner *s, struct mf_error *err)
{
    if (s->index->object_count + s->index->skipped_count < s->limits.objects)
        return true;
    return mf_error_set(err, MF_ERR_TOO_LARGE, "more than %u objects in one request",
                        s->limits.objects);
}

/* Reads the object in `data`; `layer` says where these bytes come from. */
static bool add_object(struct scanner *s, const uint8_t *data, size_t length,
                       const struct mf_layer *layer, struct mf_error *err)
{
    struct mf_index *index = s->index;
    char name[NAME_BYTES];
    struct mf_index_object object = {
        .input = s->input_number, .layers = {*layer}, .layer_count = 1, .slope = 1};
    struct mf_collector collector = {.arena = index->arena, .object = &object};
    MF_AUTO(mf_prescan) struct mf_prescan prescan = {.transfer_syntax = ""};
    if (!mf_prescan_run(data, length, &s->budget, mf_collect, &collector, &prescan, err) ||
        !mf_collect_finish(&collector, &prescan, s->limits.samples_per_frame, err))
        return false;
    if (prescan.deflated)
        object.layers[object.layer_count++] = (struct mf_layer){
            .range = prescan.deflated_range, .deflated = true, .size = prescan.length};
    name_input(s, name);
    object.name = mf_arena_strdup(index->arena, name, err);
    struct mf_index_object *list = grow(index->arena, index->objects, index->object_count,
                                        &s->object_capacity, sizeof *list, err);
    if (!object.name || !list)
        return false;
    index->objects = list;
    list[index->object_count++] = object;
    return true;
}

/* ---- zips ---- */

/* The first bytes of a deflated member, without believing or inflating the rest. */
static size_t peek_deflated(const uint8_t *data, size_t length, uint8_t out[PEEK_BYTES])
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
                  .avail_in = length < 65536 ? (uInt)length : 65536,
                  .next_out = out,
                  .avail_out = PEEK_BYTES};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return 0;
    inflate(&z, Z_SYNC_FLUSH);
    inflateEnd(&z);
    return PEEK_BYTES - z.avail_out;
}

static bool check_crc(const uint8_t *data, size_t length, uint32_t wanted, struct mf_error *err)
{
    uLong crc = crc32_z(0, data, length);
    return crc == wanted ? true
                         : mf_error_set(err, MF_ERR_MALFORMED, "damaged: its CRC-32 differs");
}

static bool add_deflated_member(struct scanner *s, const struct mf_zip_member *member,
                                struct mf_layer *layer, struct mf_error *err)
{
    MF_AUTO(mf_mem) unsigned char *bytes = NULL;
    size_t length;
    if (!mf_inflate(s->archive + member->offset, member->length, &s->budget, &bytes, &length, NULL,
                    err))
        return false;
    layer->size = length;
    return check_crc(bytes, length, member->crc, err) && add_object(s, bytes, length, layer, err);
}

static bool scan_member(void *context, const struct mf_zip_member *member, struct mf_error *err)
{
    struct scanner *s = context;
    const uint8_t *data = s->archive + member->offset, *start = data;
    uint8_t peek[PEEK_BYTES];
    size_t known = (size_t)member->length;
    char name[NAME_BYTES];
    s->member++;
    name_input(s, name);
    if (!check_count(s, err))
        return mf_error_prefix(err, "%s", name);
    if (member->deflated) {
        known = peek_deflated(data, (size_t)member->length, peek);
        start = peek;
    }
    if (!mf_prescan_plausible(start, known))
        return add_skipped(s,
                           mf_zip_plausible(start, known) ? "a zip inside a zip is not opened"
                                                          : "not a DICOM file",
                           err);
    struct mf_layer layer = {.range = {s->input->offset + member->offset, member->length},
                             .deflated = member->deflated,
                             .size = member->length};
    bool ok = member->deflated ? add_deflated_member(s, member, &layer, err)
                               : check_crc(data, known, member->crc, err) &&
                                     add_object(s, data, known, &layer, err);
    return ok ? true : mf_error_prefix(err, "%s", name);
}

static bool scan_zip(struct scanner *s, const struct view *view, struct mf_error *err)
{
    char name[NAME_BYTES];
    struct mf_error cause = MF_ERROR_INIT;
    name_input(s, name);
    s->archive = view->data;
    s->member = 0;
    s->objects_before = s->index->object_count;
    bool ok = mf_zip_walk(view->data, view->length, s->limits.objects, scan_member, s, &cause);
    s->member = 0;
    if (!ok && strncmp(cause.msg, "part ", 5) == 0) /* an object's own error is named already */
        return mf_error_set(err, cause.code, "%s", cause.msg);
    if (!ok)
        return mf_error_set(err, cause.code, "%s: %s", name, cause.msg);
    if (s->index->object_count == s->objects_before && !s->limits.lenient)
        return mf_error_set(err, MF_ERR_MALFORMED, "%s: the zip holds no DICOM file", name);
    return true;
}

/* ---- inputs ---- */

static bool scan_input(struct scanner *s, struct mf_error *err)
{
    char name[NAME_BYTES];
    MF_AUTO(view) struct view view = {.data = NULL};
    name_input(s, name);
    if (!view_open(s->input, &view, err))
        return mf_error_prefix(err, "%s", name);
    bool dicom = mf_prescan_plausible(view.data, view.length);
    if (!dicom && mf_zip_plausible(view.data, view.length))
        return scan_zip(s, &view, err);
    if (!dicom && s->limits.lenient)
        return add_skipped(s, "not a DICOM file", err);
    struct mf_layer layer = {.range = {s->input->offset, s->input->length},
                             .size = s->input->length};
    if (!check_count(s, err) || !add_object(s, view.data, view.length, &layer, err))
        return mf_error_prefix(err, "%s", name);
    return true;
}

static struct mf_scan_limits with_defaults(const struct mf_scan_limits *given)
{
    struct mf_scan_limits l = given ? *given : (struct mf_scan_limits){0};
    l.expanded_bytes = l.expanded_bytes ? l.expanded_bytes : UINT64_C(1) << 30;
    l.object_bytes = l.object_bytes ? l.object_bytes : UINT64_C(512) << 20;
    l.ratio = l.ratio ? l.ratio : 200;
    l.objects = l.objects ? l.objects : 10000;
    l.samples_per_frame = l.samples_per_frame ? l.samples_per_frame : UINT64_C(1) << 27;
    return l;
}

struct mf_index *mf_scan(const struct mf_scan_input *inputs, size_t count,
                         const struct mf_scan_limits *limits, struct mf_error *err)
{
    MF_AUTO(mf_index) struct mf_index *index = calloc(1, sizeof *index);
    if (!index || !(index->arena = mf_arena_new(ARENA_CEILING))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an index");
        return NULL;
    }
    struct scanner s = {.index = index, .limits = with_defaults(limits)};
    s.budget = (struct mf_inflate_budget){.remaining = s.limits.expanded_bytes,
                                          .object_bytes = s.limits.object_bytes,
                                          .ratio = s.limits.ratio};
    for (size_t i = 0; i < count; i++) {
        s.input = &inputs[i];
        s.input_number = (uint32_t)i;
        if (!scan_input(&s, err))
            return NULL;
    }
    return MF_STEAL(index);
}
