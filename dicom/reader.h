/* Reader: bytes of an object of the index, through its layers. Private to the module. */
#ifndef MF_DICOM_READER_H
#define MF_DICOM_READER_H

#include "core/auto.h"
#include "dicom/index.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_reader {
    int fd;
    uint64_t base, length;   /* without deflated layers: the object's range of the descriptor */
    unsigned char *inflated; /* else: the last layer's bytes, `length` of them; owned */
};

/* Prepares reading; inflates the object when a layer is deflated (never beyond the sizes in the
 * index). */
bool mf_reader_open(int fd, const struct mf_index_object *object, struct mf_reader *ret,
                    struct mf_error *err) MF_CHECK_RESULT;
void mf_reader_close(struct mf_reader *reader);

/* Copies a range of the last layer's bytes to `out`. */
bool mf_reader_read(const struct mf_reader *reader, struct mf_range range, void *out,
                    struct mf_error *err) MF_CHECK_RESULT;

/* pread of exactly `length` bytes; MF_ERR_MALFORMED when the descriptor has fewer. */
bool mf_read_exactly(int fd, uint64_t offset, void *out, uint64_t length,
                     struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_reader, struct mf_reader, mf_reader_close(p))

#endif
