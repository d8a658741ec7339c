/* An engine's life: networks loaded, buffers made, shapes planned, runs started. */
#include "engine/engine_private.h"

#include "core/clock.h"
#include "engine/frames.h"
#include "engine/smoothing.h"
#include "engine/weight_store.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool load_networks(struct mf_engine *e, struct mf_smoothing *smoothing, struct mf_error *err)
{
    const struct mf_bundle *b = e->bundle;
    for (int i = 0; i < MF_MODULE_COUNT; i++) {
        struct mf_loader ld;
        if (!b->weights[i])
            continue;
        if (smoothing)
            mf_smoothing_section(smoothing, (size_t)i);
        mf_loader_init(&ld, b->weights[i], &e->exec, e->arena, err);
        if (i == MF_MODULE_SEGMENTER) /* its masks are yes or no */
            mf_exec_precision(&e->exec, MF_PRECISION_16_BITS);
        else
            mf_exec_precision(&e->exec, MF_PRECISION_DTYPE);
        if (i == MF_MODULE_SEGMENTER)
            e->segmenter = mf_sam2_load(&ld, b->segmentation.propagate);
        else if (i == MF_MODULE_VISION)
            e->vision = mf_vit_load_any(&ld);
        else if (i == MF_MODULE_TEMPORAL)
            e->temporal = mf_temporal_load(&ld);
        else if (i == MF_MODULE_EHR)
            e->ehr = mf_ft_load(&ld);
        else
            e->fusion = mf_fusion_load(&ld);
        if (!mf_loader_finish(&ld, mf_bundle_ignored(b, i)))
            return false;
        mf_weights_forget(b->weights[i]);
    }
    return true;
}

/* Panels are 6 bytes a weight at most, and tiles and blocks have unused ends. */
static size_t most_weight_bytes(const struct mf_bundle *b)
{
    size_t bytes = 1 << 20;
    for (int i = 0; i < MF_MODULE_COUNT; i++)
        if (b->weights[i])
            bytes += 12 * mf_weights_parameters(b->weights[i]) +
                     16384 * mf_weights_tensors(b->weights[i], NULL, 0);
    return bytes;
}

/* What decides how weights are packed, but for the backend's choices, which follow from these. */
static void open_store(struct mf_engine *e, int fd)
{
    const struct mf_ops *ops = e->exec.ops;
    char key[128];
    if (fd <= 0 || !ops->share)
        return;
    snprintf(key, sizeof key, "%s %s %s", e->bundle->model_hash, ops->device,
             ops->dtype(e->exec.backend));
    e->store = mf_weight_store_open(fd, key, most_weight_bytes(e->bundle));
    ops->share(e->exec.backend, e->store);
}

static bool close_store(struct mf_engine *e, struct mf_error *err)
{
    if (!e->store)
        return true;
    e->exec.ops->share(e->exec.backend, NULL);
    return mf_weight_store_seal(e->store) ||
           mf_error_set(err, MF_ERR_INTERNAL, "shared weights cannot be sealed");
}

static void *room(struct mf_engine *e, size_t n, size_t size, bool *ok)
{
    void *p = mf_arena_alloc(e->arena, n, size, NULL);
    *ok &= p != NULL;
    return p;
}

