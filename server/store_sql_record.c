/* SQL store: everything that is kept of one job, in one answer. */
#include "server/store_sql.h"

#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

/* The body in the first column, copied; *ret NULL when there is no row. */
static bool take_body(struct mf_sql_store *s, struct mf_sql_rows *q, struct mf_arena *arena,
                      const char **ret, size_t *ret_len, struct mf_error *err)
{
    int row = mf_sql_row(s, q, err);
    *ret = NULL;
    *ret_len = 0;
    if (row != 1)
        return row == 0;
    size_t n = (size_t)mf_sql_bytes(q, 0);
    char *copy = mf_arena_alloc(arena, n + 1, 1, err);
    if (copy && n)
        memcpy(copy, mf_sql_blob(q, 0), n);
    mf_sql_done(q);
    *ret = copy;
    *ret_len = n;
    return copy != NULL;
}

bool mf_sql_record(struct mf_store *store, const char *tenant, const char *id,
                   struct mf_arena *arena, struct mf_job_record *ret, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    int64_t seq = 0;
    *ret = (struct mf_job_record){.result = NULL};
    if (!mf_sql_job(store, tenant, id, &ret->job, err) ||
        !mf_sql_int(s, mf_sql_query(s, err, "SELECT seq FROM jobs WHERE id = ?", "t", id), &seq,
                    err) ||
        !mf_sql_inputs(s, seq, arena, &ret->inputs, &ret->input_count, err))
        return false;
    if (ret->job.state != MF_JOB_SUCCEEDED || ret->job.purged)
        return true;
    return take_body(s, mf_sql_query(s, err, "SELECT body FROM results WHERE job = ?1", "i", seq),
                     arena, &ret->result, &ret->result_len, err) &&
           take_body(s, mf_sql_query(s, err, "SELECT body FROM job_index WHERE job = ?1", "i", seq),
                     arena, &ret->index, &ret->index_len, err) &&
           take_body(s, mf_sql_query(s, err, "SELECT body FROM masks WHERE job = ?1", "i", seq),
                     arena, &ret->masks, &ret->masks_len, err) &&
           take_body(s,
                     mf_sql_query(s, err, "SELECT body FROM explanations WHERE job = ?1", "i", seq),
                     arena, &ret->explanation, &ret->explanation_len, err);
}
