/*
 * Any bytes as a FHIR document: refused, or every patient is extracted, reduced and read again with
 * the same number of resources.
 */
#include "fhir/extract.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Asks for the codes of the corpus; built once. */
static const char DEFINITION[] =
    "{\"schema\":\"medfusion.features/1\",\"helpers\":[{\"id\":\"h\",\"unit\":\"mg/dL\","
    "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],\"pick\":\"median\"}],"
    "\"features\":["
    "{\"id\":\"a\",\"kind\":\"numeric\",\"unit\":\"a\",\"sources\":[\"fhir:Patient.birthDate\"],"
    "\"mean\":0,\"std\":1},"
    "{\"id\":\"x\",\"kind\":\"numeric\",\"unit\":\"mmol/L\",\"conversions\":{\"mg/dL\":[2,1]},"
    "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],\"pick\":\"mean\",\"window\":"
    "\"P9Y\","
    "\"range\":[0,9],\"policy\":{\"stale\":\"use\",\"implausible\":\"clamp\"},\"mean\":0,\"std\":1}"
    ","
    "{\"id\":\"d\",\"kind\":\"numeric\",\"unit\":\"1\",\"sources\":[{\"derive\":\"h / (a - x)\","
    "\"within\":\"P1Y\"}],\"mean\":0,\"std\":1},"
    "{\"id\":\"n\",\"kind\":\"numeric\",\"unit\":\"1\",\"pick\":\"count\",\"window\":{\"from\":"
    "\"P9Y\","
    "\"to\":\"P1D\"},\"sources\":[{\"resource\":\"Condition\",\"fhir\":[{\"system\":\"s\","
    "\"prefix\":\"c\"}]},"
    "{\"resource\":\"MedicationStatement\",\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]},{"
    "\"resource\":"
    "\"Encounter\",\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],\"mean\":0,\"std\":1},"
    "{\"id\":\"u\",\"kind\":\"numeric\",\"unit\":\"1\",\"sources\":[{\"read\":\"upper_limits\","
    "\"fhir\":[{"
    "\"system\":\"s\",\"code\":\"c\"}]}],\"mean\":0,\"std\":1},"
    "{\"id\":\"k\",\"kind\":\"categorical\",\"sources\":[\"fhir:Patient.gender\",{\"fhir\":[{"
    "\"system\":"
    "\"s\",\"code\":\"c\"}]}],\"categories\":[\"male\",\"yes\"],\"map\":{\"true\":\"yes\"}}]}";

static struct mf_feature_set *definition(void)
{
    static struct mf_feature_set *set;
    if (!set) {
        MF_AUTO(mf_json) json_t *json = json_loads(DEFINITION, 0, NULL);
        set = mf_feature_set_parse(json, "fuzz", NULL);
    }
    return set;
}

static void check_patient(const struct mf_fhir_document *doc, const struct mf_fhir_patient *patient)
{
    struct mf_feature_value values[6];
    struct mf_error err = MF_ERROR_INIT;
    struct mf_time at = mf_fhir_latest_time(doc, patient);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    if (!mf_fhir_extract(definition(), patient, NULL, &at, arena, values, &err))
        __builtin_trap();
    MF_AUTO(mf_json)
    json_t *features = mf_fhir_features_to_json(definition(), values, patient->reference, &at);
    MF_AUTO(mf_json) json_t *bundle = mf_fhir_reduce(doc, patient);
    MF_AUTO(mf_mem) char *text = bundle ? mf_json_text(bundle, 0) : NULL;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *again =
        text ? mf_fhir_document_parse(text, strlen(text), NULL, "reduced", &err) : NULL;
    if (!features || !again || mf_fhir_patient_count(again) != 1 ||
        mf_fhir_patient(again, 0)->record_count != patient->record_count)
        __builtin_trap();
    for (size_t i = 0; i < patient->identifier_count; i++)
        if (!mf_fhir_find_patient(doc, patient->identifiers[i].value, NULL, &err) &&
            err.code != MF_ERR_UNUSABLE)
            __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        mf_fhir_document_parse((const char *)data, size, NULL, "fuzz", &err);
    if (!doc && err.code != MF_ERR_MALFORMED && err.code != MF_ERR_TOO_LARGE &&
        err.code != MF_ERR_UNUSABLE && err.code != MF_ERR_UNSUPPORTED)
        __builtin_trap();
    for (size_t i = 0; doc && i < mf_fhir_patient_count(doc); i++)
        check_patient(doc, mf_fhir_patient(doc, i));
    return 0;
}
