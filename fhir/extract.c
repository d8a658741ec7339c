/* Feature values of one patient at one moment: sources in order, derived ones, policies. The rules
 * are told in extract.h; records are asked in candidates.c. */
#include "fhir/extract.h"

#include "fhir/values.h"

#include <math.h>
#include <string.h>

struct extraction {
    const struct mf_feature_set *set;
    const struct mf_fhir_patient *patient;
    const struct mf_demographics *demographics;
    const struct mf_time *at;
    struct mf_arena *arena;
    struct mf_fhir_answer *answers; /* of helpers, then features */
    double *numbers;                /* the same, for expressions */
    struct mf_error *err;
};

/* --- derived --- */

/* What stands in the way of a derived value: the first operand that cannot be used. */
static const struct mf_fhir_answer *missing_operand(const struct extraction *x,
                                                    const struct mf_expression *e)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->steps[i].operation == MF_OP_VARIABLE &&
            x->answers[e->steps[i].variable].value.status != MF_FEATURE_USED)
            return &x->answers[e->steps[i].variable];
    return NULL;
}

/* Whether a source is among those of earlier operands. */
static bool listed(const struct extraction *x, const struct mf_expression *e, size_t step)
{
    const char *source = x->answers[e->steps[step].variable].value.source;
    for (size_t i = 0; i < step; i++) {
        const char *earlier = e->steps[i].operation == MF_OP_VARIABLE
                                  ? x->answers[e->steps[i].variable].value.source
                                  : NULL;
        if (earlier && strcmp(earlier, source) == 0)
            return true;
    }
    return false;
}

/* "Observation/1, Observation/2": where the operands came from, and the time of the latest. */
static bool describe(const struct extraction *x, const struct mf_expression *e,
                     struct mf_fhir_answer *ret, int64_t *ret_span)
{
    int64_t first = INT64_MAX, last = INT64_MIN;
    const char *sources = NULL;
    for (size_t i = 0; i < e->count; i++) {
        if (e->steps[i].operation != MF_OP_VARIABLE)
            continue;
        const struct mf_fhir_answer *operand = &x->answers[e->steps[i].variable];
        const char *source = operand->value.source;
        if (source && !listed(x, e, i) &&
            !(sources =
                  sources ? mf_arena_printf(x->arena, x->err, "%s, %s", sources, source) : source))
            return false;
        if (operand->time.precision == MF_TIME_UNKNOWN)
            continue;
        if (operand->time.begin > last) {
            last = operand->time.begin;
            ret->time = operand->time;
            ret->value.time = operand->value.time;
        }
        first = operand->time.end < first ? operand->time.end : first;
    }
    ret->value.source = sources;
    *ret_span = last > first ? last - first : 0;
    return true;
}

static bool derive(const struct extraction *x, const struct mf_feature *f,
                   const struct mf_feature_source *source, struct mf_fhir_answer *ret)
{
    const struct mf_expression *e = source->expression;
    const struct mf_fhir_answer *obstacle = missing_operand(x, e);
    int64_t span;
    if (obstacle) {
        ret->value.status = obstacle->value.status;
        return true;
    }
    struct mf_fhir_answer found = {.value = {.status = MF_FEATURE_MISSING}};
    if (!describe(x, e, &found, &span))
        return false;
    if (source->within_ms >= 0 && span > source->within_ms)
        return true;
    double number = mf_expression_evaluate(e, x->numbers);
    if (isfinite(number))
        mf_fhir_set_number(f, number, f->unit, &found.value);
    else
        found.value.status = MF_FEATURE_IMPLAUSIBLE;
    *ret = found;
    return true;
}

/* --- sources --- */

static bool ask(const struct extraction *x, const struct mf_feature *f, size_t source,
                struct mf_fhir_answer *ret)
{
    const struct mf_feature_source *s = &f->sources[source];
    switch (s->kind) {
    case MF_SOURCE_FHIR_PATH:
        if (x->patient && x->patient->resource)
            mf_fhir_read_patient(f, s->path, x->patient, x->at, &ret->value);
        return true;
    case MF_SOURCE_FHIR_CODINGS: {
        bool together = f->pick >= MF_PICK_COUNT; /* existence is asked of all sources at once */
        const struct mf_fhir_question q = {f, together ? f->sources : s,
                                           together ? f->source_count : 1, x->at};
        return !x->patient || mf_fhir_ask_records(&q, x->patient, ret, x->err);
    }
    case MF_SOURCE_DICOM:
        return !x->demographics || mf_fhir_read_demographics(f, s->path, x->demographics, x->at,
                                                             x->arena, &ret->value, x->err);
    case MF_SOURCE_DERIVED:
        return derive(x, f, s, ret);
    }
    return true;
}

