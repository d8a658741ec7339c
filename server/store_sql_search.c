/*
 * SQL store: searching studies, series and instances. The statement is put together from
 * constant pieces and the column names of the table of attributes; every value is bound.
 */
#include "server/store_sql.h"

#include <string.h>

enum { SQL_BYTES = 16 << 10, MAX_VALUES = 512 };

struct statement {
    struct mf_buffer sql;
    struct mf_sql_value values[MAX_VALUES];
    size_t value_count;
    struct mf_arena *arena;
};

static bool add_value(struct statement *t, const char *text, size_t len, struct mf_error *err)
{
    if (t->value_count == MAX_VALUES)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a search has more than %d values", MAX_VALUES);
    const char *copy = mf_arena_strndup(t->arena, text, len, err);
    t->values[t->value_count++] = (struct mf_sql_value){.type = 't', .bytes = copy};
    return copy != NULL;
}

/* '*' and '?' as LIKE writes them, its own signs escaped. */
static bool add_pattern(struct statement *t, const char *text, struct mf_error *err)
{
    char *out = mf_arena_alloc(t->arena, 2 * strlen(text) + 1, 1, err);
    size_t n = 0;
    if (!out)
        return false;
    for (const char *s = text; *s; s++) {
        if (*s == '%' || *s == '_' || *s == '!')
            out[n++] = '!';
        out[n++] = (char)(*s == '*' ? '%' : *s == '?' ? '_' : *s);
    }
    return add_value(t, out, n, err);
}

/* "20200101-20201231", "-1200", "1200-". The end includes what it is a prefix of (1200 = 12:00:59).
 */
static bool add_range(struct statement *t, const char *column, const char *text,
                      struct mf_error *err)
{
    size_t from = strcspn(text, "-");
    const char *to = text[from] ? text + from + 1 : text + from;
    if (from > 0 &&
        (!mf_buffer_printf(&t->sql, err, " AND %s >= ?", column) || !add_value(t, text, from, err)))
        return false;
    if (!*to)
        return true;
    return mf_buffer_printf(&t->sql, err, " AND substr(%s, 1, %d) <= ?", column, (int)strlen(to)) &&
           add_value(t, to, strlen(to), err);
}

static bool add_list(struct statement *t, const char *column, const char *text,
                     struct mf_error *err)
{
    const char *separator = "";
    if (!mf_buffer_printf(&t->sql, err, " AND %s IN (", column))
        return false;
    for (const char *s = text; *s;) {
        size_t len = strcspn(s, ",\\");
        if (len > 0) {
            if (!mf_buffer_printf(&t->sql, err, "%s?", separator) || !add_value(t, s, len, err))
                return false;
            separator = ", ";
        }
        s += len + (s[len] != '\0');
    }
    return mf_buffer_append_str(&t->sql, ")", err);
}

static bool add_match(struct statement *t, const struct mf_match *m, struct mf_error *err)
{
    const char *column = mf_attributes[m->attribute].keyword;
    switch (m->kind) {
    case MF_MATCH_RANGE:
        return add_range(t, column, m->value, err);
    case MF_MATCH_LIST:
        return add_list(t, column, m->value, err);
    case MF_MATCH_PATTERN:
        return mf_buffer_printf(&t->sql, err, " AND %s /*!I*/LIKE ? ESCAPE '!'", column) &&
               add_pattern(t, m->value, err);
    default:
        break;
    }
    if (!*m->value)
        return mf_buffer_printf(&t->sql, err, " AND %s IS NULL", column);
    return mf_buffer_printf(&t->sql, err, " AND %s = ?", column) &&
           add_value(t, m->value, strlen(m->value), err);
}

/* A condition on series or instances below the level of the rows: some of them must fit all. */
static bool add_below(struct statement *t, const struct mf_search *search, struct mf_error *err)
{
    bool any = false, instances = false;
    for (size_t i = 0; i < search->match_count; i++) {
        enum mf_level level = mf_attributes[search->matches[i].attribute].level;
        any = any || level > search->level;
        instances = instances || (level > search->level && level == MF_LEVEL_INSTANCE);
    }
    if (!any)
        return true;
    const char *from = search->level == MF_LEVEL_STUDY
                           ? " AND EXISTS (SELECT 1 FROM series x%s WHERE x.study = s.study"
                           : " AND EXISTS (SELECT 1 FROM instances y WHERE y.series = e.series";
    if (!mf_buffer_printf(&t->sql, err, from,
                          instances ? " JOIN instances y ON y.series = x.series" : ""))
        return false;
    for (size_t i = 0; i < search->match_count; i++)
        if (mf_attributes[search->matches[i].attribute].level > search->level &&
            !add_match(t, &search->matches[i], err))
            return false;
    return mf_buffer_append_str(&t->sql, ")", err);
}

