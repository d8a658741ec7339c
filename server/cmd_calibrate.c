/*
 * `medfusion calibrate`: runs labelled patients through the same pipeline as `predict`, fits
 * probabilities and conformal sets on their logits (engine/trust/) and writes a complete, unsigned
 * bundle.
 *
 * Of each patient the newest usable study is the case, the earlier ones are its priors. Patients
 * are independent: each thread has an engine of its own with one CPU thread, which beats one engine
 * with many. The result does not depend on the number of threads.
 */
#include "server/cli.h"
#include "server/cmd.h"

#include "engine/engine.h"
#include "engine/trust/trust.h"
#include "server/calibration_manifest.h"
#include "server/case_strata.h"
#include "server/dataset.h"
#include "server/pipeline_run.h"
#include "server/reference.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion calibrate --model DIR --manifest CSV -o DIR [OPTION]…\n"
    "\n"
    "Fits calibrated probabilities and conformal sets on labelled patients and writes a complete,\n"
    "unsigned bundle.\n"
    "\n"
    "  --model DIR      the model bundle\n"
    "  --manifest CSV   columns path, patient_id, the labels (1, 0 or blank), and optionally ehr "
    "and group;\n"
    "                   paths are relative to the CSV; the newest study of each patient is used\n"
    "  -o DIR           a new or empty directory for the bundle\n"
    "  --source TEXT    what the data is, for the reader of a result; default: the CSV's name\n"
    "  --group-by KIND  view, sex, age or site: conformal sets and, where there are enough cases,\n"
    "                   probabilities for each group of its own; site is the column group\n"
    "  --prevalence CSV columns label, prevalence: how frequent findings are where the model "
    "works\n"
    "  --target CSV     unlabelled studies (path, patient_id) of where the model works: conformal\n"
    "                   sets are weighted towards them; not together with --group-by\n"
    "  --device DEV     cpu or cuda:N; default: the best that works\n"
    "  --dtype TYPE     f32, bf16, int8 or fp8, as it will be served; default: f32\n"
    "  --threads N      patients at once; default: all cores\n";

enum { MAX_THREADS = 64 };

struct arguments {
    const char *model, *manifest, *output, *source, *device, *dtype, *prevalence, *target;
    enum mf_strata_kind strata;
    unsigned threads;
    bool help;
};

/* What all threads share: one population, that of the manifest or of the target. */
struct calibrate {
    const struct arguments *a;
    const char *name; /* on the progress bar */
    struct mf_zygote *zygote;
    struct mf_manifest *manifest;
    const struct mf_manifest_patient *patients;
    size_t patient_count, label_count, readout_size, feature_size;
    /* patient_count rows; each thread writes the rows of its patients */
    float *logits, *readouts, *images; /* `images`: what the vision module sees of them */
    double *sharpness;
    const struct mf_manifest_row **rows; /* the row that gave a patient's case; NULL = left out */
    json_t **features;                   /* ehr.features of its result; owned */
    char (*groups)[MF_STRATA_KEY];       /* of a patient's case; "" = unknown */
    pthread_mutex_t lock;                /* guards everything below */
    size_t next, done;
    struct mf_progress progress;
    struct mf_error error; /* the first that ends the work */
};

/* What one thread has of its own. */
struct thread {
    struct calibrate *c;
    pthread_t id;
    struct mf_registry *registry;
};

/* --- one patient --- */

/* Adds the files of all rows; row_of[input] tells which row a file came from. */
static bool add_rows(struct mf_dataset *dataset, const struct mf_manifest_patient *patient,
                     size_t **row_of, struct mf_error *err)
{
    size_t inputs = 0;
    for (size_t r = 0; r < patient->row_count; r++) {
        MF_AUTO(mf_file_list) struct mf_file_list files = {0};
        char *const path[] = {patient->rows[r].path};
        if (!mf_file_list_collect(path, 1, &files, err))
            return false;
        if (files.count == 0)
            return mf_error_set(err, MF_ERR_NOT_FOUND, "%s: no files", patient->rows[r].path);
        size_t *grown = realloc(*row_of, (inputs + files.count + 1) * sizeof *grown);
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        *row_of = grown;
        for (size_t i = 0; i < files.count; i++) {
            if (!mf_dataset_add(dataset, &files.files[i], err))
                return false;
            (*row_of)[inputs++] = r;
        }
    }
    return true;
}

