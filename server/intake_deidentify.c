/* Intake: objects that are stored de-identified (deidentify.stored). */
#include "server/deidentify.h"
#include "server/intake.h"

#include <string.h>

enum { OBJECT_BYTES = 1 << 30 };

static bool make_one(const struct mf_intake *intake, int fd, const struct mf_intake_item *item,
                     struct mf_pack *pack, struct mf_intake_item *ret, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer object;
    const struct mf_part part = {MF_PART_DICOM, fd, item->place.offset, item->place.size};
    mf_buffer_init(&object, OBJECT_BYTES);
    return mf_deidentify_part(intake->decoder, &part, intake->deidentify, &object, err) &&
           mf_pack_begin(pack, err) && mf_pack_write(pack, object.data, object.len, err) &&
           mf_pack_end(pack, &ret->place, err);
}

/* Those that could be made get the descriptions of what was made. */
static bool describe(const struct mf_intake *intake, struct mf_pack *pack,
                     struct mf_intake_item *items, size_t n, struct mf_arena *arena,
                     struct mf_error *err)
{
    struct mf_part *parts = mf_arena_alloc(arena, n + 1, sizeof *parts, err);
    struct mf_description *found = mf_arena_alloc(arena, n + 1, sizeof *found, err);
    size_t made = 0;
    int fd = mf_pack_flush(pack, err);
    if (!parts || !found || fd < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (items[i].status == MF_DICOM_SUCCESS)
            parts[made++] =
                (struct mf_part){MF_PART_DICOM, fd, items[i].place.offset, items[i].place.size};
    if (made > 0 && !intake->describer.describe(intake->describer.context, intake->sender, parts,
                                                made, arena, found, err))
        return false;
    for (size_t i = 0, k = 0; i < n; i++)
        if (items[i].status == MF_DICOM_SUCCESS) {
            items[i].description = found[k++];
            items[i].status = mf_intake_status(items[i].description.problem.code);
        }
    return true;
}

bool mf_intake_deidentify(const struct mf_intake *intake, const char *locator,
                          struct mf_intake_item *items, size_t n, struct mf_pack *pack,
                          struct mf_arena *arena, struct mf_intake_item *ret, struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = mf_blobs_open_pack(intake->blobs, locator, err);
    if (fd < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct mf_error problem = MF_ERROR_INIT;
        ret[i] = items[i];
        if (items[i].status != MF_DICOM_SUCCESS ||
            make_one(intake, fd, &items[i], pack, &ret[i], &problem))
            continue;
        if (problem.code == MF_ERR_IO || problem.code == MF_ERR_UNAVAILABLE ||
            problem.code == MF_ERR_NO_MEMORY) /* of ours */
            return mf_error_set(err, problem.code, "%s", problem.msg);
        mf_error_set(&ret[i].description.problem, problem.code, "%s", problem.msg);
        ret[i].status = mf_intake_status(problem.code);
    }
    return describe(intake, pack, ret, n, arena, err) && mf_pack_sync(pack, err);
}
