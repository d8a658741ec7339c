/*
 * Running a plan: frames from the decoder, features from FHIR and DICOM, the network, the trust
 * layer, the result document. All memory of a run is in one arena, but for the frames, which are
 * the decoder's mapping.
 */
#include "server/pipeline_run.h"

#include "core/clock.h"
#include "core/mask.h"
#include "core/result.h"
#include "engine/engine.h"
#include "engine/trust/quality.h"
#include "engine/trust/trust.h"
#include "fhir/extract.h"
#include "server/adaptation.h"
#include "server/case_strata.h"
#include "server/explanation.h"
#include "server/frame_selection.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FRAMES = MF_SELECTION_FRAMES, MAX_FLAGS = 4 + MF_QUALITY_COUNT };

static const double DEFAULT_ALPHA = 0.1;
/* Below this p-value an input is said to lie outside the calibrated population. */
static const double OOD_LEVEL = 0.01;

struct mf_pipeline {
    struct mf_registry *registry;
    struct mf_decoder *decoder;
    struct mf_adaptation *adaptation;
    struct mf_explainer *explainer; /* of the model that was explained last; NULL: none was */
    size_t explained_model;
};

/* Everything of one run; `arena` owns all but the frames. */
struct state {
    const struct mf_run *run;
    const struct mf_bundle *bundle;
    struct mf_engine *engine;
    struct mf_arena *arena;
    struct mf_frame_set frames;
    struct mf_feature_value *features; /* NULL without an EHR module */
    struct mf_engine_output output;
    struct mf_adapter *adapter; /* NULL: raw logits are wanted */
    struct mf_adapt_episode episode;
    const struct mf_aci *levels; /* learnt from feedback; NULL: none */
    struct mf_trust_statement statement;
    const char *flags[MAX_FLAGS];
    size_t flag_count;
    double decode_ms;
    double positions[MAX_FRAMES];
    struct mf_explanation_inputs inputs; /* when the run asks for an explanation */
    json_t *masks;     /* medfusion.masks/1, when the run or its explanation asks for it */
    bool masks_failed; /* out of memory for one */
};

struct mf_pipeline *mf_pipeline_new(struct mf_registry *registry, struct mf_decoder *decoder,
                                    struct mf_error *err)
{
    struct mf_pipeline *p = calloc(1, sizeof *p);
    if (!p) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    *p = (struct mf_pipeline){.registry = registry, .decoder = decoder};
    if (mf_pipeline_adapt(p, MF_ADAPT_SHADOW, NULL, err))
        return p;
    mf_pipeline_free(p);
    return NULL;
}

bool mf_pipeline_adapt(struct mf_pipeline *p, enum mf_adapt_mode mode, const char *directory,
                       struct mf_error *err)
{
    mf_adaptation_free(p->adaptation);
    p->adaptation = mf_adaptation_new(mode, directory, err);
    return p->adaptation != NULL;
}

void mf_pipeline_free(struct mf_pipeline *p)
{
    if (!p)
        return;
    mf_adaptation_free(p->adaptation);
    mf_explainer_free(p->explainer);
    free(p);
}

struct mf_registry *mf_pipeline_registry(struct mf_pipeline *p)
{
    return p->registry;
}

/* --- frames --- */

static bool load_frames(struct mf_pipeline *p, struct state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    const struct mf_frame_inputs inputs = {run->input, run->context};
    MF_AUTO(mf_frame_selection) struct mf_frame_selection selection = {.text = NULL};
    if (!mf_frame_selection_make(run->plan->request, &inputs, &selection, err))
        return false;
    if (mf_decoder_frames(p->decoder, &selection.wanted, &s->frames, err))
        return true;
    mf_frame_selection_rename(&selection, err);
    return false;
}

/* --- features, network, trust --- */

static bool extract_features(struct state *s, struct mf_error *err)
{
    const struct mf_study_request *request = s->run->plan->request;
    const struct mf_feature_set *set = mf_bundle_features(s->bundle);
    if (!set)
        return true;
    s->features = mf_arena_alloc(s->arena, set->count + 1, sizeof *s->features, err);
    return s->features && mf_fhir_extract(set, s->run->plan->ehr, &request->demographics,
                                          &request->study_time, s->arena, s->features, err);
}

