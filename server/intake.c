/* Intake: describing, storing, and telling the same object from another under one UID. */
#include "server/intake.h"

#include "core/file_range.h"

#include <stdlib.h>
#include <string.h>

enum { COMPARE_BYTES = 64 << 10, ARENA_BYTES = 64 << 20 };

enum mf_dicom_status mf_intake_status(enum mf_code code)
{
    switch (code) {
    case MF_OK:
        return MF_DICOM_SUCCESS;
    case MF_ERR_MALFORMED:
    case MF_ERR_CRASHED:
        return MF_DICOM_CANNOT_UNDERSTAND;
    case MF_ERR_UNSUPPORTED:
        return MF_DICOM_SYNTAX_NOT_SUPPORTED;
    case MF_ERR_UNUSABLE:
        return MF_DICOM_MISMATCH;
    case MF_ERR_CONFLICT:
        return MF_DICOM_DUPLICATE;
    case MF_ERR_FORBIDDEN:
    case MF_ERR_UNAUTHORIZED:
        return MF_DICOM_NOT_AUTHORIZED;
    case MF_ERR_TOO_LARGE:
    case MF_ERR_BUSY:
    case MF_ERR_NO_MEMORY:
    case MF_ERR_IO:
    case MF_ERR_UNAVAILABLE:
    case MF_ERR_TIMEOUT:
        return MF_DICOM_OUT_OF_RESOURCES;
    default:
        return MF_DICOM_PROCESSING_FAILURE;
    }
}

bool mf_intake_describe_by_decoder(void *decoder, const char *sender, const struct mf_part *parts,
                                   size_t n, struct mf_arena *arena, struct mf_description *ret,
                                   struct mf_error *err)
{
    return mf_describe(decoder, sender, parts, n, arena, ret, err);
}

bool mf_intake_describe(const struct mf_intake *intake, int fd, struct mf_intake_item *items,
                        size_t n, struct mf_arena *arena, struct mf_error *err)
{
    struct mf_part *parts = mf_arena_alloc(arena, n + 1, sizeof *parts, err);
    struct mf_description *found = mf_arena_alloc(arena, n + 1, sizeof *found, err);
    if (!parts || !found)
        return false;
    for (size_t i = 0; i < n; i++)
        parts[i] = (struct mf_part){MF_PART_DICOM, fd, items[i].place.offset, items[i].place.size};
    const struct mf_describer *d = &intake->describer;
    if (!d->describe(d->context, intake->sender, parts, n, arena, found, err))
        return false;
    for (size_t i = 0; i < n; i++) {
        items[i].description = found[i];
        items[i].status = mf_intake_status(found[i].problem.code);
    }
    return true;
}

/* --- committing --- */

static bool same_bytes(int a, uint64_t at_a, int b, uint64_t at_b, uint64_t size)
{
    MF_AUTO(mf_mem) char *buffer = malloc(2 * (size_t)COMPARE_BYTES);
    for (uint64_t done = 0; buffer && done < size;) {
        size_t len = size - done < COMPARE_BYTES ? (size_t)(size - done) : COMPARE_BYTES;
        if (mf_read_at(a, at_a + done, buffer, len) != 0 ||
            mf_read_at(b, at_b + done, buffer + COMPARE_BYTES, len) != 0 ||
            memcmp(buffer, buffer + COMPARE_BYTES, len) != 0)
            return false;
        done += len;
    }
    return buffer != NULL;
}

/* The same data set may have come before under other file meta information. */
static bool same_data_set(const struct mf_intake *intake, const char *locator,
                          const struct mf_intake_item *item, const struct mf_added *there)
{
    struct mf_error ignored = MF_ERROR_INIT;
    uint64_t begin = item->description.instance.data_set;
    uint64_t size = item->place.size - begin;
    if (begin > item->place.size || there->data_set > there->size ||
        there->size - there->data_set != size)
        return false;
    MF_AUTO(mf_fd) int old = mf_blobs_open_pack(intake->blobs, there->locator, &ignored);
    MF_AUTO(mf_fd) int new = mf_blobs_open_pack(intake->blobs, locator, &ignored);
    return old >= 0 && new >= 0 &&
           same_bytes(old, there->offset + there->data_set, new, item->place.offset + begin, size);
}

static void take_result(const struct mf_intake *intake, const char *locator,
                        struct mf_intake_item *item, const struct mf_added *added, bool *kept)
{
    struct mf_error *problem = &item->description.problem;
    if (added->result == MF_ADD_STORED)
        *kept = true;
    else if (added->result == MF_ADD_OTHER_PATIENT)
        mf_error_set(problem, MF_ERR_UNUSABLE, "its study is stored as another patient's");
    else if (added->result == MF_ADD_DIFFERENT && !same_data_set(intake, locator, item, added))
        mf_error_set(problem, MF_ERR_CONFLICT,
                     "another object is stored under this SOP Instance UID");
    item->status = mf_intake_status(problem->code);
}

