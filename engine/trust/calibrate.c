/* Probability calibration of one label (calibrate.h): logistic fits by Newton's method, isotonic by
 * pooling. */
#include "engine/trust/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TERMS = 3, MAX_STEPS = 100, MAX_HALVINGS = 40 };

static const double RIDGE = 1e-9; /* keeps the Hessian regular where the data is separable */

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* A logistic regression: n rows of k terms, soft targets. */
struct logistic {
    const double *terms, *target;
    size_t n, k;
};

static double loss(const struct logistic *m, const double *w)
{
    double sum = 0;
    for (size_t i = 0; i < m->n; i++) {
        double z = 0;
        for (size_t j = 0; j < m->k; j++)
            z += w[j] * m->terms[i * m->k + j];
        sum += softplus(z) - m->target[i] * z;
    }
    for (size_t j = 0; j < m->k; j++)
        sum += 0.5 * RIDGE * (double)m->n * w[j] * w[j];
    return sum;
}

static void derivatives(const struct logistic *m, const double *w, double g[MAX_TERMS],
                        double h[MAX_TERMS][MAX_TERMS])
{
    memset(g, 0, MAX_TERMS * sizeof *g);
    memset(h, 0, MAX_TERMS * sizeof *h);
    for (size_t i = 0; i < m->n; i++) {
        const double *x = m->terms + i * m->k;
        double z = 0;
        for (size_t j = 0; j < m->k; j++)
            z += w[j] * x[j];
        double p = sigmoid(z), v = p * (1 - p);
        for (size_t j = 0; j < m->k; j++) {
            g[j] += (p - m->target[i]) * x[j];
            for (size_t l = 0; l <= j; l++)
                h[j][l] += v * x[j] * x[l];
        }
    }
    for (size_t j = 0; j < m->k; j++) {
        g[j] += RIDGE * (double)m->n * w[j];
        h[j][j] += RIDGE * (double)m->n;
        for (size_t l = 0; l < j; l++)
            h[l][j] = h[j][l];
    }
}

/* Solves h·step = g by Cholesky; false when h is not positive definite. */
static bool solve(double h[MAX_TERMS][MAX_TERMS], const double *g, size_t k, double *step)
{
    double l[MAX_TERMS][MAX_TERMS] = {{0}}, y[MAX_TERMS];
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = h[i][j];
            for (size_t q = 0; q < j; q++)
                sum -= l[i][q] * l[j][q];
            if (i == j && sum <= 0)
                return false;
            l[i][j] = i == j ? sqrt(sum) : sum / l[j][j];
        }
    for (size_t i = 0; i < k; i++) {
        y[i] = g[i];
        for (size_t q = 0; q < i; q++)
            y[i] -= l[i][q] * y[q];
        y[i] /= l[i][i];
    }
    for (size_t i = k; i-- > 0;) {
        step[i] = y[i];
        for (size_t q = i + 1; q < k; q++)
            step[i] -= l[q][i] * step[q];
        step[i] /= l[i][i];
    }
    return true;
}

/* Newton's method; a step is halved until the loss falls enough (Armijo). */
static void minimise(const struct logistic *m, double *w)
{
    double now = loss(m, w);
    for (int i = 0; i < MAX_STEPS; i++) {
        double g[MAX_TERMS], h[MAX_TERMS][MAX_TERMS], step[MAX_TERMS], slope = 0, rate = 1,
                                                                       next = now;
        derivatives(m, w, g, h);
        if (!solve(h, g, m->k, step))
            return;
        for (size_t j = 0; j < m->k; j++)
            slope += g[j] * step[j];
        if (slope < 1e-9 * (1 + fabs(now))) { /* quadratic from here: one last full step */
            for (size_t j = 0; j < m->k; j++)
                w[j] -= step[j];
            return;
        }
        double trial[MAX_TERMS];
        for (int half = 0; half < MAX_HALVINGS; half++, rate /= 2) {
            for (size_t j = 0; j < m->k; j++)
                trial[j] = w[j] - rate * step[j];
            next = loss(m, trial);
            if (next <= now - 1e-4 * rate * slope)
                break;
        }
        if (!(next < now))
            return;
        memcpy(w, trial, m->k * sizeof *w);
        now = next;
    }
}

