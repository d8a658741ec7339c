/*
 * DICOMweb: what its endpoints share. Values of the DICOM JSON Model (PS3.18 annex F), addresses of
 * what is stored, Accept, and the instances that a path names.
 */
#ifndef MF_SERVER_DICOMWEB_H
#define MF_SERVER_DICOMWEB_H

#include "dicom/instance.h"
#include "server/request.h"
#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MF_DICOM_JSON "application/dicom+json"
#define MF_DICOMWEB_ROOT "/dicom-web"

enum { MF_DICOMWEB_RANGE = 512 }; /* bytes of a media range, with the NUL */

/* Adds an attribute with one text or integer; false when out of memory. A NULL or empty text gives
 * an attribute without value. */
bool mf_dicom_json_text(json_t *object, uint32_t tag, const char *vr, const char *value);
bool mf_dicom_json_int(json_t *object, uint32_t tag, const char *vr, int64_t value);
/* Adds an attribute with these values; the array is given away. */
bool mf_dicom_json_values(json_t *object, uint32_t tag, const char *vr, json_t *values);
/* Adds a sequence; the array is given away. */
bool mf_dicom_json_items(json_t *object, uint32_t tag, json_t *items);
/* Adds an attribute of the table with its stored text: values between '\', person names as
 * components, numbers as numbers. */
bool mf_dicom_json_attribute(json_t *object, enum mf_attribute_id id, const char *value);

/* The address of a study, series or instance (series and instance may be NULL), in the arena:
 * absolute, by the request's Host. */
const char *mf_dicomweb_url(struct mf_request *request, const char *study, const char *series,
                            const char *instance, struct mf_error *err) MF_CHECK_RESULT;

/* The path parameter number `i`, which must be a UID. MF_ERR_MALFORMED says which one is not. */
const char *mf_dicomweb_uid(const struct mf_request *request, size_t i, const char *what,
                            struct mf_error *err) MF_CHECK_RESULT;

/* PS3.18 8.7.7: the offer that the request's Accept prefers; −1 with MF_ERR_NOT_ACCEPTABLE when it
 * has none, or none of these. */
int mf_dicomweb_accept(const struct mf_request *request, const char *const offers[], size_t count,
                       struct mf_error *err) MF_CHECK_RESULT;
/* The next media range of an Accept field (commas in quotes do not end it), *at moves behind it;
 * false at the end. */
bool mf_dicomweb_next_range(const char **at, char out[MF_DICOMWEB_RANGE]);

/* The instances that the path names: its first parameters are a study, a series, an instance (as
 * many as it has). Memory of the request. MF_ERR_MALFORMED: one is no UID; MF_ERR_NOT_FOUND:
 * nothing of it is stored. */
bool mf_dicomweb_find(struct mf_request *request, struct mf_found **ret, size_t *ret_count,
                      struct mf_error *err) MF_CHECK_RESULT;

/* Sorts instances by series number and UID, instance number and UID. */
void mf_dicomweb_sort(struct mf_found *rows, size_t n);

#ifdef __cplusplus
}
#endif

#endif
