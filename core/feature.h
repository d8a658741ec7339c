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

enum mf_feature_kind { MF_FEATURE_NUMERIC, MF_FEATURE_CATEGORICAL };

enum mf_feature_pick { MF_PICK_LAST, MF_PICK_FIRST, MF_PICK_MIN, MF_PICK_MAX, MF_PICK_MEAN };

enum mf_source_kind {
    MF_SOURCE_FHIR_PATH, /* "fhir:Patient.birthDate", "fhir:Patient.gender": a demographic path */
    MF_SOURCE_FHIR_CODINGS, /* {"fhir": [{system, code}…]}: Observations (or components) with any of
                               them */
    MF_SOURCE_DICOM         /* "dicom:PatientAge", PatientBirthDate, PatientSex, ViewPosition */
};

struct mf_feature_source {
    enum mf_source_kind kind;
    const char *path; /* without the scheme; NULL for codings */
    const struct mf_coding *codings;
    size_t coding_count;
};

struct mf_unit_conversion {
    const char
        *unit; /* UCUM code converted from: value · factor + offset is in the feature's unit */
    double factor, offset;
};

struct mf_feature {
    const char *id, *display;
    enum mf_feature_kind kind;
    const char *unit; /* UCUM; NULL for categorical */
    const struct mf_unit_conversion *conversions;
    size_t conversion_count;
    const struct mf_feature_source *sources; /* in order of preference */
    size_t source_count;
    enum mf_feature_pick pick;
    int64_t window_ms; /* look-back before the reference time; −1 = no limit */
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
};

/* Reads and checks a definition; every mistake is named ("features[2].window: …"). MF_ERR_MODEL. */
struct mf_feature_set *mf_feature_set_parse(const json_t *json, const char *name,
                                            struct mf_error *err) MF_CHECK_RESULT;
struct mf_feature_set *mf_feature_set_load(const char *path, struct mf_error *err) MF_CHECK_RESULT;
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
};

const char *mf_feature_status_name(enum mf_feature_status status);

/* The category of a spelling (exact category, then the map); false when there is none. */
bool mf_feature_category(const struct mf_feature *feature, const char *text, uint32_t *ret);

/* {"id","value","unit","status","source","time"}: one entry of a result's `ehr.features`. */
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
