/* SQL store: statements and columns on an engine, what the verbs note, and the table of verbs. */
#include "server/store_sql.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VALUES = 24 };

/* --- statements --- */

/* Reads what goes with `types`; returns how many there are. */
static size_t read_values(const char *types, va_list ap, struct mf_sql_value values[MAX_VALUES])
{
    size_t n = 0;
    for (; types[n] && n < MAX_VALUES; n++) {
        struct mf_sql_value *v = &values[n];
        *v = (struct mf_sql_value){.type = types[n]};
        if (v->type == 't') {
            v->bytes = va_arg(ap, const char *);
        } else if (v->type == 'd') {
            v->real = va_arg(ap, double);
        } else if (v->type == 'b') {
            v->bytes = va_arg(ap, const void *);
            v->len = va_arg(ap, size_t);
        } else {
            v->integer = va_arg(ap, int64_t);
        }
    }
    return n;
}

struct mf_sql_rows *mf_sql_query(struct mf_sql_store *s, struct mf_error *err, const char *sql,
                                 const char *types, ...)
{
    struct mf_sql_value values[MAX_VALUES];
    va_list ap;
    va_start(ap, types);
    size_t n = read_values(types, ap, values);
    va_end(ap);
    return s->engine->query(s, sql, true, values, n, err);
}

bool mf_sql_run(struct mf_sql_store *s, struct mf_error *err, const char *sql, const char *types,
                ...)
{
    struct mf_sql_value values[MAX_VALUES];
    va_list ap;
    va_start(ap, types);
    size_t n = read_values(types, ap, values);
    va_end(ap);
    s->writes++;
    return s->engine->run(s, sql, values, n, err);
}

int mf_sql_row(struct mf_sql_store *s, struct mf_sql_rows *rows, struct mf_error *err)
{
    return rows ? rows->engine->row(s, rows, err) : -1;
}

void mf_sql_done(struct mf_sql_rows *rows)
{
    if (rows)
        rows->engine->done(rows);
}

bool mf_sql_int(struct mf_sql_store *s, struct mf_sql_rows *rows, int64_t *ret,
                struct mf_error *err)
{
    if (mf_sql_row(s, rows, err) != 1)
        return false;
    *ret = mf_sql_int64(rows, 0);
    mf_sql_done(rows);
    return true;
}

bool mf_sql_null(struct mf_sql_rows *rows, int column)
{
    return rows->engine->null(rows, column);
}

int64_t mf_sql_int64(struct mf_sql_rows *rows, int column)
{
    return rows->engine->integer(rows, column);
}

double mf_sql_double(struct mf_sql_rows *rows, int column)
{
    return rows->engine->real(rows, column);
}

const char *mf_sql_text(struct mf_sql_rows *rows, int column)
{
    return rows->engine->text(rows, column);
}

const void *mf_sql_blob(struct mf_sql_rows *rows, int column)
{
    size_t ignored;
    return rows->engine->bytes(rows, column, &ignored);
}

size_t mf_sql_bytes(struct mf_sql_rows *rows, int column)
{
    size_t len = 0;
    return rows->engine->bytes(rows, column, &len) ? len : 0;
}

void mf_sql_copy_text(struct mf_sql_rows *rows, int column, char *out, size_t size)
{
    const char *text = mf_sql_text(rows, column);
    snprintf(out, size, "%s", text ? text : "");
}

void mf_sql_copy_digest(struct mf_sql_rows *rows, int column, unsigned char out[MF_SHA256_BYTES])
{
    size_t len = 0;
    const void *bytes = rows->engine->bytes(rows, column, &len);
    memset(out, 0, MF_SHA256_BYTES);
    if (bytes && len == MF_SHA256_BYTES)
        memcpy(out, bytes, MF_SHA256_BYTES);
}

bool mf_sql_savepoint(struct mf_sql_store *s, struct mf_error *err)
{
    return s->engine->savepoint(s, err);
}