static bool make_buffers(struct mf_engine *e, struct mf_error *err)
{
    const struct mf_bundle *b = e->bundle;
    size_t vision = b->vision.rows * b->vision.cols, size = e->segmenter ? b->segmenter.rows : 0;
    size_t most = vision > size * size ? vision : size * size;
    bool ok = true;
    e->grey = room(e, most, sizeof *e->grey, &ok);
    e->pixels = room(e, 3 * most, sizeof *e->pixels, &ok);
    if (e->segmenter) {
        size_t g = mf_sam2_grid(e->segmenter), k = mf_sam2_masks(e->segmenter);
        e->mask_cells = 16 * g * g;
        e->prompt_tokens = room(e, 2 * 3 * mf_sam2_width(e->segmenter), sizeof(float), &ok);
        e->heat = room(e, 6 * g * g, sizeof(float), &ok);
        e->all_masks = room(e, 2 * k * e->mask_cells, sizeof(float), &ok);
        e->all_iou = room(e, 2 * k, sizeof(float), &ok);
        e->mask_logits = room(e, 2 * e->mask_cells, sizeof(float), &ok);
        e->masks = room(e, 2 * size * size, 1, &ok);
        e->region.runs = room(e, size, sizeof *e->region.runs, &ok);
        e->region.soft = room(e, size * (size + 1), sizeof(float), &ok);
        e->region.between = room(e, size * (size + 1), sizeof(float), &ok);
    }
    if (e->ehr) {
        e->x_cont = room(e, mf_ft_numeric(e->ehr), sizeof *e->x_cont, &ok);
        e->x_cat = room(e, mf_ft_categorical(e->ehr), sizeof *e->x_cat, &ok);
        e->missing = room(e, mf_ft_numeric(e->ehr) + mf_ft_categorical(e->ehr), 1, &ok);
    }
    e->tokens = mf_temporal_tokens(e->temporal);
    e->region_tokens = room(e, (e->tokens - 1) * mf_vit_width(e->vision), sizeof(float), &ok);
    e->resampler.threads = e->exec.ops->host_threads(e->exec.backend);
    if (!ok)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the engine");
    if (e->segmenter && b->segmentation.propagate)
        e->stack = mf_sam2_stack_new(e->segmenter, 2, b->max_frames, e->resampler.threads, err);
    if (e->exec.ops->frames && !(e->frames = mf_frames_new(e, err)))
        return false;
    return e->stack || !e->segmenter || !b->segmentation.propagate;
}

/* Loading unpacks every tensor once; an idle worker should not keep what that left free. */
static void give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* Whether products are in fp8 where that was asked for: what is not calibrated for it is not. */
static bool is_calibrated(const struct mf_engine *e, const struct mf_engine_options *options,
                          struct mf_error *err)
{
    return !options->dtype || strcmp(options->dtype, "fp8") != 0 ||
           strcmp(mf_engine_dtype(e), "fp8") == 0 ||
           mf_error_set(
               err, MF_ERR_UNAVAILABLE,
               "dtype \"fp8\" needs a bundle whose layers' inputs were observed: medfusion "
               "model smooth makes one");
}

struct mf_engine *mf_engine_new(const struct mf_bundle *bundle,
                                const struct mf_engine_options *options, struct mf_error *err)
{
    MF_AUTO(mf_engine) struct mf_engine *e = calloc(1, sizeof *e);
    if (!e || !(e->arena = mf_arena_new((size_t)1 << 30))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (bundle->checked != MF_BUNDLE_FULL) {
        mf_error_set(err, MF_ERR_INTERNAL, "the bundle was opened without its weights");
        return NULL;
    }
    static const struct mf_engine_options DEFAULTS = {0};
    options = options ? options : &DEFAULTS;
    e->bundle = bundle;
    size_t wanted = options->batch;
    if (!mf_exec_init(&e->exec, options->device, options->dtype, options->threads, err) ||
        !mf_exec_kernels(&e->exec, options->kernels, err))
        return NULL;
    for (e->batch = 1; 2 * e->batch <= (wanted ? wanted : e->exec.ops->batch) &&
                       2 * e->batch <= bundle->max_frames;)
        e->batch *= 2;
    e->exec.observer = options->smoothing ? mf_smoothing_observer(options->smoothing) : NULL;
    open_store(e, options->weights_fd);
    if (!load_networks(e, options->smoothing, err) || !close_store(e, err) ||
        !is_calibrated(e, options, err) || !make_buffers(e, err) || !mf_engine_warm(e, 1, err))
        return NULL;
    give_back();
    return MF_STEAL(e);
}

void mf_engine_free(struct mf_engine *e)
{
    if (!e)
        return;
    mf_frames_free(e->frames);
    mf_exec_free(&e->exec);
    mf_weight_store_close(e->store);
    mf_sam2_stack_free(e->stack);
    mf_resampler_free(&e->resampler);
    free(e->image);
    free(e->levels);
    mf_arena_free(e->arena);
    free(e);
}

const char *mf_engine_device(const struct mf_engine *e)
{
    return e->exec.device;
}

const char *mf_engine_dtype(const struct mf_engine *e)
{
    return e->exec.ops->dtype(e->exec.backend);
}

void mf_engine_kernels(const struct mf_engine *e, char *ret, size_t room)
{
    ret[0] = '\0';
    if (e->exec.ops->about)
        e->exec.ops->about(e->exec.backend, ret, room);
}

size_t mf_engine_readout_size(const struct mf_engine *e)
{
    return mf_fusion_readout(e->fusion);
}

size_t mf_engine_feature_size(const struct mf_engine *e)
{
    return mf_vit_width(e->vision);
}

size_t mf_engine_memory(const struct mf_engine *e, size_t *ret_weights)
{
    if (ret_weights)
        *ret_weights = e->exec.weight_bytes;
    return e->exec.capacity + mf_arena_used(e->arena) + e->frame_room * (sizeof(float) + 1) +
           (e->frames ? mf_frames_bytes(e->frames) : 0);
}

bool mf_engine_works(struct mf_engine *e, struct mf_error *err)
{
    struct mf_error failure = MF_ERROR_INIT;
    const struct mf_exec *x = &e->exec;
    return !x->ops->finish || x->ops->finish(x->backend, &failure) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "%s", failure.msg);
}

