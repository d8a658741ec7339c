/* DCMTK fence: start-up. Loads what DCMTK would open on first use and silences its logger. */
#include "dicom/charset.h"
#include "dicom/dicom.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcdict.h"
#include "dcmtk/dcmdata/dcspchrs.h"
#include "dcmtk/dcmjpls/djdecode.h"
#include "dcmtk/oflog/oflog.h"

#include <exception>

namespace
{

/* The defined terms of Specific Character Set (PS3.3 C.12.1.1.2) whose conversion modules must be
 * loaded. */
const char *const CHARSETS[] = {
    "ISO_IR 100",       "ISO_IR 101",        "ISO_IR 109",        "ISO_IR 110",      "ISO_IR 144",
    "ISO_IR 127",       "ISO_IR 126",        "ISO_IR 138",        "ISO_IR 148",      "ISO_IR 203",
    "ISO_IR 13",        "ISO_IR 166",        "ISO_IR 192",        "GB18030",         "GBK",
    "\\ISO 2022 IR 87", "\\ISO 2022 IR 159", "\\ISO 2022 IR 149", "\\ISO 2022 IR 58"};

bool initialise(struct mf_error *err)
{
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    dcmDataDict.rdlock(); /* loads the dictionary */
    dcmDataDict.rdunlock();
    if (!dcmDataDict.isDictionaryLoaded())
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "DCMTK's data dictionary is not installed");
    for (const char *charset : CHARSETS) {
        char out[16];
        mf_charset_to_utf8(charset, "\x1B(B\xC4", 4, out, sizeof out);
    }
    DJLSDecoderRegistration::registerCodecs();
    return true;
}

} // namespace

bool mf_dicom_init(struct mf_error *err)
{
    static bool done = false;
    try {
        done = done || initialise(err);
        return done;
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "DCMTK could not be started");
    } catch (...) {
        return mf_error_set(err, MF_ERR_INTERNAL, "DCMTK could not be started");
    }
}
