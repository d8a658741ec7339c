/* Segmentation objects of any content: the lungs' masks, or a map of values. Private to write*.c.
 */
#ifndef MF_DICOM_WRITE_SEG_H
#define MF_DICOM_WRITE_SEG_H

#include "dicom/write_private.h"

struct mf_seg_segment {
    const char *label;
    struct mf_coded category, type;
    const struct mf_coded *laterality; /* or NULL */
    int64_t colour[3];                 /* CIELab as PS3.3 C.10.7.1.1 scales it */
    char tracking_uid[MF_UID];
};

/* One plane: what a segment is in a frame. */
struct mf_seg_plane {
    size_t frame;   /* of the set */
    size_t segment; /* from 0 */
    /* Fills rows · columns: 0 and 1, or 0…255 of a map. */
    void (*fill)(const void *context, uint32_t rows, uint32_t columns, uint8_t *out);
    const void *context;
};

struct mf_seg_content {
    const char *label, *description; /* Content Label (a CS) and Description */
    bool map;                        /* FRACTIONAL with probabilities, else BINARY */
    const struct mf_seg_segment *segments;
    size_t segment_count;
    const struct mf_seg_plane *planes; /* of frames of one group */
    size_t plane_count;
};

/* Everything after the common modules. */
bool mf_put_segmentation(struct mf_writer *w, const struct mf_write_set *set,
                         const struct mf_write_item *item, const struct mf_seg_content *content,
                         struct mf_arena *arena, struct mf_error *err);

#endif
