/* Image attributes against pixel data (PS3.3 C.7.6.3; PS3.5 8.1 and 8.2), in 64-bit arithmetic. */
#include "dicom/collect.h"
#include "dicom/native.h"
#include "dicom/syntax.h"

#include <string.h>

static bool is_one_of(const char *value, const char *const *list)
{
    while (*list && strcmp(*list, value) != 0)
        list++;
    return *list != NULL;
}

/* Why sound pixel data cannot be shown, or NULL. */
static const char *find_problem(const struct mf_index_object *o)
{
    static const char *const GREY[] = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", NULL};
    static const char *const COLOUR[] = {
        "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", NULL};
    uint32_t bits = o->bits_allocated;
    if (o->samples_per_pixel != 1 && o->samples_per_pixel != 3)
        return "it has neither 1 nor 3 samples per pixel";
    if (!is_one_of(o->photometric, o->samples_per_pixel == 1 ? GREY : COLOUR))
        return "its photometric interpretation does not fit its samples per pixel or is not shown";
    if (o->pixel_data == MF_PIXEL_DATA_FLOAT)
        return bits == 32 && o->samples_per_pixel == 1 ? NULL : "its float pixels are not 32 bits";
    if (o->pixel_data == MF_PIXEL_DATA_DOUBLE)
        return bits == 64 && o->samples_per_pixel == 1 ? NULL : "its double pixels are not 64 bits";
    if (bits != 1 && bits != 8 && bits != 16 && bits != 32)
        return "its bits allocated are not 1, 8, 16 or 32";
    if (bits == 1 && o->samples_per_pixel != 1)
        return "it has colour pixels of 1 bit";
    if (o->bits_stored > bits || o->high_bit >= bits || o->high_bit + 1 < o->bits_stored)
        return "its bits stored and high bit do not fit the bits allocated";
    if (o->pixel_representation > 1 || o->planar_configuration > 1)
        return "its pixel representation or planar configuration is neither 0 nor 1";
    if (o->samples_per_pixel == 3 && o->pixel_representation)
        return "it has signed colour samples";
    enum mf_codec codec = mf_syntax_find(o->transfer_syntax)->codec;
    if (mf_native_subsampled(o) && o->columns % 2 &&
        (codec == MF_CODEC_NATIVE || codec == MF_CODEC_DEFLATE))
        return "its columns are odd, but each two pixels share their colours";
    bool palette = strcmp(o->photometric, "PALETTE COLOR") == 0;
    if (palette && bits > 16)
        return "its palette has indices of more than 16 bits";
    if (palette && (!o->palette[0].count || !o->palette[1].count || !o->palette[2].count))
        return "its palette is missing";
    return NULL;
}

/* Bytes of all frames of native pixel data. */
static uint64_t native_bytes(const struct mf_index_object *o)
{
    uint64_t samples = (uint64_t)o->rows * o->columns * o->samples_per_pixel;
    if (mf_native_subsampled(o))
        samples = (uint64_t)o->rows * o->columns * 2;
    return (samples * o->frames * o->bits_allocated + 7) / 8;
}

static bool check_native(struct mf_index_object *o, struct mf_error *err)
{
    uint64_t need = native_bytes(o);
    if (o->pixels.length >= need)
        return true;
    return mf_error_set(err, MF_ERR_MALFORMED,
                        "truncated: the pixel data has %llu bytes, %u x %u x %u samples in %u "
                        "frame%s of %u bits need %llu",
                        (unsigned long long)o->pixels.length, o->rows, o->columns,
                        o->samples_per_pixel, o->frames, o->frames == 1 ? "" : "s",
                        o->bits_allocated, (unsigned long long)need);
}

bool mf_image_check(struct mf_index_object *o, uint64_t samples, struct mf_error *err)
{
    if (o->rows == 0 || o->columns == 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "the object has pixel data but no %s",
                            o->rows ? "Columns" : "Rows");
    if (o->frames > MF_MAX_FRAMES)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "%u frames, at most %d are accepted", o->frames,
                            MF_MAX_FRAMES);
    if ((uint64_t)o->rows * o->columns * o->samples_per_pixel > samples)
        return mf_error_set(err, MF_ERR_TOO_LARGE,
                            "a frame of %u x %u x %u samples, at most %llu samples are accepted",
                            o->rows, o->columns, o->samples_per_pixel, (unsigned long long)samples);
    o->problem = find_problem(o);
    return o->encapsulated || o->problem || check_native(o, err);
}

static void set_defaults(struct mf_collector *c)
{
    struct mf_index_object *o = c->object;
    o->frames = c->frames < 1               ? 1
                : c->frames > MF_MAX_FRAMES ? MF_MAX_FRAMES + 1
                                            : (uint32_t)c->frames;
    if (!o->samples_per_pixel)
        o->samples_per_pixel = 1;
    if (!o->photometric)
        o->photometric = o->samples_per_pixel == 3 ? "RGB" : "MONOCHROME2";
    bool is_float = o->pixel_data == MF_PIXEL_DATA_FLOAT || o->pixel_data == MF_PIXEL_DATA_DOUBLE;
    if ((is_float || !o->bits_stored) && o->bits_allocated) {
        o->bits_stored = o->bits_allocated;
        o->high_bit = o->bits_allocated - 1;
    }
    if (!o->has_rescale || o->slope == 0)
        o->slope = 1; /* a slope of 0 would erase the image: such files mean "absent" */
}

/* Tables whose data are missing, too short or of an impossible format count as absent. */
static void settle_lut(struct mf_index_lut *lut)
{
    uint64_t bytes = lut->range.length;
    bool narrow = lut->bits <= 8 && (lut->segmented || bytes < 2 * (uint64_t)lut->count);
    lut->entry_bytes = narrow ? 1 : 2;
    uint64_t entries = lut->segmented && bytes ? 65536 : bytes / lut->entry_bytes;
    if (lut->count > entries || lut->bits < 1 || lut->bits > 16)
        *lut = (struct mf_index_lut){0};
}

bool mf_collect_finish(struct mf_collector *c, const struct mf_prescan *prescan, uint64_t samples,
                       struct mf_error *err)
{
    struct mf_index_object *o = c->object;
    o->transfer_syntax = mf_arena_strdup(c->arena, prescan->transfer_syntax, err);
    if (!o->transfer_syntax)
        return false;
    o->pixel_data = prescan->pixel_data;
    o->pixel_words = prescan->pixel_words;
    o->encapsulated = prescan->fragmented;
    o->big_endian = prescan->big_endian;
    o->irregular |= prescan->irregular;
    o->pixels = prescan->pixels;
    settle_lut(&o->modality_lut);
    settle_lut(&o->voi_lut);
    for (int i = 0; i < 3; i++)
        settle_lut(&o->palette[i]);
    if (o->pixel_data == MF_PIXEL_DATA_NONE) {
        o->rows = o->columns = o->frames = 0;
        o->frame_groups = NULL;
        return true;
    }
    set_defaults(c);
    if (mf_syntax_find(o->transfer_syntax)->codec == MF_CODEC_NONE)
        return mf_error_set(err, MF_ERR_UNSUPPORTED,
                            "images in the transfer syntax %s are not read",
                            mf_syntax_find(o->transfer_syntax)->name);
    if (!mf_image_check(o, samples, err))
        return false;
    return !o->encapsulated || mf_fragments_assign(c->arena, o, prescan, err);
}
