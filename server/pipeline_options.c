/* Options of a request: see pipeline.h. */
#include "server/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const KEYS[] = {
    "model", "alpha", "priors", "explain", "site", "destinations", "priors_unavailable", NULL};

static bool take_model(const json_t *value, struct mf_pipeline_options *o, struct mf_error *err)
{
    const char *name = json_string_value(value);
    if (value && (!name || !*name || strlen(name) >= sizeof o->model))
        return mf_error_set(err, MF_ERR_UNUSABLE, "options: \"model\" must be the name of a model");
    if (name)
        memcpy(o->model, name, strlen(name) + 1);
    return true;
}

static bool take_alpha(const json_t *value, struct mf_pipeline_options *o, struct mf_error *err)
{
    double alpha = json_number_value(value); /* 0 for anything but a number */
    if (!value)
        return true;
    if (!(alpha > 0 && alpha <= 0.5))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "options: \"alpha\" must be a number above 0 and at most 0.5");
    o->alpha = alpha;
    return true;
}

static bool take_priors(const json_t *value, struct mf_pipeline_options *o, struct mf_error *err)
{
    if (!value)
        return true;
    if (!json_is_boolean(value))
        return mf_error_set(err, MF_ERR_UNUSABLE, "options: \"priors\" must be true or false");
    o->no_priors = json_is_false(value);
    return true;
}

static bool take_explain(const json_t *value, struct mf_pipeline_options *o, struct mf_error *err)
{
    if (value && !json_is_boolean(value))
        return mf_error_set(err, MF_ERR_UNUSABLE, "options: \"explain\" must be true or false");
    o->explain = json_is_true(value);
    return true;
}

static bool take_site(const json_t *value, struct mf_pipeline_options *o, struct mf_error *err)
{
    const char *name = json_string_value(value);
    if (value && (!name || !*name || strlen(name) >= sizeof o->site))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "options: \"site\" must be a name of at most %zu bytes",
                            sizeof o->site - 1);
    if (name)
        memcpy(o->site, name, strlen(name) + 1);
    return true;
}

static bool take_flag(const json_t *value, struct mf_pipeline_options *o, struct mf_error *err)
{
    o->priors_unavailable = json_is_true(value);
    return !value || json_is_boolean(value) ||
           mf_error_set(err, MF_ERR_UNUSABLE,
                        "options: \"priors_unavailable\" must be true or false");
}

/* Which of the configured destinations get the result: only their form is looked at here. */
static bool check_destinations(const json_t *value, struct mf_error *err)
{
    size_t i;
    const json_t *address;
    bool ok = !value || json_is_array(value);
    json_array_foreach(value, i, address) ok = ok && json_is_string(address);
    return ok || mf_error_set(err, MF_ERR_UNUSABLE,
                              "options: \"destinations\" must be a list of addresses");
}

bool mf_pipeline_options_parse(const char *text, size_t len, struct mf_pipeline_options *ret,
                               struct mf_error *err)
{
    struct mf_pipeline_options o = MF_PIPELINE_OPTIONS_INIT;
    const struct mf_json_limits limits = {65536, 8};
    if (text && len) {
        MF_AUTO(mf_json) json_t *json = mf_json_parse(text, len, &limits, "options", err);
        if (!json)
            return false;
        if (!json_is_object(json))
            return mf_error_set(err, MF_ERR_UNUSABLE, "options: must be a JSON object");
        if (!mf_json_only_keys(json, KEYS, "options", MF_ERR_UNUSABLE, err) ||
            !take_model(json_object_get(json, "model"), &o, err) ||
            !take_alpha(json_object_get(json, "alpha"), &o, err) ||
            !take_priors(json_object_get(json, "priors"), &o, err) ||
            !take_explain(json_object_get(json, "explain"), &o, err) ||
            !take_site(json_object_get(json, "site"), &o, err) ||
            !take_flag(json_object_get(json, "priors_unavailable"), &o, err) ||
            !check_destinations(json_object_get(json, "destinations"), err))
            return false;
    }
    *ret = o;
    return true;
}

char *mf_pipeline_options_text(const struct mf_pipeline_options *o)
{
    MF_AUTO(mf_json) json_t *json = json_object();
    bool ok = json != NULL;
    if (ok && o->model[0])
        ok = json_object_set_new(json, "model", json_string(o->model)) == 0;
    if (ok && !isnan(o->alpha))
        ok = json_object_set_new(json, "alpha", json_real(o->alpha)) == 0;
    if (ok && o->site[0])
        ok = json_object_set_new(json, "site", json_string(o->site)) == 0;
    if (ok && o->explain)
        ok = json_object_set_new(json, "explain", json_true()) == 0;
    if (ok && o->priors_unavailable)
        ok = json_object_set_new(json, "priors_unavailable", json_true()) == 0;
    ok = ok && json_object_set_new(json, "priors", json_boolean(!o->no_priors)) == 0;
    return ok ? mf_json_text(json, 0) : NULL;
}
