/* The calibration files of a bundle: calibration.json, conformal.json and ood.json as one object of
 * that name each. Whatever was accepted must also be judged by without a fault. */
#include "engine/trust/aci.h"
#include "engine/trust/trust_private.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mf_label LABELS[] = {{.id = "A"}, {.id = "B"}};
    static const char *const NAMES[MF_TRUST_FILES] = {"calibration", "conformal", "ood"};
    const struct mf_json_limits limits = {1 << 20, 16};
    struct mf_error err = MF_ERROR_INIT;
    json_t *all = mf_json_parse((const char *)data, size, &limits, "input", &err);
    json_t *files[MF_TRUST_FILES];
    for (size_t i = 0; i < MF_TRUST_FILES; i++) {
        json_t *file = json_object_get(all, NAMES[i]);
        files[i] = file ? json_incref(file) : json_null();
    }
    struct mf_trust *t = all ? mf_trust_from_json(files, LABELS, 2, &err) : NULL;
    for (size_t i = 0; t && t->classes && i < 2; i++) {
        mf_conformal_judge(t->classes[i].positive, t->classes[i].n_pos, true, 0, 0.1);
        mf_conformal_judge(t->classes[i].negative, t->classes[i].n_neg, false, 0, 0.1);
        if (t->calibrations)
            mf_calibration_apply(&t->calibrations[i], 0.5);
    }
    if (t && t->ood && mf_ood_size(t->ood) <= 64) {
        float readout[64] = {0};
        mf_ood_p_value(t->ood, readout);
    }
    if (t && t->exclusive.scores) {
        const float logits[] = {1, -1};
        double work[2];
        bool include[2];
        mf_exclusive_set(&t->exclusive, logits, 2, 0.1, work, include);
    }
    mf_trust_free(t);
    mf_aci_free(mf_aci_from_json(all, NULL));
    for (size_t i = 0; i < MF_TRUST_FILES; i++)
        json_decref(files[i]);
    json_decref(all);
    return 0;
}
