/* The head in double precision, and its exact entropy gradient (adapt.h). */
#include "engine/trust/adapt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const MODES[] = {"off", "shadow", "episodic", "site"};

const char *mf_adapt_mode_name(enum mf_adapt_mode mode)
{
    return MODES[(size_t)mode < sizeof MODES / sizeof *MODES ? mode : MF_ADAPT_OFF];
}

bool mf_adapt_mode_parse(const char *name, enum mf_adapt_mode *ret)
{
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++)
        if (strcmp(name, MODES[i]) == 0) {
            *ret = (enum mf_adapt_mode)i;
            return true;
        }
    return false;
}

/* One block: the struct and all its arrays. */
struct mf_adapt_head *mf_adapt_head_new(size_t inputs, size_t width, size_t labels,
                                        struct mf_error *err)
{
    size_t n = width * inputs + labels * width + 5 * width + labels;
    struct mf_adapt_head *h = calloc(1, sizeof *h);
    double *all = h ? calloc(n, sizeof *all) : NULL;
    if (!all) {
        free(h);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        return NULL;
    }
    *h = (struct mf_adapt_head){.inputs = inputs, .width = width, .labels = labels};
    double **const parts[] = {&h->w1,   &h->w2,   &h->b1,       &h->gamma,
                              &h->beta, &h->mean, &h->variance, &h->b2};
    const size_t sizes[] = {width * inputs, labels * width, width, width,
                            width,          width,          width, labels};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        *parts[i] = all;
        all += sizes[i];
    }
    return h;
}

void mf_adapt_head_free(struct mf_adapt_head *h)
{
    if (!h)
        return;
    free(h->w1); /* the whole block */
    free(h);
}

struct mf_adapt_norm mf_adapt_source(const struct mf_adapt_head *h)
{
    return (struct mf_adapt_norm){h->gamma, h->beta, h->mean, h->variance};
}

void mf_adapt_activation(const struct mf_adapt_head *h, const float *readout, double *u)
{
    for (size_t i = 0; i < h->width; i++) {
        const double *w = h->w1 + i * h->inputs;
        double sum = h->b1[i];
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < h->inputs; j++)
            sum += w[j] * readout[j];
        u[i] = sum;
    }
}

/* Φ(y), so that GELU(y) = y·Φ(y). */
static double normal_cdf(double y)
{
    return 0.5 * erfc(-y * 0.70710678118654752440);
}

static double normal_density(double y)
{
    return 0.39894228040143267794 * exp(-0.5 * y * y);
}

static double standardised(const struct mf_adapt_head *h, const struct mf_adapt_norm *s,
                           const double *u, size_t i)
{
    return (u[i] - s->mean[i]) / sqrt(s->variance[i] + h->epsilon);
}

/* z from the hidden activations y before the GELU. */
static void finish(const struct mf_adapt_head *h, const double *y, double *z)
{
    memcpy(z, h->b2, h->labels * sizeof *z);
    for (size_t i = 0; i < h->width; i++) {
        double a = y[i] * normal_cdf(y[i]);
        for (size_t l = 0; l < h->labels; l++)
            z[l] += h->w2[l * h->width + i] * a;
    }
}

void mf_adapt_logits(const struct mf_adapt_head *h, const struct mf_adapt_norm *s, const double *u,
                     double *z)
{
    memcpy(z, h->b2, h->labels * sizeof *z);
    for (size_t i = 0; i < h->width; i++) {
        double y = s->gamma[i] * standardised(h, s, u, i) + s->beta[i], a = y * normal_cdf(y);
        for (size_t l = 0; l < h->labels; l++)
            z[l] += h->w2[l * h->width + i] * a;
    }
}

/* h(σ(z)) = softplus(−|z|) + |z|·σ(−|z|): exact where p rounds to 0 or 1. */
static double binary_entropy(double z)
{
    double x = fabs(z), e = exp(-x);
    return log1p(e) + x * e / (1 + e);
}

double mf_adapt_entropy(const double *z, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += binary_entropy(z[i]);
    return n ? sum / (double)n : 0;
}

size_t mf_adapt_work(const struct mf_adapt_head *h)
{
    return 4 * h->width + 2 * h->labels;
}

double mf_adapt_gradient(const struct mf_adapt_head *h, const struct mf_adapt_norm *s,
                         const double *u, size_t count, double *dgamma, double *dbeta, double *work)
{
    double *x = work, *y = work + h->width, *z = work + 2 * h->width, *dz = z + h->labels;
    double loss = 0, scale = 1.0 / ((double)count * (double)h->labels);
    memset(dgamma, 0, h->width * sizeof *dgamma);
    memset(dbeta, 0, h->width * sizeof *dbeta);
    for (size_t b = 0; b < count; b++) {
        for (size_t i = 0; i < h->width; i++) {
            x[i] = standardised(h, s, u + b * h->width, i);
            y[i] = s->gamma[i] * x[i] + s->beta[i];
        }
        finish(h, y, z);
        for (size_t l = 0; l < h->labels; l++) {
            double e = exp(-fabs(z[l])); /* p·(1 − p), the same on both sides of 0 */
            loss += scale * binary_entropy(z[l]);
            dz[l] = -scale * z[l] * e / ((1 + e) * (1 + e));
        }
        for (size_t i = 0; i < h->width; i++) {
            double sum = 0;
            for (size_t l = 0; l < h->labels; l++)
                sum += h->w2[l * h->width + i] * dz[l];
            double delta = sum * (normal_cdf(y[i]) + y[i] * normal_density(y[i]));
            dgamma[i] += delta * x[i];
            dbeta[i] += delta;
        }
    }
    return loss;
}

static bool all_finite(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

void mf_adapt_conclude(const double *before, double *z, size_t labels, struct mf_adapt_episode *ret)
{
    if (!all_finite(z, labels))
        memcpy(z, before, labels * sizeof *z);
    *ret =
        (struct mf_adapt_episode){mf_adapt_entropy(before, labels), mf_adapt_entropy(z, labels), 0};
    for (size_t l = 0; l < labels; l++)
        ret->max_change = fmax(ret->max_change, fabs(z[l] - before[l]));
}

bool mf_adapt_episodic(const struct mf_adapt_head *h, const double *u, double rate, double bound,
                       double *z, struct mf_adapt_episode *ret, struct mf_error *err)
{
    size_t w = h->width;
    MF_AUTO(mf_mem) double *room = calloc(mf_adapt_work(h) + 4 * w + h->labels, sizeof *room);
    if (!room)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    double *dgamma = room + mf_adapt_work(h), *dbeta = dgamma + w, *gamma = dbeta + w,
           *beta = gamma + w, *before = beta + w;
    const struct mf_adapt_norm source = mf_adapt_source(h);
    const struct mf_adapt_norm adapted = {gamma, beta, h->mean, h->variance};
    mf_adapt_logits(h, &source, u, before);
    mf_adapt_gradient(h, &source, u, 1, dgamma, dbeta, room);
    for (size_t i = 0; i < w; i++) {
        double most = bound * fabs(h->gamma[i]);
        gamma[i] = h->gamma[i] - fmin(fmax(rate * dgamma[i], -most), most);
        beta[i] = h->beta[i] - fmin(fmax(rate * dbeta[i], -most), most);
    }
    mf_adapt_logits(h, &adapted, u, z);
    mf_adapt_conclude(before, z, h->labels, ret);
    return true;
}