/* σ(a·z): one term, hard targets. */
static bool fit_temperature(const double *z, const uint8_t *truth, size_t n,
                            struct mf_calibration *c, struct mf_error *err)
{
    MF_AUTO(mf_mem) double *target = malloc(n * sizeof *target);
    double w[MAX_TERMS] = {0};
    if (!target)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < n; i++)
        target[i] = truth[i];
    struct logistic m = {z, target, n, 1};
    minimise(&m, w);
    c->a = w[0];
    return true;
}

static bool fit_platt(const double *z, const uint8_t *truth, size_t n, struct mf_calibration *c,
                      struct mf_error *err)
{
    MF_AUTO(mf_mem)
    double *terms = malloc(2 * n * sizeof *terms), *target = malloc(n * sizeof *target);
    if (!terms || !target)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    double high = (c->n_pos + 1.0) / (c->n_pos + 2.0), low = 1.0 / (c->n_neg + 2.0);
    for (size_t i = 0; i < n; i++) {
        terms[2 * i] = z[i];
        terms[2 * i + 1] = 1;
        target[i] = truth[i] ? high : low;
    }
    struct logistic m = {terms, target, n, 2};
    double w[MAX_TERMS] = {
        0}; /* where the curvature is largest: Newton cannot start on a flat tail */
    minimise(&m, w);
    c->a = w[0];
    c->b = w[1];
    return true;
}

/* Fits the beta map with the terms that `use` names; the others stay 0. */
static void fit_beta_terms(const double *z, const double *target, size_t n, const bool use[2],
                           double *terms, double w[3])
{
    struct logistic m = {terms, target, n, (size_t)use[0] + use[1] + 1};
    double v[MAX_TERMS] = {0};
    for (size_t i = 0; i < n; i++) {
        double *row = terms + i * m.k;
        if (use[0])
            *row++ = -softplus(-z[i]); /* ln p */
        if (use[1])
            *row++ = softplus(z[i]); /* −ln(1−p) */
        *row = 1;
    }
    minimise(&m, v);
    w[0] = use[0] ? v[0] : 0;
    w[1] = use[1] ? v[use[0]] : 0;
    w[2] = v[m.k - 1];
}

static bool fit_beta(const double *z, const uint8_t *truth, size_t n, struct mf_calibration *c,
                     struct mf_error *err)
{
    MF_AUTO(mf_mem)
    double *terms = malloc(3 * n * sizeof *terms), *target = malloc(n * sizeof *target);
    if (!terms || !target)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    bool use[2] = {true, true};
    double w[3];
    for (size_t i = 0; i < n; i++)
        target[i] = truth[i];
    fit_beta_terms(z, target, n, use, terms, w);
    if (w[0] < 0 || w[1] < 0) { /* Kull et al.: drop the negative one and refit */
        use[w[0] < w[1] ? 0 : 1] = false;
        fit_beta_terms(z, target, n, use, terms, w);
    }
    c->a = fmax(w[0], 0);
    c->b = fmax(w[1], 0);
    c->c = w[2];
    return true;
}

struct pair {
    double z, y, weight;
};

static int by_logit(const void *a, const void *b)
{
    double x = ((const struct pair *)a)->z, y = ((const struct pair *)b)->z;
    return x < y ? -1 : x > y;
}

/* A pool of neighbours with one value, between two logits. */
struct pool {
    double low, high, sum, weight;
};

static size_t pool_violators(const struct pair *pairs, size_t n, struct pool *pools)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (k && pools[k - 1].low == pools[k - 1].high && pools[k - 1].high == pairs[i].z) {
            pools[k - 1].sum += pairs[i].y; /* ties are one observation */
            pools[k - 1].weight += 1;
        } else {
            pools[k++] = (struct pool){pairs[i].z, pairs[i].z, pairs[i].y, 1};
        }
    }
    size_t out = 0;
    for (size_t i = 0; i < k; i++) {
        pools[out++] = pools[i];
        while (out > 1 && pools[out - 2].sum * pools[out - 1].weight >=
                              pools[out - 1].sum * pools[out - 2].weight) {
            pools[out - 2].high = pools[out - 1].high;
            pools[out - 2].sum += pools[out - 1].sum;
            pools[out - 2].weight += pools[out - 1].weight;
            out--;
        }
    }
    return out;
}

