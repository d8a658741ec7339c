/* Plan: see plan.h. */
#include "server/plan.h"

#include "engine/bundle.h"
#include "server/config.h"

#include <stdio.h>
#include <string.h>

/* The volume that a bundle makes of a series; a voxel of 0 mm where it makes none. */
static struct mf_volume_rules volume_rules(const struct mf_bundle *bundle)
{
    const struct mf_bundle_volume *v = mf_bundle_volume(bundle);
    struct mf_volume_rules rules = {.choice = MF_VOLUME_UNIFORM};
    if (!v)
        return rules;
    memcpy(rules.voxel, v->voxel, sizeof rules.voxel);
    memcpy(rules.range, v->range, sizeof rules.range);
    rules.choice = v->slices == MF_SLICES_CENTRAL ? MF_VOLUME_CENTRAL
                   : v->slices == MF_SLICES_RANGE ? MF_VOLUME_RANGE
                                                  : MF_VOLUME_UNIFORM;
    return rules;
}

struct mf_study_list *mf_plan_studies(const struct mf_bundle *bundle, const struct mf_index *index,
                                      struct mf_error *err)
{
    struct mf_bundle_rules b;
    mf_bundle_rules(bundle, &b);
    bool slices = mf_bundle_position(bundle) == MF_POSITION_SLICE;
    struct mf_study_rules rules = {
        .modalities = b.modalities,
        .modality_count = b.modality_count,
        .views = b.views,
        .view_count = b.view_count,
        .body_parts = b.body_parts,
        .body_part_count = b.body_part_count,
        .require_modality = b.require_modality,
        .require_view = b.require_view,
        .require_body_part = b.require_body_part,
        .order = slices ? MF_STUDY_BY_SLICE : MF_STUDY_BY_TIME,
        .max_frames = mf_bundle_max_frames(bundle),
        .no_priors = b.priors.max_studies == 0,
        .max_priors = b.priors.max_studies,
        .prior_days = b.priors.days,
        .prior_same_body_part = b.priors.same_body_part,
        .volume = volume_rules(bundle),
    };
    return mf_study_list_new(index, &rules, err);
}

/* Plans the upload for one bundle; `ret` is untouched on failure. */
static bool try_bundle(const struct mf_registry *registry, size_t model,
                       const struct mf_upload *upload, const struct mf_pipeline_options *options,
                       struct mf_plan *ret, struct mf_error *err)
{
    struct mf_study_list *list =
        mf_plan_studies(mf_registry_bundle(registry, model), upload->index, err);
    const struct mf_study_request *request =
        list ? mf_study_list_job(list, !options->no_priors, err) : NULL;
    if (!request) {
        mf_study_list_free(list);
        return false;
    }
    *ret = (struct mf_plan){.model = model, .list = list, .owns_list = true, .request = request};
    return true;
}

static const char *name_of(const struct mf_registry *registry, size_t model)
{
    return mf_bundle_name(mf_registry_bundle(registry, model));
}

/* The only bundle that accepts the upload. */
static bool choose_bundle(const struct mf_registry *registry, const struct mf_upload *upload,
                          const struct mf_pipeline_options *options, struct mf_plan *ret,
                          struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    size_t count = mf_registry_count(registry);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        struct mf_plan plan = {0};
        if (!try_bundle(registry, i, upload, options, &plan, &first))
            continue;
        if (found) {
            mf_error_set(err, MF_ERR_UNUSABLE,
                         "more than one model accepts this study (%s, %s): choose one by "
                         "\"model\" in the options",
                         name_of(registry, ret->model), name_of(registry, i));
            mf_plan_free(&plan);
            mf_plan_free(ret);
            return false;
        }
        *ret = plan;
        found = true;
    }
    if (found)
        return true;
    if (count == 0)
        mf_error_set(err, MF_ERR_UNAVAILABLE, "no model is loaded");
    mf_error_set(err, first.code, "%s", first.msg);
    return false;
}

