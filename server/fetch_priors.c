/*
 * Fetch: priors. The models that may run on the study say how many, how far back and of which body
 * part (struct mf_prior_rules); where they differ the widest rule counts, for the plan applies each
 * model's own again.
 */
#include "server/fetch_priors.h"

#include "server/dicom_row.h"

#include "core/clock.h"
#include "dicom/instance.h"
#include "engine/bundle.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DATES = 32 };

static const char DATE[] = "00080020", MODALITIES[] = "00080061", MODALITY[] = "00080060",
                  PATIENT[] = "00100020", ISSUER[] = "00100021", BODY_PART[] = "00180015",
                  STUDY[] = "0020000D";

/* --- rules --- */

static bool has_value(const json_t *row, const char *tag, const char *const *wanted, size_t n)
{
    const json_t *values = mf_dicom_row_values(row, tag), *value;
    size_t i;
    json_array_foreach(values, i, value)
    {
        const char *text = json_string_value(value);
        for (size_t k = 0; text && k < n; k++)
            if (strcasecmp(text, wanted[k]) == 0)
                return true;
    }
    return n == 0 || json_array_size(values) == 0; /* all are wanted, or nothing is said */
}

/* Of the models that may run; false: none of them looks at priors. */
static bool widest_rules(const struct mf_fetch *f, const json_t *current,
                         struct mf_prior_rules *ret)
{
    bool first = true;
    size_t count = f->registry ? mf_registry_count(f->registry) : 0;
    *ret = (struct mf_prior_rules){.max_studies = count ? 0 : UINT32_MAX};
    for (size_t i = 0; i < count; i++) {
        const struct mf_bundle *bundle = mf_registry_bundle(f->registry, i);
        struct mf_bundle_rules b;
        mf_bundle_rules(bundle, &b);
        if (f->model ? strcmp(f->model, mf_bundle_name(bundle)) != 0
                     : !has_value(current, MODALITIES, b.modalities, b.modality_count))
            continue;
        if (mf_bundle_position(bundle) == MF_POSITION_SLICE || b.priors.max_studies == 0)
            continue;
        ret->days = first || (ret->days && b.priors.days > ret->days) || !b.priors.days
                        ? b.priors.days
                        : ret->days;
        ret->same_body_part = (first || ret->same_body_part) && b.priors.same_body_part;
        if (b.priors.max_studies > ret->max_studies)
            ret->max_studies = b.priors.max_studies;
        first = false;
    }
    return ret->max_studies > 0;
}

/* --- candidates --- */

static int newest_first(const void *a, const void *b)
{
    const json_t *const *x = a, *const *y = b;
    int order = strcmp(mf_dicom_row_text(*y, DATE), mf_dicom_row_text(*x, DATE));
    return order ? order : strcmp(mf_dicom_row_text(*x, STUDY), mf_dicom_row_text(*y, STUDY));
}

/* Whether a row is an earlier study of the same patient: servers may match generously. */
static bool is_prior(const json_t *row, const json_t *current)
{
    const char *date = mf_dicom_row_text(row, DATE);
    return *date && strcmp(date, mf_dicom_row_text(current, DATE)) < 0 &&
           mf_uid_valid(mf_dicom_row_text(row, STUDY)) &&
           strcmp(mf_dicom_row_text(row, PATIENT), mf_dicom_row_text(current, PATIENT)) == 0 &&
           strcmp(mf_dicom_row_text(row, ISSUER), mf_dicom_row_text(current, ISSUER)) == 0;
}

/* "from-to" of the studies that may count; false: the current one has no date. */
static bool date_range(const json_t *current, uint32_t days, char out[DATES])
{
    const char *date = mf_dicom_row_text(current, DATE);
    struct mf_time now;
    int year = 1900, month = 1, day = 1;
    if (!mf_time_parse_dicom(date, NULL, NULL, &now, NULL) || now.precision == MF_TIME_UNKNOWN)
        return false;
    if (days) {
        const int64_t day_ms = 86400000;
        int64_t today = (now.begin - (now.begin < 0 ? day_ms - 1 : 0)) / day_ms;
        mf_civil_from_days(today - days, &year, &month, &day);
    }
    snprintf(out, DATES, "%04d%02d%02d-%.8s", year, month, day, date);
    return true;
}

/* --- body parts --- */

/* Whether a series of one list shows what a series of the other one does; one that names no body
 * part may show anything. */
