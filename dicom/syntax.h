/* Transfer syntaxes (PS3.6 table A-1): encoding of the data set, and who decodes the pixel data. */
#ifndef MF_DICOM_SYNTAX_H
#define MF_DICOM_SYNTAX_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_codec {
    MF_CODEC_NONE, /* known, not decoded (video, JPIP, …) */
    MF_CODEC_NATIVE,
    MF_CODEC_DEFLATE, /* native frames, each deflated */
    MF_CODEC_RLE,
    MF_CODEC_JPEG,
    MF_CODEC_JPEG_LS,
    MF_CODEC_JPEG_2000 /* also High-Throughput */
};

struct mf_syntax {
    const char *uid, *name;
    enum mf_codec codec;
    bool implicit_vr, big_endian, deflated, encapsulated;
};

/* NULL for an unknown UID. */
const struct mf_syntax *mf_syntax_find(const char *uid);

/* What kind of object a SOP class is, for the reason why it is not analysed: "a structured report",
 * or NULL for images and unknown classes. */
const char *mf_sop_class_kind(const char *uid);

#ifdef __cplusplus
}
#endif

#endif
