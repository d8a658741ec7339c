/* server/store_sql_*.c: what a verb refuses, where a page ends, and what it answers about what is
 * not there (any more); both engines. */
#include "server/store_changes.h"
#include "server/store_dead_letters.h"
#include "server/store_feedback.h"
#include "server/store_instances.h"
#include "server/store_sql.h"

#include "store_fixture.h"

#include <math.h>

static const char RESULT[] = "{\"schema\":\"medfusion.result/1\"}";

static void requests_out_of_range_are_refused(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_claim *claims;
    struct mf_job *jobs;
    struct mf_observed *observed;
    struct mf_found *found;
    size_t n = 0;
    int64_t next = 0;
    static const struct mf_claim_request claim[] = {
        {.worker = "w"}, {.worker = "w", .max = 1001}, {.worker = "", .max = 1}};
    fixture_start(&f);
    for (size_t i = 0; i < sizeof claim / sizeof *claim; i++) {
        mf_error_clear(&err);
        assert_false(mf_store_claim(f.store, &claim[i], f.arena, &claims, &n, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a claim names no worker or asks for no jobs");
    }
    for (size_t limit = 0; limit <= 1001; limit += 1001) {
        const struct mf_job_filter filter = {
            .tenant = MF_TENANT_DEFAULT, .state = -1, .priority = -1, .limit = limit};
        const struct mf_search search = {.tenant = MF_TENANT_DEFAULT, .limit = limit};
        mf_error_clear(&err);
        assert_false(mf_store_list(f.store, &filter, f.arena, &jobs, &n, &next, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a list asks for no jobs or more than 1000");
        mf_error_clear(&err);
        assert_false(mf_store_instances_search(f.store, &search, f.arena, &found, &n, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a search asks for no rows or more than 1000");
        mf_error_clear(&err);
        assert_false(
            mf_store_instances_add(f.store, MF_TENANT_DEFAULT, 0, NULL, limit, NULL, &err));
        assert_error(&err, MF_ERR_INTERNAL, "no instances are added, or more than 1000");
        mf_error_clear(&err);
        assert_false(
            mf_store_observed(f.store, NULL, "m", 0, limit, f.arena, &observed, &n, &next, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a page of results has 1 to 200");
    }
    const struct mf_search deep = {
        .tenant = MF_TENANT_DEFAULT, .limit = 1, .level = (enum mf_level)(MF_LEVEL_INSTANCE + 1)};
    assert_false(mf_store_instances_search(f.store, &deep, f.arena, &found, &n, NULL));
    fixture_end(&f);
}

static void an_outcome_is_whole_or_none_is_taken(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_claim *c;
    char id[MF_JOB_ID];
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
    const struct mf_outcome wrong[] = {
        {.state = MF_JOB_RUNNING}, {.state = MF_JOB_SUCCEEDED}, {.state = MF_JOB_FAILED}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct mf_error err = MF_ERROR_INIT;
        char expected[128];
        struct mf_outcome o = wrong[i];
        o.job = fixture_ref(c);
        assert_false(mf_store_finish(f.store, &o, 1, &err));
        snprintf(expected, sizeof expected, "job %s: its outcome is incomplete", id);
        assert_error(&err, MF_ERR_INTERNAL, expected);
        assert_int_equal(fixture_job(&f, id).state, MF_JOB_RUNNING);
    }
    fixture_end(&f);
}

/* Who speaks of a job that it does not hold hears that its lease is lost, and changes nothing. */
static void what_is_not_held_is_lost(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_claim *c;
    char running[MF_JOB_ID], queued[MF_JOB_ID];
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_STAT, running);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, queued);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
    const struct mf_job_ref mine = fixture_ref(c);
    struct mf_job_ref refs[3] = {{.fence = 1}, {.fence = 0}, mine};
    mf_job_id_new(refs[0].id); /* nobody's */
    memcpy(refs[1].id, queued, sizeof queued);
    refs[2].fence--;
    for (int i = 0; i < 3; i++) {
        struct mf_heartbeat beat = {.job = refs[i], .progress = 0.5};
        struct mf_outcome o = {.job = refs[i],
                               .state = MF_JOB_SUCCEEDED,
                               .result = RESULT,
                               .result_len = sizeof RESULT - 1};
        assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
        assert_int_equal(beat.lease, MF_LEASE_LOST);
        assert_true(mf_store_finish(f.store, &o, 1, NULL));
        assert_int_equal(o.lease, MF_LEASE_LOST);
        assert_true(mf_store_release(f.store, &refs[i], 1, MF_END_CRASHED, NULL));
    }
    assert_int_equal(fixture_job(&f, running).state, MF_JOB_RUNNING);
    assert_int_equal(fixture_job(&f, queued).attempts, 0);
    static const double said[] = {0.25, 0.25, -1, 7, NAN}, kept[] = {0.25, 0.25, 0, 1, 0};
    for (int i = 0; i < 5; i++) {
        struct mf_heartbeat beat = {.job = mine, .progress = said[i]};
        assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
        assert_int_equal(beat.lease, MF_LEASE_KEPT);
        assert_true(fixture_job(&f, running).progress == kept[i]);
    }
    fixture_end(&f);
}

/* The same job twice in one call: the first outcome counts, the second finds it. */
static void a_job_that_is_finished_twice_at_once_ends_once(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_claim *c;
    struct mf_store_counts counts;
    char id[MF_JOB_ID];
    fixture_start(&f);
    for (int i = 0; i < 3; i++)
        fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 3, NULL, 0, &c), 3);
    struct mf_outcome o[4];
    for (int i = 0; i < 4; i++)
        o[i] = (struct mf_outcome){.job = fixture_ref(&c[i == 3 ? 0 : i]),
                                   .state = MF_JOB_SUCCEEDED,
                                   .result = RESULT,
                                   .result_len = sizeof RESULT - 1};
    assert_true(mf_store_finish(f.store, o, 4, NULL));
    for (int i = 0; i < 4; i++)
        assert_int_equal(o[i].lease, MF_LEASE_KEPT);
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.finished_total[MF_JOB_SUCCEEDED], 3);
    fixture_end(&f);
}

/* Two that a worker gives back together after a crash: neither is to blame, each runs alone next.
 */
static void jobs_that_crashed_together_run_alone(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_claim *c;
    struct mf_store_counts counts;
    char id[MF_JOB_ID];
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 2, NULL, 0, &c), 2);
    struct mf_job_ref refs[2] = {fixture_ref(&c[0]), fixture_ref(&c[1])};
    assert_true(mf_store_release(f.store, refs, 2, MF_END_CRASHED, NULL));
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.crashes_total, 2);
    assert_int_equal(fixture_claim(&f, "w", 2, NULL, 0, &c), 1);
    assert_true(c[0].solo);
    const struct mf_job_ref held = fixture_ref(&c[0]);
    assert_int_equal(fixture_claim(&f, "w", 2, &held, 1, &c), 0); /* it has a worker for itself */
    assert_true(mf_store_worker_gone(f.store, "w", MF_END_LOST, NULL));
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.losses_total, 1);
    fixture_end(&f);
}

