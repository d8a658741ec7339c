/*
 * PostgreSQL engine: what groups write in one order. A row of `store_head` is locked from here to
 * the commit, so audit rows are chained without gaps, changes are numbered in the order in which
 * they become visible, and the counters' rows are never waited for while other rows are locked
 * (which could end in a deadlock). Whoever waits elsewhere is woken by NOTIFY.
 */
#include "server/store_postgres.h"

#include <stdlib.h>
#include <string.h>

enum { IDS_PER_NOTE = 200, ID = MF_JOB_ID - 1, KEEP_EVERY = 1000 };

static struct mf_postgres_store *self(struct mf_sql_store *store)
{
    return (struct mf_postgres_store *)store;
}

static bool no_memory(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory in the job store");
}

/* --- noting --- */

static bool grow(void **list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(*list, wanted * size);
    if (!grown)
        return false;
    *list = grown;
    *capacity = wanted;
    return true;
}

static void free_audit(struct mf_pg_audit *audit)
{
    for (int i = 0; i < 5; i++)
        free(audit->texts[i]);
}

bool mf_pg_audit(struct mf_sql_store *store, const struct mf_audit_row *row, struct mf_error *err)
{
    struct mf_pg_notes *n = &self(store)->notes;
    const char *const texts[5] = {row->tenant, row->job, row->event, row->detail, row->actor};
    struct mf_pg_audit audit = {{NULL}};
    bool ok = grow((void **)&n->audits, n->audit_count, &n->audit_capacity, sizeof *n->audits);
    for (int i = 0; i < 5 && ok; i++)
        ok = !texts[i] || (audit.texts[i] = strdup(texts[i])) != NULL;
    if (!ok) {
        free_audit(&audit);
        return no_memory(err);
    }
    n->audits[n->audit_count++] = audit;
    return true;
}

bool mf_pg_count(struct mf_sql_store *store, const char *counter, int64_t by, struct mf_error *err)
{
    struct mf_pg_notes *n = &self(store)->notes;
    size_t i = 0;
    while (i < n->count_count && strcmp(n->counts[i].name, counter) != 0)
        i++;
    if (i == MF_PG_COUNTERS)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store has too many counters");
    if (i == n->count_count) {
        snprintf(n->counts[i].name, sizeof n->counts[i].name, "%s", counter);
        n->counts[n->count_count++].by = 0;
    }
    n->counts[i].by += by;
    return true;
}

bool mf_pg_changed(struct mf_sql_store *store, int64_t seq, struct mf_error *err)
{
    struct mf_pg_notes *n = &self(store)->notes;
    if (!grow((void **)&n->changes, n->change_count, &n->change_capacity, sizeof *n->changes))
        return no_memory(err);
    n->changes[n->change_count++] = seq;
    return true;
}

void mf_pg_notes_mark(struct mf_postgres_store *s)
{
    s->audits_before = s->notes.audit_count;
    s->changes_before = s->notes.change_count;
    s->counts_count_before = s->notes.count_count;
    for (size_t i = 0; i < s->notes.count_count; i++)
        s->counts_before[i] = s->notes.counts[i].by;
}

void mf_pg_notes_rewind(struct mf_postgres_store *s)
{
    while (s->notes.audit_count > s->audits_before)
        free_audit(&s->notes.audits[--s->notes.audit_count]);
    s->notes.change_count = s->changes_before;
    s->notes.count_count = s->counts_count_before;
    for (size_t i = 0; i < s->notes.count_count; i++)
        s->notes.counts[i].by = s->counts_before[i];
}

void mf_pg_notes_clear(struct mf_postgres_store *s)
{
    s->audits_before = s->changes_before = s->counts_count_before = 0;
    mf_pg_notes_rewind(s);
}

/* --- writing --- */

struct head {
    struct mf_audit_point audit;
    int64_t change; /* number of the last one */
};