/* Runs the planned study and keeps its logits and readout. */
static bool run_case(struct thread *t, struct mf_dataset *dataset, const struct mf_plan *plan,
                     size_t index, struct mf_error *err)
{
    struct calibrate *c = t->c;
    MF_AUTO(mf_pipeline)
    struct mf_pipeline *pipeline = mf_pipeline_new(t->registry, mf_dataset_decoder(dataset), err);
    const struct mf_run run = {.plan = plan,
                               .alpha = NAN,
                               .input = mf_dataset_input,
                               .context = dataset,
                               .logits = c->logits + index * c->label_count,
                               .readout = c->readouts + index * c->readout_size,
                               .features = c->images + index * c->feature_size,
                               .sharpness = &c->sharpness[index]};
    MF_AUTO(mf_json) json_t *result = pipeline ? mf_pipeline_run_plan(pipeline, &run, err) : NULL;
    const json_t *ehr = json_object_get(result, "ehr");
    c->features[index] = json_incref(json_object_get(ehr, "features"));
    return result != NULL;
}

static bool run_patient(struct thread *t, size_t index, struct mf_error *err)
{
    struct calibrate *c = t->c;
    const struct mf_manifest_patient *patient = &c->patients[index];
    const struct mf_pipeline_options options = MF_PIPELINE_OPTIONS_INIT;
    MF_AUTO(mf_mem) size_t *row_of = NULL;
    MF_AUTO(mf_dataset)
    struct mf_dataset *dataset = mf_dataset_new(mf_zygote_address(c->zygote), err);
    MF_AUTO(mf_upload) struct mf_upload ehr = {0};
    MF_AUTO(mf_plan) struct mf_plan plan = {0};
    if (!dataset || !add_rows(dataset, patient, &row_of, err))
        return false;
    struct mf_upload upload = {.index = (struct mf_index *)(uintptr_t)mf_dataset_index(dataset)};
    if (!row_of || !mf_plan_job(t->registry, &upload, &options, &plan, err))
        return false;
    const struct mf_study_frame *newest = &plan.request->frames[plan.request->frame_count - 1];
    const struct mf_manifest_row *row = &patient->rows[row_of[newest->object->input]];
    if (row->ehr && (!mf_dataset_read_ehr(dataset, row->ehr, &ehr, err) ||
                     !mf_plan_attach_ehr(ehr.ehr, &plan, err)))
        return false;
    const struct mf_strata strata = mf_case_strata(plan.request, row->group);
    if (!run_case(t, dataset, &plan, index, err))
        return false;
    if (!mf_strata_key(c->a->strata, &strata, c->groups[index]))
        c->groups[index][0] = '\0';
    c->rows[index] = row;
    return true;
}

/* --- all patients --- */

/* The next patient to run, or false when there is none or the work has failed. */
static bool take_patient(struct calibrate *c, size_t *ret)
{
    pthread_mutex_lock(&c->lock);
    bool more = c->next < c->patient_count && c->error.code == MF_OK;
    if (more)
        *ret = c->next++;
    pthread_mutex_unlock(&c->lock);
    return more;
}

/* An unusable patient is left out and said so; anything else ends the work: a calibration set must
 * not shrink by accident. */
static void note_end(struct calibrate *c, size_t index, const struct mf_error *problem)
{
    size_t row = c->patients[index].rows[0].number;
    pthread_mutex_lock(&c->lock);
    if (problem->code == MF_ERR_UNUSABLE) {
        mf_progress_clear(&c->progress);
        fprintf(stderr, "medfusion calibrate: the patient of row %zu is left out: %s\n", row,
                problem->msg);
    } else if (problem->code != MF_OK) {
        mf_error_set(&c->error, problem->code, "row %zu: %s", row, problem->msg);
    }
    mf_progress_step(&c->progress, ++c->done);
    pthread_mutex_unlock(&c->lock);
}

