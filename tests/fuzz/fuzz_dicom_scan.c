/*
 * The way of an upload: scan (zips too) → index → JSON → index → first frame → display → block.
 * What was accepted must survive JSON, and what is decoded must pass its own check.
 */
#include "core/grayscale.h"
#include "core/json.h"
#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "dicom/scan.h"
#include "dicom/study.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show(int fd, const struct mf_index_object *o)
{
    struct mf_frame f;
    struct mf_error err = MF_ERROR_INIT;
    if (o->pixel_data == MF_PIXEL_DATA_NONE || !mf_decode_frame(fd, o, o->frames - 1, &f, &err))
        return;
    if (!mf_frame_check(&f, &err))
        __builtin_trap();
    float *out = malloc((size_t)f.rows * f.columns * sizeof *out);
    if (out && !mf_grayscale_display(&f, out, &err) && err.code != MF_ERR_NO_MEMORY)
        __builtin_trap();
    free(out);
    mf_frame_free(&f);
}

static void use(int fd, const struct mf_index *index)
{
    struct mf_error err = MF_ERROR_INIT;
    json_t *json = mf_index_to_json(index);
    struct mf_index *again = json ? mf_index_from_json(json, &err) : NULL;
    if (!again)
        __builtin_trap();
    for (size_t i = 0; i < again->object_count && i < 4; i++)
        show(fd, &again->objects[i]);
    struct mf_study_list *list = mf_study_list_new(again, NULL, &err);
    if (!list || (!mf_study_list_job(list, true, &err) && err.code != MF_ERR_UNUSABLE &&
                  err.code != MF_ERR_TOO_LARGE))
        __builtin_trap();
    mf_study_list_free(list);
    mf_index_free(again);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_dicom_init(&err))
        abort();
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    const struct mf_scan_limits limits = {.expanded_bytes = 8 << 20,
                                          .object_bytes = 8 << 20,
                                          .objects = 100,
                                          .samples_per_frame = 1 << 20};
    struct mf_scan_input input = {.fd = fd, .length = size};
    struct mf_index *index = mf_scan(&input, 1, &limits, &err);
    if (index)
        use(fd, index);
    else if (err.code == MF_OK || !err.msg[0])
        __builtin_trap();
    mf_index_free(index);
    close(fd);
    return 0;
}
