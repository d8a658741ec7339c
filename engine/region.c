/* From lung masks to the region of interest: largest component, gate, convex hull, dilation, blur,
 * box (DESIGN.md, "The network", 2). */
#include "engine/preprocess.h"

#include "engine/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The runs of set pixels of a mask, row by row; a run's root is the first run of its component.
 * A row of n pixels has at most (n + 1) / 2 runs, so four lists fit in the two scratch planes. */
struct runs {
    uint32_t *roots, *begins, *counts, *ends;
    uint32_t count;
};

/* The first run of the component that run i is known to belong to; halves the way for the next. */
static uint32_t root_of(uint32_t *roots, uint32_t i)
{
    while (roots[i] != i)
        i = roots[i] = roots[roots[i]];
    return i;
}

static void find_runs(const uint8_t *mask, size_t y, size_t size, struct runs *r)
{
    const uint8_t *row = mask + y * size, *end = row + size;
    for (const uint8_t *at = row; at < end && (at = memchr(at, 1, (size_t)(end - at)));) {
        const uint8_t *stop = memchr(at, 0, (size_t)(end - at));
        stop = stop ? stop : end;
        r->roots[r->count] = r->count;
        r->begins[r->count] = (uint32_t)(at - mask);
        r->ends[r->count] = (uint32_t)(stop - mask);
        r->count++;
        at = stop;
    }
}

/* Joins the runs from `first` on with those of the row above (from `above` on) that they touch,
 * also by a corner. */
static void join_rows(struct runs *r, uint32_t above, uint32_t first, uint32_t size)
{
    for (uint32_t i = first, k = above; i < r->count; i++) {
        uint32_t begin = r->begins[i] - size, end = r->ends[i] - size; /* in the row above */
        while (k < first && r->ends[k] < begin)
            k++;
        for (uint32_t n = k; n < first && r->begins[n] <= end; n++) {
            uint32_t a = root_of(r->roots, i), b = root_of(r->roots, n);
            r->roots[a < b ? b : a] = a < b ? a : b;
        }
    }
}

void mf_keep_largest(uint8_t *mask, size_t size, uint32_t *roots, uint32_t *counts)
{
    size_t most = size * ((size + 1) / 2);
    struct runs r = {roots, roots + most, counts, counts + most, 0};
    uint32_t above = 0, best = 0;
    for (size_t y = 0; y < size; y++) {
        uint32_t first = r.count;
        find_runs(mask, y, size, &r);
        if (y > 0)
            join_rows(&r, above, first, (uint32_t)size);
        above = first;
    }
    memset(r.counts, 0, r.count * sizeof *r.counts);
    for (uint32_t i = 0; i < r.count; i++)
        r.counts[root_of(r.roots, i)] += r.ends[i] - r.begins[i];
    for (uint32_t i = 1; i < r.count; i++)
        best = r.counts[i] > r.counts[best] ? i : best;
    for (uint32_t i = 0; i < r.count; i++)
        if (root_of(r.roots, i) != best)
            memset(mask + r.begins[i], 0, r.ends[i] - r.begins[i]);
}

enum { MAX_SIDE = 4096 };

struct point {
    long x, y;
};