/* The first source with a value decides, also when that value is implausible. */
static bool ask_sources(const struct extraction *x, const struct mf_feature *f,
                        struct mf_fhir_answer *ret)
{
    for (size_t i = 0; i < f->source_count; i++) {
        struct mf_fhir_answer found = {.value = {.status = MF_FEATURE_MISSING}};
        if (!ask(x, f, i, &found))
            return false;
        bool decides =
            found.value.status == MF_FEATURE_USED || found.value.status == MF_FEATURE_IMPLAUSIBLE;
        if (decides || ret->value.status == MF_FEATURE_MISSING)
            *ret = found;
        if (decides)
            return true;
    }
    return true;
}

/* --- policies --- */

static bool refuse(const struct extraction *x, const struct mf_feature *f,
                   const struct mf_feature_value *v)
{
    return mf_error_set(x->err, MF_ERR_UNUSABLE,
                        "the model needs the feature \"%.64s\", which is %s", f->id,
                        mf_feature_status_name(v->status));
}

/* The plausible number nearest to one that is out of range. */
static void clamp(const struct mf_feature *f, struct mf_feature_value *v)
{
    double low, high;
    if (!v->has_number || !f->has_range || v->unit != f->unit)
        return;
    low = f->range_low;
    high = f->range_high;
    v->number = v->number < low ? low : v->number > high ? high : v->number;
    v->status = MF_FEATURE_USED;
    v->policy = "implausible";
}

static void impute(const struct mf_feature *f, struct mf_feature_value *v)
{
    *v = (struct mf_feature_value){.policy = mf_feature_status_name(v->status),
                                   .status = MF_FEATURE_USED,
                                   .has_number = f->kind == MF_FEATURE_NUMERIC,
                                   .has_category = f->kind == MF_FEATURE_CATEGORICAL,
                                   .number = f->policy.number,
                                   .category = f->policy.category,
                                   .unit = f->unit};
}

/* What the definition wants done with a value that cannot be used as it is. */
static bool apply_policy(const struct extraction *x, const struct mf_feature *f,
                         struct mf_fhir_answer *a)
{
    struct mf_feature_value *v = &a->value;
    const struct mf_feature_policy *p = &f->policy;
    if (v->status == MF_FEATURE_STALE && p->stale == MF_STALE_REFUSE)
        return refuse(x, f, v);
    if (v->status == MF_FEATURE_IMPLAUSIBLE && p->implausible == MF_IMPLAUSIBLE_REFUSE)
        return refuse(x, f, v);
    if (v->status == MF_FEATURE_STALE && p->stale == MF_STALE_USE && a->usable) {
        v->status = MF_FEATURE_USED;
        v->policy = "stale";
    } else if (v->status == MF_FEATURE_IMPLAUSIBLE && p->implausible == MF_IMPLAUSIBLE_CLAMP) {
        clamp(f, v);
    }
    if (v->status == MF_FEATURE_USED || p->missing == MF_MISSING_TOKEN)
        return true;
    if (p->missing == MF_MISSING_REFUSE)
        return refuse(x, f, v);
    impute(f, v);
    return true;
}

/* --- all --- */

static bool extract_list(struct extraction *x, const struct mf_feature *features, size_t count,
                         size_t first)
{
    for (size_t i = 0; i < count; i++) {
        struct mf_fhir_answer *a = &x->answers[first + i];
        if (!ask_sources(x, &features[i], a) || !apply_policy(x, &features[i], a))
            return false;
        x->numbers[first + i] = a->value.has_number ? a->value.number : NAN;
    }
    return true;
}

bool mf_fhir_extract(const struct mf_feature_set *set, const struct mf_fhir_patient *patient,
                     const struct mf_demographics *demographics, const struct mf_time *at,
                     struct mf_arena *arena, struct mf_feature_value *values, struct mf_error *err)
{
    struct extraction x = {set, patient, demographics, at, arena, NULL, NULL, err};
    size_t count = set->helper_count + set->count;
    x.answers = mf_arena_alloc(arena, count, sizeof *x.answers, err);
    x.numbers = mf_arena_alloc(arena, count, sizeof *x.numbers, err);
    if (!x.answers || !x.numbers || !extract_list(&x, set->helpers, set->helper_count, 0) ||
        !extract_list(&x, set->features, set->count, set->helper_count))
        return false;
    for (size_t i = 0; i < set->count; i++)
        values[i] = x.answers[set->helper_count + i].value;
    return true;
}

json_t *mf_fhir_features_to_json(const struct mf_feature_set *set,
                                 const struct mf_feature_value *values,
                                 const char *patient_reference, const struct mf_time *at)
{
    char time[MF_TIME_TEXT];
    MF_AUTO(mf_json) json_t *list = json_array();
    for (size_t i = 0; list && i < set->count; i++)
        if (json_array_append_new(list, mf_feature_value_to_json(&set->features[i], &values[i])) !=
            0)
            return NULL;
    return json_pack("{s:o, s:o, s:O}", "reference_time",
                     at->precision == MF_TIME_UNKNOWN ? json_null()
                                                      : json_string(mf_time_format(at, time)),
                     "patient", mf_json_string(patient_reference), "features", list);
}
