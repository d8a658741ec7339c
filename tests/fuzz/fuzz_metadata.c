/*
 * Headers as DICOM JSON under libFuzzer: a whole file, or (by the first byte) the identifier of a
 * query's answer in Explicit or Implicit VR Little Endian, as it comes from a peer. What is
 * accepted is a JSON object.
 */
#include "core/json.h"
#include "dicom/dicom.h"
#include "dicom/metadata.h"
#include "dicom/part10.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (!mf_dicom_init(NULL))
        abort();
    return 0;
}

static void check(const struct mf_buffer *json)
{
    struct mf_error err = MF_ERROR_INIT;
    json_t *object = mf_json_parse(json->data, json->len, NULL, "metadata", &err);
    if (!json_is_object(object) && err.code != MF_ERR_TOO_LARGE)
        abort();
    json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer file, json;
    const struct mf_part10 meta = {"1.2.840.10008.5.1.4.1.2.2.1", "2.25.1",
                                   data[0] & 2 ? "1.2.840.10008.1.2" : "1.2.840.10008.1.2.1", NULL};
    mf_buffer_init(&file, (size_t)16 << 20);
    mf_buffer_init(&json, (size_t)64 << 20);
    if ((data[0] & 1 && !mf_part10_header(&meta, &file, &err)) ||
        !mf_buffer_append(&file, data + 1, size - 1, &err))
        return 0;
    bool ok = mf_metadata_json(file.data ? file.data : "", file.len, &json, &err);
    if (ok != (err.code == MF_OK))
        abort();
    if (ok)
        check(&json);
    return 0;
}
