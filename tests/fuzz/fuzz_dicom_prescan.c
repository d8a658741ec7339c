/* The pre-scanner alone: any bytes, every structure. Checks that what it reports lies inside the
 * bytes. */
#include "dicom/prescan.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads the first and the last byte of every value: a sanitizer sees offsets that lie. */
static bool touch(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    volatile unsigned *sum = context;
    (void)err;
    if (e->depth > MF_PRESCAN_DEPTH)
        __builtin_trap();
    if (e->value && e->length)
        *sum += e->value[0] + e->value[e->length - 1];
    return true;
}

static void check_range(const struct mf_prescan *p, const struct mf_range *r)
{
    if (r->offset > p->length || r->length > p->length - r->offset)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_inflate_budget budget = {.remaining = 8 << 20, .object_bytes = 8 << 20, .ratio = 200};
    struct mf_error err = MF_ERROR_INIT;
    struct mf_prescan p;
    unsigned sum = 0;
    if (!mf_prescan_run(data, size, &budget, touch, &sum, &p, &err)) {
        if (err.code == MF_OK || !err.msg[0])
            __builtin_trap();
        return 0;
    }
    check_range(&p, &p.pixels);
    check_range(&p, &p.offset_table);
    check_range(&p, &p.extended_offsets);
    check_range(&p, &p.extended_lengths);
    for (uint32_t i = 0; i < p.fragment_count; i++)
        check_range(&p, &p.fragments[i]);
    mf_prescan_free(&p);
    return 0;
}
