/* Pictures of an explanation: the frame in grey, the map in colour over its region of interest. */
#include "server/heatmap.h"

#include "core/grayscale.h"
#include "engine/resample.h"
#include "server/frame_picture.h"
#include "server/png.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 1024, MAX_GRID = 1024 };

static const char ATTRIBUTION[] = "attribution", RELEVANCE[] = "relevance", ROLLOUT[] = "rollout";

json_t *mf_heatmap_names(const json_t *explanation)
{
    json_t *names = json_array(), *label;
    size_t i;
    bool ok = names && json_array_append_new(names, json_string(ROLLOUT)) == 0;
    json_array_foreach(json_object_get(explanation, "labels"), i, label)
    {
        const char *id = mf_json_get_string(label, "label", NULL);
        ok = ok && id &&
             json_array_append_new(names, json_sprintf("%s-%s", ATTRIBUTION, id)) == 0 &&
             json_array_append_new(names, json_sprintf("%s-%s", RELEVANCE, id)) == 0;
    }
    if (ok)
        return names;
    json_decref(names);
    return NULL;
}

/* --- one map --- */

struct map {
    size_t rows, cols;
    float *values; /* divided by the largest magnitude */
    double box[4];
    bool with_sign;
};

/* The part of the document that has the map `name`, and which member of a frame it is. */
static const json_t *find_owner(const json_t *explanation, const char *name, const char **ret_key)
{
    static const char *const KEYS[] = {ATTRIBUTION, RELEVANCE};
    json_t *label;
    size_t i;
    *ret_key = ROLLOUT;
    if (strcmp(name, ROLLOUT) == 0)
        return explanation;
    for (int k = 0; k < 2; k++) {
        size_t n = strlen(KEYS[k]);
        *ret_key = KEYS[k];
        if (strncmp(name, KEYS[k], n) != 0 || name[n] != '-')
            continue;
        json_array_foreach(json_object_get(explanation, "labels"), i, label)
        {
            if (strcmp(mf_json_get_string(label, "label", ""), name + n + 1) == 0)
                return label;
        }
    }
    return NULL;
}

/* Index of the frame among those explained; −1: it is not. */
static long find_frame(const json_t *explanation, const struct mf_heatmap_frame *frame)
{
    json_t *f;
    size_t i;
    json_array_foreach(json_object_get(explanation, "frames"), i, f)
    {
        const char *uid = mf_json_get_string(f, "sop_instance_uid", "");
        if (frame->sop_instance_uid && strcmp(uid, frame->sop_instance_uid) == 0 &&
            mf_json_get_int(f, "index", -1) == (json_int_t)frame->index)
            return (long)i;
    }
    return -1;
}

static bool read_numbers(const json_t *list, double *ret, size_t n, struct mf_error *err)
{
    bool ok = json_is_array(list) && json_array_size(list) == n;
    for (size_t i = 0; ok && i < n; i++) {
        ok = json_is_number(json_array_get(list, i));
        ret[i] = json_number_value(json_array_get(list, i));
    }
    return ok ||
           mf_error_set(err, MF_ERR_MALFORMED, "explanation: a list of %zu numbers is needed", n);
}

