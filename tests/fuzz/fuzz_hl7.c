/*
 * Any bytes as an HL7 receiver's answer: accepted only when it names our message, and every refusal
 * says why.
 */
#include "server/mllp.h"

#include "core/auto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char CONTROL_ID[] = "ab12";
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_mem) char *answer = malloc(size + 1);
    if (!answer)
        return 0;
    memcpy(answer, data, size);
    answer[size] = '\0';
    if (mf_mllp_accepted(answer, CONTROL_ID, &err)) {
        if (!strstr(answer, CONTROL_ID) || err.code != MF_OK)
            abort();
    } else if ((err.code != MF_ERR_UNAVAILABLE && err.code != MF_ERR_UNUSABLE) || !*err.msg) {
        abort();
    }
    return 0;
}
