/*
 * PostgreSQL engine: statements in a pipeline (libpq, 34.5 "Pipeline Mode"). What is sent is kept
 * track of by one letter each (struct mf_postgres_store, `expected`); the first row of a query
 * flushes, and all that was asked until then is read. Values travel in binary form with their
 * types given, so nothing is inferred.
 */
#include "server/store_postgres.h"

#include <string.h>

enum {
    INT8 = 20, /* OIDs of pg_type */
    BOOL = 16,
    BYTEA = 17,
    TEXT = 25,
    FLOAT8 = 701,
    MAX_VALUES = 512,
    MAX_EXPECTED = 256, /* answers that may lie in the socket's buffer */
    SQL_BYTES = 64 << 10
};

_Static_assert(MF_PG_ROWS >= 2 * MF_SQL_TOGETHER && MF_PG_QUERY + MF_PG_ROWS <= 256,
               "a claim asks two queries for each job, and a letter says which it was");

static struct mf_postgres_store *self(struct mf_sql_store *store)
{
    return (struct mf_postgres_store *)store;
}

bool mf_pg_tell(const struct mf_postgres_store *s, struct mf_error *err)
{
    if (s->reason.code != MF_OK)
        return mf_error_set(err, s->reason.code, "%s", s->reason.msg);
    if (!s->state[0])
        return mf_error_set(err, MF_ERR_IO, "the database does not answer; try again later");
    return mf_error_set(err, MF_ERR_IO, "the job store failed (PostgreSQL %s)", s->state);
}

/* Remembers the first failure of this transaction. */
static bool failed(struct mf_postgres_store *s, const PGresult *result)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    if (!s->failed)
        snprintf(s->state, sizeof s->state, "%s", state ? state : "");
    s->failed = true;
    return false;
}

/* --- sending --- */

static bool expect(struct mf_postgres_store *s, char tag)
{
    return mf_buffer_append(&s->expected, &tag, 1, NULL) || failed(s, NULL);
}

bool mf_pg_send(struct mf_postgres_store *s, const char *sql, char tag)
{
    if (s->failed)
        return false;
    if (!s->db || !PQsendQueryParams(s->db, sql, 0, NULL, NULL, NULL, NULL, 1))
        return failed(s, NULL);
    return expect(s, tag);
}

/* Starts a transaction before the first statement of a group or verb. */
static bool need_begin(struct mf_postgres_store *s)
{
    if (s->begun || !(s->group || s->verb))
        return true;
    s->begun = true;
    s->timed = false;
    return mf_pg_send(s, "BEGIN", 'd') &&
           mf_pg_send(s, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8", 't');
}

/* SQL as PostgreSQL has it: `?` becomes $1, $2, …, `?2` $2, and comments that begin with an
 * exclamation mark are opened. */
static bool translate(struct mf_buffer *out, const char *sql)
{
    bool quoted = false, opened = false, ok = true;
    int next = 0;
    mf_buffer_clear(out);
    for (const char *at = sql; *at && ok; at++) {
        quoted = quoted != (*at == '\'');
        if (!quoted && strncmp(at, "/*!", 3) == 0) {
            opened = true;
            at += 2;
        } else if (opened && strncmp(at, "*/", 2) == 0) {
            opened = false;
            at++;
        } else if (!quoted && *at == '?') {
            if (at[1] < '0' || at[1] > '9')
                ok = mf_buffer_printf(out, NULL, "$%d", ++next);
            else
                ok = mf_buffer_append(out, "$", 1, NULL);
        } else {
            ok = mf_buffer_append(out, at, 1, NULL);
        }
    }
    return ok;
}

struct parameters {
    Oid types[MAX_VALUES];
    const char *values[MAX_VALUES];
    int lengths[MAX_VALUES], formats[MAX_VALUES];
    unsigned char numbers[MAX_VALUES][8];
};

static void put_number(unsigned char out[8], uint64_t bits)
{
    for (int i = 7; i >= 0; i--, bits >>= 8)
        out[i] = (unsigned char)bits;
}

static uint64_t get_number(const unsigned char *in, int len)
{
    uint64_t bits = 0;
    for (int i = 0; i < len; i++)
        bits = bits << 8 | in[i];
    return bits;
}

static void put_values(struct parameters *p, const struct mf_sql_value *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct mf_sql_value *v = &values[i];
        uint64_t bits;
        p->formats[i] = 1;
        p->types[i] = v->type == 't'   ? TEXT
                      : v->type == 'b' ? BYTEA
                      : v->type == 'd' ? FLOAT8
                                       : INT8;
        if (v->type == 't' || v->type == 'b') {
            p->values[i] = v->bytes;
            p->lengths[i] = (int)(v->type == 'b' ? v->len : v->bytes ? strlen(v->bytes) : 0);
            continue;
        }
        if (v->type == 'd')
            memcpy(&bits, &v->real, sizeof bits);
        else
            bits = (uint64_t)v->integer;
        put_number(p->numbers[i], bits);
        p->values[i] = (const char *)p->numbers[i];
        p->lengths[i] = 8;
    }
}

