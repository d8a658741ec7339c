/*
 * Resource → record. A row of SHAPES tells for each type which elements say what it is, whose, when
 * and whether it still stands; everything else is shared.
 */
#include "fhir/record.h"

#include <math.h>
#include <string.h>

static const char UCUM[] = "http://unitsofmeasure.org";

static const struct mf_fhir_shape SHAPES[MF_RESOURCE_COUNT] = {
    [MF_RESOURCE_PATIENT] = {.subject = NULL},
    [MF_RESOURCE_OBSERVATION] = {.codes = {"code"},
                                 .subject = "subject",
                                 .moments = {"effectiveDateTime", "effectiveInstant"},
                                 .period = "effectivePeriod",
                                 .issued = "issued",
                                 .status = "status",
                                 .voids = {"entered-in-error", "cancelled"},
                                 .preliminary = {"preliminary", "registered"},
                                 .corrected = {"amended", "corrected"}},
    [MF_RESOURCE_ENCOUNTER] = {.codes = {"class", "type"},
                               .last_is_list = true,
                               .subject = "subject",
                               .period = "period",
                               .status = "status",
                               .voids = {"entered-in-error", "cancelled", "planned"}},
    [MF_RESOURCE_CONDITION] = {.codes = {"code"},
                               .subject = "subject",
                               .moments = {"onsetDateTime"},
                               .period = "onsetPeriod",
                               .issued = "recordedDate",
                               .ended = "abatementDateTime",
                               .ended_period = "abatementPeriod",
                               .status = "verificationStatus",
                               .status_is_concept = true,
                               .voids = {"entered-in-error", "refuted"},
                               .preliminary = {"provisional", "differential", "unconfirmed"}},
    [MF_RESOURCE_PROCEDURE] = {.codes = {"code"},
                               .subject = "subject",
                               .moments = {"performedDateTime"},
                               .period = "performedPeriod",
                               .status = "status",
                               .voids = {"entered-in-error", "not-done", "preparation"}},
    [MF_RESOURCE_MEDICATION_REQUEST] = {.codes = {"medicationCodeableConcept"},
                                        .subject = "subject",
                                        .moments = {"authoredOn"},
                                        .status = "status",
                                        .voids = {"entered-in-error", "cancelled", "draft"}},
    [MF_RESOURCE_MEDICATION_STATEMENT] = {.codes = {"medicationCodeableConcept"},
                                          .subject = "subject",
                                          .moments = {"effectiveDateTime"},
                                          .period = "effectivePeriod",
                                          .issued = "dateAsserted",
                                          .status = "status",
                                          .voids = {"entered-in-error", "not-taken", "intended"}},
    [MF_RESOURCE_MEDICATION_ADMINISTRATION] = {.codes = {"medicationCodeableConcept"},
                                               .subject = "subject",
                                               .moments = {"effectiveDateTime"},
                                               .period = "effectivePeriod",
                                               .status = "status",
                                               .voids = {"entered-in-error", "not-done"}},
    [MF_RESOURCE_ALLERGY_INTOLERANCE] = {.codes = {"code"},
                                         .subject = "patient",
                                         .moments = {"onsetDateTime"},
                                         .period = "onsetPeriod",
                                         .issued = "recordedDate",
                                         .status = "verificationStatus",
                                         .status_is_concept = true,
                                         .voids = {"entered-in-error", "refuted"},
                                         .preliminary = {"unconfirmed"}},
    [MF_RESOURCE_SERVICE_REQUEST] = {.codes = {"code"},
                                     .subject = "subject",
                                     .moments = {"authoredOn", "occurrenceDateTime"},
                                     .period = "occurrencePeriod",
                                     .status = "status",
                                     .voids = {"entered-in-error", "revoked", "draft"}},
    [MF_RESOURCE_IMAGING_STUDY] = {.codes = {"modality", "procedureCode"},
                                   .last_is_list = true,
                                   .subject = "subject",
                                   .moments = {"started"},
                                   .status = "status",
                                   .voids = {"entered-in-error", "cancelled"}},
    [MF_RESOURCE_DIAGNOSTIC_REPORT] = {.codes = {"code", "conclusionCode"},
                                       .last_is_list = true,
                                       .subject = "subject",
                                       .moments = {"effectiveDateTime"},
                                       .period = "effectivePeriod",
                                       .issued = "issued",
                                       .status = "status",
                                       .voids = {"entered-in-error", "cancelled"},
                                       .preliminary = {"preliminary", "registered", "partial"},
                                       .corrected = {"amended", "corrected", "appended"}},
    [MF_RESOURCE_MEDICATION] = {.codes = {"code"}},
};

