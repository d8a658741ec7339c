/*
 * Masks of a result, `medfusion.masks/1`: what the segmenter outlined in the frames that were
 * analysed. The document is kept beside the result it belongs to, so that a segmentation object can
 * be made at any later time.
 *
 *   {"schema": "medfusion.masks/1",
 *    "masks": [{"frame": 0, "structure": "image_left", "rows": 256, "columns": 256,
 *               "runs": [1042, 17, …]}, …]}
 *
 * `frame` counts the result's frames; a frame without masks had no region that could be trusted. A
 * mask covers its whole frame, stretched to rows × columns. `runs` are the lengths of alternating
 * runs of clear and set pixels, row by row, beginning with clear ones, and sum to rows · columns.
 */
#ifndef MF_CORE_MASK_H
#define MF_CORE_MASK_H

#include "core/arena.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_structure {
    MF_STRUCTURE_IMAGE_LEFT,  /* the lung at the left of the picture */
    MF_STRUCTURE_IMAGE_RIGHT, /* the other one */
    MF_STRUCTURE_COUNT
};

struct mf_mask {
    uint32_t frame; /* index into the result's frames */
    enum mf_structure structure;
    uint32_t rows, columns; /* at most MF_MASK_SIDE */
    const uint8_t *pixels;  /* rows · columns of 0 and 1 */
};

enum { MF_MASK_SIDE = 4096 };

const char *mf_structure_name(enum mf_structure structure); /* "image_left" */

/* An empty document, and adding a mask to it. The caller owns the document; NULL or false when out
 * of memory. */
json_t *mf_masks_new(void);
bool mf_masks_add(json_t *masks, const struct mf_mask *mask);

/* Reads a document; the masks live in the arena. `frames` is the number of frames of the result.
 * MF_ERR_MALFORMED names what is wrong. */
bool mf_masks_parse(const json_t *masks, size_t frames, struct mf_arena *arena,
                    struct mf_mask **ret, size_t *ret_count, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
