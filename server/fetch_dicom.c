/*
 * Fetch: C-FIND, C-GET, C-MOVE (PS3.4 annex C), by the process of query.h. What a C-MOVE brings
 * comes to the DIMSE process and is stored; it is read from there when the source says that it has
 * sent all.
 */
#include "server/fetch_private.h"

#include "server/query.h"
#include "server/store_instances.h"

#include "core/arena.h"
#include "core/file_range.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 64 << 20, MAX_KEYS = 8, UIDS_SHOWN = 2 };

static struct mf_query query_of(const struct mf_fetch *f, const struct mf_fetch_source *from,
                                const char *level, const struct mf_net_key *keys, size_t n)
{
    return (struct mf_query){
        .service = f->query, .peer = from->address, .level = level, .keys = keys, .key_count = n};
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static json_t *find(const struct mf_fetch *f, const struct mf_fetch_source *from,
                    const struct mf_fetch_match *match, struct mf_error *err)
{
    const struct mf_net_key studies[] = {{0x00080020, or_empty(match->dates)},
                                         {0x00080061, ""}, /* ModalitiesInStudy */
                                         {0x00100020, or_empty(match->patient)},
                                         {0x00100021, ""},
                                         {0x0020000D, or_empty(match->study)}};
    const struct mf_net_key series[] = {{0x00080060, ""}, /* Modality */
                                        {0x00180015, ""}, /* BodyPartExamined */
                                        {0x0020000D, or_empty(match->study)},
                                        {0x0020000E, ""}};
    struct mf_query q = match->series
                            ? query_of(f, from, "SERIES", series, sizeof series / sizeof *series)
                            : query_of(f, from, "STUDY", studies, sizeof studies / sizeof *studies);
    return mf_fetch_seconds(f, &q.timeout_s, err) ? mf_query_find(&q, err) : NULL;
}

/* --- what became of the sub-operations --- */

/* "1.2.3, 1.2.4 …" */
static void name_failed(const struct mf_net_retrieved *r, char *out, size_t size)
{
    size_t shown = r->failed_uid_count < UIDS_SHOWN ? r->failed_uid_count : UIDS_SHOWN, at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < shown && at < size; i++) {
        int n = snprintf(out + at, size - at, "%s%s", i ? ", " : ": ", r->failed_uids[i]);
        at += n > 0 ? (size_t)n : 0;
    }
    if (r->failed > shown && shown && at < size)
        snprintf(out + at, size - at, " …");
}

/* A study of which something is missing is not analysed. */
static bool judge(bool ended, const struct mf_net_retrieved *r, struct mf_error *problem,
                  struct mf_error *err)
{
    char names[160];
    unsigned all = r->completed + r->failed + r->warning;
    if (r->failed > 0) {
        name_failed(r, names, sizeof names);
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the source could not send %u of %u objects (status %04X)%s", r->failed,
                            all, r->status, names);
    }
    if (!ended && problem->code == MF_ERR_UNUSABLE) /* its failure, not the request's */
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "%s", problem->msg);
    return ended || mf_error_set(err, problem->code, "%s", problem->msg);
}

/* --- C-GET --- */

static bool object_begin(void *context, struct mf_error *err)
{
    const struct mf_fetch *f = context;
    return f->sink->begin(f->context, "dicom", err);
}

static bool object_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    const struct mf_fetch *f = context;
    return f->sink->data(f->context, data, len, err);
}

static bool object_end(void *context, struct mf_error *err)
{
    const struct mf_fetch *f = context;
    return f->sink->end(f->context, err);
}

static bool get(const struct mf_fetch *f, const struct mf_query *q, struct mf_error *err)
{
    static const struct mf_net_sink sink = {object_begin, object_data, object_end};
    struct mf_fetch taker = *f;
    struct mf_net_retrieved r;
    struct mf_error problem = MF_ERROR_INIT;
    bool ended = mf_query_get(q, &sink, &taker, &r, &problem);
    return judge(ended, &r, &problem, err) &&
           (r.completed + r.warning > 0 ||
            mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study"));
}

/* --- C-MOVE --- */

static bool give_piece(void *context, const void *piece, size_t len, struct mf_error *err)
{
    const struct mf_fetch *f = context;
    return f->sink->data(f->context, piece, len, err);
}

static bool copy_instance(const struct mf_fetch *f, const struct mf_stored *from,
                          struct mf_error *err)
{
    struct mf_fetch to = *f;
    MF_AUTO(mf_fd)
    int fd = mf_blobs_open_part(f->blobs, from->locator, from->offset, from->size, err);
    const struct mf_file_range range = {"a stored instance", fd, from->offset, from->size};
    return fd >= 0 && f->sink->begin(f->context, "dicom", err) &&
           mf_file_range_pieces(&range, give_piece, &to, err) && f->sink->end(f->context, err);
}

/* Everything that is stored of the study. */
static bool take_stored(const struct mf_fetch *f, const char *study, struct mf_error *err)
{
    const struct mf_match match = {MF_STUDY_UID, MF_MATCH_EQUAL, study};
    struct mf_search search = {.tenant = f->tenant,
                               .level = MF_LEVEL_INSTANCE,
                               .matches = &match,
                               .match_count = 1,
                               .limit = MF_STORE_BATCH};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a study");
    for (size_t n = MF_STORE_BATCH; n == MF_STORE_BATCH; search.offset += n) {
        struct mf_found *rows = NULL;
        if (!mf_store_instances_search(f->store, &search, arena, &rows, &n, err))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!copy_instance(f, &rows[i].stored, err))
                return false;
        if (search.offset + n == 0)
            return mf_error_set(err, MF_ERR_UNAVAILABLE,
                                "the source sent nothing here: does it know where %s is?",
                                f->config->dimse.ae_title);
    }
    return true;
}

static bool move(const struct mf_fetch *f, const struct mf_query *q, const char *study,
                 struct mf_error *err)
{
    struct mf_net_retrieved r;
    struct mf_error problem = MF_ERROR_INIT;
    bool ended = mf_query_move(q, &r, &problem);
    return judge(ended, &r, &problem, err) && take_stored(f, study, err);
}

static bool retrieve(const struct mf_fetch *f, const struct mf_fetch_source *from,
                     const char *study, struct mf_error *err)
{
    const struct mf_net_key key = {0x0020000D, study};
    struct mf_query q = query_of(f, from, "STUDY", &key, 1);
    if (!mf_fetch_seconds(f, &q.timeout_s, err))
        return false;
    return from->method == MF_FETCH_MOVE ? move(f, &q, study, err) : get(f, &q, err);
}

const struct mf_fetch_way mf_fetch_dicom = {find, retrieve};
