/* SQL store: dead letters are the rows of the outbox that say when they failed. */
#include "server/store_sql.h"

#define WHICH                                                                                      \
    " FROM outbox WHERE failed > 0 AND id > ?1 AND (?2 = 0 OR id = ?2)"                            \
    " AND (?3 = '' OR tenant = ?3) AND (?4 = '' OR destination = ?4) ORDER BY id LIMIT ?5"
#define COLUMNS "SELECT id, attempts, failed, tenant, job, destination, problem"

static const char SHOW[] = COLUMNS WHICH, TAKE[] = COLUMNS WHICH "/*! FOR UPDATE*/";

static const char *or_any(const char *text)
{
    return text ? text : "";
}

/* Up to `limit` of them; *ret_next: the last one's id when there are more, else 0. */
static bool read_letters(struct mf_sql_store *s, const char *sql,
                         const struct mf_dead_letter_filter *filter, int64_t cursor, size_t limit,
                         struct mf_arena *arena, struct mf_dead_letter **ret, size_t *ret_count,
                         int64_t *ret_next, struct mf_error *err)
{
    struct mf_dead_letter *letters = mf_arena_alloc(arena, limit, sizeof *letters, err);
    if (!letters)
        return false;
    struct mf_sql_rows *q =
        mf_sql_query(s, err, sql, "iitti", cursor, filter->id, or_any(filter->tenant),
                     or_any(filter->destination), (int64_t)limit + 1);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && n < limit) {
        struct mf_dead_letter *letter = &letters[n++];
        *letter = (struct mf_dead_letter){.id = mf_sql_int64(q, 0),
                                          .attempts = mf_sql_int64(q, 1),
                                          .failed_ms = mf_sql_int64(q, 2)};
        mf_sql_copy_text(q, 3, letter->tenant, sizeof letter->tenant);
        mf_sql_copy_text(q, 4, letter->job, sizeof letter->job);
        mf_sql_copy_text(q, 5, letter->destination, sizeof letter->destination);
        mf_sql_copy_text(q, 6, letter->reason, sizeof letter->reason);
    }
    if (row == 1)
        mf_sql_done(q);
    *ret_next = row == 1 ? letters[n - 1].id : 0;
    *ret = letters;
    *ret_count = n;
    return row >= 0;
}

bool mf_sql_dead_letters(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                         int64_t cursor, size_t limit, struct mf_arena *arena,
                         struct mf_dead_letter **ret, size_t *ret_count, int64_t *ret_next,
                         struct mf_error *err)
{
    return read_letters((struct mf_sql_store *)store, SHOW, filter, cursor, limit, arena, ret,
                        ret_count, ret_next, err);
}

static bool end_letter(struct mf_sql_store *s, const struct mf_dead_letter *letter,
                       enum mf_dead_letter_end end, const char *actor, struct mf_error *err)
{
    const bool retry = end == MF_DEAD_LETTER_RETRY;
    const struct mf_audit_row row = {.tenant = letter->tenant,
                                     .actor = actor,
                                     .job = letter->job,
                                     .event = retry ? "delivery.retried" : "delivery.dropped",
                                     .detail = letter->destination};
    return (retry ? mf_sql_run(s, err,
                               "UPDATE outbox SET due = 1, attempts = 0, failed = 0,"
                               " problem = NULL WHERE id = ?",
                               "i", letter->id)
                  : mf_sql_run(s, err, "DELETE FROM outbox WHERE id = ?", "i", letter->id)) &&
           s->engine->audit(s, &row, err);
}

static bool end_step(struct mf_sql_store *s, const struct mf_dead_letter_filter *filter,
                     enum mf_dead_letter_end end, const char *actor, int64_t *cursor,
                     int64_t *ret_count, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_dead_letter *letters = NULL;
    size_t n = 0;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for dead letters");
    if (!read_letters(s, TAKE, filter, *cursor, MF_STORE_BATCH, arena, &letters, &n, cursor, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!end_letter(s, &letters[i], end, actor, err))
            return false;
    *ret_count = (int64_t)n;
    return true;
}

bool mf_sql_dead_letters_end(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                             enum mf_dead_letter_end end, const char *actor, int64_t *cursor,
                             int64_t *ret_count, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, end_step(s, filter, end, actor, cursor, ret_count, err), err);
}