bool mf_sql_end(struct mf_sql_store *s, bool ok, struct mf_error *err)
{
    return s->engine->end(s, ok, err);
}

/* --- clocks --- */

int64_t mf_sql_now_ms(struct mf_sql_store *s)
{
    return s->engine->now_ms(s);
}

int64_t mf_sql_lease_clock_ns(struct mf_sql_store *s)
{
    return s->engine->lease_clock_ns(s);
}

int64_t mf_sql_lease_deadline(struct mf_sql_store *s)
{
    return mf_sql_lease_clock_ns(s) + s->settings.lease_s * INT64_C(1000000000);
}

/* --- what the verbs note --- */

bool mf_sql_count(struct mf_sql_store *s, const char *counter, int64_t by, struct mf_error *err)
{
    return s->engine->count(s, counter, by, err);
}

bool mf_sql_changed(struct mf_sql_store *s, int64_t seq, struct mf_error *err)
{
    s->changes++;
    return s->engine->changed(s, seq, err);
}

bool mf_sql_note_end(struct mf_sql_store *s, const char *id, struct mf_error *err)
{
    mf_store_ahead_drop(&s->ahead, id);
    if (s->ended_count == s->ended_capacity) {
        size_t capacity = s->ended_capacity ? 2 * s->ended_capacity : 64;
        void *grown = realloc(s->ended, capacity * sizeof *s->ended);
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory in the job store");
        s->ended = grown;
        s->ended_capacity = capacity;
    }
    memcpy(s->ended[s->ended_count++], id, MF_JOB_ID);
    return true;
}

void mf_sql_events_clear(struct mf_sql_store *s)
{
    s->work_changed = s->heard = s->missed = false;
    s->ended_count = 0;
}

/* --- the verbs --- */

static void sql_free(struct mf_store *store)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    mf_store_ahead_drop(&s->ahead, NULL);
    free(s->ended);
    free(s->destinations);
    s->engine->free(s);
}

static void sql_interrupt(struct mf_store *store)
{
    (void)store; /* nothing of this handle ever waits for work */
}

static bool sql_hold(struct mf_store *store, int64_t ms, int64_t *ret_hold, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    if (!s->engine->hold)
        return mf_error_set(err, MF_ERR_USAGE, "the database is not in a file of this directory");
    *ret_hold = s->engine->hold(s, ms);
    return true;
}

const struct mf_store_ops mf_sql_verbs = {
    .free = sql_free,
    .submit = mf_sql_submit,
    .claim = mf_sql_claim,
    .heartbeat = mf_sql_heartbeat,
    .finish = mf_sql_finish,
    .release = mf_sql_release,
    .worker_gone = mf_sql_worker_gone,
    .announce = mf_sql_announce,
    .workers = mf_sql_workers,
    .job = mf_sql_job,
    .result = mf_sql_result,
    .record = mf_sql_record,
    .list = mf_sql_list,
    .cancel = mf_sql_cancel,
    .purge = mf_sql_purge,
    .locators_used = mf_sql_locators_used,
    .counts = mf_sql_counts,
    .wait_for_jobs = mf_sql_wait_for_jobs,
    .changes = mf_sql_changes,
    .hold = sql_hold,
    .interrupt = sql_interrupt,
    .instances_add = mf_sql_instances_add,
    .instances_search = mf_sql_instances_search,
    .studies_due = mf_sql_studies_due,
    .study_settle = mf_sql_study_settle,
    .study_hasten = mf_sql_study_hasten,
    .study = mf_sql_study,
    .deliveries_due = mf_sql_deliveries_due,
    .delivery_settle = mf_sql_delivery_settle,
    .dead_letters = mf_sql_dead_letters,
    .dead_letters_end = mf_sql_dead_letters_end,
    .feedback = mf_sql_feedback,
    .feedback_put = mf_sql_feedback_put,
    .state = mf_sql_state,
    .observed = mf_sql_observed,
    .audit_add = mf_sql_audit_add,
    .audit_read = mf_sql_audit_read,
};
