/*
 * Running a plan: frames from the decoder, features from FHIR and DICOM, the network, the trust
 * layer, the result document. All memory of a run is in one arena, but for the frames, which are
 * the decoder's mapping.
 */
#include "server/pipeline_private.h"

#include "core/clock.h"
#include "core/result.h"
#include "engine/adapt_device.h"
#include "fhir/extract.h"
#include "server/case_strata.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double DEFAULT_ALPHA = 0.1;
/* Below this p-value an input is said to lie outside the calibrated population. */
static const double OOD_LEVEL = 0.01;

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

bool mf_run_go_on(const struct mf_run *run, double done, struct mf_error *err)
{
    if (run->progress)
        run->progress(run->context, done);
    if (run->stopped && run->stopped(run->context))
        return mf_error_set(err, MF_ERR_CONFLICT, "cancelled");
    return true;
}

/* --- frames --- */

static bool volume_goes_on(void *context, double done, struct mf_error *err)
{
    return mf_run_go_on(context, MF_RUN_DECODED * done, err);
}

static bool load_volume(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    const struct mf_volume *v = run->plan->request->volume;
    const struct mf_volume_source source = {.decoder = p->decoder,
                                            .inputs = {run->input, run->context},
                                            .go_on = volume_goes_on,
                                            .context = (void *)(uintptr_t)run};
    return mf_volume_frames(v, mf_bundle_volume(s->bundle), v->chosen, v->chosen_count, &source,
                            &s->frames, err);
}

static bool load_frames(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    const struct mf_frame_inputs inputs = {run->input, run->context};
    MF_AUTO(mf_frame_selection) struct mf_frame_selection selection = {.text = NULL};
    return mf_frame_selection_make(run->plan->request, &inputs, &selection, err) &&
           mf_frame_selection_decode(&selection, p->decoder, &s->frames, err);
}

/* --- features, network, trust --- */

static bool extract_features(struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_study_request *request = s->run->plan->request;
    const struct mf_feature_set *set = mf_bundle_features(s->bundle);
    if (!set)
        return true;
    s->features = mf_arena_alloc(s->arena, set->count + 1, sizeof *s->features, err);
    return s->features && mf_fhir_extract(set, s->run->plan->ehr, &request->demographics,
                                          &request->study_time, s->arena, s->features, err);
}

/* Of the reported study (a bad prior is no reason for doubt): its least sharp frame, and its flags.
 */
static void judge_quality(struct mf_run_state *s)
{
    s->sharpness = NAN;
    for (size_t i = 0; i < s->frames.count; i++) {
        if (s->run->plan->request->frames[i].prior)
            continue;
        s->quality |= s->output.quality[i];
        s->sharpness = fmin(s->sharpness, s->output.sharpness[i]); /* passes NaN over */
    }
    if (mf_trust_sharpness_p_value(mf_bundle_trust(s->bundle), s->sharpness) < OOD_LEVEL)
        s->quality |= MF_QUALITY_BLURRED;
}

static const char *site_of(const struct mf_run_state *s)
{
    return s->run->site ? s->run->site : "";
}

/* Adapted logits in place of the network's, as the mode says; `calibrate` wants the network's.
 * Labels that exclude each other are not adapted: their entropy is not the one that is minimised.
 */
static bool adapt(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    if (s->run->logits || mf_bundle_exclusive(s->bundle))
        return true;
    struct mf_adapt_device device;
    bool there = mf_engine_adapt_device(s->engine, &device);
    s->adapter =
        mf_adaptation_adapter(p->adaptation, s->bundle, there ? &device : NULL, site_of(s), err);
    return s->adapter &&
           mf_adapter_apply(s->adapter, s->output.readout, s->output.logits, &s->episode, err);
}

/* Unlike the calibration cases, so that nothing is promised of it and nothing learnt from it. */
static bool is_unusual(const struct mf_run_state *s)
{
    return s->statement.ood_p_value < OOD_LEVEL || s->quality & MF_QUALITY_BLURRED;
}

/* The study, once judged, may teach its site. */
static bool learn(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_study_request *request = s->run->plan->request;
    const char *id = request->patient->patient_id, *issuer = request->patient->issuer;
    if (!s->adapter || mf_adaptation_mode(p->adaptation) != MF_ADAPT_SITE)
        return true;
    const char *patient = id && *id
                              ? mf_arena_printf(s->arena, err, "%s\\%s", issuer ? issuer : "", id)
                              : request->study->study_instance_uid;
    return patient && mf_adaptation_learn(p->adaptation, s->adapter, s->bundle, site_of(s),
                                          s->output.readout, patient, is_unusual(s), err);
}

