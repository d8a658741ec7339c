/* Decode: one frame of an object of the index → stored samples with their descriptor (PS3.5 8). */
#include "dicom/decode.h"

#include "dicom/codec.h"
#include "dicom/inflate.h"
#include "dicom/native.h"
#include "dicom/palette.h"
#include "dicom/reader.h"
#include "dicom/syntax.h"

#include <string.h>

enum { ALIGNMENT = 64, LUT_COUNT = 5 };

/* Of a frame in a codestream. */
static mf_codec_decode *find_decoder(enum mf_codec codec)
{
    return codec == MF_CODEC_RLE       ? mf_rle_decode
           : codec == MF_CODEC_JPEG    ? mf_jpeg_decode
           : codec == MF_CODEC_JPEG_LS ? mf_jpeg_ls_decode
                                       : mf_jpeg2000_decode;
}

bool mf_decode_supported(const char *transfer_syntax)
{
    const struct mf_syntax *syntax = mf_syntax_find(transfer_syntax);
    return syntax && syntax->codec != MF_CODEC_NONE;
}

static enum mf_sample_type sample_type(const struct mf_index_object *o)
{
    bool is_signed = o->pixel_representation == 1;
    if (o->pixel_data == MF_PIXEL_DATA_FLOAT)
        return MF_SAMPLE_F32;
    if (o->pixel_data == MF_PIXEL_DATA_DOUBLE)
        return MF_SAMPLE_F64;
    if (o->bits_allocated <= 8)
        return is_signed ? MF_SAMPLE_I8 : MF_SAMPLE_U8;
    if (o->bits_allocated <= 16)
        return is_signed ? MF_SAMPLE_I16 : MF_SAMPLE_U16;
    return is_signed ? MF_SAMPLE_I32 : MF_SAMPLE_U32;
}

static enum mf_photometric photometric(const struct mf_index_object *o)
{
    if (o->samples_per_pixel == 3)
        return strcmp(o->photometric, "RGB") == 0 || strcmp(o->photometric, "YBR_ICT") == 0 ||
                       strcmp(o->photometric, "YBR_RCT") == 0
                   ? MF_PHOTOMETRIC_RGB
                   : MF_PHOTOMETRIC_YBR_FULL;
    return strcmp(o->photometric, "MONOCHROME1") == 0     ? MF_PHOTOMETRIC_MONOCHROME1
           : strcmp(o->photometric, "PALETTE COLOR") == 0 ? MF_PHOTOMETRIC_PALETTE
                                                          : MF_PHOTOMETRIC_MONOCHROME2;
}

static void describe_window(const struct mf_index_object *o, const struct mf_index_frame *g,
                            struct mf_frame *f)
{
    const char *function = o->voi_function ? o->voi_function : "";
    f->has_window = o->has_window || (g && g->has_window);
    f->window_center = g && g->has_window ? g->center : o->window_center;
    f->window_width = g && g->has_window ? g->width : o->window_width;
    f->voi_function = strcmp(function, "SIGMOID") == 0        ? MF_VOI_SIGMOID
                      : strcmp(function, "LINEAR_EXACT") == 0 ? MF_VOI_LINEAR_EXACT
                                                              : MF_VOI_LINEAR;
}

static void describe_geometry(const struct mf_index_object *o, const struct mf_index_frame *g,
                              struct mf_frame *f)
{
    const double *spacing = g && g->has_spacing       ? g->spacing
                            : o->pixel_spacing[0] > 0 ? o->pixel_spacing
                                                      : o->imager_pixel_spacing;
    if (spacing[0] > 0 && spacing[1] > 0)
        memcpy(f->pixel_spacing, spacing, sizeof f->pixel_spacing);
    f->has_position = o->has_position || (g && g->has_position);
    if (f->has_position)
        memcpy(f->position, g && g->has_position ? g->position : o->position, sizeof f->position);
    f->has_orientation = o->has_orientation || (g && g->has_orientation);
    if (f->has_orientation)
        memcpy(f->orientation, g && g->has_orientation ? g->orientation : o->orientation,
               sizeof f->orientation);
}

