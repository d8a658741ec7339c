/*
 * `medfusion predict`: DICOM files → one result a study, on the same pipeline as the daemon.
 *
 * Every input is parsed in a sandboxed decoder, here as there. A study that fails prints a
 * medfusion.problem/1 and a line on stderr; the others go on.
 */
#include "server/cli.h"
#include "server/cmd.h"

#include "core/clock.h"
#include "core/result.h"
#include "fhir/report.h"
#include "server/artifacts.h"
#include "server/dataset.h"
#include "server/pipeline_run.h"
#include "server/report.h"
#include "server/report_pdf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: medfusion predict --model DIR [OPTION]… PATH…\n"
    "\n"
    "Reads DICOM files (a PATH is a file, a zip or a directory), groups them into studies and "
    "prints one\n"
    "result a study. Earlier studies of the same patient among the inputs are its priors.\n"
    "\n"
    "  --model DIR       the model bundle\n"
    "  --ehr FILE        FHIR R4 data (Bundle or NDJSON); patients are matched by identifier = "
    "PatientID,\n"
    "                    and a study whose patient is not in it fails\n"
    "  --device DEV      cpu or cuda:N; default: the best that works\n"
    "  --threads N       CPU threads; default: all cores\n"
    "  --dtype TYPE      f32, bf16, int8 (CPU) or fp8 (GPU): large products; default: f32\n"
    "  --kernels KIND    auto, own or cudnn: convolutions and attention on a GPU; default: auto\n"
    "  --alpha A         error level of the prediction sets, above 0 and at most 0.5; default 0.1\n"
    "  --site NAME       where the studies were made, for a model calibrated by site\n"
    "  --adaptation MODE shadow (default: computed, reported, not used), off, episodic or site\n"
    "  --no-priors       each study alone\n"
    "  --format FORMAT   json (default), fhir, text, sr: a DICOM Structured Report, of one "
    "study,\n"
    "                    html or pdf: a page with images, of the patient's newest study\n"
    "  --artifacts DIR   also write every DICOM object of each result as DIR/STUDY/NAME.dcm: sr, "
    "seg,\n"
    "                    sc, gsps, kos\n"
    "  --explain DIR     also write why, as DIR/STUDY/explanation.json, and heat maps beside it; "
    "a\n"
    "                    pass of its own, slower than the prediction\n"
    "  -o FILE           write there instead of standard output\n";

enum format { FORMAT_JSON, FORMAT_FHIR, FORMAT_TEXT, FORMAT_SR, FORMAT_HTML, FORMAT_PDF };

struct arguments {
    const char *model, *ehr, *output, *artifacts, *explain;
    struct mf_registry_device device;
    struct mf_pipeline_options options;
    enum mf_adapt_mode adaptation;
    enum format format;
    char **paths;
    size_t path_count;
    bool help;
};

/* Everything that is open while studies run. */
struct predict {
    const struct arguments *a;
    struct mf_zygote *zygote;
    struct mf_dataset *dataset;
    struct mf_registry *registry;
    struct mf_pipeline *pipeline;
    struct mf_study_list *studies;
    struct mf_upload ehr;
    FILE *out;
    int indent;
    size_t failed;
};

/* --- arguments --- */

static bool take_format(const char *name, enum format *ret, struct mf_error *err)
{
    static const char *const NAMES[] = {"json", "fhir", "text", "sr", "html", "pdf"};
    for (int i = 0; i < 6; i++)
        if (strcmp(name, NAMES[i]) == 0) {
            *ret = (enum format)i;
            return true;
        }
    return mf_error_set(err, MF_ERR_USAGE,
                        "--format: json, fhir, text, sr, html or pdf, not \"%.40s\"", name);
}

static bool take_option(int c, struct arguments *a, struct mf_error *err)
{
    double number;
    switch (c) {
    case 'm':
        a->model = optarg;
        return true;
    case 'e':
        a->ehr = optarg;
        return true;
    case 'o':
        a->output = optarg;
        return true;
    case 'd':
        a->device.device = optarg;
        return true;
    case 'p':
        return a->options.no_priors = true;
    case 'f':
        return take_format(optarg, &a->format, err);
    case 'a':
        if (mf_cli_number("--alpha", optarg, 0, 0.5, &number, err) && number > 0)
            a->options.alpha = number;
        else
            return mf_error_set(err, MF_ERR_USAGE, "--alpha must be above 0");
        return true;
    case 'A':
        return mf_adapt_mode_parse(optarg, &a->adaptation) ||
               mf_error_set(err, MF_ERR_USAGE,
                            "--adaptation must be off, shadow, episodic or site");
    case 's':
        if (!*optarg || strlen(optarg) >= sizeof a->options.site)
            return mf_error_set(err, MF_ERR_USAGE, "--site must be a name of at most %zu bytes",
                                sizeof a->options.site - 1);
        memcpy(a->options.site, optarg, strlen(optarg) + 1);
        return true;
    case 't':
        if (!mf_cli_number("--threads", optarg, 0, 4096, &number, err))
            return false;
        a->device.threads = (unsigned)number;
        return true;
    case 'y':
        a->device.dtype = optarg;
        return true;
    case 'k':
        a->device.kernels = optarg;
        return true;
    case 'D':
        a->artifacts = optarg;
        return true;
    case 'x':
        a->explain = optarg;
        return true;
    default:
        return false; /* mf_cli_option() has said why */
    }
}