static bool read_map(const json_t *explanation, const char *name,
                     const struct mf_heatmap_frame *frame, struct map *ret, struct mf_error *err)
{
    const char *key;
    double grid[2] = {0, 0};
    const json_t *owner = find_owner(explanation, name, &key);
    long at = find_frame(explanation, frame);
    if (!owner || at < 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such artifact");
    const json_t *seen = json_array_get(json_object_get(explanation, "frames"), (size_t)at);
    const json_t *member = json_array_get(json_object_get(owner, "frames"), (size_t)at);
    if (!read_numbers(json_object_get(explanation, "grid"), grid, 2, err) ||
        !read_numbers(json_object_get(seen, "box"), ret->box, 4, err))
        return false;
    if (!(grid[0] >= 1 && grid[0] <= MAX_GRID && grid[1] >= 1 && grid[1] <= MAX_GRID))
        return mf_error_set(err, MF_ERR_MALFORMED, "explanation: \"grid\" is out of range");
    ret->rows = (size_t)grid[0];
    ret->cols = (size_t)grid[1];
    ret->with_sign = key == ATTRIBUTION;
    size_t n = ret->rows * ret->cols;
    MF_AUTO(mf_mem) double *values = calloc(n, sizeof *values);
    ret->values = calloc(n, sizeof *ret->values);
    if (!values || !ret->values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    if (!read_numbers(json_object_get(member, key), values, n, err))
        return false;
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(values[i]));
    for (size_t i = 0; i < n; i++)
        ret->values[i] = most > 0 ? (float)(values[i] / most) : 0;
    return true;
}

/* --- drawing --- */

/* The map at the picture's size inside its box; 0 elsewhere. */
static bool stretch(const struct map *m, const struct mf_frame *f, size_t rows, size_t cols,
                    float *out, struct mf_error *err)
{
    size_t y0 = (size_t)fmax(0, m->box[1] * (double)rows / f->rows);
    size_t x0 = (size_t)fmax(0, m->box[0] * (double)cols / f->columns);
    size_t y1 = (size_t)fmin((double)rows, ceil(m->box[3] * (double)rows / f->rows));
    size_t x1 = (size_t)fmin((double)cols, ceil(m->box[2] * (double)cols / f->columns));
    if (y0 >= y1 || x0 >= x1)
        return mf_error_set(err, MF_ERR_MALFORMED, "explanation: \"box\" is empty");
    MF_AUTO(mf_resampler) struct mf_resampler r = {.threads = 1};
    if (!mf_resample_begin(&r, MF_FILTER_BILINEAR_ANTIALIAS, m->values, m->rows, m->cols, 1,
                           m->cols, y1 - y0, x1 - x0, err))
        return false;
    for (size_t y = y0; y < y1; y++)
        mf_resample_row(&r, y - y0, 0, x1 - x0, out + y * cols + x0);
    return true;
}

/* A grey value in [0, 1] under a map's value in [−1, 1]. */
static void colour(bool with_sign, float grey, float value, uint8_t rgb[3])
{
    static const float FOR[3] = {1, 0.2f, 0.1f}, AGAINST[3] = {0.15f, 0.35f, 1},
                       WARM[3] = {1, 0.8f, 0.1f};
    const float *c = !with_sign ? WARM : value > 0 ? FOR : AGAINST;
    float cover = 0.7f * fminf(1, fabsf(value));
    for (int i = 0; i < 3; i++)
        rgb[i] = (uint8_t)(255 * fminf(1, fmaxf(0, (1 - cover) * grey + cover * c[i])) + 0.5f);
}

bool mf_heatmap_draw(const json_t *explanation, const char *name,
                     const struct mf_heatmap_frame *frame, struct mf_buffer *out,
                     struct mf_error *err)
{
    const struct mf_frame *f = frame->picture;
    struct map m = {0};
    uint32_t rows, cols;
    mf_frame_picture_size(f, SIDE, &rows, &cols);
    size_t n = (size_t)rows * cols;
    bool ok = read_map(explanation, name, frame, &m, err);
    MF_AUTO(mf_mem) float *values = m.values;
    if (!ok)
        return false;
    MF_AUTO(mf_mem) float *whole = malloc((size_t)f->rows * f->columns * sizeof *whole);
    MF_AUTO(mf_mem) float *grey = malloc(n * sizeof *grey), *over = calloc(n, sizeof *over);
    MF_AUTO(mf_mem) uint8_t *rgb = malloc(n * 3);
    MF_AUTO(mf_resampler) struct mf_resampler r = {.threads = 1};
    if (!values || !whole || !grey || !over || !rgb)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    if (!mf_grayscale_display(f, whole, err) ||
        !mf_resample(&r, MF_FILTER_BILINEAR_ANTIALIAS, whole, f->rows, f->columns, 1, f->columns,
                     grey, rows, cols, err) ||
        !stretch(&m, f, rows, cols, over, err))
        return false;
    for (size_t i = 0; i < n; i++)
        colour(m.with_sign, grey[i], over[i], rgb + 3 * i);
    const struct mf_png png = {.rows = rows,
                               .columns = cols,
                               .channels = 3,
                               .bits = 8,
                               .samples = rgb,
                               .keyword = "Description",
                               .text = name};
    return mf_png_encode(&png, out, err);
}
