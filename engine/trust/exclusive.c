/* Labels that exclude each other (exclusive.h): log-odds, the softmax's temperature, RAPS sets. */
#include "engine/trust/exclusive.h"

#include "engine/trust/conformal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDS = 5, TUNING_FOLD = 0, LEAST_CASES = 100, STEPS = 60 };

static const double LEAST_SLOPE = 0.01, MOST_SLOPE = 100; /* of z in the softmax, 1 / temperature */
static const double TUNING_ALPHA = 0.1;
static const double LAMBDAS[] = {0, 0.001, 0.01, 0.1, 0.2, 0.5};

void mf_exclusive_log_odds(const float *z, size_t n, float *ret)
{
    size_t top = 0, second = 1;
    for (size_t i = 1; i < n; i++)
        top = z[i] > z[top] ? i : top;
    second = top == 0;
    for (size_t i = 0; i < n; i++)
        second = i != top && z[i] > z[second] ? i : second;
    double beside = 0, below = 0; /* Σ without the top, relative to the second and to the top */
    for (size_t i = 0; i < n; i++)
        if (i != top) {
            beside += exp((double)z[i] - z[second]);
            below += exp((double)z[i] - z[top]);
        }
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)(i == top ? (double)z[i] - z[second] - log(beside)
                                  : (double)z[i] - z[top] -
                                        log1p(fmax(0, below - exp((double)z[i] - z[top]))));
}

float *mf_exclusive_odds_of(const struct mf_trust_cases *cases, struct mf_error *err)
{
    size_t n = cases->label_count;
    float *odds = calloc(cases->count * n + 1, sizeof *odds);
    if (!odds)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; odds && i < cases->count; i++)
        mf_exclusive_log_odds(cases->logits + i * n, n, odds + i * n);
    return odds;
}

/* --- cases whose label is known --- */

struct labelled {
    const struct mf_trust_cases *cases;
    size_t count, width;
    size_t *row, *label; /* count */
    uint8_t *fold;       /* count; a patient's cases share it */
    double *p;           /* width; work */
};

static void release(struct labelled *l)
{
    free(l->row);
    free(l->label);
    free(l->fold);
    free(l->p);
}

/* A case counts when one label is present and no other is; one that is labelled throughout must. */
static bool gather(const struct mf_trust_cases *cases, const uint32_t *patient, struct labelled *l,
                   struct mf_error *err)
{
    size_t n = cases->count + 1, wrong = 0;
    *l = (struct labelled){.cases = cases,
                           .width = cases->label_count,
                           .row = calloc(n, sizeof *l->row),
                           .label = calloc(n, sizeof *l->label),
                           .fold = calloc(n, sizeof *l->fold),
                           .p = calloc(cases->label_count + 1, sizeof *l->p)};
    if (!l->row || !l->label || !l->fold || !l->p)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < cases->count; i++) {
        size_t present = 0, blank = 0, last = 0;
        for (size_t c = 0; c < l->width; c++) {
            int8_t truth = cases->truth[i * l->width + c];
            present += truth > 0;
            blank += truth < 0;
            last = truth > 0 ? c : last;
        }
        wrong += present > 1 || (present == 0 && blank == 0);
        if (present != 1)
            continue;
        l->row[l->count] = i;
        l->label[l->count] = last;
        l->fold[l->count++] = (uint8_t)(patient[i] % FOLDS);
    }
    return !wrong || mf_error_set(err, MF_ERR_UNUSABLE,
                                  "%zu calibration cases have none or several of labels that "
                                  "exclude each other",
                                  wrong);
}

static const float *logits_of(const struct labelled *l, size_t i)
{
    return l->cases->logits + l->row[i] * l->width;
}

/* --- temperature --- */

/* Which cases: those of the fold, or those outside of it. */
struct part {
    unsigned fold;
    bool inside;
};
static const struct part ALL = {FOLDS, false};

static bool is_in(const struct labelled *l, struct part part, size_t i)
{
    return (l->fold[i] == part.fold) == part.inside;
}

/* Mean negative log-likelihood of a slope, NaN without cases; with its two derivatives. */
static double loss(const struct labelled *l, struct part part, double slope, double *ret_first,
                   double *ret_second)
{
    double sum = 0, first = 0, second = 0;
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (!is_in(l, part, i))
            continue;
        const float *z = logits_of(l, i);
        float most = z[0];
        for (size_t c = 1; c < l->width; c++)
            most = fmaxf(most, z[c]);
        double total = 0, mean = 0, square = 0;
        for (size_t c = 0; c < l->width; c++) {
            double d = (double)z[c] - most, e = exp(slope * d);
            total += e;
            mean += e * d;
            square += e * d * d;
        }
        mean /= total;
        double own = (double)z[l->label[i]] - most;
        sum += log(total) - slope * own;
        first += mean - own;
        second += square / total - mean * mean;
        n++;
    }
    *ret_first = first / (double)n;
    *ret_second = second / (double)n;
    return sum / (double)n;
}

