/*
 * Fetch: a study by reference from a configured DICOMweb server (WADO-RS), with earlier studies of
 * its patient (QIDO-RS). A request names a source of the configuration and a UID, never an address.
 */
#ifndef MF_SERVER_FETCH_H
#define MF_SERVER_FETCH_H

#include "core/error.h"
#include "server/config.h"
#include "server/multipart.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_fetch {
    const struct mf_config *config;
    const char *tenant; /* whose request it is */
    const char *source; /* a name in fetch.sources; NULL = the tenant's first one */
    const char *study;  /* Study Instance UID */
    bool priors;
    /* Gets each object as a part named "dicom". */
    const struct mf_multipart_sink *sink;
    void *context;
};

/* Blocks until all is there. MF_ERR_UNUSABLE: no such source, not a UID; MF_ERR_NOT_FOUND: the
 * source has no such study; MF_ERR_UNAVAILABLE, MF_ERR_TIMEOUT, MF_ERR_IO: the source; what the
 * sink set. */
bool mf_fetch_study(const struct mf_fetch *fetch, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
