/*
 * `medfusion bench`: how long a model takes on this machine, stage by stage.
 *
 * Without a PATH, synthetic frames go through the engine (1, 3 and max_frames of them): no
 * decoding, no input to fetch. With PATHs, the first study in them goes through the whole pipeline
 * as `predict` runs it.
 */
#include "server/bench_picture.h"
#include "server/cli.h"
#include "server/cmd.h"

#include "core/clock.h"
#include "core/json.h"
#include "engine/bundle.h"
#include "engine/engine.h"
#include "server/dataset.h"
#include "server/pipeline_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion bench [OPTION]… [PATH…]\n"
    "\n"
    "Measures a model on this machine: milliseconds of each stage, minimum and median of N runs.\n"
    "\n"
    "  --model DIR     the model bundle; default: models/thorax-nih\n"
    "  --device DEV    cpu or cuda:N; default: the best that works\n"
    "  --dtype TYPE    f32, bf16, int8 (CPU) or fp8 (GPU): large products; default: f32\n"
    "  --kernels KIND  auto, own or cudnn: convolutions and attention on a GPU; default: auto\n"
    "  --threads N     CPU threads; default: all cores\n"
    "  --runs N        runs after one to warm up; default 20\n"
    "  --seconds N     stop a case after this time, but not before 3 runs; default 10\n"
    "  --size N        rows and columns of the synthetic frames; default 1024\n"
    "  --frames N      how many synthetic frames; default: 1, 3 and as many as the model takes\n"
    "  --json          one JSON object instead of a table\n"
    "  --picture FILE  and a picture of it (SVG): a bar for each case, made up of its stages\n"
    "  PATH            DICOM files: the first study in them is run from decoding to result\n";

enum { STAGES = 7, MIN_RUNS = 3, MAX_RUNS = 10000 };

static const char *const STAGE_NAMES[STAGES] = {"decode", "segment", "vision", "temporal",
                                                "ehr",    "fusion",  "total"};

struct arguments {
    const char *model, *picture;
    struct mf_registry_device device;
    size_t runs;
    double seconds;
    uint32_t size;
    size_t frames; /* 0: 1, 3 and as many as the model takes */
    bool json, help;
    char **paths;
    size_t path_count;
};

/* Times of one case: runs × stages, in milliseconds; NaN = not run. */
struct table {
    double *ms;
    size_t runs;
    uint64_t start_ns;
};

static bool take_number(const char *option, double low, double high, double *ret,
                        struct mf_error *err)
{
    return mf_cli_number(option, optarg, low, high, ret, err);
}

static bool take_option(int c, struct arguments *a, struct mf_error *err)
{
    double n = 0;
    bool ok = true;
    if (c == 'm')
        a->model = optarg;
    else if (c == 'd')
        a->device.device = optarg;
    else if (c == 'p')
        a->device.dtype = optarg;
    else if (c == 'k')
        a->device.kernels = optarg;
    else if (c == 'j')
        a->json = true;
    else if (c == 'P')
        a->picture = optarg;
    else if (c == 't' && (ok = take_number("--threads", 0, 4096, &n, err)))
        a->device.threads = (unsigned)n;
    else if (c == 'r' && (ok = take_number("--runs", 1, MAX_RUNS, &n, err)))
        a->runs = (size_t)n;
    else if (c == 'u' && (ok = take_number("--seconds", 0, 86400, &n, err)))
        a->seconds = n;
    else if (c == 's' && (ok = take_number("--size", 16, 8192, &n, err)))
        a->size = (uint32_t)n;
    else if (c == 'f' && (ok = take_number("--frames", 1, 64, &n, err)))
        a->frames = (size_t)n;
    return ok && c != '?';
}