/* Where each frame stands, in the unit of the bundle (engine.h, `positions`). */
static void fill_positions(const struct mf_study_request *request, enum mf_position_kind kind,
                           double *positions)
{
    const struct mf_study_frame *f = request->frames;
    size_t n = request->frame_count;
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, f[i].slice_position); /* fmin and fmax pass NaN over */
        high = fmax(high, f[i].slice_position);
    }
    for (size_t i = 0; i < n; i++) {
        if (kind == MF_POSITION_SLICE)
            positions[i] = high > low ? (f[i].slice_position - low) / (high - low) : NAN;
        else if (f[i].acquired_ms == INT64_MIN || f[n - 1].acquired_ms == INT64_MIN)
            positions[i] = NAN;
        else
            positions[i] = (double)(f[n - 1].acquired_ms - f[i].acquired_ms) / 86400000.0;
    }
}

static void keep_mask(void *state, size_t frame, size_t structure, const uint8_t *mask, size_t size)
{
    struct state *s = state;
    const struct mf_mask m = {.frame = (uint32_t)frame,
                              .structure = (enum mf_structure)structure,
                              .rows = (uint32_t)size,
                              .columns = (uint32_t)size,
                              .pixels = mask};
    s->masks = s->masks ? s->masks : mf_masks_new();
    s->masks_failed |= !s->masks || !mf_masks_add(s->masks, &m);
}

static bool run_network(struct state *s, struct mf_error *err)
{
    const struct mf_study_request *request = s->run->plan->request;
    const struct mf_frame *frames[MAX_FRAMES];
    size_t labels = mf_bundle_label_count(s->bundle);
    for (size_t i = 0; i < s->frames.count; i++)
        frames[i] = &s->frames.frames[i];
    fill_positions(request, mf_bundle_position(s->bundle), s->positions);
    struct mf_engine_output *o = &s->output;
    o->logits = mf_arena_alloc(s->arena, labels, sizeof *o->logits, err);
    o->segmentation = mf_arena_alloc(s->arena, s->frames.count, sizeof *o->segmentation, err);
    o->readout =
        mf_arena_alloc(s->arena, mf_engine_readout_size(s->engine), sizeof *o->readout, err);
    o->quality = mf_arena_alloc(s->arena, s->frames.count, sizeof *o->quality, err);
    if (!o->logits || !o->segmentation || !o->readout || !o->quality)
        return false;
    const struct mf_engine_input input = {.frames = frames,
                                          .frame_count = s->frames.count,
                                          .positions = s->positions,
                                          .features = s->features,
                                          .mask = s->run->masks || s->run->explanation ? keep_mask
                                                                                       : NULL,
                                          .mask_arg = s};
    const struct mf_tap tap = mf_explanation_tap(&s->inputs);
    if (!mf_engine_run(s->engine, &input, s->run->explanation ? &tap : NULL, o, err))
        return false;
    return !s->masks_failed || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the masks");
}

static const char *site_of(const struct state *s)
{
    return s->run->site ? s->run->site : "";
}

/* Adapted logits in place of the network's, as the mode says; `calibrate` wants the network's.
 * Labels that exclude each other are not adapted: their entropy is not the one that is minimised.
 */
static bool adapt(struct mf_pipeline *p, struct state *s, struct mf_error *err)
{
    if (s->run->logits || mf_bundle_exclusive(s->bundle))
        return true;
    s->adapter = mf_adaptation_adapter(p->adaptation, s->bundle, site_of(s), err);
    return s->adapter &&
           mf_adapter_apply(s->adapter, s->output.readout, s->output.logits, &s->episode, err);
}