/* --- pages --- */

static void done(struct store_fixture *f, const char *tenant, char id[MF_JOB_ID])
{
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_claim *c;
    sub.tenant = tenant;
    sub.model = "thorax";
    assert_true(mf_store_submit(f->store, &sub, &made, NULL));
    memcpy(id, made.id, MF_JOB_ID);
    assert_int_equal(fixture_claim(f, "w", 1, NULL, 0, &c), 1);
    fixture_succeed(f, fixture_ref(c));
}

static void lists_go_on_where_a_page_ended(void **state)
{
    (void)state;
    struct store_fixture f;
    char ids[3][MF_JOB_ID], other[MF_JOB_ID];
    int64_t cursor = 0;
    fixture_start(&f);
    for (int i = 0; i < 3; i++)
        done(&f, MF_TENANT_DEFAULT, ids[i]);
    done(&f, "north", other);
    for (int page = 0; page < 2; page++) { /* two and one, newest first */
        const struct mf_job_filter filter = {.tenant = MF_TENANT_DEFAULT,
                                             .state = MF_JOB_SUCCEEDED,
                                             .priority = -1,
                                             .limit = 2,
                                             .cursor = cursor};
        struct mf_job *jobs;
        size_t n = 0;
        assert_true(mf_store_list(f.store, &filter, f.arena, &jobs, &n, &cursor, NULL));
        assert_int_equal(n, 2 - page);
        assert_string_equal(jobs[0].id, ids[page ? 0 : 2]);
        assert_int_equal(cursor == 0, page == 1);
    }
    for (int page = 0; page < 2; page++) {
        struct mf_observed *rows;
        size_t n = 0;
        assert_true(mf_store_observed(f.store, MF_TENANT_DEFAULT, "thorax", cursor, 2, f.arena,
                                      &rows, &n, &cursor, NULL));
        assert_int_equal(n, 2 - page);
        assert_string_equal(rows[0].job.id, ids[page ? 0 : 2]);
        assert_int_equal(cursor == 0, page == 1);
    }
    struct mf_observed *rows;
    size_t n = 0;
    assert_true(
        mf_store_observed(f.store, NULL, "thorax", 0, 10, f.arena, &rows, &n, &cursor, NULL));
    assert_int_equal(n, 4);
    fixture_end(&f);
}

