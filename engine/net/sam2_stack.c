/*
 * What SAM 2 remembers of a stack of slices, and what it reads of that on each slice: memories of
 * the prompted slice and of the nearest ones in the direction of travel, then the object pointers
 * of these (Sam2VideoModel's _gather_memory_frame_outputs and _get_object_pointers).
 */
#include "engine/net/sam2_stack.h"

#include "engine/resample.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const float NO_OBJECT = -1024; /* the logits of an object that is not on the slice */

enum state { UNSEEN, PROMPTED, TRACKED };

/* One object on one slice. */
struct seen {
    enum state state;
    uint16_t *memory; /* (g·g, c) as bf16: what Hugging Face keeps too */
    float *pointer;   /* (C) */
};

struct mf_sam2_stack {
    struct mf_sam2 *net;
    const struct mf_sam2_memory *memory;
    size_t objects, room, slices, key;
    struct seen *seen; /* (objects, room) */
    uint16_t *all_memories;
    float *all_pointers;
    /* of the last step */
    float *masks, *iou, *object;
    /* scratch of one object on one slice */
    float *answer, *answer_iou, *tokens, *sparse, *image, *map, *keys, *values;
    struct mf_resampler resampler;
};

static size_t cells_of(const struct mf_sam2_stack *s)
{
    return mf_sam2_grid(s->net) * mf_sam2_grid(s->net);
}

static size_t most_rows(const struct mf_sam2_stack *s)
{
    const struct mf_sam2_memory_rules *r = mf_sam2_memory_rules(s->memory);
    size_t split = mf_sam2_width(s->net) / mf_sam2_memory_channels(s->memory);
    return r->memories * cells_of(s) + r->pointers * split;
}

static bool take(float **p, size_t n)
{
    *p = calloc(n + 1, sizeof **p);
    return *p != NULL;
}

static bool allocate(struct mf_sam2_stack *s)
{
    size_t n = cells_of(s), k = mf_sam2_masks(s->net), d = mf_sam2_width(s->net);
    size_t c = mf_sam2_memory_channels(s->memory), all = s->objects * s->room;
    s->seen = calloc(all + 1, sizeof *s->seen);
    s->all_memories = calloc(all * n * c + 1, sizeof *s->all_memories);
    bool ok = s->seen && s->all_memories && take(&s->all_pointers, all * d) &&
              take(&s->masks, s->objects * 16 * n) && take(&s->iou, s->objects) &&
              take(&s->object, s->objects) && take(&s->answer, k * 16 * n) &&
              take(&s->answer_iou, k) && take(&s->tokens, k * d) &&
              take(&s->sparse, (2 + MF_SAM2_POINTS) * d) && take(&s->image, 256 * n) &&
              take(&s->map, n * c) && take(&s->keys, most_rows(s) * c) &&
              take(&s->values, most_rows(s) * c);
    for (size_t i = 0; ok && i < all; i++) {
        s->seen[i].memory = s->all_memories + i * n * c;
        s->seen[i].pointer = s->all_pointers + i * d;
    }
    return ok;
}

struct mf_sam2_stack *mf_sam2_stack_new(struct mf_sam2 *net, size_t objects, size_t slices,
                                        int threads, struct mf_error *err)
{
    MF_AUTO(mf_sam2_stack) struct mf_sam2_stack *s = calloc(1, sizeof *s);
    if (s) {
        s->net = net;
        s->memory = mf_sam2_memory(net);
        s->objects = objects;
        s->room = slices;
        s->resampler.threads = threads;
    }
    if (!s || !allocate(s)) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory to track %zu objects over %zu slices",
                     objects, slices);
        return NULL;
    }
    return MF_STEAL(s);
}

void mf_sam2_stack_free(struct mf_sam2_stack *s)
{
    if (!s)
        return;
    float *owned[] = {s->all_pointers, s->masks,  s->iou,   s->object, s->answer, s->answer_iou,
                      s->tokens,       s->sparse, s->image, s->map,    s->keys,   s->values};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    free(s->seen);
    free(s->all_memories);
    mf_resampler_free(&s->resampler);
    free(s);
}

