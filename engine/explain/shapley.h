/*
 * Shapley values: how much of value(all) − value(none) each player is worth, the mean of what it
 * adds over all orders in which players may come.
 */
#ifndef MF_ENGINE_EXPLAIN_SHAPLEY_H
#define MF_ENGINE_EXPLAIN_SHAPLEY_H

#include "core/error.h"

#include <stddef.h>

/* Up to MF_SHAPLEY_EXACT players every coalition is valued (2^n times); with more of them,
 * MF_SHAPLEY_ORDERS random orders and their reverses are, the same ones every time. */
enum { MF_SHAPLEY_EXACT = 10, MF_SHAPLEY_ORDERS = 64 };

struct mf_shapley {
    size_t players, outputs;
    /* Fills (outputs) with what a coalition is worth; `present` (players): 1 or 0. */
    bool (*value)(void *arg, const unsigned char *present, double *ret, struct mf_error *err);
    void *arg;
};

/* shares (outputs, players); none and all (outputs): value without and with all players. The shares
 * of an output sum to all − none, up to rounding, whichever way they were found. */
bool mf_shapley(const struct mf_shapley *game, double *shares, double *none, double *all,
                struct mf_error *err);

#endif
