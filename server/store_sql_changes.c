/*
 * SQL store: which jobs changed. The verbs say so (mf_sql_changed), the engine numbers it in the
 * transaction of the change, so that what is rolled back is not told.
 */
#include "server/store_sql.h"

#include <string.h>

static bool read_range(struct mf_sql_store *s, int64_t *ret_first, int64_t *ret_last,
                       struct mf_error *err)
{
    return mf_sql_int(s, mf_sql_query(s, err, "SELECT min(number) FROM job_changes", ""), ret_first,
                      err) &&
           mf_sql_int(s, mf_sql_query(s, err, "SELECT max(number) FROM job_changes", ""), ret_last,
                      err);
}

/* Which jobs, and in what order; the rest of each is read afterwards. */
static bool find_changed(struct mf_sql_store *s, const char *tenant, int64_t after,
                         struct mf_changes *ret, struct mf_error *err)
{
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT max(c.number), j.tenant, j.id FROM job_changes c"
                                         " JOIN jobs j ON j.seq = c.job"
                                         " WHERE c.number > ?1 AND (?2 IS NULL OR j.tenant = ?2)"
                                         " GROUP BY c.job, j.tenant, j.id ORDER BY 1 LIMIT ?3",
                                         "iti", after, tenant, (int64_t)MF_CHANGES_PAGE);
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1) {
        struct mf_job_change *c = &ret->list[ret->count++];
        c->number = mf_sql_int64(q, 0);
        mf_sql_copy_text(q, 1, c->job.tenant, sizeof c->job.tenant);
        mf_sql_copy_text(q, 2, c->job.id, sizeof c->job.id);
    }
    return row == 0;
}

bool mf_sql_changes(struct mf_store *store, const char *tenant, int64_t after, int wait_ms,
                    struct mf_arena *arena, struct mf_changes *ret, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    int64_t first = 0, last = 0;
    (void)wait_ms; /* the server loop parks the call; here the answer is what is known now */
    if (!read_range(s, &first, &last, err))
        return false;
    *ret = (struct mf_changes){.head = last,
                               .lost = after >= 0 && (after < first - 1 || after > last)};
    ret->list = mf_arena_alloc(arena, MF_CHANGES_PAGE, sizeof *ret->list, err);
    if (!ret->list)
        return false;
    if (after < 0 || ret->lost || after == last)
        return true;
    if (!find_changed(s, tenant, after, ret, err))
        return false;
    if (ret->count == MF_CHANGES_PAGE)
        ret->head = ret->list[ret->count - 1].number;
    for (size_t i = 0; i < ret->count; i++) {
        struct mf_job job;
        const struct mf_job *known = &ret->list[i].job;
        if (!mf_sql_job(store, known->tenant, known->id, &job, err))
            return false;
        ret->list[i].job = job;
    }
    return true;
}