/* The number under which the literal is prepared on this connection; −1: it could not be sent. */
static int prepare(struct mf_postgres_store *s, const char *sql, const struct parameters *p,
                   size_t n)
{
    char name[16];
    for (size_t i = 0; i < s->statement_count; i++)
        if (s->statements[i] == sql)
            return (int)i;
    if (s->statement_count == MF_PG_STATEMENTS || !translate(&s->text, sql) ||
        !mf_buffer_append(&s->text, "", 1, NULL))
        return -1;
    snprintf(name, sizeof name, "s%zu", s->statement_count);
    if (!PQsendPrepare(s->db, name, s->text.data, (int)n, p->types) || !expect(s, 'd'))
        return -1;
    s->statements[s->statement_count] = sql;
    return (int)s->statement_count++;
}

static bool send_statement(struct mf_postgres_store *s, const char *sql, bool literal,
                           const struct mf_sql_value *values, size_t n, char tag)
{
    struct parameters p;
    char name[16];
    if (s->failed || !s->db || n > MAX_VALUES || !need_begin(s))
        return failed(s, NULL);
    put_values(&p, values, n);
    bool sent;
    if (literal) {
        int number = prepare(s, sql, &p, n);
        snprintf(name, sizeof name, "s%d", number);
        sent = number >= 0 &&
               PQsendQueryPrepared(s->db, name, (int)n, p.values, p.lengths, p.formats, 1);
    } else {
        sent = translate(&s->text, sql) && mf_buffer_append(&s->text, "", 1, NULL) &&
               PQsendQueryParams(s->db, s->text.data, (int)n, p.types, p.values, p.lengths,
                                 p.formats, 1);
    }
    return sent ? expect(s, tag) : failed(s, NULL);
}

/* --- reading --- */

static void take_time(struct mf_postgres_store *s, const PGresult *result)
{
    if (PQntuples(result) == 1 && PQgetlength(result, 0, 0) == 8) {
        s->now_ms = (int64_t)get_number((const unsigned char *)PQgetvalue(result, 0, 0), 8);
        s->timed = true;
    }
}

/* Takes the result of a query, or NULL: it failed. */
static void take_rows(struct mf_pg_rows *rows, PGresult *result)
{
    if (rows->state == MF_PG_DROPPED) {
        PQclear(result);
        rows->state = MF_PG_FREE;
        return;
    }
    rows->result = result;
    rows->state = result ? MF_PG_ANSWERED : MF_PG_FAILED;
}

/* Reads the answer that is next. False: the connection broke, or nothing was expected. */
static bool read_next(struct mf_postgres_store *s)
{
    if (s->expected_from == s->expected.len)
        return false;
    const unsigned char tag = (unsigned char)s->expected.data[s->expected_from++];
    if (s->expected_from == s->expected.len) {
        mf_buffer_clear(&s->expected);
        s->expected_from = 0;
    }
    PGresult *result = PQgetResult(s->db), *end = NULL;
    if (!result || PQstatus(s->db) == CONNECTION_BAD) {
        PQclear(result);
        return failed(s, NULL);
    }
    ExecStatusType status = PQresultStatus(result);
    if (tag != 's')
        while ((end = PQgetResult(s->db)) != NULL) /* the end of this command's answer */
            PQclear(end);
    if (status == PGRES_FATAL_ERROR)
        failed(s, result);
    else if (status == PGRES_TUPLES_OK && tag == 't')
        take_time(s, result);
    const bool rows = status == PGRES_TUPLES_OK && tag >= MF_PG_QUERY;
    if (tag >= MF_PG_QUERY)
        take_rows(&s->rows[tag - MF_PG_QUERY], rows ? result : NULL);
    if (!rows)
        PQclear(result);
    return true;
}

/* Makes the server answer what it has been sent. */
static bool flush(struct mf_postgres_store *s)
{
    return (PQsendFlushRequest(s->db) && PQflush(s->db) == 0) || failed(s, NULL);
}

/* Reads until the answer of the newest command. */
static bool read_all(struct mf_postgres_store *s)
{
    if (!flush(s))
        return false;
    while (s->expected_from < s->expected.len)
        if (!read_next(s))
            return false;
    return !s->failed;
}

bool mf_pg_sync(struct mf_postgres_store *s, bool wait)
{
    if (!s->db || !PQpipelineSync(s->db) || !expect(s, 's'))
        return failed(s, NULL);
    if (!wait)
        return true;
    while (s->expected_from < s->expected.len)
        if (!read_next(s))
            return false;
    return !s->failed;
}

