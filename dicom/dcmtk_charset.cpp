/* DCMTK fence: Specific Character Set → UTF-8 (PS3.5 6.1, PS3.3 C.12.1.1.2). */
#include "dicom/charset.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcspchrs.h"

#include <cstring>
#include <iconv.h>
#include <memory>
#include <vector>

namespace
{

/* The defined terms of Specific Character Set (PS3.3 C.12.1.1.2) whose conversion modules must be
 * loaded. */
const char *const CHARSETS[] = {
    "ISO_IR 100",       "ISO_IR 101",        "ISO_IR 109",        "ISO_IR 110",      "ISO_IR 144",
    "ISO_IR 127",       "ISO_IR 126",        "ISO_IR 138",        "ISO_IR 148",      "ISO_IR 203",
    "ISO_IR 13",        "ISO_IR 166",        "ISO_IR 192",        "GB18030",         "GBK",
    "\\ISO 2022 IR 87", "\\ISO 2022 IR 159", "\\ISO 2022 IR 149", "\\ISO 2022 IR 58"};

const char KANJI[] = "ISO-2022-JP-2";

bool is_ascii(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (static_cast<unsigned char>(text[i]) >= 0x80 || text[i] == 0x1B)
            return false;
    return true;
}

/* Length of the UTF-8 sequence at `p`, 0 when it is not one (RFC 3629). */
size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xC2 ? 0
               : p[0] < 0xE0 ? 2
               : p[0] < 0xF0 ? 3
               : p[0] < 0xF5 ? 4
                             : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    bool bad = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
               (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F);
    return bad ? 0 : n;
}

/* Copies what is UTF-8 and puts U+FFFD for every other byte. */
void copy_utf8(const char *text, size_t length, char *out, size_t size)
{
    static const char REPLACEMENT[] = "\xEF\xBF\xBD";
    size_t made = 0;
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length(reinterpret_cast<const unsigned char *>(text) + i, length - i);
        const char *from = n ? text + i : REPLACEMENT;
        size_t bytes = n ? n : 3;
        if (made + bytes >= size)
            break;
        std::memcpy(out + made, from, bytes);
        made += bytes;
        i += n ? n : 1;
    }
    out[made] = '\0';
}

/* Kanji (ISO 2022 IR 87 and 159): DCMTK over glibc's iconv refuses these, but glibc reads their
 * escape sequences as ISO-2022-JP-2. */
bool convert_kanji(const char *charset, const char *text, size_t length, char *out, size_t size)
{
    if (!std::strstr(charset, "IR 87") && !std::strstr(charset, "IR 159"))
        return false;
    iconv_t converter = iconv_open("UTF-8", KANJI);
    if (converter == reinterpret_cast<iconv_t>(-1))
        return false;
    std::unique_ptr<char[]> utf8(new char[4 * length + 1]);
    char *in = const_cast<char *>(text), *to = utf8.get();
    size_t room = 4 * length;
    bool ok = iconv(converter, &in, &length, &to, &room) != static_cast<size_t>(-1);
    iconv_close(converter);
    if (ok)
        copy_utf8(utf8.get(), static_cast<size_t>(to - utf8.get()), out, size);
    return ok;
}

bool convert(const char *charset, const char *text, size_t length, char *out, size_t size)
{
    DcmSpecificCharacterSet converter;
    OFString utf8;
    if (converter.selectCharacterSet(charset).bad() ||
        converter.convertString(text, length, utf8).bad())
        return false;
    copy_utf8(utf8.c_str(), utf8.length(), out, size);
    return true;
}

} // namespace

void mf_charset_to_utf8(const char *charset, const char *text, size_t length, char *out,
                        size_t size)
{
    try {
        if (is_ascii(text, length) || (!convert(charset, text, length, out, size) &&
                                       !convert_kanji(charset, text, length, out, size)))
            copy_utf8(text, length, out, size);
    } catch (...) {
        copy_utf8(text, length, out, size); /* whatever it was: the raw bytes, made valid */
    }
}

void mf_charset_preload(void)
{
    static std::vector<std::unique_ptr<DcmSpecificCharacterSet>> kept;
    static iconv_t kanji = iconv_open("UTF-8", KANJI);
    (void)kanji;
    for (const char *charset : CHARSETS) {
        kept.push_back(std::make_unique<DcmSpecificCharacterSet>());
        if (kept.back()->selectCharacterSet(charset).bad())
            kept.pop_back(); /* a term that this iconv does not have */
    }
}
