/* Weighted conformal sets and the density ratio behind the weights (weighted.h). */
#include "engine/trust/weighted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_CASES = 30, MAX_STEPS = 60, MAX_HALVINGS = 40 };

static const double RIDGE = 1, LARGEST_WEIGHT = 1e6;

double mf_effective_size(const float *weights, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weights[i];
        squares += (double)weights[i] * weights[i];
    }
    return squares > 0 ? sum * sum / squares : 0;
}

double mf_effective_size_needed(double alpha)
{
    return fmax(50, 10 / alpha);
}

struct mf_conformal_class mf_conformal_judge_weighted(const float *logits, const float *weights,
                                                      size_t n, bool present, float z,
                                                      double weight, double alpha)
{
    struct mf_conformal_class c = {.p = 1, .q = INFINITY};
    double total = weight, as_large = weight, tail = weight;
    for (size_t i = 0; i < n; i++) {
        total += weights[i];
        as_large += (present ? logits[i] <= z : logits[i] >= z) ? weights[i] : 0;
    }
    c.p = total > 0 ? as_large / total : 1;
    c.included = c.p > alpha + 1e-12;
    c.enough = !(weight / total > alpha + 1e-12);
    /* From the largest score on: the first whose tail is heavier than alpha is the threshold. */
    for (size_t i = 0; c.enough && i < n;) {
        size_t at = present ? i : n - 1 - i;
        float score = logits[at];
        for (; i < n && logits[present ? i : n - 1 - i] == score; i++)
            tail += weights[present ? i : n - 1 - i];
        if (tail / total > alpha + 1e-12) {
            c.q = present ? -(double)score : score;
            return c;
        }
    }
    if (c.enough)
        c.q = -INFINITY;
    return c;
}

void mf_density_ratio_clear(struct mf_density_ratio *r)
{
    free(r->coefficients);
    free(r->mean);
    free(r->scale);
    memset(r, 0, sizeof *r);
}

/* The regression: rows (n, k) standardised with a leading 1; the first `sources` are class 0. */
struct regression {
    const double *rows;
    size_t n, k, sources;
};

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double product(const double *a, const double *b, size_t k)
{
    double sum = 0;
    for (size_t j = 0; j < k; j++)
        sum += a[j] * b[j];
    return sum;
}

static double loss(const struct regression *m, const double *w)
{
    double sum = 0;
    for (size_t i = 0; i < m->n; i++) {
        double z = product(m->rows + i * m->k, w, m->k);
        sum += softplus(z) - (i >= m->sources ? z : 0);
    }
    for (size_t j = 1; j < m->k; j++)
        sum += 0.5 * RIDGE * w[j] * w[j];
    return sum;
}

static void derivatives(const struct regression *m, const double *w, double *g, double *h)
{
    size_t k = m->k;
    memset(g, 0, k * sizeof *g);
    memset(h, 0, k * k * sizeof *h);
    for (size_t i = 0; i < m->n; i++) {
        const double *x = m->rows + i * k;
        double p = 1 / (1 + exp(-product(x, w, k))), v = p * (1 - p) + 1e-12;
        for (size_t j = 0; j < k; j++) {
            g[j] += (p - (i >= m->sources)) * x[j];
            for (size_t l = 0; l <= j; l++)
                h[j * k + l] += v * x[j] * x[l];
        }
    }
    for (size_t j = 1; j < k; j++) {
        g[j] += RIDGE * w[j];
        h[j * k + j] += RIDGE;
    }
}

/* Solves h·step = g in place by Cholesky (h: lower triangle); g becomes the step. */
static bool solve(double *h, double *g, size_t k)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = h[i * k + j] - product(h + i * k, h + j * k, j);
            if (i == j && !(sum > 0))
                return false;
            h[i * k + j] = i == j ? sqrt(sum) : sum / h[j * k + j];
        }
    for (size_t i = 0; i < k; i++)
        g[i] = (g[i] - product(h + i * k, g, i)) / h[i * k + i];
    for (size_t i = k; i-- > 0;) {
        for (size_t q = i + 1; q < k; q++)
            g[i] -= h[q * k + i] * g[q];
        g[i] /= h[i * k + i];
    }
    return true;
}

