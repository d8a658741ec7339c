/* Features: units of a value, names, the JSON of a value. Definitions are read by feature_read.c.
 */
#include "core/feature.h"

#include "core/ucum.h"

#include <math.h>
#include <string.h>

enum { UNIT_TEXT = 64 };

struct mf_feature_set *mf_feature_set_load(const char *path, struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *json = mf_json_read_file(path, NULL, &cause);
    if (!json) {
        bool content = cause.code == MF_ERR_MALFORMED || cause.code == MF_ERR_TOO_LARGE;
        mf_error_set(err, content ? MF_ERR_MODEL : cause.code, "%s", cause.msg);
        return NULL;
    }
    return mf_feature_set_parse(json, path, err);
}

void mf_feature_set_free(struct mf_feature_set *set)
{
    if (!set)
        return;
    mf_arena_free(set->arena);
    free(set);
}

static const char *const RESOURCE_NAMES[MF_RESOURCE_COUNT] = {
    "Patient",
    "Observation",
    "Encounter",
    "Condition",
    "Procedure",
    "MedicationRequest",
    "MedicationStatement",
    "MedicationAdministration",
    "AllergyIntolerance",
    "ServiceRequest",
    "ImagingStudy",
    "DiagnosticReport",
    "Medication",
};

const char *mf_resource_type_name(enum mf_resource_type type)
{
    return (size_t)type < MF_RESOURCE_COUNT ? RESOURCE_NAMES[type] : "Resource";
}

enum mf_resource_type mf_resource_type_parse(const char *name)
{
    size_t i = 0;
    while (i < MF_RESOURCE_COUNT && strcmp(RESOURCE_NAMES[i], name) != 0)
        i++;
    return (enum mf_resource_type)i;
}

/* A unit without annotations; "1/min" as "/min", "1" and no unit as "". Units that do not fit are
 * absurd. */
static bool normalise(const char *unit, char out[UNIT_TEXT])
{
    size_t n = 0;
    for (const char *p = unit ? unit : ""; *p; p++) {
        if (*p == '{') {
            const char *close = strchr(p, '}');
            if (!close)
                return false;
            p = close;
            continue;
        }
        if (n + 1 >= UNIT_TEXT)
            return false;
        out[n++] = *p;
    }
    out[n] = '\0';
    if (out[0] == '1' && (out[1] == '\0' || out[1] == '/'))
        memmove(out, out + 1, n);
    return true;
}

bool mf_feature_convert(const struct mf_feature *feature, double value, const char *unit,
                        double *ret)
{
    char given[UNIT_TEXT], other[UNIT_TEXT];
    if (!normalise(unit, given))
        return false;
    if (normalise(feature->unit, other) && strcmp(given, other) == 0) {
        *ret = value;
        return true;
    }
    for (int step = 0; step < 2; step++) /* as it is written, then through UCUM */
        for (size_t i = 0; i < feature->conversion_count; i++) {
            const struct mf_unit_conversion *c = &feature->conversions[i];
            double v = value;
            if (normalise(c->unit, other) &&
                (step == 0 ? strcmp(given, other) == 0
                           : mf_ucum_convert(value, given, other, 0, &v))) {
                *ret = v * c->factor + c->offset;
                return true;
            }
        }
    return normalise(feature->unit, other) &&
           mf_ucum_convert(value, given, other, feature->molar_mass, ret);
}

const char *mf_feature_status_name(enum mf_feature_status status)
{
    static const char *const NAMES[] = {"missing", "used", "implausible", "stale"};
    return (size_t)status < sizeof NAMES / sizeof *NAMES ? NAMES[status] : "missing";
}

bool mf_feature_category(const struct mf_feature *feature, const char *text, uint32_t *ret)
{
    for (size_t i = 0; i < feature->category_count; i++)
        if (strcmp(feature->categories[i], text) == 0) {
            *ret = (uint32_t)i;
            return true;
        }
    for (size_t i = 0; i < feature->map_count; i++)
        if (strcmp(feature->map_from[i], text) == 0) {
            *ret = feature->map_to[i];
            return true;
        }
    return false;
}

json_t *mf_feature_value_to_json(const struct mf_feature *feature,
                                 const struct mf_feature_value *value)
{
    json_t *shown = value->has_number     ? mf_json_real(value->number)
                    : value->has_category ? json_string(feature->categories[value->category])
                                          : mf_json_string(value->text);
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:o}", "id", feature->id, "value", shown,
                     "unit", mf_json_string(value->unit ? value->unit : feature->unit), "status",
                     mf_feature_status_name(value->status), "source", mf_json_string(value->source),
                     "time", mf_json_string(value->time), "policy", mf_json_string(value->policy));
}
