/* Shapley values: all coalitions of few players, sampled orders of many. */
#include "engine/explain/shapley.h"

#include "core/auto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Σ over coalitions without i of |S|! (n − |S| − 1)! / n! · (value(S ∪ i) − value(S)) */
static bool exact(const struct mf_shapley *g, double *shares, struct mf_error *err)
{
    size_t n = g->players, m = g->outputs, all = (size_t)1 << n;
    double weight[MF_SHAPLEY_EXACT] = {1.0 / (double)n};
    unsigned char present[MF_SHAPLEY_EXACT];
    MF_AUTO(mf_mem) double *values = calloc(all * m + 1, sizeof *values);
    if (!values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for Shapley values");
    for (size_t s = 0; s < all; s++) {
        for (size_t i = 0; i < n; i++)
            present[i] = s >> i & 1;
        if (!g->value(g->arg, present, values + s * m, err))
            return false;
    }
    for (size_t k = 1; k < n; k++)
        weight[k] = weight[k - 1] * (double)k / (double)(n - k);
    for (size_t s = 0; s < all; s++)
        for (size_t i = 0; i < n; i++) {
            const double *with = values + (s | (size_t)1 << i) * m;
            for (size_t o = 0; o < m && !(s >> i & 1); o++)
                shares[o * n + i] +=
                    weight[__builtin_popcountll(s)] * (with[o] - values[s * m + o]);
        }
    return true;
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Memory of sampling. */
struct sampling {
    size_t *order;             /* (players) */
    unsigned char *present;    /* (players) */
    double *none, *last, *now; /* (outputs) */
};

/* Players come in this order, or backwards; each gets what it adds. */
static bool follow(const struct mf_shapley *g, const struct sampling *s, bool backwards,
                   double *shares, struct mf_error *err)
{
    memset(s->present, 0, g->players);
    memcpy(s->last, s->none, g->outputs * sizeof *s->last);
    for (size_t k = 0; k < g->players; k++) {
        size_t i = s->order[backwards ? g->players - 1 - k : k];
        s->present[i] = 1;
        if (!g->value(g->arg, s->present, s->now, err))
            return false;
        for (size_t o = 0; o < g->outputs; o++)
            shares[o * g->players + i] += (s->now[o] - s->last[o]) / (2 * MF_SHAPLEY_ORDERS);
        memcpy(s->last, s->now, g->outputs * sizeof *s->last);
    }
    return true;
}

static bool sampled(const struct mf_shapley *g, double *none, double *shares, struct mf_error *err)
{
    uint64_t state = 1;
    MF_AUTO(mf_mem) size_t *order = calloc(g->players, sizeof *order);
    MF_AUTO(mf_mem) unsigned char *present = calloc(g->players, 1);
    MF_AUTO(mf_mem) double *room = calloc(2 * g->outputs + 1, sizeof *room);
    const struct sampling s = {order, present, none, room, room + g->outputs};
    if (!order || !present || !room)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for Shapley values");
    for (size_t i = 0; i < g->players; i++)
        order[i] = i;
    for (int k = 0; k < MF_SHAPLEY_ORDERS; k++) {
        for (size_t i = g->players - 1; i > 0; i--) {
            size_t j = next_random(&state) % (i + 1), swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
        if (!follow(g, &s, false, shares, err) || !follow(g, &s, true, shares, err))
            return false;
    }
    return true;
}

bool mf_shapley(const struct mf_shapley *g, double *shares, double *none, double *all,
                struct mf_error *err)
{
    MF_AUTO(mf_mem) unsigned char *present = calloc(g->players + 1, 1);
    if (!present)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for Shapley values");
    memset(shares, 0, g->outputs * g->players * sizeof *shares);
    if (!g->value(g->arg, present, none, err))
        return false;
    memset(present, 1, g->players);
    if (!g->value(g->arg, present, all, err))
        return false;
    if (g->players == 0)
        return true;
    return g->players <= MF_SHAPLEY_EXACT ? exact(g, shares, err) : sampled(g, none, shares, err);
}
