/* Feature values of one patient at one moment: sources in order, Observations by time, then by
 * pick. The rules are told in extract.h; reading a value[x] is value.c, demographics are
 * demographics.c. */
#include "fhir/extract.h"

#include "fhir/values.h"

#include <stdlib.h>
#include <string.h>

#define MS_PER_DAY INT64_C(86400000)

/* A value of an Observation or component that carries one of a source's codings. */
struct candidate {
    struct mf_feature_value value; /* status USED or IMPLAUSIBLE as the value alone is */
    struct mf_time time;
    int64_t issued;
    size_t order; /* place in its list, which follows the document */
};

struct candidates {
    struct candidate *items;
    size_t count, capacity;
};

static void candidates_auto(struct candidates *c)
{
    free(c->items);
}

/* What is asked: one feature, one source, one moment. */
struct question {
    const struct mf_feature *feature;
    const struct mf_feature_source *source;
    const struct mf_time *at;
    struct mf_arena *arena;
    struct mf_error *err;
};

enum when { WHEN_UNUSABLE, WHEN_INSIDE, WHEN_OLDER };

/* Where an interval lies relative to the look-back window, which is itself the interval
 * [at − window, end of at). Overlapping it counts as inside, if it sticks out by a day at most. */
static enum when place(const struct mf_time *t, const struct mf_time *at, int64_t window_ms)
{
    if (t->precision == MF_TIME_UNKNOWN || at->precision == MF_TIME_UNKNOWN ||
        t->begin >= at->end || t->end > at->end + MS_PER_DAY)
        return WHEN_UNUSABLE;
    int64_t oldest = at->begin - window_ms;
    if (window_ms >= 0 && (t->end <= oldest || t->begin < oldest - MS_PER_DAY))
        return WHEN_OLDER;
    return WHEN_INSIDE;
}

static bool has_coding(const json_t *concept, const struct mf_feature_source *source)
{
    const json_t *list = json_object_get(concept, "coding");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *coding = json_array_get(list, i);
        const char *system = mf_json_get_string(coding, "system", "");
        const char *code = mf_json_get_string(coding, "code", "");
        for (size_t k = 0; k < source->coding_count; k++)
            if (strcmp(source->codings[k].code, code) == 0 &&
                strcmp(source->codings[k].system, system) == 0)
                return true;
    }
    return false;
}

static bool add_candidate(const struct question *q, struct candidates *list,
                          const struct candidate *c)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        void *grown = realloc(list->items, capacity * sizeof *list->items);
        if (!grown)
            return mf_error_set(q->err, MF_ERR_NO_MEMORY, "out of memory");
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count] = *c;
    list->items[list->count].order = list->count;
    list->count++;
    return true;
}

/* Adds what `holder` (an Observation or a component) says, if its code is asked for and it has a
 * value. */
static bool consider(const struct question *q, const json_t *holder, struct candidate c,
                     struct candidates *list)
{
    if (!has_coding(json_object_get(holder, "code"), q->source))
        return true;
    const char *source = c.value.source, *time = c.value.time;
    if (!mf_fhir_read_value(q->feature, holder, &c.value))
        return true;
    c.value.source = source;
    c.value.time = time;
    return add_candidate(q, list, &c);
}

/* Collects the values of Observations inside the window and, apart, of older ones. */
static bool collect(const struct question *q, const struct mf_fhir_patient *patient,
                    struct candidates *inside, struct candidates *older)
{
    for (size_t i = 0; i < patient->observation_count; i++) {
        const json_t *observation = patient->observations[i];
        const json_t *components = json_object_get(observation, "component");
        struct mf_time issued;
        struct candidate c = {.issued = INT64_MIN};
        if (!mf_fhir_observation_counts(observation))
            continue;
        c.time = mf_fhir_observation_time(observation, q->at->local, &c.value.time);
        c.value.source = patient->observation_references[i];
        enum when when = place(&c.time, q->at, q->feature->window_ms);
        if (when == WHEN_UNUSABLE)
            continue;
        struct candidates *list = when == WHEN_INSIDE ? inside : older;
        const char *issued_text = mf_json_get_string(observation, "issued", NULL);
        if (issued_text && mf_time_parse_fhir(issued_text, &issued, NULL))
            c.issued = issued.begin;
        if (!consider(q, observation, c, list))
            return false;
        for (size_t k = 0; k < json_array_size(components); k++)
            if (!consider(q, json_array_get(components, k), c, list))
                return false;
    }
    return true;
}

/* Earlier first. The middle of an interval stands for it, so that a day does not come after all its
 * hours. */
