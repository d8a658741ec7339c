/*
 * The shape of what MedFusion reads of a resource (http://hl7.org/fhir/R4/resourcelist.html,
 * json.html): JSON types and dates. Not a validator: elements that are not read are not looked at,
 * code systems are not checked.
 *
 * A table holds the elements of each type, so that what is read (record.c) and what is checked can
 * be compared at a glance.
 */
#include "fhir/record.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum kind { STRING, NUMBER, INTEGER, BOOLEAN, DATE, OBJECT, LIST /* of objects */ };

struct element {
    const char *name;
    enum kind kind;
    bool required;
    const struct element *inside; /* of OBJECT and of each item of LIST; NULL = not looked into */
};

#define TEXT(name)                                                                                 \
    {                                                                                              \
        name, STRING, false, NULL                                                                  \
    }
#define DAY(name)                                                                                  \
    {                                                                                              \
        name, DATE, false, NULL                                                                    \
    }
#define PART(name, table)                                                                          \
    {                                                                                              \
        name, OBJECT, false, table                                                                 \
    }
#define PARTS(name, table)                                                                         \
    {                                                                                              \
        name, LIST, false, table                                                                   \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, STRING, false, NULL                                                                  \
    }

static const struct element CODING[] = {TEXT("system"), TEXT("code"), TEXT("display"), END};
static const struct element CONCEPT[] = {PARTS("coding", CODING), TEXT("text"), END};
static const struct element QUANTITY[] = {{"value", NUMBER, false, NULL},
                                          TEXT("comparator"),
                                          TEXT("unit"),
                                          TEXT("system"),
                                          TEXT("code"),
                                          END};
static const struct element RATIO[] = {PART("numerator", QUANTITY), PART("denominator", QUANTITY),
                                       END};
static const struct element RANGE[] = {
    PART("low", QUANTITY), PART("high", QUANTITY), {"appliesTo", LIST, false, NULL}, END};
static const struct element PERIOD[] = {DAY("start"), DAY("end"), END};
static const struct element ASSIGNER[] = {TEXT("display"), END};
static const struct element IDENTIFIER[] = {TEXT("use"), TEXT("system"), TEXT("value"),
                                            PART("assigner", ASSIGNER), END};
static const struct element REFERENCE[] = {TEXT("reference"), TEXT("type"),
                                           PART("identifier", IDENTIFIER), END};
static const struct element META[] = {DAY("lastUpdated"), END};

#define VALUE_ELEMENTS                                                                             \
    PART("valueQuantity", QUANTITY), {"valueInteger", INTEGER, false, NULL}, TEXT("valueString"),  \
        {"valueBoolean", BOOLEAN, false, NULL}, PART("valueCodeableConcept", CONCEPT),             \
        PART("valueRatio", RATIO), PART("dataAbsentReason", CONCEPT),                              \
        PARTS("interpretation", CONCEPT), PARTS("referenceRange", RANGE)

static const struct element COMPONENT[] = {{"code", OBJECT, true, CONCEPT}, VALUE_ELEMENTS, END};
static const struct element OBSERVATION[] = {
    PART("meta", META),
    TEXT("status"),
    {"code", OBJECT, true, CONCEPT},
    PART("subject", REFERENCE),
    DAY("effectiveDateTime"),
    DAY("effectiveInstant"),
    PART("effectivePeriod", PERIOD),
    DAY("issued"),
    VALUE_ELEMENTS,
    PARTS("component", COMPONENT),
    PARTS("hasMember", REFERENCE),
    END,
};
static const struct element PATIENT[] = {PART("meta", META), PARTS("identifier", IDENTIFIER),
                                         DAY("birthDate"), TEXT("gender"), END};
static const struct element ENCOUNTER[] = {PART("meta", META),
                                           TEXT("status"),
                                           PART("class", CODING),
                                           PARTS("type", CONCEPT),
                                           PART("subject", REFERENCE),
                                           PART("period", PERIOD),
                                           END};
static const struct element CONDITION[] = {PART("meta", META),
                                           PART("clinicalStatus", CONCEPT),
                                           PART("verificationStatus", CONCEPT),
                                           PART("code", CONCEPT),
                                           PART("subject", REFERENCE),
                                           DAY("onsetDateTime"),
                                           PART("onsetPeriod", PERIOD),
                                           DAY("abatementDateTime"),
                                           PART("abatementPeriod", PERIOD),
                                           DAY("recordedDate"),
                                           END};
static const struct element PROCEDURE[] = {PART("meta", META),
                                           TEXT("status"),
                                           PART("code", CONCEPT),
                                           PART("subject", REFERENCE),
                                           DAY("performedDateTime"),
                                           PART("performedPeriod", PERIOD),
                                           END};
static const struct element MEDICATION_USE[] = {
    PART("meta", META), /* Request, Statement and Administration */
    TEXT("status"),
    TEXT("intent"),
    {"doNotPerform", BOOLEAN, false, NULL},
    PART("medicationCodeableConcept", CONCEPT),
    PART("medicationReference", REFERENCE),
    PART("subject", REFERENCE),
    DAY("authoredOn"),
    DAY("effectiveDateTime"),
    PART("effectivePeriod", PERIOD),
    DAY("dateAsserted"),
    END,
};
static const struct element ALLERGY[] = {PART("meta", META),
                                         PART("clinicalStatus", CONCEPT),
                                         PART("verificationStatus", CONCEPT),
                                         PART("code", CONCEPT),
                                         PART("patient", REFERENCE),
                                         DAY("onsetDateTime"),
                                         PART("onsetPeriod", PERIOD),
                                         DAY("recordedDate"),
                                         END};
