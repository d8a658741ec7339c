/*
 * The networks. Each is loaded by a constructor that asks the loader for every tensor (and so
 * validates the file), and run by functions over an mf_exec. Structs live in the loader's arena,
 * weights in its exec; nothing is freed here. Without an exec (check only) the constructors return
 * structs that must not be run.
 */
#ifndef MF_ENGINE_NET_NET_H
#define MF_ENGINE_NET_NET_H

#include "engine/exec.h"
#include "engine/weights.h"

/* ── Vision transformers: Dinov2Model, Dinov2WithRegistersModel, ViTModel (vit.c) ── */
struct mf_vit;
enum mf_vit_layout { MF_VIT_DINOV2, MF_VIT_DINOV2_REGISTERS, MF_VIT_VIT };

struct mf_vit *mf_vit_load(struct mf_loader *ld, enum mf_vit_layout layout);
/* Beginnings of the names of heads that a file may have around the model. */
extern const char *const mf_vit_head_names[];
/* The layout that config.json's model_type names. */
struct mf_vit *mf_vit_load_any(struct mf_loader *ld);
size_t mf_vit_width(const struct mf_vit *vit);
size_t mf_vit_patch(const struct mf_vit *vit);
bool mf_vit_has_pooler(const struct mf_vit *vit);
/* Tokens of one image of rows × cols pixels: CLS, registers, patches. */
size_t mf_vit_tokens(const struct mf_vit *vit, size_t rows, size_t cols);
/* pixels (batch, 3, rows, cols) → hidden (batch, tokens, width), after the last LayerNorm. */
void mf_vit_run(struct mf_exec *x, struct mf_vit *vit, const float *pixels, size_t batch,
                size_t rows, size_t cols, float *hidden);
/* hidden of one image → pooler_output (width). */
void mf_vit_pool(struct mf_exec *x, const struct mf_vit *vit, const float *hidden, float *pooled);
/* hidden of one image → region tokens (r·r + 1, width): means over r × r regions, row-major, then
 * CLS. */
void mf_vit_regions(struct mf_exec *x, const struct mf_vit *vit, const float *hidden, size_t rows,
                    size_t cols, size_t r, float *out);

/* ── SAM 2 image path: Sam2Model without memory, plus the box head (hiera.c, sam2.c,
 * sam2_decoder.c) ── */
struct mf_hiera;
/* Sam2VisionModel: "backbone.…" and "neck.…" under the current path and section. */
struct mf_hiera *mf_hiera_load(struct mf_loader *ld);
/* pixels (3, rows, cols) → levels[0 … 2]: (rows/4, cols/4, F), … /8, … /16 of the feature pyramid,
 * and in `last`, unless it is NULL, the last stage: (rows/32, cols/32, width). */
void mf_hiera_run(struct mf_exec *x, struct mf_hiera *net, const float *pixels, size_t rows,
                  size_t cols, float *const levels[3], float *last);
size_t mf_hiera_features(const struct mf_hiera *net); /* F */
size_t mf_hiera_width(const struct mf_hiera *net);
/* Rows and columns of each stage, and so of each level. */
void mf_hiera_sizes(const struct mf_hiera *net, size_t rows, size_t cols, size_t sizes[4][2]);

struct mf_sam2;
struct mf_sam2_decoder;
struct mf_sam2_memory; /* sam2_memory.h */
/* Sam2Model, or Sam2VideoModel with its memory; a box head where the file has one. `memory` false
 * leaves the memory's tensors alone (mf_sam2_memory_names). */
struct mf_sam2 *mf_sam2_load(struct mf_loader *ld, bool memory);
/* Beginnings of the names of the memory's tensors, for mf_loader_finish(). */
extern const char *const mf_sam2_memory_names[];
bool mf_sam2_has_boxes(const struct mf_sam2 *net);
const struct mf_sam2_memory *mf_sam2_memory(const struct mf_sam2 *net); /* NULL: none */
size_t mf_sam2_image_size(const struct mf_sam2 *net);
size_t
mf_sam2_grid(const struct mf_sam2 *net); /* image_size / patch_size: rows of the coarsest map */
size_t mf_sam2_width(const struct mf_sam2 *net); /* C */
size_t mf_sam2_masks(const struct mf_sam2 *net); /* masks a prompt yields before the choice: 4 */

