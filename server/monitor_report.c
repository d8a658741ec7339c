/* Monitor: figures and alarms of what was collected (monitor.h). */
#include "server/monitor_private.h"

#include "core/clock.h"
#include "engine/trust/drift.h"
#include "engine/trust/trust.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCORES, FEATURES, OUTLIERS, COVERAGE, CALIBRATION };
static const char *const KINDS[MF_ALARM_KINDS] = {"score_drift", "feature_drift",
                                                  "out_of_distribution", "coverage", "calibration"};

enum { LEAST_FOR_DRIFT = 100, LEAST_FOR_CALIBRATION = 30, MAX_CATEGORIES = 256 };
enum { MOST_BINS = 10, LEAST_IN_BIN = 10 };
static const double LARGE_PSI = 0.2, DRIFT_LEVEL = 0.01, ERROR = 0.05;

const char *mf_alarm_kind(size_t i)
{
    return KINDS[i];
}

/* What was said of a finding, and whether it was there. */
struct judged {
    double probability;
    bool present;
};

/* What a report is made of. */
struct report {
    const struct mf_monitor_data *d;
    json_t *alarms;
    float *now, *reference; /* room for one label's or feature's values */
    struct judged *judged;  /* room for every label of every result */
};

static void MF_PRINTF(4, 5)
    raise_alarm(struct report *r, int kind, const char *name, const char *format, ...)
{
    char detail[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(detail, sizeof detail, format, ap);
    va_end(ap);
    json_array_append_new(r->alarms, json_pack("{s:s, s:o, s:s}", "kind", KINDS[kind], "name",
                                               mf_json_string(name), "detail", detail));
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static const struct mf_monitor_case *case_at(const struct report *r, size_t i, size_t label)
{
    return &r->d->cases[i * r->d->label_count + label];
}

/* --- drift --- */

static json_t *drift_to_json(const struct mf_drift *d, size_t n, size_t reference)
{
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o}", "n", (json_int_t)n, "reference",
                     (json_int_t)reference, "psi", mf_json_real(d->psi), "psi_noise",
                     mf_json_real(d->psi_noise), "ks", mf_json_real(d->ks), "p_value",
                     mf_json_real(d->p));
}

/* Both classes of the calibration in one ascending list. */
static size_t merge_reference(const struct mf_trust_reference *t, float *out)
{
    size_t n = 0, p = 0, q = 0;
    while (p < t->n_pos || q < t->n_neg)
        out[n++] = q == t->n_neg || (p < t->n_pos && t->positive[p] <= t->negative[q])
                       ? t->positive[p++]
                       : t->negative[q++];
    return n;
}

static json_t *scores_of(struct report *r, size_t label)
{
    const struct mf_trust_reference t = mf_trust_reference(mf_bundle_trust(r->d->bundle), label);
    const char *name = mf_bundle_labels(r->d->bundle)[label].id;
    size_t n = merge_reference(&t, r->reference), m = 0;
    for (size_t i = 0; i < r->d->count; i++)
        if (!isnan(case_at(r, i, label)->logit))
            r->now[m++] = case_at(r, i, label)->logit;
    qsort(r->now, m, sizeof *r->now, ascending);
    struct mf_drift d = mf_drift_of(r->reference, n, n, r->now, m);
    if (m >= LEAST_FOR_DRIFT && d.psi - d.psi_noise > LARGE_PSI &&
        d.p < DRIFT_LEVEL / (double)r->d->label_count)
        raise_alarm(r, SCORES, name, "scores have moved: PSI %.2f, KS %.2f over %zu results", d.psi,
                    d.ks, m);
    return n ? drift_to_json(&d, m, n) : json_null();
}

static json_t *outliers_of(struct report *r)
{
    size_t m = r->d->ood_count, low = 0;
    memcpy(r->now, r->d->ood, m * sizeof *r->now);
    qsort(r->now, m, sizeof *r->now, ascending);
    while (low < m && r->now[low] <= 0.05f)
        low++;
    struct mf_drift d = mf_drift_from_uniform(r->now, m);
    struct mf_interval share = mf_clopper_pearson(low, m, ERROR);
    if (m >= LEAST_FOR_DRIFT && share.low > 0.1)
        raise_alarm(r, OUTLIERS, NULL,
                    "%.0f %% of %zu studies have an out-of-distribution p-value of at most 0.05",
                    100.0 * (double)low / (double)m, m);
    if (m == 0)
        return json_null();
    return json_pack("{s:I, s:f, s:f, s:f, s:o, s:o}", "n", (json_int_t)m, "share_0_05",
                     (double)low / (double)m, "low", share.low, "high", share.high, "ks",
                     mf_json_real(d.ks), "p_value", mf_json_real(d.p));
}

