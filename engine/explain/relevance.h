/*
 * Relevance: a row vector over tokens that walks a recorded network backwards, r ← r + r·Ā at every
 * layer that mixes tokens (models/medfusion/explain.py is the same in Python).
 *
 *   by gradient  Ā = mean over heads of (∂logit/∂A ⊙ A)₊            (Chefer et al. 2021)
 *   rollout      Ā = mean over heads of A, r ← (r + r·Ā) / 2        (Abnar & Zuidema 2020)
 *
 * A Mamba layer has the attention that its recurrence unrolls to (Ali et al. 2024): for every
 * channel A_ts = c_t · (Π decay_{s+1…t}) drive_s, plus D at s = t. Channels take the place of
 * heads; a rollout takes |A|, its rows summing to one.
 */
#ifndef MF_ENGINE_EXPLAIN_RELEVANCE_H
#define MF_ENGINE_EXPLAIN_RELEVANCE_H

#include "engine/explain/tape.h"

/* out (keys) += r (queries) · Ā of item 0. `gradient` of the attention's output (queries, width),
 * or NULL: a rollout. Errors are the tape's. */
void mf_relevance_attention(struct mf_tape *tape, const struct mf_step *step, const float *gradient,
                            const float *r, float *out);
/* The same of a scan; r and out have a number for every time step. */
void mf_relevance_scan(struct mf_tape *tape, const struct mf_step *step, const float *gradient,
                       const float *r, float *out);

/* Seeds: out[i] = (Σ gradient · value)₊ of each row. */
void mf_relevance_seeds(const float *gradient, const float *values, size_t rows, size_t width,
                        float *out);

/* A vision transformer: call at each of its attentions, newest first. r (tokens), in place. */
void mf_relevance_vision(struct mf_tape *tape, const struct mf_step *step, const float *gradient,
                         float *r);

/* From region tokens to patches: r (regions² + 1), of which the last is CLS → out (tokens), CLS
 * first, patches last. hidden (tokens, width), slopes (regions² + 1, width): gradients of the
 * region tokens by which patches share what a region has, or NULL: equal shares. */
struct mf_relevance_grid {
    size_t regions, rows, cols, tokens, width;
};
void mf_relevance_pooled(const struct mf_relevance_grid *grid, const float *r, const float *hidden,
                         const float *slopes, float *out);

/* Fusion and sequence: seeds are in `image` (t) and `ehr` (n) when the first layer is met. */
struct mf_relevance_upper {
    float *image, *ehr;
    float *reverse, *pending; /* (t) each, scratch */
    size_t tokens, features;  /* t, n */
    size_t cross;             /* attentions of the fusion still to come: two a layer */
    size_t reverse_scans;     /* scans of the reversed sequence still to come */
    bool both, started;       /* the sequence is read both ways; a scan was met */
};
void mf_relevance_upper_attention(struct mf_tape *tape, struct mf_relevance_upper *u,
                                  const struct mf_step *step, const float *gradient);
void mf_relevance_upper_scan(struct mf_tape *tape, struct mf_relevance_upper *u,
                             const struct mf_step *step, const float *gradient);
/* After the walk: both ways joined. */
void mf_relevance_upper_end(struct mf_relevance_upper *u);

#endif
