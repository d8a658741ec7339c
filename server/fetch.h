/*
 * Fetch: a study by reference from a configured source (fetch_source.h), with earlier studies of
 * its patient as the models want them: how many, how far back, of which body part (bundle.h).
 * Servers are asked by QIDO-RS and WADO-RS, or by C-FIND and C-GET or C-MOVE.
 */
#ifndef MF_SERVER_FETCH_H
#define MF_SERVER_FETCH_H

#include "core/error.h"
#include "core/json.h"
#include "server/blobs.h"
#include "server/config.h"
#include "server/multipart.h"
#include "server/registry.h"
#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A study that need not be fetched, because it is here. */
struct mf_fetch_here {
    const json_t *row;        /* as a source would have found it: UID, date, patient, modalities */
    const json_t *series;     /* array of rows with the body part of each of its series */
    const char *const *known; /* UIDs of earlier studies that are here, too */
    size_t known_count;
};

struct mf_fetch {
    const struct mf_config *config;
    const char *query;                  /* address of the process of query.h, or NULL */
    const struct mf_registry *registry; /* whose models say which priors; NULL = any */
    struct mf_store *store;             /* what comes by C-MOVE is stored there … */
    const struct mf_blobs *blobs;       /* … and here */
    const char *tenant;                 /* whose request it is */
    const char *source;                 /* a name in fetch.sources; NULL = the tenant's first one */
    const char *study;                  /* Study Instance UID */
    const char *model;                  /* the model that will run; NULL = not said */
    bool priors;
    const struct mf_fetch_here *here; /* for mf_fetch_earlier() */
    uint64_t deadline_ns;             /* of the monotonic clock, for all of it; 0 = none */
    /* Gets each object as a part named "dicom". */
    const struct mf_multipart_sink *sink;
    void *context;
};

/* Blocks until all is there. MF_ERR_UNUSABLE: no such source, not a UID; MF_ERR_NOT_FOUND: the
 * source has no such study; MF_ERR_UNAVAILABLE, MF_ERR_TIMEOUT, MF_ERR_IO: the source, which may
 * also have sent a part of the study only (the message names objects that failed); what the sink
 * set. */
bool mf_fetch_study(const struct mf_fetch *fetch, struct mf_error *err) MF_CHECK_RESULT;

/* Only earlier studies of the same patient, those of `here` that are known left out; without `here`
 * the source is asked what the study is. The same errors. */
bool mf_fetch_earlier(const struct mf_fetch *fetch, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