/* Deciles of a numeric reference as categories, "missing" behind them. */
static struct mf_drift numeric_drift(const struct mf_monitor_feature *f, const json_t *reference)
{
    const json_t *values = json_object_get(reference, "values");
    size_t n = json_array_size(values), bins = 0;
    size_t cases = (size_t)mf_json_get_int(reference, "cases", 0);
    size_t before[11] = {0}, now[11] = {0};
    float edges[10];
    for (size_t b = 1; n && b <= 10; b++) {
        size_t at = b == 10 ? n - 1 : n * b / 10;
        float edge = (float)json_number_value(json_array_get(values, at));
        if (bins == 0 || edge > edges[bins - 1])
            edges[bins++] = edge;
    }
    for (size_t i = 0; i < n; i++) {
        size_t b = 0;
        while (b + 1 < bins && (float)json_number_value(json_array_get(values, i)) > edges[b])
            b++;
        before[b]++;
    }
    for (size_t i = 0; i < f->used && bins; i++) {
        size_t b = 0;
        while (b + 1 < bins && f->values[i] > edges[b])
            b++;
        now[b]++;
    }
    for (size_t b = 0; b < bins; b++) /* a summary stands for all of its cases */
        before[b] = (size_t)lround((double)before[b] * (double)cases / (double)n);
    before[bins] = (size_t)mf_json_get_int(reference, "missing", 0);
    now[bins] = f->missing;
    return mf_drift_of_counts(before, now, bins + 1);
}

static struct mf_drift categorical_drift(const struct mf_monitor_feature *f,
                                         const json_t *reference)
{
    size_t before[MAX_CATEGORIES + 1], now[MAX_CATEGORIES + 1], n = 0;
    const char *name;
    json_t *count;
    json_object_foreach(json_object_get(reference, "categories"), name, count)
    {
        if (n == MAX_CATEGORIES)
            break;
        before[n] = (size_t)json_integer_value(count);
        now[n++] = (size_t)mf_json_get_int(f->categories, name, 0);
    }
    before[n] = (size_t)mf_json_get_int(reference, "missing", 0);
    now[n] = f->missing;
    return mf_drift_of_counts(before, now, n + 1);
}

static json_t *feature_of(struct report *r, size_t i, const json_t *reference)
{
    const struct mf_feature *feature = &mf_bundle_features(r->d->bundle)->features[i];
    const struct mf_monitor_feature *f = &r->d->features[i];
    struct mf_drift d = {NAN, NAN, NAN, NAN};
    if (reference)
        d = feature->kind == MF_FEATURE_NUMERIC ? numeric_drift(f, reference)
                                                : categorical_drift(f, reference);
    if (f->used + f->missing >= LEAST_FOR_DRIFT && d.psi - d.psi_noise > LARGE_PSI)
        raise_alarm(r, FEATURES, feature->id, "the feature has moved: PSI %.2f over %zu results",
                    d.psi, f->used + f->missing);
    return json_pack("{s:s, s:I, s:I, s:o, s:o}", "id", feature->id, "used", (json_int_t)f->used,
                     "missing", (json_int_t)f->missing, "psi", mf_json_real(d.psi), "psi_noise",
                     mf_json_real(d.psi_noise));
}

/* --- sets and promises --- */

static json_t *sets_of(const struct report *r, size_t label)
{
    size_t counts[4] = {0}, n = r->d->count; /* empty, present, absent, uncertain */
    for (size_t i = 0; i < n; i++) {
        const struct mf_monitor_case *c = case_at(r, i, label);
        counts[(size_t)c->present + 2 * (size_t)c->absent]++;
    }
    if (n == 0)
        return json_null();
    double m = (double)n;
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "present", (double)counts[1] / m, "absent",
                     (double)counts[2] / m, "uncertain", (double)counts[3] / m, "empty",
                     (double)counts[0] / m, "mean_size",
                     (double)(counts[1] + counts[2] + 2 * counts[3]) / m);
}