static int by_time(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    int64_t ta = a->time.begin + (a->time.end - a->time.begin) / 2;
    int64_t tb = b->time.begin + (b->time.end - b->time.begin) / 2;
    if (ta != tb)
        return ta < tb ? -1 : 1;
    if (a->issued != b->issued)
        return a->issued < b->issued ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

/* Equal values of one time beside each other. */
static int by_time_and_number(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    if (a->time.begin != b->time.begin)
        return a->time.begin < b->time.begin ? -1 : 1;
    if (a->time.end != b->time.end)
        return a->time.end < b->time.end ? -1 : 1;
    return (a->value.number > b->value.number) - (a->value.number < b->value.number);
}

/* The mean; a number that is there twice for the same time counts once. Reorders the list. */
static double mean(struct candidates *list)
{
    double sum = 0;
    size_t n = 0;
    qsort(list->items, list->count, sizeof *list->items, by_time_and_number);
    for (size_t i = 0; i < list->count; i++)
        if (i == 0 || by_time_and_number(&list->items[i - 1], &list->items[i]) != 0) {
            sum += list->items[i].value.number;
            n++;
        }
    return sum / (double)n;
}

/* Chooses from a list that is not empty; min and max take the latest of equals, mean shows the
 * latest. */
static struct mf_feature_value choose(enum mf_feature_pick pick, struct candidates *list)
{
    qsort(list->items, list->count, sizeof *list->items, by_time);
    struct mf_feature_value best = list->items[pick == MF_PICK_FIRST ? 0 : list->count - 1].value;
    for (size_t i = list->count; i-- > 0;) {
        const struct mf_feature_value *v = &list->items[i].value;
        if ((pick == MF_PICK_MIN && v->number < best.number) ||
            (pick == MF_PICK_MAX && v->number > best.number))
            best = *v;
    }
    if (pick == MF_PICK_MEAN)
        best.number = mean(list);
    return best;
}

/* Cuts the list to the values that can be used, unless there are none. Whether there are any. */
static bool keep_usable(struct candidates *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].value.status == MF_FEATURE_USED)
            list->items[n++] = list->items[i];
    if (n > 0)
        list->count = n;
    return n > 0;
}

static bool ask_codings(const struct question *q, const struct mf_fhir_patient *patient,
                        struct mf_feature_value *ret)
{
    MF_AUTO(candidates) struct candidates inside = {0};
    MF_AUTO(candidates) struct candidates older = {0};
    if (!collect(q, patient, &inside, &older))
        return false;
    if (keep_usable(&inside)) {
        *ret = choose(q->feature->pick, &inside);
    } else if (inside.count) {
        *ret = choose(q->feature->pick == MF_PICK_FIRST ? MF_PICK_FIRST : MF_PICK_LAST, &inside);
    } else if (older.count) {
        *ret = choose(MF_PICK_LAST, &older);
        ret->status = MF_FEATURE_STALE;
    }
    return true;
}

static bool ask(const struct question *q, const struct mf_fhir_patient *patient,
                const struct mf_demographics *demographics, struct mf_feature_value *ret)
{
    switch (q->source->kind) {
    case MF_SOURCE_FHIR_PATH:
        if (patient && patient->resource)
            mf_fhir_read_patient(q->feature, q->source->path, patient, q->at, ret);
        return true;
    case MF_SOURCE_FHIR_CODINGS:
        return !patient || ask_codings(q, patient, ret);
    case MF_SOURCE_DICOM:
        return !demographics || mf_fhir_read_demographics(q->feature, q->source->path, demographics,
                                                          q->at, q->arena, ret, q->err);
    }
    return true;
}

bool mf_fhir_extract(const struct mf_feature_set *set, const struct mf_fhir_patient *patient,
                     const struct mf_demographics *demographics, const struct mf_time *at,
                     struct mf_arena *arena, struct mf_feature_value *values, struct mf_error *err)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct mf_feature *feature = &set->features[i];
        struct mf_feature_value *value = &values[i];
        *value = (struct mf_feature_value){.status = MF_FEATURE_MISSING};
        for (size_t k = 0; k < feature->source_count; k++) {
            struct question q = {feature, &feature->sources[k], at, arena, err};
            struct mf_feature_value found = {.status = MF_FEATURE_MISSING};
            if (!ask(&q, patient, demographics, &found))
                return false;
            if (value->status == MF_FEATURE_MISSING || found.status == MF_FEATURE_USED ||
                found.status == MF_FEATURE_IMPLAUSIBLE)
                *value = found;
            if (value->status == MF_FEATURE_USED || value->status == MF_FEATURE_IMPLAUSIBLE)
                break;
        }
    }
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