const struct mf_fhir_shape *mf_fhir_shape(enum mf_resource_type type)
{
    return &SHAPES[type];
}

enum mf_resource_type mf_fhir_type_of(const struct mf_node *resource)
{
    return mf_resource_type_parse(mf_node_string(resource, "resourceType", ""));
}

/* One reading; the first failure stays in err, and everything after it may be half done. */
struct reader {
    struct mf_fhir_pool *pool;
    struct mf_error *err;
    bool failed;
};

static const char *intern(struct reader *r, const char *s)
{
    const char *one = mf_fhir_intern(&r->pool->strings, r->pool->arena, s, r->err);
    r->failed |= s && !one;
    return one;
}

static const char *text_of(struct reader *r, const struct mf_node *object, const char *key)
{
    return intern(r, mf_node_string(object, key, NULL));
}

static void *allocate(struct reader *r, size_t n, size_t size)
{
    void *p = mf_arena_alloc(r->pool->arena, n, size, r->err);
    r->failed |= !p;
    return p;
}

/* --- concepts --- */

/* The codings of a node, counted when `out` is NULL: a concept's, a coding itself, or those of a
 * list of either. */
static size_t gather(struct reader *r, const struct mf_node *node, bool bare, struct mf_coding *out)
{
    size_t n = 0;
    const struct mf_node *codings = mf_node_get(node, "coding");
    if (!node)
        return 0;
    if (node->kind == MF_NODE_LIST || codings) {
        const struct mf_node *item = codings ? codings->first : node->first;
        for (; item; item = item->next)
            n += gather(r, item, bare, out ? out + n : NULL);
        return n;
    }
    if (!mf_node_get(node, "code") && !mf_node_get(node, "display"))
        return 0;
    if (out)
        *out = (struct mf_coding){text_of(r, node, "system"), text_of(r, node, "code"),
                                  bare ? NULL : text_of(r, node, "display")};
    return 1;
}

/* All codings of some elements. `bare`: what a resource is about is asked by system and code alone,
 * so displays and texts, which people write, stay behind. */
static void read_concepts(struct reader *r, const struct mf_node *object, const char *const names[],
                          size_t name_count, bool bare, struct mf_fhir_concept *ret)
{
    size_t count = 0, n = 0;
    for (size_t i = 0; i < name_count && names[i]; i++)
        count += gather(r, mf_node_get(object, names[i]), bare, NULL);
    struct mf_coding *codings = count ? allocate(r, count, sizeof *codings) : NULL;
    for (size_t i = 0; i < name_count && names[i]; i++) {
        const struct mf_node *node = mf_node_get(object, names[i]);
        if (codings)
            n += gather(r, node, bare, codings + n);
        if (!ret->text && !bare)
            ret->text = text_of(r, node, "text");
    }
    ret->codings = codings;
    ret->count = codings ? n : 0;
}

static void read_concept(struct reader *r, const struct mf_node *object, const char *name,
                         struct mf_fhir_concept *ret)
{
    read_concepts(r, object, &name, 1, false, ret);
}

/* --- values --- */

/* A UCUM code is the unit; a code of another system is passed over for the text, which helps where
 * that happens to be UCUM. */
