/* Frames: checks of the invariants and the block that carries a frame between processes. */
#include "core/frame.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK_MAGIC = 0x4d464652, /* "MFFR" */
    BLOCK_VERSION = 1,
    LUT_COUNT = 5, /* modality, VOI, red, green, blue */
    MAX_LUT_ENTRIES = 65536,
    ALIGNMENT = 64
};

static const uint64_t MAX_SAMPLES = UINT64_C(1) << 31;

struct packed_lut {
    uint32_t count, bits;
    int32_t first;
    uint32_t reserved;
};

/* The header of a block; tables and samples follow in a layout that is computed from it. */
struct packed_header {
    uint32_t magic, version;
    uint32_t rows, columns, samples_per_pixel, type, photometric, bits_stored, high_bit,
        voi_function;
    uint8_t has_window, has_padding, has_position, has_orientation;
    uint32_t reserved;
    int64_t padding_low, padding_high;
    double rescale_slope, rescale_intercept, window_center, window_width;
    double pixel_spacing[2], position[3], orientation[6];
    struct packed_lut luts[LUT_COUNT];
};

static const uint8_t SAMPLE_SIZE[MF_SAMPLE_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 8};

size_t mf_sample_size(enum mf_sample_type type)
{
    return (unsigned)type < MF_SAMPLE_TYPE_COUNT ? SAMPLE_SIZE[type] : 0;
}

bool mf_sample_is_signed(enum mf_sample_type type)
{
    return type == MF_SAMPLE_I8 || type == MF_SAMPLE_I16 || type == MF_SAMPLE_I32 ||
           mf_sample_is_float(type);
}

bool mf_sample_is_float(enum mf_sample_type type)
{
    return type == MF_SAMPLE_F32 || type == MF_SAMPLE_F64;
}

size_t mf_frame_bytes(const struct mf_frame *frame)
{
    return (size_t)frame->rows * frame->columns * frame->samples_per_pixel *
           mf_sample_size(frame->type);
}

static bool check_lut(const struct mf_lut *lut, const char *name, struct mf_error *err)
{
    if (lut->count == 0)
        return true;
    if (lut->count > MAX_LUT_ENTRIES)
        return mf_error_set(err, MF_ERR_MALFORMED, "the %s table has %u entries, at most 65536 fit",
                            name, lut->count);
    if (lut->bits < 1 || lut->bits > 16)
        return mf_error_set(err, MF_ERR_MALFORMED, "the %s table has entries of %u bits", name,
                            lut->bits);
    if (!lut->data)
        return mf_error_set(err, MF_ERR_MALFORMED, "the %s table has no entries", name);
    return true;
}

static bool all_finite(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static bool check_numbers(const struct mf_frame *f, struct mf_error *err)
{
    const double scalars[] = {f->rescale_slope, f->rescale_intercept, f->window_center,
                              f->window_width,  f->pixel_spacing[0],  f->pixel_spacing[1]};
    if (!all_finite(scalars, sizeof scalars / sizeof *scalars) || !all_finite(f->position, 3) ||
        !all_finite(f->orientation, 6))
        return mf_error_set(
            err, MF_ERR_MALFORMED,
            "the frame's rescale, window or geometry holds a number that is not finite");
    if (f->pixel_spacing[0] < 0 || f->pixel_spacing[1] < 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "the frame's pixel spacing is negative");
    return true;
}

static bool check_tables(const struct mf_frame *f, struct mf_error *err)
{
    static const char *const COLOURS[3] = {"red palette", "green palette", "blue palette"};
    if (!check_lut(&f->modality_lut, "modality", err) || !check_lut(&f->voi_lut, "VOI", err))
        return false;
    for (int i = 0; i < 3; i++) {
        if (!check_lut(&f->palette[i], COLOURS[i], err))
            return false;
        if (f->photometric == MF_PHOTOMETRIC_PALETTE && f->palette[i].count == 0)
            return mf_error_set(err, MF_ERR_MALFORMED, "the %s table is missing", COLOURS[i]);
    }
    return true;
}

static bool check_format(const struct mf_frame *f, struct mf_error *err)
{
    if ((unsigned)f->type >= MF_SAMPLE_TYPE_COUNT ||
        (unsigned)f->photometric >= MF_PHOTOMETRIC_COUNT ||
        (unsigned)f->voi_function >= MF_VOI_FUNCTION_COUNT)
        return mf_error_set(err, MF_ERR_MALFORMED, "the frame has an unknown sample type");
    bool colour = f->photometric == MF_PHOTOMETRIC_RGB || f->photometric == MF_PHOTOMETRIC_YBR_FULL;
    if (f->samples_per_pixel != (colour ? 3u : 1u))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the frame has %u samples per pixel, its photometric interpretation %d",
                            f->samples_per_pixel, colour ? 3 : 1);
    if ((colour || f->photometric == MF_PHOTOMETRIC_PALETTE) && mf_sample_is_float(f->type))
        return mf_error_set(err, MF_ERR_MALFORMED, "a colour frame cannot have float samples");
    if (f->photometric == MF_PHOTOMETRIC_PALETTE && mf_sample_size(f->type) > 2)
        return mf_error_set(err, MF_ERR_MALFORMED, "a palette cannot have indices of 32 bits");
    uint32_t bits = (uint32_t)mf_sample_size(f->type) * 8;
    if (f->bits_stored < 1 || f->bits_stored > bits || f->high_bit >= bits ||
        f->high_bit + 1 < f->bits_stored)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "%u bits stored up to bit %u do not fit samples of %u bits",
                            f->bits_stored, f->high_bit, bits);
    return true;
}

