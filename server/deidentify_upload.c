/* De-identification of an upload, before anything of it is kept. */
#include "server/deidentify.h"

#include "server/blobs.h"
#include "server/store.h"

#include "core/file_range.h"

#include <string.h>

enum { OBJECT_BYTES = 1 << 30 };

static const char ZIP[] = "PK\003\004";

static bool read_input(int fd, const struct mf_job_input *in, struct mf_buffer *ret,
                       struct mf_error *err)
{
    const struct mf_file_range range = {"an upload", fd, in->offset, in->size};
    char *at = mf_buffer_reserve(ret, in->size, err);
    if (!at || !mf_file_range_read(&range, at, err))
        return false;
    ret->len = in->size;
    return true;
}

static bool is_zip(int fd, const struct mf_job_input *in)
{
    char head[sizeof ZIP - 1];
    return in->size >= sizeof head && mf_read_at(fd, in->offset, head, sizeof head) == 0 &&
           memcmp(head, ZIP, sizeof head) == 0;
}

static bool make(struct mf_decoder *decoder, const struct mf_deidentify_rules *rules, int fd,
                 const struct mf_job_input *in, struct mf_buffer *ret, struct mf_error *err)
{
    const struct mf_part part = {MF_PART_DICOM, fd, in->offset, in->size};
    if (strcmp(in->part, "ehr") == 0)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "FHIR data cannot be used with objects that are de-identified: it "
                            "says who the patient is");
    if (strcmp(in->part, "options") == 0)
        return read_input(fd, in, ret, err);
    if (is_zip(fd, in))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "a zip cannot be de-identified: send its files as parts");
    return mf_deidentify_part(decoder, &part, rules, ret, err);
}

bool mf_deidentify_upload(struct mf_decoder *decoder, const struct mf_deidentify_rules *rules,
                          int fd, struct mf_job_input *inputs, size_t n, struct mf_pack *pack,
                          struct mf_error *err)
{
    for (size_t i = 0, objects = 0; i < n; i++) {
        struct mf_job_input *in = &inputs[i];
        struct mf_pack_member place;
        MF_AUTO(mf_buffer) struct mf_buffer content;
        mf_buffer_init(&content, OBJECT_BYTES);
        objects += strcmp(in->part, "dicom") == 0;
        if (!make(decoder, rules, fd, in, &content, err))
            return in->part[0] == 'd' ? mf_error_prefix(err, "part %zu", objects) : false;
        if (!mf_pack_begin(pack, err) || !mf_pack_write(pack, content.data, content.len, err) ||
            !mf_pack_end(pack, &place, err))
            return false;
        in->locator = mf_pack_name(pack);
        in->offset = place.offset;
        in->size = place.size;
        memcpy(in->sha256, place.sha256, MF_SHA256_BYTES);
    }
    return true;
}
