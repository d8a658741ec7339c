/*
 * EHR features: their definition (ehr/features.json, `medfusion.features/1`; models/FORMAT.md) and
 * their values.
 *
 * fhir/ extracts values by the definition, engine/ turns values into tokens by the same definition,
 * so both read it from here.
 */
#ifndef MF_CORE_FEATURE_H
#define MF_CORE_FEATURE_H

#include "core/arena.h"
#include "core/auto.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_coding {
    const char *system, *code, *display; /* display may be NULL */
};

/* The resource types that features are read from. MEDICATION only gives others their code. */
enum mf_resource_type {
    MF_RESOURCE_PATIENT,
    MF_RESOURCE_OBSERVATION,
    MF_RESOURCE_ENCOUNTER,
    MF_RESOURCE_CONDITION,
    MF_RESOURCE_PROCEDURE,
    MF_RESOURCE_MEDICATION_REQUEST,
    MF_RESOURCE_MEDICATION_STATEMENT,
    MF_RESOURCE_MEDICATION_ADMINISTRATION,
    MF_RESOURCE_ALLERGY_INTOLERANCE,
    MF_RESOURCE_SERVICE_REQUEST,
    MF_RESOURCE_IMAGING_STUDY,
    MF_RESOURCE_DIAGNOSTIC_REPORT,
    MF_RESOURCE_MEDICATION,
    MF_RESOURCE_COUNT
};

/* "Observation" … as FHIR writes it; the type of a name, or MF_RESOURCE_COUNT. */
const char *mf_resource_type_name(enum mf_resource_type type);
enum mf_resource_type mf_resource_type_parse(const char *name);

enum mf_feature_kind { MF_FEATURE_NUMERIC, MF_FEATURE_CATEGORICAL };

/* One value out of many. The last three ask whether and when, not what: they need no value. */
enum mf_feature_pick {
    MF_PICK_LAST,
    MF_PICK_FIRST,
    MF_PICK_MIN,
    MF_PICK_MAX,
    MF_PICK_MEAN,
    MF_PICK_MEDIAN,
    MF_PICK_SUM,
    MF_PICK_DELTA, /* last − first */
    MF_PICK_COUNT,
    MF_PICK_PRESENT,    /* 1 or 0; of two categories the second or the first */
    MF_PICK_DAYS_SINCE, /* from the latest to the study */
    MF_PICK_KINDS
};

enum mf_source_kind {
    MF_SOURCE_FHIR_PATH, /* "fhir:Patient.birthDate", "fhir:Patient.gender": a demographic path */
    MF_SOURCE_FHIR_CODINGS, /* {"fhir": [{system, code}…]}: resources with any of them */
    MF_SOURCE_DICOM,        /* "dicom:PatientAge", PatientBirthDate, PatientSex, ViewPosition */
    MF_SOURCE_DERIVED       /* {"derive": "weight / height^2"}: from other features */
};

/* What of an Observation is taken. */
enum mf_feature_read {
    MF_READ_VALUE,
    MF_READ_INTERPRETATION, /* its code: "H", "L", "N" … */
    MF_READ_UPPER_LIMITS    /* value / upper end of its reference range, unit 1 */
};

struct mf_feature_source {
    enum mf_source_kind kind;
    const char *path;               /* of a path or DICOM source, without the scheme */
    enum mf_resource_type resource; /* of codings: Observation, Condition … */
    enum mf_feature_read read;
    const struct mf_coding *codings; /* exact ones */
    size_t coding_count;
    const struct mf_coding *prefixes; /* codes that begin so ("J18") */
    size_t prefix_count;
    const struct mf_expression *expression; /* of a derived one */
    int64_t within_ms; /* its operands were observed within so long; −1 = whenever */
};

struct mf_unit_conversion {
    const char
        *unit; /* UCUM code converted from: value · factor + offset is in the feature's unit */
    double factor, offset;
};

/* What becomes of a feature that has no usable value. */
enum mf_missing_policy { MF_MISSING_TOKEN, MF_MISSING_VALUE, MF_MISSING_REFUSE };
enum mf_stale_policy { MF_STALE_MISSING, MF_STALE_USE, MF_STALE_REFUSE };
enum mf_implausible_policy {
    MF_IMPLAUSIBLE_MISSING,
    MF_IMPLAUSIBLE_CLAMP, /* a number in a known unit is moved to the end of the range */
    MF_IMPLAUSIBLE_REFUSE
};
struct mf_feature_policy {
    enum mf_missing_policy missing;
    double number;     /* MF_MISSING_VALUE of a numeric feature, in its unit */
    uint32_t category; /* … of a categorical one */
    enum mf_stale_policy stale;
    enum mf_implausible_policy implausible;
};