/* Image embedding: s0 (4g, 4g, C/8), s1 (2g, 2g, C/4), s2 (g, g, C) with no_memory_embedding. */
struct mf_sam2_maps {
    float *s0, *s1, *s2;
};
void mf_sam2_maps_alloc(struct mf_exec *x, const struct mf_sam2 *net, struct mf_sam2_maps *ret);
void mf_sam2_embed(struct mf_exec *x, struct mf_sam2 *net, const float *pixels,
                   const struct mf_sam2_maps *maps);
/* The same without no_memory_embedding, which is added afterwards where nothing is remembered. */
void mf_sam2_features(struct mf_exec *x, struct mf_sam2 *net, const float *pixels,
                      const struct mf_sam2_maps *maps);
void mf_sam2_add_no_memory(struct mf_exec *x, const struct mf_sam2 *net, float *s2);
/* Heat (2) and size (4) logits of every cell of s2: device (g·g, 6); then boxes on the host, x0 y0
 * x1 y1 of both structures in pixels. */
void mf_sam2_box_logits(struct mf_exec *x, const struct mf_sam2 *net, const float *s2,
                        float *logits);
void mf_sam2_boxes_from_logits(const struct mf_sam2 *net, const float *logits, float boxes[8]);

/* Prompts of one decoder call, host memory: `count` of them with `points` points and `boxes` boxes
 * (0 or 1) each. */
struct mf_sam2_prompts {
    size_t count, points;
    bool pad_point;     /* append a not-a-point: when there are points and no box */
    const float *xy;    /* (count, points, 2) in pixels */
    const int *labels;  /* (count, points) */
    const float *boxes; /* (count, 4) in pixels, or NULL */
    const float *masks; /* (count, 4g, 4g) logits (device), or NULL */
};
size_t mf_sam2_prompt_tokens(const struct mf_sam2_prompts *p);
/* Tokens of all prompts on the host: (count, tokens, C). False when a label is out of range. */
bool mf_sam2_encode_prompts(const struct mf_sam2 *net, const struct mf_sam2_prompts *p,
                            float *tokens, struct mf_error *err);
/* What the decoder says of each prompt, device memory. */
struct mf_sam2_answer {
    float *masks;  /* (count, 4, 4g · 4g) logits */
    float *iou;    /* (count, 4) */
    float *object; /* (count) logits */
    float *tokens; /* (count, 4, C) of the masks, or NULL: not wanted */
};
void mf_sam2_answer_alloc(struct mf_exec *x, const struct mf_sam2 *net, size_t count,
                          struct mf_sam2_answer *ret);
/* sparse: those tokens on the device. */
void mf_sam2_decode(struct mf_exec *x, struct mf_sam2 *net, const struct mf_sam2_maps *maps,
                    const struct mf_sam2_prompts *p, const float *sparse,
                    const struct mf_sam2_answer *answer);
/* The index of the mask that multimask_output=False yields (dynamic multimask by stability); host
 * memory. */
size_t mf_sam2_choose(const struct mf_sam2 *net, const float *masks, const float *iou);
/* The same by how many cells of the first mask lie above delta and above −delta. */
float mf_sam2_delta(const struct mf_sam2 *net);
size_t mf_sam2_choose_by(const struct mf_sam2 *net, size_t inner, size_t outer, const float *iou);

struct mf_sam2_decoder *mf_sam2_decoder_load(struct mf_loader *ld, size_t width);
size_t mf_sam2_decoder_masks(const struct mf_sam2_decoder *net);
/* keys (count, g·g, C): image embedding plus dense prompt, overwritten; position (g·g, C). */
void mf_sam2_decoder_run(struct mf_exec *x, const struct mf_sam2_decoder *net, size_t count,
                         size_t grid, float *keys, const float *position, const float *sparse,
                         size_t sparse_tokens, const struct mf_sam2_maps *maps,
                         const struct mf_sam2_answer *answer);
/* conv_s0 and conv_s1 of the decoder on the finer levels (positions, F). */
void mf_sam2_decoder_skip(struct mf_exec *x, const struct mf_sam2_decoder *net, const float *level0,
                          const float *level1, size_t grid, const struct mf_sam2_maps *maps);

