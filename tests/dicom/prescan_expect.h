/* What the tests of the pre-scanner share: a scan under the usual caps, and what is expected of it.
 */
#ifndef MF_TESTS_DICOM_PRESCAN_EXPECT_H
#define MF_TESTS_DICOM_PRESCAN_EXPECT_H

#include "dicom/prescan.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

static inline struct mf_inflate_budget prescan_budget(void)
{
    return (struct mf_inflate_budget){
        .remaining = 64 << 20, .object_bytes = 64 << 20, .ratio = 200};
}

static inline bool prescan(const void *data, size_t length, struct mf_prescan *ret,
                           struct mf_error *err)
{
    struct mf_inflate_budget b = prescan_budget();
    return mf_prescan_run(data, length, &b, NULL, NULL, ret, err);
}

static inline void expect_refused(const struct builder *b, enum mf_code code, const char *message)
{
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(prescan(b->bytes.data, b->bytes.len, &ret, &err));
    assert_error(&err, code, message);
}

static inline void expect_accepted(const struct builder *b)
{
    MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(prescan(b->bytes.data, b->bytes.len, &ret, &err));
    assert_no_error(&err);
}

static const struct build_object CHEST = {"DX",    "PA", "P1", "20190307", "102000",
                                          "CHEST", NULL, 1,    1,          1};

#endif