/* Of the studies whose truth is this class: in how many the set holds it. */
static json_t *coverage_of(struct report *r, size_t label, bool present)
{
    const char *name = mf_bundle_labels(r->d->bundle)[label].id;
    size_t n = 0, covered = 0;
    double promise = 0;
    for (size_t i = 0; i < r->d->count; i++) {
        const struct mf_monitor_case *c = case_at(r, i, label);
        if (c->truth != present || !c->promised)
            continue;
        n++;
        covered += present ? c->present : c->absent;
        promise += 1 - c->alpha;
    }
    promise = n ? promise / (double)n : NAN;
    struct mf_interval interval = mf_clopper_pearson(covered, n, ERROR);
    double all = 2 * (double)r->d->label_count;
    if (n && mf_clopper_pearson(covered, n, ERROR / all).high < promise)
        raise_alarm(r, COVERAGE, name, "%s: %zu of %zu sets hold the truth, %.0f %% are promised",
                    present ? "present" : "absent", covered, n, 100 * promise);
    return json_pack("{s:I, s:I, s:o, s:f, s:f, s:o}", "n", (json_int_t)n, "covered",
                     (json_int_t)covered, "coverage",
                     n ? json_real((double)covered / (double)n) : json_null(), "low", interval.low,
                     "high", interval.high, "promised", mf_json_real(promise));
}

/* Over all labels: how often a set at this alpha would have held the truth, which is where the
 * p-value of the truth lies above alpha; null where no truth of the class is known. */
static json_t *covered_at(const struct report *r, double alpha, int8_t truth)
{
    size_t n = 0, covered = 0;
    for (size_t i = 0; i < r->d->count * r->d->label_count; i++) {
        const struct mf_monitor_case *c = &r->d->cases[i];
        double p = truth ? c->p_present : c->p_absent;
        if (c->truth != truth || !c->promised || isnan(p))
            continue;
        n++;
        covered += p > alpha;
    }
    return mf_json_real(n ? (double)covered / (double)n : NAN);
}

static json_t *coverage_by_alpha(const struct report *r)
{
    static const double ALPHAS[] = {0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof ALPHAS / sizeof *ALPHAS; i++)
        json_array_append_new(list, json_pack("{s:f, s:o, s:o}", "alpha", ALPHAS[i], "present",
                                              covered_at(r, ALPHAS[i], 1), "absent",
                                              covered_at(r, ALPHAS[i], 0)));
    return list;
}

static json_t *calibration_of(struct report *r, size_t label)
{
    const char *name = mf_bundle_labels(r->d->bundle)[label].id;
    size_t n = 0, positives = 0;
    double sum = 0, brier = 0;
    for (size_t i = 0; i < r->d->count; i++) {
        const struct mf_monitor_case *c = case_at(r, i, label);
        if (c->truth < 0 || isnan(c->probability))
            continue;
        n++;
        positives += c->truth == 1;
        sum += c->probability;
        brier += (c->probability - c->truth) * (c->probability - c->truth);
    }
    if (n == 0)
        return json_null();
    double mean = sum / (double)n;
    struct mf_interval interval = mf_wilson(positives, n, ERROR),
                       wide = mf_wilson(positives, n, ERROR / (double)r->d->label_count);
    if (n >= LEAST_FOR_CALIBRATION && (mean < wide.low || mean > wide.high))
        raise_alarm(r, CALIBRATION, name, "%zu of %zu were present, the mean probability was %.3f",
                    positives, n, mean);
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)n, "positives",
                     (json_int_t)positives, "observed", (double)positives / (double)n, "low",
                     interval.low, "high", interval.high, "predicted", mean, "brier",
                     brier / (double)n);
}

static int by_probability(const void *a, const void *b)
{
    double x = ((const struct judged *)a)->probability, y = ((const struct judged *)b)->probability;
    return x < y ? -1 : x > y;
}

static json_t *bin_of(const struct judged *cases, size_t n)
{
    size_t positives = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        positives += cases[i].present;
        sum += cases[i].probability;
    }
    struct mf_interval interval = mf_wilson(positives, n, ERROR);
    return json_pack("{s:I, s:f, s:f, s:f, s:f}", "n", (json_int_t)n, "predicted", sum / (double)n,
                     "observed", (double)positives / (double)n, "low", interval.low, "high",
                     interval.high);
}

