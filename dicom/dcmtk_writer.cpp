/* DCMTK fence: the data set behind writer.h (dcmdata), encoded in memory. */
#include "dicom/writer.h"

#include "dicom/writer_text.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcostrmb.h"
#include "dcmtk/dcmdata/dctk.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

struct mf_writer {
    DcmFileFormat file;
    std::vector<DcmItem *> items; /* the open ones; the data set first */
    mf_error error = MF_ERROR_INIT;
};

namespace
{

enum { BUFFER_BYTES = 65536, DS_CHARS = 16 };

/* Runs `body` unless something failed before; whatever it throws or returns becomes the error. */
template <typename Body>
void put(mf_writer *w, Body body)
{
    if (w->error.code != MF_OK)
        return;
    try {
        OFCondition status = body(w->items.back());
        if (status.bad())
            mf_error_set(&w->error, MF_ERR_INTERNAL, "an element could not be written: %s",
                         status.text());
    } catch (const std::bad_alloc &) {
        mf_error_set(&w->error, MF_ERR_NO_MEMORY, "out of memory for a DICOM object");
    } catch (const std::exception &) {
        mf_error_set(&w->error, MF_ERR_INTERNAL, "an element could not be written");
    }
}

DcmTag tag_of(mf_keyword keyword)
{
    const mf_keyword_entry &a = mf_keywords[keyword];
    return DcmTag(static_cast<Uint16>(a.tag >> 16), static_cast<Uint16>(a.tag & 0xFFFF),
                  DcmVR(a.vr));
}

const char *vr_of(mf_keyword keyword)
{
    return mf_keywords[keyword].vr;
}

std::string value_of(mf_keyword keyword, const char *utf8, size_t length)
{
    std::vector<char> out(length + 1024);
    mf_writer_text(vr_of(keyword), utf8, length, out.data(), out.size());
    return out.data();
}

OFCondition put_string(DcmItem *item, mf_keyword keyword, const std::string &value)
{
    return item->putAndInsertOFStringArray(tag_of(keyword), value.c_str());
}

/* The shortest decimal that is the value, else the nearest of at most 16 characters (PS3.5 6.2,
 * DS).
 */
std::string decimal(double value)
{
    std::string best = "0";
    for (int digits = 1; std::isfinite(value) && digits <= 17; digits++) {
        char text[40];
        std::snprintf(text, sizeof text, "%.*g", digits, value);
        if (std::strlen(text) > DS_CHARS)
            continue;
        best = text;
        if (std::stod(best) == value)
            break;
    }
    return best;
}

template <typename Element, typename Value, typename From>
OFCondition put_array(DcmItem *item, mf_keyword keyword, const From *values, size_t n,
                      OFCondition (Element::*set)(const Value *, const unsigned long))
{
    std::vector<Value> converted(values, values + n);
    std::unique_ptr<Element> element(new Element(tag_of(keyword)));
    OFCondition status =
        (element.get()->*set)(converted.data(), static_cast<unsigned long>(converted.size()));
    if (status.good())
        status = item->insert(element.get(), OFTrue);
    if (status.good())
        element.release();
    return status;
}

std::string joined(const std::vector<std::string> &values)
{
    std::string out;
    for (size_t i = 0; i < values.size(); i++)
        out += (i ? "\\" : "") + values[i];
    return out;
}

OFCondition put_integers(DcmItem *item, mf_keyword keyword, const int64_t *values, size_t n)
{
    const std::string vr = vr_of(keyword);
    if (vr == "US")
        return put_array(item, keyword, values, n, &DcmUnsignedShort::putUint16Array);
    if (vr == "SS")
        return put_array(item, keyword, values, n, &DcmSignedShort::putSint16Array);
    if (vr == "UL")
        return put_array(item, keyword, values, n, &DcmUnsignedLong::putUint32Array);
    if (vr == "SL")
        return put_array(item, keyword, values, n, &DcmSignedLong::putSint32Array);
    std::vector<std::string> texts;
    for (size_t i = 0; i < n; i++)
        texts.push_back(std::to_string(values[i]));
    return put_string(item, keyword, joined(texts));
}

OFCondition put_floats(DcmItem *item, mf_keyword keyword, const double *values, size_t n)
{
    const std::string vr = vr_of(keyword);
    if (vr == "FL")
        return put_array(item, keyword, values, n, &DcmFloatingPointSingle::putFloat32Array);
    if (vr == "FD")
        return put_array(item, keyword, values, n, &DcmFloatingPointDouble::putFloat64Array);
    std::vector<std::string> texts;
    for (size_t i = 0; i < n; i++)
        texts.push_back(decimal(values[i]));
    return put_string(item, keyword, joined(texts));
}

OFCondition put_raw(DcmItem *item, mf_keyword keyword, const void *data, size_t length)
{
    if (std::strcmp(vr_of(keyword), "OB") == 0)
        return item->putAndInsertUint8Array(tag_of(keyword), static_cast<const Uint8 *>(data),
                                            static_cast<unsigned long>(length));
    std::vector<Uint16> words(length / 2);
    std::memcpy(words.data(), data, words.size() * 2);
    return item->putAndInsertUint16Array(tag_of(keyword), words.data(),
                                         static_cast<unsigned long>(words.size()));
}

OFCondition encode(mf_writer *w, mf_buffer *out)
{
    const E_TransferSyntax syntax = EXS_LittleEndianExplicit;
    OFCondition status = w->file.validateMetaInfo(syntax);
    if (status.bad())
        return status;
    std::vector<char> chunk(BUFFER_BYTES);
    DcmOutputBufferStream stream(chunk.data(), static_cast<offile_off_t>(chunk.size()));
    w->file.transferInit();
    do {
        status = w->file.write(stream, syntax, EET_ExplicitLength, nullptr, EGL_withoutGL);
        if (status.bad() && status != EC_StreamNotifyClient)
            break;
        void *data = nullptr;
        offile_off_t length = 0;
        stream.flushBuffer(data, length);
        if (!mf_buffer_append(out, data, static_cast<size_t>(length), &w->error))
            break;
    } while (status == EC_StreamNotifyClient);
    w->file.transferEnd();
    return status;
}

} // namespace

