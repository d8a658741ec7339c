/* Answers of S3 servers under libFuzzer: entries lie within the answer and come one after the
 * other, and texts fit. */
#include "server/s3_xml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1), text[64];
    if (!copy)
        abort();
    memcpy(copy, data, size);
    struct mf_s3_xml all = {copy, copy + size}, entry;
    const char *behind = copy;
    while (mf_s3_xml_next(&all, "Contents", &entry)) {
        if (entry.at < behind || entry.end < entry.at || all.at <= entry.end || all.at > all.end)
            abort();
        behind = all.at;
        if (mf_s3_xml_text(entry, "Key", text, sizeof text) && strlen(text) >= sizeof text)
            abort();
        (void)mf_s3_xml_text(entry, "LastModified", text, sizeof text);
    }
    (void)mf_s3_xml_text((struct mf_s3_xml){copy, copy + size}, "NextContinuationToken", text,
                         sizeof text);
    free(copy);
    return 0;
}
