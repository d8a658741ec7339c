/*
 * JPEG 2000 (ISO 15444-1; PS3.5 8.2.4) and High-Throughput JPEG 2000 (ISO 15444-15; PS3.5 8.2.14),
 * by OpenJPEG.
 *
 * The main header is read first and compared with the object before a sample is decoded, so that a
 * codestream cannot choose how much memory is taken.
 */
#include "dicom/codec.h"

#include "core/auto.h"

#include <openjpeg.h>
#include <string.h>

MF_AUTO_DEFINE(j2k_codec, opj_codec_t *, opj_destroy_codec(*p))
MF_AUTO_DEFINE(j2k_stream, opj_stream_t *, opj_stream_destroy(*p))
MF_AUTO_DEFINE(j2k_image, opj_image_t *, opj_image_destroy(*p))

struct source {
    const uint8_t *data;
    size_t length, at;
};

static OPJ_SIZE_T read_source(void *buffer, OPJ_SIZE_T n, void *context)
{
    struct source *s = context;
    if (s->at == s->length)
        return (OPJ_SIZE_T)-1;
    if (n > s->length - s->at)
        n = s->length - s->at;
    memcpy(buffer, s->data + s->at, n);
    s->at += n;
    return n;
}

static OPJ_OFF_T skip_source(OPJ_OFF_T n, void *context)
{
    struct source *s = context;
    if ((uint64_t)n > s->length - s->at) /* negative: as well */
        return -1;
    s->at += (size_t)n;
    return n;
}

static OPJ_BOOL seek_source(OPJ_OFF_T n, void *context)
{
    struct source *s = context;
    if ((uint64_t)n > s->length)
        return OPJ_FALSE;
    s->at = (size_t)n;
    return OPJ_TRUE;
}

static opj_stream_t *open_stream(struct source *source)
{
    opj_stream_t *stream = opj_stream_default_create(OPJ_TRUE);
    if (!stream)
        return NULL;
    opj_stream_set_read_function(stream, read_source);
    opj_stream_set_skip_function(stream, skip_source);
    opj_stream_set_seek_function(stream, seek_source);
    opj_stream_set_user_data(stream, source, NULL);
    opj_stream_set_user_data_length(stream, source->length);
    return stream;
}

static bool check_image(const opj_image_t *image, const struct mf_codec_image *want,
                        struct mf_error *err)
{
    for (OPJ_UINT32 c = 0; c < image->numcomps; c++) {
        const opj_image_comp_t *comp = &image->comps[c];
        if (!mf_codec_check(want, "JPEG 2000", comp->h, comp->w, image->numcomps, comp->prec, err))
            return false;
        if (comp->dx != 1 || comp->dy != 1)
            return mf_error_set(err, MF_ERR_UNSUPPORTED,
                                "JPEG 2000 with subsampled components is not decoded");
    }
    return image->numcomps
               ? true
               : mf_error_set(err, MF_ERR_MALFORMED, "the JPEG 2000 codestream has no components");
}

/* Interleaves the components' int32 samples into `out`. */
static bool store(const opj_image_t *image, const struct mf_codec_image *want, void *out,
                  struct mf_error *err)
{
    size_t pixels = (size_t)want->rows * want->columns, step = want->samples_per_pixel;
    for (size_t c = 0; c < step; c++) {
        const OPJ_INT32 *restrict in = image->comps[c].data;
        if (!in)
            return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG 2000 codestream is damaged");
        if (want->sample_bytes == 1)
            for (size_t i = 0; i < pixels; i++)
                ((uint8_t *)out)[i * step + c] = (uint8_t)in[i];
        else if (want->sample_bytes == 2)
            for (size_t i = 0; i < pixels; i++)
                ((uint16_t *)out)[i * step + c] = (uint16_t)in[i];
        else
            for (size_t i = 0; i < pixels; i++)
                ((uint32_t *)out)[i * step + c] = (uint32_t)in[i];
    }
    return true;
}

bool mf_jpeg2000_decode(const uint8_t *data, size_t length, struct mf_codec_image *want, void *out,
                        struct mf_error *err)
{
    static const uint8_t JP2_BOX[] = {0, 0, 0, 12, 'j', 'P', ' ', ' '};
    bool boxed = length >= sizeof JP2_BOX && memcmp(data, JP2_BOX, sizeof JP2_BOX) == 0;
    struct source source = {.data = data, .length = length};
    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    MF_AUTO(j2k_codec)
    opj_codec_t *codec = opj_create_decompress(boxed ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K);
    MF_AUTO(j2k_stream) opj_stream_t *stream = open_stream(&source);
    MF_AUTO(j2k_image) opj_image_t *image = NULL;
    if (!codec || !stream || !opj_setup_decoder(codec, &parameters))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a JPEG 2000 frame");
    if (!opj_read_header(stream, codec, &image))
        return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG 2000 header is damaged");
    if (!check_image(image, want, err))
        return false;
    if (!opj_decode(codec, stream, image) || !opj_end_decompress(codec, stream))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the JPEG 2000 codestream is damaged or truncated");
    want->precision = image->comps[0].prec;
    want->codestream_signed = image->comps[0].sgnd != 0;
    return check_image(image, want, err) && store(image, want, out, err);
}