/* The study, once judged, may teach its site. */
static bool learn(struct mf_pipeline *p, struct state *s, struct mf_error *err)
{
    const struct mf_study_request *request = s->run->plan->request;
    const char *id = request->patient->patient_id, *issuer = request->patient->issuer;
    if (!s->adapter || mf_adaptation_mode(p->adaptation) != MF_ADAPT_SITE)
        return true;
    const char *patient = id && *id
                              ? mf_arena_printf(s->arena, err, "%s\\%s", issuer ? issuer : "", id)
                              : request->study->study_instance_uid;
    return patient &&
           mf_adaptation_learn(p->adaptation, s->adapter, s->bundle, site_of(s), s->output.readout,
                               patient, s->statement.ood_p_value < OOD_LEVEL, err);
}

/* Levels learnt from feedback; `calibrate` wants none. */
static bool find_levels(struct state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    double alpha = isnan(run->alpha) ? DEFAULT_ALPHA : run->alpha;
    if (!run->levels)
        return true;
    s->levels = run->levels(run->context, s->bundle, site_of(s), alpha, err);
    return s->levels != NULL;
}

static bool apply_trust(struct state *s, struct mf_error *err)
{
    struct mf_trust_statement *t = &s->statement;
    size_t labels = mf_bundle_label_count(s->bundle);
    double alpha = isnan(s->run->alpha) ? DEFAULT_ALPHA : s->run->alpha;
    struct mf_trust_case c = {.logits = s->output.logits,
                              .readout = s->output.readout,
                              .strata = mf_case_strata(s->run->plan->request, s->run->site),
                              .aci = s->levels};
    if (s->adapter)
        mf_adapter_bind(s->adapter, &c);
    t->predictions = mf_arena_alloc(s->arena, labels, sizeof *t->predictions, err);
    t->finding_labels = mf_arena_alloc(s->arena, labels, sizeof *t->finding_labels, err);
    if (!t->predictions || !t->finding_labels || !mf_trust_apply(s->bundle, &c, alpha, t, err))
        return false;
    if (!(t->ood_p_value < OOD_LEVEL))
        return true;
    s->flags[s->flag_count++] = "out_of_distribution";
    c.shifted = true;
    return mf_trust_apply(s->bundle, &c, alpha, t, err);
}

/* Of the reported study: a bad prior is no reason for doubt. */
static uint32_t quality_of(const struct state *s)
{
    uint32_t quality = 0;
    for (size_t i = 0; i < s->frames.count; i++)
        quality |= s->run->plan->request->frames[i].prior ? 0 : s->output.quality[i];
    return quality;
}

/* A bundle may refuse images of a quality that it was not made for. */
static bool check_quality(const struct state *s, struct mf_error *err)
{
    uint32_t refused = quality_of(s) & mf_bundle_refused_quality(s->bundle);
    for (unsigned bit = 0; bit < MF_QUALITY_COUNT; bit++)
        if (refused >> bit & 1)
            return mf_error_set(err, MF_ERR_UNUSABLE, "the image is refused by the model: %s",
                                mf_quality_name(bit));
    return true;
}

static void find_flags(struct state *s)
{
    const struct mf_feature_set *set = mf_bundle_features(s->bundle);
    bool fallback = false, used = false;
    for (size_t i = 0; i < s->frames.count; i++)
        fallback |= s->output.segmentation[i].status == MF_SEGMENTATION_FALLBACK;
    for (size_t i = 0; set && i < set->count; i++)
        used |= s->features[i].status == MF_FEATURE_USED;
    uint32_t quality = quality_of(s);
    for (unsigned bit = 0; bit < MF_QUALITY_COUNT; bit++)
        if (quality >> bit & 1)
            s->flags[s->flag_count++] = mf_quality_name(bit);
    if (fallback)
        s->flags[s->flag_count++] = "segmentation_fallback";
    if (set && !used)
        s->flags[s->flag_count++] = "no_ehr_features";
    if (s->run->plan->ehr_refused)
        s->flags[s->flag_count++] = "ehr_of_another_patient";
}

/* --- the result --- */

static const struct mf_result_frame *result_frames(struct state *s, struct mf_error *err)
{
    const struct mf_study_request *request = s->run->plan->request;
    struct mf_result_frame *frames =
        mf_arena_alloc(s->arena, request->frame_count, sizeof *frames, err);
    for (size_t i = 0; frames && i < request->frame_count; i++) {
        const struct mf_study_frame *f = &request->frames[i];
        frames[i] = (struct mf_result_frame){.study_instance_uid = f->object->study_instance_uid,
                                             .sop_instance_uid = f->object->sop_instance_uid,
                                             .index = f->frame,
                                             .prior = f->prior,
                                             .acquired = f->acquired,
                                             .segmentation = s->output.segmentation[i]};
    }
    return frames;
}