/* Newton's method with backtracking; w, trial, g (k each), h (k × k). */
static void minimise(const struct regression *m, double *w, double *trial, double *g, double *h)
{
    double now = loss(m, w);
    for (int step = 0; step < MAX_STEPS; step++) {
        derivatives(m, w, g, h);
        if (!solve(h, g, m->k))
            return;
        double rate = 1, next = now;
        for (int half = 0; half < MAX_HALVINGS; half++, rate /= 2) {
            for (size_t j = 0; j < m->k; j++)
                trial[j] = w[j] - rate * g[j];
            next = loss(m, trial);
            if (next < now)
                break;
        }
        bool done = !(next < now - 1e-12 * (1 + fabs(now)));
        if (next < now)
            memcpy(w, trial, m->k * sizeof *w);
        if (done)
            return;
        now = next;
    }
}

/* Mean and spread over both sides; rows become (1, standardised logits). */
static bool standardise(const float *source, size_t sources, const float *target, size_t targets,
                        struct mf_density_ratio *r, double *rows)
{
    size_t n = sources + targets, k = r->size + 1;
    for (size_t j = 0; j < r->size; j++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            double v = i < sources ? source[i * r->size + j] : target[(i - sources) * r->size + j];
            if (!isfinite(v))
                return false;
            rows[i * k + j + 1] = v;
            sum += v;
        }
        r->mean[j] = sum / (double)n;
        for (size_t i = 0; i < n; i++)
            squares += pow(rows[i * k + j + 1] - r->mean[j], 2);
        r->scale[j] = squares > 0 ? sqrt(squares / (double)n) : 1;
        for (size_t i = 0; i < n; i++)
            rows[i * k + j + 1] = (rows[i * k + j + 1] - r->mean[j]) / r->scale[j];
    }
    for (size_t i = 0; i < n; i++)
        rows[i * k] = 1;
    return true;
}

bool mf_density_ratio_fit(const float *source, size_t sources, const float *target, size_t targets,
                          size_t size, struct mf_density_ratio *ret, struct mf_error *err)
{
    size_t k = size + 1, n = sources + targets;
    *ret = (struct mf_density_ratio){.size = size};
    if (sources < LEAST_CASES || targets < LEAST_CASES)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "a density ratio needs %d cases of both sides, there are %zu and %zu",
                            LEAST_CASES, sources, targets);
    MF_AUTO(mf_mem) double *rows = calloc(n * k, sizeof *rows);
    MF_AUTO(mf_mem) double *work = calloc(3 * k + k * k, sizeof *work);
    ret->coefficients = calloc(k, sizeof *ret->coefficients);
    ret->mean = calloc(k, sizeof *ret->mean);
    ret->scale = calloc(k, sizeof *ret->scale);
    bool ok = rows && work && ret->coefficients && ret->mean && ret->scale;
    if (!ok)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a density ratio");
    else if (!(ok = standardise(source, sources, target, targets, ret, rows)))
        mf_error_set(err, MF_ERR_UNUSABLE, "a logit is not finite");
    if (!ok) {
        mf_density_ratio_clear(ret);
        return false;
    }
    struct regression m = {rows, n, k, sources};
    minimise(&m, work, work + k, work + 2 * k, work + 3 * k);
    /* The odds are those of the two sample sizes too, which the ratio of densities is not. */
    ret->intercept = work[0] - log((double)targets / (double)sources);
    memcpy(ret->coefficients, work + 1, size * sizeof *work);
    return true;
}

double mf_density_ratio_at(const struct mf_density_ratio *r, const float *logits)
{
    double sum = r->intercept;
    for (size_t j = 0; j < r->size; j++)
        sum += r->coefficients[j] * (logits[j] - r->mean[j]) / r->scale[j];
    return fmin(exp(sum), LARGEST_WEIGHT);
}
