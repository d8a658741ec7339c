/*
 * Storage commitment: the information of the Storage Commitment Push Model (PS3.4 J.3): which
 * objects a peer asks about, and what has become of each.
 *
 * The data set comes from outside and is read where associations are served, so it is read here, in
 * plain C within fixed limits, and nothing of it but UIDs is kept.
 */
#ifndef MF_DICOM_COMMITMENT_H
#define MF_DICOM_COMMITMENT_H

#include "core/arena.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MF_COMMITMENT_CLASS "1.2.840.10008.1.20.1"      /* Storage Commitment Push Model */
#define MF_COMMITMENT_INSTANCE "1.2.840.10008.1.20.1.1" /* its well-known instance */

enum { MF_COMMITMENT_ITEMS = 20000, MF_COMMITMENT_BYTES = 4 << 20 };

/* Failure Reason (0008,1197), PS3.3 C.14.1.1. */
enum mf_commitment_reason {
    MF_COMMITTED = 0,
    MF_COMMITMENT_FAILURE = 0x0110, /* processing failure */
    MF_COMMITMENT_NO_SUCH_OBJECT = 0x0112,
    MF_COMMITMENT_CLASS_CONFLICT = 0x0119 /* it is stored under another SOP class */
};

struct mf_commitment_item {
    const char *sop_class, *sop_instance;
    uint16_t reason; /* enum mf_commitment_reason, or what a peer says */
};

struct mf_commitment {
    const char *transaction; /* Transaction UID */
    struct mf_commitment_item *items;
    size_t count;
};

/* Reads the information of an N-ACTION or N-EVENT-REPORT in Little Endian: Transaction UID, the
 * items of Referenced SOP Sequence, and those of Failed SOP Sequence with their reason. Memory of
 * the arena. MF_ERR_MALFORMED: not such a data set, or one with missing or wrong UIDs;
 * MF_ERR_TOO_LARGE: more than the limits above. */
bool mf_commitment_read(const void *data, size_t len, bool implicit_vr, struct mf_arena *arena,
                        struct mf_commitment *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
