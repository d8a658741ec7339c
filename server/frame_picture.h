/*
 * Pictures of decoded frames: what a viewer shows, and the values behind it for a viewer that sets
 * its own window. One place for the page, the report and whoever fetches frames.
 */
#ifndef MF_SERVER_FRAME_PICTURE_H
#define MF_SERVER_FRAME_PICTURE_H

#include "core/buffer.h"
#include "core/frame.h"
#include "server/viewport.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_frame_picture {
    uint32_t bits; /* 8: as displayed, grey or RGB. 16: modality values, grey frames only */
    uint32_t side; /* the longer side is at most so long (antialiased); 0 = as it is */
    /* Of 8 bits only: */
    const struct mf_viewport *viewport; /* decides part and size instead of `side`, or NULL */
    uint32_t jpeg_quality;              /* 1 … 100: a JPEG; 0: a PNG */
};

/* Appends a PNG, or a JPEG. With 16 bits the chunk pCAL says which modality values the samples are:
 * one unit a sample where all are whole numbers within 65,536 of each other, else stretched between
 * the smallest and the largest. The text "Display range" holds the two modality values that are
 * shown black and white (a table or sigmoid by the ends of its range). MF_ERR_UNUSABLE: 16 bits of
 * a colour frame, a JPEG that would be too large; MF_ERR_MALFORMED: mf_viewport_cut(). */
bool mf_frame_picture(const struct mf_frame *frame, const struct mf_frame_picture *wanted,
                      struct mf_buffer *out, struct mf_error *err) MF_CHECK_RESULT;

/* The size of that picture. */
void mf_frame_picture_size(const struct mf_frame *frame, uint32_t side, uint32_t *ret_rows,
                           uint32_t *ret_columns);

#ifdef __cplusplus
}
#endif

#endif
