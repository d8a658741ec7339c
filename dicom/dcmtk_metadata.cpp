/*
 * DCMTK fence: a data set as DICOM JSON (PS3.18 annex F).
 */
#include "dicom/metadata.h"

#include "dicom/charset.h"
#include "dicom/prescan.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcfilefo.h"
#include "dcmtk/dcmdata/dcistrmb.h"
#include "dcmtk/dcmdata/dcitem.h"
#include "dcmtk/dcmdata/dcjson.h"

#include <cmath>
#include <cstring>
#include <exception>
#include <sstream>
#include <vector>

namespace
{

const Uint32 MAX_VALUE = 8192;

bool is_bytes(DcmEVR vr)
{
    return vr == EVR_OB || vr == EVR_OW || vr == EVR_OF || vr == EVR_OD || vr == EVR_OL ||
           vr == EVR_UN || vr == EVR_ox || vr == EVR_OV;
}

bool left_out(DcmElement &element)
{
    const DcmTag &tag = element.getTag();
    return tag.getGroup() == 0x7FE0 || (tag.getGroup() & 0xFF00) == 0x6000 ||
           (tag.getGroup() & 0xFF00) == 0x5000 ||
           (is_bytes(element.getVR()) && element.getLengthField() > MAX_VALUE);
}

/* Drops what is not metadata, at every level (their depth is bounded by the pre-scanner). */
void strip(DcmItem &item)
{
    for (unsigned long i = item.card(); i-- > 0;) {
        DcmElement *element = item.getElement(i);
        if (left_out(*element)) {
            delete item.remove(i);
            continue;
        }
        DcmSequenceOfItems *sequence = dynamic_cast<DcmSequenceOfItems *>(element);
        for (unsigned long k = 0; sequence && k < sequence->card(); k++)
            strip(*sequence->getItem(k));
    }
}

bool convert(const void *data, size_t length, struct mf_buffer *ret, struct mf_error *err)
{
    DcmInputBufferStream stream;
    stream.setBuffer(data, static_cast<offile_off_t>(length));
    stream.setEos();
    DcmFileFormat file;
    file.transferInit();
    OFCondition status = file.read(stream, EXS_Unknown, EGL_noChange, MAX_VALUE);
    file.transferEnd();
    if (status.bad())
        return mf_error_set(err, MF_ERR_MALFORMED, "DCMTK cannot read the header (%s)",
                            status.text());
    DcmDataset &data_set = *file.getDataset();
    strip(data_set);
    const bool utf8 = data_set.convertToUTF8().good();
    std::ostringstream out;
    DcmJsonFormatCompact format(OFFalse);
    status = data_set.writeJson(out, format);
    if (status.bad())
        return mf_error_set(err, MF_ERR_MALFORMED, "the header has no DICOM JSON form (%s)",
                            status.text());
    std::string text = "{" + out.str() + "}";
    if (!utf8) { /* what cannot be converted becomes U+FFFD, byte by byte */
        std::vector<char> valid(3 * text.size() + 4);
        mf_charset_to_utf8("ISO_IR 192", text.data(), text.size(), valid.data(), valid.size());
        text = valid.data();
    }
    return mf_buffer_append(ret, text.data(), text.size(), err);
}

} // namespace

bool mf_metadata_json(const void *data, size_t length, struct mf_buffer *ret, struct mf_error *err)
{
    struct mf_inflate_budget budget = {};
    budget.remaining = UINT64_C(1) << 30;
    budget.object_bytes = UINT64_C(512) << 20;
    budget.ratio = 200;
    struct mf_prescan prescan = {};
    if (!mf_prescan_run(data, length, &budget, nullptr, nullptr, &prescan, err))
        return false;
    mf_prescan_free(&prescan);
    try {
        return convert(data, length, ret, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a header");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_MALFORMED, "DCMTK cannot read the header");
    }
}
