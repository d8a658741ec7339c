/* Drift against a reference, and intervals of shares (drift.h). */
#include "engine/trust/drift.h"

#include <math.h>
#include <stdbool.h>

enum { BINS = 10 };

/* --- PSI --- */

static double index_of(const size_t *reference, const size_t *now, size_t bins, double n, double m,
                       double weight)
{
    double psi = 0, half = 0.5 * (double)bins;
    for (size_t b = 0; b < bins; b++) {
        double e = ((double)reference[b] * weight / n + 0.5) / (weight + half);
        double a = ((double)now[b] + 0.5) / (m + half);
        psi += (a - e) * log(a / e);
    }
    return psi;
}

/* How many of the ascending values are ≤ edge. */
static size_t count_to(const float *values, size_t n, float edge)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (values[middle] <= edge)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Counts of both sides in bins that end at quantiles of the reference; equal quantiles share a bin.
 * Returns the number of bins. */
static size_t fill_bins(const float *reference, size_t n, const float *now, size_t m,
                        size_t reference_bins[BINS], size_t now_bins[BINS])
{
    size_t bins = 0, reference_before = 0, now_before = 0;
    for (size_t b = 1; b <= BINS; b++) {
        bool last = b == BINS;
        float edge = reference[last ? n - 1 : n * b / BINS];
        size_t reference_to = last ? n : count_to(reference, n, edge);
        size_t now_to = last ? m : count_to(now, m, edge);
        if (reference_to == reference_before)
            continue;
        if (reference_to == n)
            now_to = m;
        reference_bins[bins] = reference_to - reference_before;
        now_bins[bins++] = now_to - now_before;
        reference_before = reference_to;
        now_before = now_to;
    }
    return bins;
}

/* --- Kolmogorov–Smirnov --- */

/* The probability of a distance as large as this when both sides are alike, `effective` =
 * nm/(n + m). */
static double ks_probability(double distance, double effective)
{
    double root = sqrt(effective), x = (root + 0.12 + 0.11 / root) * distance, p = 0, sign = 2;
    if (x < 0.2)
        return 1;
    for (int k = 1; k <= 100; k++) {
        double term = exp(-2 * k * k * x * x);
        p += sign * term;
        sign = -sign;
        if (term < 1e-16)
            break;
    }
    return fmin(fmax(p, 0), 1);
}

static double ks_distance(const float *a, size_t n, const float *b, size_t m)
{
    double most = 0;
    size_t i = 0, k = 0;
    while (i < n && k < m) {
        float at = fminf(a[i], b[k]);
        while (i < n && a[i] == at)
            i++;
        while (k < m && b[k] == at)
            k++;
        most = fmax(most, fabs((double)i / (double)n - (double)k / (double)m));
    }
    return most;
}

struct mf_drift mf_drift_of(const float *reference, size_t n, size_t weight, const float *now,
                            size_t m)
{
    struct mf_drift d = {NAN, NAN, NAN, NAN};
    size_t before[BINS] = {0}, after[BINS] = {0};
    if (n == 0 || m == 0)
        return d;
    size_t bins = fill_bins(reference, n, now, m, before, after);
    double w = (double)weight;
    if (bins > 1) {
        d.psi = index_of(before, after, bins, (double)n, (double)m, w);
        d.psi_noise = (double)(bins - 1) * (1 / w + 1 / (double)m);
    }
    d.ks = ks_distance(reference, n, now, m);
    d.p = ks_probability(d.ks, w * (double)m / (w + (double)m));
    return d;
}

struct mf_drift mf_drift_of_counts(const size_t *reference, const size_t *now, size_t categories)
{
    struct mf_drift d = {NAN, NAN, NAN, NAN};
    double n = 0, m = 0;
    for (size_t i = 0; i < categories; i++) {
        n += (double)reference[i];
        m += (double)now[i];
    }
    if (n == 0 || m == 0 || categories < 2)
        return d;
    d.psi = index_of(reference, now, categories, n, m, n);
    d.psi_noise = (double)(categories - 1) * (1 / n + 1 / m);
    return d;
}

struct mf_drift mf_drift_from_uniform(const float *now, size_t m)
{
    struct mf_drift d = {NAN, NAN, NAN, NAN};
    if (m == 0)
        return d;
    d.ks = 0;
    for (size_t i = 0; i < m; i++) {
        double x = now[i], n = (double)m;
        d.ks = fmax(d.ks, fmax((double)(i + 1) / n - x, x - (double)i / n));
    }
    d.p = ks_probability(d.ks, (double)m);
    return d;
}

/* --- intervals --- */

/* The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's
 * method. */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int i = 1; i <= 500; i++) {
        double even = i * (b - i) * x / ((a + 2 * i - 1) * (a + 2 * i));
        double odd = -(a + i) * (a + b + i) * x / ((a + 2 * i) * (a + 2 * i + 1));
        double before = f;
        for (int k = 0; k < 2; k++) {
            double term = k ? odd : even;
            d = 1 + term * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + term / c;
            c = fabs(c) < tiny ? tiny : c;
            f *= c * d;
        }
        if (fabs(f / before - 1) < 1e-15)
            break;
    }
    return f;
}

static double log_beta(double a, double b)
{
    int sign; /* lgamma() would keep it in a variable that all threads share */
    return lgamma_r(a, &sign) + lgamma_r(b, &sign) - lgamma_r(a + b, &sign);
}

/* P(X ≤ x) of a beta distribution. */
static double beta_below(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x >= 1;
    double front = exp(a * log(x) + b * log1p(-x) - log_beta(a, b));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* The x with P(X ≤ x) = p, by bisection. */
static double beta_quantile(double a, double b, double p)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (beta_below(a, b, middle) < p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

struct mf_interval mf_clopper_pearson(size_t k, size_t n, double error)
{
    double hits = (double)k, misses = (double)(n - k);
    return (struct mf_interval){k == 0 ? 0 : beta_quantile(hits, misses + 1, error / 2),
                                k == n ? 1 : beta_quantile(hits + 1, misses, 1 - error / 2)};
}

/* The z with P(Z ≤ z) = p of a normal distribution, by bisection. */
static double normal_quantile(double p)
{
    double low = -40, high = 40;
    for (int i = 0; i < 80; i++) {
        double middle = (low + high) / 2;
        if (0.5 * erfc(-middle * M_SQRT1_2) < p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

struct mf_interval mf_wilson(size_t k, size_t n, double error)
{
    double m = (double)n, share = (double)k / m, z = normal_quantile(1 - error / 2);
    if (n == 0)
        return (struct mf_interval){0, 1};
    double middle = (share + z * z / (2 * m)) / (1 + z * z / m);
    double half = z / (1 + z * z / m) * sqrt(share * (1 - share) / m + z * z / (4 * m * m));
    return (struct mf_interval){fmax(middle - half, 0), fmin(middle + half, 1)};
}
