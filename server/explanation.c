/* Explanations as documents: which labels, which numbers, which parts of the image. */
#include "server/explanation.h"

#include "core/mask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what the network saw --- */

static void see(void *arg, const char *name, const float *data, const size_t *shape, int rank)
{
    static const char PREFIX[] = "pixel_values.";
    struct mf_explanation_inputs *in = arg;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) != 0 || rank != 3)
        return;
    size_t frame = strtoul(name + sizeof PREFIX - 1, NULL, 10), n = shape[0] * shape[1] * shape[2];
    if (frame >= sizeof in->pixels / sizeof *in->pixels || in->pixels[frame])
        return;
    in->pixels[frame] = malloc(n * sizeof *data);
    in->failed |= !in->pixels[frame];
    if (in->pixels[frame])
        memcpy(in->pixels[frame], data, n * sizeof *data);
}

struct mf_tap mf_explanation_tap(struct mf_explanation_inputs *inputs)
{
    return (struct mf_tap){see, inputs};
}

void mf_explanation_inputs_free(struct mf_explanation_inputs *inputs)
{
    for (size_t i = 0; i < sizeof inputs->pixels / sizeof *inputs->pixels; i++)
        free(inputs->pixels[i]);
    *inputs = (struct mf_explanation_inputs){.failed = false};
}

/* --- which labels --- */

static size_t most_probable(const struct mf_prediction *p, size_t n, bool present,
                            const bool *taken)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (!taken[i] && (!present || p[i].state == MF_LABEL_PRESENT) &&
            (best == n || p[i].probability > p[best].probability))
            best = i;
    return best;
}

static size_t choose_labels(const struct mf_prediction *p, size_t n, bool *taken,
                            size_t labels[MF_EXPLAINED_LABELS])
{
    size_t count = 0;
    for (; count < MF_EXPLAINED_LABELS; count++) {
        size_t best = most_probable(p, n, true, taken);
        if (best == n)
            break;
        taken[best] = true;
        labels[count] = best;
    }
    if (count == 0 && n)
        labels[count++] = most_probable(p, n, false, taken);
    return count;
}

/* --- parts of the image --- */

enum { POINTS = 4 }; /* a patch is looked at in 4 × 4 points */
enum part { IMAGE_LEFT, IMAGE_RIGHT, OUTSIDE, UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT };
enum { PARTS = LOWER_RIGHT + 1 };

static const char *const PART_NAMES[PARTS] = {"image_left", "image_right", "outside",
                                              "upper_left", "upper_right", "lower_left",
                                              "lower_right"};

/* One document being made. */
struct making {
    const struct mf_explained *of;
    const struct mf_explanation *x;
    const size_t *labels;
    struct mf_mask *masks;
    size_t mask_count;
    float *covers; /* (frames, patches, PARTS): the share of a patch that lies in a part */
};

static const struct mf_mask *mask_of(const struct making *m, size_t frame, size_t structure)
{
    for (size_t i = 0; i < m->mask_count; i++)
        if (m->masks[i].frame == frame && (size_t)m->masks[i].structure == structure)
            return &m->masks[i];
    return NULL;
}

/* Which part of the lungs a point is in; y, x in [0, 1] of the frame. */
static enum part lung_at(const struct making *m, size_t frame, double y, double x)
{
    for (size_t s = 0; s < MF_STRUCTURE_COUNT; s++) {
        const struct mf_mask *mask = mask_of(m, frame, s);
        if (!mask)
            continue;
        size_t row = (size_t)(y * mask->rows), col = (size_t)(x * mask->columns);
        if (row < mask->rows && col < mask->columns && mask->pixels[row * mask->columns + col])
            return s == MF_STRUCTURE_IMAGE_LEFT ? IMAGE_LEFT : IMAGE_RIGHT;
    }
    return OUTSIDE;
}

/* Frames are only known by their boxes here; masks cover the whole frame, whose size in pixels is
 * `size` (rows, columns). */
static void cover_frame(const struct making *m, size_t frame, const uint32_t size[2])
{
    const uint32_t *box = m->of->frames[frame].segmentation.box;
    size_t rows = m->x->rows, cols = m->x->cols;
    for (size_t i = 0; i < rows * POINTS * cols * POINTS; i++) {
        size_t py = i / (cols * POINTS), px = i % (cols * POINTS);
        double v = ((double)py + 0.5) / (double)(rows * POINTS);
        double u = ((double)px + 0.5) / (double)(cols * POINTS);
        double y = (box[1] + v * (box[3] - box[1])) / size[0];
        double x = (box[0] + u * (box[2] - box[0])) / size[1];
        enum part quadrant =
            v < 0.5 ? (u < 0.5 ? UPPER_LEFT : UPPER_RIGHT) : (u < 0.5 ? LOWER_LEFT : LOWER_RIGHT);
        float *cover = m->covers + (frame * rows * cols + py / POINTS * cols + px / POINTS) * PARTS;
        cover[lung_at(m, frame, y, x)] += 1.0f / (POINTS * POINTS);
        cover[quadrant] += 1.0f / (POINTS * POINTS);
    }
}

static double in_part(const struct making *m, size_t frame, enum part part, const float *map)
{
    size_t n = m->x->rows * m->x->cols;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)(map ? map[i] : 1.0f / (float)n) *
               m->covers[(frame * n + i) * PARTS + (size_t)part];
    return sum;
}

