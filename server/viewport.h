/*
 * Viewport: which part of a frame is shown, and in which size (PS3.18 8.3.5.1.3). The region is cut
 * out first, then made as large as fits into the viewport without distortion.
 */
#ifndef MF_SERVER_VIEWPORT_H
#define MF_SERVER_VIEWPORT_H

#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_VIEWPORT_SIDE = 8192 }; /* of a viewport, at most */

struct mf_viewport {
    uint32_t columns, rows; /* the size of what it is shown in */
    /* The region in pixels of the frame: its upper left corner; its size, 0 = to the frame's edge.
     * A negative width mirrors the picture left to right, a negative height turns it upside down.
     */
    double x, y, width, height;
};

/* "vw,vh[,[sx],[sy],[sw],[sh]]"; what is left out between commas has its default. MF_ERR_MALFORMED
 * says how it must be written. */
bool mf_viewport_parse(const char *text, struct mf_viewport *ret,
                       struct mf_error *err) MF_CHECK_RESULT;

/* A cut of a frame in whole pixels, and the size that it is shown in. */
struct mf_cut {
    uint32_t x, y, columns, rows; /* in the frame */
    uint32_t shown_columns, shown_rows;
    bool mirrored, upside_down;
};

/* What a viewport shows of a frame of this size. MF_ERR_MALFORMED: the region has no pixel, or lies
 * outside the frame. */
bool mf_viewport_cut(const struct mf_viewport *viewport, uint32_t columns, uint32_t rows,
                     struct mf_cut *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