/* Objects that no model reads: reports, segmentations, presentation states, and our own pictures
 * (dicom/write_sc.c). A PACS that forwards everything sends results back to us, and these must not
 * make another job of their study, whose results would come back again. */
static bool is_result(const struct mf_instance *instance)
{
    static const char REPORTS[] = "1.2.840.10008.5.1.4.1.1.88.",
                      STATES[] = "1.2.840.10008.5.1.4.1.1.11.",
                      SEGMENTATION[] = "1.2.840.10008.5.1.4.1.1.66.4",
                      PICTURE[] = "1.2.840.10008.5.1.4.1.1.7";
    const char *class = instance->values[MF_SOP_CLASS_UID];
    const char *uid = instance->values[MF_SOP_INSTANCE_UID];
    const char *series = instance->values[MF_SERIES_NUMBER];
    if (!class || !uid)
        return false;
    return strncmp(class, REPORTS, strlen(REPORTS)) == 0 ||
           strncmp(class, STATES, strlen(STATES)) == 0 || strcmp(class, SEGMENTATION) == 0 ||
           (strcmp(class, PICTURE) == 0 && series && strcmp(series, "9003") == 0 &&
            strncmp(uid, "2.25.", 5) == 0);
}

static bool commit_batch(const struct mf_intake *intake, const char *locator,
                         struct mf_intake_item *const *items, size_t n, bool results, bool *kept,
                         struct mf_error *err)
{
    const int64_t quiet_ms = results ? MF_STORE_NOT_DUE : intake->quiet_ms;
    MF_AUTO(mf_mem) struct mf_stored *stored = calloc(n, sizeof *stored);
    MF_AUTO(mf_mem) struct mf_added *added = calloc(n, sizeof *added);
    if (!stored || !added)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for stored instances");
    for (size_t i = 0; i < n; i++) {
        stored[i] = (struct mf_stored){.instance = items[i]->description.instance,
                                       .locator = locator,
                                       .offset = items[i]->place.offset,
                                       .size = items[i]->place.size,
                                       .source = intake->source};
        memcpy(stored[i].sha256, items[i]->place.sha256, MF_SHA256_BYTES);
    }
    if (!mf_store_instances_add(intake->store, intake->tenant, quiet_ms, stored, n, added, err))
        return false;
    for (size_t i = 0; i < n; i++)
        take_result(intake, locator, items[i], &added[i], kept);
    return true;
}

/* The results among the items, or the others. */
static bool commit_kind(const struct mf_intake *intake, const char *locator,
                        struct mf_intake_item *items, size_t n, bool results, bool *kept,
                        struct mf_error *err)
{
    struct mf_intake_item *batch[MF_STORE_BATCH];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i].status == MF_DICOM_SUCCESS &&
            is_result(&items[i].description.instance) == results)
            batch[count++] = &items[i];
        if (count > 0 && (count == MF_STORE_BATCH || i + 1 == n)) {
            if (!commit_batch(intake, locator, batch, count, results, kept, err))
                return false;
            count = 0;
        }
    }
    return true;
}

static bool commit_all(const struct mf_intake *intake, const char *locator,
                       struct mf_intake_item *items, size_t n, bool *ret_kept, struct mf_error *err)
{
    *ret_kept = false;
    return commit_kind(intake, locator, items, n, false, ret_kept, err) &&
           commit_kind(intake, locator, items, n, true, ret_kept, err);
}

/* What came is not stored, and its pack not kept; what is made of it is. */
static bool commit_deidentified(const struct mf_intake *intake, const char *locator,
                                struct mf_intake_item *items, size_t n, struct mf_error *err)
{
    bool kept = false;
    struct mf_error failure = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    MF_AUTO(mf_pack) struct mf_pack *pack = mf_pack_new(intake->blobs, err);
    struct mf_intake_item *made = arena ? mf_arena_alloc(arena, n, sizeof *made, err) : NULL;
    if (!pack || !made)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for stored instances");
    if (!mf_intake_deidentify(intake, locator, items, n, pack, arena, made, err))
        return false;
    bool ok = commit_all(intake, mf_pack_name(pack), made, n, &kept, &failure);
    if (kept || failure.code == MF_ERR_IO) /* IO: it may be committed, the sweep decides later */
        mf_pack_keep(pack);
    for (size_t i = 0; i < n; i++) {
        items[i].status = made[i].status;
        items[i].description.problem = made[i].description.problem;
    }
    /* UNAVAILABLE: nothing refers to what came, so it need not be kept */
    enum mf_code code = failure.code == MF_ERR_IO ? MF_ERR_UNAVAILABLE : failure.code;
    return ok || mf_error_set(err, code, "%s", failure.msg);
}

bool mf_intake_commit(const struct mf_intake *intake, const char *locator,
                      struct mf_intake_item *items, size_t n, bool *ret_kept, struct mf_error *err)
{
    *ret_kept = false;
    return intake->deidentify ? commit_deidentified(intake, locator, items, n, err)
                              : commit_all(intake, locator, items, n, ret_kept, err);
}
