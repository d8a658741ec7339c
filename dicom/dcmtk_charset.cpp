/* DCMTK fence: Specific Character Set → UTF-8 (PS3.5 6.1, PS3.3 C.12.1.1.2). */
#include "dicom/charset.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcspchrs.h"

#include <cstring>
#include <iconv.h>
#include <memory>
#include <string>
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

/* Katakana of ISO_IR 13, which stand in G1 whatever G0 holds: U+FF61 and what follows. */
void append_katakana(std::string &to, unsigned char c)
{
    const unsigned point = 0xFF61u + (c - 0xA1u);
    to += static_cast<char>(0xE0 | point >> 12);
    to += static_cast<char>(0x80 | (point >> 6 & 0x3F));
    to += static_cast<char>(0x80 | (point & 0x3F));
}

/* Appends the next `length` bytes, all of G0. */
bool append_kanji(iconv_t converter, const char *text, size_t length, std::string &to)
{
    std::vector<char> utf8(4 * length + 1);
    char *in = const_cast<char *>(text), *out = utf8.data();
    size_t room = utf8.size();
    if (iconv(converter, &in, &length, &out, &room) == static_cast<size_t>(-1))
        return false;
    to.append(utf8.data(), out);
    return true;
}

/* Kanji (ISO 2022 IR 87 and 159): DCMTK over glibc's iconv refuses these, but glibc reads their
 * escape sequences as ISO-2022-JP-2. */
bool convert_kanji(const char *charset, const char *text, size_t length, char *out, size_t size)
{
    if (!std::strstr(charset, "IR 87") && !std::strstr(charset, "IR 159"))
        return false;
    const bool katakana = std::strstr(charset, "IR 13") != nullptr;
    iconv_t converter = iconv_open("UTF-8", KANJI);
    if (converter == reinterpret_cast<iconv_t>(-1))
        return false;
    std::string utf8;
    bool ok = true;
    for (size_t i = 0, n; ok && i < length; i += n) {
        const unsigned char c = static_cast<unsigned char>(text[i]);
        for (n = 0; i + n < length && static_cast<unsigned char>(text[i + n]) < 0x80; n++)
            ;
        if (n)
            ok = append_kanji(converter, text + i, n, utf8);
        else if ((ok = katakana && c >= 0xA1 && c <= 0xDF))
            append_katakana(utf8, text[i++]);
    }
    iconv_close(converter);
    if (ok)
        copy_utf8(utf8.data(), utf8.size(), out, size);
    return ok;
}

/* --- terms that are written wrongly, but often --- */

/* A term in capitals, one space where there were spaces, hyphens and underscores. */
std::string spaced(const std::string &term)
{
    std::string made;
    for (char c : term) {
        const bool gap = c == ' ' || c == '-' || c == '_';
        if (!gap)
            made += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
        else if (!made.empty() && made.back() != ' ')
            made += ' ';
    }
    while (!made.empty() && made.back() == ' ')
        made.pop_back();
    return made;
}

/* The defined term that is meant: "ISO IR 100" and "ISO 2022 IR 100" alone are ISO_IR 100, beside
 * others both are ISO 2022 IR 100. */
std::string meant(const std::string &term, bool alone)
{
    static const std::string PLAIN = "ISO IR ", EXTENDED = "ISO 2022 IR ";
    const std::string text = spaced(term);
    if (text == "UTF 8" || text == "UTF8")
        return "ISO_IR 192";
    if (text == "LATIN 1" || text == "LATIN1" || text == "ISO 8859 1" || text == "ISO8859 1")
        return alone ? "ISO_IR 100" : "ISO 2022 IR 100";
    const bool extended = text.compare(0, EXTENDED.size(), EXTENDED) == 0;
    if (!extended && text.compare(0, PLAIN.size(), PLAIN) != 0)
        return text;
    const std::string number = text.substr(extended ? EXTENDED.size() : PLAIN.size());
    const bool many_bytes = number == "87" || number == "159" || number == "149" || number == "58";
    const bool whole = number == "192"; /* goes with no other */
    return (whole || (alone && !many_bytes) ? "ISO_IR " : "ISO 2022 IR ") + number;
}

std::vector<std::string> terms_meant(const char *charset)
{
    std::vector<std::string> terms(1);
    for (const char *c = charset; *c; c++)
        if (*c == '\\')
            terms.emplace_back();
        else
            terms.back() += *c;
    for (std::string &term : terms)
        term = meant(term, terms.size() == 1);
    return terms;
}

std::string joined(const std::vector<std::string> &terms)
{
    std::string text;
    for (size_t i = 0; i < terms.size(); i++)
        text += (i ? "\\" : "") + terms[i];
    return text;
}

/* The first set of one byte a character, for text that uses it without its escape sequence; "" =
 * there is none. */
std::string without_escapes(const std::vector<std::string> &terms)
{
    for (const std::string &term : terms) {
        const std::string alone = meant(term, true);
        if (alone.compare(0, 7, "ISO_IR ") == 0 && alone != "ISO_IR 6" && alone != "ISO_IR 192")
            return alone;
    }
    return "";
}

bool convert(const char *charset, const char *text, size_t length, char *out, size_t size)
{
    /* The parts of a name begin in the first character set again (PS3.5 6.1.2.5.3). Other sets do
     * without, but a second escape to IR 58 is lost on DCMTK unless it is told. */
    const char *delimiters = std::strstr(charset, "IR 58") ? "\\^=" : "";
    DcmSpecificCharacterSet converter;
    OFString utf8;
    if (converter.selectCharacterSet(charset).bad() ||
        converter.convertString(text, length, utf8, delimiters).bad())
        return false;
    copy_utf8(utf8.c_str(), utf8.length(), out, size);
    return true;
}

/* As the terms say, else as they were meant, else as if escape sequences had been forgotten. */
bool convert_any(const char *charset, const char *text, size_t length, char *out, size_t size)
{
    if (convert(charset, text, length, out, size))
        return true;
    const std::vector<std::string> terms = terms_meant(charset);
    const std::string all = joined(terms), one = without_escapes(terms);
    const bool escapes = std::memchr(text, 0x1B, length) != nullptr;
    return (all != charset && convert(all.c_str(), text, length, out, size)) ||
           convert_kanji(all.c_str(), text, length, out, size) ||
           (!escapes && !one.empty() && convert(one.c_str(), text, length, out, size));
}

} // namespace

void mf_charset_to_utf8(const char *charset, const char *text, size_t length, char *out,
                        size_t size)
{
    try {
        if (is_ascii(text, length) || !convert_any(charset, text, length, out, size))
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
