/*
 * Results as DICOM objects: a `medfusion.result/1` with the index of its upload and its masks → the
 * objects that a PACS keeps beside the images (IHE AI Results).
 *
 *   sr     Comprehensive 3D SR, TID 1500: every finding with probability, conformal state, what the
 *          guarantee covers, the images, the model
 *   seg    Segmentation: the lungs, one object for each frame of reference and size of image
 *   sc     Secondary Capture: the picture with outlines and findings, for viewers that know no more
 *   gsps   Grayscale Softcopy Presentation State: the same outlines over the original image
 *   kos    Key Object Selection: the images, when a finding is present
 *   map    Segmentation of fractions: where the explanation found what mattered for a label
 *
 * The objects are of the patient and study of the images, in series of their own, in UTF-8. Their
 * UIDs are made from the result, so making them twice gives the same objects.
 */
#ifndef MF_DICOM_WRITE_H
#define MF_DICOM_WRITE_H

#include "core/auto.h"
#include "core/buffer.h"
#include "core/error.h"
#include "core/frame.h"
#include "core/json.h"
#include "dicom/index.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_object_kind {
    MF_OBJECT_SR,
    MF_OBJECT_SEG,
    MF_OBJECT_SC,
    MF_OBJECT_GSPS,
    MF_OBJECT_KOS,
    MF_OBJECT_MAP,
    MF_OBJECT_KIND_COUNT
};

/* What objects are made of; all of it is borrowed and must outlive the set. */
struct mf_write_source {
    const struct mf_index *index;
    const json_t *result;      /* medfusion.result/1 */
    const json_t *masks;       /* medfusion.masks/1 (core/mask.h), or NULL */
    const json_t *explanation; /* medfusion.explanation/1, or NULL */
    int64_t made_ms;           /* when the result was made, since 1970 */
    /* The report that this one replaces (its series and instance, in the same study), or NULL. */
    const char *replaced_series_uid, *replaced_instance_uid;
};

struct mf_write_item {
    enum mf_object_kind kind;
    char name[16]; /* "sr"; the second of a kind is "seg-2" */
    const char *sop_class_uid;
    char series_instance_uid[65], sop_instance_uid[65];
    bool needs_picture; /* see mf_write_set_picture() */
};

struct mf_write_set;

/* Decides what can be made. MF_ERR_MALFORMED: result, index, masks and explanation do not belong
 * together or are not what they claim; MF_ERR_UNUSABLE: the images lack the UIDs that objects must
 * refer to. */
struct mf_write_set *mf_write_set_new(const struct mf_write_source *source,
                                      struct mf_error *err) MF_CHECK_RESULT;
void mf_write_set_free(struct mf_write_set *set);

/* Everything that can be made, in the order of the kinds. A result without masks has no seg, one
 * without a present finding no kos, one of colour images no gsps, one without an explanation no
 * map. */
const struct mf_write_item *mf_write_set_items(const struct mf_write_set *set, size_t *count);
/* The item of this name, or NULL. */
const struct mf_write_item *mf_write_set_find(const struct mf_write_set *set, const char *name);

/* The frame that sc and gsps show: which object of the index, and which of its frames. Decoding it
 * is the caller's; `picture` is borrowed and needed by items that say so. */
const struct mf_index_object *mf_write_set_picture(const struct mf_write_set *set,
                                                   uint32_t *ret_frame);
void mf_write_set_give_picture(struct mf_write_set *set, const struct mf_frame *picture);

/* One object as a Part 10 file, appended to `out`. */
bool mf_write_object(const struct mf_write_set *set, const struct mf_write_item *item,
                     struct mf_buffer *out, struct mf_error *err) MF_CHECK_RESULT;

const char *mf_object_kind_name(enum mf_object_kind kind); /* "sr" */

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_write_set, struct mf_write_set *, mf_write_set_free(*p))

#endif