static void *run_patients(void *arg)
{
    struct thread *t = arg;
    size_t index;
    while (take_patient(t->c, &index)) {
        struct mf_error problem = MF_ERROR_INIT;
        run_patient(t, index, &problem);
        note_end(t->c, index, &problem);
    }
    return NULL;
}

static unsigned thread_count(const struct arguments *a, size_t patients)
{
    cpu_set_t cores;
    unsigned n = a->threads;
    bool gpu = a->device && strcmp(a->device, "cpu") != 0;
    if (n == 0)
        n = !gpu && sched_getaffinity(0, sizeof cores, &cores) == 0 ? (unsigned)CPU_COUNT(&cores)
                                                                    : 1;
    n = n > MAX_THREADS ? MAX_THREADS : n;
    return n > patients ? (unsigned)patients : n;
}

static bool run_threads(struct calibrate *c, struct mf_error *err)
{
    struct thread threads[MAX_THREADS] = {{0}};
    const char *const models[] = {c->a->model};
    const struct mf_registry_device device = {
        .device = c->a->device, .threads = 1, .dtype = c->a->dtype};
    unsigned count = thread_count(c->a, c->patient_count), started = 0;
    bool ok = true;
    mf_progress_start(&c->progress, c->name, c->patient_count);
    for (unsigned i = 0; ok && i < count; i++) {
        threads[i].c = c;
        threads[i].registry = mf_registry_open(models, 1, &device, err);
        ok = threads[i].registry &&
             (pthread_create(&threads[i].id, NULL, run_patients, &threads[i]) == 0 ||
              mf_error_set(err, MF_ERR_INTERNAL, "a thread cannot be started"));
        started += ok;
    }
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i].id, NULL);
    for (unsigned i = 0; i < count; i++)
        mf_registry_free(threads[i].registry);
    mf_progress_end(&c->progress);
    return ok && (c->error.code == MF_OK || mf_error_set(err, c->error.code, "%s", c->error.msg));
}

/* --- fitting --- */

/* Moves the cases that ran together; returns how many there are. */
static size_t compact(struct calibrate *c)
{
    size_t n = 0, labels = c->label_count, readout = c->readout_size, image = c->feature_size;
    for (size_t i = 0; i < c->patient_count; i++) {
        if (!c->rows[i])
            continue;
        memmove(c->logits + n * labels, c->logits + i * labels, labels * sizeof *c->logits);
        memmove(c->readouts + n * readout, c->readouts + i * readout,
                readout * sizeof *c->readouts);
        memmove(c->images + n * image, c->images + i * image, image * sizeof *c->images);
        c->sharpness[n] = c->sharpness[i];
        memmove(c->groups[n], c->groups[i], sizeof *c->groups);
        json_t *features = c->features[i]; /* swapped, so that each is freed once */
        c->features[i] = c->features[n];
        c->features[n] = features;
        c->rows[n++] = c->rows[i];
    }
    return n;
}

static const char *source_of(const struct arguments *a)
{
    const char *slash = strrchr(a->manifest, '/');
    return a->source ? a->source : slash ? slash + 1 : a->manifest;
}

/* Says for which findings sets at 90 % promise nothing: k = ceil(0.9 (n + 1)) has to be within the
 * n cases of either class. */
static void tell_promises(const struct mf_bundle *bundle, const int8_t *truth, size_t n)
{
    enum { LEAST = 9 };
    const struct mf_label *names = mf_bundle_labels(bundle);
    size_t labels = mf_bundle_label_count(bundle), few = 0;
    for (size_t l = 0; l < labels; l++) {
        size_t with = 0, without = 0;
        for (size_t i = 0; i < n; i++) {
            with += truth[i * labels + l] == 1;
            without += truth[i * labels + l] == 0;
        }
        if (with >= LEAST && without >= LEAST)
            continue;
        printf("%s%s (%zu and %zu)",
               few++ ? ", " : "no promise at 90 %, for want of 9 patients with and 9 without: ",
               names[l].id, with, without);
    }
    if (few > 0)
        printf("\n");
}