static void changes_go_on_where_a_page_ended(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_changes c;
    char id[MF_JOB_ID];
    fixture_start(&f);
    assert_true(mf_store_changes(f.store, NULL, -1, 0, f.arena, &c, NULL));
    int64_t after = c.head;
    assert_true(mf_store_changes(f.store, NULL, after, 0, f.arena, &c, NULL));
    assert_int_equal(c.count, 0);
    for (int i = 0; i < MF_CHANGES_PAGE + 3; i++)
        fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_true(mf_store_changes(f.store, MF_TENANT_DEFAULT, after, 0, f.arena, &c, NULL));
    assert_int_equal(c.count, MF_CHANGES_PAGE);
    assert_int_equal(c.head, c.list[MF_CHANGES_PAGE - 1].number);
    assert_true(mf_store_changes(f.store, MF_TENANT_DEFAULT, c.head, 0, f.arena, &c, NULL));
    assert_int_equal(c.count, 3);
    assert_string_equal(c.list[2].job.id, id);
    assert_true(mf_store_changes(f.store, NULL, c.head + 1, 0, f.arena, &c, NULL));
    assert_true(c.lost); /* of another store's life */
    assert_int_equal(c.count, 0);
    assert_true(mf_store_changes(f.store, NULL, 0, 0, f.arena, &c, NULL));
    assert_true(c.lost); /* from before it began */
    fixture_end(&f);
}

/* --- jobs that are over --- */

static void what_is_over_stays_so(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_job job;
    struct mf_job_record record;
    const char *const *locators;
    char id[MF_JOB_ID];
    size_t n = 0;
    bool over = false;
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_false(mf_store_purge(f.store, MF_TENANT_DEFAULT, id, f.arena, &locators, &n, &err));
    assert_error(&err, MF_ERR_CONFLICT, "the job is still queued: cancel it first");
    assert_true(mf_store_record(f.store, MF_TENANT_DEFAULT, id, f.arena, &record, NULL));
    assert_int_equal(record.input_count, 1);
    assert_null(record.result);
    assert_true(
        mf_store_wait_for_jobs(f.store, (const char(*)[MF_JOB_ID])id, 1, 0, &over, NULL, NULL));
    assert_false(over);
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL));
    assert_int_equal(job.state, MF_JOB_CANCELLED);
    mf_error_clear(&err);
    assert_false(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, &err));
    assert_error(&err, MF_ERR_CONFLICT, "the job is cancelled already");
    done(&f, MF_TENANT_DEFAULT, id);
    assert_true(mf_store_purge(f.store, MF_TENANT_DEFAULT, id, f.arena, &locators, &n, NULL));
    assert_true(mf_store_purge(f.store, MF_TENANT_DEFAULT, id, f.arena, &locators, &n, NULL));
    assert_int_equal(n, 0);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 1024);
    assert_true(mf_store_result(f.store, MF_TENANT_DEFAULT, id, &job, &text, NULL, NULL));
    assert_true(job.purged);
    assert_int_equal(text.len, 0);
    assert_true(mf_store_record(f.store, MF_TENANT_DEFAULT, id, f.arena, &record, NULL));
    assert_null(record.result);
    fixture_end(&f);
}

static void a_running_job_that_is_cancelled_twice_is_asked_once(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_claim *c;
    struct mf_job job;
    char id[MF_JOB_ID];
    fixture_start(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
    for (int i = 0; i < 2; i++) {
        assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL));
        assert_int_equal(job.state, MF_JOB_RUNNING);
        assert_true(job.cancel_requested);
    }
    struct mf_heartbeat beat = {.job = fixture_ref(c), .progress = 0.5};
    assert_true(mf_store_heartbeat(f.store, &beat, 1, NULL));
    assert_int_equal(beat.lease, MF_LEASE_CANCEL);
    assert_int_equal(fixture_succeed(&f, fixture_ref(c)), MF_LEASE_KEPT);
    assert_int_equal(fixture_job(&f, id).state, MF_JOB_CANCELLED);
    fixture_end(&f);
}

/* What has been removed for its age is still counted. */
static void jobs_that_are_too_old_are_counted_as_ended(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_store_counts counts;
    struct mf_job job;
    char id[MF_JOB_ID];
    int removed = 0;
    fixture_start(&f);
    for (int i = 0; i < 3; i++)
        done(&f, MF_TENANT_DEFAULT, id);
    struct mf_sql_store *s = (struct mf_sql_store *)f.store;
    s->settings.retention_s = -10;
    assert_true(mf_sql_expire_jobs(s, 2, &removed, NULL));
    assert_int_equal(removed, 2);
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.finished_total[MF_JOB_SUCCEEDED], 3);
    assert_int_equal(counts.jobs[MF_JOB_SUCCEEDED], 1);
    assert_true(mf_sql_expire_jobs(s, 2, &removed, NULL));
    assert_int_equal(removed, 1);
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_store_job(f.store, MF_TENANT_DEFAULT, id, &job, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such job");
    fixture_end(&f);
}

