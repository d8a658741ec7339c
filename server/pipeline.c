/* Pipeline: accepting a request and running a job, on top of plan.h and pipeline_run.h. See
 * pipeline.h. */
#include "server/pipeline.h"

#include "engine/bundle.h"
#include "server/frame_selection.h"
#include "server/pipeline_run.h"

#include <stdio.h>
#include <string.h>

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

/* The DICOM part that an input number of the index stands for. */
static int part_of_input(const struct mf_part *parts, size_t count, uint32_t input,
                         struct mf_error *err)
{
    uint32_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (parts[i].kind == MF_PART_DICOM && n++ == input)
            return parts[i].fd;
    mf_error_set(err, MF_ERR_MALFORMED, "index: there is no part %u", input + 1);
    return -1;
}

static int ahead_input(void *context, uint32_t input, struct mf_error *err)
{
    const struct mf_pipeline_ahead *ahead = context;
    return part_of_input(ahead->parts, ahead->part_count, input, err);
}

/* What cannot be asked ahead will be asked, and its error met, when the job runs. The slices of a
 * volume are asked for in batches then. */
static void ask_ahead(const struct mf_plan *plan, struct mf_pipeline_ahead *ahead)
{
    if (plan->request->volume)
        return;
    const struct mf_frame_inputs inputs = {ahead_input, ahead};
    MF_AUTO(mf_frame_selection) struct mf_frame_selection selection = {.text = NULL};
    ahead->asked = mf_frame_selection_make(plan->request, &inputs, &selection, NULL) &&
                   mf_decoder_frames_ahead(ahead->connection, &selection.wanted, NULL);
}

bool mf_pipeline_accept(const struct mf_registry *registry, const char *index, size_t index_len,
                        const struct mf_pipeline_options *options, struct mf_acceptance *ret,
                        struct mf_pipeline_ahead *ahead, struct mf_error *err)
{
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    MF_AUTO(mf_plan) struct mf_plan plan = {0};
    struct mf_pipeline_options routed = *options;
    size_t skipped;
    if (!mf_upload_parse(index, index_len, MF_UPLOAD_WITHOUT_EHR, &upload, err))
        return false;
    const struct mf_route *route =
        options->routing ? mf_routing_choose(options->routing, upload.index, options->origin)
                         : NULL;
    if (route && route->model && !routed.model[0])
        copy_text(routed.model, sizeof routed.model, route->model);
    if (!mf_plan_job(registry, &upload, &routed, &plan, err))
        return false;
    if (ahead)
        ask_ahead(&plan, ahead);
    mf_study_list_skipped(plan.list, &skipped);
    struct mf_acceptance a = {.route = route,
                              .frames = (unsigned)plan.request->frame_count,
                              .priors = (unsigned)plan.request->prior_count,
                              .skipped = (unsigned)(skipped + plan.request->left_out_count)};
    copy_text(a.study_instance_uid, sizeof a.study_instance_uid,
              plan.request->study->study_instance_uid);
    copy_text(a.modality, sizeof a.modality, plan.request->study->modality);
    copy_text(a.model, sizeof a.model, mf_bundle_name(mf_registry_bundle(registry, plan.model)));
    *ret = a;
    return true;
}

static int job_input(void *context, uint32_t input, struct mf_error *err)
{
    const struct mf_pipeline_job *job = context;
    return part_of_input(job->parts, job->part_count, input, err);
}

static bool job_stopped(void *context)
{
    const struct mf_pipeline_job *job = context;
    return job->stopped && job->stopped(job->context);
}

static void job_progress(void *context, double done)
{
    const struct mf_pipeline_job *job = context;
    if (job->progress)
        job->progress(job->context, done);
}

static const struct mf_aci *job_levels(void *context, const struct mf_bundle *bundle,
                                       const char *site, double alpha, struct mf_error *err)
{
    const struct mf_pipeline_job *job = context;
    return job->levels(job->context, bundle, site, alpha, err);
}

static void job_deliver(void *context, const json_t *result)
{
    const struct mf_pipeline_job *job = context;
    if (job->deliver)
        job->deliver(job->context, result);
}

struct mf_pipeline_begun {
    struct mf_upload upload;
    struct mf_plan plan;
    struct mf_run run;
    struct mf_run_state *state;
};

static void free_begun(struct mf_pipeline_begun *b)
{
    if (!b)
        return;
    mf_plan_free(&b->plan);
    mf_upload_free(&b->upload);
    free(b);
}

struct mf_pipeline_begun *mf_pipeline_begin(struct mf_pipeline *pipeline,
                                            const struct mf_pipeline_job *job, struct mf_error *err)
{
    struct mf_pipeline_begun *b = calloc(1, sizeof *b);
    if (!b) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (mf_upload_parse(job->index, job->index_len, MF_UPLOAD_ALL, &b->upload, err) &&
        mf_plan_job(mf_pipeline_registry(pipeline), &b->upload, job->options, &b->plan, err)) {
        b->run = (struct mf_run){.plan = &b->plan,
                                 .job = job->id,
                                 .alpha = job->options->alpha,
                                 .site = job->options->site,
                                 .input = job_input,
                                 .stopped = job_stopped,
                                 .progress = job_progress,
                                 .levels = job->levels ? job_levels : NULL,
                                 .deliver = job_deliver,
                                 .context = (void *)(uintptr_t)job,
                                 .masks = job->masks,
                                 .explanation = job->options->explain ? job->explanation : NULL};
        b->state = mf_run_begin(pipeline, &b->run, err);
    }
    if (b->state)
        return b;
    free_begun(b);
    return NULL;
}

void mf_pipeline_compute(struct mf_pipeline_begun *const *begun, size_t count)
{
    struct mf_run_state *states[MF_RUN_AT_ONCE];
    count = count < MF_RUN_AT_ONCE ? count : MF_RUN_AT_ONCE;
    for (size_t i = 0; i < count; i++)
        states[i] = begun[i] ? begun[i]->state : NULL;
    mf_run_compute(states, count);
}

json_t *mf_pipeline_end(struct mf_pipeline *pipeline, struct mf_pipeline_begun *begun,
                        struct mf_error *err)
{
    json_t *result = mf_run_end(pipeline, begun->state, err);
    free_begun(begun);
    return result;
}

json_t *mf_pipeline_run(struct mf_pipeline *pipeline, const struct mf_pipeline_job *job,
                        struct mf_error *err)
{
    struct mf_pipeline_begun *begun = mf_pipeline_begin(pipeline, job, err);
    if (!begun)
        return NULL;
    mf_pipeline_compute(&begun, 1);
    return mf_pipeline_end(pipeline, begun, err);
}
