/*
 * A backend that remembers: the operations of the CPU, and beside each one what its derivative
 * needs. A network that has run on it can be walked backwards, so that every network in net/ has
 * its exact gradient without a line of its own.
 *
 * Networks reuse memory, and so do gradients: the workspace has a shadow of the same size, in which
 * the gradient of a number lies where the number lay. Going backwards, an operation that wrote y
 * takes the gradient out of y's shadow (what y held before is dead) and adds to x's; one that added
 * to y leaves y's where it is. Values are kept on the tape, as the workspace has moved on.
 *
 * The tape grows with what is recorded, up to a ceiling; nothing of it exists unless somebody asks
 * for an explanation.
 */
#ifndef MF_ENGINE_EXPLAIN_TAPE_H
#define MF_ENGINE_EXPLAIN_TAPE_H

#include "core/arena.h"
#include "engine/exec.h"

extern const struct mf_ops mf_tape_ops; /* its backend is a struct mf_tape */

struct mf_tape;

/* What an operation left behind, newest first. */
struct mf_step {
    struct mf_step *before;
    enum mf_step_kind {
        MF_STEP_UPLOAD,
        MF_STEP_DOWNLOAD,
        MF_STEP_LINEAR,
        MF_STEP_LAYER_NORM,
        MF_STEP_RMS_NORM,
        MF_STEP_ATTENTION,
        MF_STEP_UNARY,
        MF_STEP_GLU,
        MF_STEP_COPY,
        MF_STEP_ADD,
        MF_STEP_SCALE,
        MF_STEP_REVERSE,
        MF_STEP_UNFOLD,
        MF_STEP_REGIONS,
        MF_STEP_MEAN,
        MF_STEP_CONV,
        MF_STEP_SCAN
    } kind;
    const float *x, *y; /* where it read and wrote, in the workspace; attention: q */
    const float *k, *v; /* attention */
    size_t rows, width,
        more;     /* as the operation's arguments name them; more: x_row, x_rows, cols */
    float number; /* eps, scale */
    int option;   /* enum mf_epilogue, mf_unary or mf_glu; regions, taps */
    const float *weight, *bias;
    const struct mf_tape_linear *linear;
    const float *host; /* other end of an upload or download */
    /* On the tape: x; before the activation of a linear layer; q, k and v (batch, rows, heads ·
     * head_size). */
    const float *kept, *kept2, *kept3;
    struct mf_attention attention;
    struct mf_unfold unfold;
    struct mf_scan scan, from; /* from: where the arrays lay that scan has on the tape, packed */
};

/* Memory of one step back. */
struct mf_scratch {
    struct mf_scratch *next;
    float floats[];
};

struct mf_tape {
    struct mf_backend *cpu;
    int threads;
    bool recording, failed; /* failed: the ceiling, or no memory */
    struct mf_arena *arena; /* steps and values, since mf_tape_begin() */
    struct mf_step *last;
    const float *base; /* workspace */
    float *shadow;
    size_t floats;
    struct mf_scratch *scratch; /* of one step back */
    struct mf_error error;      /* of a backward step */
};

static inline struct mf_tape *mf_tape_of(const struct mf_exec *x)
{
    return (struct mf_tape *)x->backend;
}

/* An execution context whose backend is a tape. */
bool mf_tape_exec_init(struct mf_exec *x, int threads, struct mf_error *err);

/* Runs `body` (planned before) and records it; what was recorded before is forgotten. `ceiling`
 * bounds the tape in bytes: MF_ERR_TOO_LARGE. */
bool mf_tape_record(struct mf_exec *x, size_t ceiling, void (*body)(struct mf_exec *x, void *arg),
                    void *arg, struct mf_error *err);

/* Who watches the way back. Each may be NULL. */
struct mf_tape_visitor {
    /* At a download (`upload` false): the gradient of what was shown to the host so far; the
     * visitor adds to it what it wants the gradient of. At an upload: the gradient of what came
     * from the host. `n` numbers. */
    void (*host)(void *arg, const float *host, bool upload, float *gradient, size_t n);
    /* At an attention: gradient of its output (batch, queries, heads · head_size), NULL in a walk
     * without gradients. */
    void (*attention)(void *arg, const struct mf_step *step, const float *gradient);
    /* At a scan: gradient of c · h + d · u, before the gate (length, channels), or NULL. */
    void (*scan)(void *arg, const struct mf_step *step, const float *gradient);
    void *arg;
};

/* Walks what was recorded backwards, with gradients or (`gradients` false) only telling the
 * visitor. May be done several times. */
bool mf_tape_backward(struct mf_tape *tape, const struct mf_tape_visitor *visitor, bool gradients,
                      struct mf_error *err);

/* --- inside: tape.c records, adjoint*.c go back --- */

struct mf_tape_linear {
    struct mf_tape *tape;
    size_t out, in;
    float *weight, *bias; /* (out, in); bias NULL: none */
};

/* The shadow of a place in the workspace; NULL for weights and other memory, which need none. */
float *mf_tape_shadow(const struct mf_tape *tape, const float *p);
/* The gradient of y (n), which is cleared where it lay. Scratch that lasts until the step ends. */
float *mf_tape_take(struct mf_tape *tape, const float *y, size_t n);
/* n floats of scratch; NULL when there are none (tape->error says so). */
float *mf_tape_scratch(struct mf_tape *tape, size_t n);
/* c (m, n) += a (m, k) · b (k, n), or with transposed a (k, m) or b (n, k); rows `lda`, `ldb`,
 * `ldc` apart. `add` 0: c is overwritten. */
void mf_tape_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                  size_t lda, const float *b, size_t ldb, float add, float *c, size_t ldc);
void mf_tape_release(struct mf_tape *tape); /* the scratch */
void mf_adjoint_attention(struct mf_tape *tape, const struct mf_step *s,
                          const struct mf_tape_visitor *visitor);
void mf_adjoint_scan(struct mf_tape *tape, const struct mf_step *s,
                     const struct mf_tape_visitor *visitor);
/* Decay of the states of a scan: (length, states, channels) e^(dt · a), and softplus(dt) (length,
 * channels). */
void mf_scan_decay(const struct mf_scan *scan, float *decay, float *step);

/* softmax(scale · q kᵀ) of one head of a recorded attention: (queries, keys). */
void mf_attention_weights(const struct mf_step *s, size_t batch, size_t head, float *weights);
#endif