static bool fit_isotonic(const double *z, const uint8_t *truth, size_t n, struct mf_calibration *c,
                         struct mf_error *err)
{
    MF_AUTO(mf_mem) struct pair *pairs = malloc((n + 1) * sizeof *pairs);
    MF_AUTO(mf_mem) struct pool *pools = malloc((n + 1) * sizeof *pools);
    c->x = malloc(2 * (n + 1) * sizeof *c->x);
    c->y = malloc(2 * (n + 1) * sizeof *c->y);
    if (!pairs || !pools || !c->x || !c->y)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < n; i++)
        pairs[i] = (struct pair){z[i], truth[i], 1};
    qsort(pairs, n, sizeof *pairs, by_logit);
    size_t k = pool_violators(pairs, n, pools);
    double low = 1.0 / ((double)n + 2), high = ((double)n + 1) / ((double)n + 2);
    for (size_t i = 0; i < k; i++) {
        double y = fmin(fmax(pools[i].sum / pools[i].weight, low), high);
        for (int end = 0; end < 2; end++) {
            if (end && pools[i].high == pools[i].low)
                continue;
            c->x[c->knots] = end ? pools[i].high : pools[i].low;
            c->y[c->knots++] = y;
        }
    }
    return true;
}

bool mf_calibration_fit(enum mf_calibration_method method, const double *z, const uint8_t *truth,
                        size_t n, struct mf_calibration *ret, struct mf_error *err)
{
    memset(ret, 0, sizeof *ret);
    ret->method = method;
    for (size_t i = 0; i < n; i++)
        *(truth[i] ? &ret->n_pos : &ret->n_neg) += 1;
    if (method == MF_CALIBRATION_IDENTITY)
        return true;
    if (!ret->n_pos || !ret->n_neg)
        return mf_error_set(err, MF_ERR_UNUSABLE, "a calibration needs cases of both classes");
    switch (method) {
    case MF_CALIBRATION_TEMPERATURE:
        return fit_temperature(z, truth, n, ret, err);
    case MF_CALIBRATION_PLATT:
        return fit_platt(z, truth, n, ret, err);
    case MF_CALIBRATION_BETA:
        return fit_beta(z, truth, n, ret, err);
    default:
        if (fit_isotonic(z, truth, n, ret, err))
            return true;
        mf_calibration_clear(ret);
        return false;
    }
}

void mf_calibration_clear(struct mf_calibration *c)
{
    free(c->x);
    free(c->y);
    memset(c, 0, sizeof *c);
}

static double interpolate(const struct mf_calibration *c, double z)
{
    if (z <= c->x[0])
        return c->y[0];
    if (z >= c->x[c->knots - 1])
        return c->y[c->knots - 1];
    size_t low = 0, high = c->knots - 1;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        *(c->x[middle] <= z ? &low : &high) = middle;
    }
    return c->y[low] + (c->y[high] - c->y[low]) * (z - c->x[low]) / (c->x[high] - c->x[low]);
}

double mf_calibration_apply(const struct mf_calibration *c, double z)
{
    switch (c->method) {
    case MF_CALIBRATION_TEMPERATURE:
        return sigmoid(c->a * z);
    case MF_CALIBRATION_PLATT:
        return sigmoid(c->a * z + c->b);
    case MF_CALIBRATION_BETA:
        return sigmoid(c->c - c->a * softplus(-z) + c->b * softplus(z));
    case MF_CALIBRATION_ISOTONIC:
        return c->knots ? interpolate(c, z) : sigmoid(z);
    default:
        return sigmoid(z);
    }
}

double mf_calibration_with_prevalence(double p, double from, double to)
{
    bool usable = p > 0 && p < 1 && from > 0 && from < 1 && to > 0 && to < 1;
    if (!usable || from == to)
        return p;
    return sigmoid(log(p) - log1p(-p) + log(to) - log1p(-to) - log(from) + log1p(-from));
}

