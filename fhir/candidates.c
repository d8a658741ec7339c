/*
 * One question to a patient's records: those that carry a code of the sources, by time, then by
 * pick. The rules are told in extract.h.
 */
#include "fhir/values.h"

#include <stdlib.h>
#include <string.h>

#define MS_PER_DAY INT64_C(86400000)

/* A record, Observation or component that carries one of the codings. */
struct candidate {
    struct mf_feature_value value; /* status USED or IMPLAUSIBLE as the value alone is */
    struct mf_time time;
    int64_t issued, updated;
    enum mf_fhir_standing standing;
    const char *code; /* the one that was asked for */
    size_t order;     /* place in its list, which follows the document */
};

struct candidates {
    struct candidate *items;
    size_t count, capacity;
};

static void candidates_auto(struct candidates *c)
{
    free(c->items);
}

enum when { WHEN_UNUSABLE, WHEN_INSIDE, WHEN_OLDER };

/* Where an interval lies relative to the look-back window, which is itself the interval
 * [at − window, end of at − gap). Overlapping it counts as inside, if it sticks out by a day at
 * most; something that lasts counts while it lasts. */
static enum when place(const struct mf_fhir_question *q, const struct mf_fhir_record *record,
                       const struct mf_time *t)
{
    const struct mf_feature *f = q->feature;
    const struct mf_time *at = q->at;
    int64_t latest = at->end - f->gap_ms;
    if (t->precision == MF_TIME_UNKNOWN || at->precision == MF_TIME_UNKNOWN || t->begin >= latest ||
        t->end > latest + MS_PER_DAY)
        return WHEN_UNUSABLE;
    int64_t oldest = at->begin - f->window_ms;
    if (f->window_ms < 0)
        return WHEN_INSIDE;
    if (record->ongoing) {
        struct mf_time ended = mf_fhir_time(record->ended, at->local);
        bool over = ended.precision != MF_TIME_UNKNOWN && ended.end <= oldest;
        return over ? WHEN_OLDER : WHEN_INSIDE;
    }
    return t->end <= oldest || t->begin < oldest - MS_PER_DAY ? WHEN_OLDER : WHEN_INSIDE;
}

static bool same_system(const struct mf_coding *want, const struct mf_coding *have)
{
    return have->system && have->code && strcmp(want->system, have->system) == 0;
}

/* The code of the source that a concept carries, or NULL. */
static const char *asked_code(const struct mf_fhir_concept *concept,
                              const struct mf_feature_source *source)
{
    for (size_t i = 0; i < concept->count; i++) {
        const struct mf_coding *have = &concept->codings[i];
        for (size_t k = 0; k < source->coding_count; k++) {
            const struct mf_coding *want = &source->codings[k];
            if (same_system(want, have) && strcmp(want->code, have->code) == 0)
                return want->code;
        }
        for (size_t k = 0; k < source->prefix_count; k++) {
            const struct mf_coding *want = &source->prefixes[k];
            if (same_system(want, have) && strncmp(want->code, have->code, strlen(want->code)) == 0)
                return have->code;
        }
    }
    return NULL;
}

static bool add(struct candidates *list, const struct candidate *c, struct mf_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        void *grown = realloc(list->items, capacity * sizeof *list->items);
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count] = *c;
    list->items[list->count].order = list->count;
    list->count++;
    return true;
}

/* Whether the pick asks for the record, not for what it says. */
static bool asks_existence(const struct mf_fhir_question *q)
{
    return q->feature->pick >= MF_PICK_COUNT;
}

/* Reads what an item says into `c`; false when it says nothing that is asked for. */
static bool says(const struct mf_fhir_question *q, const struct mf_feature_source *source,
                 const struct mf_fhir_record *record, const struct mf_fhir_item *item,
                 struct candidate *c)
{
    if (!(c->code = asked_code(&item->code, source)))
        return false;
    if (asks_existence(q)) {
        c->value = (struct mf_feature_value){
            .status = MF_FEATURE_USED, .number = item->value.number, .text = item->value.text};
        return record->type != MF_RESOURCE_OBSERVATION || item->value.kind != MF_FHIR_NO_VALUE;
    }
    return mf_fhir_read_value(q->feature, source->read, item, &c->value);
}

