/* The inside of struct mf_frames, for frames.c and frames_masks.c. */
#ifndef MF_ENGINE_FRAMES_PRIVATE_H
#define MF_ENGINE_FRAMES_PRIVATE_H

#include "engine/frame_ops.h"
#include "engine/frames.h"

enum { MF_FRAMES_SLOTS = 2, MF_FRAMES_TABLE = 65536 };

/* Memory of the device. */
struct mf_frames_buffer {
    void *memory;
    size_t bytes;
};

struct mf_frames {
    const struct mf_ops *device;
    const struct mf_frame_ops *ops;
    struct mf_backend *be;
    size_t size;       /* of the segmenter's side; 0: none */
    size_t rows, cols; /* of the frame in `image` */
    int slot;          /* the next place for samples */
    /* Growing: samples by turns, display values, an axis's sums, taps. */
    struct mf_frames_buffer raw[MF_FRAMES_SLOTS], image, between, taps;
    /* Fixed: */
    struct mf_frames_buffer table, counts, equalise, cells, sums;
    struct mf_frames_buffer head; /* adapt_device.c's, growing */
    struct mf_frames_buffer grey, logits, masks, labels, sizes, best, soft, facts, shape;
    /* Host: */
    float *host_table, *host_cells;
    uint32_t *host_counts, *host_facts;
    double *host_sums;
    int32_t *host_shape;
    struct mf_resampler axes; /* taps alone */
    char *host_taps;
    float *host_image; /* of frames without a table */
    size_t host_taps_room, host_image_room;
};

/* Makes a buffer at least so large; what was in it is lost. */
bool mf_frames_grow(struct mf_frames *f, struct mf_frames_buffer *b, size_t bytes,
                    struct mf_error *err);
/* The taps of both axes on the device. */
bool mf_frames_axes(struct mf_frames *f, enum mf_filter filter, size_t rows, size_t cols,
                    size_t out_rows, size_t out_cols, struct mf_device_axis axes[2],
                    struct mf_error *err);

#endif