/* Fits on the cases that ran; `target` has no patients when there is none. */
static bool fit(struct calibrate *c, struct calibrate *target, const struct mf_bundle *bundle,
                struct mf_error *err)
{
    size_t n = compact(c), labels = c->label_count;
    MF_AUTO(mf_mem) int8_t *truth = calloc(n + 1, labels);
    MF_AUTO(mf_mem) const char **patients = calloc(n + 1, sizeof *patients);
    MF_AUTO(mf_mem) const char **groups = calloc(n + 1, sizeof *groups);
    MF_AUTO(mf_mem) double *prevalence = calloc(labels, sizeof *prevalence);
    if (!truth || !patients || !groups || !prevalence)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        memcpy(truth + i * labels, c->rows[i]->truth, labels);
        patients[i] = c->rows[i]->patient_id;
        groups[i] = c->groups[i][0] ? c->groups[i] : NULL;
    }
    if (c->a->prevalence && !mf_manifest_read_prevalence(c->a->prevalence, bundle, prevalence, err))
        return false;
    const struct mf_trust_origin origin = {.source = source_of(c->a)};
    const struct mf_trust_cases cases = {.count = n,
                                         .label_count = labels,
                                         .logits = c->logits,
                                         .truth = truth,
                                         .patients = patients,
                                         .readouts = c->readouts,
                                         .readout_size = c->readout_size,
                                         .features = c->images,
                                         .feature_size = c->feature_size,
                                         .sharpness = c->sharpness,
                                         .strata = c->a->strata,
                                         .groups = groups,
                                         .prevalence = c->a->prevalence ? prevalence : NULL,
                                         .target = target->logits,
                                         .target_count = target->logits ? compact(target) : 0};
    MF_AUTO(mf_trust) struct mf_trust *trust = mf_trust_fit(bundle, &cases, &origin, err);
    json_t *reference = trust ? mf_reference_make(bundle, c->features, n, err) : NULL;
    if (reference)
        mf_trust_set_features(trust, reference);
    if (!reference || !mf_bundle_write_calibrated(bundle, trust, c->a->output, err))
        return false;
    printf("calibrated on %zu patients: %s\n", n, c->a->output);
    if (!mf_bundle_exclusive(bundle))
        tell_promises(bundle, truth, n);
    return true;
}

static bool find_sizes(struct calibrate *c, const struct mf_bundle *bundle, struct mf_error *err)
{
    const struct mf_engine_options options = {.device = c->a->device, .threads = 1};
    MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, err);
    if (!engine)
        return false;
    c->label_count = mf_bundle_label_count(bundle);
    c->readout_size = mf_engine_readout_size(engine);
    c->feature_size = mf_engine_feature_size(engine);
    return true;
}

/* Runs every patient of a manifest. */
static bool collect(struct calibrate *c, const char *manifest, const struct mf_bundle *bundle,
                    bool unlabelled, struct mf_error *err)
{
    c->manifest = mf_manifest_read(manifest, bundle, unlabelled, err);
    if (!c->manifest)
        return false;
    c->patients = mf_manifest_patients(c->manifest, &c->patient_count);
    if (!find_sizes(c, bundle, err))
        return false;
    c->logits = calloc(c->patient_count * c->label_count, sizeof *c->logits);
    c->readouts = calloc(c->patient_count * c->readout_size, sizeof *c->readouts);
    c->images = calloc(c->patient_count * c->feature_size, sizeof *c->images);
    c->sharpness = calloc(c->patient_count, sizeof *c->sharpness);
    c->rows = calloc(c->patient_count, sizeof(void *));
    c->groups = calloc(c->patient_count, sizeof *c->groups);
    c->features = calloc(c->patient_count, sizeof(json_t *));
    if (!c->logits || !c->readouts || !c->images || !c->sharpness || !c->rows || !c->groups ||
        !c->features)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return run_threads(c, err);
}

