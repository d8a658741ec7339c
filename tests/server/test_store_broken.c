/* server/store_sql_*.c: whichever step of a verb fails, a statement, a row or memory, the verb says
 * so and nothing of it stays; called again, it is done. Every step of every verb fails once, on
 * both engines. */
#include "store_verbs.h"

#include "core/json.h"

/* --- steps that fail (target_link_options: --wrap) --- */

static struct {
    const struct mf_sql_engine *real;
    struct mf_sql_engine engine; /* real, with the functions below in front */
    long at, seen;               /* the at-th step fails; 0: none */
} faults;

static bool breaks(void)
{
    return faults.at > 0 && ++faults.seen == faults.at;
}

static bool refused(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "the disk is on fire");
}

static bool no_memory(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_NO_MEMORY, "no more");
}

void *__real_mf_arena_alloc(struct mf_arena *arena, size_t n, size_t size, struct mf_error *err);
char *__real_mf_arena_strdup(struct mf_arena *arena, const char *s, struct mf_error *err);
char *__real_mf_arena_strndup(struct mf_arena *arena, const char *s, size_t len,
                              struct mf_error *err);
json_t *__real_mf_json_parse(const char *text, size_t len, const struct mf_json_limits *limits,
                             const char *name, struct mf_error *err);
bool __real_mf_buffer_append(struct mf_buffer *b, const void *data, size_t len,
                             struct mf_error *err);
bool __real_mf_buffer_append_str(struct mf_buffer *b, const char *s, struct mf_error *err);
void *__wrap_mf_arena_alloc(struct mf_arena *arena, size_t n, size_t size, struct mf_error *err);
char *__wrap_mf_arena_strdup(struct mf_arena *arena, const char *s, struct mf_error *err);
char *__wrap_mf_arena_strndup(struct mf_arena *arena, const char *s, size_t len,
                              struct mf_error *err);
json_t *__wrap_mf_json_parse(const char *text, size_t len, const struct mf_json_limits *limits,
                             const char *name, struct mf_error *err);
bool __wrap_mf_buffer_append(struct mf_buffer *b, const void *data, size_t len,
                             struct mf_error *err);
bool __wrap_mf_buffer_append_str(struct mf_buffer *b, const char *s, struct mf_error *err);

void *__wrap_mf_arena_alloc(struct mf_arena *arena, size_t n, size_t size, struct mf_error *err)
{
    return breaks() && !no_memory(err) ? NULL : __real_mf_arena_alloc(arena, n, size, err);
}

char *__wrap_mf_arena_strdup(struct mf_arena *arena, const char *s, struct mf_error *err)
{
    return breaks() && !no_memory(err) ? NULL : __real_mf_arena_strdup(arena, s, err);
}

char *__wrap_mf_arena_strndup(struct mf_arena *arena, const char *s, size_t len,
                              struct mf_error *err)
{
    return breaks() && !no_memory(err) ? NULL : __real_mf_arena_strndup(arena, s, len, err);
}

json_t *__wrap_mf_json_parse(const char *text, size_t len, const struct mf_json_limits *limits,
                             const char *name, struct mf_error *err)
{
    return breaks() && !no_memory(err) ? NULL : __real_mf_json_parse(text, len, limits, name, err);
}

/* What PostgreSQL's pipe needs memory for is the engine's, and none of these steps. */
static bool buffer_breaks(const struct mf_error *err)
{
    return err && breaks();
}

bool __wrap_mf_buffer_append(struct mf_buffer *b, const void *data, size_t len,
                             struct mf_error *err)
{
    return buffer_breaks(err) ? no_memory(err) : __real_mf_buffer_append(b, data, len, err);
}

bool __wrap_mf_buffer_append_str(struct mf_buffer *b, const char *s, struct mf_error *err)
{
    return buffer_breaks(err) ? no_memory(err) : __real_mf_buffer_append_str(b, s, err);
}

static struct mf_sql_rows *broken_query(struct mf_sql_store *s, const char *sql, bool literal,
                                        const struct mf_sql_value *values, size_t n,
                                        struct mf_error *err)
{
    struct mf_sql_rows *rows =
        breaks() && !refused(err) ? NULL : faults.real->query(s, sql, literal, values, n, err);
    if (rows)
        rows->engine = &faults.engine;
    return rows;
}

static bool broken_run(struct mf_sql_store *s, const char *sql, const struct mf_sql_value *values,
                       size_t n, struct mf_error *err)
{
    return breaks() ? refused(err) : faults.real->run(s, sql, values, n, err);
}

static int broken_row(struct mf_sql_store *s, struct mf_sql_rows *rows, struct mf_error *err)
{
    if (!breaks())
        return faults.real->row(s, rows, err);
    faults.real->done(rows);
    (void)refused(err);
    return -1;
}