struct mf_feature {
    const char *id, *display;
    const char *group; /* features of one group are explained as one; NULL = on its own */
    enum mf_feature_kind kind;
    const char *unit; /* UCUM; NULL for categorical */
    const struct mf_unit_conversion *conversions;
    size_t conversion_count;
    const struct mf_feature_source *sources; /* in order of preference */
    size_t source_count;
    enum mf_feature_pick pick;
    int64_t window_ms; /* look-back before the reference time; −1 = no limit */
    int64_t gap_ms;    /* the window ends so long before the reference time */
    double molar_mass; /* g/mol: mass and amount of this analyte can be converted; 0 = not given */
    struct mf_feature_policy policy;
    bool has_range;
    double range_low, range_high;  /* plausible values, inclusive, in `unit` */
    double mean, std;              /* numeric: the token is (value − mean) / std */
    const char *const *categories; /* categorical: index = embedding row */
    size_t category_count;
    const char *const *map_from; /* spellings that stand for a category: map_from[i] → map_to[i] */
    const uint32_t *map_to;
    size_t map_count;
};

struct mf_feature_set {
    struct mf_arena *arena;      /* owns everything below */
    struct mf_feature *features; /* token order: numeric first, then categorical */
    size_t count, numeric_count;
    struct mf_feature *helpers; /* numeric; only derived sources read them, they are no tokens */
    size_t helper_count;
};

/* A derived source in postfix order. Variables are numbered: the helpers, then the features. */
enum mf_operation {
    MF_OP_NUMBER,
    MF_OP_VARIABLE,
    MF_OP_ADD,
    MF_OP_SUBTRACT,
    MF_OP_MULTIPLY,
    MF_OP_DIVIDE,
    MF_OP_POWER,
    MF_OP_NEGATE,
    MF_OP_MIN,
    MF_OP_MAX,
    MF_OP_ABS,
    MF_OP_EXP,
    MF_OP_LN,
    MF_OP_SQRT
};
struct mf_expression {
    struct mf_expression_step {
        enum mf_operation operation;
        double number;
        size_t variable;
    } * steps;
    size_t count;
};

/* Parses "weight / (height / 100)^2" (+ - * / ^, parentheses, min max abs exp ln sqrt). `lookup`
 * gives the number of a variable, or −1. Memory comes from the arena. NULL with one sentence that
 * says what is wrong where (MF_ERR_MODEL). */
struct mf_expression *mf_expression_parse(const char *text,
                                          long (*lookup)(void *context, const char *id),
                                          void *context, struct mf_arena *arena,
                                          struct mf_error *err) MF_CHECK_RESULT;
/* The value with these variables (values[variable]); not finite where it has none (x / 0). */
double mf_expression_evaluate(const struct mf_expression *expression, const double *values);

/* `value` of `unit` in the feature's unit: the same unit, a conversion of the definition, UCUM,
 * mass ↔ amount by the molar mass. NULL and "" mean a number without unit ("1"). Annotations
 * ("{beats}/min") say nothing about the quantity (UCUM §6). False when it cannot be converted. */
bool mf_feature_convert(const struct mf_feature *feature, double value, const char *unit,
                        double *ret);

/* Reads and checks a definition; every mistake is named ("features[2].window: …"). MF_ERR_MODEL. */
struct mf_feature_set *mf_feature_set_parse(const json_t *json, const char *name,
                                            struct mf_error *err) MF_CHECK_RESULT;
struct mf_feature_set *mf_feature_set_load(const char *path, struct mf_error *err) MF_CHECK_RESULT;
/* Finds all mistakes of a definition instead of the first: reports one sentence for each feature,
 * helper and value set that has one, and for the whole. Returns how many; 0 = it can be loaded. */
size_t mf_feature_set_check(const json_t *json, const char *name,
                            void (*report)(void *context, const char *mistake), void *context);
void mf_feature_set_free(struct mf_feature_set *set);

enum mf_feature_status {
    MF_FEATURE_MISSING = 0,
    MF_FEATURE_USED,
    MF_FEATURE_IMPLAUSIBLE, /* out of range, or a unit that cannot be converted: not used */
    MF_FEATURE_STALE        /* only values older than the window: not used */
};

/* What was found for one feature. Only MF_FEATURE_USED reaches the network; the others say why not
 * and still show the value that was refused where there is one. */
struct mf_feature_value {
    enum mf_feature_status status;
    bool has_number, has_category;
    double number;      /* in the feature's unit */
    uint32_t category;  /* index into categories */
    const char *text;   /* the refused value of a categorical as given, or NULL */
    const char *unit;   /* the unit `number` is in (as given, where it could not be converted) */
    const char *source; /* "Observation/123", "Patient/1", "dicom:PatientAge"; NULL when missing */
    const char *time;   /* when it was observed, as given; NULL when unknown */
    const char *policy; /* "missing", "stale", "implausible": used only because the feature's policy
                           for it says so; else NULL */
};

const char *mf_feature_status_name(enum mf_feature_status status);

/* The category of a spelling (exact category, then the map); false when there is none. */
bool mf_feature_category(const struct mf_feature *feature, const char *text, uint32_t *ret);

/* {"id","value","unit","status","source","time","policy"}: one entry of a result's `ehr.features`.
 */
json_t *mf_feature_value_to_json(const struct mf_feature *feature,
                                 const struct mf_feature_value *value);

/* The demographics that DICOM offers to features; empty or NULL strings are absent. */
struct mf_demographics {
    const char *patient_age;        /* AS: "045Y" */
    const char *patient_birth_date; /* DA */
    const char *patient_sex;        /* CS: M F O */
    const char *view_position;      /* CS: PA AP … */
};

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_feature_set, struct mf_feature_set *, mf_feature_set_free(*p))

#endif