static bool parse(int argc, char **argv, struct arguments *a, struct mf_error *err)
{
    static const struct option LONG[] = {{"model", required_argument, NULL, 'm'},
                                         {"ehr", required_argument, NULL, 'e'},
                                         {"device", required_argument, NULL, 'd'},
                                         {"threads", required_argument, NULL, 't'},
                                         {"dtype", required_argument, NULL, 'y'},
                                         {"kernels", required_argument, NULL, 'k'},
                                         {"alpha", required_argument, NULL, 'a'},
                                         {"site", required_argument, NULL, 's'},
                                         {"artifacts", required_argument, NULL, 'D'},
                                         {"no-priors", no_argument, NULL, 'p'},
                                         {"explain", required_argument, NULL, 'x'},
                                         {"format", required_argument, NULL, 'f'},
                                         {"output", required_argument, NULL, 'o'},
                                         {"adaptation", required_argument, NULL, 'A'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    int c;
    while ((c = mf_cli_option(argc, argv, ":ho:", LONG, err)) != -1) {
        if (c == 'h')
            return a->help = true;
        if (!take_option(c, a, err))
            return false;
    }
    a->paths = argv + optind;
    a->path_count = (size_t)(argc - optind);
    if (!a->model)
        return mf_error_set(err, MF_ERR_USAGE, "--model DIR is needed, see --help");
    if (a->path_count == 0)
        return mf_error_set(err, MF_ERR_USAGE, "at least one PATH is needed, see --help");
    return true;
}

/* --- output --- */

static bool put_line(struct predict *p, const char *text, struct mf_error *err)
{
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    size_t len = strlen(text);
    bool ended = len && text[len - 1] == '\n';
    if (fputs(text, p->out) < 0 || (!ended && fputc('\n', p->out) < 0) || fflush(p->out) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", p->a->output ? p->a->output : "output",
                            strerror(errno));
    return true;
}

static bool put_bytes(struct predict *p, const struct mf_buffer *bytes, struct mf_error *err)
{
    if (fwrite(bytes->data, 1, bytes->len, p->out) == bytes->len && fflush(p->out) == 0)
        return true;
    return mf_error_set(err, MF_ERR_IO, "%s: %s", p->a->output ? p->a->output : "output",
                        strerror(errno));
}

static bool put_json(struct predict *p, const json_t *json, struct mf_error *err)
{
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, p->indent) : NULL;
    return put_line(p, text, err);
}

static bool is_page(enum format format)
{
    return format == FORMAT_HTML || format == FORMAT_PDF;
}

/* Formats that hold one study. */
static bool one_study(enum format format)
{
    return format == FORMAT_SR || is_page(format);
}

/* A failure: one line on stderr, and the problem in the output. `study` may be NULL. */
static bool put_problem(struct predict *p, const char *study, const struct mf_error *problem,
                        struct mf_error *err)
{
    p->failed++;
    if (study && !*study)
        study = NULL;
    if (study)
        fprintf(stderr, "medfusion predict: study %s: %s\n", study, problem->msg);
    else
        fprintf(stderr, "medfusion predict: %s\n", problem->msg);
    if (p->a->format == FORMAT_TEXT || one_study(p->a->format))
        return true;
    MF_AUTO(mf_json)
    json_t *json = p->a->format == FORMAT_FHIR ? mf_fhir_operation_outcome(problem)
                                               : mf_problem_to_json(problem, study, NULL);
    return put_json(p, json, err);
}

static bool put_result(struct predict *p, const json_t *result,
                       const struct mf_study_request *request, struct mf_error *err)
{
    if (p->a->format == FORMAT_JSON)
        return put_json(p, result, err);
    if (p->a->format == FORMAT_TEXT) {
        MF_AUTO(mf_mem) char *text = mf_result_to_text(result);
        return put_line(p, text, err);
    }
    const struct mf_fhir_report_context context = {.patient_id = request->patient->patient_id,
                                                   .patient_issuer = request->patient->issuer,
                                                   .order = request->study->order};
    MF_AUTO(mf_json)
    json_t *bundle = mf_fhir_report(result, &context, MF_FHIR_BUNDLE_COLLECTION, err);
    return bundle && put_json(p, bundle, err);
}

/* --- DICOM objects --- */

static bool put_sr(struct predict *p, struct mf_write_set *set,
                   const struct mf_artifact_images *images, struct mf_error *err)
{
    enum { REPORT_BYTES = 64 << 20 };
    MF_AUTO(mf_buffer) struct mf_buffer report;
    mf_buffer_init(&report, REPORT_BYTES);
    if (!mf_artifact_make(set, mf_write_set_find(set, "sr"), images, &report, err))
        return false;
    if (fwrite(report.data, 1, report.len, p->out) == report.len && fflush(p->out) == 0)
        return true;
    return mf_error_set(err, MF_ERR_IO, "%s: %s", p->a->output ? p->a->output : "output",
                        strerror(errno));
}

/* What was asked for of the result's objects. */
static bool put_objects(struct predict *p, const json_t *result, const json_t *masks,
                        const json_t *explanation, const char *uid, struct mf_error *err)
{
    const struct mf_write_source source = {.index = mf_dataset_index(p->dataset),
                                           .result = result,
                                           .masks = masks,
                                           .explanation = explanation,
                                           .made_ms = mf_clock_wall_ms()};
    const struct mf_artifact_images images = {mf_dataset_decoder(p->dataset), mf_dataset_input,
                                              p->dataset};
    MF_AUTO(mf_write_set) struct mf_write_set *set = mf_write_set_new(&source, err);
    bool ok =
        set &&
        (!p->a->artifacts || mf_artifacts_write(set, &images, masks, p->a->artifacts, uid, err)) &&
        (!explanation ||
         mf_explanation_write(set, &images, explanation, p->a->explain, uid, err)) &&
        (p->a->format != FORMAT_SR || put_sr(p, set, &images, err));
    mf_dataset_close_files(p->dataset);
    return ok;
}

/* The page of one study; false with a problem, MF_ERR_IO when the output cannot be written. */
static bool put_page(struct predict *p, const json_t *result, const json_t *masks,
                     struct mf_error *err)
{
    enum { PAGE_BYTES = 256 << 20 };
    char made[MF_TIME_TEXT];
    MF_AUTO(mf_buffer) struct mf_buffer page;
    mf_buffer_init(&page, PAGE_BYTES);
    const struct mf_artifact_images images = {mf_dataset_decoder(p->dataset), mf_dataset_input,
                                              p->dataset};
    const struct mf_report report = {.index = mf_dataset_index(p->dataset),
                                     .result = result,
                                     .masks = masks,
                                     .images = &images,
                                     .made = mf_clock_format_ms(mf_clock_wall_ms(), made)};
    bool ok = (p->a->format == FORMAT_PDF ? mf_report_pdf(&report, &page, err)
                                          : mf_report_html(&report, &page, err)) &&
              put_bytes(p, &page, err);
    mf_dataset_close_files(p->dataset);
    return ok;
}

/* --- studies --- */

/* Runs one study; false only when the output cannot be written. */
static bool predict_study(struct predict *p, size_t patient, size_t study, const char *uid,
                          struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_plan) struct mf_plan plan = {0};
    MF_AUTO(mf_json) json_t *result = NULL, *masks = NULL, *explanation = NULL;
    bool objects = p->a->artifacts || p->a->explain || p->a->format == FORMAT_SR;
    bool page = is_page(p->a->format);
    if (mf_plan_study(p->studies, patient, study, 0, p->ehr.ehr, &p->a->options, &plan, &problem)) {
        const struct mf_run run = {.plan = &plan,
                                   .alpha = p->a->options.alpha,
                                   .site = p->a->options.site,
                                   .input = mf_dataset_input,
                                   .context = p->dataset,
                                   .masks = objects || page ? &masks : NULL,
                                   .explanation = p->a->explain ? &explanation : NULL};
        result = mf_pipeline_run_plan(p->pipeline, &run, &problem);
        mf_dataset_close_files(p->dataset);
    }
    if (result && ((objects && !put_objects(p, result, masks, explanation, uid, &problem)) ||
                   (page && !put_page(p, result, masks, &problem))))
        return problem.code == MF_ERR_IO ? mf_error_set(err, problem.code, "%s", problem.msg)
                                         : put_problem(p, uid, &problem, err);
    if (result && one_study(p->a->format))
        return true;
    return result ? put_result(p, result, plan.request, err) : put_problem(p, uid, &problem, err);
}