struct mf_writer *mf_writer_new(struct mf_error *err)
{
    try {
        std::unique_ptr<mf_writer> w(new mf_writer);
        w->items.push_back(w->file.getDataset());
        return w.release();
    } catch (...) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a DICOM object");
        return nullptr;
    }
}

void mf_writer_free(struct mf_writer *w)
{
    delete w;
}

void mf_put_text(struct mf_writer *w, enum mf_keyword keyword, const char *utf8)
{
    put(w, [&](DcmItem *item) {
        return put_string(item, keyword, utf8 ? value_of(keyword, utf8, std::strlen(utf8)) : "");
    });
}

void mf_put_texts(struct mf_writer *w, enum mf_keyword keyword, const char *utf8)
{
    put(w, [&](DcmItem *item) {
        std::vector<std::string> values; /* none for NULL: an empty element */
        for (const char *p = utf8; p; p = std::strchr(p, '\\') ? std::strchr(p, '\\') + 1 : nullptr)
            values.push_back(value_of(keyword, p, std::strcspn(p, "\\")));
        return put_string(item, keyword, joined(values));
    });
}

void mf_put_empty(struct mf_writer *w, enum mf_keyword keyword)
{
    put(w, [&](DcmItem *item) { return item->insertEmptyElement(tag_of(keyword)); });
}

void mf_put_int(struct mf_writer *w, enum mf_keyword keyword, int64_t value)
{
    mf_put_ints(w, keyword, &value, 1);
}

void mf_put_ints(struct mf_writer *w, enum mf_keyword keyword, const int64_t *values, size_t n)
{
    put(w, [&](DcmItem *item) { return put_integers(item, keyword, values, n); });
}

void mf_put_real(struct mf_writer *w, enum mf_keyword keyword, double value)
{
    mf_put_reals(w, keyword, &value, 1);
}

void mf_put_reals(struct mf_writer *w, enum mf_keyword keyword, const double *values, size_t n)
{
    put(w, [&](DcmItem *item) { return put_floats(item, keyword, values, n); });
}

void mf_put_tag(struct mf_writer *w, enum mf_keyword keyword, enum mf_keyword value)
{
    put(w, [&](DcmItem *item) {
        std::unique_ptr<DcmAttributeTag> element(new DcmAttributeTag(tag_of(keyword)));
        OFCondition status = element->putTagVal(tag_of(value));
        if (status.good())
            status = item->insert(element.get(), OFTrue);
        if (status.good())
            element.release();
        return status;
    });
}

void mf_put_bytes(struct mf_writer *w, enum mf_keyword keyword, const void *data, size_t length)
{
    put(w, [&](DcmItem *item) { return put_raw(item, keyword, data, length); });
}

void mf_begin_item(struct mf_writer *w, enum mf_keyword sequence)
{
    put(w, [&](DcmItem *item) {
        DcmItem *opened = nullptr;
        OFCondition status = item->findOrCreateSequenceItem(tag_of(sequence), opened, -2);
        if (status.good())
            w->items.push_back(opened);
        return status;
    });
}

void mf_end_item(struct mf_writer *w)
{
    if (w->error.code == MF_OK && w->items.size() > 1)
        w->items.pop_back();
}

bool mf_writer_encode(struct mf_writer *w, struct mf_buffer *out, struct mf_error *err)
{
    put(w, [&](DcmItem *) { return encode(w, out); });
    if (w->error.code != MF_OK)
        return mf_error_set(err, w->error.code, "%s", w->error.msg);
    return true;
}
