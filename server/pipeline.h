/*
 * Pipeline: the way from an upload's index to a result, for the daemon and the command line alike.
 *
 *   index → studies of one patient → the bundle that accepts the newest one → its frames and priors
 *         → EHR features → decoded frames (decoder) → network (engine) → trust → medfusion.result/1
 *
 * The front uses the first half (mf_pipeline_accept) to answer a POST before it stores a job; the
 * worker runs the whole. Both halves share the code that chooses the study, so a job that was
 * accepted is also run.
 */
#ifndef MF_SERVER_PIPELINE_H
#define MF_SERVER_PIPELINE_H

#include "core/error.h"
#include "core/json.h"
#include "engine/trust/aci.h"
#include "engine/trust/adapt.h"
#include "server/decoder.h"
#include "server/registry.h"
#include "server/routing.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a request may choose (the part `options` of a POST, the flags of `predict`). */
struct mf_pipeline_options {
    char model[128];         /* name of a bundle; "" = the unique one that accepts the study */
    double alpha;            /* miscoverage of the conformal sets, (0, 0.5]; NaN = 0.1 */
    bool no_priors;          /* ignore earlier studies of the patient */
    bool explain;            /* keep an explanation beside the result */
    char site[65];           /* where the study was made, for calibrations by site; "" = unknown */
    bool priors_unavailable; /* a source was to be asked for priors and failed: no option of a
                                request, the result's flag says it */
    const struct mf_config_ehr *identity; /* whose FHIR data may be used, by the configuration: no
                                             option of a request; NULL = any identifier, or none */
    /* Of the configuration, too: which model runs where the request names none; NULL = no rules. */
    const struct mf_routing *routing;
    const struct mf_route_origin *origin;
};

#define MF_PIPELINE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        "", __builtin_nan(""), false, false, "", false, NULL, NULL, NULL                           \
    }

/* Reads {"model": "name", "alpha": 0.1, "priors": true, "explain": false, "site": "name",
 * "destinations": [address…], "priors_unavailable": false}, every member optional; the destinations
 * are the store's business, and the last one is ours alone (mf_job_options_check).
 * `text` NULL or empty gives the defaults. MF_ERR_MALFORMED: not JSON; MF_ERR_UNUSABLE: an unknown
 * option (named), wrong type or range. */
bool mf_pipeline_options_parse(const char *text, size_t len, struct mf_pipeline_options *ret,
                               struct mf_error *err);
/* The inverse: JSON text of all options, to keep with a job. The caller frees it; NULL = out of
 * memory. */
char *mf_pipeline_options_text(const struct mf_pipeline_options *options);

/* What accepting a request decided. */
struct mf_acceptance {
    char study_instance_uid[65]; /* the study that will be reported */
    char modality[17];
    char model[128];              /* the bundle that will run */
    const struct mf_route *route; /* the rule that fits, of options->routing; NULL = none */
    unsigned frames, priors,
        skipped; /* frames of the sequence (priors included), prior studies, objects */
};

/* Where an accepted request's frames are asked for ahead of its job (decoder.h): the connection of
 * the decoder that scanned, and what it scanned. */
struct mf_pipeline_ahead {
    int connection;
    const struct mf_part *parts;
    size_t part_count;
    bool asked; /* set when the frames are on their way */
};

/* Decides, from the index alone, whether and how a request can be run. `ahead` may be NULL.
 * MF_ERR_UNUSABLE says why not: no usable image, several patients, no bundle accepts
 * modality/view/body part, the FHIR Bundle is of another patient. */
bool mf_pipeline_accept(const struct mf_registry *registry, const char *index, size_t index_len,
                        const struct mf_pipeline_options *options, struct mf_acceptance *ret,
                        struct mf_pipeline_ahead *ahead, struct mf_error *err);

struct mf_pipeline;

/* `registry`: opened for running; `decoder`: where frames come from. Both are borrowed and must
 * outlive it. */
struct mf_pipeline *mf_pipeline_new(struct mf_registry *registry, struct mf_decoder *decoder,
                                    struct mf_error *err);
void mf_pipeline_free(struct mf_pipeline *pipeline);
/* Test-time adaptation (server/adaptation.h); a new pipeline runs it in mode shadow. */
bool mf_pipeline_adapt(struct mf_pipeline *pipeline, enum mf_adapt_mode mode, const char *directory,
                       struct mf_error *err);
struct mf_registry *mf_pipeline_registry(struct mf_pipeline *pipeline); /* borrowed */

struct mf_pipeline_job {
    const char *id; /* job id in the result; NULL on the command line */
    const struct mf_part *parts;
    size_t part_count;
    const char *index;
    size_t index_len;
    const struct mf_pipeline_options *options;
    /* Asked between stages when not NULL: true stops the run with MF_ERR_CONFLICT ("cancelled"). */
    bool (*stopped)(void *context);
    /* Told the share that is done (0…1) when not NULL. */
    void (*progress)(void *context, double done);
    /* As in struct mf_run; may be NULL. */
    const struct mf_aci *(*levels)(void *context, const struct mf_bundle *bundle, const char *site,
                                   double alpha, struct mf_error *err);
    void (*deliver)(void *context, const json_t *result); /* as in struct mf_run; may be NULL */
    void *context;
    json_t **masks, **explanation; /* as in struct mf_run */
};

/* Runs one job and returns its result document (the caller owns it). Not thread-safe: one pipeline,
 * one job at a time; the engine uses its own threads inside. NULL on failure. */
json_t *mf_pipeline_run(struct mf_pipeline *pipeline, const struct mf_pipeline_job *job,
                        struct mf_error *err) MF_CHECK_RESULT;

/* The same in three steps, for jobs whose networks are computed together (pipeline_run.h). `job`
 * and all it points to must stay until the end. mf_pipeline_compute() takes at most 256; NULL is
 * passed over. mf_pipeline_end() frees what was begun. */
struct mf_pipeline_begun;
struct mf_pipeline_begun *mf_pipeline_begin(struct mf_pipeline *pipeline,
                                            const struct mf_pipeline_job *job,
                                            struct mf_error *err) MF_CHECK_RESULT;
void mf_pipeline_compute(struct mf_pipeline_begun *const *begun, size_t count);
json_t *mf_pipeline_end(struct mf_pipeline *pipeline, struct mf_pipeline_begun *begun,
                        struct mf_error *err) MF_CHECK_RESULT;
/* Frames that a device of its models computes together; 1: jobs gain nothing by company. */
size_t mf_pipeline_batch(struct mf_pipeline *pipeline);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_pipeline, struct mf_pipeline *, mf_pipeline_free(*p))

#endif