static void release(struct calibrate *c)
{
    for (size_t i = 0; c->features && i < c->patient_count; i++)
        json_decref(c->features[i]);
    free(c->features);
    mf_manifest_free(c->manifest);
    free(c->logits);
    free(c->readouts);
    free(c->images);
    free(c->sharpness);
    free(c->rows);
    free(c->groups);
}

static bool run(const struct arguments *a, struct mf_error *err)
{
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(a->model, MF_BUNDLE_FULL, err);
    struct mf_zygote *zygote = bundle ? mf_zygote_start(err) : NULL;
    struct calibrate cases = {
        .a = a, .name = "calibrate", .zygote = zygote, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct calibrate target = {
        .a = a, .name = "target", .zygote = zygote, .lock = PTHREAD_MUTEX_INITIALIZER};
    bool ok = zygote && collect(&cases, a->manifest, bundle, false, err) &&
              (!a->target || collect(&target, a->target, bundle, true, err)) &&
              fit(&cases, &target, bundle, err);
    mf_zygote_stop(zygote);
    release(&cases);
    release(&target);
    return ok;
}

static bool parse(int argc, char **argv, struct arguments *a, struct mf_error *err)
{
    static const struct option LONG[] = {{"model", required_argument, NULL, 'm'},
                                         {"manifest", required_argument, NULL, 'c'},
                                         {"output", required_argument, NULL, 'o'},
                                         {"source", required_argument, NULL, 's'},
                                         {"device", required_argument, NULL, 'd'},
                                         {"dtype", required_argument, NULL, 'y'},
                                         {"threads", required_argument, NULL, 't'},
                                         {"group-by", required_argument, NULL, 'g'},
                                         {"prevalence", required_argument, NULL, 'p'},
                                         {"target", required_argument, NULL, 'T'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    double threads;
    int c;
    while ((c = mf_cli_option(argc, argv, ":ho:", LONG, err)) != -1) {
        if (c == 'h')
            return a->help = true;
        if (c == '?' ||
            (c == 't' && !mf_cli_number("--threads", optarg, 0, MAX_THREADS, &threads, err)))
            return false;
        if (c == 't')
            a->threads = (unsigned)threads;
        if (c == 'g' && !mf_strata_parse(optarg, &a->strata))
            return mf_error_set(err, MF_ERR_USAGE, "--group-by must be view, sex, age or site");
        const char **text = c == 'm'   ? &a->model
                            : c == 'c' ? &a->manifest
                            : c == 'o' ? &a->output
                            : c == 's' ? &a->source
                            : c == 'd' ? &a->device
                            : c == 'y' ? &a->dtype
                            : c == 'p' ? &a->prevalence
                            : c == 'T' ? &a->target
                                       : NULL;
        if (text)
            *text = optarg;
    }
    if (optind != argc)
        return mf_error_set(err, MF_ERR_USAGE, "unexpected argument \"%.80s\", see --help",
                            argv[optind]);
    if (!a->model || !a->manifest || !a->output)
        return mf_error_set(err, MF_ERR_USAGE, "--model, --manifest and -o are needed, see --help");
    if (a->target && a->strata != MF_STRATA_NONE)
        return mf_error_set(err, MF_ERR_USAGE, "--target and --group-by exclude each other");
    return true;
}

int mf_cmd_calibrate(int argc, char **argv)
{
    struct arguments a = {0};
    struct mf_error err = MF_ERROR_INIT;
    if (!parse(argc, argv, &a, &err))
        return mf_cli_fail("calibrate", &err);
    if (a.help)
        return mf_cli_help(USAGE);
    return run(&a, &err) ? MF_EXIT_OK : mf_cli_fail("calibrate", &err);
}
