/* Running a plan: the part of the pipeline that the worker and the command line share. */
#ifndef MF_SERVER_PIPELINE_RUN_H
#define MF_SERVER_PIPELINE_RUN_H

#include "engine/trust/aci.h"
#include "server/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One run: where the bytes of the plan's objects are, and who is told what. */
struct mf_run {
    const struct mf_plan *plan;
    const char *job;  /* id in the result, or NULL */
    double alpha;     /* NaN = 0.1 */
    const char *site; /* where the study was made, if calibrations by site matter; NULL: unknown */
    /* The descriptor of an input of the index (object.input); it stays the callee's and must be
     * valid until the run is over. −1 with an error. */
    int (*input)(void *context, uint32_t input, struct mf_error *err);
    /* As in struct mf_pipeline_job; may be NULL. */
    bool (*stopped)(void *context);
    void (*progress)(void *context, double done);
    /* Levels learnt from feedback on studies of this bundle, site and alpha (engine/trust/aci.h),
     * borrowed for the run; NULL on failure. The member may be NULL: there are none. */
    const struct mf_aci *(*levels)(void *context, const struct mf_bundle *bundle, const char *site,
                                   double alpha, struct mf_error *err);
    /* Given the result once it is there with all that was asked for, before the run's memory is
     * given back: whoever waits for it need not wait for that. May be NULL. */
    void (*deliver)(void *context, const json_t *result);
    void *context;
    /* Gets the raw output when not NULL (`calibrate`): label_count, readout_size and feature_size
     * floats. */
    float *logits, *readout, *features;
    double *sharpness; /* of the reported study, beside them (engine/trust/sharpness.h) */
    /* Gets the `medfusion.masks/1` (core/mask.h; the caller owns it) when not NULL; stays NULL
     * without a segmenter. */
    json_t **masks;
    /* Gets the `medfusion.explanation/1` (explanation.h; the caller owns it) when not NULL. */
    json_t **explanation;
};

/* A run in three steps, so that several can be computed together:
 * begin   decodes frames, extracts features. NULL on failure. `run` must stay valid until the end.
 * compute the network, of at most MF_RUN_AT_ONCE runs of one pipeline; states may be NULL. What
 *         goes wrong is kept in the state.
 * end     the trust layer and the result, as of mf_pipeline_run_plan(); frees the state. */
enum { MF_RUN_AT_ONCE = 256 };
#define MF_RUN_DECODED 0.1 /* share of a run that is done once its frames are there */
struct mf_run_state;
struct mf_run_state *mf_run_begin(struct mf_pipeline *pipeline, const struct mf_run *run,
                                  struct mf_error *err) MF_CHECK_RESULT;
void mf_run_compute(struct mf_run_state *const *states, size_t count);
json_t *mf_run_end(struct mf_pipeline *pipeline, struct mf_run_state *state,
                   struct mf_error *err) MF_CHECK_RESULT;
void mf_run_free(struct mf_run_state *state); /* a run that is given up; NULL-safe */

/* All of it. The result document, owned by the caller; NULL on failure. */
json_t *mf_pipeline_run_plan(struct mf_pipeline *pipeline, const struct mf_run *run,
                             struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
