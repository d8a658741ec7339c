/*
 * Builds DICOM files in memory for tests, byte by byte: valid ones, and exactly as broken as a test
 * wants.
 */
#ifndef MF_TESTS_DICOM_BUILDER_H
#define MF_TESTS_DICOM_BUILDER_H

#include "core/buffer.h"
#include "dicom/index.h"
#include "dicom/scan.h"

#include <stdint.h>

#define EXPLICIT_LE "1.2.840.10008.1.2.1"
#define IMPLICIT_LE "1.2.840.10008.1.2"
#define EXPLICIT_BE "1.2.840.10008.1.2.2"
#define DEFLATED_LE "1.2.840.10008.1.2.1.99"
#define RLE_LOSSLESS "1.2.840.10008.1.2.5"
#define JPEG_BASELINE "1.2.840.10008.1.2.4.50"
#define JPEG_2000 "1.2.840.10008.1.2.4.90"

#define TAG(group, element) ((uint32_t)(group) << 16 | (uint32_t)(element))

enum { UNDEFINED_LENGTH = -1 };

struct builder {
    struct mf_buffer bytes;
    bool implicit_vr, big_endian, deflated;
    size_t data_set; /* where it begins */
};

/* Preamble, prefix and file meta information with this transfer syntax (NULL = none of it). */
void build_start(struct builder *b, const char *transfer_syntax);
void build_free(struct builder *b);

/* An element header alone; length UNDEFINED_LENGTH or any claim. Then raw bytes. */
void build_header(struct builder *b, uint32_t tag, const char *vr, int64_t length);
void build_bytes(struct builder *b, const void *data, size_t length);
/* Items and delimiters (FFFE,xxxx), always without VR. */
void build_item(struct builder *b, uint32_t tag, int64_t length);

void build_string(struct builder *b, uint32_t tag, const char *vr, const char *value);
void build_u16(struct builder *b, uint32_t tag, uint16_t value);

/* The identifying attributes of an image: "1" style UIDs from the numbers. */
struct build_object {
    const char *modality, *view, *patient, *date, *time, *body_part, *sop_class;
    int study, series, instance;
};
void build_identity(struct builder *b, const struct build_object *o);
/* The attributes of group 0028: one frame, unsigned. */
void build_image(struct builder *b, uint16_t rows, uint16_t columns, uint16_t bits);
/* Native pixel data of `length` bytes 0, 1, 2, … */
void build_pixels(struct builder *b, size_t length);
/* Deflates the data set when the transfer syntax asks for it. */
void build_finish(struct builder *b);

/* A whole 8-bit image of 4 × 4 pixels. */
void build_simple(struct builder *b, const struct build_object *o);

/* A memfd with these bytes. */
int build_fd(const void *data, size_t length);

/* Scans bytes as one input. */
struct mf_index *build_scan(const void *data, size_t length, const struct mf_scan_limits *limits,
                            struct mf_error *err);

/* A zip: members are stored or deflated as told; `flags` and `method` are written as given (method
 * −1 = what fits). */
struct build_member {
    const char *name;
    const void *data;
    size_t length;
    bool deflate;
    int flags, method;
};
void build_zip(struct mf_buffer *out, const struct build_member *members, size_t count);

#endif