static bool parse(int argc, char **argv, struct arguments *a, struct mf_error *err)
{
    static const struct option LONG[] = {{"model", required_argument, NULL, 'm'},
                                         {"device", required_argument, NULL, 'd'},
                                         {"threads", required_argument, NULL, 't'},
                                         {"dtype", required_argument, NULL, 'p'},
                                         {"kernels", required_argument, NULL, 'k'},
                                         {"runs", required_argument, NULL, 'r'},
                                         {"seconds", required_argument, NULL, 'u'},
                                         {"size", required_argument, NULL, 's'},
                                         {"frames", required_argument, NULL, 'f'},
                                         {"json", no_argument, NULL, 'j'},
                                         {"help", no_argument, NULL, 'h'},
                                         {"picture", required_argument, NULL, 'P'},
                                         {NULL, 0, NULL, 0}};
    int c;
    while ((c = mf_cli_option(argc, argv, ":h", LONG, err)) != -1) {
        if (c == 'h')
            return a->help = true;
        if (!take_option(c, a, err))
            return false;
    }
    a->paths = argv + optind;
    a->path_count = (size_t)(argc - optind);
    return true;
}

/* --- figures --- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Minimum and median of one stage; false when it did not run. */
static bool summarize(const struct table *t, size_t stage, double *minimum, double *median)
{
    double sorted[MAX_RUNS];
    for (size_t i = 0; i < t->runs; i++) {
        sorted[i] = t->ms[i * STAGES + stage];
        if (isnan(sorted[i]))
            return false;
    }
    qsort(sorted, t->runs, sizeof *sorted, by_value);
    *minimum = sorted[0];
    *median =
        t->runs % 2 ? sorted[t->runs / 2] : (sorted[t->runs / 2 - 1] + sorted[t->runs / 2]) / 2;
    return true;
}

static void print_table(const char *name, const struct table *t)
{
    double minimum, median, total_minimum, total;
    bool share = summarize(t, STAGES - 1, &total_minimum, &total);
    printf("\n%s, %zu runs\n  %-9s %10s %10s %7s\n", name, t->runs, "stage", "min ms", "median ms",
           "share");
    for (size_t s = 0; s < STAGES; s++)
        if (summarize(t, s, &minimum, &median))
            printf("  %-9s %10.2f %10.2f %6.0f%%\n", STAGE_NAMES[s], minimum, median,
                   share && total > 0 ? 100 * median / total : 0.0);
}

static json_t *table_json(const char *name, const struct table *t)
{
    json_t *stages = json_object();
    double minimum, median;
    for (size_t s = 0; s < STAGES; s++)
        if (summarize(t, s, &minimum, &median))
            json_object_set_new(stages, STAGE_NAMES[s],
                                json_pack("{s:f, s:f}", "min_ms", minimum, "median_ms", median));
    return json_pack("{s:s, s:I, s:o}", "case", name, "runs", (json_int_t)t->runs, "stages",
                     stages);
}

static bool show(const struct arguments *a, const char *name, const struct table *t, json_t *cases)
{
    if (!a->json)
        print_table(name, t);
    return json_array_append_new(cases, table_json(name, t)) == 0;
}

static bool new_table(size_t runs, struct table *ret, struct mf_error *err)
{
    *ret = (struct table){calloc(runs * STAGES, sizeof(double)), 0, mf_clock_monotonic_ns()};
    return ret->ms || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
}

/* Where the next run's times go, or NULL when there were enough runs. */
static double *next_row(const struct arguments *a, struct table *t)
{
    double spent = (double)(mf_clock_monotonic_ns() - t->start_ns) / 1e9;
    if (t->runs == a->runs || (t->runs >= MIN_RUNS && spent >= a->seconds))
        return NULL;
    return t->ms + t->runs++ * STAGES;
}

/* --- the engine on synthetic frames --- */

/* A bright, noisy picture with two darker ovals, the same in every run: something for a segmenter
 * to find. */
static void fill_synthetic(uint16_t *samples, uint32_t size)
{
    uint32_t seed = 1;
    for (uint32_t y = 0; y < size; y++)
        for (uint32_t x = 0; x < size; x++) {
            double u = (x + 0.5) / size, v = (y + 0.5) / size;
            double left = hypot((u - 0.3) / 0.15, (v - 0.5) / 0.3);
            double right = hypot((u - 0.7) / 0.15, (v - 0.5) / 0.3);
            seed = seed * 1664525 + 1013904223;
            double level = left < 1 || right < 1 ? 900 : 2800;
            samples[(size_t)y * size + x] = (uint16_t)(level + (seed >> 24));
        }
}