static bool broken_savepoint(struct mf_sql_store *s, struct mf_error *err)
{
    return breaks() ? refused(err) : faults.real->savepoint(s, err);
}

static bool broken_end(struct mf_sql_store *s, bool ok, struct mf_error *err)
{
    if (!ok || !breaks())
        return faults.real->end(s, ok, err);
    (void)refused(err);
    return faults.real->end(s, false, err);
}

static bool broken_audit(struct mf_sql_store *s, const struct mf_audit_row *row,
                         struct mf_error *err)
{
    return breaks() ? refused(err) : faults.real->audit(s, row, err);
}

static bool broken_count(struct mf_sql_store *s, const char *counter, int64_t by,
                         struct mf_error *err)
{
    return breaks() ? refused(err) : faults.real->count(s, counter, by, err);
}

static bool broken_changed(struct mf_sql_store *s, int64_t seq, struct mf_error *err)
{
    return breaks() ? refused(err) : faults.real->changed(s, seq, err);
}

/* --- the sweep --- */

#define SUM(what, from) "SELECT CAST(coalesce(sum(" what "), 0) AS bigint) FROM " from

static const char *const tables[] = {
    "SELECT count(*) FROM jobs",
    SUM("state + 10 * attempts + 1000 * crashes + 100000 * losses + 1000000 * cancel", "jobs"),
    SUM("purged + 2 * solo + 4 * fence", "jobs"),
    "SELECT count(*) FROM inputs",
    "SELECT count(*) FROM job_index",
    "SELECT count(*) FROM results",
    "SELECT count(*) FROM masks",
    "SELECT count(*) FROM explanations",
    "SELECT count(*) FROM leases",
    "SELECT count(*) FROM idempotency",
    "SELECT count(*) FROM outbox",
    SUM("attempts", "outbox"),
    "SELECT count(*) FROM workers",
    "SELECT count(*) FROM studies",
    SUM("revision + 1000 * instances + 100000 * series", "studies"),
    SUM("instances", "series"),
    "SELECT count(*) FROM instances",
    "SELECT count(*) FROM study_jobs",
    "SELECT count(*) FROM feedback",
    "SELECT count(*) FROM states",
    "SELECT count(*) FROM audit",
    SUM("value", "counters"),
};

enum { TABLES = sizeof tables / sizeof *tables };

static void look(struct subject *t, int64_t found[TABLES])
{
    for (int i = 0; i < TABLES; i++) {
        struct mf_error err = MF_ERROR_INIT;
        if (!mf_sql_int(t->s, faults.engine.query(t->s, tables[i], false, NULL, 0, &err), &found[i],
                        &err))
            fail_msg("%s: %s", tables[i], err.msg);
    }
}

static void begin(struct subject *t, const struct verb *verb)
{
    subject_start(t, verb);
    faults.real = t->s->engine;
    faults.engine = *faults.real;
    faults.engine.query = broken_query;
    faults.engine.run = broken_run;
    faults.engine.row = broken_row;
    faults.engine.savepoint = broken_savepoint;
    faults.engine.end = broken_end;
    faults.engine.audit = broken_audit;
    faults.engine.count = broken_count;
    faults.engine.changed = broken_changed;
    t->s->engine = &faults.engine;
}

static void end(struct subject *t)
{
    t->s->engine = faults.real;
    fixture_end(&t->f);
}

static void try_all(const struct verb *verb)
{
    struct subject t;
    int64_t before[TABLES], after[TABLES];
    begin(&t, verb);
    look(&t, before);
    for (long at = 1;; at++) {
        struct mf_error err = MF_ERROR_INIT;
        const struct mf_arena_mark mark = mf_arena_position(t.f.arena);
        faults.at = at;
        faults.seen = 0;
        bool ok = verb->call(&t, &err);
        faults.at = 0;
        if (faults.seen < at) {
            if (!ok || t.said != verb->said)
                fail_msg("%s: done? %d, said %lld (%s)", verb->name, ok, (long long)t.said,
                         err.msg);
            break;
        }
        if (ok || err.code == MF_OK)
            fail_msg("%s: step %ld failed, and nobody says so", verb->name, at);
        mf_arena_rewind(t.f.arena, &mark);
        look(&t, after);
        for (int i = 0; i < TABLES; i++)
            if (before[i] != after[i])
                fail_msg("%s: step %ld failed (%s), and \"%s\" changed from %lld to %lld",
                         verb->name, at, err.msg, tables[i], (long long)before[i],
                         (long long)after[i]);
    }
    end(&t);
}

static void a_verb_that_fails_leaves_nothing_and_says_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        try_all(&verbs[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_verb_that_fails_leaves_nothing_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