static const char *unit_of(struct reader *r, const struct mf_node *quantity)
{
    const char *code = mf_node_string(quantity, "code", NULL);
    const char *system = mf_node_string(quantity, "system", UCUM);
    return code && strcmp(system, UCUM) == 0 ? intern(r, code) : text_of(r, quantity, "unit");
}

/* numerator / denominator, in the unit of both ("mg/dL" of mg and dL). */
static void read_ratio(struct reader *r, const struct mf_node *ratio, struct mf_fhir_value *v)
{
    const struct mf_node *above = mf_node_get(ratio, "numerator");
    const struct mf_node *below = mf_node_get(ratio, "denominator");
    double divisor = mf_node_number(mf_node_get(below, "value"));
    v->kind = MF_FHIR_OTHER;
    if (!mf_node_get(above, "value") || divisor == 0)
        return;
    v->kind = MF_FHIR_QUANTITY;
    v->number = mf_node_number(mf_node_get(above, "value")) / divisor;
    v->unit = unit_of(r, above);
    const char *per = unit_of(r, below);
    if (per && *per && strcmp(per, "1") != 0) {
        char unit[160];
        snprintf(unit, sizeof unit, "%.70s/%.70s", v->unit && *v->unit ? v->unit : "1", per);
        v->unit = intern(r, unit);
    }
}

static void read_value(struct reader *r, const struct mf_node *holder, struct mf_fhir_value *v)
{
    static const char *const OTHERS[] = {"valueRange", "valueSampledData", "valueTime",
                                         "valueDateTime", "valuePeriod"};
    const struct mf_node *quantity = mf_node_get(holder, "valueQuantity");
    const struct mf_node *integer = mf_node_get(holder, "valueInteger");
    const struct mf_node *boolean = mf_node_get(holder, "valueBoolean");
    const struct mf_node *ratio = mf_node_get(holder, "valueRatio");
    const char *string = mf_node_string(holder, "valueString", NULL);
    if (mf_node_get(holder, "dataAbsentReason"))
        return;
    if (mf_node_get(quantity, "value")) {
        v->kind = MF_FHIR_QUANTITY;
        v->number = mf_node_number(mf_node_get(quantity, "value"));
        v->unit = unit_of(r, quantity);
    } else if (integer) {
        v->kind = MF_FHIR_INTEGER;
        v->number = mf_node_number(integer);
    } else if (boolean) {
        v->kind = MF_FHIR_BOOLEAN;
        v->number = boolean->kind == MF_NODE_TRUE;
    } else if (mf_node_get(holder, "valueCodeableConcept")) {
        v->kind = MF_FHIR_CONCEPT;
        read_concept(r, holder, "valueCodeableConcept", &v->concept);
    } else if (string && *string) {
        v->kind = MF_FHIR_STRING;
        v->text = intern(r, string);
    } else if (ratio) {
        read_ratio(r, ratio, v);
    }
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS && v->kind == MF_FHIR_NO_VALUE; i++)
        if (mf_node_get(holder, OTHERS[i]))
            v->kind = MF_FHIR_OTHER;
}

/* The first reference range that is not for some group of people. */
static void read_range(struct reader *r, const struct mf_node *holder, struct mf_fhir_item *item)
{
    const struct mf_node *range = mf_node_children(holder, "referenceRange");
    item->low = item->high = NAN;
    while (range && mf_node_get(range, "appliesTo"))
        range = range->next;
    const struct mf_node *low = mf_node_get(range, "low"), *high = mf_node_get(range, "high");
    if (mf_node_get(low, "value"))
        item->low = mf_node_number(mf_node_get(low, "value"));
    if (mf_node_get(high, "value"))
        item->high = mf_node_number(mf_node_get(high, "value"));
    item->range_unit = unit_of(r, high ? high : low);
}

