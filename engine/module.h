/*
 * One Hugging Face directory (config.json and model.safetensors, or shards with their index)
 * executed alone: `medfusion module run`. It is how parity with PyTorch is measured, and how a
 * weight file is tried out before a bundle is made. Inputs → outputs by model_type:
 *
 *   dinov2, dinov2_with_registers, vit
 *       pixel_values (b,3,H,W) → last_hidden_state, region_tokens (b,17,d: 4 × 4 regions, CLS),
 *       pooler_output (vit: if the file has one)
 *   sam2_vision_model
 *       pixel_values (b,3,H,W), sides multiples of 32 → last_hidden_state, fpn_hidden_states.0 … .2
 *   sam2, sam2_video: an image
 *       pixel_values (b,3,s,s); input_boxes (b,n,4) and input_points (b,n,p,2) with input_labels
 *       (b,n,p), either, or neither; input_masks (b,1,4g,4g) when n = 1; multimask_output (1;
 *       default 1) → pred_masks, iou_scores, object_score_logits, image_embeddings.0 … .2, and
 *       boxes (b,2,4) in pixels when the file has a box head
 *   sam2_video: a stack of slices
 *       pixel_values_videos (1,n,3,s,s); on slice frame_idx (default: the middle one) input_boxes
 *       (1,k,4) and input_points (1,k,p,2) with input_labels (1,k,p), either or both, or
 *       input_masks (1,k,s,s) → pred_masks (n,k,1,4g,4g), object_score_logits and iou_scores
 *       (n,k,1) of every slice
 *   mamba
 *       inputs_embeds (b,t,d) or input_ids (b,t) → last_hidden_state
 *   temporal module of a bundle: mamba, transformer or none, with `vision_hidden_size`
 *       inputs_embeds (b,t,d), or region_tokens (frames,17,dv) with position (frames; days before
 *       the newest, or slice position; NaN = unknown) → last_hidden_state
 *   ft_transformer
 *       x_cont (b,n), x_cat (b,m), missing (b,n+m; default: none) → last_hidden_state, and logits
 *       where the model has rtdl's head
 *   fusion
 *       image_tokens (b,t,d), ehr_tokens (b,n,de) where there is an EHR module,
 *       tokens_per_frame (1; default 17) → image_hidden_state, ehr_hidden_state, readout, logits
 */
#ifndef MF_ENGINE_MODULE_H
#define MF_ENGINE_MODULE_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_module_options {
    const char *device;  /* "cpu", "cuda:N"; NULL = the first GPU that works, else the CPU */
    const char *dtype;   /* "f32"; NULL = the default of the device */
    int threads;         /* 0 = one for each core */
    const char *kernels; /* as in engine/engine.h */
};

/* Reads `input` (safetensors), runs the module in `dir` and writes `output` (safetensors).
 * MF_ERR_MODEL for the directory, MF_ERR_MALFORMED for the input, MF_ERR_UNAVAILABLE for a device
 * or dtype that is not there. */
bool mf_module_run(const char *dir, const char *input, const char *output,
                   const struct mf_module_options *options, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
