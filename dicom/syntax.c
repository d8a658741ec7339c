/* Transfer syntaxes and the SOP classes that hold no image to analyse (PS3.6 annex A). */
#include "dicom/syntax.h"

#include <stddef.h>
#include <string.h>

#define UID(suffix) "1.2.840.10008.1.2" suffix
#define ENCAPSULATED(suffix, name, codec)                                                          \
    {                                                                                              \
        UID(suffix), name, codec, false, false, false, true                                        \
    }

static const struct mf_syntax SYNTAXES[] = {
    {UID(""), "Implicit VR Little Endian", MF_CODEC_NATIVE, true, false, false, false},
    {UID(".1"), "Explicit VR Little Endian", MF_CODEC_NATIVE, false, false, false, false},
    {UID(".1.99"), "Deflated Explicit VR Little Endian", MF_CODEC_NATIVE, false, false, true,
     false},
    {UID(".2"), "Explicit VR Big Endian", MF_CODEC_NATIVE, false, true, false, false},
    ENCAPSULATED(".1.98", "Encapsulated Uncompressed Explicit VR Little Endian", MF_CODEC_NATIVE),
    ENCAPSULATED(".4.50", "JPEG Baseline (Process 1)", MF_CODEC_JPEG),
    ENCAPSULATED(".4.51", "JPEG Extended (Process 2 & 4)", MF_CODEC_JPEG),
    ENCAPSULATED(".4.53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)",
                 MF_CODEC_JPEG),
    ENCAPSULATED(".4.55", "JPEG Full Progression, Non-Hierarchical (Process 10 & 12)",
                 MF_CODEC_JPEG),
    ENCAPSULATED(".4.57", "JPEG Lossless, Non-Hierarchical (Process 14)", MF_CODEC_JPEG),
    ENCAPSULATED(".4.70", "JPEG Lossless, Non-Hierarchical, First-Order Prediction", MF_CODEC_JPEG),
    ENCAPSULATED(".4.80", "JPEG-LS Lossless", MF_CODEC_JPEG_LS),
    ENCAPSULATED(".4.81", "JPEG-LS Lossy (Near-Lossless)", MF_CODEC_JPEG_LS),
    ENCAPSULATED(".4.90", "JPEG 2000 (Lossless Only)", MF_CODEC_JPEG_2000),
    ENCAPSULATED(".4.91", "JPEG 2000", MF_CODEC_JPEG_2000),
    ENCAPSULATED(".4.92", "JPEG 2000 Part 2 Multi-component (Lossless Only)", MF_CODEC_NONE),
    ENCAPSULATED(".4.93", "JPEG 2000 Part 2 Multi-component", MF_CODEC_NONE),
    ENCAPSULATED(".4.94", "JPIP Referenced", MF_CODEC_NONE),
    {UID(".4.95"), "JPIP Referenced Deflate", MF_CODEC_NONE, false, false, true, false},
    ENCAPSULATED(".4.100", "MPEG2 Main Profile / Main Level", MF_CODEC_NONE),
    ENCAPSULATED(".4.100.1", "Fragmentable MPEG2 Main Profile / Main Level", MF_CODEC_NONE),
    ENCAPSULATED(".4.101", "MPEG2 Main Profile / High Level", MF_CODEC_NONE),
    ENCAPSULATED(".4.101.1", "Fragmentable MPEG2 Main Profile / High Level", MF_CODEC_NONE),
    ENCAPSULATED(".4.102", "MPEG-4 AVC/H.264 High Profile", MF_CODEC_NONE),
    ENCAPSULATED(".4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile", MF_CODEC_NONE),
    ENCAPSULATED(".4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile", MF_CODEC_NONE),
    ENCAPSULATED(".4.104", "MPEG-4 AVC/H.264 High Profile For 2D Video", MF_CODEC_NONE),
    ENCAPSULATED(".4.105", "MPEG-4 AVC/H.264 High Profile For 3D Video", MF_CODEC_NONE),
    ENCAPSULATED(".4.106", "MPEG-4 AVC/H.264 Stereo High Profile", MF_CODEC_NONE),
    ENCAPSULATED(".4.107", "HEVC/H.265 Main Profile", MF_CODEC_NONE),
    ENCAPSULATED(".4.108", "HEVC/H.265 Main 10 Profile", MF_CODEC_NONE),
    ENCAPSULATED(".4.110", "JPEG XL Lossless", MF_CODEC_NONE),
    ENCAPSULATED(".4.111", "JPEG XL JPEG Recompression", MF_CODEC_NONE),
    ENCAPSULATED(".4.112", "JPEG XL", MF_CODEC_NONE),
    ENCAPSULATED(".4.201", "High-Throughput JPEG 2000 (Lossless Only)", MF_CODEC_JPEG_2000),
    ENCAPSULATED(".4.202", "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)",
                 MF_CODEC_JPEG_2000),
    ENCAPSULATED(".4.203", "High-Throughput JPEG 2000", MF_CODEC_JPEG_2000),
    ENCAPSULATED(".4.204", "JPIP HTJ2K Referenced", MF_CODEC_NONE),
    {UID(".4.205"), "JPIP HTJ2K Referenced Deflate", MF_CODEC_NONE, false, false, true, false},
    ENCAPSULATED(".5", "RLE Lossless", MF_CODEC_RLE),
    ENCAPSULATED(".8.1", "Deflated Image Frame Compression", MF_CODEC_DEFLATE),
};

const struct mf_syntax *mf_syntax_find(const char *uid)
{
    for (size_t i = 0; uid && i < sizeof SYNTAXES / sizeof *SYNTAXES; i++)
        if (strcmp(SYNTAXES[i].uid, uid) == 0)
            return &SYNTAXES[i];
    return NULL;
}

/* Prefixes: a trailing dot covers a family of classes. */
static const struct {
    const char *prefix, *kind;
} KINDS[] = {
    {"1.2.840.10008.1.3.10", "a media directory (DICOMDIR)"},
    {"1.2.840.10008.5.1.4.1.1.88.", "a structured report"},
    {"1.2.840.10008.5.1.4.1.1.11.", "a presentation state"},
    {"1.2.840.10008.5.1.4.1.1.481.", "a radiotherapy object"},
    {"1.2.840.10008.5.1.4.1.1.9.", "a waveform"},
    {"1.2.840.10008.5.1.4.1.1.66.4", "a segmentation"},
    {"1.2.840.10008.5.1.4.1.1.66.5", "a surface segmentation"},
    {"1.2.840.10008.5.1.4.1.1.66.", "a registration, fiducials or raw data object"},
    {"1.2.840.10008.5.1.4.1.1.66", "a raw data object"},
    {"1.2.840.10008.5.1.4.1.1.67", "a real world value map"},
    {"1.2.840.10008.5.1.4.1.1.30", "a parametric map"},
    {"1.2.840.10008.5.1.4.1.1.104.", "an encapsulated document"},
    {"1.2.840.10008.5.1.4.38.", "a hanging protocol"},
    {"1.2.840.10008.5.1.4.34.", "a procedure step"},
};

const char *mf_sop_class_kind(const char *uid)
{
    for (size_t i = 0; uid && i < sizeof KINDS / sizeof *KINDS; i++) {
        size_t n = strlen(KINDS[i].prefix);
        if (KINDS[i].prefix[n - 1] == '.' ? strncmp(uid, KINDS[i].prefix, n) == 0
                                          : strcmp(uid, KINDS[i].prefix) == 0)
            return KINDS[i].kind;
    }
    return NULL;
}
