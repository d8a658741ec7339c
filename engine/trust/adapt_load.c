/* The head's weights out of a bundle (adapt.h; names: models/FORMAT.md, "fusion/"). */
#include "engine/bundle_private.h"
#include "engine/trust/adapt.h"

#include <stdlib.h>

static size_t size_of(const json_t *config, const char *key)
{
    json_int_t n = mf_json_get_int(config, key, 0);
    return n > 0 && n <= 65536 ? (size_t)n : 0;
}

/* Copies a tensor of `n` values; false when it is not there (the bundle's check said it is). */
static bool copy(const struct mf_weights *weights, const char *name, size_t n, double *ret,
                 struct mf_error *err)
{
    const struct mf_tensor *tensor = mf_weights_find(weights, name);
    MF_AUTO(mf_mem) float *values = tensor ? malloc((n + 1) * sizeof *values) : NULL;
    if (!tensor || tensor->count != n)
        return mf_error_set(err, MF_ERR_MODEL, "tensor \"%s\" does not fit the adaptation", name);
    if (!values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    if (!mf_tensor_to_floats(tensor, values))
        return mf_error_set(err, MF_ERR_MODEL, "tensor \"%s\" is not made of floats", name);
    for (size_t i = 0; i < n; i++)
        ret[i] = values[i];
    return true;
}

bool mf_bundle_has_weights(const struct mf_bundle *bundle)
{
    return bundle->weights[MF_MODULE_FUSION] && bundle->checked == MF_BUNDLE_FULL;
}

struct mf_adapt_head *mf_adapt_head_load(const struct mf_bundle *bundle, struct mf_error *err)
{
    const struct mf_weights *weights = bundle->weights[MF_MODULE_FUSION];
    if (!mf_bundle_has_weights(bundle)) {
        mf_error_set(err, MF_ERR_INTERNAL, "the bundle was opened without its weights");
        return NULL;
    }
    const json_t *config = mf_weights_config(weights);
    size_t d = size_of(config, "hidden_size"), width = size_of(config, "head_hidden_size");
    size_t inputs = d * (size_of(config, "ehr_hidden_size") ? 4 : 3), labels = bundle->label_count;
    MF_AUTO(mf_adapt_head)
    struct mf_adapt_head *h = mf_adapt_head_new(inputs, width, labels, err);
    if (!h)
        return NULL;
    h->epsilon = mf_json_get_number(config, "batch_norm_eps", 1e-5);
    bool ok = copy(weights, "head.fc1.weight", width * inputs, h->w1, err) &&
              copy(weights, "head.fc1.bias", width, h->b1, err) &&
              copy(weights, "head.norm.weight", width, h->gamma, err) &&
              copy(weights, "head.norm.bias", width, h->beta, err) &&
              copy(weights, "head.norm.running_mean", width, h->mean, err) &&
              copy(weights, "head.norm.running_var", width, h->variance, err) &&
              copy(weights, "head.fc2.weight", labels * width, h->w2, err) &&
              copy(weights, "head.fc2.bias", labels, h->b2, err);
    mf_weights_forget(weights);
    return ok ? MF_STEAL(h) : NULL;
}