/* ── Sequences (mamba.c, transformer.c, temporal.c) ── */
struct mf_mamba;
struct mf_mamba *
mf_mamba_load(struct mf_loader *ld); /* "layers.{i}.…", "norm_f.weight" under the current path */
size_t mf_mamba_width(const struct mf_mamba *net);
/* x (t, d) → y (t, d), after norm_f */
void mf_mamba_run(struct mf_exec *x, const struct mf_mamba *net, const float *in, size_t t,
                  float *out);

struct mf_transformer;
struct mf_transformer *mf_transformer_load(struct mf_loader *ld); /* "encoder.…" */
void mf_transformer_run(struct mf_exec *x, const struct mf_transformer *net, const float *in,
                        size_t t, float *out);

struct mf_temporal;
/* A bundle's temporal directory; model_type mamba, transformer or none. */
struct mf_temporal *mf_temporal_load(struct mf_loader *ld);
size_t mf_temporal_width(const struct mf_temporal *net);
size_t mf_temporal_input_width(const struct mf_temporal *net);
size_t mf_temporal_tokens(const struct mf_temporal *net); /* a frame */
size_t mf_temporal_max_frames(const struct mf_temporal *net);
enum mf_position_kind mf_temporal_position(const struct mf_temporal *net);
enum mf_temporal_kind mf_temporal_kind(const struct mf_temporal *net);
bool mf_temporal_both_ways(const struct mf_temporal *net); /* reads the sequence reversed as well */
/* tokens (frames · tokens, dv); where: host, frames values or NULL; → out (frames · tokens, d) */
void mf_temporal_run(struct mf_exec *x, const struct mf_temporal *net, const float *tokens,
                     size_t frames, const double *where, float *out);
/* The sequence model alone: (t, d) → (t, d) */
void mf_temporal_mix(struct mf_exec *x, const struct mf_temporal *net, const float *in, size_t t,
                     float *out);

/* ── EHR (ft_transformer.c) ── */
struct mf_ft;
struct mf_ft *mf_ft_load(struct mf_loader *ld);
size_t mf_ft_width(const struct mf_ft *net);
size_t mf_ft_numeric(const struct mf_ft *net);
size_t mf_ft_categorical(const struct mf_ft *net);
size_t mf_ft_cardinality(const struct mf_ft *net, size_t i);
size_t mf_ft_output_tokens(const struct mf_ft *net); /* 1 + features, or 1 */
/* Whether features may be missing; rtdl's own models cannot tell. */
bool mf_ft_takes_missing(const struct mf_ft *net);
size_t mf_ft_outputs(const struct mf_ft *net); /* d_out of rtdl's head on CLS; 0: no head */
/* hidden (width) of CLS → logits (outputs) */
void mf_ft_head(struct mf_exec *x, const struct mf_ft *net, const float *hidden, float *logits);
/* One patient, host memory: x_cont standardised, x_cat indices, missing flags (numeric, then
 * categorical). */
void mf_ft_run(struct mf_exec *x, const struct mf_ft *net, const float *x_cont, const size_t *x_cat,
               const unsigned char *missing, float *out);

/* ── Fusion and head (fusion.c) ── */
struct mf_fusion;
struct mf_fusion *mf_fusion_load(struct mf_loader *ld);
size_t mf_fusion_width(const struct mf_fusion *net);
size_t mf_fusion_ehr_width(const struct mf_fusion *net); /* 0: no EHR */
size_t mf_fusion_labels(const struct mf_fusion *net);
size_t mf_fusion_readout(const struct mf_fusion *net);
size_t mf_fusion_head_width(const struct mf_fusion *net); /* of the BatchNorm */
size_t mf_fusion_layers(const struct mf_fusion *net);
/* image (t, d), ehr (n, de) or NULL; overwritten image and new ehr (n, d) streams after all layers.
 */
void mf_fusion_fuse(struct mf_exec *x, const struct mf_fusion *net, float *image, size_t t,
                    const float *ehr, size_t n, float *fused_ehr);
void mf_fusion_read(struct mf_exec *x, const struct mf_fusion *net, const float *image, size_t t,
                    size_t tokens_per_frame, const float *fused_ehr, float *readout);
void mf_fusion_head(struct mf_exec *x, const struct mf_fusion *net, const float *readout,
                    float *logits);

#endif
