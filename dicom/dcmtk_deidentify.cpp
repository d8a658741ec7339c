/*
 * DCMTK fence: de-identification (PS3.15 annex E). Two passes over the data set: the first does
 * what the table says and remembers the identifiers that it takes out, the second looks for them in
 * what is left.
 */
#include "dicom/deidentify_values.h"

#include "dicom/part10.h"
#include "dicom/prescan.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcdatset.h"
#include "dcmtk/dcmdata/dcdeftag.h"
#include "dcmtk/dcmdata/dcistrmb.h"
#include "dcmtk/dcmdata/dcostrmb.h"
#include "dcmtk/dcmdata/dcpixel.h"
#include "dcmtk/dcmdata/dcsequen.h"
#include "dcmtk/dcmdata/dcuid.h"

#include <algorithm>
#include <cctype>
#include <exception>
#include <set>
#include <string>
#include <vector>

namespace
{

const size_t SHORTEST = 4; /* of an identifier that is searched for */
const size_t PIECE = 1 << 20;

uint32_t number_of(const DcmTag &tag)
{
    return static_cast<uint32_t>(tag.getGroup()) << 16 | tag.getElement();
}

bool is_text(DcmEVR vr)
{
    return vr == EVR_LO || vr == EVR_SH || vr == EVR_ST || vr == EVR_LT || vr == EVR_UT ||
           vr == EVR_UC || vr == EVR_UR || vr == EVR_PN;
}

bool is_time(DcmEVR vr)
{
    return vr == EVR_DA || vr == EVR_DT || vr == EVR_TM;
}

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

std::vector<std::string> split(const std::string &text, const char *delimiters)
{
    std::vector<std::string> parts;
    for (size_t at = 0; at <= text.size();) {
        size_t end = std::min(text.find_first_of(delimiters, at), text.size());
        parts.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

std::string value_of(DcmElement &element)
{
    OFString text;
    return element.getOFStringArray(text).good() ? std::string(text.c_str(), text.length())
                                                 : std::string();
}

std::string value_of(DcmItem &item, const DcmTagKey &key)
{
    OFString text;
    item.findAndGetOFStringArray(key, text);
    return std::string(text.c_str(), text.length());
}

void put(DcmItem &item, const DcmTag &tag, const std::string &value)
{
    if (item.putAndInsertString(tag, value.c_str(), OFTrue).bad())
        throw std::bad_alloc();
}

/* A value that says nothing and is one of the representation; empty where there is none. */
std::string dummy(DcmEVR vr)
{
    switch (vr) {
    case EVR_AS:
        return "000Y";
    case EVR_DA:
        return "19000101";
    case EVR_DT:
        return "19000101000000";
    case EVR_TM:
        return "000000";
    case EVR_DS:
    case EVR_IS:
        return "0";
    case EVR_UR:
        return "urn:removed";
    case EVR_CS:
    case EVR_AE:
    case EVR_LO:
    case EVR_LT:
    case EVR_PN:
    case EVR_SH:
    case EVR_ST:
    case EVR_UC:
    case EVR_UT:
        return "REMOVED";
    default:
        return "";
    }
}

class Cleaner
{
  public:
    Cleaner(const mf_deidentify_rules &rules, DcmItem &root) : rules_(rules)
    {
        const std::string issuer = value_of(root, DCM_IssuerOfPatientID),
                          id = value_of(root, DCM_PatientID),
                          /* without an ID a study is a patient of its own */
            who = id.empty() ? value_of(root, DCM_StudyInstanceUID) : id;
        if (!mf_deidentify_patient(&rules, issuer.c_str(), who.c_str(), patient_) ||
            !mf_deidentify_days(&rules, issuer.c_str(), who.c_str(), &days_))
            throw std::bad_alloc();
    }

    void clean(DcmItem &item)
    {
        for (unsigned long i = item.card(); i-- > 0;)
            clean_element(item, i);
    }

    void search(DcmItem &item)
    {
        for (unsigned long i = item.card(); i-- > 0;) {
            DcmElement &element = *item.getElement(i);
            if (DcmSequenceOfItems *sequence = dynamic_cast<DcmSequenceOfItems *>(&element))
                for (unsigned long k = 0; k < sequence->card(); k++)
                    search(*sequence->getItem(k));
            else if (is_text(element.getVR()) && names_somebody(value_of(element)))
                set(element, dummy(element.getVR()));
        }
    }

    /* After both: who the patient is now (both searched passes would take it for a name). */
    void sign(DcmItem &root)
    {
        put(root, DCM_PatientName, patient_);
        put(root, DCM_PatientID, patient_);
        put(root, DCM_PatientIdentityRemoved, "YES");
        put(root, DCM_DeidentificationMethod, "PS3.15 Basic Application Confidentiality Profile");
        put(root, DCM_LongitudinalTemporalInformationModified,
            rules_.dates == MF_DATES_KEEP    ? "UNMODIFIED"
            : rules_.dates == MF_DATES_SHIFT ? "MODIFIED"
                                             : "REMOVED");
        root.findAndDeleteElement(DCM_DeidentificationMethodCodeSequence);
        add_code(root, "113100", "Basic Application Confidentiality Profile");
        if (rules_.content)
            add_code(root, "113104", "Clean Structured Content Option");
        if (rules_.dates == MF_DATES_KEEP)
            add_code(root, "113106", "Retain Longitudinal Temporal Information Full Dates Option");
        if (rules_.dates == MF_DATES_SHIFT)
            add_code(root, "113107",
                     "Retain Longitudinal Temporal Information Modified Dates Option");
        if (rules_.characteristics)
            add_code(root, "113108", "Retain Patient Characteristics Option");
    }

  private:
    static void add_code(DcmItem &root, const char *value, const char *meaning)
    {
        DcmItem *code = nullptr;
        if (root.findOrCreateSequenceItem(DCM_DeidentificationMethodCodeSequence, code, -2).bad())
            throw std::bad_alloc();
        put(*code, DCM_CodeValue, value);
        put(*code, DCM_CodingSchemeDesignator, "DCM");
        put(*code, DCM_CodeMeaning, meaning);
    }

    static void set(DcmElement &element, const std::string &value)
    {
        if (element.putString(value.c_str(), static_cast<Uint32>(value.size())).bad())
            throw std::bad_alloc();
    }

    /* Keeps in mind what a value said, for the search. */
    void remember(DcmElement &element)
    {
        const DcmEVR vr = element.getVR();
        const bool named = is_text(vr) && mf_deidentify_identifier(number_of(element.getTag()));
        if (!named && vr != EVR_PN && vr != EVR_UI && vr != EVR_DA)
            return;
        for (std::string part : split(value_of(element), vr == EVR_PN ? "\\^= " : "\\")) {
            part.erase(0, part.find_first_not_of(' '));
            part.erase(part.find_last_not_of(' ') + 1);
            if (part.size() < SHORTEST)
                continue;
            identifiers_.insert(lower(part));
            if (vr == EVR_DA && part.size() == 8 && rules_.dates != MF_DATES_KEEP)
                identifiers_.insert(part.substr(0, 4) + "-" + part.substr(4, 2) + "-" +
                                    part.substr(6));
        }
    }

    bool names_somebody(const std::string &value) const
    {
        const std::string text = lower(value);
        return std::any_of(identifiers_.begin(), identifiers_.end(), [&](const std::string &name) {
            return text.find(name) != std::string::npos;
        });
    }

    void remember_all(DcmElement &element)
    {
        DcmSequenceOfItems *sequence = dynamic_cast<DcmSequenceOfItems *>(&element);
        for (unsigned long k = 0; sequence && k < sequence->card(); k++) {
            DcmItem &item = *sequence->getItem(k);
            for (unsigned long i = 0; i < item.card(); i++)
                remember_all(*item.getElement(i));
        }
        if (!sequence)
            remember(element);
    }

    char action_of(DcmElement &element) const
    {
        const DcmTag &tag = element.getTag();
        const uint32_t number = number_of(tag);
        const DcmEVR vr = element.getVR();
        if (mf_deidentify_foreign(number))
            return 'X';
        if (rules_.characteristics && mf_deidentify_characteristic(number))
            return 0;
        const char action = mf_deidentify_action(number);
        const bool birth = number == 0x00100030 || number == 0x00100032;
        if (is_time(vr) && !birth && rules_.dates != MF_DATES_REMOVE)
            return rules_.dates == MF_DATES_SHIFT ? 'S' : 0;
        if (number == 0x0040A160 && !rules_.content)
            return 'D';
        if (!action && (is_time(vr) || vr == EVR_PN || vr == EVR_UN))
            return 'X';
        return action;
    }

    void clean_element(DcmItem &item, unsigned long i)
    {
        DcmElement &element = *item.getElement(i);
        const char action = action_of(element);
        if (action)
            remember_values(element, action);
        if (action == 'X')
            delete item.remove(i);
        else if (DcmSequenceOfItems *sequence = dynamic_cast<DcmSequenceOfItems *>(&element))
            clean_sequence(*sequence, action);
        else if (action == 'U')
            set(element, other_uids(value_of(element)));
        else if (action == 'S')
            set(element, shifted(element));
        else if (action == 'Z')
            set(element, "");
        else if (action == 'D')
            replace(element);
    }

    /* By a value that is not empty, where it was not. */
    void replace(DcmElement &element) const
    {
        static const Uint8 zeros[2] = {0, 0};
        const DcmEVR vr = element.getVR();
        if (vr == EVR_UI)
            set(element, other_uids(value_of(element)));
        else if (vr != EVR_OB && vr != EVR_UN)
            set(element, dummy(vr));
        else if (element.putUint8Array(zeros, sizeof zeros).bad())
            throw std::bad_alloc();
    }

    void remember_values(DcmElement &element, char action)
    {
        if (action == 'X' || action == 'Z')
            remember_all(element);
        else if (action != 'S' || element.getVR() == EVR_DA)
            remember(element);
    }

    void clean_sequence(DcmSequenceOfItems &sequence, char action)
    {
        if (action == 'Z')
            while (sequence.card() > 0)
                delete sequence.remove(sequence.card() - 1);
        for (unsigned long k = 0; k < sequence.card(); k++)
            clean(*sequence.getItem(k));
    }

    std::string other_uids(const std::string &values) const
    {
        std::string made;
        char uid[MF_DEIDENTIFY_UID];
        for (const std::string &part : split(values, "\\")) {
            if (!mf_deidentify_uid(&rules_, part.c_str(), uid))
                throw std::bad_alloc();
            made += (made.empty() ? "" : "\\") + std::string(uid);
        }
        return made;
    }

    /* Times of day stay, and what is no date is emptied. */
    std::string shifted(DcmElement &element) const
    {
        std::string made;
        char moved[64];
        if (element.getVR() == EVR_TM)
            return value_of(element);
        for (const std::string &part : split(value_of(element), "\\")) {
            mf_deidentify_shift(part.c_str(), days_, moved, sizeof moved);
            made += (made.empty() ? "" : "\\") + std::string(moved);
        }
        return made;
    }

    const mf_deidentify_rules &rules_;
    char patient_[MF_DEIDENTIFY_NAME];
    int days_ = 0;
    std::set<std::string> identifiers_;
};

/* ---- pixels ---- */

bool has_overlay_bits(DcmItem &root)
{
    for (Uint16 group = 0x6000; group <= 0x601E; group += 2) {
        Uint16 position = 0;
        if (root.findAndGetUint16(DcmTagKey(group, 0x0102), position).good() && position > 0)
            return true;
    }
    return false;
}

/* Bits outside the stored ones become what they are without overlays: zero, or the sign. */
template <class T>
void mask_bits(T *samples, size_t count, Uint16 stored, bool is_signed)
{
    const T mask = static_cast<T>((1u << stored) - 1), sign = static_cast<T>(1u << (stored - 1));
    for (size_t i = 0; i < count; i++) {
        const T value = samples[i] & mask;
        samples[i] = is_signed ? static_cast<T>((value ^ sign) - sign) : value;
    }
}

void mask_pixels(DcmItem &root)
{
    Uint16 allocated = 0, stored = 0, high = 0, sign = 0;
    Uint16 *words = nullptr;
    root.findAndGetUint16(DCM_BitsAllocated, allocated);
    root.findAndGetUint16(DCM_BitsStored, stored);
    root.findAndGetUint16(DCM_HighBit, high);
    root.findAndGetUint16(DCM_PixelRepresentation, sign);
    DcmElement *pixels = nullptr;
    if (allocated != 16 || stored == 0 || stored >= 16 || high + 1 != stored ||
        root.findAndGetElement(DCM_PixelData, pixels).bad() ||
        pixels->getUint16Array(words).bad() || !words)
        return;
    mask_bits(words, pixels->getLengthField() / 2, stored, sign == 1);
}

/* ---- the whole ---- */

bool refuse(DcmItem &root, bool encapsulated, mf_error *err)
{
    if (lower(value_of(root, DCM_BurnedInAnnotation)) == "yes")
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "it says that its pixels hold identifying text (Burned In Annotation)");
    if (root.tagExists(DCM_EncapsulatedDocument))
        return mf_error_set(err, MF_ERR_UNUSABLE, "an encapsulated document cannot be cleaned");
    if (encapsulated && has_overlay_bits(root))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "it has overlays in the bits of compressed pixels");
    return true;
}

/* How the data set is encoded, for DCMTK: what is inside fragments does not matter here. */
E_TransferSyntax encoding_of(const mf_prescan &prescan)
{
    return prescan.encapsulated  ? EXS_JPEG2000LosslessOnly
           : prescan.implicit_vr ? EXS_LittleEndianImplicit
           : prescan.big_endian  ? EXS_BigEndianExplicit
                                 : EXS_LittleEndianExplicit;
}

bool put_header(DcmDataset &root, const mf_prescan &prescan, mf_buffer *ret, mf_error *err)
{
    const std::string sop_class = value_of(root, DCM_SOPClassUID),
                      instance = value_of(root, DCM_SOPInstanceUID);
    if (sop_class.empty() || instance.empty())
        return mf_error_set(err, MF_ERR_MALFORMED, "it has no SOP Class or Instance UID");
    mf_part10 meta = {};
    meta.sop_class = sop_class.c_str();
    meta.sop_instance = instance.c_str();
    meta.transfer_syntax =
        prescan.deflated ? UID_LittleEndianExplicitTransferSyntax : prescan.transfer_syntax;
    return mf_part10_header(&meta, ret, err);
}

bool put_data_set(DcmDataset &root, E_TransferSyntax syntax, mf_buffer *ret, mf_error *err)
{
    std::vector<char> piece(PIECE);
    OFCondition status;
    root.transferInit();
    do {
        DcmOutputBufferStream stream(piece.data(), static_cast<offile_off_t>(piece.size()));
        void *bytes = nullptr;
        offile_off_t length = 0;
        status = root.write(stream, syntax, EET_ExplicitLength, nullptr, EGL_withoutGL);
        stream.flushBuffer(bytes, length);
        if (!mf_buffer_append(ret, bytes, static_cast<size_t>(length), err))
            return false;
    } while (status == EC_StreamNotifyClient);
    root.transferEnd();
    return status.good() ||
           mf_error_set(err, MF_ERR_MALFORMED, "DCMTK cannot write it anew (%s)", status.text());
}

bool deidentify(const mf_prescan &prescan, const mf_deidentify_rules &rules, mf_buffer *ret,
                mf_error *err)
{
    const E_TransferSyntax syntax = encoding_of(prescan);
    if (prescan.irregular & 1u << MF_IRREGULAR_VR)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "elements have no value representation: DCMTK would misread it");
    DcmInputBufferStream stream;
    stream.setBuffer(prescan.bytes + prescan.data_set,
                     static_cast<offile_off_t>(prescan.end - prescan.data_set));
    stream.setEos();
    DcmDataset root;
    root.transferInit();
    OFCondition status = root.read(stream, syntax, EGL_noChange, DCM_MaxReadLength);
    root.transferEnd();
    if (status.bad())
        return mf_error_set(err, MF_ERR_MALFORMED, "DCMTK cannot read it (%s)", status.text());
    if (!refuse(root, prescan.encapsulated, err))
        return false;
    if (has_overlay_bits(root))
        mask_pixels(root);
    Cleaner cleaner(rules, root);
    cleaner.clean(root);
    cleaner.search(root);
    cleaner.sign(root);
    return put_header(root, prescan, ret, err) && put_data_set(root, syntax, ret, err);
}

} // namespace

bool mf_deidentify_rewrite(const struct mf_prescan *prescan,
                           const struct mf_deidentify_rules *rules, struct mf_buffer *ret,
                           struct mf_error *err)
{
    try {
        return deidentify(*prescan, *rules, ret, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory to de-identify an object");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_MALFORMED, "DCMTK cannot read it");
    }
}
