/*
 * De-identification of one object (PS3.15 annex E): scanned before DCMTK reads it, and again what
 * DCMTK has written, by a reader that shares no code with it. What the profile removes and the
 * second look still finds is never given away.
 */
#include "dicom/deidentify_values.h"

#include "dicom/prescan.h"

#include <string.h>

static const struct mf_inflate_budget BUDGET = {
    .remaining = UINT64_C(1) << 30, .object_bytes = UINT64_C(512) << 20, .ratio = 200};

/* Implicit VR says of nothing what it is. */
static bool may_be_temporal(const char *vr)
{
    return memcmp(vr, "DA", 2) == 0 || memcmp(vr, "DT", 2) == 0 || memcmp(vr, "TM", 2) == 0 ||
           memcmp(vr, "UN", 2) == 0;
}

static bool stays_out(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    const struct mf_deidentify_rules *rules = context;
    const bool dated = rules->dates != MF_DATES_REMOVE && may_be_temporal(e->vr),
               wanted = rules->characteristics && mf_deidentify_characteristic(e->tag);
    if (!mf_deidentify_foreign(e->tag) && (dated || wanted || mf_deidentify_action(e->tag) != 'X'))
        return true;
    return mf_error_set(err, MF_ERR_MALFORMED, "(%04X,%04X) is still there",
                        (unsigned)(e->tag >> 16), (unsigned)(e->tag & 0xFFFF));
}

static bool check(const struct mf_buffer *made, size_t from,
                  const struct mf_deidentify_rules *rules, struct mf_error *err)
{
    struct mf_inflate_budget budget = BUDGET;
    struct mf_deidentify_rules wanted = *rules;
    MF_AUTO(mf_prescan) struct mf_prescan prescan = {.transfer_syntax = ""};
    struct mf_error why = MF_ERROR_INIT;
    if (mf_prescan_run(made->data + from, made->len - from, &budget, stays_out, &wanted, &prescan,
                       &why))
        return true;
    return mf_error_set(err, why.code, "de-identified it would not be sound: %s", why.msg);
}

bool mf_deidentify(const void *data, size_t length, const struct mf_deidentify_rules *rules,
                   struct mf_buffer *ret, struct mf_error *err)
{
    struct mf_inflate_budget budget = BUDGET;
    MF_AUTO(mf_prescan) struct mf_prescan prescan = {.transfer_syntax = ""};
    const size_t from = ret->len;
    if (!mf_prescan_run(data, length, &budget, NULL, NULL, &prescan, err))
        return false;
    if (mf_deidentify_rewrite(&prescan, rules, ret, err) && check(ret, from, rules, err))
        return true;
    ret->len = from;
    return false;
}