static bool check_count(const struct mf_engine *e, size_t n, struct mf_error *err)
{
    size_t most =
        e->bundle->max_frames < MF_ENGINE_FRAMES ? e->bundle->max_frames : MF_ENGINE_FRAMES;
    return (n >= 1 && n <= most) ||
           mf_error_set(err, MF_ERR_UNUSABLE, "%zu frames, the model takes 1 to %zu", n, most);
}

static bool plan(struct mf_engine *e, size_t frame_count, struct mf_error *err)
{
    struct run r = {.engine = e, .frames = frame_count};
    struct batch b = {&r, 1};
    return mf_exec_run(&e->exec, mf_pipeline_body, &b, true, err);
}

size_t mf_engine_batch(const struct mf_engine *e)
{
    return e->batch;
}

bool mf_engine_shrink(struct mf_engine *e)
{
    if (e->batch == 1)
        return false;
    e->batch /= 2;
    mf_exec_shrink(&e->exec);
    memset(e->planned, 0, sizeof e->planned);
    return true;
}

bool mf_engine_warm(struct mf_engine *e, size_t frame_count, struct mf_error *err)
{
    struct mf_error why = MF_ERROR_INIT;
    if (!check_count(e, frame_count, err))
        return false;
    while (!e->planned[frame_count]) {
        mf_error_clear(&why);
        e->planned[frame_count] = plan(e, frame_count, &why);
        if (!e->planned[frame_count] && (why.code != MF_ERR_NO_MEMORY || !mf_engine_shrink(e)))
            return mf_error_set(err, why.code, "%s", why.msg);
    }
    return true;
}

static bool run_studies(struct mf_engine *e, struct run *runs, size_t count, size_t frames,
                        const struct mf_tap *tap, struct mf_error *err)
{
    struct batch b = {runs, count};
    size_t batch;
    do { /* a lack of memory makes everything be planned again */
        batch = e->batch;
        if (!mf_engine_warm(e, frames, err))
            return false;
        for (size_t i = 0; i < count; i++)
            if (!mf_engine_warm(e, runs[i].frames, err))
                return false;
    } while (e->batch != batch);
    for (size_t i = 0; i < count; i++)
        runs[i].output->timing = (struct mf_timing){
            .segment = e->segmenter ? 0 : NAN, .decode = NAN, .ehr = NAN, .total = NAN};
    e->exec.tap = tap;
    bool ok = mf_exec_replay(&e->exec, mf_pipeline_body, &b, err);
    e->exec.tap = NULL;
    return ok;
}