bool mf_frame_check(const struct mf_frame *f, struct mf_error *err)
{
    if (f->rows < 1 || f->rows > 65535 || f->columns < 1 || f->columns > 65535)
        return mf_error_set(err, MF_ERR_MALFORMED, "a frame of %u x %u pixels is not possible",
                            f->rows, f->columns);
    if (f->samples_per_pixel > 3 ||
        (uint64_t)f->rows * f->columns * f->samples_per_pixel > MAX_SAMPLES)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a frame of %u x %u x %u samples is too large",
                            f->rows, f->columns, f->samples_per_pixel);
    if (!f->samples)
        return mf_error_set(err, MF_ERR_MALFORMED, "the frame has no samples");
    return check_format(f, err) && check_tables(f, err) && check_numbers(f, err);
}

void mf_frame_free(struct mf_frame *frame)
{
    if (!frame)
        return;
    free(frame->owned);
    frame->owned = NULL;
    frame->samples = NULL;
}

/* Where tables and samples lie in a block, computed by sender and receiver alike. */
struct layout {
    size_t luts[LUT_COUNT];
    size_t samples, total;
};

static size_t align_up(size_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static struct layout layout_of(const uint32_t counts[LUT_COUNT], size_t sample_bytes)
{
    struct layout l;
    size_t at = align_up(sizeof(struct packed_header));
    for (int i = 0; i < LUT_COUNT; i++) {
        l.luts[i] = at;
        at = align_up(at + counts[i] * sizeof(uint16_t));
    }
    l.samples = at;
    l.total = at + sample_bytes;
    return l;
}

static void list_luts(const struct mf_frame *f, const struct mf_lut *luts[LUT_COUNT],
                      uint32_t counts[LUT_COUNT])
{
    luts[0] = &f->modality_lut;
    luts[1] = &f->voi_lut;
    for (int i = 0; i < 3; i++)
        luts[2 + i] = &f->palette[i];
    for (int i = 0; i < LUT_COUNT; i++)
        counts[i] = luts[i]->count;
}

size_t mf_frame_packed_size(const struct mf_frame *frame)
{
    const struct mf_lut *luts[LUT_COUNT];
    uint32_t counts[LUT_COUNT];
    list_luts(frame, luts, counts);
    return layout_of(counts, mf_frame_bytes(frame)).total;
}

void mf_frame_pack(const struct mf_frame *f, void *block)
{
    const struct mf_lut *luts[LUT_COUNT];
    uint32_t counts[LUT_COUNT];
    list_luts(f, luts, counts);
    struct layout l = layout_of(counts, mf_frame_bytes(f));
    struct packed_header h = {
        .magic = BLOCK_MAGIC,
        .version = BLOCK_VERSION,
        .rows = f->rows,
        .columns = f->columns,
        .samples_per_pixel = f->samples_per_pixel,
        .type = (uint32_t)f->type,
        .photometric = (uint32_t)f->photometric,
        .bits_stored = f->bits_stored,
        .high_bit = f->high_bit,
        .voi_function = (uint32_t)f->voi_function,
        .has_window = f->has_window,
        .has_padding = f->has_padding,
        .has_position = f->has_position,
        .has_orientation = f->has_orientation,
        .padding_low = f->padding_low,
        .padding_high = f->padding_high,
        .rescale_slope = f->rescale_slope,
        .rescale_intercept = f->rescale_intercept,
        .window_center = f->window_center,
        .window_width = f->window_width,
    };
    memcpy(h.pixel_spacing, f->pixel_spacing, sizeof h.pixel_spacing);
    memcpy(h.position, f->position, sizeof h.position);
    memcpy(h.orientation, f->orientation, sizeof h.orientation);
    unsigned char *out = block;
    for (int i = 0; i < LUT_COUNT; i++) {
        h.luts[i] = (struct packed_lut){
            .count = luts[i]->count, .bits = luts[i]->bits, .first = luts[i]->first};
        if (luts[i]->count)
            memcpy(out + l.luts[i], luts[i]->data, luts[i]->count * sizeof(uint16_t));
    }
    memcpy(out, &h, sizeof h);
    memcpy(out + l.samples, f->samples, mf_frame_bytes(f));
}

static void read_header(const struct packed_header *h, struct mf_frame *f)
{
    *f = (struct mf_frame){
        .rows = h->rows,
        .columns = h->columns,
        .samples_per_pixel = h->samples_per_pixel,
        .type = (enum mf_sample_type)h->type,
        .photometric = (enum mf_photometric)h->photometric,
        .bits_stored = h->bits_stored,
        .high_bit = h->high_bit,
        .voi_function = (enum mf_voi_function)h->voi_function,
        .has_window = h->has_window != 0,
        .has_padding = h->has_padding != 0,
        .has_position = h->has_position != 0,
        .has_orientation = h->has_orientation != 0,
        .padding_low = h->padding_low,
        .padding_high = h->padding_high,
        .rescale_slope = h->rescale_slope,
        .rescale_intercept = h->rescale_intercept,
        .window_center = h->window_center,
        .window_width = h->window_width,
    };
    memcpy(f->pixel_spacing, h->pixel_spacing, sizeof f->pixel_spacing);
    memcpy(f->position, h->position, sizeof f->position);
    memcpy(f->orientation, h->orientation, sizeof f->orientation);
}

bool mf_frame_unpack(const void *block, size_t len, struct mf_frame *ret, struct mf_error *err)
{
    struct packed_header h;
    if (!block || (uintptr_t)block % ALIGNMENT || len < sizeof h)
        return mf_error_set(err, MF_ERR_MALFORMED, "frame block: too short or not aligned");
    memcpy(&h, block, sizeof h); /* one read: the sender may still be able to write */
    if (h.magic != BLOCK_MAGIC || h.version != BLOCK_VERSION)
        return mf_error_set(err, MF_ERR_MALFORMED, "frame block: not a frame of this version");
    uint32_t counts[LUT_COUNT];
    for (int i = 0; i < LUT_COUNT; i++) {
        counts[i] = h.luts[i].count;
        if (counts[i] > MAX_LUT_ENTRIES)
            return mf_error_set(err, MF_ERR_MALFORMED, "frame block: a table of %u entries",
                                counts[i]);
    }
    struct mf_frame f;
    read_header(&h, &f);
    /* With placeholder pointers the check covers every size, so that the layout below cannot
     * overflow. */
    struct mf_lut *luts[LUT_COUNT] = {&f.modality_lut, &f.voi_lut, &f.palette[0], &f.palette[1],
                                      &f.palette[2]};
    for (int i = 0; i < LUT_COUNT; i++)
        *luts[i] = (struct mf_lut){
            .count = counts[i], .first = h.luts[i].first, .bits = h.luts[i].bits, .data = block};
    f.samples = block;
    if (!mf_frame_check(&f, err)) {
        if (err)
            err->code = MF_ERR_MALFORMED;
        return mf_error_prefix(err, "frame block");
    }
    struct layout l = layout_of(counts, mf_frame_bytes(&f));
    if (l.total != len)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "frame block: %zu bytes where its header says %zu", len, l.total);
    const unsigned char *in = block;
    for (int i = 0; i < LUT_COUNT; i++)
        luts[i]->data = counts[i] ? (const uint16_t *)(const void *)(in + l.luts[i]) : NULL;
    f.samples = in + l.samples;
    *ret = f;
    return true;
}
