/* Monitor: collecting the newest results of a model, page by page (monitor.h). */
#include "server/monitor_private.h"

#include "server/feedback.h"
#include "server/pipeline.h"
#include "server/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 50, PAGE_BYTES = 512 << 20, LOOK_BACK = 20 };

static bool no_memory(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the quality report");
}

static void clear(struct mf_monitor_data *d)
{
    for (size_t f = 0; d->features && f < d->feature_count; f++) {
        free(d->features[f].values);
        json_decref(d->features[f].categories);
    }
    free(d->features);
    free(d->cases);
    free(d->ood);
    json_decref(d->flags);
}

static bool open_data(struct mf_monitor_data *d, const struct mf_bundle *bundle, size_t last,
                      struct mf_error *err)
{
    const struct mf_feature_set *set = mf_bundle_features(bundle);
    *d = (struct mf_monitor_data){.bundle = bundle,
                                  .label_count = mf_bundle_label_count(bundle),
                                  .feature_count = set ? set->count : 0,
                                  .capacity = last,
                                  .flags = json_object()};
    d->cases = calloc(last * d->label_count, sizeof *d->cases);
    d->ood = calloc(last, sizeof *d->ood);
    d->features = calloc(d->feature_count + 1, sizeof *d->features);
    bool ok = d->cases && d->ood && d->features && d->flags;
    for (size_t f = 0; ok && f < d->feature_count; f++) {
        d->features[f].values = calloc(last, sizeof(float));
        d->features[f].categories = json_object();
        ok = d->features[f].values && d->features[f].categories;
    }
    return ok || no_memory(err);
}

static void count_name(json_t *counts, const char *name)
{
    json_object_set_new(counts, name, json_integer(mf_json_get_int(counts, name, 0) + 1));
}

static void take_features(struct mf_monitor_data *d, const json_t *list)
{
    for (size_t f = 0; f < d->feature_count && json_is_array(list); f++) {
        struct mf_monitor_feature *feature = &d->features[f];
        const json_t *value;
        if (!mf_reference_value(json_array_get(list, f), &value)) {
            feature->missing++;
            continue;
        }
        if (json_is_number(value))
            feature->values[feature->used] = (float)json_number_value(value);
        else if (json_is_string(value))
            count_name(feature->categories, json_string_value(value));
        feature->used++;
    }
}

static void take_prediction(const json_t *p, double alpha, struct mf_monitor_case *c)
{
    const char *state = mf_json_get_string(p, "state", "");
    bool both = strcmp(state, "uncertain") == 0;
    *c = (struct mf_monitor_case){
        .logit = (float)mf_json_get_number(p, "logit", NAN),
        .probability = mf_json_get_number(p, "probability", NAN),
        .alpha = alpha,
        .p_present = mf_json_get_number(p, "p_present", NAN),
        .p_absent = mf_json_get_number(p, "p_absent", NAN),
        .truth = -1,
        .present = both || strcmp(state, "present") == 0,
        .absent = both || strcmp(state, "absent") == 0,
        .promised = strcmp(mf_json_get_string(p, "guarantee", "void"), "void") != 0};
}

static bool take_result(struct mf_monitor_data *d, const struct mf_observed *o,
                        const json_t *result, struct mf_error *err)
{
    const json_t *predictions = json_object_get(result, "predictions"),
                 *quality = json_object_get(result, "quality"),
                 *flags = json_object_get(quality, "flags");
    struct mf_monitor_case *row = d->cases + d->count * d->label_count;
    double ood = mf_json_get_number(quality, "ood_p_value", NAN);
    MF_AUTO(mf_mem) int8_t *truth = malloc(d->label_count + 1);
    if (!truth)
        return no_memory(err);
    if (json_array_size(predictions) != d->label_count)
        return mf_error_set(err, MF_ERR_INTERNAL, "a result has other labels than its model");
    if (!mf_feedback_truth(o, predictions, truth, err))
        return false;
    for (size_t i = 0; i < d->label_count; i++) {
        take_prediction(json_array_get(predictions, i), mf_json_get_number(result, "alpha", NAN),
                        &row[i]);
        row[i].truth = truth[i];
    }
    if (!isnan(ood))
        d->ood[d->ood_count++] = (float)ood;
    for (size_t i = 0; i < json_array_size(flags); i++)
        count_name(d->flags, json_string_value(json_array_get(flags, i)));
    take_features(d, json_object_get(json_object_get(result, "ehr"), "features"));
    d->with_feedback += o->feedback_count > 0;
    d->from_ms = o->job.finished_ms;
    d->to_ms = d->count == 0 ? o->job.finished_ms : d->to_ms;
    d->count++;
    return true;
}

/* Whether the job was of that site. */
static bool site_fits(const struct mf_observed *o, const char *site)
{
    struct mf_pipeline_options options;
    return !site || (mf_pipeline_options_parse(o->options, strlen(o->options), &options, NULL) &&
                     strcmp(options.site, site) == 0);
}

static bool take_observed(struct mf_monitor_data *d, const struct mf_observed *o, const char *site,
                          struct mf_error *err)
{
    if (!o->result || d->count == d->capacity || !site_fits(o, site))
        return true;
    MF_AUTO(mf_json) json_t *result = mf_json_parse(o->result, o->result_len, NULL, "result", err);
    if (!result)
        return false;
    const char *hash = mf_json_get_string(json_object_get(result, "model"), "model_hash", "");
    if (strcmp(hash, mf_bundle_model_hash(d->bundle)) == 0)
        return take_result(d, o, result, err);
    d->other_versions++;
    return true;
}

/* Newest first, until there are enough; of other sites and versions so many are passed over. */
static bool collect(struct mf_store *store, const struct mf_monitor_window *w,
                    struct mf_monitor_data *d, struct mf_error *err)
{
    int64_t cursor = 0;
    size_t looked_at = 0;
    do {
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(PAGE_BYTES);
        struct mf_observed *rows = NULL;
        size_t n = 0;
        if (!arena)
            return no_memory(err);
        if (!mf_store_observed(store, w->tenant, mf_bundle_name(d->bundle), cursor, PAGE, arena,
                               &rows, &n, &cursor, err))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!take_observed(d, &rows[i], w->site, err))
                return false;
        looked_at += n;
    } while (cursor != 0 && d->count < d->capacity && looked_at < LOOK_BACK * d->capacity);
    return true;
}

json_t *mf_monitor_report(struct mf_store *store, const struct mf_bundle *bundle,
                          const struct mf_monitor_window *w, struct mf_error *err)
{
    struct mf_monitor_data d;
    MF_AUTO(mf_json) json_t *reference = mf_reference_load(bundle, err);
    if (!reference)
        return NULL;
    json_t *report = NULL;
    if (open_data(&d, bundle, w->last, err) && collect(store, w, &d, err))
        report = mf_monitor_describe(&d, w->site, w->last, reference, err);
    clear(&d);
    return report;
}
