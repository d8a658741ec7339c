/* server/store_audit*.c: the chain, what verifying finds, retention, databases from before. */
#include "store_fixture.h"

#include "server/store_audit.h"

#include "core/clock.h"

static void reopen(struct store_fixture *f, const char *sql)
{
    mf_store_free(f->store);
    fixture_execute(f, sql);
    fixture_open(f);
}

static void add(struct store_fixture *f, const char *event)
{
    const struct mf_audit_row row = {
        .tenant = "north", .actor = "key:1", .job = "", .event = event, .detail = "GET /v1/jobs"};
    assert_true(mf_store_audit_add(f->store, &row, NULL));
}

/* A trail of jobs and requests; returns its head. */
static struct mf_audit_point make_trail(struct store_fixture *f)
{
    char id[MF_JOB_ID];
    struct mf_audit_report report;
    fixture_submit(f, MF_PRIORITY_ROUTINE, id);
    for (int i = 0; i < 6; i++)
        add(f, "request");
    assert_true(mf_audit_verify(f->store, NULL, &report, NULL));
    assert_int_equal(report.rows, 7);
    assert_int_equal(report.head.seq, 7);
    return report.head;
}

static void assert_verify_fails(struct store_fixture *f, const struct mf_audit_point *known,
                                const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_audit_report report;
    assert_false(mf_audit_verify(f->store, known, &report, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    assert_string_equal(err.msg, message);
}

static void an_untouched_trail_is_intact_and_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_audit_report report;
    fixture_start(&f);
    struct mf_audit_point head = make_trail(&f);
    reopen(&f, "SELECT 1");
    add(&f, "request");
    assert_true(mf_audit_verify(f.store, &head, &report, NULL));
    assert_int_equal(report.rows, 8);
    fixture_end(&f);
}

static void every_change_of_a_row_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *message;
    } cases[] = {
        {"UPDATE audit SET detail = 'GET /v1/job' WHERE seq = 3", "row 3 was changed"},
        {"UPDATE audit SET detail = NULL WHERE seq = 3", "row 3 was changed"},
        {"UPDATE audit SET actor = 'key:2' WHERE seq = 4", "row 4 was changed"},
        {"UPDATE audit SET actor = NULL WHERE seq = 4", "row 4 was changed"},
        {"UPDATE audit SET tenant = 'south' WHERE seq = 2", "row 2 was changed"},
        {"UPDATE audit SET event = 'x' WHERE seq = 7", "row 7 was changed"},
        {"UPDATE audit SET job = 'x' WHERE seq = 1", "row 1 was changed"},
        {"UPDATE audit SET time = time + 1 WHERE seq = 5", "row 5 was changed"},
        {"UPDATE audit SET hash = NULL WHERE seq = 5", "row 5 was changed"},
        {"UPDATE audit SET hash = substr(hash, 2) WHERE seq = 7", "row 7 was changed"},
        {"DELETE FROM audit WHERE seq = 4", "row 4 is missing"},
        {"DELETE FROM audit WHERE seq = 1", "row 1 is missing"},
        {"UPDATE audit SET seq = 9 WHERE seq = 7", "row 7 is missing"},
        {"UPDATE audit SET tenant = 'nort', actor = 'hkey:1' WHERE seq = 3", "row 3 was changed"},
        {"INSERT INTO audit_base VALUES(1, 3, (SELECT hash FROM audit WHERE seq = 3));"
         "DELETE FROM audit WHERE seq <= 3",
         "its beginning was removed, and no row tells of it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct store_fixture f;
        char message[128];
        fixture_start(&f);
        make_trail(&f);
        reopen(&f, cases[i].sql);
        snprintf(message, sizeof message, "audit trail: %s", cases[i].message);
        assert_verify_fails(&f, NULL, message);
        fixture_end(&f);
    }
}

static void a_cut_end_is_found_by_a_known_head(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_audit_report report;
    fixture_start(&f);
    struct mf_audit_point head = make_trail(&f);
    reopen(&f, "DELETE FROM audit WHERE seq > 5");
    assert_true(mf_audit_verify(f.store, NULL, &report, NULL)); /* nothing inside tells */
    assert_verify_fails(&f, &head, "audit trail: row 7 is not the one that is known");
    add(&f, "request");
    add(&f, "request"); /* as long as before, and another; PostgreSQL keeps the head apart */
    assert_verify_fails(&f, &head,
                        fixture_on_postgres() ? "audit trail: row 6 is missing"
                                              : "audit trail: row 7 is not the one that is known");
    fixture_end(&f);
}