static void read_item(struct reader *r, const struct mf_node *holder, struct mf_fhir_item *item)
{
    read_value(r, holder, &item->value);
    read_concept(r, holder, "interpretation", &item->interpretation);
    read_range(r, holder, item);
}

static void read_components(struct reader *r, const struct mf_node *resource,
                            struct mf_fhir_record *record)
{
    const struct mf_node *list = mf_node_get(resource, "component");
    if (!list || !list->count)
        return;
    struct mf_fhir_item *items = allocate(r, list->count, sizeof *items);
    size_t n = 0;
    for (const struct mf_node *c = items ? list->first : NULL; c; c = c->next, n++) {
        static const char *const CODE[] = {"code"};
        read_concepts(r, c, CODE, 1, true, &items[n].code);
        read_item(r, c, &items[n]);
    }
    record->components = items;
    record->component_count = n;
}

/* --- whose, when, whether --- */

static void read_identifier(struct reader *r, const struct mf_node *identifier,
                            struct mf_fhir_identifier *ret)
{
    ret->system = text_of(r, identifier, "system");
    ret->value = text_of(r, identifier, "value");
    ret->assigner = text_of(r, mf_node_get(identifier, "assigner"), "display");
}

static void read_subject(struct reader *r, const struct mf_node *subject,
                         struct mf_fhir_record *record)
{
    record->has_subject = subject != NULL;
    record->subject = text_of(r, subject, "reference");
    record->subject_type = text_of(r, subject, "type");
    read_identifier(r, mf_node_get(subject, "identifier"), &record->subject_id);
}

static void read_times(struct reader *r, const struct mf_node *resource,
                       const struct mf_fhir_shape *shape, struct mf_fhir_record *record)
{
    const struct mf_node *period = shape->period ? mf_node_get(resource, shape->period) : NULL;
    for (size_t i = 0; i < 2 && !record->start && shape->moments[i]; i++)
        record->start = text_of(r, resource, shape->moments[i]);
    if (!record->start && period) {
        record->is_period = true;
        record->start = text_of(r, period, "start");
        record->end = text_of(r, period, "end");
    }
    if (shape->issued)
        record->issued = text_of(r, resource, shape->issued);
    if (shape->ended)
        record->ended = text_of(r, resource, shape->ended);
    if (shape->ended_period && !record->ended) {
        const struct mf_node *over = mf_node_get(resource, shape->ended_period);
        record->ended = text_of(r, over, mf_node_get(over, "end") ? "end" : "start");
    }
}

static bool among(const char *s, const char *const list[], size_t count)
{
    for (size_t i = 0; i < count && list[i]; i++)
        if (strcmp(list[i], s) == 0)
            return true;
    return false;
}

/* The status is a code, or the first code of a concept. A request that forbids, or only proposes,
 * is void too. */
static void read_standing(struct reader *r, const struct mf_node *resource,
                          const struct mf_fhir_shape *shape, struct mf_fhir_record *record)
{
    const struct mf_node *status = shape->status ? mf_node_get(resource, shape->status) : NULL;
    const struct mf_node *forbids = mf_node_get(resource, "doNotPerform");
    const char *intent = mf_node_string(resource, "intent", "");
    if (status && status->kind == MF_NODE_STRING)
        record->status = intern(r, status->text);
    else
        record->status = text_of(r, mf_node_children(status, "coding"), "code");
    const char *s = record->status ? record->status : "";
    record->standing = among(s, shape->voids, 3)         ? MF_FHIR_VOID
                       : among(s, shape->preliminary, 3) ? MF_FHIR_PRELIMINARY
                       : among(s, shape->corrected, 3)   ? MF_FHIR_CORRECTED
                                                         : MF_FHIR_FINAL;
    if ((forbids && forbids->kind == MF_NODE_TRUE) || strcmp(intent, "proposal") == 0)
        record->standing = MF_FHIR_VOID;
}

/* What lasts: by clinicalStatus where there is one, else by the status. What has an end lasted
 * until then. */
