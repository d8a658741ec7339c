/*
 * Times one network of a Hugging Face directory, or the studies of a bundle, on a device, and keeps
 * what it computed so that tests/run-gpu can compare it with PyTorch.
 *
 *   bench_gpu DIR --device DEV --dtype f32|bf16|fp8 --seconds S [--input FILE --output FILE]
 *              [--rehearse] [--kernels auto|own|cudnn] [--smooth]
 *       --size PIXELS --batch N    vision transformer; SAM 2's image encoder (batch 1)
 *       --length STEPS             Mamba, or a Transformer
 *       --frames N [--studies M]   studies of a bundle, with random frames of 2048 × 2048; M of
 *                                  them together
 *
 * FILE holds plain floats. With --smooth a network runs once and DIR gets what `model smooth` would
 * give it (smoothing.safetensors), without which there is no fp8. Prints {"min_ms", "median_ms",
 * "weight_bytes", "work_bytes", "kernels"}, for studies also the stages of the fastest. Networks
 * have their input on the device; a study begins with the host's frames.
 */
#include "core/arena.h"
#include "core/clock.h"
#include "engine/engine.h"
#include "engine/net/net.h"
#include "engine/smoothing.h"
#include "engine/weights.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 10000, FRAME_SIDE = 2048, MOST_FRAMES = 32, MOST_LABELS = 4096 };

struct options {
    const char *dir, *device, *dtype, *input, *output, *kernels;
    size_t size, batch, length, frames, studies;
    double seconds;
    bool rehearse; /* everything, as a worker does before its first job */
    bool smooth;
};

struct network {
    const struct options *options;
    struct mf_vit *vit;
    struct mf_sam2 *sam2;
    struct mf_mamba *mamba;
    struct mf_transformer *transformer;
    size_t width;       /* of sequences */
    const float *input; /* host; NULL: it is on the device already */
    float *output;      /* host; NULL: stays there */
    size_t input_n, output_n;
};

static double since_ms(uint64_t start)
{
    return (double)(mf_clock_monotonic_ns() - start) / 1e6;
}

static bool load(struct network *net, struct mf_exec *x, struct mf_weights *weights,
                 struct mf_arena *arena, struct mf_error *err)
{
    const struct options *o = net->options;
    const char *type = mf_json_get_string(mf_weights_config(weights), "model_type", "");
    struct mf_loader ld;
    bool sam2 = strncmp(type, "sam2", 4) == 0, mamba = strcmp(type, "mamba") == 0;
    mf_loader_init(&ld, weights, x, arena, err);
    if (sam2)
        net->sam2 = mf_sam2_load(&ld, false);
    else if (mamba)
        net->mamba = mf_mamba_load(&ld);
    else if (strcmp(type, "transformer") == 0)
        net->transformer = mf_transformer_load(&ld);
    else
        net->vit = mf_vit_load_any(&ld);
    if (ld.failed)
        return false;
    if (net->vit) {
        net->input_n = o->batch * 3 * o->size * o->size;
        net->output_n =
            o->batch * mf_vit_tokens(net->vit, o->size, o->size) * mf_vit_width(net->vit);
    } else if (net->sam2) {
        size_t g = mf_sam2_grid(net->sam2), s = mf_sam2_image_size(net->sam2);
        net->input_n = 3 * s * s;
        net->output_n = g * g * mf_sam2_width(net->sam2);
    } else {
        net->width = mf_loader_int(&ld, "hidden_size", 1, 8192, -1);
        net->input_n = net->output_n = o->length * net->width;
    }
    return !ld.failed;
}

/* The network from input to output, as a section (engine/exec.h): no padding. */
struct part {
    const struct network *net;
    float *in, *out;
};

static void run_part(struct mf_exec *x, void *arg)
{
    const struct part *p = arg;
    const struct network *net = p->net;
    const struct options *o = net->options;
    size_t mark = mf_exec_mark(x);
    if (net->vit) {
        mf_vit_run(x, net->vit, p->in, o->batch, o->size, o->size, p->out);
    } else if (net->sam2) {
        struct mf_sam2_maps maps;
        mf_sam2_maps_alloc(x, net->sam2, &maps);
        mf_sam2_features(x, net->sam2, p->in, &maps);
        MF_DO(x, copy, maps.s2, net->output_n, p->out);
    } else if (net->mamba) {
        mf_mamba_run(x, net->mamba, p->in, o->length, p->out);
    } else {
        mf_transformer_run(x, net->transformer, p->in, o->length, p->out);
    }
    mf_exec_rewind(x, mark);
}