static const struct element SERVICE_REQUEST[] = {PART("meta", META),
                                                 TEXT("status"),
                                                 TEXT("intent"),
                                                 {"doNotPerform", BOOLEAN, false, NULL},
                                                 PART("code", CONCEPT),
                                                 PART("subject", REFERENCE),
                                                 DAY("occurrenceDateTime"),
                                                 PART("occurrencePeriod", PERIOD),
                                                 DAY("authoredOn"),
                                                 END};
static const struct element IMAGING_STUDY[] = {PART("meta", META),
                                               TEXT("status"),
                                               PARTS("modality", CODING),
                                               PARTS("procedureCode", CONCEPT),
                                               PART("subject", REFERENCE),
                                               DAY("started"),
                                               END};
static const struct element REPORT[] = {PART("meta", META),
                                        TEXT("status"),
                                        PART("code", CONCEPT),
                                        PART("subject", REFERENCE),
                                        DAY("effectiveDateTime"),
                                        PART("effectivePeriod", PERIOD),
                                        DAY("issued"),
                                        PARTS("result", REFERENCE),
                                        PARTS("conclusionCode", CONCEPT),
                                        END};
static const struct element MEDICATION[] = {PART("meta", META), PART("code", CONCEPT), END};

static const struct element *const TABLES[MF_RESOURCE_COUNT] = {
    [MF_RESOURCE_PATIENT] = PATIENT,
    [MF_RESOURCE_OBSERVATION] = OBSERVATION,
    [MF_RESOURCE_ENCOUNTER] = ENCOUNTER,
    [MF_RESOURCE_CONDITION] = CONDITION,
    [MF_RESOURCE_PROCEDURE] = PROCEDURE,
    [MF_RESOURCE_MEDICATION_REQUEST] = MEDICATION_USE,
    [MF_RESOURCE_MEDICATION_STATEMENT] = MEDICATION_USE,
    [MF_RESOURCE_MEDICATION_ADMINISTRATION] = MEDICATION_USE,
    [MF_RESOURCE_ALLERGY_INTOLERANCE] = ALLERGY,
    [MF_RESOURCE_SERVICE_REQUEST] = SERVICE_REQUEST,
    [MF_RESOURCE_IMAGING_STUDY] = IMAGING_STUDY,
    [MF_RESOURCE_DIAGNOSTIC_REPORT] = REPORT,
    [MF_RESOURCE_MEDICATION] = MEDICATION,
};

static bool has_kind(const struct mf_node *v, enum kind kind)
{
    struct mf_time ignored;
    switch (kind) {
    case STRING:
        return v->kind == MF_NODE_STRING && v->text;
    case NUMBER:
        return v->kind == MF_NODE_NUMBER && isfinite(mf_node_number(v));
    case INTEGER:
        return v->kind == MF_NODE_NUMBER && !strpbrk(v->text, ".eE");
    case BOOLEAN:
        return v->kind == MF_NODE_TRUE || v->kind == MF_NODE_FALSE;
    case DATE:
        return v->kind == MF_NODE_STRING && v->text && mf_time_parse_fhir(v->text, &ignored, NULL);
    case OBJECT:
        return v->kind == MF_NODE_OBJECT;
    case LIST:
        break;
    }
    for (const struct mf_node *item = v->first; v->kind == MF_NODE_LIST && item; item = item->next)
        if (item->kind != MF_NODE_OBJECT)
            return false;
    return v->kind == MF_NODE_LIST;
}

/* Where a check is, made to text only when it fails: tables nest at most five deep. */
struct trail {
    const struct trail *up;
    const char *name;
    long index; /* of the item in a list, or −1 */
};

static void write_trail(const struct trail *t, char *out, size_t size)
{
    char index[24] = "";
    if (t->up)
        write_trail(t->up, out, size);
    if (t->index >= 0)
        snprintf(index, sizeof index, "[%ld]", t->index);
    size_t len = strlen(out);
    snprintf(out + len, size - len, "%s%s%s", len ? "." : "", t->name, index);
}

static bool wrong(const struct trail *up, const struct element *e, struct mf_error *err)
{
    static const char *const NAMES[] = {"a string",
                                        "a number",
                                        "a whole number",
                                        "true or false",
                                        "a FHIR date (YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])",
                                        "an object",
                                        "a list of objects"};
    char path[200] = "";
    write_trail(&(struct trail){up, e->name, -1}, path, sizeof path);
    return mf_error_set(err, MF_ERR_MALFORMED, "%s must be %s", path, NAMES[e->kind]);
}

static bool check(const struct mf_node *object, const struct element *table, const struct trail *up,
                  struct mf_error *err)
{
    for (const struct element *e = table; e->name; e++) {
        const struct mf_node *v = mf_node_get(object, e->name);
        if (!v && !e->required)
            continue;
        if (!v || !has_kind(v, e->kind))
            return wrong(up, e, err);
        struct trail here = {up, e->name, -1};
        if (e->inside && e->kind == OBJECT && !check(v, e->inside, &here, err))
            return false;
        if (!e->inside || e->kind != LIST)
            continue;
        for (const struct mf_node *item = v->first; item; item = item->next) {
            here.index++;
            if (!check(item, e->inside, &here, err))
                return false;
        }
    }
    return true;
}

bool mf_fhir_check(const struct mf_node *resource, enum mf_resource_type type, const char *path,
                   struct mf_error *err)
{
    const struct trail root = {NULL, path, -1};
    return check(resource, TABLES[type], &root, err);
}