/* --- where results go --- */

static bool opens_with(struct store_fixture *f, const char *destinations, struct mf_error *err)
{
    *err = (struct mf_error)MF_ERROR_INIT;
    mf_store_free(f->store);
    f->settings.destinations = destinations;
    f->store = mf_store_open(f->directory, &f->settings, err);
    return f->store != NULL;
}

static void addresses_of_results_are_read_when_the_store_opens(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err;
    char text[4096], name[400];
    size_t used = 0;
    fixture_start(&f);
    assert_true(opens_with(&f, "off", &err));
    assert_int_equal(((struct mf_sql_store *)f.store)->destination_count, 0);
    assert_true(opens_with(&f, " https://a  north=https://a https://a https://b?x=1 ", &err));
    struct mf_sql_store *s = (struct mf_sql_store *)f.store;
    assert_int_equal(s->destination_count, 3);
    assert_string_equal(s->destinations[1].tenant, "north");
    assert_string_equal(s->destinations[1].address, "https://a");
    assert_string_equal(s->destinations[2].address, "https://b?x=1");
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    snprintf(text, sizeof text, "https://%s", name);
    assert_false(opens_with(&f, text, &err));
    assert_error(&err, MF_ERR_USAGE, "outbox.destinations: an address is longer than 255 bytes");
    snprintf(text, sizeof text, "%.80s=https://a", name);
    assert_false(opens_with(&f, text, &err));
    assert_error(&err, MF_ERR_USAGE, "outbox.destinations: a tenant's name is too long");
    for (int i = 0; i <= MF_SQL_DESTINATIONS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "https://a/%d ", i);
    assert_false(opens_with(&f, text, &err));
    assert_error(&err, MF_ERR_USAGE, "outbox.destinations: more than 64 addresses");
    assert_true(opens_with(&f, NULL, &err));
    fixture_end(&f);
}

/* A job may name some of its tenant's destinations; of a webhook every end is told. */
static void results_go_where_the_job_says(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err;
    struct mf_delivery due[8];
    size_t n = 0;
    int64_t next = 0;
    fixture_start(&f);
    assert_true(opens_with(&f, "https://a webhook:b north=https://a", &err));
    for (int i = 0; i < 2; i++) {
        struct mf_submission sub = fixture_submission();
        struct mf_submitted made;
        struct mf_claim *c;
        sub.options = "{\"destinations\":[7,\"https://a\",\"https://c\"]}";
        assert_true(mf_store_submit(f.store, &sub, &made, NULL));
        assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
        struct mf_outcome o = {.job = fixture_ref(c),
                               .state = i ? MF_JOB_CANCELLED : MF_JOB_SUCCEEDED,
                               .result = RESULT,
                               .result_len = sizeof RESULT - 1};
        assert_true(mf_store_finish(f.store, &o, 1, NULL));
    }
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 8, &n, &next, NULL));
    assert_int_equal(n, 1);
    assert_string_equal(due[0].destination, "https://a");
    const struct mf_error later = {MF_ERR_UNAVAILABLE, "not now"};
    assert_true(mf_store_delivery_settle(f.store, due[0].id, &later, 60000, NULL));
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 8, &n, &next, NULL));
    assert_int_equal(n, 0);
    assert_in_range(next, 50000, 60000);
    assert_true(mf_store_delivery_settle(f.store, due[0].id, NULL, 0, NULL)); /* made after all */
    assert_true(mf_store_delivery_settle(f.store, 4711, NULL, 0, NULL));      /* gone: well */
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 8, &n, &next, NULL));
    assert_int_equal(next, -1);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_out_of_range_are_refused),
        cmocka_unit_test(an_outcome_is_whole_or_none_is_taken),
        cmocka_unit_test(what_is_not_held_is_lost),
        cmocka_unit_test(a_job_that_is_finished_twice_at_once_ends_once),
        cmocka_unit_test(jobs_that_crashed_together_run_alone),
        cmocka_unit_test(lists_go_on_where_a_page_ended),
        cmocka_unit_test(changes_go_on_where_a_page_ended),
        cmocka_unit_test(what_is_over_stays_so),
        cmocka_unit_test(a_running_job_that_is_cancelled_twice_is_asked_once),
        cmocka_unit_test(jobs_that_are_too_old_are_counted_as_ended),
        cmocka_unit_test(addresses_of_results_are_read_when_the_store_opens),
        cmocka_unit_test(results_go_where_the_job_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
