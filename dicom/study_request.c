/* Request: the ordered frames of one inference, from a study and its priors. */
#include "dicom/study_list.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- when and where a frame was taken ---- */

/* AcquisitionDateTime (DT, "YYYYMMDDHHMMSS.FFFFFF&ZZXX") as date, time and offset. */
static bool parse_datetime(const char *dt, const char *offset, struct mf_time *ret)
{
    char date[9] = "", time[24] = "", zone[6] = "";
    size_t n = strspn(dt, "0123456789.");
    if (n < 4 || n > 8 + sizeof time - 1)
        return false;
    snprintf(date, sizeof date, "%.*s", (int)(n < 8 ? n : 8), dt);
    if (n > 8)
        snprintf(time, sizeof time, "%.*s", (int)(n - 8), dt + 8);
    if (dt[n] == '+' || dt[n] == '-')
        snprintf(zone, sizeof zone, "%s", dt + n);
    return mf_time_parse_dicom(date, time, zone[0] ? zone : offset, ret, NULL) &&
           ret->precision != MF_TIME_UNKNOWN;
}

static bool parse_date(const char *date, const char *time, const char *offset, struct mf_time *ret)
{
    return date && mf_time_parse_dicom(date, time, offset, ret, NULL) &&
           ret->precision != MF_TIME_UNKNOWN;
}

static struct mf_time acquired_time(const struct mf_index_object *o)
{
    struct mf_time t = {.precision = MF_TIME_UNKNOWN};
    const char *zone = o->timezone_offset;
    if ((o->acquisition_datetime && parse_datetime(o->acquisition_datetime, zone, &t)) ||
        parse_date(o->acquisition_date, o->acquisition_time, zone, &t) ||
        parse_date(o->content_date, o->content_time, zone, &t) ||
        parse_date(o->series_date, o->series_time, zone, &t) ||
        parse_date(o->study_date, o->study_time, zone, &t))
        return t;
    return (struct mf_time){.precision = MF_TIME_UNKNOWN};
}

/* Distance along the slice normal (PS3.3 C.7.6.2.1.1), mm; NaN when unknown. */
static double slice_position(const struct mf_index_object *o, uint32_t frame)
{
    const double *p = mf_volume_frame_position(o, frame);
    const double *d = mf_volume_frame_orientation(o, frame);
    if (!p || !d)
        return NAN;
    return p[0] * (d[1] * d[5] - d[2] * d[4]) + p[1] * (d[2] * d[3] - d[0] * d[5]) +
           p[2] * (d[0] * d[4] - d[1] * d[3]);
}

/* ---- collecting ---- */

static bool add_object(struct mf_study_list *l, const struct mf_index_object *o, bool prior,
                       struct mf_study_frames *out, struct mf_error *err)
{
    struct mf_time t = acquired_time(o);
    char text[MF_TIME_TEXT];
    const char *acquired = NULL;
    if (t.precision != MF_TIME_UNKNOWN &&
        !(acquired = mf_arena_strdup(l->arena, mf_time_format(&t, text), err)))
        return false;
    for (uint32_t f = 0; f < o->frames; f++)
        out->list[out->count++] = (struct mf_study_frame){
            .object = o,
            .object_index = (uint32_t)(o - l->index->objects),
            .frame = f,
            .prior = prior,
            .acquired = acquired,
            .acquired_ms = t.precision == MF_TIME_UNKNOWN ? INT64_MIN : t.begin,
            .slice_position = slice_position(o, f),
        };
    return true;
}