static void describe(const struct mf_index_object *o, uint32_t frame, struct mf_frame *f)
{
    const struct mf_index_frame *g = o->frame_groups ? &o->frame_groups[frame] : NULL;
    bool rescaled = g && g->has_rescale;
    *f = (struct mf_frame){
        .rows = o->rows,
        .columns = o->columns,
        .samples_per_pixel = o->samples_per_pixel,
        .type = sample_type(o),
        .photometric = photometric(o),
        .bits_stored = o->bits_stored,
        .high_bit = o->high_bit,
        .rescale_slope = rescaled && g->slope != 0 ? g->slope : o->slope,
        .rescale_intercept = rescaled ? g->intercept : o->intercept,
    };
    int64_t limit = o->has_padding_limit ? o->padding_limit : o->padding;
    f->has_padding = o->has_padding;
    f->padding_low = limit < o->padding ? limit : o->padding;
    f->padding_high = limit < o->padding ? o->padding : limit;
    describe_window(o, g, f);
    describe_geometry(o, g, f);
}

/* ---- samples ---- */

static void clean_native(const struct mf_index_object *o, void *samples)
{
    if (o->pixel_data == MF_PIXEL_DATA_INTEGER && o->high_bit + 1 == o->bits_stored)
        mf_native_clean(samples, (size_t)o->rows * o->columns * o->samples_per_pixel,
                        o->bits_allocated < 8 ? 1 : o->bits_allocated / 8,
                        o->pixel_representation == 1, o->bits_stored);
}

static bool read_native(const struct mf_reader *reader, const struct mf_index_object *o,
                        uint32_t frame, void *samples, struct mf_error *err)
{
    unsigned skip_bits;
    struct mf_range r = mf_native_range(o, frame, &skip_bits);
    if (r.offset > o->pixels.length || r.length > o->pixels.length - r.offset)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "truncated: the pixel data ends inside the frame");
    struct mf_range where = {o->pixels.offset + r.offset, r.length};
    if (mf_native_in_place(o)) {
        if (!mf_reader_read(reader, where, samples, err))
            return false;
        mf_native_unpack(o, samples, r.length, 0, samples);
        clean_native(o, samples);
        return true;
    }
    MF_AUTO(mf_mem) uint8_t *bytes = malloc(r.length ? r.length : 1);
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame");
    if (!mf_reader_read(reader, where, bytes, err))
        return false;
    mf_native_unpack(o, bytes, r.length, skip_bits, samples);
    clean_native(o, samples);
    return true;
}

/* Concatenates the fragments of a frame; the caller frees them. */
static uint8_t *read_fragments(const struct mf_reader *reader, const struct mf_index_object *o,
                               uint32_t frame, size_t *length, struct mf_error *err)
{
    uint32_t first = o->frame_fragments[frame], end = o->frame_fragments[frame + 1];
    uint64_t total = 0, at = 0;
    for (uint32_t i = first; i < end; i++)
        total += o->fragments[i].length;
    MF_AUTO(mf_mem) uint8_t *bytes = total <= reader->length ? malloc(total ? total : 1) : NULL;
    if (!bytes) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a compressed frame");
        return NULL;
    }
    for (uint32_t i = first; i < end; at += o->fragments[i++].length)
        if (!mf_reader_read(reader, o->fragments[i], bytes + at, err))
            return NULL;
    *length = total;
    return MF_STEAL(bytes);
}

/* A frame in native form inside a fragment (Encapsulated Uncompressed). */
static bool unpack_native(const struct mf_index_object *o, uint8_t *bytes, size_t length,
                          void *samples, struct mf_error *err)
{
    struct mf_index_object alone = *o;
    unsigned skip_bits;
    alone.pixels = (struct mf_range){0, length};
    struct mf_range r = mf_native_range(&alone, 0, &skip_bits);
    if (r.length > length)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: a fragment ends inside the frame");
    mf_native_unpack(&alone, bytes, r.length, skip_bits, samples);
    return true;
}

/* Deflated Image Frame Compression (PS3.5 A.4.14): a frame's native bytes, deflated. */
static bool unpack_deflated(const struct mf_index_object *o, const uint8_t *bytes, size_t length,
                            void *samples, struct mf_error *err)
{
    size_t most = ((size_t)o->rows * o->columns * o->samples_per_pixel * o->bits_allocated + 7) / 8;
    struct mf_inflate_budget budget = {
        .remaining = most + 2, .object_bytes = most + 2, .ratio = UINT32_MAX};
    MF_AUTO(mf_mem) unsigned char *native = NULL;
    size_t made;
    return mf_inflate(bytes, length, &budget, &native, &made, NULL, err) &&
           unpack_native(o, native, made, samples, err);
}

