/* server/store_sql_feedback.c, directly and over the socket: statements of readers, states as
 * versions, results as the monitor reads them. */
#include "served_fixture.h"

#include "server/store_feedback.h"
#include "server/store_sql.h"

static const char RESULT[] = "{\"schema\":\"medfusion.result/1\"}";

/* A job of `model` that has succeeded. */
static void succeed(struct store_fixture *f, const char *model, char id[MF_JOB_ID])
{
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_claim *c;
    sub.model = model;
    assert_true(mf_store_submit(f->store, &sub, &made, NULL));
    memcpy(id, made.id, MF_JOB_ID);
    assert_int_equal(fixture_claim(f, "w", 1, NULL, 0, &c), 1);
    assert_int_equal(fixture_succeed(f, fixture_ref(c)), MF_LEASE_KEPT);
}

static struct mf_observed feedback_of(struct store_fixture *f, const char *id)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_observed o;
    if (!mf_store_feedback(f->store, MF_TENANT_DEFAULT, id, f->arena, &o, &err))
        fail_msg("%s", err.msg);
    return o;
}

static bool put(struct store_fixture *f, const char *id, const char *reader, const char *body,
                int64_t revision, const char *key, int64_t version)
{
    struct mf_feedback_put p = {.tenant = MF_TENANT_DEFAULT,
                                .reader = reader,
                                .body = body,
                                .revision = revision,
                                .state_key = key,
                                .state_version = version,
                                .state = key ? body : NULL};
    struct mf_error err = MF_ERROR_INIT;
    bool kept = false;
    memcpy(p.job, id, sizeof p.job);
    if (!mf_store_feedback_put(f->store, &p, &kept, &err))
        fail_msg("%s", err.msg);
    return kept;
}

static const char *state_of(struct store_fixture *f, const char *key, int64_t known,
                            int64_t *version)
{
    const char *text = NULL;
    assert_true(
        mf_store_state(f->store, MF_TENANT_DEFAULT, key, known, f->arena, &text, version, NULL));
    return text;
}