static size_t count_studies(const struct mf_study_patient *patients, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += patients[i].study_count;
    return n;
}

/* One page: of the patient's newest study, the earlier ones being its priors. */
static bool predict_newest(struct predict *p, const struct mf_study_patient *patients, size_t count,
                           struct mf_error *err)
{
    if (count != 1)
        return mf_error_set(err, MF_ERR_USAGE, "--format %s is for one patient, not %zu",
                            p->a->format == FORMAT_PDF ? "pdf" : "html", count);
    size_t newest = patients[0].study_count - 1;
    return predict_study(p, 0, newest, patients[0].studies[newest].study_instance_uid, err);
}

static bool predict_all(struct predict *p, struct mf_error *err)
{
    size_t count, done = 0;
    const struct mf_study_patient *patients = mf_study_list_patients(p->studies, &count);
    size_t total = count_studies(patients, count);
    if (p->a->format == FORMAT_SR && total != 1)
        return mf_error_set(err, MF_ERR_USAGE,
                            "--format sr is for one study, not %zu; use --artifacts DIR", total);
    if (is_page(p->a->format))
        return predict_newest(p, patients, count, err);
    struct mf_progress progress;
    p->indent = total + p->failed == 1 && !p->a->output && isatty(STDOUT_FILENO) ? 2 : 0;
    mf_progress_start(&progress, "studies", isatty(STDOUT_FILENO) ? 0 : total);
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++)
        for (size_t k = 0; ok && k < patients[i].study_count; k++) {
            ok = predict_study(p, i, k, patients[i].studies[k].study_instance_uid, err);
            mf_progress_step(&progress, ++done);
        }
    mf_progress_end(&progress);
    return ok;
}