/* Adds what one record says to the list where it belongs. */
static bool consider(const struct mf_fhir_question *q, const struct mf_feature_source *source,
                     const struct mf_fhir_record *record, struct candidates *inside,
                     struct candidates *older, struct mf_error *err)
{
    struct candidates *list = NULL;
    struct candidate c = {
        .issued = INT64_MIN, .updated = record->updated_ms, .standing = record->standing};
    for (size_t i = 0; i <= record->component_count; i++) {
        const char *time;
        if (!says(q, source, record, i ? &record->components[i - 1] : &record->item, &c))
            continue;
        if (!list) { /* the first that speaks: now the time matters */
            c.time = mf_fhir_record_time(record, q->at->local, &time);
            enum when when = place(q, record, &c.time);
            if (when == WHEN_UNUSABLE)
                return true;
            list = when == WHEN_INSIDE ? inside : older;
            struct mf_time issued = mf_fhir_time(record->issued, false);
            if (issued.precision != MF_TIME_UNKNOWN)
                c.issued = issued.begin;
        }
        mf_fhir_record_time(record, q->at->local, &time);
        c.value.source = record->reference;
        c.value.time = time;
        if (!add(list, &c, err))
            return false;
    }
    return true;
}

/* Collects what lies inside the window and, apart, what is older. */
static bool collect(const struct mf_fhir_question *q, const struct mf_fhir_patient *patient,
                    struct candidates *inside, struct candidates *older, struct mf_error *err)
{
    for (size_t i = 0; i < patient->record_count; i++) {
        const struct mf_fhir_record *record = patient->records[i];
        if (record->standing == MF_FHIR_VOID)
            continue;
        for (size_t s = 0; s < q->source_count; s++)
            if (q->sources[s].kind == MF_SOURCE_FHIR_CODINGS &&
                q->sources[s].resource == record->type &&
                !consider(q, &q->sources[s], record, inside, older, err))
                return false;
    }
    return true;
}

/* --- order --- */

static int64_t middle(const struct mf_time *t)
{
    return t->begin + (t->end - t->begin) / 2;
}

/* Earlier first. The middle of an interval stands for it, so that a day does not come after all its
 * hours. Within a moment, what stands better or became known later comes later; then names decide,
 * because the order of a Bundle means nothing. */
static int by_time(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    int64_t ta = middle(&a->time), tb = middle(&b->time);
    if (ta != tb)
        return ta < tb ? -1 : 1;
    if (a->standing != b->standing)
        return a->standing < b->standing ? -1 : 1;
    if (a->issued != b->issued)
        return a->issued < b->issued ? -1 : 1;
    if (a->updated != b->updated)
        return a->updated < b->updated ? -1 : 1;
    int name = strcmp(a->value.source, b->value.source);
    return name ? name : (a->order > b->order) - (a->order < b->order);
}

/* Same moment and same code beside each other, better standing first, then equal values. */
static int by_moment(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    if (a->time.begin != b->time.begin)
        return a->time.begin < b->time.begin ? -1 : 1;
    if (a->time.end != b->time.end)
        return a->time.end < b->time.end ? -1 : 1;
    int code = strcmp(a->code, b->code);
    if (code)
        return code;
    if (a->standing != b->standing)
        return a->standing > b->standing ? -1 : 1;
    if (a->value.number != b->value.number)
        return a->value.number < b->value.number ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static bool same_moment(const struct candidate *a, const struct candidate *b)
{
    return a->time.begin == b->time.begin && a->time.end == b->time.end &&
           strcmp(a->code, b->code) == 0;
}

static int by_number(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    return (a->value.number > b->value.number) - (a->value.number < b->value.number);
}

/* Leaves of each moment and code the values of the best standing: a final one replaces a
 * preliminary one, a corrected one both. */
static void drop_replaced(struct candidates *list)
{
    size_t n = 0, first = 0;
    if (list->count == 0)
        return; /* qsort() takes no NULL */
    qsort(list->items, list->count, sizeof *list->items, by_moment);
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0 && !same_moment(&list->items[i], &list->items[first]))
            first = n;
        else if (i == 0)
            first = 0;
        if (first < n && list->items[i].standing < list->items[first].standing)
            continue;
        list->items[n++] = list->items[i];
    }
    list->count = n;
}

/* Equal numbers of a moment beside each other, whatever their code. */
static int by_value(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    if (a->time.begin != b->time.begin)
        return a->time.begin < b->time.begin ? -1 : 1;
    if (a->time.end != b->time.end)
        return a->time.end < b->time.end ? -1 : 1;
    return by_number(pa, pb);
}

/* Leaves one of the numbers that are there twice for the same moment. */
static void drop_equal_numbers(struct candidates *list)
{
    size_t n = 0;
    qsort(list->items, list->count, sizeof *list->items, by_value);
    for (size_t i = 0; i < list->count; i++)
        if (n == 0 || by_value(&list->items[n - 1], &list->items[i]) != 0)
            list->items[n++] = list->items[i];
    list->count = n;
}

/* Leaves one of the records that say the same: moment, code, number and text. The list is in the
 * order of by_moment. */
static void drop_duplicates(struct candidates *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct candidate *c = &list->items[i], *before = n ? &list->items[n - 1] : NULL;
        const char *text = c->value.text ? c->value.text : "";
        if (before && same_moment(before, c) && before->value.number == c->value.number &&
            strcmp(before->value.text ? before->value.text : "", text) == 0)
            continue;
        list->items[n++] = *c;
    }
    list->count = n;
}