static bool build(const struct mf_sql_store *s, struct statement *t, const struct mf_search *search,
                  struct mf_error *err)
{
    static const char *const FROM[] = {
        " FROM studies s WHERE s.tenant = ?",
        " FROM studies s JOIN series e ON e.study = s.study WHERE s.tenant = ?",
        " FROM studies s JOIN series e ON e.study = s.study"
        " JOIN instances i ON i.series = e.series WHERE s.tenant = ?"};
    static const char *const COUNTS[] = {
        "s.series, s.instances, (SELECT %s FROM series m WHERE m.study = s.study)",
        "0, e.instances, NULL",
        "0, 1, NULL, i.transfer_syntax, i.data_set, i.locator, i.\"offset\", i.size, i.sha256,"
        " i.source, i.received"};
    static const char *const ORDER[] = {" ORDER BY s.study", " ORDER BY e.series",
                                        " ORDER BY i.instance"};
    if (!mf_buffer_append_str(&t->sql, "SELECT ", err))
        return false;
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        if (mf_attributes[i].level <= search->level &&
            !mf_buffer_printf(&t->sql, err, "%s, ", mf_attributes[i].keyword))
            return false;
    if (!mf_buffer_printf(&t->sql, err, COUNTS[search->level], s->engine->join) ||
        !mf_buffer_append_str(&t->sql, FROM[search->level], err) ||
        !add_value(t, search->tenant, strlen(search->tenant), err))
        return false;
    for (size_t i = 0; i < search->match_count; i++)
        if (mf_attributes[search->matches[i].attribute].level <= search->level &&
            !add_match(t, &search->matches[i], err))
            return false;
    return add_below(t, search, err) &&
           mf_buffer_printf(&t->sql, err, "%s LIMIT %zu OFFSET %zu", ORDER[search->level],
                            search->limit, search->offset);
}

/* --- rows --- */

static const char *copy_column(struct mf_sql_rows *q, int column, struct mf_arena *arena,
                               bool *failed)
{
    const char *text = mf_sql_text(q, column);
    const char *copy = text ? mf_arena_strdup(arena, text, NULL) : NULL;
    *failed = *failed || (text && !copy);
    return copy;
}

static bool read_row(struct mf_sql_rows *q, enum mf_level level, struct mf_arena *arena,
                     struct mf_found *ret, struct mf_error *err)
{
    bool failed = false;
    int c = 0;
    struct mf_stored *in = &ret->stored;
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        if (mf_attributes[i].level <= level)
            in->instance.values[i] = copy_column(q, c++, arena, &failed);
    ret->series_count = mf_sql_int64(q, c++);
    ret->instance_count = mf_sql_int64(q, c++);
    char *modalities = (char *)(uintptr_t)copy_column(q, c++, arena, &failed);
    for (char *p = modalities; p && *p; p++)
        *p = (char)(*p == ',' ? '\\' : *p); /* the join's comma: no CS value has one */
    ret->modalities = modalities;
    if (level == MF_LEVEL_INSTANCE) {
        in->instance.transfer_syntax = copy_column(q, c++, arena, &failed);
        in->instance.data_set = (uint64_t)mf_sql_int64(q, c++);
        in->locator = copy_column(q, c++, arena, &failed);
        in->offset = (uint64_t)mf_sql_int64(q, c++);
        in->size = (uint64_t)mf_sql_int64(q, c++);
        mf_sql_copy_digest(q, c++, in->sha256);
        in->source = copy_column(q, c++, arena, &failed);
        in->received_ms = mf_sql_int64(q, c);
    }
    return !failed || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a search");
}

static bool run(struct mf_sql_store *s, struct statement *t, const struct mf_search *search,
                struct mf_found *rows, size_t *ret_count, struct mf_error *err)
{
    struct mf_sql_rows *q = s->engine->query(s, t->sql.data, false, t->values, t->value_count, err);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1)
        if (!read_row(q, search->level, t->arena, &rows[n++], err)) {
            mf_sql_done(q);
            return false;
        }
    *ret_count = n;
    return row >= 0;
}

bool mf_sql_instances_search(struct mf_store *store, const struct mf_search *search,
                             struct mf_arena *arena, struct mf_found **ret, size_t *ret_count,
                             struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    struct statement t = {.arena = arena};
    *ret_count = 0;
    if (search->limit == 0 || search->limit > MF_STORE_BATCH || search->level > MF_LEVEL_INSTANCE)
        return mf_error_set(err, MF_ERR_INTERNAL, "a search asks for no rows or more than %d",
                            MF_STORE_BATCH);
    struct mf_found *rows = mf_arena_alloc(arena, search->limit, sizeof *rows, err);
    mf_buffer_init(&t.sql, SQL_BYTES);
    bool ok = rows && build(s, &t, search, err) && run(s, &t, search, rows, ret_count, err);
    mf_buffer_free(&t.sql);
    *ret = rows;
    return ok;
}