void mf_sam2_stack_begin(struct mf_sam2_stack *s, size_t slices, size_t key)
{
    s->slices = slices < s->room ? slices : s->room;
    s->key = key < s->slices ? key : 0;
    for (size_t i = 0; i < s->objects * s->room; i++)
        s->seen[i].state = UNSEEN;
}

size_t mf_sam2_stack_order(const struct mf_sam2_stack *s, size_t i)
{
    return s->key + i < s->slices ? s->key + i : s->slices - 1 - i;
}

const float *mf_sam2_stack_masks(const struct mf_sam2_stack *s)
{
    return s->masks;
}

const float *mf_sam2_stack_iou(const struct mf_sam2_stack *s)
{
    return s->iou;
}

const float *mf_sam2_stack_object(const struct mf_sam2_stack *s)
{
    return s->object;
}

static struct seen *seen_of(const struct mf_sam2_stack *s, size_t object, size_t f)
{
    return &s->seen[object * s->room + f];
}

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16); /* to nearest, ties to even */
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ── what is read ── */

/* The slice `away` slices back on the way to `f`, or s->slices when there is none. */
static size_t slice_back(const struct mf_sam2_stack *s, size_t f, size_t away)
{
    if (f < s->key)
        return f + away < s->slices ? f + away : s->slices;
    return f >= away ? f - away : s->slices;
}

static void add_memory(struct mf_sam2_stack *s, const struct seen *seen, size_t row,
                       struct mf_sam2_memories *m, bool live)
{
    const struct mf_sam2_memory_host *h = mf_sam2_memory_host(s->memory);
    size_t n = cells_of(s), c = mf_sam2_memory_channels(s->memory);
    float *values = s->values + m->count * c, *keys = s->keys + m->count * c;
    const float *temporal = h->temporal + row * c;
    m->count += n;
    for (size_t i = 0; live && i < n * c; i++) {
        values[i] = from_bf16(seen->memory[i]);
        keys[i] = values[i] + (h->position[i] + temporal[i % c]);
    }
}

/* The position of a pointer that is `away` slices off, of at most `most`: (c) floats. */
static void pointer_position(const struct mf_sam2_stack *s, size_t away, size_t most, float *out)
{
    const struct mf_sam2_memory_host *h = mf_sam2_memory_host(s->memory);
    size_t c = mf_sam2_memory_channels(s->memory), d = mf_sam2_width(s->net), half = d / 2;
    float where = (float)away / (float)(most - 1);
    memset(out, 0, c * sizeof *out);
    if (!h->pointer_weight)
        return;
    memcpy(out, h->pointer_bias, c * sizeof *out);
    for (size_t i = 0; i < half; i++) {
        size_t even = i - i % 2;
        float angle = where / powf(10000.0f, (float)even / (float)half);
        float a = sinf(angle), b = cosf(angle);
        for (size_t k = 0; k < c; k++)
            out[k] += a * h->pointer_weight[k * d + i] + b * h->pointer_weight[k * d + half + i];
    }
}

/* A pointer of C floats is C / c rows of c. */
static void add_pointer(struct mf_sam2_stack *s, const struct seen *seen, size_t away, size_t most,
                        struct mf_sam2_memories *m, bool live)
{
    size_t c = mf_sam2_memory_channels(s->memory), split = mf_sam2_width(s->net) / c;
    float *values = s->values + m->count * c, *keys = s->keys + m->count * c;
    m->count += split;
    m->pointers += split;
    if (!live)
        return;
    memcpy(values, seen->pointer, split * c * sizeof *values);
    pointer_position(s, away, most, keys);
    for (size_t i = 1; i < split; i++)
        memcpy(keys + i * c, keys, c * sizeof *keys);
    for (size_t i = 0; i < split * c; i++)
        keys[i] += values[i];
}