/* Whether a skipped object belongs to what this result reports. */
static bool is_reported(const struct mf_plan *plan, const struct mf_study_skipped *skipped)
{
    const char *uid = skipped->object ? skipped->object->study_instance_uid : NULL;
    return !plan->only || (uid && strcmp(uid, plan->only->study_instance_uid) == 0);
}

static bool fill_skipped(struct state *s, const struct mf_study_list *list,
                         struct mf_result *result, struct mf_error *err)
{
    size_t count, n = 0;
    const struct mf_study_skipped *all = mf_study_list_skipped(list, &count);
    struct mf_skipped *skipped = mf_arena_alloc(s->arena, count + 1, sizeof *skipped, err);
    for (size_t i = 0; skipped && i < count; i++)
        if (is_reported(s->run->plan, &all[i]))
            skipped[n++] = (struct mf_skipped){all[i].name, all[i].reason};
    result->skipped = skipped;
    result->skipped_count = n;
    return skipped != NULL;
}

static void fill_model(const struct state *s, struct mf_result *r)
{
    const struct mf_trust *trust = mf_bundle_trust(s->bundle);
    r->model.name = mf_bundle_name(s->bundle);
    r->model.version = mf_bundle_version(s->bundle);
    r->model.digest = mf_bundle_digest(s->bundle);
    r->model.model_hash = mf_bundle_model_hash(s->bundle);
    r->model.device = mf_engine_device(s->engine);
    r->model.dtype = mf_engine_dtype(s->engine);
    r->calibration.id = mf_trust_id(trust);
    r->calibration.created = mf_trust_created(trust);
    r->calibration.model_hash = mf_trust_model_hash(trust);
    r->calibration.patients = mf_trust_patients(trust);
}

static void fill_adaptation(const struct mf_pipeline *p, const struct state *s, struct mf_result *r)
{
    const struct mf_adapt_state *state = s->adapter ? mf_adapter_state(s->adapter) : NULL;
    r->adaptation.mode =
        mf_adapt_mode_name(s->adapter ? mf_adaptation_mode(p->adaptation) : MF_ADAPT_OFF);
    r->adaptation.state = state ? mf_adapt_state_id(state) : NULL;
    r->adaptation.entropy_before = s->episode.entropy_before;
    r->adaptation.entropy_after = s->episode.entropy_after;
    r->adaptation.max_logit_change = s->episode.max_change;
    if (s->statement.levels) {
        r->adaptation.learnt.state = mf_aci_id(s->levels);
        r->adaptation.learnt.version = mf_aci_version(s->levels);
        r->adaptation.learnt.levels = s->statement.levels;
    }
}

static json_t *make_result(const struct mf_pipeline *p, struct state *s, double total_ms,
                           struct mf_error *err)
{
    const struct mf_plan *plan = s->run->plan;
    struct mf_result r = {.job = s->run->job,
                          .study_instance_uid = plan->request->study->study_instance_uid,
                          .modality = plan->request->study->modality,
                          .frames = result_frames(s, err),
                          .frame_count = plan->request->frame_count,
                          .alpha = isnan(s->run->alpha) ? DEFAULT_ALPHA : s->run->alpha,
                          .predictions = s->statement.predictions,
                          .prediction_count = mf_bundle_label_count(s->bundle),
                          .findings = s->statement.findings,
                          .feature_set = mf_bundle_features(s->bundle),
                          .feature_values = s->features,
                          .ood_p_value = s->statement.ood_p_value,
                          .flags = s->flags,
                          .flag_count = s->flag_count,
                          .timing = s->output.timing};
    fill_model(s, &r);
    fill_adaptation(p, s, &r);
    r.timing.decode = s->decode_ms;
    r.timing.total = total_ms;
    if (!r.frames || !fill_skipped(s, plan->list, &r, err))
        return NULL;
    json_t *json = mf_result_to_json(&r);
    if (!json)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the result");
    return json;
}