bool mf_pg_need_time(struct mf_postgres_store *s)
{
    if (s->group || s->verb) {
        if (s->begun && s->timed)
            return true;
        return need_begin(s) && (s->timed || read_all(s)) && s->timed;
    }
    s->timed = false;
    return mf_pg_send(s, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8", 't') &&
           mf_pg_sync(s, true) && s->timed;
}

bool mf_pg_recover(struct mf_postgres_store *s)
{
    if (!s->db || PQstatus(s->db) == CONNECTION_BAD || !PQpipelineSync(s->db) || !expect(s, 's'))
        return false;
    while (s->expected_from < s->expected.len)
        if (!read_next(s))
            return false;
    s->failed = false;
    s->statement_count = 0; /* some may never have been prepared */
    return mf_pg_send(s, "ROLLBACK", 'd') && mf_pg_send(s, "DEALLOCATE ALL", 'd') &&
           mf_pg_sync(s, true);
}

/* --- queries --- */

struct mf_sql_rows *mf_pg_query(struct mf_sql_store *store, const char *sql, bool literal,
                                const struct mf_sql_value *values, size_t n, struct mf_error *err)
{
    struct mf_postgres_store *s = self(store);
    struct mf_pg_rows *rows = s->rows;
    const bool alone = !s->group && !s->verb;
    while (rows < s->rows + MF_PG_ROWS && rows->state != MF_PG_FREE)
        rows++;
    if (rows == s->rows + MF_PG_ROWS) {
        mf_error_set(err, MF_ERR_INTERNAL, "the job store has too many statements under way");
        return NULL;
    }
    if (strncmp(sql, "SELECT", 6) != 0)
        s->wrote = true;
    *rows = (struct mf_pg_rows){.base = {store->engine}, .state = MF_PG_ASKED, .row = -1};
    bool ok =
        send_statement(s, sql, literal, values, n, (char)(MF_PG_QUERY + (int)(rows - s->rows)));
    if (!ok)
        rows->state = MF_PG_FREE; /* it was not sent */
    if (alone)
        ok = mf_pg_sync(s, true) && ok && rows->state == MF_PG_ANSWERED;
    if (ok)
        return &rows->base;
    if (alone)
        mf_pg_forget_rows(s);
    mf_pg_tell(s, err);
    if (alone && !mf_pg_recover(s))
        mf_pg_disconnect(s);
    return NULL;
}

bool mf_pg_run(struct mf_sql_store *store, const char *sql, const struct mf_sql_value *values,
               size_t n, struct mf_error *err)
{
    struct mf_postgres_store *s = self(store);
    const bool alone = !s->group && !s->verb;
    s->wrote = true;
    bool ok = send_statement(s, sql, true, values, n, 'd');
    if (alone)
        ok = mf_pg_sync(s, true) && ok;
    else if (ok && s->expected.len - s->expected_from > MAX_EXPECTED)
        ok = read_all(s);
    if (ok)
        return true;
    mf_pg_tell(s, err);
    if (alone && !mf_pg_recover(s))
        mf_pg_disconnect(s);
    return false;
}

static struct mf_pg_rows *of(struct mf_sql_rows *rows)
{
    return (struct mf_pg_rows *)rows;
}

int mf_pg_row(struct mf_sql_store *store, struct mf_sql_rows *rows, struct mf_error *err)
{
    struct mf_pg_rows *r = of(rows);
    struct mf_postgres_store *s = self(store);
    if (r->state == MF_PG_ASKED && !read_all(s) && r->state == MF_PG_ASKED)
        r->state = MF_PG_FAILED; /* the connection broke */
    if (r->state != MF_PG_ANSWERED) {
        mf_pg_tell(s, err);
        mf_pg_done(rows);
        return -1;
    }
    if (++r->row < PQntuples(r->result))
        return 1;
    mf_pg_done(rows);
    return 0;
}

void mf_pg_done(struct mf_sql_rows *rows)
{
    struct mf_pg_rows *r = of(rows);
    PQclear(r->result);
    r->result = NULL;
    r->state = r->state == MF_PG_ASKED || r->state == MF_PG_DROPPED ? MF_PG_DROPPED : MF_PG_FREE;
}

void mf_pg_forget_rows(struct mf_postgres_store *s)
{
    for (int i = 0; i < MF_PG_ROWS; i++)
        mf_pg_done(&s->rows[i].base);
}

/* --- columns --- */

bool mf_pg_null(struct mf_sql_rows *rows, int column)
{
    return PQgetisnull(of(rows)->result, of(rows)->row, column) != 0;
}

int64_t mf_pg_integer(struct mf_sql_rows *rows, int column)
{
    const struct mf_pg_rows *r = of(rows);
    int len = PQgetlength(r->result, r->row, column);
    if (mf_pg_null(rows, column) || (PQftype(r->result, column) == BOOL ? len != 1 : len != 8))
        return 0;
    return (int64_t)get_number((const unsigned char *)PQgetvalue(r->result, r->row, column), len);
}

double mf_pg_real(struct mf_sql_rows *rows, int column)
{
    double value = 0;
    uint64_t bits = (uint64_t)mf_pg_integer(rows, column);
    memcpy(&value, &bits, sizeof value);
    return value;
}

const char *mf_pg_text(struct mf_sql_rows *rows, int column)
{
    return mf_pg_null(rows, column) ? NULL : PQgetvalue(of(rows)->result, of(rows)->row, column);
}

const void *mf_pg_bytes(struct mf_sql_rows *rows, int column, size_t *ret_len)
{
    *ret_len = (size_t)PQgetlength(of(rows)->result, of(rows)->row, column);
    return mf_pg_text(rows, column);
}
