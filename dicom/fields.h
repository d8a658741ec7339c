/*
 * The attributes that the index keeps as they are: one table for reading them from a data set,
 * writing them to JSON and reading them back.
 */
#ifndef MF_DICOM_FIELDS_H
#define MF_DICOM_FIELDS_H

#include "dicom/index.h"
#include "dicom/instance.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_field_kind {
    MF_FIELD_UID,  /* digits and dots, at most 64 */
    MF_FIELD_CODE, /* CS, DA, TM, DT, AS: printable ASCII */
    MF_FIELD_TEXT, /* LO, SH: in the object's character set */
    MF_FIELD_U16,  /* uint32_t in the struct */
    MF_FIELD_INT   /* IS, int64_t in the struct */
};

struct mf_field {
    const char *name; /* in JSON and messages */
    uint32_t tag;
    char vr[3]; /* of PS3.6 */
    enum mf_field_kind kind;
    size_t offset; /* in struct mf_index_object */
};

extern const struct mf_field mf_fields[];
extern const size_t mf_field_count;

enum { MF_FIELD_MAX_CHARS = 256 }; /* bytes of a string in the index */

static inline const char **mf_field_string(struct mf_index_object *o, const struct mf_field *f)
{
    return (const char **)(void *)((char *)o + f->offset);
}

static inline uint32_t *mf_field_u32(struct mf_index_object *o, const struct mf_field *f)
{
    return (uint32_t *)(void *)((char *)o + f->offset);
}

static inline int64_t *mf_field_int(struct mf_index_object *o, const struct mf_field *f)
{
    return (int64_t *)(void *)((char *)o + f->offset);
}

#ifdef __cplusplus
}
#endif

#endif
