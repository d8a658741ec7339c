/*
 * Writer: a data set built element by element and encoded as a Part 10 file (Explicit VR Little
 * Endian, PS3.10). Private to the module; behind it stands DCMTK's dcmdata.
 *
 * Attributes are named by their keyword of PS3.6; the table of keywords.h gives tag and VR. Text
 * is UTF-8 and is made to fit its VR: what a reader would take for a delimiter becomes a space,
 * what is too long is cut at a character, what cannot be a value of the VR at all (letters in a
 * date) is left empty. The first failure sticks and is told by mf_writer_encode().
 */
#ifndef MF_DICOM_WRITER_H
#define MF_DICOM_WRITER_H

#include "core/auto.h"
#include "core/buffer.h"
#include "core/error.h"
#include "dicom/keywords.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_writer;

struct mf_writer *mf_writer_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_writer_free(struct mf_writer *w);

/* One value; NULL or "" gives an empty element. */
void mf_put_text(struct mf_writer *w, enum mf_keyword keyword, const char *utf8);
/* Values separated by "\" (CS, DS, LO, SH); each is made to fit. */
void mf_put_texts(struct mf_writer *w, enum mf_keyword keyword, const char *utf8);
void mf_put_empty(struct mf_writer *w, enum mf_keyword keyword);
/* IS, US, UL, SS, SL */
void mf_put_int(struct mf_writer *w, enum mf_keyword keyword, int64_t value);
void mf_put_ints(struct mf_writer *w, enum mf_keyword keyword, const int64_t *values, size_t n);
/* DS (at most 16 characters each), FL, FD */
void mf_put_reals(struct mf_writer *w, enum mf_keyword keyword, const double *values, size_t n);
void mf_put_real(struct mf_writer *w, enum mf_keyword keyword, double value);
/* AT: the tag of another attribute */
void mf_put_tag(struct mf_writer *w, enum mf_keyword keyword, enum mf_keyword value);
/* OB; OW and US in the machine's byte order, `length` in bytes */
void mf_put_bytes(struct mf_writer *w, enum mf_keyword keyword, const void *data, size_t length);

/* Opens a new item at the end of a sequence; what is put goes there until it is closed. */
void mf_begin_item(struct mf_writer *w, enum mf_keyword sequence);
void mf_end_item(struct mf_writer *w);

/* The file, appended to `out`. SOP class and instance are read from the data set. */
bool mf_writer_encode(struct mf_writer *w, struct mf_buffer *out,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_writer, struct mf_writer *, mf_writer_free(*p))

#endif