static void keep_times(const struct mf_timing *timing, double total_ms, double *row)
{
    const double times[STAGES] = {timing->decode, timing->segment, timing->vision, timing->temporal,
                                  timing->ehr,    timing->fusion,  total_ms};
    memcpy(row, times, sizeof times);
}

static bool run_engine(struct mf_engine *engine, const struct mf_engine_input *input,
                       struct mf_engine_output *output, double *row, struct mf_error *err)
{
    uint64_t start = mf_clock_monotonic_ns();
    if (!mf_engine_run(engine, input, NULL, output, err))
        return false;
    output->timing.decode = NAN;
    keep_times(&output->timing, (double)(mf_clock_monotonic_ns() - start) / 1e6, row);
    return true;
}

/* One number of frames. */
static bool bench_frames(const struct arguments *a, struct mf_registry *registry,
                         const struct mf_frame *frame, size_t frames, json_t *cases,
                         struct mf_error *err)
{
    const struct mf_bundle *bundle = mf_registry_bundle(registry, 0);
    struct mf_engine *engine = mf_registry_engine(registry, 0);
    const struct mf_frame *list[64];
    double positions[64], warm_row[STAGES];
    struct mf_segmentation segmentation[64];
    struct table t;
    char name[64];
    if (frames > 64 || !new_table(a->runs, &t, err))
        return mf_error_set(err, MF_ERR_UNUSABLE, "%zu frames", frames);
    for (size_t i = 0; i < frames; i++) {
        list[i] = frame;
        positions[i] = (double)(frames - 1 - i) / (double)frames;
    }
    MF_AUTO(mf_mem) float *logits = calloc(mf_bundle_label_count(bundle), sizeof *logits);
    const struct mf_engine_input input = {
        .frames = list, .frame_count = frames, .positions = positions};
    struct mf_engine_output output = {.logits = logits, .segmentation = segmentation};
    snprintf(name, sizeof name, "engine, %zu synthetic frame%s of %u x %u", frames,
             frames == 1 ? "" : "s", a->size, a->size);
    bool ok = logits && run_engine(engine, &input, &output, warm_row, err);
    for (double *row; ok && (row = next_row(a, &t));)
        ok = run_engine(engine, &input, &output, row, err);
    ok = ok && show(a, name, &t, cases);
    free(t.ms);
    return ok || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
}

static bool bench_engine(const struct arguments *a, struct mf_registry *registry, json_t *cases,
                         struct mf_error *err)
{
    const size_t max_frames = mf_bundle_max_frames(mf_registry_bundle(registry, 0));
    const size_t counts[] = {1, 3, max_frames};
    MF_AUTO(mf_mem) uint16_t *samples = malloc((size_t)a->size * a->size * sizeof *samples);
    if (!samples)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    fill_synthetic(samples, a->size);
    const struct mf_frame frame = {.rows = a->size,
                                   .columns = a->size,
                                   .samples_per_pixel = 1,
                                   .type = MF_SAMPLE_U16,
                                   .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                                   .bits_stored = 12,
                                   .high_bit = 11,
                                   .samples = samples,
                                   .rescale_slope = 1};
    if (a->frames)
        return bench_frames(a, registry, &frame, a->frames, cases, err);
    for (size_t i = 0; i < 3; i++)
        if (counts[i] <= max_frames && (i == 0 || counts[i] > counts[i - 1]) &&
            !bench_frames(a, registry, &frame, counts[i], cases, err))
            return false;
    return true;
}

/* --- the whole pipeline on a study --- */

static bool run_study(struct mf_pipeline *pipeline, struct mf_dataset *dataset,
                      const struct mf_plan *plan, double *row, struct mf_error *err)
{
    const struct mf_run run = {
        .plan = plan, .alpha = NAN, .input = mf_dataset_input, .context = dataset};
    MF_AUTO(mf_json) json_t *result = mf_pipeline_run_plan(pipeline, &run, err);
    mf_dataset_close_files(dataset);
    const json_t *timing = json_object_get(result, "timing_ms");
    for (size_t s = 0; result && s < STAGES; s++)
        row[s] = mf_json_get_number(timing, STAGE_NAMES[s], NAN);
    return result != NULL;
}