static void gather(struct mf_sam2_stack *s, size_t object, size_t f, struct mf_sam2_memories *m,
                   bool live)
{
    const struct mf_sam2_memory_rules *r = mf_sam2_memory_rules(s->memory);
    const struct seen *key = seen_of(s, object, s->key);
    size_t most = s->slices < r->pointers ? s->slices : r->pointers;
    add_memory(s, key, r->memories - 1, m, live);
    for (size_t away = r->memories - 1; away > 0; away--) {
        size_t back = slice_back(s, f, away);
        if (back < s->slices && seen_of(s, object, back)->state == TRACKED)
            add_memory(s, seen_of(s, object, back), away - 1, m, live);
    }
    add_pointer(s, key, f > s->key ? f - s->key : s->key - f, most, m, live);
    for (size_t away = 1; away < most; away++) {
        size_t back = slice_back(s, f, away);
        if (back == s->slices)
            break;
        if (seen_of(s, object, back)->state == TRACKED)
            add_pointer(s, seen_of(s, object, back), away, most, m, live);
    }
}

/* ── what is found ── */

/* The features that the decoder sees of this object. */
static void condition(struct mf_exec *x, struct mf_sam2_stack *s, size_t object, size_t f,
                      const struct mf_sam2_stack_prompt *prompt, const float *features, float *s2)
{
    size_t n = cells_of(s), c = mf_sam2_memory_channels(s->memory), mark = mf_exec_mark(x);
    if (prompt) {
        MF_DO(x, copy, features, n * mf_sam2_width(s->net), s2);
        if (!prompt->masks)
            mf_sam2_add_no_memory(x, s->net, s2);
        return;
    }
    struct mf_sam2_memories m = {0};
    gather(s, object, f, &m, mf_exec_live(x));
    float *keys = mf_exec_floats(x, m.count * c), *values = mf_exec_floats(x, m.count * c);
    MF_DO(x, upload, keys, s->keys, m.count * c);
    MF_DO(x, upload, values, s->values, m.count * c);
    m.keys = keys;
    m.values = values;
    mf_sam2_memory_attend(x, s->memory, features, &m, s2);
    mf_exec_rewind(x, mark);
}

/* Decodes once; every mask, score and token of the answer goes to the host. */
static void decode(struct mf_exec *x, struct mf_sam2_stack *s, const struct mf_sam2_maps *maps,
                   const struct mf_sam2_prompts *p, float *object)
{
    size_t k = mf_sam2_masks(s->net), n = 16 * cells_of(s), d = mf_sam2_width(s->net);
    size_t tokens = mf_sam2_prompt_tokens(p) * d, mark = mf_exec_mark(x);
    float *sparse = mf_exec_floats(x, tokens);
    struct mf_sam2_answer answer;
    mf_sam2_answer_alloc(x, s->net, 1, &answer);
    if (mf_exec_live(x))
        mf_sam2_encode_prompts(s->net, p, s->sparse, &x->error);
    MF_DO(x, upload, sparse, s->sparse, tokens);
    mf_sam2_decode(x, s->net, maps, p, sparse, &answer);
    MF_DO(x, download, s->answer, answer.masks, k * n);
    MF_DO(x, download, s->answer_iou, answer.iou, k);
    MF_DO(x, download, s->tokens, answer.tokens, k * d);
    MF_DO(x, download, object, answer.object, 1);
    mf_exec_rewind(x, mark);
}

/* Which mask counts, and which token becomes the pointer: of three the one with the best predicted
 * IoU, else the single mask (or what it falls back to) with the single mask's token. */
static size_t choose(const struct mf_sam2_stack *s, bool multimask, size_t *ret_token)
{
    size_t best = 1;
    if (!multimask) {
        *ret_token = 0;
        return mf_sam2_choose(s->net, s->answer, s->answer_iou);
    }
    for (size_t i = 2; i < mf_sam2_masks(s->net); i++)
        if (s->answer_iou[i] > s->answer_iou[best])
            best = i;
    return *ret_token = best;
}