bool mf_engine_run(struct mf_engine *e, const struct mf_engine_input *input,
                   const struct mf_tap *tap, struct mf_engine_output *output, struct mf_error *err)
{
    struct run r = {.engine = e, .frames = input->frame_count, .input = input, .output = output};
    return run_studies(e, &r, 1, input->frame_count, tap, err);
}

bool mf_engine_run_together(struct mf_engine *e, const struct mf_engine_study *studies,
                            size_t count, struct mf_error *err)
{
    struct run runs[MF_ENGINE_FRAMES];
    size_t frames = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == MF_ENGINE_FRAMES)
            return mf_error_set(err, MF_ERR_UNUSABLE, "%zu studies at once, at most %d can be run",
                                count, MF_ENGINE_FRAMES);
        runs[i] = (struct run){.engine = e,
                               .frames = studies[i].input->frame_count,
                               .input = studies[i].input,
                               .output = studies[i].output};
        frames += runs[i].frames;
    }
    return count == 0 || run_studies(e, runs, count, frames, NULL, err);
}

/* A black frame, segmented by made-up boxes: all that one frame records. */
static bool rehearse_frame(struct mf_engine *e, struct mf_error *err)
{
    enum { SIDE = 64 };
    static const uint8_t BLACK[SIDE * SIDE];
    static const float BOXES[8] = {1, 1, 20, 40, 24, 1, 44, 40};
    const struct mf_frame frame = {.rows = SIDE,
                                   .columns = SIDE,
                                   .samples_per_pixel = 1,
                                   .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                                   .bits_stored = 8,
                                   .high_bit = 7,
                                   .samples = BLACK,
                                   .rescale_slope = 1};
    const struct mf_frame *const frames[] = {&frame};
    const double positions[] = {0};
    struct mf_segmentation segmentation[1];
    size_t labels = mf_bundle_label_count(e->bundle);
    MF_AUTO(mf_mem) float *logits = calloc(labels + 1, sizeof *logits);
    const struct mf_engine_input input = {
        .frames = frames, .frame_count = 1, .positions = positions, .boxes = BOXES};
    struct mf_engine_output output = {.logits = logits, .segmentation = segmentation};
    if (!logits)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return mf_engine_run(e, &input, NULL, &output, err);
}

static bool rehearse(struct mf_engine *e, struct mf_error *err)
{
    struct run r = {.engine = e, .frames = e->bundle->max_frames};
    struct batch b = {&r, 1};
    for (size_t n = e->bundle->max_frames; n > 0; n--) /* the largest workspace first */
        if (!mf_engine_warm(e, n, err))
            return false;
    return rehearse_frame(e, err) && mf_exec_replay(&e->exec, mf_pipeline_rehearsal, &b, err);
}

/* Room for the largest radiographs, if the device has it to spare; without it they make room when
 * they come. */
static void reserve_frames(struct mf_engine *e)
{
    enum { SIDE = 4096 };
    if (e->frames)
        (void)mf_frames_reserve(e->frames, SIDE, SIDE, NULL);
}

bool mf_engine_rehearse(struct mf_engine *e, struct mf_error *err)
{
    if (!e->exec.ops->record)
        return mf_engine_warm(e, 1, err);
    for (;;) {
        struct mf_error why = MF_ERROR_INIT;
        if (rehearse(e, &why)) {
            reserve_frames(e);
            return true;
        }
        if (why.code != MF_ERR_NO_MEMORY || !mf_engine_shrink(e))
            return mf_error_set(err, why.code, "%s", why.msg);
    }
}

bool mf_engine_device_memory(struct mf_engine *e, size_t *ret_total, size_t *ret_available,
                             size_t *ret_taken)
{
    const struct mf_exec *x = &e->exec;
    return x->ops->memory && x->ops->memory(x->backend, ret_total, ret_available, ret_taken);
}