/* Newton's method with backtracking; the loss is convex in the slope. */
static double fit_slope(const struct labelled *l, struct part part)
{
    double slope = 1, first, second, ignored[2];
    double best = loss(l, part, slope, &first, &second);
    for (int step = 0; step < STEPS && second > 0; step++) {
        double next = fmin(fmax(slope - first / second, LEAST_SLOPE), MOST_SLOPE);
        double at = loss(l, part, next, &ignored[0], &ignored[1]);
        while (at > best && fabs(next - slope) > 1e-12) {
            next = (next + slope) / 2;
            at = loss(l, part, next, &ignored[0], &ignored[1]);
        }
        if (fabs(next - slope) <= 1e-10 * slope)
            break;
        slope = next;
        best = loss(l, part, slope, &first, &second);
    }
    return slope;
}

/* The mean over the folds' cases of their loss under what the other folds say. */
static double cross_validate(const struct labelled *l, bool fitted)
{
    double sum = 0, ignored[2];
    for (unsigned fold = 0; fold < FOLDS; fold++) {
        const struct part held = {fold, true}, others = {fold, false};
        double n = 0;
        for (size_t i = 0; i < l->count; i++)
            n += is_in(l, held, i);
        if (n > 0)
            sum += n * loss(l, held, fitted ? fit_slope(l, others) : 1, &ignored[0], &ignored[1]);
    }
    return sum / (double)l->count;
}

static void choose_temperature(const struct labelled *l, struct mf_exclusive *e)
{
    e->temperature = 1;
    e->nll[0] = l->count ? cross_validate(l, false) : NAN;
    e->nll[1] = l->count >= LEAST_CASES ? cross_validate(l, true) : NAN;
    if (e->nll[1] < e->nll[0])
        e->temperature = 1 / fit_slope(l, ALL);
}

/* --- sets --- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Scores of the true labels of a part, ascending, into `ret`; returns their number. */
static size_t score(const struct labelled *l, struct part part, const struct mf_exclusive *e,
                    double *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (!is_in(l, part, i))
            continue;
        mf_softmax(logits_of(l, i), l->width, e->set_temperature, l->p);
        ret[n++] = mf_raps_score(&e->raps, l->p, l->width, l->label[i], 1);
    }
    qsort(ret, n, sizeof *ret, ascending);
    return n;
}

/* How large the sets of a part are together when they hold every score up to q: scores rise with
 * the rank. */
static size_t size_of_sets(const struct labelled *l, struct part part, const struct mf_exclusive *e,
                           double q)
{
    size_t size = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (!is_in(l, part, i))
            continue;
        mf_softmax(logits_of(l, i), l->width, e->set_temperature, l->p);
        qsort(l->p, l->width, sizeof *l->p, ascending);
        double sum = 0;
        for (size_t rank = 1; rank <= l->width; rank++) {
            double excess = rank > e->raps.free ? (double)(rank - e->raps.free) : 0;
            sum += l->p[l->width - rank];
            size += rank == 1 || sum + e->raps.lambda * excess <= q;
        }
    }
    return size;
}

/* The rank of the true label that all but a tenth of the part keep to. */
static size_t usual_rank(const struct labelled *l, struct part part, double *work)
{
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++) {
        const float *z = logits_of(l, i);
        size_t rank = 1;
        for (size_t c = 0; c < l->width; c++)
            rank += z[c] > z[l->label[i]];
        if (is_in(l, part, i))
            work[n++] = (double)rank;
    }
    qsort(work, n, sizeof *work, ascending);
    size_t k = mf_conformal_rank(n, TUNING_ALPHA);
    return k >= 1 && k <= n ? (size_t)work[k - 1] : l->width;
}

static void tune(const struct labelled *l, struct part part, struct mf_exclusive *e, double *work)
{
    double best_lambda = 0;
    size_t best_size = SIZE_MAX;
    e->set_temperature = (float)(1 / fit_slope(l, part)); /* as the file keeps it */
    e->raps.free = usual_rank(l, part, work);
    for (size_t i = 0; i < sizeof LAMBDAS / sizeof *LAMBDAS; i++) {
        e->raps.lambda = LAMBDAS[i];
        size_t n = score(l, part, e, work), k = mf_conformal_rank(n, TUNING_ALPHA);
        size_t size = size_of_sets(l, part, e, k >= 1 && k <= n ? work[k - 1] : INFINITY);
        if (size < best_size) {
            best_size = size;
            best_lambda = LAMBDAS[i];
        }
    }
    e->raps.lambda = best_lambda;
    e->tuning_cases = score(l, part, e, work);
}

