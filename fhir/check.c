/*
 * The shape of what MedFusion reads of a Patient and an Observation
 * (http://hl7.org/fhir/R4/patient.html, observation.html, json.html): JSON types and dates. Not a
 * validator: elements that are not read are not looked at, code systems are not checked.
 *
 * A table holds the elements of each type, so that what is read and what is checked can be compared
 * at a glance.
 */
#include "fhir/internal.h"

#include <string.h>

enum kind { STRING, NUMBER, INTEGER, BOOLEAN, DATE, OBJECT, LIST /* of objects */ };

struct element {
    const char *name;
    enum kind kind;
    bool required;
    const struct element *inside; /* of OBJECT and of each item of LIST; NULL = not looked into */
};

static const struct element CODING[] = {
    {"system", STRING, false, NULL},
    {"code", STRING, false, NULL},
    {"display", STRING, false, NULL},
    {NULL, STRING, false, NULL},
};
static const struct element CONCEPT[] = {
    {"coding", LIST, false, CODING},
    {"text", STRING, false, NULL},
    {NULL, STRING, false, NULL},
};
static const struct element QUANTITY[] = {
    {"value", NUMBER, false, NULL}, {"comparator", STRING, false, NULL},
    {"unit", STRING, false, NULL},  {"system", STRING, false, NULL},
    {"code", STRING, false, NULL},  {NULL, STRING, false, NULL},
};
static const struct element PERIOD[] = {
    {"start", DATE, false, NULL},
    {"end", DATE, false, NULL},
    {NULL, STRING, false, NULL},
};
static const struct element ASSIGNER[] = {
    {"display", STRING, false, NULL},
    {NULL, STRING, false, NULL},
};
static const struct element IDENTIFIER[] = {
    {"use", STRING, false, NULL},   {"system", STRING, false, NULL},
    {"value", STRING, false, NULL}, {"assigner", OBJECT, false, ASSIGNER},
    {NULL, STRING, false, NULL},
};
static const struct element REFERENCE[] = {
    {"reference", STRING, false, NULL},
    {"type", STRING, false, NULL},
    {"identifier", OBJECT, false, IDENTIFIER},
    {NULL, STRING, false, NULL},
};
static const struct element META[] = {
    {"lastUpdated", DATE, false, NULL},
    {NULL, STRING, false, NULL},
};

#define VALUE_ELEMENTS                                                                             \
    {"valueQuantity", OBJECT, false, QUANTITY}, {"valueInteger", INTEGER, false, NULL},            \
        {"valueString", STRING, false, NULL}, {"valueBoolean", BOOLEAN, false, NULL},              \
        {"valueCodeableConcept", OBJECT, false, CONCEPT},                                          \
    {                                                                                              \
        "dataAbsentReason", OBJECT, false, CONCEPT                                                 \
    }

static const struct element COMPONENT[] = {
    {"code", OBJECT, true, CONCEPT},
    VALUE_ELEMENTS,
    {NULL, STRING, false, NULL},
};
static const struct element OBSERVATION[] = {
    {"meta", OBJECT, false, META},
    {"status", STRING, false, NULL},
    {"code", OBJECT, true, CONCEPT},
    {"subject", OBJECT, false, REFERENCE},
    {"effectiveDateTime", DATE, false, NULL},
    {"effectiveInstant", DATE, false, NULL},
    {"effectivePeriod", OBJECT, false, PERIOD},
    {"issued", DATE, false, NULL},
    VALUE_ELEMENTS,
    {"component", LIST, false, COMPONENT},
    {NULL, STRING, false, NULL},
};
static const struct element PATIENT[] = {
    {"meta", OBJECT, false, META},    {"identifier", LIST, false, IDENTIFIER},
    {"birthDate", DATE, false, NULL}, {"gender", STRING, false, NULL},
    {NULL, STRING, false, NULL},
};

static bool has_kind(const json_t *v, enum kind kind)
{
    struct mf_time ignored;
    switch (kind) {
    case STRING:
        return json_is_string(v);
    case NUMBER:
        return json_is_number(v);
    case INTEGER:
        return json_is_integer(v);
    case BOOLEAN:
        return json_is_boolean(v);
    case DATE:
        return json_is_string(v) && mf_time_parse_fhir(json_string_value(v), &ignored, NULL);
    case OBJECT:
        return json_is_object(v);
    case LIST:
        break;
    }
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_object(json_array_get(v, i)))
            return false;
    return json_is_array(v);
}

/* Checks `object` by its table; `path` ("Observation.code") names it. Tables nest at most four
 * deep. */
static bool check(const json_t *object, const struct element *table, const char *path,
                  struct mf_error *err)
{
    static const char *const NAMES[] = {"a string",
                                        "a number",
                                        "a whole number",
                                        "true or false",
                                        "a FHIR date (YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])",
                                        "an object",
                                        "a list of objects"};
    for (const struct element *e = table; e->name; e++) {
        const json_t *v = json_object_get(object, e->name);
        char inside[96];
        if (!v && !e->required)
            continue;
        if (!v || !has_kind(v, e->kind))
            return mf_error_set(err, MF_ERR_MALFORMED, "%s.%s must be %s", path, e->name,
                                NAMES[e->kind]);
        snprintf(inside, sizeof inside, "%s.%s", path, e->name);
        if (!e->inside)
            continue;
        if (e->kind == OBJECT && !check(v, e->inside, inside, err))
            return false;
        for (size_t i = 0; e->kind == LIST && i < json_array_size(v); i++)
            if (!check(json_array_get(v, i), e->inside, inside, err))
                return false;
    }
    return true;
}

bool mf_fhir_check_patient(const json_t *patient, struct mf_error *err)
{
    return check(patient, PATIENT, "Patient", err);
}

bool mf_fhir_check_observation(const json_t *observation, struct mf_error *err)
{
    return check(observation, OBSERVATION, "Observation", err);
}