/* The input lies first in the workspace, so that later runs find it where an earlier one put it. */
static void body(struct mf_exec *x, void *arg)
{
    const struct network *net = arg;
    float *in = mf_exec_floats(x, net->input_n), *out = mf_exec_floats(x, net->output_n);
    struct part part = {net, in, out};
    if (net->input)
        MF_DO(x, upload, in, net->input, net->input_n);
    mf_exec_section(x, run_part, &part, sizeof part);
    if (net->output)
        MF_DO(x, download, net->output, out, net->output_n);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(double *ms, size_t n, size_t weights, size_t work, const char *kernels)
{
    qsort(ms, n, sizeof *ms, by_value);
    printf("{\"min_ms\": %.4f, \"median_ms\": %.4f, \"runs\": %zu, \"weight_bytes\": %zu, "
           "\"work_bytes\": %zu, \"kernels\": \"%s\"",
           ms[0], ms[n / 2], n, weights, work, kernels);
}

static bool more(const struct options *o, uint64_t start, size_t done)
{
    return done < MAX_RUNS && (done < 5 || since_ms(start) < o->seconds * 1e3);
}

/* n floats of a file, or random ones. */
static float *read_floats(const char *path, size_t n, struct mf_error *err)
{
    MF_AUTO(mf_mem) float *p = malloc((n + 1) * sizeof *p);
    FILE *f = path ? fopen(path, "rb") : NULL;
    uint32_t seed = 1;
    bool ok = p && (!path || (f && fread(p, sizeof *p, n, f) == n));
    if (f)
        fclose(f);
    for (size_t i = 0; ok && !path && i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
    if (ok)
        return MF_STEAL(p);
    mf_error_set(err, MF_ERR_IO, "%s cannot be read, or is too short", path ? path : "input");
    return NULL;
}

static bool write_floats(const char *path, const float *p, size_t n, struct mf_error *err)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(p, sizeof *p, n, f) == n;
    if (f)
        ok = fclose(f) == 0 && ok;
    return ok || mf_error_set(err, MF_ERR_IO, "%s cannot be written", path);
}

static bool write_smoothing(const struct options *o, const struct mf_smoothing *smoothing,
                            struct mf_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/smoothing.safetensors", o->dir);
    bool ok = mf_smoothing_write(smoothing, 0, MF_SMOOTHING_ALPHA, path, err);
    if (ok)
        printf("{\"smoothed\": %zu}\n", mf_smoothing_count(smoothing, 0));
    return ok;
}

static bool measure_network(const struct options *o, struct mf_error *err)
{
    static double ms[MAX_RUNS];
    struct network net = {.options = o};
    MF_AUTO(mf_exec) struct mf_exec x = {0};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new((size_t)8 << 30);
    char kernels[96] = "";
    MF_AUTO(mf_smoothing) struct mf_smoothing *smoothing = o->smooth ? mf_smoothing_new(err) : NULL;
    if (!mf_exec_init(&x, o->device, o->dtype, 0, err) || !mf_exec_kernels(&x, o->kernels, err) ||
        (o->smooth && !smoothing))
        return false;
    if (smoothing)
        x.observer = mf_smoothing_observer(smoothing);
    MF_AUTO(mf_weights) struct mf_weights *weights = mf_weights_open(o->dir, err);
    if (!weights || !load(&net, &x, weights, arena, err))
        return false;
    MF_AUTO(mf_mem) float *input = read_floats(o->input, net.input_n, err);
    MF_AUTO(mf_mem) float *output = malloc((net.output_n + 1) * sizeof *output);
    size_t n = 0;
    net.input = input;
    net.output = output;
    if (!input || !output || !mf_exec_run(&x, body, &net, false, err))
        return false;
    if (smoothing)
        return write_smoothing(o, smoothing, err);
    if (o->output && !write_floats(o->output, output, net.output_n, err))
        return false;
    net.input = net.output = NULL;
    for (uint64_t start = mf_clock_monotonic_ns(); more(o, start, n); n++) {
        uint64_t begin = mf_clock_monotonic_ns();
        if (!mf_exec_replay(&x, body, &net, err))
            return false;
        ms[n] = since_ms(begin);
    }
    if (x.ops->about)
        x.ops->about(x.backend, kernels, sizeof kernels);
    print_times(ms, n, x.weight_bytes, x.capacity, kernels);
    printf("}\n");
    return true;
}

static struct mf_frame frame_of(const uint16_t *samples)
{
    return (struct mf_frame){.rows = FRAME_SIDE,
                             .columns = FRAME_SIDE,
                             .samples_per_pixel = 1,
                             .type = MF_SAMPLE_U16,
                             .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                             .bits_stored = 12,
                             .high_bit = 11,
                             .samples = samples,
                             .rescale_slope = 1,
                             .has_window = true,
                             .voi_function = MF_VOI_LINEAR,
                             .window_center = 2048,
                             .window_width = 4096};
}

/* Studies of the same frames; only their outputs are their own. */
struct studies {
    const struct mf_frame *frames[MOST_FRAMES];
    double positions[MOST_FRAMES];
    struct mf_engine_input input;
    struct mf_engine_output outputs[MOST_FRAMES];
    struct mf_segmentation segmentation[MOST_FRAMES][MOST_FRAMES];
    float logits[MOST_FRAMES][MOST_LABELS];
    struct mf_engine_study list[MOST_FRAMES];
};

static void make_studies(const struct options *o, const struct mf_frame *frame, struct studies *s)
{
    for (size_t i = 0; i < o->frames; i++) {
        s->frames[i] = frame;
        s->positions[i] = (double)i;
    }
    s->input = (struct mf_engine_input){
        .frames = s->frames, .frame_count = o->frames, .positions = s->positions};
    for (size_t i = 0; i < o->studies; i++) {
        s->outputs[i] =
            (struct mf_engine_output){.logits = s->logits[i], .segmentation = s->segmentation[i]};
        s->list[i] = (struct mf_engine_study){&s->input, &s->outputs[i]};
    }
}

static bool measure_studies(const struct options *o, struct mf_error *err)
{
    static double ms[MAX_RUNS];
    static struct studies s;
    const struct mf_engine_options options = {
        .device = o->device, .dtype = o->dtype, .kernels = o->kernels};
    char kernels[96];
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(o->dir, MF_BUNDLE_FULL, err);
    MF_AUTO(mf_engine)
    struct mf_engine *engine = bundle ? mf_engine_new(bundle, &options, err) : NULL;
    MF_AUTO(mf_mem) uint16_t *samples = malloc((size_t)FRAME_SIDE * FRAME_SIDE * sizeof *samples);
    struct mf_frame frame = frame_of(samples);
    struct mf_timing best = {.total = 0};
    size_t n = 0, weights;
    if (!engine || !samples || o->frames > MOST_FRAMES || o->studies > MOST_FRAMES)
        return mf_error_set(err, MF_ERR_USAGE, "no engine for %zu frames", o->frames);
    for (size_t i = 0; i < (size_t)FRAME_SIDE * FRAME_SIDE; i++) /* two dark ellipses, noise */
        samples[i] = (uint16_t)((i % FRAME_SIDE % 1024 > 300 ? 3000 : 900) + i * 2654435761u % 97);
    make_studies(o, &frame, &s);
    if ((o->rehearse && !mf_engine_rehearse(engine, err)) ||
        !mf_engine_run_together(engine, s.list, o->studies, err))
        return false;
    for (uint64_t start = mf_clock_monotonic_ns(); more(o, start, n); n++) {
        uint64_t begin = mf_clock_monotonic_ns();
        if (!mf_engine_run_together(engine, s.list, o->studies, err))
            return false;
        ms[n] = since_ms(begin);
        if (n == 0 || ms[n] < best.total) {
            best = s.outputs[0].timing;
            best.total = ms[n];
        }
    }
    size_t work = mf_engine_memory(engine, &weights);
    mf_engine_kernels(engine, kernels, sizeof kernels);
    print_times(ms, n, weights, work, kernels);
    printf(", \"segment_ms\": %.3f, \"vision_ms\": %.3f, \"temporal_ms\": %.3f, \"ehr_ms\": %.3f, "
           "\"fusion_ms\": %.3f}\n",
           best.segment, best.vision, best.temporal, best.ehr, best.fusion);
    return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option LONG[] = {
        {"device", required_argument, NULL, 'd'},  {"dtype", required_argument, NULL, 't'},
        {"input", required_argument, NULL, 'i'},   {"output", required_argument, NULL, 'o'},
        {"size", required_argument, NULL, 's'},    {"batch", required_argument, NULL, 'b'},
        {"length", required_argument, NULL, 'l'},  {"frames", required_argument, NULL, 'f'},
        {"seconds", required_argument, NULL, 'S'}, {"studies", required_argument, NULL, 'n'},
        {"rehearse", no_argument, NULL, 'r'},      {"smooth", no_argument, NULL, 'm'},
        {"kernels", required_argument, NULL, 'k'}, {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        size_t n = optarg ? strtoull(optarg, NULL, 10) : 0;
        switch (c) {
        case 'd':
            o->device = optarg;
            break;
        case 't':
            o->dtype = optarg;
            break;
        case 'i':
            o->input = optarg;
            break;
        case 'o':
            o->output = optarg;
            break;
        case 's':
            o->size = n;
            break;
        case 'b':
            o->batch = n;
            break;
        case 'l':
            o->length = n;
            break;
        case 'f':
            o->frames = n;
            break;
        case 'n':
            o->studies = n;
            break;
        case 'r':
            o->rehearse = true;
            break;
        case 'm':
            o->smooth = true;
            break;
        case 'k':
            o->kernels = optarg;
            break;
        case 'S':
            o->seconds = strtod(optarg, NULL);
            break;
        default:
            return false;
        }
    }
    o->dir = argv[optind];
    return optind + 1 == argc && (o->size || o->length || o->frames);
}

int main(int argc, char **argv)
{
    struct options o = {
        .device = "cuda:0", .dtype = "bf16", .batch = 1, .studies = 1, .seconds = 1};
    struct mf_error err = MF_ERROR_INIT;
    if (!parse(argc, argv, &o))
        return 2;
    if (o.frames ? measure_studies(&o, &err) : measure_network(&o, &err))
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return 1;
}