static long cross(struct point a, struct point b, struct point c)
{
    return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

/* Andrew's monotone chain over the first and last set pixel of every column; `ends` has room for
 * 2 · size points, `chain` for twice that. */
static size_t hull_of(const uint32_t *first, const uint32_t *last, size_t size, struct point *ends,
                      struct point *chain)
{
    size_t n = 0, k = 0;
    for (size_t x = 0; x < size; x++) { /* by x, then y: the order the chain needs */
        if (first[x] >= size)
            continue;
        ends[n++] = (struct point){(long)x, (long)first[x]};
        if (last[x] != first[x])
            ends[n++] = (struct point){(long)x, (long)last[x]};
    }
    if (n < 3) {
        memcpy(chain, ends, n * sizeof *chain);
        return n;
    }
    for (size_t i = 0; i < n; i++) {
        while (k > 1 && cross(chain[k - 2], chain[k - 1], ends[i]) <= 0)
            k--;
        chain[k++] = ends[i];
    }
    for (size_t i = n - 1, low = k + 1; i-- > 0;) {
        while (k >= low && cross(chain[k - 2], chain[k - 1], ends[i]) <= 0)
            k--;
        chain[k++] = ends[i];
    }
    return k - 1;
}

static long floor_div(long a, long b)
{
    long q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

/* Narrows a row's run to the inner side of the edge a → b. */
static void clip(struct mf_run *run, long y, struct point a, struct point b)
{
    long dy = b.y - a.y, side = (b.x - a.x) * (y - a.y);
    if (dy > 0) { /* dy · (x − ax) ≤ side */
        long end = a.x + floor_div(side, dy) + 1;
        run->end = end < run->end ? (int)end : run->end;
    } else if (dy < 0) {
        long begin = a.x - floor_div(side, -dy);
        run->begin = begin > run->begin ? (int)begin : run->begin;
    } else if (side < 0) {
        run->end = run->begin;
    }
}

bool mf_fill_hull(const uint8_t *mask, size_t size, struct mf_run *runs)
{
    uint32_t first[MAX_SIDE], last[MAX_SIDE];
    if (size > MAX_SIDE)
        return false;
    for (size_t x = 0; x < size; x++) {
        first[x] = (uint32_t)size;
        last[x] = 0;
    }
    for (size_t y = 0; y < size; y++)
        for (size_t x = 0; x < size; x++)
            if (mask[y * size + x]) {
                first[x] = first[x] == size ? (uint32_t)y : first[x];
                last[x] = (uint32_t)y;
            }
    return mf_fill_hull_of(first, last, size, runs);
}

bool mf_fill_hull_of(const uint32_t *first, const uint32_t *last, size_t size, struct mf_run *runs)
{
    struct point ends[2 * MAX_SIDE], chain[4 * MAX_SIDE + 2];
    size_t n = size <= MAX_SIDE ? hull_of(first, last, size, ends, chain) : 0;
    if (n == 0)
        return false;
    long left = chain[0].x, right = left, top = chain[0].y, bottom = top;
    for (size_t i = 1; i < n; i++) {
        left = chain[i].x < left ? chain[i].x : left;
        right = chain[i].x > right ? chain[i].x : right;
        top = chain[i].y < top ? chain[i].y : top;
        bottom = chain[i].y > bottom ? chain[i].y : bottom;
    }
    for (long y = 0; y < (long)size; y++) {
        struct mf_run run = {(int)left, (int)right + 1};
        for (size_t i = 0; i < n; i++)
            clip(&run, y, chain[i], chain[(i + 1) % n]);
        bool empty = y < top || y > bottom || run.begin >= run.end;
        runs[y] = empty ? (struct mf_run){0, 0} : run;
    }
    return true;
}

size_t mf_disc(double radius, uint32_t *widths)
{
    size_t reach = radius < 0 ? 0 : radius > MF_REACH ? MF_REACH : (size_t)floor(radius);
    for (size_t dy = 0; dy <= reach; dy++) {
        size_t wide = 0;
        while ((double)((wide + 1) * (wide + 1) + dy * dy) <= radius * radius)
            wide++;
        widths[dy] = (uint32_t)wide;
    }
    return reach;
}

/* Row y of runs, `wide` further to both sides, within the square; false when it is empty. */
static bool widened(const struct mf_run *runs, long y, long side, long wide, long *begin, long *end)
{
    if (y < 0 || y >= side || runs[y].begin >= runs[y].end)
        return false;
    *begin = runs[y].begin - wide < 0 ? 0 : runs[y].begin - wide;
    *end = runs[y].end + wide > side ? side : runs[y].end + wide;
    return true;
}

void mf_dilate(const struct mf_run *runs, size_t size, double radius, float *out)
{
    uint32_t disc[MF_REACH + 1];
    long reach = (long)mf_disc(radius, disc), side = (long)size, begin, end;
    memset(out, 0, size * size * sizeof *out);
    for (long dy = -reach; dy <= reach; dy++)
        for (long y = 0; y < side; y++)
            if (y + dy >= 0 && y + dy < side &&
                widened(runs, y, side, (long)disc[labs(dy)], &begin, &end))
                for (long x = begin; x < end; x++)
                    out[(y + dy) * side + x] = 1;
}

static long clamp_index(long i, long n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* out[x] += k · row[x + by], the row's ends repeated. */
static void add_shifted(const float *row, long n, long by, float k, float *out)
{
    long low = clamp_index(-by, n + 1), high = clamp_index(n - by, n + 1);
    for (long x = 0; x < low; x++)
        out[x] += k * row[0];
    for (long x = low; x < high; x++)
        out[x] += k * row[x + by];
    for (long x = high; x < n; x++)
        out[x] += k * row[n - 1];
}

size_t mf_blur_weights(double sigma, float *weights)
{
    long reach = (long)ceil(3 * sigma);
    if (sigma <= 0 || reach > MF_REACH)
        return 0;
    double sum = 0;
    for (long i = -reach; i <= reach; i++)
        sum += exp(-(double)(i * i) / (2 * sigma * sigma));
    for (long i = -reach; i <= reach; i++)
        weights[i + reach] = (float)(exp(-(double)(i * i) / (2 * sigma * sigma)) / sum);
    return (size_t)reach;
}

void mf_blur(float *image, size_t rows, size_t cols, double sigma, float *scratch)
{
    float kernel[2 * MF_REACH + 1] = {0};
    long reach = (long)mf_blur_weights(sigma, kernel), h = (long)rows, w = (long)cols;
    if (reach == 0)
        return;
    memset(scratch, 0, rows * cols * sizeof *scratch);
    for (long y = 0; y < h; y++)
        for (long i = -reach; i <= reach; i++)
            add_shifted(image + y * w, w, i, kernel[i + reach], scratch + y * w);
    memset(image, 0, rows * cols * sizeof *image);
    for (long y = 0; y < h; y++)
        for (long i = -reach; i <= reach; i++)
            add_shifted(scratch + clamp_index(y + i, h) * w, w, 0, kernel[i + reach],
                        image + y * w);
}

/* First and last set position along one axis, widened by the margin, in frame pixels. */
static void span(size_t low, size_t high, double margin, size_t length, size_t size,
                 uint32_t *begin, uint32_t *end)
{
    double by = margin * (double)(high - low);
    double from = floor(((double)low - by) * (double)length / (double)size);
    double to = ceil(((double)high + by) * (double)length / (double)size);
    *begin = from < 0 ? 0 : (uint32_t)from;
    *end = to > (double)length ? (uint32_t)length : (uint32_t)to;
}

void mf_region_box(const struct mf_run *runs, size_t size, const uint32_t *disc, size_t reach,
                   size_t rows, size_t cols, double margin, uint32_t box[4])
{
    long side = (long)size, x0 = side, x1 = 0, y0 = side, y1 = 0, begin, end;
    for (long dy = -(long)reach; dy <= (long)reach; dy++)
        for (long y = 0; y < side; y++) {
            if (y + dy < 0 || y + dy >= side ||
                !widened(runs, y, side, (long)disc[labs(dy)], &begin, &end))
                continue;
            x0 = begin < x0 ? begin : x0;
            x1 = end > x1 ? end : x1;
            y0 = y + dy < y0 ? y + dy : y0;
            y1 = y + dy + 1 > y1 ? y + dy + 1 : y1;
        }
    span((size_t)x0, (size_t)x1, margin, cols, size, &box[0], &box[2]);
    span((size_t)y0, (size_t)y1, margin, rows, size, &box[1], &box[3]);
}

bool mf_region_of(const uint8_t *mask, size_t size, size_t rows, size_t cols,
                  const struct mf_segmentation_options *o, const struct mf_region_scratch *s,
                  uint32_t box[4])
{
    uint32_t disc[MF_REACH + 1];
    double radius = o->mask_dilation * (double)size;
    if (!mf_fill_hull(mask, size, s->runs))
        return false;
    mf_region_box(s->runs, size, disc, mf_disc(radius, disc), rows, cols, o->roi_margin, box);
    mf_dilate(s->runs, size, radius, s->soft);
    mf_blur(s->soft, size, size, o->mask_blur * (double)size, s->between);
    return true;
}

bool mf_region_weight(struct mf_resampler *r, const float *soft, size_t size, size_t rows,
                      size_t cols, float *weight, struct mf_error *err)
{
    return mf_resample(r, MF_FILTER_BILINEAR_ANTIALIAS, soft, size, size, 1, size, weight, rows,
                       cols, err);
}

struct weighting {
    const struct mf_resampler *r;
    float *image;
    size_t cols;
    const uint32_t *box;
    float base, rest;
};

static void weight_row(void *arg, size_t i)
{
    enum { BLOCK = 1024 };
    const struct weighting *w = arg;
    size_t y = w->box[1] + i;
    for (size_t x = w->box[0]; x < w->box[2]; x += BLOCK) {
        float m[BLOCK], *row = w->image + y * w->cols + x;
        size_t n = w->box[2] - x < BLOCK ? w->box[2] - x : BLOCK;
        mf_resample_row(w->r, y, x, n, m);
        for (size_t k = 0; k < n; k++)
            row[k] *= w->base + w->rest * m[k]; /* NOLINT: filled above */
    }
}

bool mf_region_apply(struct mf_resampler *r, const float *soft, size_t size, float *image,
                     size_t rows, size_t cols, const uint32_t box[4], double background,
                     struct mf_error *err)
{
    if (!mf_resample_begin(r, MF_FILTER_BILINEAR_ANTIALIAS, soft, size, size, 1, size, rows, cols,
                           err))
        return false;
    struct weighting w = {r, image, cols, box, (float)background, (float)(1 - background)};
    mf_host_parallel(r->threads, box[3] - box[1], weight_row, &w);
    return true;
}

const char *mf_gate_judge(const struct mf_gate *gate, const struct mf_gate_counts counts[2],
                          const float iou[2], const float object[2], size_t pixels)
{
    double area[2];
    for (int s = 0; s < 2; s++) {
        const struct mf_gate_counts *c = &counts[s];
        double stability = c->outer ? (double)c->inner / (double)c->outer : 1;
        area[s] = (double)c->set / (double)pixels;
        if (!(iou[s] >= gate->iou_score))
            return "iou_score";
        if (!(object[s] >= gate->object_score))
            return "object_score";
        if (!(stability >= gate->stability))
            return "stability";
        if (!(area[s] >= gate->area_low && area[s] <= gate->area_high))
            return "area";
    }
    return fmin(area[0], area[1]) >= gate->ratio * fmax(area[0], area[1]) ? NULL : "ratio";
}

const char *mf_gate_fails(const struct mf_gate *gate, const float *logits, size_t cells,
                          const float iou[2], const float object[2], const uint8_t *masks,
                          size_t pixels)
{
    struct mf_gate_counts counts[2] = {{0}, {0}};
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < cells; i++) {
            counts[s].inner += logits[s * cells + i] > MF_GATE_DELTA;
            counts[s].outer += logits[s * cells + i] > -MF_GATE_DELTA;
        }
        for (size_t i = 0; i < pixels; i++)
            counts[s].set += masks[s * pixels + i];
    }
    return mf_gate_judge(gate, counts, iou, object, pixels);
}