static struct mf_codec_image codec_image(const struct mf_index_object *o)
{
    return (struct mf_codec_image){
        .rows = o->rows,
        .columns = o->columns,
        .samples_per_pixel = o->samples_per_pixel,
        .sample_bytes = o->bits_allocated < 8 ? 1 : o->bits_allocated / 8,
        .bits_stored = o->bits_stored,
        .is_signed = o->pixel_representation == 1,
        .ybr = strncmp(o->photometric, "YBR_", 4) == 0,
    };
}

/* RLE of 1-bit pixels packs eight of them in a byte. */
static bool unpack_rle_bits(const struct mf_index_object *o, const uint8_t *bytes, size_t length,
                            void *samples, struct mf_error *err)
{
    size_t pixels = (size_t)o->rows * o->columns, packed = (pixels + 7) / 8;
    MF_AUTO(mf_mem) uint8_t *bits = malloc(packed);
    struct mf_codec_image image = {
        .rows = 1, .columns = (uint32_t)packed, .samples_per_pixel = 1, .sample_bytes = 1};
    if (!bits)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame");
    if (!mf_rle_decode(bytes, length, &image, bits, err))
        return false;
    mf_native_unpack_bits(bits, 0, pixels, samples);
    return true;
}

/* Codestreams say themselves how many bits a sample has and whether it is signed; where that
 * contradicts PixelRepresentation (JPEG 2000) or cannot be said (JPEG-LS), the bits are read as the
 * attribute demands. */
static void settle_sign(const struct mf_index_object *o, enum mf_codec codec,
                        const struct mf_codec_image *image, void *samples)
{
    size_t count = (size_t)o->rows * o->columns * o->samples_per_pixel;
    uint32_t bits = o->high_bit + 1 == o->bits_stored ? o->bits_stored : 0;
    if (codec == MF_CODEC_JPEG_2000 && o->samples_per_pixel == 1)
        bits = image->codestream_signed != image->is_signed ? image->precision : 0;
    else if (codec == MF_CODEC_JPEG_LS && image->is_signed)
        bits = image->precision;
    mf_native_clean(samples, count, image->sample_bytes, image->is_signed, bits);
}

static bool read_compressed(const struct mf_reader *reader, const struct mf_index_object *o,
                            enum mf_codec codec, uint32_t frame, void *samples,
                            struct mf_error *err)
{
    size_t length;
    MF_AUTO(mf_mem) uint8_t *bytes = read_fragments(reader, o, frame, &length, err);
    struct mf_codec_image image = codec_image(o);
    if (!bytes)
        return false;
    bool ok;
    if (codec == MF_CODEC_NATIVE)
        ok = unpack_native(o, bytes, length, samples, err);
    else if (codec == MF_CODEC_DEFLATE)
        ok = unpack_deflated(o, bytes, length, samples, err);
    else if (codec == MF_CODEC_RLE && o->bits_allocated == 1)
        ok = unpack_rle_bits(o, bytes, length, samples, err);
    else
        ok = find_decoder(codec)(bytes, length, &image, samples, err);
    if (ok)
        settle_sign(o, codec, &image, samples);
    return ok;
}

/* ---- tables ---- */

static void list_tables(const struct mf_index_object *o, const struct mf_index_lut *in[LUT_COUNT])
{
    in[0] = &o->modality_lut;
    in[1] = &o->voi_lut;
    for (int i = 0; i < 3; i++)
        in[2 + i] = &o->palette[i];
}

static bool read_segments(const struct mf_reader *reader, const struct mf_index_object *o,
                          const struct mf_index_lut *in, uint16_t *out, struct mf_error *err)
{
    MF_AUTO(mf_mem)
    uint8_t *bytes = in->range.length <= reader->length ? malloc(in->range.length + 1) : NULL;
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a palette");
    return mf_reader_read(reader, in->range, bytes, err) &&
           mf_palette_expand(bytes, in->range.length, in->entry_bytes, o->big_endian, out,
                             in->count, err);
}

