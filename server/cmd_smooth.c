/*
 * `medfusion model smooth`: runs calibration studies through a bundle in fp32, takes down how large
 * the inputs of its linear layers become, and writes a copy of the bundle with smoothing factors
 * for int8 (engine/smoothing.h). The studies need no labels.
 */
#include "server/cmd_smooth.h"

#include "engine/bundle.h"
#include "engine/smoothing.h"
#include "server/cli.h"
#include "server/dataset.h"
#include "server/pipeline_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct smooth {
    const struct mf_smooth_arguments *a;
    struct mf_zygote *zygote;
    struct mf_dataset *dataset;
    struct mf_smoothing *smoothing;
    struct mf_registry *registry;
    struct mf_pipeline *pipeline;
    struct mf_study_list *studies;
    struct mf_upload ehr;
    size_t used, left_out;
};

static bool scan_files(struct smooth *s, struct mf_error *err)
{
    MF_AUTO(mf_file_list) struct mf_file_list files = {0};
    struct mf_progress progress;
    if (!mf_file_list_collect(s->a->paths, s->a->path_count, &files, err))
        return false;
    mf_progress_start(&progress, "reading", files.count);
    bool ok = true;
    for (size_t i = 0; ok && i < files.count; i++) {
        ok = mf_dataset_add(s->dataset, &files.files[i], err);
        mf_progress_step(&progress, i + 1);
    }
    mf_progress_end(&progress);
    return ok;
}

/* Runs one study. One that cannot be used is left out; anything else is an error. */
static bool run_study(struct smooth *s, size_t patient, size_t study, struct mf_error *err)
{
    const struct mf_pipeline_options options = MF_PIPELINE_OPTIONS_INIT;
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_plan) struct mf_plan plan = {0};
    MF_AUTO(mf_json) json_t *result = NULL;
    if (mf_plan_study(s->studies, patient, study, 0, s->ehr.ehr, &options, &plan, &problem)) {
        const struct mf_run run = {
            .plan = &plan, .alpha = NAN, .input = mf_dataset_input, .context = s->dataset};
        result = mf_pipeline_run_plan(s->pipeline, &run, &problem);
        mf_dataset_close_files(s->dataset);
    }
    s->used += result != NULL;
    s->left_out += !result;
    return result || problem.code == MF_ERR_UNUSABLE ||
           mf_error_set(err, problem.code, "%s", problem.msg);
}

static bool run_studies(struct smooth *s, struct mf_error *err)
{
    size_t patients;
    const struct mf_study_patient *list = mf_study_list_patients(s->studies, &patients);
    struct mf_progress progress;
    mf_progress_start(&progress, "smooth", s->a->studies);
    bool ok = true;
    for (size_t i = 0; ok && i < patients; i++)
        for (size_t k = 0; ok && k < list[i].study_count && s->used < s->a->studies; k++) {
            ok = run_study(s, i, k, err);
            mf_progress_step(&progress, s->used);
        }
    mf_progress_end(&progress);
    return ok && (s->used || mf_error_set(err, MF_ERR_UNUSABLE, "no study can be used"));
}

static bool open_all(struct smooth *s, struct mf_error *err)
{
    const char *const models[] = {s->a->model};
    s->smoothing = mf_smoothing_new(err);
    const struct mf_registry_device device = {.device = "cpu", .smoothing = s->smoothing};
    return s->smoothing && (s->zygote = mf_zygote_start(err)) &&
           (s->dataset = mf_dataset_new(mf_zygote_address(s->zygote), err)) &&
           (s->registry = mf_registry_open(models, 1, &device, err)) &&
           (s->pipeline = mf_pipeline_new(s->registry, mf_dataset_decoder(s->dataset), err)) &&
           mf_pipeline_adapt(s->pipeline, MF_ADAPT_OFF, NULL, err) &&
           (!s->a->ehr || mf_dataset_read_ehr(s->dataset, s->a->ehr, &s->ehr, err));
}

static void close_all(struct smooth *s)
{
    mf_study_list_free(s->studies);
    mf_pipeline_free(s->pipeline);
    mf_registry_free(s->registry);
    mf_smoothing_free(s->smoothing);
    mf_upload_free(&s->ehr);
    mf_dataset_free(s->dataset);
    mf_zygote_stop(s->zygote);
}

static bool run(struct smooth *s, struct mf_error *err)
{
    if (!open_all(s, err) || !scan_files(s, err))
        return false;
    const struct mf_bundle *bundle = mf_registry_bundle(s->registry, 0);
    s->studies = mf_plan_studies(bundle, mf_dataset_index(s->dataset), err);
    if (!s->studies || !run_studies(s, err) ||
        !mf_bundle_write_smoothed(bundle, s->smoothing, s->a->alpha, s->a->output, err))
        return false;
    printf("smoothed on %zu studies (%zu left out): %s\n", s->used, s->left_out, s->a->output);
    return true;
}

bool mf_model_smooth(const struct mf_smooth_arguments *a, struct mf_error *err)
{
    struct smooth s = {.a = a};
    bool ok = run(&s, err);
    close_all(&s);
    return ok;
}