static int compare_int(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Within one study: time, then series, instance and frame number, then UID. */
static int by_time(const void *a, const void *b)
{
    const struct mf_study_frame *x = a, *y = b;
    int order = compare_int(x->acquired_ms, y->acquired_ms);
    if (order == 0)
        order = compare_int(x->object->series_number, y->object->series_number);
    if (order == 0)
        order = compare_int(x->object->instance_number, y->object->instance_number);
    if (order == 0 && x->object != y->object)
        order = strcmp(x->object->sop_instance_uid ? x->object->sop_instance_uid : "",
                       y->object->sop_instance_uid ? y->object->sop_instance_uid : "");
    if (order == 0)
        order = compare_int(x->object_index, y->object_index);
    return order ? order : compare_int(x->frame, y->frame);
}

/* Slices without a position come first, in the order of their numbers. */
static int by_slice(const void *a, const void *b)
{
    const struct mf_study_frame *x = a, *y = b;
    bool known_x = !isnan(x->slice_position), known_y = !isnan(y->slice_position);
    if (known_x != known_y)
        return known_x ? 1 : -1;
    if (known_x && x->slice_position != y->slice_position)
        return x->slice_position > y->slice_position ? 1 : -1;
    int order = compare_int(x->object->instance_number, y->object->instance_number);
    if (order == 0)
        order = compare_int(x->object_index, y->object_index);
    return order ? order : compare_int(x->frame, y->frame);
}

static bool add_study(struct mf_study_list *l, const struct mf_study *study, const char *series,
                      bool prior, struct mf_study_frames *out, struct mf_error *err)
{
    size_t begin = out->count;
    for (size_t i = 0; i < study->object_count; i++)
        if (mf_study_is_usable(l, study->objects[i]) &&
            mf_study_in_series(study->objects[i], series) &&
            !add_object(l, study->objects[i], prior, out, err))
            return false;
    qsort(out->list + begin, out->count - begin, sizeof *out->list,
          l->rules.order == MF_STUDY_BY_SLICE ? by_slice : by_time);
    return true;
}

/* The series of a study with the most usable frames, the first of equals. */
static const char *largest_series(const struct mf_study_list *l, const struct mf_study *study)
{
    const char *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < study->object_count; i++) {
        const struct mf_index_object *o = study->objects[i];
        const char *series = o->series_instance_uid ? o->series_instance_uid : "";
        if (!mf_study_is_usable(l, o) || (best && strcmp(series, best) == 0))
            continue;
        size_t n = mf_study_count_frames(l, study, series);
        if (n > most) {
            most = n;
            best = series;
        }
    }
    return best;
}

static bool parse_study_date(const struct mf_study *study, struct mf_time *ret)
{
    return parse_date(study->study_date, study->study_time, study->timezone_offset, ret);
}

/* Whether an earlier study is near enough; one without a date may be. */
static bool is_recent(const struct mf_study_list *l, const struct mf_study *current,
                      const struct mf_study *prior)
{
    const int64_t day_ms = 86400000;
    struct mf_time now, then;
    return !l->rules.prior_days || !parse_study_date(current, &now) ||
           !parse_study_date(prior, &then) ||
           now.begin - then.begin <= (l->rules.prior_days + INT64_C(1)) * day_ms;
}

/* Whether a usable image of the study shows the body part, or does not say what it shows. */
static bool shows(const struct mf_study_list *l, const struct mf_study *study, const char *part)
{
    for (size_t i = 0; i < study->object_count; i++) {
        const struct mf_index_object *o = study->objects[i];
        if (mf_study_is_usable(l, o) && (!o->body_part || strcasecmp(o->body_part, part) == 0))
            return true;
    }
    return false;
}

static bool same_body_part(const struct mf_study_list *l, const struct mf_study *current,
                           const struct mf_study *prior)
{
    for (size_t i = 0; i < prior->object_count; i++) {
        const struct mf_index_object *o = prior->objects[i];
        if (mf_study_is_usable(l, o) && (!o->body_part || shows(l, current, o->body_part)))
            return true;
    }
    return false;
}

/* Whether an earlier study counts as a prior by the rules. */
static bool is_prior(const struct mf_study_list *l, const struct mf_study *current,
                     const struct mf_study *prior)
{
    return prior->usable > 0 && is_recent(l, current, prior) &&
           (!l->rules.prior_same_body_part || same_body_part(l, current, prior));
}

/* The first earlier study that is used: the newest `max_priors` of the priors are. */
static size_t first_prior(const struct mf_study_list *l, const struct mf_study_patient *patient,
                          size_t current, bool priors)
{
    size_t first = current, used = 0;
    if (!priors || l->rules.no_priors || l->rules.order == MF_STUDY_BY_SLICE)
        return current;
    while (first > 0 && used < l->rules.max_priors)
        used += is_prior(l, &patient->studies[current], &patient->studies[--first]);
    return first;
}

/* Keeps `limit` of the frames: round(k·(n−1)/(limit−1)), halves away from zero; one: the last. */
static void choose(struct mf_study_frames *frames, size_t limit)
{
    size_t n = frames->count;
    if (n <= limit)
        return;
    for (size_t k = 0; k < limit; k++)
        frames->list[k] =
            frames->list[limit == 1 ? n - 1 : (2 * k * (n - 1) + limit - 1) / (2 * (limit - 1))];
    frames->count = limit;
}

