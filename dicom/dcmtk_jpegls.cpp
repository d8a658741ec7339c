/* DCMTK fence: JPEG-LS (ISO 14495-1; PS3.5 8.2.3), by DCMTK's CharLS behind its pixel data class.
 */
#include "dicom/codec.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcdatset.h"
#include "dcmtk/dcmdata/dcdeftag.h"
#include "dcmtk/dcmdata/dcpixel.h"
#include "dcmtk/dcmdata/dcpixseq.h"
#include "dcmtk/dcmdata/dcpxitem.h"

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

namespace
{

/* A data set that holds just this frame, which is what DCMTK's codec reads its parameters from. */
OFCondition fill(DcmDataset &dataset, const struct mf_codec_image *image, unsigned bits)
{
    OFCondition status = dataset.putAndInsertUint16(DCM_Rows, static_cast<Uint16>(image->rows));
    const struct {
        DcmTagKey tag;
        unsigned value;
    } numbers[] = {{DCM_Columns, image->columns}, {DCM_SamplesPerPixel, image->samples_per_pixel},
                   {DCM_BitsAllocated, bits},     {DCM_BitsStored, bits},
                   {DCM_HighBit, bits - 1},       {DCM_PixelRepresentation, 0},
                   {DCM_PlanarConfiguration, 0}};
    for (const auto &n : numbers)
        if (status.good())
            status = dataset.putAndInsertUint16(n.tag, static_cast<Uint16>(n.value));
    if (status.good())
        status = dataset.putAndInsertString(DCM_PhotometricInterpretation,
                                            image->samples_per_pixel == 3 ? "RGB" : "MONOCHROME2");
    return status;
}

unsigned clamp(unsigned value, unsigned low, unsigned high)
{
    return value < low || value > high ? low : value;
}

/* The default thresholds of samples under 8 bits (ISO 14495-1 C.2.4.1.1.1), which this CharLS
 * computes wrongly: said in a preset parameters segment (LSE) behind SOI they are right. A stream
 * that has one keeps its own. */
std::vector<Uint8> with_thresholds(const uint8_t *data, size_t length, unsigned precision)
{
    std::vector<Uint8> out(data, data + length);
    if (precision >= 8)
        return out;
    size_t at = 2;
    while (at + 4 <= length && data[at] == 0xFF && data[at + 1] != 0xDA) {
        if (data[at + 1] == 0xF8)
            return out;
        at += 2 + (size_t{data[at + 2]} << 8 | data[at + 3]);
    }
    if (at + 5 > length || at + 5 + 2 * size_t{data[at + 4]} >= length)
        return out;
    unsigned near = data[at + 5 + 2 * size_t{data[at + 4]}];
    unsigned max = (1u << precision) - 1, factor = 256 / (max + 1);
    unsigned t1 = clamp(std::max(2u, 3 / factor + 3 * near), near + 1, max);
    unsigned t2 = clamp(std::max(3u, 7 / factor + 5 * near), t1, max);
    unsigned t3 = clamp(std::max(4u, 21 / factor + 7 * near), t2, max);
    const unsigned words[] = {0xFFF8, 13, 0, max, t1, t2, t3, 64};
    std::vector<Uint8> segment;
    for (unsigned word : words) {
        segment.push_back(static_cast<Uint8>(word >> 8));
        segment.push_back(static_cast<Uint8>(word));
    }
    segment[4] = 1; /* the segment's kind is one byte */
    segment.erase(segment.begin() + 5);
    out.insert(out.begin() + 2, segment.begin(), segment.end());
    return out;
}

OFCondition make_pixels(const uint8_t *data, size_t length, unsigned precision,
                        std::unique_ptr<DcmPixelData> &pixels)
{
    std::unique_ptr<DcmPixelSequence> sequence(new DcmPixelSequence(DCM_PixelSequenceTag));
    std::unique_ptr<DcmPixelItem> table(new DcmPixelItem(DCM_PixelItemTag));
    std::unique_ptr<DcmPixelItem> fragment(new DcmPixelItem(DCM_PixelItemTag));
    std::vector<Uint8> even = with_thresholds(data, length, precision);
    if (even.size() % 2)
        even.push_back(0);
    OFCondition status =
        fragment->putUint8Array(even.data(), static_cast<unsigned long>(even.size()));
    if (status.good() && (status = sequence->insert(table.get())).good())
        table.release();
    if (status.good() && (status = sequence->insert(fragment.get())).good())
        fragment.release();
    if (status.good()) {
        pixels.reset(new DcmPixelData(DCM_PixelData));
        pixels->putOriginalRepresentation(EXS_JPEGLSLossy, nullptr, sequence.release());
    }
    return status;
}

bool decode(const uint8_t *data, size_t length, const struct mf_jpeg_header &header,
            struct mf_codec_image *image, void *out, struct mf_error *err)
{
    unsigned bytes = header.precision <= 8 ? 1 : 2;
    size_t samples = size_t{image->rows} * image->columns * image->samples_per_pixel;
    std::vector<Uint8> narrow; /* beside `out`: 8 of 16 bits, or what DCMTK wants even */
    void *target = out;
    if (bytes < image->sample_bytes || samples * bytes % 2) {
        narrow.resize(samples + samples % 2);
        target = narrow.data();
    }
    DcmDataset dataset;
    std::unique_ptr<DcmPixelData> pixels;
    OFCondition status = fill(dataset, image, 8 * bytes);
    if (status.good())
        status = make_pixels(data, length, header.precision, pixels);
    Uint32 fragment = 0;
    OFString colour;
    if (status.good())
        status = pixels->getUncompressedFrame(&dataset, 0, fragment, target,
                                              static_cast<Uint32>((samples * bytes + 1) / 2 * 2),
                                              colour);
    if (status.bad())
        return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG-LS codestream is damaged");
    for (size_t i = 0; i < samples && !narrow.empty(); i++) {
        if (image->sample_bytes == 1)
            static_cast<uint8_t *>(out)[i] = narrow[i];
        else
            static_cast<uint16_t *>(out)[i] = narrow[i];
    }
    return true;
}

} // namespace

bool mf_jpeg_ls_decode(const uint8_t *data, size_t length, struct mf_codec_image *image, void *out,
                       struct mf_error *err)
{
    struct mf_jpeg_header header;
    if (!mf_jpeg_header_read(data, length, &header, err) ||
        !mf_codec_check(image, "JPEG-LS", header.rows, header.columns, header.components,
                        header.precision, err))
        return false;
    if (header.marker != 0xF7 || image->sample_bytes > 2 || length > UINT32_MAX - 1 ||
        size_t{image->rows} * image->columns * image->samples_per_pixel > UINT32_MAX / 2)
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "JPEG-LS frames of this kind are not decoded");
    image->precision = header.precision;
    try {
        return decode(data, length, header, image, out, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a JPEG-LS frame");
    } catch (...) {
        return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG-LS codestream is damaged");
    }
}
