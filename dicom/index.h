/*
 * The index of an upload, `medfusion.index/1`: what is known of every DICOM object without reading
 * it again.
 *
 * `scan` makes it in a decoder process; it is stored with the job as JSON and read by other
 * processes, which trust nothing in it: mf_index_from_json() checks every type, range and offset.
 * Strings are UTF-8 without control characters, trimmed, and NULL when the attribute is absent or
 * empty.
 *
 * Where bytes are: an object is a chain of one or two layers. Layer 0 is a range of the input's
 * descriptor, possibly raw-deflated (a zip member). Layer 1, only for the Deflated transfer
 * syntaxes, is a deflated range of layer 0's bytes. Ranges of pixel data and tables count from the
 * start of the last layer's (inflated) bytes.
 */
#ifndef MF_DICOM_INDEX_H
#define MF_DICOM_INDEX_H

#include "core/arena.h"
#include "core/auto.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_range {
    uint64_t offset, length;
};

struct mf_layer {
    struct mf_range range;
    bool deflated;
    uint64_t size; /* bytes after inflating; range.length when not deflated */
};

enum mf_pixel_data {
    MF_PIXEL_DATA_NONE,
    MF_PIXEL_DATA_INTEGER, /* (7FE0,0010) */
    MF_PIXEL_DATA_FLOAT,   /* (7FE0,0008) */
    MF_PIXEL_DATA_DOUBLE   /* (7FE0,0009) */
};

/* Ways in which a file is broken and read nevertheless. */
enum mf_irregularity {
    MF_IRREGULAR_META,   /* no file meta information, or none that says the transfer syntax */
    MF_IRREGULAR_VR,     /* elements without value representation where there must be one */
    MF_IRREGULAR_LENGTH, /* values of odd length */
    MF_IRREGULAR_END,    /* bytes behind the last element that are none */
    MF_IRREGULAR_KIND,   /* another value representation than the attribute's (PS3.6), not UN */
    MF_IRREGULAR_COUNT
};
/* "file_meta_missing" …: how a result flags it; NULL for other numbers. */
const char *mf_irregularity_name(unsigned irregularity);

/* A look-up table left in place; entries have the data set's byte order. */
struct mf_index_lut {
    uint32_t count, bits; /* count 0 = none, at most 65536; bits of an entry, 1…16 */
    int32_t first;
    uint32_t entry_bytes; /* 1 or 2 */
    bool segmented;       /* a palette in segments, of fields of entry_bytes (C.7.9.2) */
    struct mf_range range;
};

/* What the functional groups of an enhanced multi-frame object say of one frame. */
struct mf_index_frame {
    bool has_position, has_orientation, has_spacing, has_rescale, has_window;
    double position[3], orientation[6], spacing[2];
    double slope, intercept, center, width;
};

struct mf_index_object {
    uint32_t input; /* which input of the scan it came from */
    const char
        *name; /* "part 2" or "part 2, member 14": names it in messages, never patient data */
    struct mf_layer layers[2];
    uint32_t layer_count;
    bool big_endian;

    const char *transfer_syntax;
    const char *sop_class_uid, *sop_instance_uid, *study_instance_uid, *series_instance_uid;
    const char *frame_of_reference_uid;
    const char *modality, *body_part, *view_position, *laterality, *image_type,
        *presentation_intent;
    const char *patient_id, *patient_id_issuer, *patient_birth_date, *patient_sex, *patient_age;
    const char *study_date, *study_time, *series_date, *series_time, *acquisition_date;
    const char *acquisition_time, *acquisition_datetime, *content_date, *content_time;
    const char *timezone_offset, *accession_number;
    /* For the objects made from this one: who it is, and the order it answers. */
    const char *patient_name, *referring_physician, *study_id, *study_description,
        *series_description;
    const char *requested_procedure_id, *requested_procedure, *scheduled_step_id;
    const char *placer_order, *filler_order;
    const char *patient_orientation; /* "L\F": direction of rows, of columns */
    const char *lossy, *lossy_ratio, *lossy_method;
    const char *photometric, *voi_function, *presentation_lut_shape;
    int64_t series_number, instance_number; /* 0 when absent */

    /* Image attributes; rows is 0 for an object without pixel data. */
    enum mf_pixel_data pixel_data;
    uint32_t rows, columns, frames, samples_per_pixel, bits_allocated, bits_stored, high_bit;
    uint32_t pixel_representation, planar_configuration;
    bool pixel_words; /* native pixel data with VR OW: byte order matters for 8-bit samples too */
    bool encapsulated;
    struct mf_range pixels;     /* native: the whole value */
    struct mf_range *fragments; /* encapsulated: the fragments in order, offset table left out */
    uint32_t fragment_count;
    uint32_t *frame_fragments; /* frames + 1 entries: frame f is fragments [ff[f], ff[f+1]) */

    double pixel_spacing[2], imager_pixel_spacing[2]; /* row, column, mm; 0 = unknown */
    double position[3], orientation[6];
    bool has_position, has_orientation, has_rescale, has_window, has_padding, has_padding_limit;
    double slope, intercept, window_center, window_width;
    int64_t padding, padding_limit;
    struct mf_index_lut modality_lut, voi_lut, palette[3];
    struct mf_index_frame *frame_groups; /* `frames` entries, or NULL */
    uint32_t irregular;                  /* bits of enum mf_irregularity */
    const char *problem; /* why the pixel data cannot be used ("12 bits allocated"), or NULL */
};

/* Something in the upload that is no DICOM object (a text file in a zip). Objects that are DICOM
 * but of no use are objects; study.h says why they are not used. */
struct mf_index_skipped {
    const char *name, *reason;
};

struct mf_index {
    struct mf_arena *arena; /* owns everything below */
    struct mf_index_object *objects;
    size_t object_count;
    struct mf_index_skipped *skipped;
    size_t skipped_count;
};

void mf_index_free(struct mf_index *index);

/* The JSON document (the caller owns it); NULL when out of memory. */
json_t *mf_index_to_json(const struct mf_index *index);

/* Reads and checks a document. Offsets and sizes are checked against each other here and against
 * the descriptor when bytes are read. MF_ERR_MALFORMED names what is wrong. */
struct mf_index *mf_index_from_json(const json_t *json, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_index, struct mf_index *, mf_index_free(*p))

#endif
