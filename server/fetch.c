/* Fetch: the source, the study, its priors. */
#include "server/fetch.h"

#include "server/dicom_row.h"
#include "server/fetch_priors.h"

#include "core/clock.h"
#include "dicom/instance.h"

#include <string.h>

bool mf_fetch_seconds(const struct mf_fetch *f, int *ret, struct mf_error *err)
{
    uint64_t now = mf_clock_monotonic_ns();
    *ret = (int)f->config->fetch.timeout_s;
    if (!f->deadline_ns)
        return true;
    if (now >= f->deadline_ns)
        return mf_error_set(err, MF_ERR_TIMEOUT, "the time for it is over");
    uint64_t left = (f->deadline_ns - now + 999999999) / 1000000000;
    if (left < (uint64_t)*ret)
        *ret = (int)left;
    return true;
}

static const struct mf_fetch_way *way_of(const struct mf_fetch_source *from)
{
    return from->method == MF_FETCH_WEB ? &mf_fetch_web : &mf_fetch_dicom;
}

/* The row of the study; the caller owns it. */
static json_t *find_study(const struct mf_fetch *f, const struct mf_fetch_way *way,
                          const struct mf_fetch_source *from, struct mf_error *err)
{
    const struct mf_fetch_match match = {.study = f->study};
    MF_AUTO(mf_json) json_t *found = way->find(f, from, &match, err);
    if (!found)
        return NULL;
    for (size_t i = 0; i < json_array_size(found); i++)
        if (strcmp(mf_dicom_row_text(json_array_get(found, i), "0020000D"), f->study) == 0)
            return json_incref(json_array_get(found, i));
    mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study");
    return NULL;
}

/* A source's refusal is no fault of the request. */
static bool fail(const struct mf_error *problem, struct mf_error *err)
{
    bool theirs = problem->code == MF_ERR_MALFORMED || problem->code == MF_ERR_UNUSABLE;
    enum mf_code code = theirs ? MF_ERR_UNAVAILABLE : problem->code;
    return mf_error_set(err, code, "%s", problem->msg);
}

bool mf_fetch_study(const struct mf_fetch *f, struct mf_error *err)
{
    struct mf_fetch_source from;
    struct mf_error problem = MF_ERROR_INIT;
    if (!mf_uid_valid(f->study))
        return mf_error_set(err, MF_ERR_UNUSABLE, "\"study_instance_uid\" is not a UID");
    if (!mf_fetch_source_find(f->config, f->tenant, f->source, &from, err))
        return false;
    const struct mf_fetch_way *way = way_of(&from);
    MF_AUTO(mf_json) json_t *row = find_study(f, way, &from, &problem);
    if (!row)
        return fail(&problem, err);
    if (!way->retrieve(f, &from, f->study, &problem)) {
        mf_error_prefix(&problem, "fetching the study");
        return fail(&problem, err);
    }
    return !f->priors || mf_fetch_priors(f, way, &from, row, &problem) || fail(&problem, err);
}

bool mf_fetch_earlier(const struct mf_fetch *f, struct mf_error *err)
{
    struct mf_fetch_source from;
    struct mf_error problem = MF_ERROR_INIT;
    if (!mf_fetch_source_find(f->config, f->tenant, f->source, &from, err))
        return false;
    MF_AUTO(mf_json) json_t *asked = f->here ? NULL : find_study(f, way_of(&from), &from, &problem);
    const json_t *row = f->here ? f->here->row : asked;
    return (row && mf_fetch_priors(f, way_of(&from), &from, row, &problem)) || fail(&problem, err);
}