/* Levels learnt from feedback; `calibrate` wants none. */
static bool find_levels(struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    double alpha = isnan(run->alpha) ? DEFAULT_ALPHA : run->alpha;
    if (!run->levels)
        return true;
    s->levels = run->levels(run->context, s->bundle, site_of(s), alpha, err);
    return s->levels != NULL;
}

static bool apply_trust(struct mf_run_state *s, struct mf_error *err)
{
    struct mf_trust_statement *t = &s->statement;
    size_t labels = mf_bundle_label_count(s->bundle);
    double alpha = isnan(s->run->alpha) ? DEFAULT_ALPHA : s->run->alpha;
    struct mf_trust_case c = {.logits = s->output.logits,
                              .features = s->output.features,
                              .readout = s->output.readout,
                              .feature_size = mf_engine_feature_size(s->engine),
                              .readout_size = mf_engine_readout_size(s->engine),
                              .strata = mf_case_strata(s->run->plan->request, s->run->site),
                              .aci = s->levels};
    if (s->adapter)
        mf_adapter_bind(s->adapter, &c);
    t->predictions = mf_arena_alloc(s->arena, labels, sizeof *t->predictions, err);
    t->finding_labels = mf_arena_alloc(s->arena, labels, sizeof *t->finding_labels, err);
    if (!t->predictions || !t->finding_labels || !mf_trust_apply(s->bundle, &c, alpha, t, err))
        return false;
    if (t->ood_p_value < OOD_LEVEL)
        s->flags[s->flag_count++] = "out_of_distribution";
    if (!is_unusual(s))
        return true;
    c.shifted = true;
    return mf_trust_apply(s->bundle, &c, alpha, t, err);
}

/* A bundle may refuse images of a quality that it was not made for. */
static bool check_quality(const struct mf_run_state *s, struct mf_error *err)
{
    uint32_t refused = s->quality & mf_bundle_refused_quality(s->bundle);
    for (unsigned bit = 0; bit < MF_QUALITY_COUNT; bit++)
        if (refused >> bit & 1)
            return mf_error_set(err, MF_ERR_UNUSABLE, "the image is refused by the model: %s",
                                mf_quality_name(bit));
    return true;
}

static void find_flags(struct mf_run_state *s)
{
    const struct mf_feature_set *set = mf_bundle_features(s->bundle);
    bool fallback = false, used = false;
    for (size_t i = 0; i < s->frames.count; i++)
        fallback |= s->output.segmentation[i].status == MF_SEGMENTATION_FALLBACK;
    for (size_t i = 0; set && i < set->count; i++)
        used |= s->features[i].status == MF_FEATURE_USED;
    for (unsigned bit = 0; bit < MF_QUALITY_COUNT; bit++)
        if (s->quality >> bit & 1)
            s->flags[s->flag_count++] = mf_quality_name(bit);
    if (s->run->plan->request->volume)
        s->flag_count += mf_volume_flags(s->run->plan->request->volume, s->flags + s->flag_count);
    uint32_t irregular = mf_plan_irregular(s->run->plan);
    for (unsigned bit = 0; bit < MF_IRREGULAR_COUNT; bit++)
        if (irregular >> bit & 1)
            s->flags[s->flag_count++] = mf_irregularity_name(bit);
    if (fallback)
        s->flags[s->flag_count++] = "segmentation_fallback";
    if (set && !used)
        s->flags[s->flag_count++] = "no_ehr_features";
    if (s->run->plan->ehr_refused)
        s->flags[s->flag_count++] = "ehr_of_another_patient";
    if (s->run->plan->priors_unavailable)
        s->flags[s->flag_count++] = "priors_unavailable";
}

/* --- the result --- */

static const struct mf_result_frame *result_frames(struct mf_run_state *s, struct mf_error *err)
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

static bool fill_skipped(struct mf_run_state *s, const struct mf_study_list *list,
                         struct mf_result *result, struct mf_error *err)
{
    size_t count, n = 0;
    const struct mf_study_request *request = s->run->plan->request;
    const struct mf_study_skipped *all = mf_study_list_skipped(list, &count);
    struct mf_skipped *skipped =
        mf_arena_alloc(s->arena, count + request->left_out_count + 1, sizeof *skipped, err);
    for (size_t i = 0; skipped && i < count; i++)
        if (is_reported(s->run->plan, &all[i]))
            skipped[n++] = (struct mf_skipped){all[i].name, all[i].reason};
    for (size_t i = 0; skipped && i < request->left_out_count; i++)
        skipped[n++] = (struct mf_skipped){request->left_out[i].name, request->left_out[i].reason};
    result->skipped = skipped;
    result->skipped_count = n;
    return skipped != NULL;
}

static void fill_model(const struct mf_run_state *s, struct mf_result *r)
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