static size_t count_priors(const struct mf_study_frames *frames)
{
    size_t n = 0;
    for (size_t i = 0; i < frames->count; i++)
        if (frames->list[i].prior &&
            (i == 0 || strcmp(frames->list[i].object->study_instance_uid
                                  ? frames->list[i].object->study_instance_uid
                                  : "",
                              frames->list[i - 1].object->study_instance_uid
                                  ? frames->list[i - 1].object->study_instance_uid
                                  : "") != 0))
            n++;
    return n;
}

static bool gather(struct mf_study_list *l, const struct mf_study_patient *patient, size_t current,
                   bool priors, struct mf_study_frames *frames, struct mf_error *err)
{
    const struct mf_study *study = &patient->studies[current];
    const char *series = l->rules.order == MF_STUDY_BY_SLICE ? largest_series(l, study) : NULL;
    size_t first = first_prior(l, patient, current, priors),
           n = mf_study_count_frames(l, study, series);
    for (size_t i = first; i < current; i++)
        if (is_prior(l, study, &patient->studies[i]))
            n += mf_study_count_frames(l, &patient->studies[i], NULL);
    frames->series = series;
    frames->list = mf_arena_alloc(l->arena, n, sizeof *frames->list, err);
    if (!frames->list)
        return false;
    for (size_t i = first; i < current; i++)
        if (is_prior(l, study, &patient->studies[i]) &&
            !add_study(l, &patient->studies[i], NULL, true, frames, err))
            return false;
    return add_study(l, study, series, false, frames, err);
}

static bool no_usable_image(const struct mf_study_list *l, const struct mf_study *study,
                            struct mf_error *err)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct mf_study_entry *e = &l->entries[i];
        const char *uid = e->object->study_instance_uid ? e->object->study_instance_uid : "";
        if (e->reason && (!study || strcmp(uid, study->study_instance_uid) == 0))
            return mf_error_set(err, MF_ERR_UNUSABLE, "no usable image: %s: %s", e->object->name,
                                e->reason);
    }
    if (l->skipped_count)
        return mf_error_set(err, MF_ERR_UNUSABLE, "no usable image: %s: %s", l->skipped[0].name,
                            l->skipped[0].reason);
    return mf_error_set(err, MF_ERR_UNUSABLE, "no usable image: no DICOM object was given");
}

const struct mf_study_request *mf_study_list_request(struct mf_study_list *l, size_t patient,
                                                     size_t current, bool priors,
                                                     struct mf_error *err)
{
    if (patient >= l->patient_count || current >= l->patients[patient].study_count) {
        mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such study");
        return NULL;
    }
    const struct mf_study_patient *p = &l->patients[patient];
    const struct mf_study *study = &p->studies[current];
    if (study->usable == 0) {
        no_usable_image(l, study, err);
        return NULL;
    }
    struct mf_study_frames frames = {0};
    struct mf_study_request *request = mf_arena_alloc(l->arena, 1, sizeof *request, err);
    if (!request || !gather(l, p, current, priors, &frames, err))
        return NULL;
    const struct mf_index_object *newest = frames.list[frames.count - 1].object;
    bool slices = l->rules.order == MF_STUDY_BY_SLICE;
    *request = (struct mf_study_request){
        .patient = p,
        .study = study,
        .demographics = {.patient_age = newest->patient_age,
                         .patient_birth_date = newest->patient_birth_date,
                         .patient_sex = newest->patient_sex,
                         .view_position = newest->view_position},
    };
    if (slices && !mf_study_finish_slices(l, &frames, request, err))
        return NULL;
    if (!request->volume) {
        choose(&frames, l->rules.max_frames);
        request->frames = frames.list;
        request->frame_count = frames.count;
        request->prior_count = count_priors(&frames);
    }
    if (!parse_date(study->study_date, study->study_time, study->timezone_offset,
                    &request->study_time))
        request->study_time = (struct mf_time){.precision = MF_TIME_UNKNOWN};
    return request;
}

const struct mf_study_request *mf_study_list_job(struct mf_study_list *l, bool priors,
                                                 struct mf_error *err)
{
    if (l->patient_count > 1) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "the objects belong to %zu patients, a job is about one patient",
                     l->patient_count);
        return NULL;
    }
    for (size_t i = l->patient_count ? l->patients[0].study_count : 0; i-- > 0;)
        if (l->patients[0].studies[i].usable)
            return mf_study_list_request(l, 0, i, priors, err);
    no_usable_image(l, NULL, err);
    return NULL;
}