/* --- explanation --- */

/* Made when one is first asked for, and kept for the next of the same model. */
static struct mf_explainer *explainer_of(struct mf_pipeline *p, const struct state *s,
                                         struct mf_error *err)
{
    size_t model = s->run->plan->model;
    if (p->explainer && p->explained_model == model)
        return p->explainer;
    mf_explainer_free(p->explainer);
    p->explainer = mf_explainer_new(s->bundle, 0, err);
    p->explained_model = model;
    return p->explainer;
}

static json_t *explain(struct mf_pipeline *p, struct state *s, struct mf_error *err)
{
    struct mf_explainer *explainer = explainer_of(p, s, err);
    uint32_t sizes[MAX_FRAMES][2];
    for (size_t i = 0; i < s->frames.count; i++) {
        sizes[i][0] = s->frames.frames[i].rows;
        sizes[i][1] = s->frames.frames[i].columns;
    }
    const struct mf_explained explained = {.bundle = s->bundle,
                                           .inputs = &s->inputs,
                                           .frames = result_frames(s, err),
                                           .sizes = (const uint32_t(*)[2])sizes,
                                           .frame_count = s->frames.count,
                                           .positions = s->positions,
                                           .features = s->features,
                                           .predictions = s->statement.predictions,
                                           .masks = s->masks};
    return explainer && explained.frames ? mf_explanation_make(explainer, &explained, err) : NULL;
}

/* Tells how far the run is; false when it must stop. */
static bool go_on(const struct mf_run *run, double done, struct mf_error *err)
{
    if (run->progress)
        run->progress(run->context, done);
    if (run->stopped && run->stopped(run->context))
        return mf_error_set(err, MF_ERR_CONFLICT, "cancelled");
    return true;
}

static double ms_since(uint64_t start_ns)
{
    return (double)(mf_clock_monotonic_ns() - start_ns) / 1e6;
}

static json_t *run_stages(struct mf_pipeline *p, struct state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    uint64_t start = mf_clock_monotonic_ns();
    if (!go_on(run, 0.0, err) || !load_frames(p, s, err))
        return NULL;
    s->decode_ms = ms_since(start);
    if (!go_on(run, 0.1, err) || !extract_features(s, err) || !run_network(s, err) ||
        !check_quality(s, err) || !go_on(run, 0.9, err) || !adapt(p, s, err) ||
        !find_levels(s, err) || !apply_trust(s, err))
        return NULL;
    find_flags(s);
    if (run->logits)
        memcpy(run->logits, s->output.logits,
               mf_bundle_label_count(s->bundle) * sizeof *run->logits);
    if (run->readout)
        memcpy(run->readout, s->output.readout,
               mf_engine_readout_size(s->engine) * sizeof *run->readout);
    json_t *result = make_result(p, s, ms_since(start), err);
    if (result && !learn(p, s, err)) { /* after the result: it speaks of the state that it used */
        json_decref(result);
        return NULL;
    }
    return result;
}

json_t *mf_pipeline_run_plan(struct mf_pipeline *p, const struct mf_run *run, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct state s = {.run = run,
                      .bundle = mf_registry_bundle(p->registry, run->plan->model),
                      .engine = mf_registry_engine(p->registry, run->plan->model),
                      .arena = arena};
    if (!arena || !s.engine) {
        mf_error_set(err, arena ? MF_ERR_INTERNAL : MF_ERR_NO_MEMORY,
                     arena ? "the model is not loaded for running" : "out of memory");
        return NULL;
    }
    json_t *result = run_stages(p, &s, err);
    if (result && run->explanation && !(*run->explanation = explain(p, &s, err))) {
        json_decref(result);
        result = NULL;
    }
    if (result && run->masks)
        *run->masks = MF_STEAL(s.masks);
    if (result && run->deliver)
        run->deliver(run->context, result);
    json_decref(s.masks);
    mf_explanation_inputs_free(&s.inputs);
    mf_frame_set_free(&s.frames);
    return result;
}