/* Turns a token on the host into a pointer, or into the one for an object that is not there. */
static void point(struct mf_exec *x, const struct mf_sam2_stack *s, size_t token, bool appears,
                  float *pointer)
{
    size_t d = mf_sam2_width(s->net), mark = mf_exec_mark(x);
    float *in = mf_exec_floats(x, d), *out = mf_exec_floats(x, d);
    MF_DO(x, upload, in, s->tokens + token * d, d);
    mf_sam2_memory_pointer(x, s->memory, in, out);
    MF_DO(x, download, pointer, out, d);
    if (mf_exec_live(x) && !appears)
        memcpy(pointer, mf_sam2_memory_host(s->memory)->no_object_pointer, d * sizeof *pointer);
    mf_exec_rewind(x, mark);
}

static bool wants_three(const struct mf_sam2_stack *s, const struct mf_sam2_stack_prompt *prompt)
{
    const struct mf_sam2_memory_rules *r = mf_sam2_memory_rules(s->memory);
    size_t points = prompt ? prompt->points : 0;
    return r->multimask && (prompt || r->multimask_tracking) && points >= r->least_points &&
           points <= r->most_points;
}

/* Keeps the chosen mask of `object`; the logits of one that is not there say so. */
static void keep_mask(const struct mf_sam2_stack *s, size_t object, size_t mask)
{
    size_t n = 16 * cells_of(s);
    float *out = s->masks + object * n;
    memcpy(out, s->answer + mask * n, n * sizeof *out);
    for (size_t i = 0; s->object[object] <= 0 && i < n; i++)
        out[i] = NO_OBJECT;
    s->iou[object] = s->answer_iou[mask];
}

static void find(struct mf_exec *x, struct mf_sam2_stack *s, size_t object, size_t f,
                 const struct mf_sam2_maps *maps, const struct mf_sam2_stack_prompt *prompt)
{
    static const float NOWHERE[2] = {0, 0};
    static const int NONE = -1;
    size_t n = 16 * cells_of(s), points = prompt ? prompt->points : 1, mark = mf_exec_mark(x);
    struct mf_sam2_prompts p = {.count = 1, .points = points, .pad_point = true};
    p.xy = prompt ? prompt->xy + object * points * 2 : NOWHERE;
    p.labels = prompt ? prompt->labels + object * points : &NONE;
    bool three = wants_three(s, prompt);
    size_t token = 0;
    decode(x, s, maps, &p, &s->object[object]);
    if (prompt && prompt->refine) {
        float *fed = mf_exec_floats(x, n);
        if (mf_exec_live(x))
            keep_mask(s, object, choose(s, three, &token));
        MF_DO(x, upload, fed, s->masks + object * n, n);
        p.masks = fed;
        decode(x, s, maps, &p, &s->object[object]);
    }
    if (mf_exec_live(x))
        keep_mask(s, object, choose(s, three, &token));
    point(x, s, token, s->object[object] > 0, seen_of(s, object, f)->pointer);
    mf_exec_rewind(x, mark);
}

/* A mask prompt is the answer itself; only the pointer comes from the decoder. */
static void adopt(struct mf_exec *x, struct mf_sam2_stack *s, size_t object, size_t f,
                  const struct mf_sam2_maps *maps, const struct mf_sam2_stack_prompt *prompt)
{
    static const float NOWHERE[2] = {0, 0};
    static const int NONE = -1;
    const struct mf_sam2_memory_host *h = mf_sam2_memory_host(s->memory);
    size_t g = mf_sam2_grid(s->net), side = 16 * g, low = 4 * g, token = 0, mark = mf_exec_mark(x);
    const float *mask = prompt->masks + object * side * side;
    struct mf_sam2_prompts p = {
        .count = 1, .points = 1, .pad_point = true, .xy = NOWHERE, .labels = &NONE};
    float *out = s->masks + object * low * low, *dense = mf_exec_floats(x, low * low), score = 0;
    bool any = false;
    for (size_t i = 0; mf_exec_live(x) && i < low * low; i++) { /* 4 × 4 convolution, stride 4 */
        out[i] = h->mask_bias[0];
        for (size_t k = 0; k < 16; k++) {
            float v = mask[(4 * (i / low) + k / 4) * side + 4 * (i % low) + k % 4];
            out[i] += v * h->mask_weight[k];
            any |= v > 0;
        }
    }
    MF_DO(x, upload, dense, out, low * low);
    p.masks = dense;
    decode(x, s, maps, &p, &score);
    if (mf_exec_live(x)) {
        choose(s, true, &token);
        for (size_t i = 0; i < side * side; i++)
            s->image[i] = mask[i] * 20 - 10;
        mf_resample(&s->resampler, MF_FILTER_BILINEAR_ANTIALIAS, s->image, side, side, 1, side, out,
                    low, low, &x->error);
        s->iou[object] = 1;
        s->object[object] = any ? 10 : -10;
    }
    point(x, s, token, any && score > 0, seen_of(s, object, f)->pointer);
    mf_exec_rewind(x, mark);
}