static bool read_table(const struct mf_reader *reader, const struct mf_index_object *o,
                       const struct mf_index_lut *in, uint16_t *out, struct mf_error *err)
{
    uint8_t *bytes = (uint8_t *)out;
    if (in->segmented)
        return read_segments(reader, o, in, out, err);
    struct mf_range r = {in->range.offset, (uint64_t)in->count * in->entry_bytes};
    if (!mf_reader_read(reader, r, bytes, err))
        return false;
    if (in->entry_bytes == 1) { /* in place, from the end */
        for (uint32_t i = in->count; i-- > 0;) {
            uint8_t v = bytes[o->big_endian ? i ^ 1u : i]; /* OW: two entries a word */
            out[i] = v;
        }
        return true;
    }
    for (uint32_t i = 0; i < in->count; i++) {
        const uint8_t *p = bytes + 2 * (size_t)i;
        out[i] = o->big_endian ? (uint16_t)(p[0] << 8 | p[1]) : (uint16_t)(p[1] << 8 | p[0]);
    }
    return true;
}

/* Entries wider than the descriptor's bits say that the descriptor is wrong (a known fault of some
 * modalities): the bits that the entries need are believed. */
static uint32_t table_bits(const struct mf_index_lut *in, const uint16_t *data)
{
    uint16_t all = 0;
    for (uint32_t i = 0; i < in->count; i++)
        all |= data[i];
    uint32_t bits = in->bits;
    while (bits < 16 && all >> bits)
        bits++;
    return bits;
}

static size_t align_up(size_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* One block for samples and tables. */
static bool allocate(struct mf_frame *f, const struct mf_index_lut *const tables[LUT_COUNT],
                     uint16_t *places[LUT_COUNT], struct mf_error *err)
{
    size_t bytes = mf_frame_bytes(f), total = align_up(bytes);
    for (int i = 0; i < LUT_COUNT; i++)
        total += align_up(tables[i]->count * sizeof(uint16_t));
    f->owned = aligned_alloc(ALIGNMENT, total);
    if (!f->owned)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame of %zu bytes", bytes);
    f->samples = f->owned;
    uint8_t *at = (uint8_t *)f->owned + align_up(bytes);
    for (int i = 0; i < LUT_COUNT; i++) {
        places[i] = (uint16_t *)(void *)at;
        at += align_up(tables[i]->count * sizeof(uint16_t));
    }
    return true;
}

static bool read_tables(const struct mf_reader *reader, const struct mf_index_object *o,
                        const struct mf_index_lut *const tables[LUT_COUNT],
                        uint16_t *const places[LUT_COUNT], struct mf_frame *f, struct mf_error *err)
{
    struct mf_lut *out[LUT_COUNT] = {&f->modality_lut, &f->voi_lut, &f->palette[0], &f->palette[1],
                                     &f->palette[2]};
    for (int i = 0; i < LUT_COUNT; i++) {
        if (!tables[i]->count)
            continue;
        if (!read_table(reader, o, tables[i], places[i], err))
            return false;
        *out[i] = (struct mf_lut){.count = tables[i]->count,
                                  .first = tables[i]->first,
                                  .bits = table_bits(tables[i], places[i]),
                                  .data = places[i]};
    }
    return true;
}

static bool check_request(const struct mf_index_object *o, uint32_t frame, struct mf_error *err)
{
    if (o->pixel_data == MF_PIXEL_DATA_NONE)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the object has no pixel data");
    if (o->problem)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the image cannot be used: %s", o->problem);
    if (frame >= o->frames)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no frame %u, the object has %u", frame,
                            o->frames);
    if (!mf_decode_supported(o->transfer_syntax))
        return mf_error_set(err, MF_ERR_UNSUPPORTED,
                            "images in the transfer syntax %s are not read", o->transfer_syntax);
    return true;
}

bool mf_decode_frame(int fd, const struct mf_index_object *o, uint32_t frame, struct mf_frame *ret,
                     struct mf_error *err)
{
    const struct mf_index_lut *tables[LUT_COUNT];
    uint16_t *places[LUT_COUNT];
    MF_AUTO(mf_reader) struct mf_reader reader = {.fd = -1};
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    if (!check_request(o, frame, err))
        return false;
    describe(o, frame, &f);
    list_tables(o, tables);
    enum mf_codec codec = mf_syntax_find(o->transfer_syntax)->codec;
    if (!allocate(&f, tables, places, err) || !mf_reader_open(fd, o, &reader, err))
        return false;
    if (!(o->encapsulated
              ? read_compressed(&reader, o, codec, frame, (void *)(uintptr_t)f.samples, err)
              : read_native(&reader, o, frame, (void *)(uintptr_t)f.samples, err)))
        return mf_error_prefix(err, "frame %u", frame);
    if (!read_tables(&reader, o, tables, places, &f, err) || !mf_frame_check(&f, err))
        return false;
    *ret = f;
    f.owned = NULL;
    return true;
}