/* --- from files to studies --- */

static bool scan_files(struct predict *p, struct mf_error *err)
{
    MF_AUTO(mf_file_list) struct mf_file_list files = {0};
    struct mf_progress progress;
    if (!mf_file_list_collect(p->a->paths, p->a->path_count, &files, err))
        return false;
    mf_progress_start(&progress, "reading", files.count);
    bool ok = true;
    for (size_t i = 0; ok && i < files.count; i++) {
        struct mf_error problem = MF_ERROR_INIT;
        if (!mf_dataset_add(p->dataset, &files.files[i], &problem))
            ok = put_problem(p, NULL, &problem, err);
        mf_progress_step(&progress, i + 1);
    }
    mf_progress_end(&progress);
    size_t skipped = mf_dataset_skipped(p->dataset);
    if (skipped)
        fprintf(stderr, "medfusion predict: %zu file%s skipped, not DICOM\n", skipped,
                skipped == 1 ? "" : "s");
    return ok;
}

static bool open_all(struct predict *p, struct mf_error *err)
{
    const char *const models[] = {p->a->model};
    p->out = p->a->output ? fopen(p->a->output, "we") : stdout;
    if (!p->out)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", p->a->output, strerror(errno));
    return (p->zygote = mf_zygote_start(err)) &&
           (p->dataset = mf_dataset_new(mf_zygote_address(p->zygote), err)) &&
           (p->registry = mf_registry_open(models, 1, &p->a->device, err)) &&
           (p->pipeline = mf_pipeline_new(p->registry, mf_dataset_decoder(p->dataset), err)) &&
           mf_pipeline_adapt(p->pipeline, p->a->adaptation, NULL, err) &&
           (!p->a->ehr || mf_dataset_read_ehr(p->dataset, p->a->ehr, &p->ehr, err));
}

static bool run(struct predict *p, struct mf_error *err)
{
    if (!open_all(p, err) || !scan_files(p, err))
        return false;
    const struct mf_index *index = mf_dataset_index(p->dataset);
    if (index->object_count == 0) /* a failure of its own unless one was told already */
        return p->failed ||
               mf_error_set(err, MF_ERR_MALFORMED, "%s: no DICOM file%s", p->a->paths[0],
                            p->a->path_count > 1 ? " there or in the other paths" : "");
    p->studies = mf_plan_studies(mf_registry_bundle(p->registry, 0), index, err);
    return p->studies && predict_all(p, err);
}

static bool close_all(struct predict *p, struct mf_error *err)
{
    mf_study_list_free(p->studies);
    mf_pipeline_free(p->pipeline);
    mf_registry_free(p->registry);
    mf_upload_free(&p->ehr);
    mf_dataset_free(p->dataset);
    mf_zygote_stop(p->zygote);
    if (p->out && p->out != stdout && fclose(p->out) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", p->a->output, strerror(errno));
    return true;
}

int mf_cmd_predict(int argc, char **argv)
{
    struct arguments a = {.options = MF_PIPELINE_OPTIONS_INIT, .adaptation = MF_ADAPT_SHADOW};
    struct mf_error err = MF_ERROR_INIT;
    if (!parse(argc, argv, &a, &err))
        return mf_cli_fail("predict", &err);
    if (a.help)
        return mf_cli_help(USAGE);
    struct predict p = {.a = &a};
    bool ok = run(&p, &err);
    ok = close_all(&p, &err) && ok;
    if (!ok)
        return mf_cli_fail("predict", &err);
    return p.failed ? MF_EXIT_FAILED : MF_EXIT_OK;
}
