/* Any bytes as ehr/features.json: refused as a bad model, or a set in which every index is in
 * range. */
#include "core/feature.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct mf_feature *f)
{
    for (size_t i = 0; i < f->map_count; i++)
        if (f->map_to[i] >= f->category_count || !f->map_from[i])
            __builtin_trap();
    for (size_t i = 0; i < f->source_count; i++)
        if ((f->sources[i].kind == MF_SOURCE_FHIR_CODINGS) != (f->sources[i].coding_count > 0))
            __builtin_trap();
    if (f->kind == MF_FEATURE_NUMERIC ? !(f->std > 0) || !f->unit : !f->category_count)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *json = mf_json_parse((const char *)data, size, NULL, "fuzz", NULL);
    if (!json)
        return 0;
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(json, "fuzz", &err);
    if (!set && err.code != MF_ERR_MODEL)
        __builtin_trap();
    for (size_t i = 0; set && i < set->count; i++)
        check(&set->features[i]);
    return 0;
}