static bool bench_plan(const struct arguments *a, struct mf_pipeline *pipeline,
                       struct mf_dataset *dataset, const struct mf_plan *plan, json_t *cases,
                       struct mf_error *err)
{
    double warm_row[STAGES];
    struct table t;
    char name[64];
    if (!new_table(a->runs, &t, err))
        return false;
    snprintf(name, sizeof name, "study of %zu frames, decoding to result",
             plan->request->frame_count);
    bool ok = run_study(pipeline, dataset, plan, warm_row, err);
    for (double *row; ok && (row = next_row(a, &t));)
        ok = run_study(pipeline, dataset, plan, row, err);
    ok = ok && show(a, name, &t, cases);
    free(t.ms);
    return ok;
}

static bool bench_study(const struct arguments *a, struct mf_registry *registry, json_t *cases,
                        struct mf_error *err)
{
    const struct mf_pipeline_options options = MF_PIPELINE_OPTIONS_INIT;
    MF_AUTO(mf_file_list) struct mf_file_list files = {0};
    MF_AUTO(mf_zygote) struct mf_zygote *zygote = mf_zygote_start(err);
    MF_AUTO(mf_dataset)
    struct mf_dataset *dataset = zygote ? mf_dataset_new(mf_zygote_address(zygote), err) : NULL;
    if (!dataset || !mf_file_list_collect(a->paths, a->path_count, &files, err))
        return false;
    for (size_t i = 0; i < files.count; i++)
        if (!mf_dataset_add(dataset, &files.files[i], err))
            return false;
    struct mf_upload upload = {.index = (struct mf_index *)(uintptr_t)mf_dataset_index(dataset)};
    MF_AUTO(mf_plan) struct mf_plan plan = {0};
    MF_AUTO(mf_pipeline)
    struct mf_pipeline *pipeline = mf_pipeline_new(registry, mf_dataset_decoder(dataset), err);
    return pipeline && mf_plan_job(registry, &upload, &options, &plan, err) &&
           bench_plan(a, pipeline, dataset, &plan, cases, err);
}

static bool run(const struct arguments *a, struct mf_error *err)
{
    const char *const models[] = {a->model};
    struct mf_model_info info;
    char kernels[96];
    uint64_t start = mf_clock_monotonic_ns();
    MF_AUTO(mf_registry)
    struct mf_registry *registry = mf_registry_open(models, 1, &a->device, err);
    MF_AUTO(mf_json) json_t *cases = json_array();
    if (!registry || !cases)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    double load_ms = (double)(mf_clock_monotonic_ns() - start) / 1e6;
    size_t weights, work = mf_engine_memory(mf_registry_engine(registry, 0), &weights);
    mf_registry_info(registry, 0, &info);
    mf_engine_kernels(mf_registry_engine(registry, 0), kernels, sizeof kernels);
    if (!a->json)
        printf(
            "%s %s on %s (%s): loaded in %.0f ms, %.1f MiB of weights, %.1f MiB of work memory\n",
            info.name, info.version, info.device, info.dtype, load_ms, (double)weights / 1048576,
            (double)work / 1048576);
    if (!a->json && *kernels)
        printf("%s\n", kernels);
    if (!(a->path_count ? bench_study(a, registry, cases, err)
                        : bench_engine(a, registry, cases, err)))
        return false;
    MF_AUTO(mf_json)
    json_t *document =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:O}", "model", info.name, "version",
                  info.version, "device", info.device, "dtype", info.dtype, "kernels", kernels,
                  "load_ms", load_ms, "weight_bytes", (json_int_t)weights, "work_bytes",
                  (json_int_t)work, "cases", cases);
    MF_AUTO(mf_mem) char *text = document ? mf_json_text(document, 0) : NULL;
    if (!text || (a->json && puts(text) < 0))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return !a->picture || mf_bench_picture(document, a->picture, err);
}

int mf_cmd_bench(int argc, char **argv)
{
    struct arguments a = {.model = "models/thorax-nih", .runs = 20, .seconds = 10, .size = 1024};
    struct mf_error err = MF_ERROR_INIT;
    if (!parse(argc, argv, &a, &err))
        return mf_cli_fail("bench", &err);
    if (a.help)
        return mf_cli_help(USAGE);
    return run(&a, &err) ? MF_EXIT_OK : mf_cli_fail("bench", &err);
}
