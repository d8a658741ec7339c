/*
 * Volume: the frames of one CT or MR series → the planes of one regular stack, and what had to be
 * left out or is not as a volume should be.
 *
 * Slices are ordered by ImagePositionPatient along the normal of ImageOrientationPatient (PS3.3
 * C.7.6.2.1.1). One orientation, size and pixel spacing make the volume: those that most frames
 * have. Of slices at one position the first by instance number is used. Gaps, uneven distances and
 * a tilted gantry are told, and nothing is sheared: a slice stays the plane that was acquired.
 *
 * The stack that is made of them keeps the extents, edge to edge: an axis of n samples at spacing s
 * gets round(n · s / voxel) samples, at least one, and their spacing is n · s divided by that.
 */
#ifndef MF_DICOM_VOLUME_H
#define MF_DICOM_VOLUME_H

#include "core/arena.h"
#include "core/error.h"
#include "dicom/index.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_study_frame;

enum mf_volume_choice {
    MF_VOLUME_UNIFORM, /* of n planes round(k·(n−1)/(max−1)), as for other sequences */
    MF_VOLUME_CENTRAL, /* neighbours around the middle */
    MF_VOLUME_RANGE    /* uniform among those whose middle lies within a share of the extent */
};

/* What a bundle asks for. */
struct mf_volume_rules {
    double voxel[3]; /* slice, row, column; mm */
    enum mf_volume_choice choice;
    double range[2]; /* shares of the extent along the normal, low < high */
    uint32_t max_slices;
};

struct mf_volume {
    const struct mf_study_frame *slices; /* ascending along the normal, one a position */
    size_t slice_count;                  /* at least 2 */
    const double *positions;             /* of the slices along the normal, mm */
    uint32_t rows, columns;              /* of a slice */
    double orientation[6];               /* of its rows and columns, unit length */
    double spacing[3];                   /* slice (median), row, column; mm */
    size_t size[3];                      /* of the stack: planes, rows, columns */
    double voxel[3];                     /* of the stack, mm */
    const size_t *chosen; /* the planes of the sequence, ascending; chosen_count of them */
    size_t chosen_count;
    /* What is not as a volume should be. */
    size_t gaps; /* distances above one and a half times the median */
    double largest_distance, tilt_degrees;
    bool uneven;                       /* a distance is off by more than 2 %, gaps aside */
    size_t duplicates, other_geometry; /* frames left out */
};

enum {
    MF_VOLUME_SLICES = 20000, /* planes of a stack */
    MF_VOLUME_SIDE = 4096     /* rows, columns of a plane */
};

/* Degrees from which on a tilt is worth telling. */
#define MF_VOLUME_TILT 0.5

/* Position of plane `plane` along the normal, mm. */
double mf_volume_plane_position(const struct mf_volume *volume, size_t plane);
/* Where that is among the slices: 1.5 = half-way between the second and the third. Between two
 * slices it is linear, before the first and after the last it goes on by the median distance. */
double mf_volume_plane_index(const struct mf_volume *volume, size_t plane);
/* The slice nearest to it. */
size_t mf_volume_plane_slice(const struct mf_volume *volume, size_t plane);

/* Position and orientation of one frame, or NULL. */
const double *mf_volume_frame_position(const struct mf_index_object *object, uint32_t frame);
const double *mf_volume_frame_orientation(const struct mf_index_object *object, uint32_t frame);

/* Why a frame is not part of the volume. */
enum mf_volume_fate { MF_VOLUME_USED, MF_VOLUME_DUPLICATE, MF_VOLUME_OTHER, MF_VOLUME_NOWHERE };

/* Makes the volume of `count` frames of one series, in any order; `ret_fates` gets one entry a
 * frame. Everything lives in the arena. MF_ERR_UNUSABLE says why the series is none: no positions,
 * one slice, no spacing, a stack beyond the limits above. */
const struct mf_volume *mf_volume_make(struct mf_arena *arena, const struct mf_study_frame *frames,
                                       size_t count, const struct mf_volume_rules *rules,
                                       enum mf_volume_fate *ret_fates,
                                       struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
