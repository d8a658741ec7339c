/* Courier: results among our own stored instances. They make no study due (intake.c). */
#include "server/courier_here.h"

#include "server/intake.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 64 << 20 };

bool mf_courier_here_wants(const char *destination)
{
    return strcmp(destination, "here:") == 0;
}

static bool write_all(struct mf_pack *pack, const struct mf_buffer *files,
                      struct mf_intake_item *items, size_t n, struct mf_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!mf_pack_begin(pack, err) || !mf_pack_write(pack, files[i].data, files[i].len, err) ||
            !mf_pack_end(pack, &items[i].place, err))
            return false;
    return true;
}

static bool judge(const struct mf_intake_item *items, size_t n, struct mf_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (items[i].status != MF_DICOM_SUCCESS)
            return mf_error_set(err, MF_ERR_UNUSABLE, "an object cannot be stored here: %s",
                                items[i].description.problem.msg);
    return true;
}

bool mf_courier_here(const struct mf_courier_outbox *c, const char *tenant,
                     const struct mf_buffer *files, size_t n, struct mf_error *err)
{
    const struct mf_intake intake = {.describer = {mf_intake_describe_by_decoder, c->decoder},
                                     .blobs = c->blobs,
                                     .store = c->store,
                                     .tenant = tenant,
                                     .source = "result",
                                     .quiet_ms = MF_STORE_NOT_DUE};
    bool kept = false;
    struct mf_error failure = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    MF_AUTO(mf_mem) struct mf_intake_item *items = calloc(n + 1, sizeof *items);
    MF_AUTO(mf_pack) struct mf_pack *pack = mf_pack_new(c->blobs, err);
    if (!arena || !items)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    int fd = pack && write_all(pack, files, items, n, err) ? mf_pack_flush(pack, err) : -1;
    if (fd < 0 || !mf_intake_describe(&intake, fd, items, n, arena, err) ||
        !mf_pack_sync(pack, err))
        return false;
    bool ok = mf_intake_commit(&intake, mf_pack_name(pack), items, n, &kept, &failure);
    if (kept || failure.code == MF_ERR_IO) /* IO: it may be committed, the sweep decides later */
        mf_pack_keep(pack);
    return ok ? judge(items, n, err) : mf_error_set(err, failure.code, "%s", failure.msg);
}