static bool lock_head(struct mf_postgres_store *s, struct head *ret, struct mf_error *err)
{
    struct mf_sql_rows *q =
        mf_sql_query(&s->sql, err, "SELECT seq, hash, change FROM store_head/*! FOR UPDATE*/", "");
    if (mf_sql_row(&s->sql, q, err) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store's head is missing");
    ret->audit.seq = mf_sql_int64(q, 0);
    mf_sql_copy_digest(q, 1, ret->audit.hash);
    ret->change = mf_sql_int64(q, 2);
    mf_sql_done(q);
    return true;
}

/* Rows are inserted TOGETHER at a time while there are as many, then one by one. */
#define FOUR(row) row ", " row ", " row ", " row
#define TOGETHER(row) FOUR(FOUR(row))
enum { TOGETHER_ROWS = 16, AUDIT_COLUMNS = 8, CHANGE_COLUMNS = 2 };

static bool insert_rows(struct mf_postgres_store *s, const char *one, const char *many,
                        const struct mf_sql_value *values, size_t rows, size_t columns,
                        struct mf_error *err)
{
    s->sql.writes += rows > 0;
    while (rows > 0) {
        const size_t now = rows < TOGETHER_ROWS ? 1 : TOGETHER_ROWS;
        if (!mf_pg_run(&s->sql, now == 1 ? one : many, values, now * columns, err))
            return false;
        values += now * columns;
        rows -= now;
    }
    return true;
}

static struct mf_sql_value text(const char *bytes)
{
    return (struct mf_sql_value){.type = 't', .bytes = bytes};
}

static struct mf_sql_value integer(int64_t number)
{
    return (struct mf_sql_value){.type = 'i', .integer = number};
}

#define INSERT_AUDIT "INSERT INTO audit(seq, time, tenant, job, event, detail, actor, hash) VALUES"
#define AUDIT_ROW "(?, ?, ?, ?, ?, ?, ?, ?)"

static bool write_audits(struct mf_postgres_store *s, struct head *head, struct mf_error *err)
{
    struct mf_audit_row rows[TOGETHER_ROWS];
    struct mf_sql_value values[TOGETHER_ROWS * AUDIT_COLUMNS];
    const size_t count = s->notes.audit_count;
    for (size_t i = 0, n = 0; i < count; i++) {
        char *const *t = s->notes.audits[i].texts;
        struct mf_audit_row *row = &rows[n];
        *row = (struct mf_audit_row){
            .tenant = t[0], .job = t[1], .event = t[2], .detail = t[3], .actor = t[4]};
        mf_sql_audit_link(&s->sql, &head->audit, row);
        const struct mf_sql_value columns[AUDIT_COLUMNS] = {
            integer(row->seq), integer(row->time_ms),
            text(row->tenant), text(row->job),
            text(row->event),  text(row->detail),
            text(row->actor),  {.type = 'b', .bytes = row->hash, .len = sizeof row->hash}};
        memcpy(values + n++ * AUDIT_COLUMNS, columns, sizeof columns);
        if (n < TOGETHER_ROWS && i + 1 < count)
            continue;
        if (!insert_rows(s, INSERT_AUDIT AUDIT_ROW, INSERT_AUDIT TOGETHER(AUDIT_ROW), values, n,
                         AUDIT_COLUMNS, err))
            return false;
        n = 0;
    }
    return true;
}

/* A job that changed several times in a group is told of once. */
static bool told_later(const struct mf_pg_notes *n, size_t i)
{
    for (size_t k = i + 1; k < n->change_count; k++)
        if (n->changes[k] == n->changes[i])
            return true;
    return false;
}

_Static_assert(MF_CHANGES_KEPT == 10000, "the number in the statement");

#define INSERT_CHANGE "INSERT INTO job_changes(number, job) VALUES"

static bool write_changes(struct mf_postgres_store *s, struct head *head, struct mf_error *err)
{
    struct mf_sql_value values[TOGETHER_ROWS * CHANGE_COLUMNS];
    const int64_t before = head->change;
    const size_t count = s->notes.change_count;
    for (size_t i = 0, n = 0; i < count; i++) {
        if (!told_later(&s->notes, i)) { /* the last one is told */
            values[n * CHANGE_COLUMNS] = integer(++head->change);
            values[n++ * CHANGE_COLUMNS + 1] = integer(s->notes.changes[i]);
        }
        if (n < TOGETHER_ROWS && i + 1 < count)
            continue;
        if (!insert_rows(s, INSERT_CHANGE "(?, ?)", INSERT_CHANGE TOGETHER("(?, ?)"), values, n,
                         CHANGE_COLUMNS, err))
            return false;
        n = 0;
    }
    return before / KEEP_EVERY == head->change / KEEP_EVERY ||
           mf_sql_run(&s->sql, err, "DELETE FROM job_changes WHERE number <= ? - 10000", "i",
                      head->change);
}

static bool write_counts(struct mf_postgres_store *s, struct mf_error *err)
{
    for (size_t i = 0; i < s->notes.count_count; i++)
        if (s->notes.counts[i].by &&
            !mf_sql_run(&s->sql, err,
                        "INSERT INTO counters(name, value) VALUES(?, ?) ON CONFLICT(name)"
                        " DO UPDATE SET value = counters.value + excluded.value",
                        "ti", s->notes.counts[i].name, s->notes.counts[i].by))
            return false;
    return true;
}

/* "w" or "-" (is there work that nobody here took), then the ids of jobs that ended. */
static bool notify(struct mf_postgres_store *s, struct mf_error *err)
{
    char payload[1 + IDS_PER_NOTE * ID + 1];
    size_t i = s->ended_before;
    const bool work = s->sql.work_made - s->made_before > s->sql.work_taken - s->taken_before;
    do {
        size_t at = 0;
        payload[at++] = work ? 'w' : '-';
        for (size_t k = 0; k < IDS_PER_NOTE && i < s->sql.ended_count; k++, i++, at += ID)
            memcpy(payload + at, s->sql.ended[i], ID);
        payload[at] = '\0';
        if (!mf_sql_run(&s->sql, err, "SELECT pg_notify('medfusion', ?)", "t", payload))
            return false;
    } while (i < s->sql.ended_count);
    return true;
}

bool mf_pg_tail(struct mf_postgres_store *s, struct mf_error *err)
{
    const struct mf_pg_notes *n = &s->notes;
    struct head head = {0};
    if (n->audit_count + n->change_count + n->count_count == 0)
        return true;
    return lock_head(s, &head, err) && write_audits(s, &head, err) &&
           write_changes(s, &head, err) && write_counts(s, err) &&
           mf_sql_run(&s->sql, err, "UPDATE store_head SET seq = ?, hash = ?, change = ?", "ibi",
                      head.audit.seq, head.audit.hash, sizeof head.audit.hash, head.change) &&
           notify(s, err);
}

/* --- hearing --- */

void mf_pg_heard(struct mf_postgres_store *s, const char *payload)
{
    char id[MF_JOB_ID] = "";
    size_t len = strlen(payload);
    s->sql.heard = true;
    if (payload[0] == 'w')
        s->sql.work_changed = true;
    for (size_t at = 1; at + ID <= len; at += ID) {
        memcpy(id, payload + at, ID);
        if (!mf_sql_note_end(&s->sql, id, NULL))
            s->sql.missed = true;
    }
}
