/* DCMTK fence: start-up. Loads what DCMTK would open on first use and silences its logger. */
#include "dicom/charset.h"
#include "dicom/deidentify_values.h"
#include "dicom/dicom.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcdict.h"
#include "dcmtk/dcmjpls/djdecode.h"
#include "dcmtk/oflog/oflog.h"

#include <exception>
#include <jansson.h>

namespace
{

bool initialise(struct mf_error *err)
{
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    dcmDataDict.rdlock(); /* loads the dictionary */
    dcmDataDict.rdunlock();
    if (!dcmDataDict.isDictionaryLoaded())
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "DCMTK's data dictionary is not installed");
    mf_charset_preload();
    json_object_seed(0); /* opens the random device once; the index is JSON */
    DJLSDecoderRegistration::registerCodecs();
    return mf_deidentify_preload(err);
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
