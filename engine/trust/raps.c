/* RAPS scores and sets (raps.h). */
#include "engine/trust/raps.h"

#include "engine/trust/conformal.h"

#include <math.h>

double mf_raps_score(const struct mf_raps *raps, const double *p, size_t n, size_t label, double u)
{
    double before = 0;
    size_t rank = 1;
    for (size_t i = 0; i < n; i++)
        if (p[i] > p[label] || (p[i] == p[label] && i < label)) {
            before += p[i];
            rank++;
        }
    double excess = rank > raps->free ? (double)(rank - raps->free) : 0;
    return before + u * p[label] + raps->lambda * excess;
}

size_t mf_raps_set(const struct mf_raps *raps, const double *scores, size_t cases, const double *p,
                   size_t n, double u, double alpha, bool *include, bool *ret_enough)
{
    size_t k = mf_conformal_rank(cases, alpha), count = 0, best = 0;
    *ret_enough = k <= cases;
    for (size_t i = 0; i < n; i++) {
        include[i] = !*ret_enough || (k > 0 && mf_raps_score(raps, p, n, i, u) <= scores[k - 1]);
        count += include[i];
        best = p[i] > p[best] ? i : best;
    }
    if (n && !include[best]) {
        include[best] = true;
        count++;
    }
    return count;
}

void mf_softmax(const float *logits, size_t n, double temperature, double *ret)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, logits[i] / temperature);
    for (size_t i = 0; i < n; i++)
        sum += ret[i] = exp(logits[i] / temperature - most);
    for (size_t i = 0; i < n; i++)
        ret[i] /= sum;
}
