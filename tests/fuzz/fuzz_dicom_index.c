/* The index as another process reads it: any JSON text; what is accepted is written, grouped and
 * decoded from nothing. */
#include "core/json.h"
#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "dicom/study.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_dicom_init(&err))
        abort();
    json_t *json = mf_json_parse((const char *)data, size, NULL, "index", &err);
    struct mf_index *index = json ? mf_index_from_json(json, &err) : NULL;
    if (!index) {
        if (err.code == MF_OK)
            __builtin_trap();
        json_decref(json);
        return 0;
    }
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* no payload: reads must fail cleanly */
    for (size_t i = 0; i < index->object_count && i < 4; i++) {
        struct mf_frame f;
        const struct mf_index_object *o = &index->objects[i];
        uint64_t samples = (uint64_t)o->rows * o->columns;
        if (o->rows && samples < 1 << 20 && mf_decode_frame(fd, o, 0, &f, NULL))
            mf_frame_free(&f);
    }
    struct mf_study_list *list = mf_study_list_new(index, NULL, &err);
    if (list && !mf_study_list_job(list, true, &err) && err.code != MF_ERR_UNUSABLE &&
        err.code != MF_ERR_TOO_LARGE)
        __builtin_trap();
    mf_study_list_free(list);
    mf_index_free(index);
    json_decref(json);
    if (fd >= 0)
        close(fd);
    return 0;
}