double mf_calibration_nll(const struct mf_calibration *c, const double *z, const uint8_t *truth,
                          size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double p = fmin(fmax(mf_calibration_apply(c, z[i]), 1e-12), 1 - 1e-12);
        sum -= log(truth[i] ? p : 1 - p);
    }
    return n ? sum / (double)n : 0;
}

const char *mf_calibration_method_name(enum mf_calibration_method method)
{
    static const char *const NAMES[] = {"identity", "temperature", "platt", "beta", "isotonic"};
    return (size_t)method < MF_CALIBRATION_METHODS ? NAMES[method] : "identity";
}

size_t mf_calibration_parameters(enum mf_calibration_method method)
{
    static const size_t COUNTS[] = {0, 1, 2, 3, 0};
    return (size_t)method < MF_CALIBRATION_METHODS ? COUNTS[method] : 0;
}

/* A slope that is not positive would turn the score around: such a fit is no candidate. */
static bool is_rising(const struct mf_calibration *c)
{
    return (c->method != MF_CALIBRATION_PLATT && c->method != MF_CALIBRATION_TEMPERATURE) ||
           c->a > 0;
}

/* The fold of a group: a fixed mixing function (splitmix64), so that a fit can be repeated. */
static unsigned fold_of(uint32_t group, unsigned folds)
{
    uint64_t x = group + UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return (unsigned)((x ^ x >> 31) % folds);
}

/* Cross-validated NLL of a method; NaN where a training part has one class only or a slope is not
 * positive. */
static bool cross_validate(enum mf_calibration_method method, const double *z, const uint8_t *truth,
                           const uint32_t *group, size_t n, unsigned folds, double *ret,
                           struct mf_error *err)
{
    MF_AUTO(mf_mem) double *parts = malloc(2 * (n + 1) * sizeof *parts);
    MF_AUTO(mf_mem) uint8_t *classes = malloc(2 * (n + 1));
    double total = 0;
    *ret = NAN;
    if (!parts || !classes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (unsigned f = 0; f < folds; f++) {
        size_t train = 0, test = 0;
        for (size_t i = 0; i < n; i++) {
            size_t at = fold_of(group[i], folds) == f ? n + 1 + test++ : train++;
            parts[at] = z[i];
            classes[at] = truth[i];
        }
        struct mf_calibration c;
        struct mf_error own = MF_ERROR_INIT;
        if (!mf_calibration_fit(method, parts, classes, train, &c, &own))
            return own.code == MF_ERR_UNUSABLE || mf_error_set(err, own.code, "%s", own.msg);
        bool rising = is_rising(&c);
        total += mf_calibration_nll(&c, parts + n + 1, classes + n + 1, test) * (double)test;
        mf_calibration_clear(&c);
        if (!rising)
            return true;
    }
    *ret = total / (double)n;
    return true;
}

bool mf_calibration_choose(const double *z, const uint8_t *truth, const uint32_t *group, size_t n,
                           unsigned folds, struct mf_calibration *ret, struct mf_error *err)
{
    static const uint32_t LEAST[MF_CALIBRATION_METHODS] = {0, 10, 20, 100, 1000};
    double nll[MF_CALIBRATION_METHODS];
    uint32_t positives = 0;
    int best = MF_CALIBRATION_IDENTITY;
    for (size_t i = 0; i < n; i++)
        positives += truth[i] != 0;
    for (int m = 0; m < MF_CALIBRATION_METHODS; m++) {
        nll[m] = NAN;
        if (n && positives >= LEAST[m] &&
            !cross_validate((enum mf_calibration_method)m, z, truth, group, n, folds, &nll[m], err))
            return false;
        if (nll[m] < nll[best])
            best = m;
    }
    if (!mf_calibration_fit((enum mf_calibration_method)best, z, truth, n, ret, err))
        return false;
    if (!is_rising(ret))
        ret->method = MF_CALIBRATION_IDENTITY;
    memcpy(ret->nll, nll, sizeof nll);
    return true;
}