/* ── what is remembered ── */

/* The mask at the image's size as the memory encoder takes it, in s->image. */
static void mask_for_memory(struct mf_exec *x, struct mf_sam2_stack *s, size_t object,
                            const struct mf_sam2_stack_prompt *prompt)
{
    const struct mf_sam2_memory_rules *r = mf_sam2_memory_rules(s->memory);
    size_t low = 4 * mf_sam2_grid(s->net), side = 4 * low;
    if (prompt && prompt->masks) {
        const float *mask = prompt->masks + object * side * side;
        for (size_t i = 0; i < side * side; i++)
            s->image[i] = mask[i] * 20 - 10;
    } else if (!mf_resample(&s->resampler, MF_FILTER_BILINEAR, s->masks + object * low * low, low,
                            low, 1, low, s->image, side, side, &x->error)) {
        return;
    }
    for (size_t i = 0; i < side * side; i++) {
        float v = s->image[i];
        v = prompt ? (float)(v > 0) : 1 / (1 + expf(-v));
        s->image[i] = v * r->mask_scale + r->mask_bias;
    }
}

static void remember(struct mf_exec *x, struct mf_sam2_stack *s, size_t object, size_t f,
                     const float *features, const struct mf_sam2_stack_prompt *prompt)
{
    const float *occlusion = mf_sam2_memory_host(s->memory)->occlusion;
    size_t n = cells_of(s), c = mf_sam2_memory_channels(s->memory), mark = mf_exec_mark(x);
    float *mask = mf_exec_floats(x, 256 * n), *out = mf_exec_floats(x, n * c);
    struct seen *seen = seen_of(s, object, f);
    if (mf_exec_live(x))
        mask_for_memory(x, s, object, prompt);
    MF_DO(x, upload, mask, s->image, 256 * n);
    mf_sam2_memory_encode(x, s->memory, features, mask, out);
    MF_DO(x, download, s->map, out, n * c);
    for (size_t i = 0; mf_exec_live(x) && i < n * c; i++)
        seen->memory[i] =
            to_bf16(s->map[i] + (occlusion && s->object[object] <= 0 ? occlusion[i % c] : 0));
    seen->state = prompt ? PROMPTED : TRACKED;
    mf_exec_rewind(x, mark);
}

void mf_sam2_stack_step(struct mf_exec *x, struct mf_sam2_stack *s, size_t f,
                        const struct mf_sam2_maps *maps, const struct mf_sam2_stack_prompt *prompt)
{
    size_t mark = mf_exec_mark(x);
    struct mf_sam2_maps own = *maps;
    own.s2 = mf_exec_floats(x, cells_of(s) * mf_sam2_width(s->net));
    for (size_t object = 0; object < s->objects; object++) {
        condition(x, s, object, f, prompt, maps->s2, own.s2);
        if (prompt && prompt->masks)
            adopt(x, s, object, f, &own, prompt);
        else
            find(x, s, object, f, &own, prompt);
        remember(x, s, object, f, maps->s2, prompt);
    }
    mf_exec_rewind(x, mark);
}
