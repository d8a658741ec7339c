/*
 * Reslicing: the slices of a volume, one at a time, → chosen planes of a regular stack.
 *
 * Every plane is a weighted sum of slices (a windowed sinc along the normal, resample.h's
 * MF_FILTER_SINC, stretched where planes are farther apart than slices; the first and the last
 * slice repeated), and is resampled once it is complete. So memory is what the planes take, however
 * many slices there are, and slices that no plane is made of need not be decoded.
 */
#ifndef MF_ENGINE_RESLICE_H
#define MF_ENGINE_RESLICE_H

#include "core/auto.h"
#include "core/error.h"
#include "core/frame.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_reslice_plan {
    size_t slices;          /* stored ones */
    uint32_t rows, columns; /* of a stored slice */
    size_t planes;
    const double *at; /* of every plane: where it is among the slices, 0 = the first */
    double stretch;   /* distance of planes / distance of slices */
    size_t plane_rows, plane_columns;
    float background; /* the modality value that padding stands for */
    int threads;      /* 0 = one for each core */
};

struct mf_reslice;

/* Copies what it needs of the plan. */
struct mf_reslice *mf_reslice_new(const struct mf_reslice_plan *plan,
                                  struct mf_error *err) MF_CHECK_RESULT;
void mf_reslice_free(struct mf_reslice *reslice);

/* Whether slice `slice` is part of any plane. */
bool mf_reslice_needs(const struct mf_reslice *reslice, size_t slice);

/* Adds a slice: its modality values (HU for CT). Each that is needed is added once, in any order.
 * MF_ERR_MALFORMED: not of the plan's size. */
bool mf_reslice_add(struct mf_reslice *reslice, size_t slice, const struct mf_frame *frame,
                    struct mf_error *err);

/* Once all are added: the planes, (planes, plane_rows, plane_columns) floats; the caller frees
 * them. NULL without memory. */
float *mf_reslice_finish(struct mf_reslice *reslice, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_reslice, struct mf_reslice *, mf_reslice_free(*p))

#endif
