/* Study: judging objects by the caller's rules and grouping them into patients and studies. */
#include "dicom/study.h"

#include "dicom/study_list.h"
#include "dicom/syntax.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { ARENA_CEILING = 256 << 20, DEFAULT_FRAMES = 32, DEFAULT_PRIORS = 31 };

/* ---- judging ---- */

static bool listed(const char *value, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(value, list[i]) == 0)
            return true;
    return false;
}

/* "CR, DX" */
static void join(const char *const *list, size_t count, char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && at < size; i++) {
        int n = snprintf(out + at, size - at, "%s%s", i ? ", " : "", list[i]);
        at += n > 0 ? (size_t)n : 0;
    }
}

/* Checks one attribute against its list; false only without memory. */
static bool judge_attribute(struct mf_study_list *l, const char *name, const char *value,
                            const char *const *list, size_t count, bool required,
                            const char **reason, struct mf_error *err)
{
    char accepted[128];
    if (*reason || count == 0 || (!value && !required) || (value && listed(value, list, count)))
        return true;
    join(list, count, accepted, sizeof accepted);
    *reason = value ? mf_arena_printf(l->arena, err, "the %s %.32s is not accepted (%s)", name,
                                      value, accepted)
                    : mf_arena_printf(l->arena, err, "it has no %s (%s)", name, accepted);
    return *reason != NULL;
}

/* Third value of ImageType (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1). */
static bool is_localizer(const char *image_type)
{
    const char *value = image_type;
    for (int i = 0; value && i < 2; i++) {
        value = strchr(value, '\\');
        value = value ? value + 1 : NULL;
    }
    return value && strncasecmp(value, "LOCALIZER", 9) == 0;
}

static bool judge(struct mf_study_list *l, const struct mf_index_object *o, const char **reason,
                  struct mf_error *err)
{
    const struct mf_study_rules *r = &l->rules;
    const char *kind = mf_sop_class_kind(o->sop_class_uid);
    *reason = kind                                  ? kind
              : o->pixel_data == MF_PIXEL_DATA_NONE ? "it has no pixel data"
              : o->problem                          ? o->problem
              : is_localizer(o->image_type)         ? "a localiser"
                                                    : NULL;
    return judge_attribute(l, "modality", o->modality, r->modalities, r->modality_count,
                           r->require_modality, reason, err) &&
           judge_attribute(l, "view position", o->view_position, r->views, r->view_count,
                           r->require_view, reason, err) &&
           judge_attribute(l, "body part", o->body_part, r->body_parts, r->body_part_count,
                           r->require_body_part, reason, err);
}

static int compare_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

/* An object that came twice is used once; `sorted` has equal UIDs side by side, in index order. */
static void mark_duplicates(struct mf_study_list *l)
{
    for (size_t i = 1; i < l->count; i++) {
        const char *uid = l->sorted[i]->object->sop_instance_uid;
        if (uid && !l->sorted[i]->reason &&
            compare_text(uid, l->sorted[i - 1]->object->sop_instance_uid) == 0)
            l->sorted[i]->reason = "it came twice";
    }
}

static int by_instance(const void *a, const void *b)
{
    const struct mf_study_entry *x = *(struct mf_study_entry *const *)a;
    const struct mf_study_entry *y = *(struct mf_study_entry *const *)b;
    int order = compare_text(x->object->sop_instance_uid, y->object->sop_instance_uid);
    return order ? order : (x > y) - (x < y);
}

static bool is_intent(const struct mf_index_object *o, const char *intent)
{
    return o->presentation_intent && strcmp(o->presentation_intent, intent) == 0;
}

/* A study often holds each exposure twice (PS3.3 C.8.11.1): raw for processing, and for
 * presentation. Beside the latter the former would count as images of their own. */
static void drop_raw_twins(struct mf_study_entry *const *entries, size_t n)
{
    bool presentable = false;
    for (size_t i = 0; i < n; i++)
        presentable |= !entries[i]->reason && is_intent(entries[i]->object, "FOR PRESENTATION");
    for (size_t i = 0; presentable && i < n; i++)
        if (!entries[i]->reason && is_intent(entries[i]->object, "FOR PROCESSING"))
            entries[i]->reason = "raw data beside an image for presentation";
}

/* ---- grouping ---- */

