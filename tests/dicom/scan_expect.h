/* What the tests of scans share: bytes that are scanned as one upload, and what is expected of it.
 */
#ifndef MF_TESTS_DICOM_SCAN_EXPECT_H
#define MF_TESTS_DICOM_SCAN_EXPECT_H

#include "dicom/dicom.h"
#include "dicom/scan.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

static const struct build_object CHEST = {"DX",    "PA", "P1", "20190307", "102000",
                                          "CHEST", NULL, 1,    1,          1};

static inline void expect_refused(const void *data, size_t length, enum mf_code code,
                                  const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_null(build_scan(data, length, NULL, &err));
    assert_error(&err, code, message);
}

/* The same of a whole file, which is freed. */
static inline void expect_file_refused(struct builder *b, enum mf_code code, const char *message)
{
    expect_refused(b->bytes.data, b->bytes.len, code, message);
    build_free(b);
}

/* Of a file that is one sound object; it is freed. */
static inline struct mf_index *scan_file(struct builder *b)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_index *index = build_scan(b->bytes.data, b->bytes.len, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 1);
    build_free(b);
    return index;
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

#endif
