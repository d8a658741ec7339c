/*
 * Times the device's work on frames, masks and the head (engine/frame_ops.h), for tests/run-gpu:
 *
 *   bench_frames --device cuda:N --side PIXELS --input PIXELS --mask PIXELS --studies N --seconds S
 *
 * A radiograph of side × side samples of 16 bits becomes a network's input (3, input, input); two
 * masks of mask/4 cells become masks of mask × mask and their largest components; N studies' head
 * gradients and steps (256 activations, 14 labels). Everything lies on the device; a time is that
 * of many calls, divided by their number. Prints one JSON object: of each case ms and the bytes
 * that it reads and writes at least.
 */
#include "core/clock.h"
#include "engine/exec.h"
#include "engine/frame_ops.h"
#include "engine/resample.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 256, LABELS = 14, WARM = 3, MOST_CALLS = 20000 };

struct bench {
    struct mf_exec x;
    const struct mf_frame_ops *ops;
    size_t side, input, mask, studies;
    double seconds;
    uint16_t *samples;
    uint32_t *counts, *labels, *sizes, *facts;
    uint64_t *best;
    uint8_t *masks;
    float *table, *image, *between, *planes, *logits, *soft;
    double *u, *dgamma, *dbeta, *loss, *z;
    struct mf_device_head head;
    struct mf_device_resample stretch, enlarge;
};

/* Device memory that is freed with the process's GPU. */
static void *room(struct bench *b, size_t bytes, bool *ok)
{
    void *p = b->x.ops->memory_new(b->x.backend, bytes, NULL);
    *ok &= p != NULL;
    return p;
}

/* The same with numbers in [0, 1), floats or (as `wide`) doubles. */
static void *noise(struct bench *b, size_t n, bool wide, bool *ok)
{
    size_t bytes = n * (wide ? sizeof(double) : sizeof(float));
    void *there = room(b, bytes, ok), *host = malloc(bytes + 1);
    uint32_t seed = 1;
    for (size_t i = 0; host && i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        float v = (float)(seed >> 8) / (float)(1 << 24);
        if (wide)
            ((double *)host)[i] = v;
        else
            ((float *)host)[i] = v;
    }
    *ok &= host != NULL;
    if (*ok)
        b->ops->put(b->x.backend, there, host, bytes);
    free(host);
    return there;
}

static struct mf_device_axis axis_of(struct bench *b, const struct mf_axis *axis, bool *ok)
{
    size_t n = axis->out * axis->taps;
    uint32_t *index = malloc((n + 1) * sizeof *index), *there = room(b, n * sizeof *index, ok);
    float *weight = room(b, n * sizeof *weight, ok);
    *ok &= index != NULL;
    for (size_t i = 0; *ok && i < n; i++)
        index[i] = (uint32_t)axis->index[i];
    if (*ok) {
        b->ops->put(b->x.backend, there, index, n * sizeof *index);
        b->ops->put(b->x.backend, weight, axis->weight, n * sizeof *weight);
    }
    free(index);
    return (struct mf_device_axis){there, weight, axis->out, axis->taps};
}

static void plan(struct bench *b, enum mf_filter filter, size_t from, size_t to,
                 struct mf_device_resample *r, bool *ok)
{
    MF_AUTO(mf_resampler) struct mf_resampler taps = {0};
    *ok &= mf_resample_plan(&taps, filter, from, from, to, to, NULL);
    if (!*ok)
        return;
    *r = (struct mf_device_resample){.rows = axis_of(b, &taps.rows, ok),
                                     .cols = axis_of(b, &taps.cols, ok),
                                     .in_rows = from,
                                     .in_cols = from,
                                     .in_row = from,
                                     .between = b->between,
                                     .mean = {0.5f, 0.5f, 0.5f},
                                     .std = {0.25f, 0.25f, 0.25f}};
}

static bool make(struct bench *b)
{
    bool ok = true;
    size_t n = b->side * b->side, pixels = b->mask * b->mask, cells = pixels / 16;
    size_t w = b->studies * WIDTH, most = b->side > b->mask ? b->side : b->mask;
    uint16_t *samples = malloc((n + 1) * sizeof *samples);
    b->samples = room(b, n * sizeof *b->samples, &ok);
    b->table = noise(b, 65536, false, &ok);
    b->counts = room(b, 65536 * sizeof *b->counts, &ok);
    b->image = room(b, n * sizeof *b->image, &ok);
    b->between = room(b, most * most * sizeof *b->between, &ok);
    b->planes = room(b, 3 * b->input * b->input * sizeof *b->planes, &ok);
    b->logits = noise(b, 2 * cells, false, &ok);
    b->soft = room(b, pixels * sizeof *b->soft, &ok);
    b->labels = room(b, pixels * sizeof *b->labels, &ok);
    b->sizes = room(b, pixels * sizeof *b->sizes, &ok);
    b->best = room(b, sizeof *b->best, &ok);
    b->masks = room(b, 2 * pixels, &ok);
    b->facts = room(b, (MF_FACT_FIRST + 2 * b->mask) * sizeof *b->facts, &ok);
    b->u = noise(b, w, true, &ok);
    b->dgamma = room(b, w * sizeof *b->dgamma, &ok);
    b->dbeta = room(b, w * sizeof *b->dbeta, &ok);
    b->loss = room(b, b->studies * sizeof *b->loss, &ok);
    b->z = room(b, b->studies * LABELS * sizeof *b->z, &ok);
    b->head = (struct mf_device_head){.w2 = noise(b, LABELS * WIDTH, true, &ok),
                                      .b2 = noise(b, LABELS, true, &ok),
                                      .gamma = noise(b, WIDTH, true, &ok),
                                      .beta = noise(b, WIDTH, true, &ok),
                                      .mean = noise(b, WIDTH, true, &ok),
                                      .variance = noise(b, WIDTH, true, &ok),
                                      .width = WIDTH,
                                      .labels = LABELS,
                                      .epsilon = 1e-5};
    for (size_t i = 0; samples && i < n; i++) /* a dark border, a body with noise */
        samples[i] = i % b->side < b->side / 8 ? 0 : (uint16_t)(2000 + i * 2654435761u % 60000);
    ok &= samples != NULL;
    if (ok)
        b->ops->put(b->x.backend, b->samples, samples, n * sizeof *samples);
    free(samples);
    plan(b, MF_FILTER_BILINEAR_ANTIALIAS, b->side, b->input, &b->stretch, &ok);
    plan(b, MF_FILTER_BILINEAR, b->mask / 4, b->mask, &b->enlarge, &ok);
    b->stretch.in = b->image;
    b->stretch.planes = b->planes;
    b->enlarge.out = b->soft;
    return ok;
}

