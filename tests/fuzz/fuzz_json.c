/* Any bytes as JSON: refused or parsed; what was parsed is written and read back as the same value.
 */
#include "core/json.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *value = mf_json_parse((const char *)data, size, NULL, "fuzz", &err);
    if (!value) {
        if (err.code != MF_ERR_MALFORMED && err.code != MF_ERR_TOO_LARGE)
            __builtin_trap();
        return 0;
    }
    MF_AUTO(mf_mem) char *text = mf_json_text(value, 0);
    MF_AUTO(mf_json)
    json_t *again = text ? mf_json_parse(text, strlen(text), NULL, "fuzz", &err) : NULL;
    MF_AUTO(mf_mem) char *twice = again ? mf_json_text(again, 0) : NULL;
    /* Numbers are rounded to nine digits once; from then on the text stays the same. */
    MF_AUTO(mf_json)
    json_t *third = twice ? mf_json_parse(twice, strlen(twice), NULL, "fuzz", &err) : NULL;
    if (text && (!again || !twice || !third || !json_equal(again, third)))
        __builtin_trap();
    return 0;
}