bool mf_plan_attach_ehr(const struct mf_fhir_document *ehr, struct mf_plan *plan,
                        struct mf_error *err)
{
    const struct mf_study_patient *patient = plan->request->patient;
    const char *id = patient->patient_id ? patient->patient_id : "";
    if (ehr)
        plan->ehr = mf_fhir_find_patient(ehr, id, patient->issuer, err);
    return !ehr || plan->ehr;
}

/* Whether the system is one of those in the list, which stand between spaces. */
static bool is_listed(const char *list, const char *system)
{
    size_t len = strlen(system);
    while (len > 0 && *list) {
        size_t n = strcspn(list, " ");
        if (n == len && memcmp(list, system, len) == 0)
            return true;
        list += n + strspn(list + n, " ");
    }
    return false;
}

/* Whether an identifier of a configured system is the study's PatientID. An index of an earlier
 * version does not tell; it was accepted by the rules of then. */
static bool system_counts(const struct mf_upload *upload, const struct mf_config_ehr *identity)
{
    const char *list = identity ? identity->identifier_systems : "off";
    size_t i;
    const json_t *system;
    bool found = strcmp(list, "off") == 0 || !upload->ehr_systems;
    json_array_foreach(upload->ehr_systems, i, system) found =
        found || is_listed(list, json_string_value(system));
    return found;
}

/* Adds the upload's FHIR to the plan, if it is of the study's patient. */
static bool attach_own_ehr(const struct mf_upload *upload, const struct mf_config_ehr *identity,
                           struct mf_plan *plan, struct mf_error *err)
{
    struct mf_error problem = upload->ehr_problem;
    if (problem.code == MF_OK && !system_counts(upload, identity))
        mf_error_set(&problem, MF_ERR_UNUSABLE,
                     "the FHIR data is of another patient: no identifier of a configured system "
                     "equals the study's PatientID");
    if (problem.code == MF_OK)
        return mf_plan_attach_ehr(upload->ehr, plan, err);
    plan->ehr_refused = identity && strcmp(identity->mismatch, "report") == 0;
    return plan->ehr_refused || mf_error_set(err, problem.code, "%s", problem.msg);
}

bool mf_plan_job(const struct mf_registry *registry, const struct mf_upload *upload,
                 const struct mf_pipeline_options *options, struct mf_plan *ret,
                 struct mf_error *err)
{
    struct mf_plan plan = {0};
    long model = options->model[0] ? mf_registry_find(registry, options->model) : -1;
    if (options->model[0] && model < 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "there is no model named %.64s", options->model);
    bool ok = model >= 0 ? try_bundle(registry, (size_t)model, upload, options, &plan, err)
                         : choose_bundle(registry, upload, options, &plan, err);
    if (!ok)
        return false;
    if (!attach_own_ehr(upload, options->identity, &plan, err)) {
        mf_plan_free(&plan);
        return false;
    }
    plan.priors_unavailable = options->priors_unavailable;
    *ret = plan;
    return true;
}

bool mf_plan_study(struct mf_study_list *list, size_t patient, size_t study, size_t model,
                   const struct mf_fhir_document *ehr, const struct mf_pipeline_options *options,
                   struct mf_plan *ret, struct mf_error *err)
{
    const struct mf_study_request *request =
        mf_study_list_request(list, patient, study, !options->no_priors, err);
    if (!request)
        return false;
    struct mf_plan plan = {
        .model = model, .list = list, .request = request, .only = request->study};
    if (!mf_plan_attach_ehr(ehr, &plan, err))
        return false;
    *ret = plan;
    return true;
}

uint32_t mf_plan_irregular(const struct mf_plan *plan)
{
    const struct mf_study_request *r = plan->request;
    uint32_t bits = 0;
    for (size_t i = 0; i < r->frame_count; i++)
        bits |= r->frames[i].prior ? 0 : r->frames[i].object->irregular;
    for (size_t i = 0; r->volume && i < r->volume->slice_count; i++)
        bits |= r->volume->slices[i].object->irregular;
    return bits;
}

void mf_plan_free(struct mf_plan *plan)
{
    if (!plan)
        return;
    if (plan->owns_list)
        mf_study_list_free(plan->list);
    *plan = (struct mf_plan){0};
}
