/*
 * Pre-scanner: the structure of a DICOM file, checked before anything else looks at it (PS3.10,
 * PS3.5).
 *
 * One pass over the bytes without recursion: file meta information, every element of the data set,
 * nested sequences of defined or undefined length to 64 levels, encapsulated pixel data. No length
 * is believed beyond the bytes that are there, and memory does not grow with nesting or lengths. A
 * visitor sees every element; the deflated transfer syntax is inflated under caps first.
 */
#ifndef MF_DICOM_PRESCAN_H
#define MF_DICOM_PRESCAN_H

#include "core/auto.h"
#include "core/error.h"
#include "dicom/index.h"
#include "dicom/inflate.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_PRESCAN_DEPTH = 64, MF_PRESCAN_ELEMENTS = 4000000 };

/* One level of nesting: item `item` (0-based) of sequence `tag`. */
struct mf_prescan_level {
    uint32_t tag; /* group << 16 | element */
    uint32_t item;
};

struct mf_prescan_element {
    uint32_t tag;
    char vr[3];           /* "UN" for implicit VR: the reader knows what it looks for */
    bool big_endian;      /* of this element's value */
    const uint8_t *value; /* NULL for sequences and encapsulated pixel data */
    uint32_t length;
    uint64_t offset;                       /* of the value in the data set's bytes */
    uint32_t depth;                        /* 0 = in the data set itself */
    const struct mf_prescan_level *levels; /* `depth` entries, outermost first */
};

/* Called for each element in file order, the meta group left out; returning false stops with `err`.
 */
typedef bool mf_prescan_visit(void *context, const struct mf_prescan_element *element,
                              struct mf_error *err);

struct mf_prescan {
    char transfer_syntax[65];
    bool implicit_vr, big_endian, deflated, encapsulated; /* of the transfer syntax */
    const uint8_t *bytes; /* what offsets count from: the input, or the inflated data set */
    size_t length;
    uint64_t data_set, end;         /* where in them the data set begins and ends */
    uint32_t irregular;             /* bits of enum mf_irregularity (index.h) */
    struct mf_range deflated_range; /* of the input, when deflated */
    unsigned char *inflated;        /* owned */

    enum mf_pixel_data pixel_data;
    bool pixel_words;       /* VR OW */
    bool fragmented;        /* the pixel data is a sequence of fragments */
    struct mf_range pixels; /* native value */
    struct mf_range offset_table, extended_offsets, extended_lengths; /* length 0 = absent */
    struct mf_range *fragments;                                       /* owned */
    uint32_t fragment_count;
};

/* True when the bytes start like a DICOM file: the prefix "DICM", or a plausible first element. */
bool mf_prescan_plausible(const void *data, size_t length);

/* Scans `length` bytes. On success free `ret` with mf_prescan_free(); `ret` borrows `data` until
 * then. MF_ERR_MALFORMED, MF_ERR_TOO_LARGE (element count, inflation), or what the visitor set. */
bool mf_prescan_run(const void *data, size_t length, struct mf_inflate_budget *budget,
                    mf_prescan_visit *visit, void *context, struct mf_prescan *ret,
                    struct mf_error *err) MF_CHECK_RESULT;
void mf_prescan_free(struct mf_prescan *prescan);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_prescan, struct mf_prescan, mf_prescan_free(p))

#endif
