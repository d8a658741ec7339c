/* Reslicing: see reslice.h. Weights are kept as a table, (planes, slices): it is small beside the
 * planes. */
#include "engine/reslice.h"

#include "core/grayscale.h"
#include "engine/host.h"
#include "engine/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct mf_reslice {
    struct mf_reslice_plan plan;
    float *weights; /* (planes, slices) */
    float *sums;    /* (planes, rows · columns) */
    float *slice;   /* (rows · columns), the one being added */
};

static size_t slice_pixels(const struct mf_reslice *r)
{
    return (size_t)r->plan.rows * r->plan.columns;
}

/* The weights of one plane; they sum to one. */
static void fill_weights(const struct mf_reslice_plan *plan, double at, float *weights)
{
    double stretch = plan->stretch > 1 ? plan->stretch : 1, sum = 0;
    long first = (long)ceil(at - MF_SINC_REACH * stretch),
         end = (long)floor(at + MF_SINC_REACH * stretch) + 1, last = (long)plan->slices - 1;
    for (long k = first; k < end; k++)
        sum += mf_filter_sinc(((double)k - at) / stretch);
    for (long k = first; k < end; k++)
        weights[k < 0      ? 0
                : k > last ? last
                           : k] += (float)(mf_filter_sinc(((double)k - at) / stretch) / sum);
}

struct mf_reslice *mf_reslice_new(const struct mf_reslice_plan *plan, struct mf_error *err)
{
    MF_AUTO(mf_reslice) struct mf_reslice *r = calloc(1, sizeof *r);
    if (r) {
        r->plan = *plan;
        r->weights = calloc(plan->planes * plan->slices, sizeof *r->weights);
        r->sums = calloc(plan->planes * slice_pixels(r), sizeof *r->sums);
        r->slice = malloc(slice_pixels(r) * sizeof *r->slice);
    }
    if (!r || !r->weights || !r->sums || !r->slice) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu planes of a volume",
                     plan->planes);
        return NULL;
    }
    if (r->plan.threads <= 0)
        r->plan.threads = mf_host_cores();
    for (size_t p = 0; p < plan->planes; p++)
        fill_weights(plan, plan->at[p], r->weights + p * plan->slices);
    r->plan.at = NULL; /* the caller's */
    return MF_STEAL(r);
}

void mf_reslice_free(struct mf_reslice *r)
{
    if (!r)
        return;
    free(r->weights);
    free(r->sums);
    free(r->slice);
    free(r);
}

bool mf_reslice_needs(const struct mf_reslice *r, size_t slice)
{
    for (size_t p = 0; p < r->plan.planes; p++)
        if (r->weights[p * r->plan.slices + slice] != 0)
            return true;
    return false;
}

/* One slice on its way into the planes. */
struct addition {
    struct mf_reslice *r;
    size_t slice;
};

static void add_to_plane(void *arg, size_t plane)
{
    const struct addition *a = arg;
    struct mf_reslice *r = a->r;
    float weight = r->weights[plane * r->plan.slices + a->slice];
    const float *rows[] = {r->slice};
    if (weight != 0)
        mf_host_weighted_sum(rows, &weight, 1, slice_pixels(r), true,
                             r->sums + plane * slice_pixels(r));
}

bool mf_reslice_add(struct mf_reslice *r, size_t slice, const struct mf_frame *frame,
                    struct mf_error *err)
{
    struct addition a = {r, slice};
    if (frame->rows != r->plan.rows || frame->columns != r->plan.columns)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "a slice of the volume has %u x %u pixels, not %u x %u", frame->rows,
                            frame->columns, r->plan.rows, r->plan.columns);
    if (!mf_grayscale_filled(frame, &r->plan.background, r->slice, err))
        return false;
    mf_host_parallel(r->plan.threads, r->plan.planes, add_to_plane, &a);
    return true;
}

float *mf_reslice_finish(struct mf_reslice *r, struct mf_error *err)
{
    const struct mf_reslice_plan *p = &r->plan;
    size_t pixels = p->plane_rows * p->plane_columns;
    MF_AUTO(mf_resampler) struct mf_resampler resampler = {.threads = p->threads};
    MF_AUTO(mf_mem) float *out = malloc(p->planes * pixels * sizeof *out);
    if (!out) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu planes of a volume", p->planes);
        return NULL;
    }
    for (size_t k = 0; k < p->planes; k++)
        if (!mf_resample(&resampler, MF_FILTER_SINC, r->sums + k * slice_pixels(r), p->rows,
                         p->columns, 1, p->columns, out + k * pixels, p->plane_rows,
                         p->plane_columns, err))
            return NULL;
    return MF_STEAL(out);
}