/* ---- cases ---- */

static void display(const struct bench *b)
{
    b->ops->display(b->x.backend, b->samples, 2, b->side * b->side, b->table, b->image);
}

static void count(const struct bench *b)
{
    b->ops->count(b->x.backend, b->samples, 2, b->side * b->side, b->counts);
}

static void stretch(const struct bench *b)
{
    b->ops->resample(b->x.backend, &b->stretch);
}

static void frame(const struct bench *b)
{
    display(b);
    stretch(b);
}

static void masks(const struct bench *b)
{
    size_t pixels = b->mask * b->mask;
    for (size_t k = 0; k < 2; k++) {
        struct mf_device_resample r = b->enlarge;
        r.in = b->logits + k * (pixels / 16);
        b->ops->resample(b->x.backend, &r);
        b->ops->component(b->x.backend, b->soft, b->mask, b->masks + k * pixels, b->labels,
                          b->sizes, b->best);
    }
    b->ops->facts(b->x.backend, b->masks, b->mask, b->facts);
}

static void head(const struct bench *b)
{
    b->ops->head_gradient(b->x.backend, &b->head, b->u, b->studies, 1.0 / LABELS, b->dgamma,
                          b->dbeta, b->loss);
    b->ops->head_step(b->x.backend, &b->head, b->u, b->studies, 0.05, 0.01, b->dgamma, b->dbeta,
                      b->z);
}

/* Milliseconds of a call: at first few to learn how long they take, then as many as fit. */
static bool time_of(struct bench *b, void (*run)(const struct bench *b), double *ret,
                    struct mf_error *err)
{
    size_t calls = WARM;
    for (int round = 0; round < 2; round++) {
        uint64_t begin = mf_clock_monotonic_ns();
        for (size_t i = 0; i < calls; i++)
            run(b);
        if (!b->x.ops->finish(b->x.backend, err))
            return false;
        *ret = (double)(mf_clock_monotonic_ns() - begin) / 1e6 / (double)calls;
        double fit = 1e3 * b->seconds / (*ret > 1e-4 ? *ret : 1e-4);
        calls = fit < 1 ? 1 : fit > MOST_CALLS ? MOST_CALLS : (size_t)fit;
    }
    return true;
}

static bool measure(struct bench *b, struct mf_error *err)
{
    size_t n = b->side * b->side, out = b->input * b->input, pixels = b->mask * b->mask;
    const struct {
        const char *name;
        void (*run)(const struct bench *b);
        size_t bytes;
    } cases[] = {{"display", display, 6 * n},
                 {"count", count, 2 * n},
                 {"stretch", stretch, 4 * n + 12 * out},
                 {"frame", frame, 10 * n + 12 * out},
                 {"masks", masks, 2 * pixels * (4 + 1)},
                 {"head", head, b->studies * WIDTH * 8 * 6}};
    if (!make(b))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "no memory for these sizes");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double ms;
        if (!time_of(b, cases[i].run, &ms, err))
            return false;
        printf("%s\"%s\": {\"ms\": %.5f, \"bytes\": %zu}", i ? ", " : "{", cases[i].name, ms,
               cases[i].bytes);
    }
    printf("}\n");
    return true;
}

int main(int argc, char **argv)
{
    static const struct option LONG[] = {{"device", required_argument, NULL, 'd'},
                                         {"side", required_argument, NULL, 's'},
                                         {"input", required_argument, NULL, 'i'},
                                         {"mask", required_argument, NULL, 'm'},
                                         {"studies", required_argument, NULL, 'n'},
                                         {"seconds", required_argument, NULL, 'S'},
                                         {NULL, 0, NULL, 0}};
    struct bench b = {.side = 2048, .input = 518, .mask = 1024, .studies = 1024, .seconds = 0.2};
    const char *device = "cuda:0";
    struct mf_error err = MF_ERROR_INIT;
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        size_t n = optarg ? strtoull(optarg, NULL, 10) : 0;
        if (c == 'd')
            device = optarg;
        else if (c == 'S')
            b.seconds = strtod(optarg, NULL);
        else if (c == '?' || n == 0 || n > 16384)
            return 2;
        else
            *(c == 's' ? &b.side : c == 'i' ? &b.input : c == 'm' ? &b.mask : &b.studies) = n;
    }
    bool ok = mf_exec_init(&b.x, device, "f32", 1, &err);
    b.ops = ok ? b.x.ops->frames : NULL;
    if (ok && !b.ops)
        ok = mf_error_set(&err, MF_ERR_USAGE, "%s has no work on frames of its own", device);
    ok = ok && measure(&b, &err);
    mf_exec_free(&b.x);
    if (!ok)
        fprintf(stderr, "%s\n", err.msg);
    return ok ? 0 : 1;
}