/* Area and shares of each part of one frame; lungs are null where they were not found. */
static json_t *parts_json(const struct making *m, size_t frame, const float *attribution,
                          const float *relevance)
{
    json_t *parts = json_object();
    bool lungs = mask_of(m, frame, MF_STRUCTURE_IMAGE_LEFT) != NULL;
    for (size_t p = 0; parts && p < PARTS; p++) {
        json_t *one =
            p <= OUTSIDE && !lungs
                ? json_null()
                : json_pack("{s:o, s:o, s:o}", "area",
                            mf_json_real(in_part(m, frame, (enum part)p, NULL)), "attribution",
                            mf_json_real(in_part(m, frame, (enum part)p, attribution)), "relevance",
                            mf_json_real(in_part(m, frame, (enum part)p, relevance)));
        json_object_set_new(parts, PART_NAMES[p], one);
    }
    return parts;
}

/* --- the document --- */

static double six_digits(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", x);
    return strtod(text, NULL);
}

static json_t *map_json(const float *map, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        json_array_append_new(list, mf_json_real(six_digits(map[i])));
    return list;
}

static json_t *label_frame_json(const struct making *m, size_t label, size_t frame)
{
    const struct mf_explanation *x = m->x;
    size_t n = x->rows * x->cols, at = (label * x->frame_count + frame) * n;
    return json_pack("{s:o, s:o, s:o, s:o}", "attribution", map_json(x->attribution + at, n),
                     "relevance", map_json(x->relevance + at, n), "left_out",
                     mf_json_real(x->frame[label * x->frame_count + frame]), "parts",
                     parts_json(m, frame, x->attribution + at, x->relevance + at));
}

static json_t *groups_json(const struct making *m, size_t label)
{
    const struct mf_explanation *x = m->x;
    const struct mf_feature_set *set = mf_bundle_features(m->of->bundle);
    json_t *list = json_array();
    for (size_t g = 0; list && g < x->group_count; g++) {
        json_t *features = json_array();
        for (size_t i = 0; i < x->feature_count; i++)
            if (x->group_of[i] == g)
                json_array_append_new(features, json_string(set->features[i].id));
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:o}", "group", x->groups[g], "features", features,
                            "shapley", mf_json_real(x->shapley[label * x->group_count + g])));
    }
    return list;
}

static json_t *label_json(const struct making *m, size_t label)
{
    const struct mf_explanation *x = m->x;
    json_t *frames = json_array();
    for (size_t f = 0; frames && f < x->frame_count; f++)
        json_array_append_new(frames, label_frame_json(m, label, f));
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "label",
                     mf_bundle_labels(m->of->bundle)[m->labels[label]].id, "logit",
                     mf_json_real(x->logit[label]), "blurred_logit",
                     mf_json_real(x->blurred[label]), "unknown_logit",
                     mf_json_real(x->group_count ? x->unknown[label] : NAN), "relevance_of_ehr",
                     mf_json_real(x->relevance_of_ehr[label]), "frames", frames, "features",
                     groups_json(m, label));
}

static json_t *frame_json(const struct making *m, size_t frame)
{
    const struct mf_result_frame *f = &m->of->frames[frame];
    const uint32_t *box = f->segmentation.box;
    size_t n = m->x->rows * m->x->cols;
    return json_pack("{s:o, s:i, s:[i,i,i,i], s:o}", "sop_instance_uid",
                     mf_json_string(f->sop_instance_uid), "index", (int)f->index, "box",
                     (int)box[0], (int)box[1], (int)box[2], (int)box[3], "rollout",
                     map_json(m->x->rollout + frame * n, n));
}

static json_t *document(const struct making *m)
{
    const struct mf_explanation *x = m->x;
    json_t *frames = json_array(), *labels = json_array();
    for (size_t f = 0; frames && f < x->frame_count; f++)
        json_array_append_new(frames, frame_json(m, f));
    for (size_t c = 0; labels && c < x->label_count; c++)
        json_array_append_new(labels, label_json(m, c));
    return json_pack("{s:s, s:s, s:i, s:[i,i], s:o, s:o, s:o}", "schema", "medfusion.explanation/1",
                     "model_hash", mf_bundle_model_hash(m->of->bundle), "steps", (int)x->steps,
                     "grid", (int)x->rows, (int)x->cols, "rollout_of_ehr",
                     mf_json_real(x->rollout_of_ehr), "frames", frames, "labels", labels);
}

static bool look_at_parts(struct making *m, struct mf_arena *arena, struct mf_error *err)
{
    const struct mf_explained *of = m->of;
    size_t n = of->frame_count * m->x->rows * m->x->cols * PARTS;
    m->covers = mf_arena_alloc(arena, n, sizeof *m->covers, err);
    if (!m->covers || (of->masks && !mf_masks_parse(of->masks, of->frame_count, arena, &m->masks,
                                                    &m->mask_count, err)))
        return false;
    for (size_t f = 0; f < of->frame_count; f++)
        cover_frame(m, f, of->sizes[f]);
    return true;
}

json_t *mf_explanation_make(struct mf_explainer *explainer, const struct mf_explained *of,
                            struct mf_error *err)
{
    enum { ARENA_BYTES = 1 << 30 };
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    size_t n = mf_bundle_label_count(of->bundle), labels[MF_EXPLAINED_LABELS];
    bool *taken = arena ? mf_arena_alloc(arena, n + 1, sizeof *taken, err) : NULL;
    struct mf_explanation x;
    if (!taken || of->inputs->failed) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an explanation");
        return NULL;
    }
    const struct mf_explain_input input = {.pixels = (const float *const *)of->inputs->pixels,
                                           .frame_count = of->frame_count,
                                           .positions = of->positions,
                                           .features = of->features,
                                           .labels = labels,
                                           .label_count =
                                               choose_labels(of->predictions, n, taken, labels)};
    struct making m = {.of = of, .x = &x, .labels = labels};
    if (!mf_explain(explainer, &input, arena, &x, err) || !look_at_parts(&m, arena, err))
        return NULL;
    json_t *json = document(&m);
    if (!json)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an explanation");
    return json;
}