/* Media directories and the like belong to no patient. */
static bool belongs_to_patient(const struct mf_index_object *o)
{
    return o->study_instance_uid || o->patient_id || o->pixel_data != MF_PIXEL_DATA_NONE;
}

/* Empty PatientIDs are told apart by the study. */
static int compare_patient(const struct mf_index_object *a, const struct mf_index_object *b)
{
    int order = compare_text(a->patient_id, b->patient_id);
    if (order == 0)
        order = compare_text(a->patient_id_issuer, b->patient_id_issuer);
    if (order == 0 && !a->patient_id)
        order = compare_text(a->study_instance_uid, b->study_instance_uid);
    return order;
}

static int by_patient_and_study(const void *a, const void *b)
{
    const struct mf_study_entry *x = *(struct mf_study_entry *const *)a;
    const struct mf_study_entry *y = *(struct mf_study_entry *const *)b;
    int order = compare_patient(x->object, y->object);
    if (order == 0)
        order = compare_text(x->object->study_instance_uid, y->object->study_instance_uid);
    return order ? order : (x > y) - (x < y);
}

/* Digits of a date or time, so that "2019.03.07" and "20190307" compare alike. */
static void digits(const char *text, char *out, size_t size)
{
    size_t n = 0;
    for (; text && *text && n + 1 < size; text++)
        if (*text >= '0' && *text <= '9')
            out[n++] = *text;
    out[n] = '\0';
}

static int compare_digits(const char *a, const char *b)
{
    char x[32], y[32];
    digits(a, x, sizeof x);
    digits(b, y, sizeof y);
    return strcmp(x, y);
}

static int by_date(const void *a, const void *b)
{
    const struct mf_study *x = a, *y = b;
    int order = compare_digits(x->study_date, y->study_date);
    if (order == 0)
        order = compare_digits(x->study_time, y->study_time);
    return order ? order : strcmp(x->study_instance_uid, y->study_instance_uid);
}

static void first_value(const char **field, const char *value)
{
    if (!*field)
        *field = value;
}

/* One study of the entries [begin, end), which are in index order. */
static bool fill_study(struct mf_study_list *l, struct mf_study_entry *const *begin, size_t n,
                       struct mf_study *study, struct mf_error *err)
{
    const struct mf_index_object **objects =
        mf_arena_alloc(l->arena, n, sizeof(const struct mf_index_object *), err);
    if (!objects)
        return false;
    const char *uid = begin[0]->object->study_instance_uid;
    drop_raw_twins(begin, n);
    *study = (struct mf_study){
        .study_instance_uid = uid ? uid : "", .objects = objects, .object_count = n};
    for (size_t i = 0; i < n; i++) {
        const struct mf_index_object *o = begin[i]->object;
        objects[i] = o;
        first_value(&study->study_date, o->study_date);
        first_value(&study->study_time, o->study_time);
        first_value(&study->timezone_offset, o->timezone_offset);
        first_value(&study->order.accession, o->accession_number);
        first_value(&study->order.placer, o->placer_order);
        first_value(&study->order.filler, o->filler_order);
        first_value(&study->order.procedure, o->requested_procedure_id);
        first_value(&study->order.step, o->scheduled_step_id);
        if (!begin[i]->reason && study->usable++ == 0)
            study->modality = o->modality;
    }
    if (study->usable == 0)
        study->modality = begin[0]->object->modality;
    return true;
}

/* One patient of the entries [begin, begin + n), which are sorted by study. */
static bool fill_patient(struct mf_study_list *l, struct mf_study_entry *const *begin, size_t n,
                         struct mf_study_patient *patient, struct mf_error *err)
{
    struct mf_study *studies = mf_arena_alloc(l->arena, n, sizeof *studies, err);
    if (!studies)
        return false;
    size_t count = 0;
    for (size_t i = 0, next; i < n; i = next) {
        for (next = i + 1; next < n && compare_text(begin[i]->object->study_instance_uid,
                                                    begin[next]->object->study_instance_uid) == 0;)
            next++;
        if (!fill_study(l, begin + i, next - i, &studies[count++], err))
            return false;
    }
    qsort(studies, count, sizeof *studies, by_date);
    *patient = (struct mf_study_patient){.patient_id = begin[0]->object->patient_id,
                                         .issuer = begin[0]->object->patient_id_issuer,
                                         .studies = studies,
                                         .study_count = count};
    return true;
}

