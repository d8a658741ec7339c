/* What the writers of DICOM objects share: the resolved frames of a result, UIDs, and the modules
 * that all objects have. Private to write*.c. */
#ifndef MF_DICOM_WRITE_PRIVATE_H
#define MF_DICOM_WRITE_PRIVATE_H

#include "core/arena.h"
#include "core/mask.h"
#include "dicom/write.h"
#include "dicom/writer.h"

enum { MF_UID = 65 };

/* A frame of the result and the object it lies in. */
struct mf_write_frame {
    const struct mf_index_object *object;
    uint32_t frame; /* 0-based */
    bool prior;
    bool segmented;  /* a region was found; only then it has masks */
    uint32_t box[4]; /* the region: x0 y0 x1 y1, half-open */
    const struct mf_mask *masks[MF_STRUCTURE_COUNT]; /* NULL = none */
};

/* Frames that one segmentation covers: equal size and, if there is one, frame of reference. */
struct mf_write_group {
    size_t first; /* the first of its frames */
    size_t count; /* how many it has */
};

/* The current frames that there is something to say of, in groups. */
struct mf_write_groups {
    struct mf_write_group *list;
    size_t count;
    size_t *of; /* frame → group, or SIZE_MAX */
};

/* The relevance of one label: `rows` · `columns` of every frame's box, 0…1. */
struct mf_write_map {
    const json_t *prediction; /* of the result */
    const float *values;      /* (frames, rows, columns) */
};

/* The maps of an explanation; without one there is no map. */
struct mf_write_maps {
    struct mf_write_map *list;
    size_t count;
    uint32_t rows, columns;
};

struct mf_write_set {
    struct mf_arena *arena; /* owns everything */
    const struct mf_write_source *source;
    struct mf_write_frame *frames; /* oldest first, as in the result */
    size_t frame_count;
    size_t newest; /* the newest current frame: its object names patient and study */
    size_t shown;  /* the frame of the picture */
    struct mf_write_groups segmented, mapped;
    struct mf_write_maps maps;
    struct mf_write_item *items;
    size_t item_count;
    const struct mf_frame *picture;
    unsigned char seed[32]; /* SHA-256 of the result without its timing */
    char date[9], time[14]; /* of the result, in the zone of the images */
};

/* A code (PS3.3 8.8). */
struct mf_coded {
    const char *value, *scheme, *meaning;
};

/* A label's code: the first of its codings that DICOM has a designator for, else one of ours. */
struct mf_coded mf_write_label_code(const json_t *prediction);
/* Whether the conformal set of the prediction is {present}. */
bool mf_write_is_present(const json_t *prediction);
/* "Pleural effusion: 0.71, present (valid)": a line for people. */
const char *mf_write_finding_line(struct mf_arena *arena, const json_t *prediction,
                                  struct mf_error *err);
/* "At alpha = 0.1 …": what the guarantee of the prediction says. */
const char *mf_write_coverage(struct mf_arena *arena, const json_t *result,
                              const json_t *prediction, struct mf_error *err);
const json_t *mf_write_predictions(const struct mf_write_set *set);
const char *mf_write_model(const struct mf_write_set *set, const char *key);
/* Which lung a structure of an image is: 'R', 'L', or 0 when the image does not say how it lies. */
char mf_write_side(const struct mf_index_object *object, enum mf_structure structure);
/* "Right lung"; of an image that does not say how it lies "Lung at the left of the image". */
const char *mf_write_lung(const struct mf_index_object *object, enum mf_structure structure);
extern const struct mf_coded mf_coded_lung, mf_coded_right, mf_coded_left;

/* A UID of this result for `what` ("sr.instance", …): 2.25 and a UUID (PS3.5 B.2). */
void mf_write_uid(const struct mf_write_set *set, const char *what, char out[MF_UID]);
/* The UID of the model as a device: the same for all results of one digest. */
void mf_write_device_uid(const struct mf_write_set *set, char out[MF_UID]);

/* Which frame there is something to say of. */
typedef bool mf_write_in_group(const struct mf_write_set *set, size_t frame);
/* Groups the current frames that are in (write.c). */
bool mf_write_group_frames(struct mf_write_set *set, mf_write_in_group *in,
                           struct mf_write_groups *ret, struct mf_error *err);
/* The maps of the source's explanation, and the groups of their frames (write_map.c). */
bool mf_write_read_maps(struct mf_write_set *set, struct mf_error *err);

/* --- modules (write_modules.c) --- */

void mf_put_code(struct mf_writer *w, enum mf_keyword sequence, const struct mf_coded *code);
/* Patient, General Study, the series, General and Enhanced General Equipment, SOP Common. */
void mf_put_common(struct mf_writer *w, const struct mf_write_set *set,
                   const struct mf_write_item *item, const char *modality, const char *description);
/* Declares the coding scheme of our own codes. */
void mf_put_our_scheme(struct mf_writer *w);
/* Referenced SOP Class and Instance, and the frame of a multi-frame object. */
void mf_put_reference(struct mf_writer *w, const struct mf_write_frame *frame);
/* The order as SR and key objects refer to it; nothing when the images name none. */
void mf_put_referenced_request(struct mf_writer *w, const struct mf_write_set *set);
/* All distinct objects of frames for which prior = `prior`, as a Hierarchical SOP Instance
 * Reference Macro (10.6.1: study, series, instances). */
void mf_put_evidence(struct mf_writer *w, const struct mf_write_set *set, enum mf_keyword sequence,
                     bool prior);
/* Whether the object of frame i was met before among frames of the same role. */
bool mf_write_seen(const struct mf_write_set *set, size_t i);
/* Lossy Image Compression of what is derived from the frame (C.7.6.1.1.5). */
void mf_put_lossy(struct mf_writer *w, const struct mf_write_frame *frame);

/* --- pixels of masks (write_mask.c) --- */

/* The mask at the size of its frame: bilinear between mask pixels, set where at least one half (in
 * exact arithmetic); equal sizes give the mask itself. `out`: rows · columns of 0 and 1. */
void mf_mask_stretch(const struct mf_mask *mask, uint32_t rows, uint32_t columns, uint8_t *out);
/* The outline of the mask as a closed polygon along pixel edges, (x, y) pairs in a frame of this
 * size, 0 0 being the corner of its first pixel. *ret_count counts points; the last equals the
 * first. 0 for an empty mask. */
bool mf_mask_outline(const struct mf_mask *mask, uint32_t rows, uint32_t columns,
                     struct mf_arena *arena, double **ret, size_t *ret_count, struct mf_error *err);

/* --- the kinds --- */

bool mf_write_sr(struct mf_writer *w, const struct mf_write_set *set,
                 const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err);
bool mf_write_seg(struct mf_writer *w, const struct mf_write_set *set,
                  const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err);
bool mf_write_sc(struct mf_writer *w, const struct mf_write_set *set,
                 const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err);
bool mf_write_gsps(struct mf_writer *w, const struct mf_write_set *set,
                   const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err);
bool mf_write_kos(struct mf_writer *w, const struct mf_write_set *set,
                  const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err);
bool mf_write_map(struct mf_writer *w, const struct mf_write_set *set,
                  const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err);

#endif
