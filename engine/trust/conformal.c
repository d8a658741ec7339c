/* Split conformal sets by counting, and risk control of the false-negative rate (conformal.h). */
#include "engine/trust/conformal.h"

#include <math.h>

size_t mf_conformal_rank(size_t n, double alpha)
{
    return n + 1 - (size_t)floor(alpha * (double)(n + 1) + 1e-9);
}

/* How many of the ascending values are < z, or ≤ z. */
static size_t count_below(const float *values, size_t n, float z, bool or_equal)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (values[middle] < z || (or_equal && values[middle] == z))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct mf_conformal_class mf_conformal_judge(const float *logits, size_t n, bool present, float z,
                                             double alpha)
{
    struct mf_conformal_class c;
    /* Adaptive inference may ask for less than nothing, or for more than all. */
    alpha = fmin(fmax(alpha, 0), 1);
    /* Scores at least as large as this one: −zᵢ ≥ −z where present, zᵢ ≥ z where absent. */
    size_t as_large =
        present ? count_below(logits, n, z, true) : n - count_below(logits, n, z, false);
    size_t k = mf_conformal_rank(n, alpha);
    c.p = (1.0 + (double)as_large) / ((double)n + 1);
    c.enough = k <= n || (alpha == 0 && n > 0);
    /* s ≤ q, the k-th smallest, exactly when at least n − k + 1 scores are ≥ s. */
    c.included = k > n || as_large >= n - k + 1;
    c.q = k > n ? INFINITY : k == 0 ? -INFINITY : present ? -(double)logits[n - k] : logits[k - 1];
    if (k == 0)
        c.included = false;
    return c;
}

float mf_conformal_risk_threshold(const float *logits, const uint32_t *weights, size_t n,
                                  size_t cases, double alpha)
{
    double allowed = alpha * (double)(cases + 1) - 1 + 1e-9, missed = 0;
    if (allowed < 0)
        return -INFINITY;
    for (size_t i = 0; i < n;) { /* raise t past all equal logits at once */
        size_t end = i;
        double next = missed;
        for (; end < n && logits[end] == logits[i]; end++)
            next += 1.0 / weights[end];
        if (next > allowed)
            return logits[i];
        missed = next;
        i = end;
    }
    return INFINITY;
}
