/* The inside of an explainer: networks, host buffers, and the bodies that run on the tape. */
#ifndef MF_ENGINE_EXPLAIN_EXPLAIN_PRIVATE_H
#define MF_ENGINE_EXPLAIN_EXPLAIN_PRIVATE_H

#include "engine/bundle_private.h"
#include "engine/explain/explain.h"
#include "engine/explain/relevance.h"
#include "engine/net/net.h"

enum { MF_EXPLAIN_FRAMES = 32 };

struct mf_explainer {
    const struct mf_bundle *bundle;
    struct mf_exec exec;
    struct mf_arena *arena; /* networks and host buffers */
    struct mf_vit *vision;
    struct mf_temporal *temporal;
    struct mf_ft *ehr; /* NULL: none */
    struct mf_fusion *fusion;
    bool planned[MF_EXPLAIN_FRAMES + 1];
    struct mf_relevance_grid grid;
    size_t tokens; /* of a frame */
    size_t labels, features;
    size_t pixels; /* 3 · rows · cols of the vision module's input */

    /* Host buffers, for as many frames as the bundle takes. */
    float *line;              /* (pixels): one frame at a point of the line */
    float *scratch;           /* (rows · cols): blurring */
    float *blurred;           /* (frames, pixels) */
    float *hidden;            /* (tokens of an image, width) */
    float *regions;           /* (frames · tokens, width): region tokens of the frames */
    float *moved;             /* the same somewhere on the line, or of fewer frames */
    float *image;             /* (frames · tokens, d): after the sequence */
    float *fused, *fused_ehr; /* both streams after fusion */
    float *ehr_tokens, *logits;
    float *x_cont;
    size_t *x_cat;
    unsigned char *missing, *present; /* present: missing flags of a coalition */
};

/* What a body reads and writes; the rest is the explainer's. */
struct mf_explain_run {
    struct mf_explainer *e;
    size_t frames;
    const float *pixels;          /* vision */
    float *regions;               /* vision: out; upper: in */
    const double *positions;      /* upper */
    const unsigned char *missing; /* ehr */
};

/* pixels of one frame → its region tokens, and all hidden states in e->hidden. */
void mf_explain_vision(struct mf_exec *x, void *run);
/* EHR features → e->ehr_tokens. */
void mf_explain_ehr(struct mf_exec *x, void *run);
/* region tokens and e->ehr_tokens → e->image, e->fused, e->fused_ehr, e->logits. */
void mf_explain_upper(struct mf_exec *x, void *run);
/* e->image and e->ehr_tokens → e->logits. */
void mf_explain_fusion(struct mf_exec *x, void *run);

/* Makes sure of the plan for so many frames. */
bool mf_explain_plan(struct mf_explainer *e, size_t frames, struct mf_error *err);
static inline bool mf_explain_replay(struct mf_explainer *e,
                                     void (*body)(struct mf_exec *x, void *arg),
                                     struct mf_explain_run *run, struct mf_error *err)
{
    return mf_exec_replay(&e->exec, body, run, err);
}

/* maps.c: attribution, relevance, rollout. */
bool mf_explain_maps(struct mf_explainer *e, const struct mf_explain_input *in,
                     struct mf_arena *arena, struct mf_explanation *out, struct mf_error *err);
/* parts.c: frames and features. */
bool mf_explain_parts(struct mf_explainer *e, const struct mf_explain_input *in,
                      struct mf_arena *arena, struct mf_explanation *out, struct mf_error *err);

#endif