/* Patients come in the order of their first object. */
struct group {
    size_t begin, count;
    const struct mf_study_entry *first;
};

static int by_first(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static bool group_patients(struct mf_study_list *l, struct mf_error *err)
{
    size_t n = 0, count = 0;
    for (size_t i = 0; i < l->count; i++)
        if (belongs_to_patient(l->entries[i].object))
            l->sorted[n++] = &l->entries[i];
    qsort(l->sorted, n, sizeof(struct mf_study_entry *), by_patient_and_study);
    struct group *groups = mf_arena_alloc(l->arena, n, sizeof *groups, err);
    if (!groups)
        return false;
    for (size_t i = 0, next; i < n; i = next) {
        const struct mf_study_entry *first = l->sorted[i];
        for (next = i + 1;
             next < n && compare_patient(l->sorted[i]->object, l->sorted[next]->object) == 0;
             next++)
            first = l->sorted[next] < first ? l->sorted[next] : first;
        groups[count++] = (struct group){i, next - i, first};
    }
    qsort(groups, count, sizeof *groups, by_first);
    l->patients = mf_arena_alloc(l->arena, count, sizeof *l->patients, err);
    for (size_t i = 0; l->patients && i < count; i++)
        if (!fill_patient(l, l->sorted + groups[i].begin, groups[i].count, &l->patients[i], err))
            return false;
    l->patient_count = count;
    return l->patients != NULL;
}

/* ---- the list ---- */

static bool list_skipped(struct mf_study_list *l, const struct mf_index *index,
                         struct mf_error *err)
{
    size_t most = l->count + index->skipped_count;
    l->skipped = mf_arena_alloc(l->arena, most, sizeof *l->skipped, err);
    if (!l->skipped)
        return false;
    for (size_t i = 0; i < l->count; i++) {
        const struct mf_index_object *o = l->entries[i].object;
        if (l->entries[i].reason)
            l->skipped[l->skipped_count++] = (struct mf_study_skipped){
                .object = o,
                .name = o->sop_instance_uid ? o->sop_instance_uid : o->name,
                .reason = l->entries[i].reason};
    }
    for (size_t i = 0; i < index->skipped_count; i++)
        l->skipped[l->skipped_count++] = (struct mf_study_skipped){
            .name = index->skipped[i].name, .reason = index->skipped[i].reason};
    return true;
}

static bool fill(struct mf_study_list *l, const struct mf_index *index, struct mf_error *err)
{
    l->count = index->object_count;
    l->entries = mf_arena_alloc(l->arena, l->count, sizeof *l->entries, err);
    l->sorted = mf_arena_alloc(l->arena, l->count, sizeof(struct mf_study_entry *), err);
    if (!l->entries || !l->sorted)
        return false;
    for (size_t i = 0; i < l->count; i++) {
        l->entries[i].object = &index->objects[i];
        l->sorted[i] = &l->entries[i];
        if (!judge(l, &index->objects[i], &l->entries[i].reason, err))
            return false;
    }
    qsort(l->sorted, l->count, sizeof(struct mf_study_entry *), by_instance);
    mark_duplicates(l);
    return group_patients(l, err) && list_skipped(l, index, err);
}

struct mf_study_list *mf_study_list_new(const struct mf_index *index,
                                        const struct mf_study_rules *rules, struct mf_error *err)
{
    MF_AUTO(mf_study_list) struct mf_study_list *l = calloc(1, sizeof *l);
    if (!l || !(l->arena = mf_arena_new(ARENA_CEILING))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the studies");
        return NULL;
    }
    if (rules)
        l->rules = *rules;
    if (!l->rules.max_frames)
        l->rules.max_frames = DEFAULT_FRAMES;
    if (!l->rules.max_priors)
        l->rules.max_priors = DEFAULT_PRIORS;
    l->index = index;
    if (!fill(l, index, err))
        return NULL;
    return MF_STEAL(l);
}

void mf_study_list_free(struct mf_study_list *list)
{
    if (!list)
        return;
    mf_arena_free(list->arena);
    free(list);
}

const struct mf_study_patient *mf_study_list_patients(const struct mf_study_list *list,
                                                      size_t *count)
{
    *count = list->patient_count;
    return list->patients;
}

const struct mf_study_skipped *mf_study_list_skipped(const struct mf_study_list *list,
                                                     size_t *count)
{
    *count = list->skipped_count;
    return list->skipped;
}