/* --- picking --- */

static double sum_of(const struct candidates *list)
{
    double sum = 0;
    for (size_t i = 0; i < list->count; i++)
        sum += list->items[i].value.number;
    return sum;
}

/* Reorders the list. */
static double median_of(struct candidates *list)
{
    size_t half = list->count / 2;
    qsort(list->items, list->count, sizeof *list->items, by_number);
    double upper = list->items[half].value.number;
    return list->count % 2 ? upper : (list->items[half - 1].value.number + upper) / 2;
}

/* The candidate that shows source and time: min and max take the latest of equals, what is made of
 * many shows the latest. The list is not empty, and is put in the order of time. */
static struct candidate representative(enum mf_feature_pick pick, struct candidates *list)
{
    qsort(list->items, list->count, sizeof *list->items, by_time);
    struct candidate best = list->items[pick == MF_PICK_FIRST ? 0 : list->count - 1];
    for (size_t i = list->count; i-- > 0;) {
        const struct candidate *c = &list->items[i];
        if ((pick == MF_PICK_MIN && c->value.number < best.value.number) ||
            (pick == MF_PICK_MAX && c->value.number > best.value.number))
            best = *c;
    }
    return best;
}

/* The value made of a list that is not empty; reorders it. */
static struct candidate choose(const struct mf_feature *f, struct candidates *list)
{
    struct candidate best = representative(f->pick, list);
    double first = list->items[0].value.number;
    if (f->pick < MF_PICK_MEAN)
        return best;
    drop_equal_numbers(list);
    if (f->pick == MF_PICK_MEAN)
        best.value.number = sum_of(list) / (double)list->count;
    else if (f->pick == MF_PICK_MEDIAN)
        best.value.number = median_of(list);
    else if (f->pick == MF_PICK_SUM)
        best.value.number = sum_of(list);
    else if (f->pick == MF_PICK_DELTA)
        best.value.number -= first;
    return best;
}

/* Cuts the list to the values that can be used, unless there are none. Whether there are any. */
static bool keep_usable(struct candidates *list)
{
    size_t n = 0;
    drop_replaced(list);
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].value.status == MF_FEATURE_USED)
            list->items[n++] = list->items[i];
    if (n > 0)
        list->count = n;
    return n > 0;
}

/* count, present, days_since: of what lies in the window. */
static void answer_existence(const struct mf_fhir_question *q, struct candidates *list,
                             struct mf_fhir_answer *ret)
{
    const struct mf_feature *f = q->feature;
    struct mf_feature_value *v = &ret->value;
    struct candidate latest = {.value = {.source = NULL}};
    if (q->at->precision == MF_TIME_UNKNOWN || (f->pick == MF_PICK_DAYS_SINCE && list->count == 0))
        return;
    if (list->count)
        latest = representative(MF_PICK_LAST, list);
    drop_replaced(list);
    drop_duplicates(list);
    ret->time = latest.time;
    *v = (struct mf_feature_value){.source = latest.value.source, .time = latest.value.time};
    if (f->kind == MF_FEATURE_CATEGORICAL) {
        v->status = MF_FEATURE_USED;
        v->has_category = true;
        v->category = list->count > 0;
    } else if (f->pick == MF_PICK_DAYS_SINCE) {
        double days = (double)(middle(q->at) - middle(&latest.time)) / (double)MS_PER_DAY;
        mf_fhir_set_number(f, days > 0 ? days : 0, "d", v);
    } else {
        bool present = f->pick == MF_PICK_PRESENT;
        mf_fhir_set_number(f, present ? list->count > 0 : (double)list->count, "1", v);
    }
}

bool mf_fhir_ask_records(const struct mf_fhir_question *q, const struct mf_fhir_patient *patient,
                         struct mf_fhir_answer *ret, struct mf_error *err)
{
    MF_AUTO(candidates) struct candidates inside = {0};
    MF_AUTO(candidates) struct candidates older = {0};
    struct mf_feature as_last = *q->feature;
    struct candidate best;
    if (!collect(q, patient, &inside, &older, err))
        return false;
    if (asks_existence(q)) {
        answer_existence(q, &inside, ret);
        return true;
    }
    bool stale = inside.count == 0;
    struct candidates *list = stale ? &older : &inside;
    if (list->count == 0)
        return true;
    ret->usable = keep_usable(list);
    as_last.pick = q->feature->pick == MF_PICK_FIRST && !stale ? MF_PICK_FIRST : MF_PICK_LAST;
    best = choose(ret->usable && !stale ? q->feature : &as_last, list);
    ret->value = best.value;
    ret->time = best.time;
    if (stale)
        ret->value.status = MF_FEATURE_STALE;
    return true;
}