static void check_statements(struct store_fixture *f)
{
    char id[MF_JOB_ID];
    succeed(f, "thorax", id);
    struct mf_observed o = feedback_of(f, id);
    assert_string_equal(o.result, RESULT);
    assert_string_equal(o.options, "{\"alpha\":0.1}");
    assert_int_equal(o.revision, 0);
    assert_int_equal(o.feedback_count, 0);
    assert_true(put(f, id, "anna", "1", 0, NULL, 0));
    int64_t first = feedback_of(f, id).revision;
    assert_true(first > 0);
    assert_false(put(f, id, "ben", "2", 0, NULL, 0)); /* decided on what is no longer so */
    assert_true(put(f, id, "ben", "2", first, NULL, 0));
    o = feedback_of(f, id);
    assert_true(put(f, id, "anna", "3", o.revision, NULL, 0)); /* replaces her first */
    o = feedback_of(f, id);
    assert_int_equal(o.feedback_count, 2);
    assert_string_equal(o.feedback[0].reader, "ben");
    assert_string_equal(o.feedback[0].body, "2");
    assert_string_equal(o.feedback[1].reader, "anna");
    assert_string_equal(o.feedback[1].body, "3");
    assert_true(o.feedback[1].time_ms > 0);
    const char *const *locators = NULL;
    size_t n = 0;
    assert_true(mf_store_purge(f->store, MF_TENANT_DEFAULT, id, f->arena, &locators, &n, NULL));
    o = feedback_of(f, id);
    assert_true(o.job.purged);
    assert_null(o.result);
    assert_int_equal(o.feedback_count, 0);
    struct mf_feedback_put late = {
        .tenant = MF_TENANT_DEFAULT, .reader = "anna", .body = "4", .revision = 0};
    struct mf_error err = MF_ERROR_INIT;
    bool kept = false;
    memcpy(late.job, id, sizeof late.job);
    assert_false(mf_store_feedback_put(f->store, &late, &kept, &err));
    assert_error(&err, MF_ERR_GONE, "the job's data was purged");
    fixture_submit(f, MF_PRIORITY_ROUTINE, late.job);
    mf_error_clear(&err);
    assert_false(mf_store_feedback_put(f->store, &late, &kept, &err));
    assert_error(&err, MF_ERR_CONFLICT, "the job is queued: it has no result");
    late.tenant = "somebody else";
    mf_error_clear(&err);
    assert_false(mf_store_feedback_put(f->store, &late, &kept, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such job");
}

static void check_states(struct store_fixture *f)
{
    char id[MF_JOB_ID];
    int64_t version = -1;
    succeed(f, "thorax", id);
    assert_null(state_of(f, "k", 0, &version));
    assert_int_equal(version, 0);
    assert_true(put(f, id, "anna", "one", 0, "k", 1));
    assert_string_equal(state_of(f, "k", 0, &version), "one");
    assert_int_equal(version, 1);
    assert_null(state_of(f, "k", 1, &version)); /* known already */
    assert_int_equal(version, 1);
    int64_t revision = feedback_of(f, id).revision;
    assert_false(put(f, id, "ben", "two", revision, "k", 1)); /* somebody made version 1 before */
    assert_int_equal(feedback_of(f, id).feedback_count, 1);   /* neither is kept */
    assert_true(put(f, id, "ben", "two", revision, "k", 2));
    assert_string_equal(state_of(f, "k", 1, &version), "two");
    assert_null(state_of(f, "other", 0, &version));
    assert_int_equal(version, 0);
}

static void check_pages(struct store_fixture *f)
{
    char ids[5][MF_JOB_ID], other[MF_JOB_ID];
    struct mf_observed *rows = NULL;
    size_t n = 0;
    int64_t next = 0;
    for (int i = 0; i < 5; i++)
        succeed(f, "hand", ids[i]);
    succeed(f, "foot", other);
    assert_true(put(f, ids[1], "anna", "1", 0, NULL, 0));
    assert_true(mf_store_observed(f->store, MF_TENANT_DEFAULT, "hand", 0, 3, f->arena, &rows, &n,
                                  &next, NULL));
    assert_int_equal(n, 3);
    assert_string_equal(rows[0].job.id, ids[4]);
    assert_string_equal(rows[2].result, RESULT);
    assert_int_equal(rows[2].feedback_count, 0);
    assert_true(mf_store_observed(f->store, MF_TENANT_DEFAULT, "hand", next, 3, f->arena, &rows, &n,
                                  &next, NULL));
    assert_int_equal(n, 2);
    assert_int_equal(next, 0);
    assert_string_equal(rows[0].job.id, ids[1]);
    assert_string_equal(rows[0].feedback[0].reader, "anna");
    assert_true(mf_store_observed(f->store, "somebody else", "hand", 0, 3, f->arena, &rows, &n,
                                  &next, NULL));
    assert_int_equal(n, 0);
    assert_true(mf_store_observed(f->store, NULL, "hand", 0, 10, f->arena, &rows, &n, &next, NULL));
    assert_int_equal(n, 5);
    assert_string_equal(rows[4].job.tenant, MF_TENANT_DEFAULT);
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_store_observed(f->store, MF_TENANT_DEFAULT, "hand", 0, MF_OBSERVED_MAX + 1,
                                   f->arena, &rows, &n, &next, &err));
    assert_error(&err, MF_ERR_INTERNAL, "a page of results has 1 to 200");
}

#define BOTH(check)                                                                                \
    static void check##_directly(void **state)                                                     \
    {                                                                                              \
        (void)state;                                                                               \
        struct store_fixture f;                                                                    \
        fixture_start(&f);                                                                         \
        check(&f);                                                                                 \
        fixture_end(&f);                                                                           \
    }                                                                                              \
    static void check##_over_the_socket(void **state)                                              \
    {                                                                                              \
        (void)state;                                                                               \
        struct served_fixture v;                                                                   \
        served_start(&v);                                                                          \
        check(&v.f);                                                                               \
        served_end(&v);                                                                            \
    }

BOTH(check_statements)
BOTH(check_states)
BOTH(check_pages)

static int64_t number(struct store_fixture *f, const char *sql)
{
    struct mf_sql_store *s = (struct mf_sql_store *)f->store;
    int64_t n = -1;
    assert_true(mf_sql_int(s, mf_sql_query(s, NULL, sql, ""), &n, NULL));
    return n;
}

static void every_change_is_in_the_audit_trail(void **state)
{
    (void)state;
    struct store_fixture f;
    char id[MF_JOB_ID];
    fixture_start(&f);
    succeed(&f, "thorax", id);
    assert_true(put(&f, id, "anna", "1", 0, NULL, 0));
    assert_false(put(&f, id, "anna", "2", 0, NULL, 0)); /* not kept: no row */
    assert_int_equal(number(&f, "SELECT count(*) FROM audit WHERE event = 'feedback.given' AND"
                                " detail = 'anna'"),
                     1);
    fixture_end(&f);
}

static void expiry_forgets_feedback_and_old_versions_but_not_the_newest(void **state)
{
    (void)state;
    struct store_fixture f;
    char id[MF_JOB_ID];
    int removed = 0;
    int64_t version = 0;
    fixture_start(&f);
    succeed(&f, "thorax", id);
    assert_true(put(&f, id, "anna", "one", 0, "k", 1));
    assert_true(put(&f, id, "ben", "two", feedback_of(&f, id).revision, "k", 2));
    struct mf_sql_store *s = (struct mf_sql_store *)f.store;
    s->settings.retention_s = -10;
    assert_true(mf_sql_expire_jobs(s, 10, &removed, NULL));
    assert_int_equal(removed, 1);
    assert_int_equal(number(&f, "SELECT count(*) FROM feedback"), 0);
    assert_int_equal(number(&f, "SELECT count(*) FROM states"), 1);
    assert_string_equal(state_of(&f, "k", 0, &version), "two");
    fixture_end(&f);
}

/* A database of before feedback: its tables are added, and a newer one is refused. */
static void a_database_of_version_1_is_brought_up_to_date(void **state)
{
    (void)state;
    struct store_fixture f;
    char id[MF_JOB_ID];
    if (fixture_on_postgres())
        skip(); /* its migrations: test_store_postgres.c */
    fixture_start(&f);
    succeed(&f, "thorax", id);
    mf_store_free(f.store);
    fixture_execute(&f, "DROP TABLE feedback; DROP TABLE states; DROP INDEX jobs_turn;"
                        "DROP INDEX jobs_tenant_turn; ALTER TABLE jobs DROP COLUMN turn;"
                        "DROP INDEX outbox_failed; ALTER TABLE outbox DROP COLUMN failed;"
                        "PRAGMA user_version=1");
    fixture_open(&f);
    assert_true(put(&f, id, "anna", "1", 0, NULL, 0));
    assert_int_equal(number(&f, "PRAGMA user_version"), 4);
    mf_store_free(f.store);
    fixture_execute(&f, "PRAGMA user_version=5");
    struct mf_error err = MF_ERROR_INIT;
    f.store = mf_store_open_sqlite(f.directory, &f.settings, &err);
    assert_null(f.store);
    assert_non_null(strstr(err.msg, "schema version 5, this program knows 4"));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_statements_directly),
        cmocka_unit_test(check_statements_over_the_socket),
        cmocka_unit_test(check_states_directly),
        cmocka_unit_test(check_states_over_the_socket),
        cmocka_unit_test(check_pages_directly),
        cmocka_unit_test(check_pages_over_the_socket),
        cmocka_unit_test(every_change_is_in_the_audit_trail),
        cmocka_unit_test(expiry_forgets_feedback_and_old_versions_but_not_the_newest),
        cmocka_unit_test(a_database_of_version_1_is_brought_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
