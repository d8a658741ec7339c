/*
 * The network at work: frames and feature values in, logits out.
 *
 * An engine is made from a bundle for one device. It plans its memory once; after a first run with
 * a given number of frames (mf_engine_warm does it without input) later runs allocate nothing,
 * except that the frame buffer grows when a larger image than ever before arrives (core/grayscale.h
 * and oneDNN's calls use a few small tables of their own). One engine serves one thread at a time;
 * several engines may share a bundle. The numbers of a run depend on its input and the device only.
 */
#ifndef MF_ENGINE_ENGINE_H
#define MF_ENGINE_ENGINE_H

#include "core/auto.h"
#include "core/error.h"
#include "core/feature.h"
#include "core/frame.h"
#include "core/result.h"
#include "engine/bundle.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_engine;
struct mf_smoothing; /* engine/smoothing.h */

struct mf_engine_options {
    const char *device; /* "cpu", "cuda:N"; NULL = the first GPU that works, else the CPU */
    int threads;        /* CPU threads; 0 = one for each core this process may use */
    const char *dtype;  /* "f32", "bf16", "int8" or "fp8"; NULL = f32 */
    /* Collects what linear layers read in every run; it outlives the engine. NULL = nobody asks. */
    struct mf_smoothing *smoothing;
    /* A memory file in which engines of the same bundle, dtype and device share their packed
     * weights (engine/weight_store.h); 0 = this engine keeps its own. */
    int weights_fd;
    /* Who computes convolutions and attention on a GPU: "own", "cudnn", "auto"; NULL = auto. */
    const char *kernels;
    /* Most frames that the vision module computes together; 0 = what suits the device. Where
     * memory is short, fewer are. The numbers do not depend on it. */
    size_t batch;
};

/* `bundle` must have been opened with MF_BUNDLE_FULL and outlive the engine. MF_ERR_UNAVAILABLE
 * when the device does not exist. */
struct mf_engine *mf_engine_new(const struct mf_bundle *bundle,
                                const struct mf_engine_options *options,
                                struct mf_error *err) MF_CHECK_RESULT;
void mf_engine_free(struct mf_engine *engine);

const char *mf_engine_device(const struct mf_engine *engine); /* "cpu", "cuda:0" */
const char *mf_engine_dtype(const struct mf_engine *engine);  /* what it computes in */
size_t mf_engine_readout_size(const struct mf_engine *engine);
size_t mf_engine_feature_size(const struct mf_engine *engine);
/* Bytes of planned work memory (workspace, host buffers) and of packed weights, for `bench` and the
 * metrics. */
size_t mf_engine_memory(const struct mf_engine *engine, size_t *ret_weights);

/* One line on what computes convolutions and attention, as far as it has been planned; empty on the
 * CPU. */
void mf_engine_kernels(const struct mf_engine *engine, char *ret, size_t room);

/* Whether its device still works. A GPU that has failed once stays failed for the process that used
 * it (CUDA's sticky errors): the process must end. MF_ERR_UNAVAILABLE says what failed. */
bool mf_engine_works(struct mf_engine *engine, struct mf_error *err);

struct mf_engine_input {
    /* 1 … max_frames frames, oldest first (or by slice position); checked by mf_frame_check()
     * before. */
    const struct mf_frame *const *frames;
    size_t frame_count;
    /* One value a frame: days before the newest frame (position "days"), or the slice position in
     * [0,1] ("slice"); NaN = unknown. Not looked at for "rank"; may be NULL then. */
    const double *positions;
    /* One a feature, in the order of mf_bundle_features(); NULL = all missing. */
    const struct mf_feature_value *features;
    /* Parity tests only: two boxes a frame (x0 y0 x1 y1 each, in segmenter pixels) that replace the
     * box head's, frame_count × 8; NULL otherwise. */
    const float *boxes;
    /* Told the masks (size × size of 0 and 1, valid during the call) of every frame that
     * passes the gate, image-left structure first; NULL = nobody asks. */
    void (*mask)(void *arg, size_t frame, size_t structure, const uint8_t *mask, size_t size);
    void *mask_arg;
};

/* Looks at what a stage computed: `name` such as "frame.0.vision.tokens" (see engine/pipeline.c for
 * the list), `data` in row-major order, valid during the call. */
struct mf_tap {
    void (*see)(void *arg, const char *name, const float *data, const size_t *shape, int rank);
    void *arg;
};

struct mf_engine_output {
    float *logits;                        /* label_count; raw, before calibration */
    struct mf_segmentation *segmentation; /* frame_count */
    float *readout;                       /* mf_engine_readout_size(), or NULL */
    /* mf_engine_feature_size(), or NULL: what the vision module sees, before anything that was
     * learnt of findings, series or EHR: the mean of its region tokens, of the newest frame or of
     * all slices of a stack. */
    float *features;
    uint32_t *quality; /* frame_count: bits of enum mf_quality (engine/trust/quality.h), or NULL */
    double *sharpness; /* frame_count (engine/trust/sharpness.h); beside quality or NULL with it */
    struct mf_timing timing; /* decode and total of the caller are left NaN */
};

/* Runs the whole network. The caller owns every array of `output`. `tap` may be NULL.
 * MF_ERR_UNUSABLE for 0 or too many frames. */
bool mf_engine_run(struct mf_engine *engine, const struct mf_engine_input *input,
                   const struct mf_tap *tap, struct mf_engine_output *output, struct mf_error *err);

/* A study of several. */
struct mf_engine_study {
    const struct mf_engine_input *input;
    struct mf_engine_output *output;
};

/* Runs several studies at once, at most the model's number of frames in all: the vision module
 * computes frames of all of them together. What each gets is what it would get alone, bit by bit.
 * An error is one of them all: which of them was to blame is found by running each alone. */
bool mf_engine_run_together(struct mf_engine *engine, const struct mf_engine_study *studies,
                            size_t count, struct mf_error *err);
/* Frames that are computed together at most; 1: there is nothing to win by mf_engine_run_together.
 * Becomes less when the device runs out of memory. */
size_t mf_engine_batch(const struct mf_engine *engine);
/* After MF_ERR_NO_MEMORY: later runs compute fewer frames together, in less memory. False when they
 * are computed one by one already. */
bool mf_engine_shrink(struct mf_engine *engine);
/* Bytes of the device: all of it, free of it, taken by this engine. False on the CPU. */
bool mf_engine_device_memory(struct mf_engine *engine, size_t *ret_total, size_t *ret_available,
                             size_t *ret_taken);

/* Prepares everything that runs with `frame_count` frames need. */
bool mf_engine_warm(struct mf_engine *engine, size_t frame_count, struct mf_error *err);
/* Prepares everything that any run needs and, on a GPU, runs every part once: no later run
 * allocates anything. On the CPU, as mf_engine_warm(engine, 1). */
bool mf_engine_rehearse(struct mf_engine *engine, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_engine, struct mf_engine *, mf_engine_free(*p))

#endif