static bool share_body_part(const json_t *a, const json_t *b)
{
    size_t i, k;
    const json_t *x, *y;
    json_array_foreach(a, i, x)
    {
        const char *part = mf_dicom_row_text(x, BODY_PART);
        json_array_foreach(b, k, y)
        {
            const char *other = mf_dicom_row_text(y, BODY_PART);
            if (!*part || !*other || strcasecmp(part, other) == 0)
                return true;
        }
    }
    return json_array_size(a) == 0 || json_array_size(b) == 0;
}

/* The series of a study that may be images; the caller owns them. */
static json_t *series_of(const struct mf_fetch *f, const struct mf_fetch_way *way,
                         const struct mf_fetch_source *from, const char *study,
                         struct mf_error *err)
{
    const struct mf_fetch_match match = {.series = true, .study = study};
    json_t *rows = way->find(f, from, &match, err);
    for (size_t i = json_array_size(rows); i-- > 0;) /* the others name no body part */
        if (strcmp(mf_dicom_row_text(json_array_get(rows, i), MODALITY), "SR") == 0 ||
            strcmp(mf_dicom_row_text(json_array_get(rows, i), MODALITY), "PR") == 0 ||
            strcmp(mf_dicom_row_text(json_array_get(rows, i), MODALITY), "KO") == 0)
            json_array_remove(rows, i);
    return rows;
}

/* --- fetching --- */

struct search {
    const struct mf_fetch *f;
    const struct mf_fetch_way *way;
    const struct mf_fetch_source *from;
    const json_t *current;
    struct mf_prior_rules rules;
    const json_t *series; /* of the current study; NULL = not needed */
};

/* *ret: whether the rules want this study. */
static bool judge(const struct search *s, const json_t *row, bool *ret, struct mf_error *err)
{
    *ret = true;
    if (!s->rules.same_body_part)
        return true;
    MF_AUTO(mf_json)
    json_t *series = series_of(s->f, s->way, s->from, mf_dicom_row_text(row, STUDY), err);
    *ret = series && share_body_part(s->series, series);
    return series != NULL;
}

static bool is_known(const struct mf_fetch *f, const char *study)
{
    for (size_t i = 0; f->here && i < f->here->known_count; i++)
        if (strcmp(f->here->known[i], study) == 0)
            return true;
    return false;
}

static bool fetch_rows(const struct search *s, const json_t *list, struct mf_error *err)
{
    const json_t *rows[MF_FETCH_ROWS];
    size_t n = 0, taken = 0;
    int64_t site = s->f->config->fetch.max_priors;
    uint32_t most = site < s->rules.max_studies ? (uint32_t)site : s->rules.max_studies;
    for (size_t i = 0; i < json_array_size(list) && n < MF_FETCH_ROWS; i++)
        if (is_prior(json_array_get(list, i), s->current))
            rows[n++] = json_array_get(list, i);
    if (n > 1)
        qsort(rows, n, sizeof rows[0], newest_first); /* NOLINT: of pointers */
    for (size_t i = 0; i < n && taken < most; i++) {
        bool wanted;
        if (!judge(s, rows[i], &wanted, err))
            return false;
        if (!wanted)
            continue;
        const char *study = mf_dicom_row_text(rows[i], STUDY);
        if (!is_known(s->f, study) && !s->way->retrieve(s->f, s->from, study, err))
            return false;
        taken++;
    }
    return true;
}

bool mf_fetch_priors(const struct mf_fetch *f, const struct mf_fetch_way *way,
                     const struct mf_fetch_source *from, const json_t *current,
                     struct mf_error *err)
{
    struct search s = {f, way, from, current, {.max_studies = 0}, NULL};
    char dates[DATES];
    const char *patient = mf_dicom_row_text(current, PATIENT);
    if (!*patient || strpbrk(patient, "*?\\") || !widest_rules(f, current, &s.rules) ||
        !date_range(current, s.rules.days, dates))
        return true;
    const struct mf_fetch_match match = {.patient = patient, .dates = dates};
    MF_AUTO(mf_json) json_t *list = way->find(f, from, &match, err);
    MF_AUTO(mf_json) json_t *series = NULL;
    if (!f->here && list && s.rules.same_body_part)
        series = series_of(f, way, from, mf_dicom_row_text(current, STUDY), err);
    s.series = f->here ? f->here->series : series;
    return (list && (!s.rules.same_body_part || s.series) && fetch_rows(&s, list, err)) ||
           mf_error_prefix(err, "fetching priors");
}
