/* Private to fetch*.c: the ways to a source. Rows are DICOM JSON objects (PS3.18 annex F), whatever
 * was asked. */
#ifndef MF_SERVER_FETCH_PRIVATE_H
#define MF_SERVER_FETCH_PRIVATE_H

#include "core/json.h"
#include "server/fetch.h"
#include "server/fetch_source.h"

enum { MF_FETCH_ROWS = 200 };

/* What studies or series must match; NULL members do not matter. */
struct mf_fetch_match {
    bool series; /* of the study, else studies */
    const char *study, *patient, *dates /* "from-to" */;
};

struct mf_fetch_way {
    /* The rows that match, an array that the caller owns. Of studies: UID, date, patient, issuer,
     * modalities; of series: modality and body part. */
    json_t *(*find)(const struct mf_fetch *f, const struct mf_fetch_source *from,
                    const struct mf_fetch_match *match, struct mf_error *err);
    /* All objects of a study, to the sink. */
    bool (*retrieve)(const struct mf_fetch *f, const struct mf_fetch_source *from,
                     const char *study, struct mf_error *err);
};

extern const struct mf_fetch_way mf_fetch_web, mf_fetch_dicom;

/* How long the next operation may take: fetch.timeout_s, or less where the deadline is nearer;
 * MF_ERR_TIMEOUT when it has passed. */
bool mf_fetch_seconds(const struct mf_fetch *f, int *ret, struct mf_error *err) MF_CHECK_RESULT;

#endif
