/*
 * Any bytes as the manager's answer about a work item: refused, or an item whose UIDs are UIDs and
 * whose texts end; what is written about it is JSON.
 */
#include "server/ups_item.h"

#include "dicom/instance.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct mf_ups_item *item)
{
    if (item->uid[0] && !mf_uid_valid(item->uid))
        abort();
    if (item->input_count > MF_UPS_STUDIES || item->output_count > MF_UPS_OUTPUTS ||
        item->work.count > MF_UPS_CODES || item->stations.count > MF_UPS_CODES)
        abort();
    for (size_t i = 0; i < item->input_count; i++)
        if (!mf_uid_valid(item->inputs[i].study) ||
            strlen(item->inputs[i].place.url) >= MF_UPS_URL ||
            strlen(item->inputs[i].place.ae) >= MF_UPS_AE)
            abort();
    for (size_t i = 0; i < item->work.count; i++) {
        const struct mf_ups_performed performed = {
            .station = item->work.list[i], .work = item->work.list[i], .address = "http://h"};
        MF_AUTO(mf_json) json_t *made = mf_ups_perform("1.2", &performed);
        MF_AUTO(mf_mem) char *text = mf_json_text(made, 0);
        if (!text)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct mf_ups_item item;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *json = mf_json_parse((const char *)bytes, size, NULL, "item", &err);
    if (json && mf_ups_item_read(json, &item, &err))
        check(&item);
    return 0;
}
