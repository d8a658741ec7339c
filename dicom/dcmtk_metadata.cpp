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

#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdlib>
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

/* Puts a zero where JSON wants a digit and there is none. */
void want_digit(std::string &number, size_t at)
{
    if (!std::isdigit(static_cast<unsigned char>(number.c_str()[at])))
        number.insert(at, "0");
}

/* A number, or what DCMTK writes for one, as a value that every reader takes: FL and FD that are no
 * finite number are null (PS3.18 F.2.5: no value); DS may have no digit behind its point, and loses
 * the zero of "0e5"; and what no reader's 64 bits hold is a string, as it may be for IS, DS, SV and
 * UV (F.2.3.1). */
std::string mended_number(std::string number)
{
    if (number == "null")
        return number;
    if (number.find_first_of("nN") != std::string::npos)
        return "null";
    want_digit(number, number[0] == '-' ? 1 : 0);
    const size_t point = number.find('.');
    if (point != std::string::npos)
        want_digit(number, point + 1);
    errno = 0;
    if (number.find_first_of(".eE") != std::string::npos)
        return std::isfinite(std::strtod(number.c_str(), nullptr)) ? number : '"' + number + '"';
    (void)std::strtoll(number.c_str(), nullptr, 10);
    return errno == ERANGE ? '"' + number + '"' : number;
}

/* The end of the string whose quote is at `i`; `out` gets it without the NUL characters that
 * wrongly padded values have. */
size_t copy_string(const std::string &json, size_t i, std::string &out)
{
    static const char NUL[] = "\\u0000";
    out += json[i++];
    while (i < json.size()) {
        const size_t n = json[i] == '\\' ? 2 : 1; /* an escape is taken whole: "\\\\" is no NUL */
        if (json.compare(i, std::strlen(NUL), NUL) == 0) {
            i += std::strlen(NUL);
            continue;
        }
        out.append(json, i, n);
        i += n;
        if (n == 1 && out.back() == '"')
            break;
    }
    return i;
}

/* What DCMTK wrote, as JSON that every reader takes. */
std::string mended(const std::string &json)
{
    static const char NUMBER[] =
        "+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    std::string out;
    out.reserve(json.size());
    for (size_t i = 0; i < json.size();) {
        if (json[i] == '"') {
            i = copy_string(json, i, out);
            continue;
        }
        const size_t end = json.find_first_not_of(NUMBER, i);
        const size_t n = (end == std::string::npos ? json.size() : end) - i;
        if (n > 0)
            out += mended_number(json.substr(i, n));
        else
            out += json[i];
        i += n > 0 ? n : 1;
    }
    return out;
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
    (void)data_set.convertToUTF8(); /* what it cannot convert, or calls UTF-8 already, is mended */
    std::ostringstream out;
    DcmJsonFormatCompact format(OFFalse);
    format.setJsonExtensionEnabled(OFTrue); /* or one FL that is NaN fails all */
    status = data_set.writeJson(out, format);
    if (status.bad())
        return mf_error_set(err, MF_ERR_MALFORMED, "the header has no DICOM JSON form (%s)",
                            status.text());
    const std::string text = "{" + mended(out.str()) + "}";
    std::vector<char> valid(3 * text.size() + 4); /* with U+FFFD for bytes that are no UTF-8 */
    mf_charset_to_utf8("ISO_IR 192", text.data(), text.size(), valid.data(), valid.size());
    return mf_buffer_append_str(ret, valid.data(), err);
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
    const bool misread = prescan.irregular & 1u << MF_IRREGULAR_VR, whole = prescan.bytes == data,
               more = prescan.irregular & 1u << MF_IRREGULAR_END;
    if (whole)
        length = prescan.end; /* what is behind it nobody has checked */
    mf_prescan_free(&prescan);
    if (more && !whole)
        return mf_error_set(err, MF_ERR_MALFORMED, "bytes behind the last element are none");
    if (misread) /* and take lengths for sizes that nobody has checked */
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "elements have no value representation: DCMTK would misread it");
    try {
        return convert(data, length, ret, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a header");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_MALFORMED, "DCMTK cannot read the header");
    }
}