static bool fit_sets(const struct labelled *l, struct mf_exclusive *e, struct mf_error *err)
{
    const struct part tuning = {TUNING_FOLD, true}, others = {TUNING_FOLD, false};
    bool tuned = l->count >= LEAST_CASES;
    e->set_temperature = 1;
    e->raps = (struct mf_raps){0, 0};
    e->scores = calloc(l->count + 1, sizeof *e->scores);
    if (!e->scores)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    if (tuned)
        tune(l, tuning, e, e->scores);
    if (e->tuning_cases == l->count) /* one patient, say: nothing would be left */
        *e = (struct mf_exclusive){.temperature = e->temperature,
                                   .nll = {e->nll[0], e->nll[1]},
                                   .set_temperature = 1,
                                   .scores = e->scores};
    e->cases = score(l, e->tuning_cases ? others : ALL, e, e->scores);
    /* The file keeps floats: rounded upwards, sets can only grow. */
    for (size_t i = 0; i < e->cases; i++) {
        float f = (float)e->scores[i];
        e->scores[i] = f < e->scores[i] ? nextafterf(f, INFINITY) : f;
    }
    return true;
}

bool mf_exclusive_fit(const struct mf_trust_cases *cases, const uint32_t *patient,
                      struct mf_exclusive *ret, struct mf_error *err)
{
    struct labelled l = {0};
    *ret = (struct mf_exclusive){.temperature = 1, .set_temperature = 1};
    if (cases->prevalence || cases->target)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "labels that exclude each other take neither prevalences nor a target "
                            "site");
    bool ok = gather(cases, patient, &l, err);
    if (ok) {
        choose_temperature(&l, ret);
        ok = fit_sets(&l, ret, err);
    }
    release(&l);
    if (!ok)
        mf_exclusive_clear(ret);
    return ok;
}

void mf_exclusive_clear(struct mf_exclusive *e)
{
    free(e->scores);
    e->scores = NULL;
    e->cases = 0;
}

void mf_exclusive_set(const struct mf_exclusive *e, const float *logits, size_t n, double alpha,
                      double *work, bool *include)
{
    bool enough;
    mf_softmax(logits, n, e->set_temperature, work);
    mf_raps_set(&e->raps, e->scores, e->cases, work, n, 1, alpha, include, &enough);
}

/* --- files --- */

json_t *mf_exclusive_softmax_to_json(const struct mf_exclusive *e)
{
    return json_pack("{s:f, s:{s:o, s:o}}", "temperature", e->temperature, "cross_validated_nll",
                     "identity", mf_json_real(e->nll[0]), "temperature", mf_json_real(e->nll[1]));
}

json_t *mf_exclusive_raps_to_json(const struct mf_exclusive *e)
{
    json_t *scores = json_array();
    for (size_t i = 0; i < e->cases; i++)
        json_array_append_new(scores, json_real(e->scores[i]));
    return json_pack("{s:f, s:f, s:I, s:I, s:o}", "temperature", e->set_temperature, "lambda",
                     e->raps.lambda, "k_reg", (json_int_t)e->raps.free, "tuning_cases",
                     (json_int_t)e->tuning_cases, "scores", scores);
}

static bool is_temperature(double t)
{
    return t >= 0.5 / MOST_SLOPE && t <= 2 / LEAST_SLOPE;
}

bool mf_exclusive_read_softmax(const json_t *json, struct mf_exclusive *ret, struct mf_error *err)
{
    const json_t *nll = json_object_get(json, "cross_validated_nll");
    ret->temperature = mf_json_get_number(json, "temperature", NAN);
    ret->nll[0] = mf_json_get_number(nll, "identity", NAN);
    ret->nll[1] = mf_json_get_number(nll, "temperature", NAN);
    return is_temperature(ret->temperature) ||
           mf_error_set(err, MF_ERR_MODEL, "softmax.temperature is wrong");
}

bool mf_exclusive_read_raps(const json_t *json, struct mf_exclusive *ret, struct mf_error *err)
{
    const json_t *scores = json_object_get(json, "scores");
    json_int_t k_reg = mf_json_get_int(json, "k_reg", -1),
               tuning = mf_json_get_int(json, "tuning_cases", -1);
    ret->set_temperature = mf_json_get_number(json, "temperature", NAN);
    ret->raps.lambda = mf_json_get_number(json, "lambda", NAN);
    if (!is_temperature(ret->set_temperature) || !(ret->raps.lambda >= 0) || k_reg < 0 ||
        tuning < 0 || !json_is_array(scores))
        return mf_error_set(err, MF_ERR_MODEL, "raps is wrong");
    ret->raps.free = (size_t)k_reg;
    ret->tuning_cases = (size_t)tuning;
    ret->cases = json_array_size(scores);
    ret->scores = calloc(ret->cases + 1, sizeof *ret->scores);
    if (!ret->scores)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < ret->cases; i++) {
        const json_t *v = json_array_get(scores, i);
        /* Nine digits name one float: this is the one that was written. */
        double s = (float)json_number_value(v);
        ret->scores[i] = s;
        if (!json_is_number(v) || !isfinite(s) || s < 0 || (i && s < ret->scores[i - 1]))
            return mf_error_set(err, MF_ERR_MODEL, "raps.scores must rise");
    }
    return true;
}
