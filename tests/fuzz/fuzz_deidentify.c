/* De-identification of any bytes: what comes out must be an object by the pre-scanner's rules, with
 * no private element left at any level. */
#include "dicom/deidentify.h"
#include "dicom/dicom.h"
#include "dicom/prescan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool look(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    (void)context;
    (void)err;
    if (e->tag >> 16 & 1)
        __builtin_trap();
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char SECRET[] = "sixteen bytes or more";
    struct mf_deidentify_rules rules;
    struct mf_error err = MF_ERROR_INIT;
    static const char *const DATES[] = {"remove", "shift", "keep"};
    if (!mf_dicom_init(&err) ||
        !mf_deidentify_rules_make(SECRET, sizeof SECRET, DATES[size % 3], false, &rules, &err))
        abort();
    MF_AUTO(mf_buffer) struct mf_buffer out;
    mf_buffer_init(&out, 64 << 20);
    if (!mf_deidentify(data, size, &rules, &out, &err)) {
        if (err.code == MF_OK || !err.msg[0])
            __builtin_trap();
        return 0;
    }
    struct mf_inflate_budget budget = {
        .remaining = 64 << 20, .object_bytes = 64 << 20, .ratio = 200};
    struct mf_prescan p;
    if (!mf_prescan_run(out.data, out.len, &budget, look, NULL, &p, &err))
        __builtin_trap();
    mf_prescan_free(&p);
    return 0;
}