static void fill_adaptation(const struct mf_pipeline *p, const struct mf_run_state *s,
                            struct mf_result *r)
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

static json_t *make_result(const struct mf_pipeline *p, struct mf_run_state *s, double total_ms,
                           struct mf_error *err)
{
    const struct mf_plan *plan = s->run->plan;
    struct mf_result r = {.job = s->run->job,
                          .study_instance_uid = plan->request->study->study_instance_uid,
                          .modality = plan->request->study->modality,
                          .order = plan->request->study->order,
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
    struct mf_result_volume volume;
    if (plan->request->volume) {
        mf_volume_describe(plan->request->volume, &volume);
        r.volume = &volume;
    }
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
static struct mf_explainer *explainer_of(struct mf_pipeline *p, const struct mf_run_state *s,
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

static json_t *explain(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    struct mf_explainer *explainer = explainer_of(p, s, err);
    uint32_t sizes[MF_RUN_FRAMES][2];
    for (size_t i = 0; i < s->frames.count; i++) { /* as stored, also of a volume */
        sizes[i][0] = s->run->plan->request->frames[i].object->rows;
        sizes[i][1] = s->run->plan->request->frames[i].object->columns;
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

static double ms_since(uint64_t start_ns)
{
    return (double)(mf_clock_monotonic_ns() - start_ns) / 1e6;
}

struct mf_run_state *mf_run_begin(struct mf_pipeline *p, const struct mf_run *run,
                                  struct mf_error *err)
{
    struct mf_arena *arena = mf_arena_new(0);
    struct mf_run_state *s = arena ? mf_arena_alloc(arena, 1, sizeof *s, err) : NULL;
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        mf_arena_free(arena);
        return NULL;
    }
    *s = (struct mf_run_state){.run = run,
                               .bundle = mf_registry_bundle(p->registry, run->plan->model),
                               .engine = mf_registry_engine(p->registry, run->plan->model),
                               .arena = arena,
                               .problem = MF_ERROR_INIT,
                               .start_ns = mf_clock_monotonic_ns()};
    if (!s->engine) {
        mf_error_set(err, MF_ERR_INTERNAL, "the model is not loaded for running");
        mf_run_free(s);
        return NULL;
    }
    bool ok = mf_run_go_on(run, 0.0, err) &&
              (run->plan->request->volume ? load_volume(p, s, err) : load_frames(p, s, err));
    s->decode_ms = ms_since(s->start_ns);
    if (ok && extract_features(s, err) && mf_run_prepare(s, err))
        return s;
    mf_run_free(s);
    return NULL;
}

void mf_run_free(struct mf_run_state *s)
{
    if (!s)
        return;
    json_decref(s->masks);
    mf_explanation_inputs_free(&s->inputs);
    mf_frame_set_free(&s->frames);
    mf_arena_free(s->arena);
}

static json_t *judge(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    judge_quality(s);
    if (!check_quality(s, err) || !mf_run_go_on(run, 0.9, err) || !adapt(p, s, err) ||
        !find_levels(s, err) || !apply_trust(s, err))
        return NULL;
    find_flags(s);
    if (run->logits)
        memcpy(run->logits, s->output.logits,
               mf_bundle_label_count(s->bundle) * sizeof *run->logits);
    if (run->sharpness)
        *run->sharpness = s->sharpness;
    if (run->readout)
        memcpy(run->readout, s->output.readout,
               mf_engine_readout_size(s->engine) * sizeof *run->readout);
    if (run->features)
        memcpy(run->features, s->output.features,
               mf_engine_feature_size(s->engine) * sizeof *run->features);
    json_t *result = make_result(p, s, ms_since(s->start_ns), err);
    if (result && !learn(p, s, err)) { /* after the result: it speaks of the state that it used */
        json_decref(result);
        return NULL;
    }
    return result;
}

json_t *mf_run_end(struct mf_pipeline *p, struct mf_run_state *s, struct mf_error *err)
{
    const struct mf_run *run = s->run;
    json_t *result = NULL;
    if (s->problem.code != MF_OK)
        mf_error_set(err, s->problem.code, "%s", s->problem.msg);
    else
        result = judge(p, s, err);
    if (result && run->explanation && !(*run->explanation = explain(p, s, err))) {
        json_decref(result);
        result = NULL;
    }
    if (result && run->masks)
        *run->masks = MF_STEAL(s->masks);
    if (result && run->deliver)
        run->deliver(run->context, result);
    mf_run_free(s);
    return result;
}

json_t *mf_pipeline_run_plan(struct mf_pipeline *p, const struct mf_run *run, struct mf_error *err)
{
    struct mf_run_state *s = mf_run_begin(p, run, err);
    if (!s)
        return NULL;
    mf_run_compute(&s, 1);
    return mf_run_end(p, s, err);
}