/* The reliability diagram: what is known of all labels, ordered by probability and cut into bins of
 * equal size, ten at most and of ten cases at least (one bin holds fewer). */
static json_t *calibration_curve(const struct report *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->d->count * r->d->label_count; i++) {
        const struct mf_monitor_case *c = &r->d->cases[i];
        if (c->truth >= 0 && !isnan(c->probability))
            r->judged[n++] = (struct judged){c->probability, c->truth == 1};
    }
    qsort(r->judged, n, sizeof *r->judged, by_probability);
    size_t bins = n / LEAST_IN_BIN < MOST_BINS ? n / LEAST_IN_BIN : MOST_BINS;
    bins = bins ? bins : n > 0;
    json_t *list = json_array();
    for (size_t b = 0; b < bins; b++) {
        size_t from = n * b / bins;
        json_array_append_new(list, bin_of(r->judged + from, n * (b + 1) / bins - from));
    }
    return list;
}

static json_t *label_of(struct report *r, size_t label)
{
    const struct mf_label *l = &mf_bundle_labels(r->d->bundle)[label];
    json_t *scores = scores_of(r, label), *sets = sets_of(r, label);
    json_t *present = coverage_of(r, label, true), *absent = coverage_of(r, label, false);
    return json_pack("{s:s, s:o, s:o, s:{s:o, s:o}, s:o}", "label", l->id, "scores", scores, "sets",
                     sets, "coverage", "present", present, "absent", absent, "calibration",
                     calibration_of(r, label));
}

/* --- the whole --- */

static json_t *window_of(const struct mf_monitor_data *d, size_t last)
{
    char from[MF_TIME_TEXT], to[MF_TIME_TEXT];
    bool any = d->count > 0;
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "last", (json_int_t)last, "results",
                     (json_int_t)d->count, "with_feedback", (json_int_t)d->with_feedback,
                     "other_versions", (json_int_t)d->other_versions, "from",
                     any ? json_string(mf_clock_format_ms(d->from_ms, from)) : json_null(), "to",
                     any ? json_string(mf_clock_format_ms(d->to_ms, to)) : json_null());
}

/* The most values that one list will hold. */
static size_t longest_reference(const struct mf_monitor_data *d)
{
    size_t most = 1;
    for (size_t i = 0; i < d->label_count; i++) {
        const struct mf_trust_reference t = mf_trust_reference(mf_bundle_trust(d->bundle), i);
        most = t.n_pos + t.n_neg > most ? t.n_pos + t.n_neg : most;
    }
    return most;
}

json_t *mf_monitor_describe(const struct mf_monitor_data *d, const char *site, size_t last,
                            const json_t *reference, struct mf_error *err)
{
    MF_AUTO(mf_mem) float *now = calloc(d->capacity + 1, sizeof *now);
    MF_AUTO(mf_mem) float *then = calloc(longest_reference(d), sizeof *then);
    MF_AUTO(mf_mem) struct judged *judged = calloc(d->count * d->label_count + 1, sizeof *judged);
    MF_AUTO(mf_json) json_t *alarms = json_array();
    struct report r = {d, alarms, now, then, judged};
    bool room = now && then && judged;
    json_t *labels = json_array(), *features = json_array(), *json = NULL;
    for (size_t i = 0; room && i < d->label_count; i++)
        json_array_append_new(labels, label_of(&r, i));
    for (size_t i = 0; room && i < d->feature_count; i++)
        json_array_append_new(features, feature_of(&r, i, json_array_get(reference, i)));
    if (room)
        json =
            json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:O}", "model",
                      mf_bundle_name(d->bundle), "version", mf_bundle_version(d->bundle),
                      "model_hash", mf_bundle_model_hash(d->bundle), "site", mf_json_string(site),
                      "window", window_of(d, last), "labels", json_incref(labels),
                      "coverage_by_alpha", coverage_by_alpha(&r), "calibration_curve",
                      calibration_curve(&r), "features", json_incref(features), "outliers",
                      outliers_of(&r), "flags", d->flags, "alarms", alarms);
    json_decref(labels);
    json_decref(features);
    if (!json)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the quality report");
    return json;
}
