/* Collect: the elements of one data set → one entry of the index (visitor of the pre-scanner). */
#ifndef MF_DICOM_COLLECT_H
#define MF_DICOM_COLLECT_H

#include "dicom/index.h"
#include "dicom/prescan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_MAX_FRAMES = 100000 };

struct mf_collector {
    struct mf_arena *arena;
    struct mf_index_object *object; /* zeroed by the caller */
    char charset[256];              /* SpecificCharacterSet of the data set */
    int64_t frames;                 /* NumberOfFrames as given, 0 = absent */
};

/* A mf_prescan_visit with a struct mf_collector as context. */
bool mf_collect(void *collector, const struct mf_prescan_element *element, struct mf_error *err);

/* The text of an element: padding dropped, spaces trimmed, no control characters; in the character
 * set `charset` (SpecificCharacterSet, "" = ASCII) as UTF-8, or with NULL as ASCII, other bytes
 * being
 * '?'. At most size − 1 bytes, and 255 of UTF-8. */
void mf_collect_text(const struct mf_prescan_element *element, const char *charset, char *out,
                     size_t size);

/* After the pre-scan: derives what depends on several attributes, checks the image attributes
 * against the pixel data (C.7.6.3) and assigns fragments to frames. `samples` is the most samples
 * of a frame. */
bool mf_collect_finish(struct mf_collector *collector, const struct mf_prescan *prescan,
                       uint64_t samples, struct mf_error *err) MF_CHECK_RESULT;

/* Consistency of an object's image attributes with the pixel data that it has; sets `problem` for
 * images that are sound but cannot be displayed. Also applied to an index that is read back. */
bool mf_image_check(struct mf_index_object *object, uint64_t samples,
                    struct mf_error *err) MF_CHECK_RESULT;

/* Fills fragments and frame_fragments from the offset tables (PS3.5 A.4; extended, basic, or the
 * codestreams' own start markers when both are empty). */
bool mf_fragments_assign(struct mf_arena *arena, struct mf_index_object *object,
                         const struct mf_prescan *prescan, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
