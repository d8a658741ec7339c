/*
 * DCMTK fence: JPEG baseline, extended, progressive and lossless (ISO 10918-1; PS3.5 8.2.1), by
 * DCMTK's IJG libraries for 8, 12 and 16 bits, without its colour conversion.
 */
#include "dicom/codec.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmjpeg/djcparam.h"
#include "dcmtk/dcmjpeg/djdijg12.h"
#include "dcmtk/dcmjpeg/djdijg16.h"
#include "dcmtk/dcmjpeg/djdijg8.h"

#include <exception>
#include <memory>
#include <vector>

namespace
{

std::unique_ptr<DJDecoder> make_decoder(unsigned precision, const DJCodecParameter &parameter,
                                        bool ybr)
{
    if (precision <= 8)
        return std::make_unique<DJDecompressIJG8Bit>(parameter, ybr);
    if (precision <= 12)
        return std::make_unique<DJDecompressIJG12Bit>(parameter, ybr);
    return std::make_unique<DJDecompressIJG16Bit>(parameter, ybr);
}

bool decode(const uint8_t *data, size_t length, const struct mf_jpeg_header &header,
            struct mf_codec_image *image, void *out, struct mf_error *err)
{
    DJCodecParameter parameter(ECC_lossyYCbCr, EDC_never, EUC_never, EPC_colorByPixel);
    std::unique_ptr<DJDecoder> decoder = make_decoder(header.precision, parameter, image->ybr);
    size_t samples = size_t{image->rows} * image->columns * image->samples_per_pixel;
    unsigned bytes = header.precision <= 8 ? 1 : 2;
    std::vector<Uint8> narrow; /* 8-bit samples of an object that allocates 16 */
    Uint8 *target = static_cast<Uint8 *>(out);
    if (bytes < image->sample_bytes) {
        narrow.resize(samples);
        target = narrow.data();
    }
    OFCondition status = decoder->init();
    if (status.good())
        status = decoder->decode(const_cast<Uint8 *>(data), static_cast<Uint32>(length), target,
                                 static_cast<Uint32>(samples * bytes), OFFalse);
    if (status == EJ_Suspension)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the JPEG codestream ends early");
    if (status.bad())
        return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG codestream is damaged");
    for (size_t i = 0; i < narrow.size(); i++)
        static_cast<uint16_t *>(out)[i] = narrow[i];
    return true;
}

} // namespace

bool mf_jpeg_decode(const uint8_t *data, size_t length, struct mf_codec_image *image, void *out,
                    struct mf_error *err)
{
    struct mf_jpeg_header header;
    if (!mf_jpeg_header_read(data, length, &header, err) ||
        !mf_codec_check(image, "JPEG", header.rows, header.columns, header.components,
                        header.precision, err))
        return false;
    if (image->sample_bytes > 2 || length > UINT32_MAX ||
        size_t{image->rows} * image->columns * image->samples_per_pixel > UINT32_MAX / 2)
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "JPEG frames of this size are not decoded");
    try {
        return decode(data, length, header, image, out, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a JPEG frame");
    } catch (...) {
        return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG codestream is damaged");
    }
}