static void read_ongoing(struct reader *r, const struct mf_node *resource,
                         struct mf_fhir_record *record)
{
    static const char *const OVER[] = {"inactive", "remission", "resolved"};
    static const char *const RUNNING[] = {"active",  "on-hold", "in-progress",
                                          "arrived", "triaged", "onleave"};
    const struct mf_node *clinical = mf_node_get(resource, "clinicalStatus");
    record->clinical = text_of(r, mf_node_children(clinical, "coding"), "code");
    if (record->type == MF_RESOURCE_ENCOUNTER || record->type == MF_RESOURCE_MEDICATION_STATEMENT)
        record->ended = record->end;
    if (record->type == MF_RESOURCE_CONDITION || record->type == MF_RESOURCE_ALLERGY_INTOLERANCE)
        record->ongoing = record->ended || !record->clinical || !among(record->clinical, OVER, 3);
    else if (mf_fhir_lasts(record->type))
        record->ongoing = record->ended || (record->status && among(record->status, RUNNING, 6));
}

static void read_members(struct reader *r, const struct mf_node *resource, const char *name,
                         struct mf_fhir_record *record)
{
    const struct mf_node *list = mf_node_get(resource, name);
    if (!list || !list->count)
        return;
    const char **members = allocate(r, list->count, sizeof *members);
    size_t n = 0;
    for (const struct mf_node *m = members ? list->first : NULL; m; m = m->next)
        if ((members[n] = text_of(r, m, "reference")))
            n++;
    record->members = members;
    record->member_count = n;
}

static void read_patient(struct reader *r, const struct mf_node *patient,
                         struct mf_fhir_record *record)
{
    const struct mf_node *list = mf_node_get(patient, "identifier");
    size_t n = 0;
    record->birth_date = text_of(r, patient, "birthDate");
    record->gender = text_of(r, patient, "gender");
    if (!list || !list->count)
        return;
    struct mf_fhir_identifier *ids = allocate(r, list->count, sizeof *ids);
    for (const struct mf_node *i = ids ? list->first : NULL; i; i = i->next)
        if (*mf_node_string(i, "value", "") && strcmp(mf_node_string(i, "use", ""), "old") != 0)
            read_identifier(r, i, &ids[n++]);
    record->identifiers = ids;
    record->identifier_count = n;
}

bool mf_fhir_read_record(struct mf_fhir_pool *pool, const struct mf_node *resource,
                         enum mf_resource_type type, struct mf_fhir_record *ret,
                         struct mf_error *err)
{
    struct reader r = {.pool = pool, .err = err};
    const struct mf_fhir_shape *shape = &SHAPES[type];
    struct mf_fhir_record record = {.type = type, .container = -1, .updated_ms = INT64_MIN};
    const char *updated = mf_node_string(mf_node_get(resource, "meta"), "lastUpdated", NULL);
    struct mf_time t;
    if (updated && mf_time_parse_fhir(updated, &t, NULL))
        record.updated_ms = t.begin;
    read_concepts(&r, resource, shape->codes, 2, true, &record.item.code);
    if (shape->subject)
        read_subject(&r, mf_node_get(resource, shape->subject), &record);
    read_times(&r, resource, shape, &record);
    read_standing(&r, resource, shape, &record);
    read_ongoing(&r, resource, &record);
    if (type == MF_RESOURCE_OBSERVATION) {
        read_item(&r, resource, &record.item);
        read_components(&r, resource, &record);
        read_members(&r, resource, "hasMember", &record);
    } else if (type == MF_RESOURCE_DIAGNOSTIC_REPORT) {
        read_members(&r, resource, "result", &record);
    } else if (type == MF_RESOURCE_PATIENT) {
        read_patient(&r, resource, &record);
    }
    record.medication = text_of(&r, mf_node_get(resource, "medicationReference"), "reference");
    if (!r.failed)
        *ret = record;
    return !r.failed;
}
