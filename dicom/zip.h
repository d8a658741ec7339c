/*
 * Zip (APPNOTE 6.3): the members of an archive in memory, as byte ranges. Private to scan.c.
 *
 * Nothing is extracted and no member name is ever used as a path; names that would leave a
 * directory still refuse the archive, because whoever made it meant harm to the next program.
 */
#ifndef MF_DICOM_ZIP_H
#define MF_DICOM_ZIP_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_zip_member {
    uint64_t offset, length; /* of the stored or deflated bytes, within the archive */
    bool deflated;
    uint32_t crc; /* CRC-32 of the content */
};

/* Called for every member that is not a directory, in the order of the central directory. */
typedef bool mf_zip_visit(void *context, const struct mf_zip_member *member, struct mf_error *err);

/* True when the bytes start like a zip. */
bool mf_zip_plausible(const void *data, size_t length);

/* MF_ERR_MALFORMED: damaged, or a member named outside the archive; MF_ERR_TOO_LARGE: more than
 * `max_members`; MF_ERR_UNSUPPORTED: encrypted, or a compression other than deflate. */
bool mf_zip_walk(const void *data, size_t length, uint32_t max_members, mf_zip_visit *visit,
                 void *context, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