static void heads_have_a_text(void **state)
{
    (void)state;
    struct mf_audit_point point = {.seq = 12}, back;
    char text[MF_AUDIT_POINT_TEXT];
    for (size_t i = 0; i < sizeof point.hash; i++)
        point.hash[i] = (unsigned char)(7 * i);
    assert_true(mf_audit_point_parse(mf_audit_point_format(&point, text), &back));
    assert_int_equal(back.seq, 12);
    assert_memory_equal(back.hash, point.hash, sizeof point.hash);
    static const char *const wrong[] = {"", "12", "12:", ":00", "-1:00", "x:00", "12:0g"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(mf_audit_point_parse(wrong[i], &back));
}

static void old_rows_go_and_the_rest_stays_whole(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_audit_report report;
    char sql[256];
    fixture_start(&f);
    f.settings.audit_retention_s = fixture_on_postgres() ? -2 * 86400 : 10 * 86400;
    make_trail(&f);
    /* Rows of the past: a chain of its own, as it would have been then. (On PostgreSQL, which
     * chains nothing anew, all rows are old.) */
    mf_store_free(f.store);
    if (fixture_on_postgres())
        snprintf(sql, sizeof sql, "SELECT 1");
    else
        snprintf(sql, sizeof sql,
                 "UPDATE audit SET time = %lld WHERE seq <= 4;"
                 "ALTER TABLE audit DROP COLUMN hash; ALTER TABLE audit DROP COLUMN actor;",
                 (long long)(mf_clock_wall_ms() - INT64_C(20) * 86400000));
    fixture_execute(&f, sql);
    struct mf_store_server server = {.directory = f.directory,
                                     .settings = f.settings,
                                     .listen_fd = mf_store_listen(f.directory, NULL),
                                     .stop_fd = -1,
                                     .ready_fd = -1};
    int stop[2];
    assert_int_equal(pipe(stop), 0);
    assert_int_equal(write(stop[1], "1", 1), 1); /* one turn, in which the old rows go */
    server.stop_fd = stop[0];
    assert_true(mf_store_server_run(&server, NULL));
    close(stop[0]);
    close(stop[1]);
    close(server.listen_fd);
    fixture_open(&f);
    assert_true(mf_audit_verify(f.store, NULL, &report, NULL));
    assert_int_equal(report.base.seq, fixture_on_postgres() ? 7 : 4);
    /* three that stay, and the one that tells */
    assert_int_equal(report.rows, fixture_on_postgres() ? 1 : 4);
    struct mf_audit_point base = report.base;
    assert_true(mf_audit_verify(f.store, &base, &report, NULL)); /* a head may be the base */
    reopen(&f, "DELETE FROM audit WHERE event = 'audit.purged'");
    assert_verify_fails(&f, NULL, "audit trail: its beginning was removed, and no row tells of it");
    fixture_end(&f);
}

static void a_database_from_before_the_chain_is_chained(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_audit_report report;
    if (fixture_on_postgres())
        skip(); /* it never was without */
    fixture_start(&f);
    make_trail(&f);
    reopen(&f, "ALTER TABLE audit DROP COLUMN hash; ALTER TABLE audit DROP COLUMN actor;"
               "DROP TABLE audit_base; PRAGMA user_version = 1;");
    assert_true(mf_audit_verify(f.store, NULL, &report, NULL));
    assert_int_equal(report.rows, 7);
    add(&f, "request");
    reopen(&f, "SELECT 1"); /* chained once only */
    assert_true(mf_audit_verify(f.store, NULL, &report, NULL));
    assert_int_equal(report.rows, 8);
    fixture_end(&f);
}

static void what_is_undone_leaves_no_gap(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_audit_report report;
    struct mf_job job;
    char id[MF_JOB_ID];
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL));
    assert_false(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL)); /* rolled back */
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_true(mf_audit_verify(f.store, NULL, &report, NULL));
    assert_int_equal(report.rows, 3);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_untouched_trail_is_intact_and_goes_on_after_a_restart),
        cmocka_unit_test(every_change_of_a_row_is_found),
        cmocka_unit_test(a_cut_end_is_found_by_a_known_head),
        cmocka_unit_test(heads_have_a_text),
        cmocka_unit_test(old_rows_go_and_the_rest_stays_whole),
        cmocka_unit_test(a_database_from_before_the_chain_is_chained),
        cmocka_unit_test(what_is_undone_leaves_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
