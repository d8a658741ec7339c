/* server/store_sql_queue.c: tenants take turns (server/shares.h), whatever one of them does; on
 * both engines, over simulated streams of jobs. */
#include "store_fixture.h"

#include <math.h>

enum { TENANTS = 3, LONGEST = 400 };

static const char *const NAMES[TENANTS] = {"north", "south", "west"};

static void submit_as(struct store_fixture *f, const char *tenant, enum mf_priority priority,
                      char id[MF_JOB_ID])
{
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_error err = MF_ERROR_INIT;
    sub.tenant = tenant;
    sub.priority = priority;
    if (!mf_store_submit(f->store, &sub, &made, &err))
        fail_msg("%s", err.msg);
    memcpy(id, made.id, MF_JOB_ID);
}

static void submit_many(struct store_fixture *f, const char *tenant, int n)
{
    char id[MF_JOB_ID];
    for (int i = 0; i < n; i++)
        submit_as(f, tenant, MF_PRIORITY_ROUTINE, id);
}

/* Runs the next job; which tenant's it was. */
static int serve_one(struct store_fixture *f)
{
    struct mf_claim *c;
    assert_int_equal(fixture_claim(f, "w", 1, NULL, 0, &c), 1);
    fixture_succeed(f, fixture_ref(c));
    for (int i = 0; i < TENANTS; i++)
        if (strcmp(c->tenant, NAMES[i]) == 0)
            return i;
    fail_msg("a job of %s", c->tenant);
    return -1;
}

static void start_with(struct store_fixture *f, const char *shares)
{
    fixture_start(f);
    mf_store_free(f->store);
    f->settings.shares = shares;
    fixture_open(f);
}

/* One tenant brings a backlog, another comes later with a few: it has every second turn. */
static void a_backlog_holds_nobody_up(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    submit_many(&f, "north", 60);
    for (int i = 0; i < 10; i++)
        assert_int_equal(serve_one(&f), 0);
    submit_many(&f, "south", 5);
    int last = 0;
    for (int i = 1, south = 0; south < 5; i++)
        if (serve_one(&f) == 1) {
            south++;
            last = i;
        }
    assert_in_range(last, 9, 10);
    fixture_end(&f);
}

static void turns_go_by_shares(void **state)
{
    (void)state;
    struct store_fixture f;
    int served[TENANTS] = {0};
    start_with(&f, "north=3 west=2");
    for (int i = 0; i < TENANTS; i++)
        submit_many(&f, NAMES[i], 60);
    for (int i = 0; i < 60; i++)
        served[serve_one(&f)]++;
    assert_in_range(served[0], 29, 31); /* 3 : 1 : 2 */
    assert_in_range(served[1], 9, 11);
    assert_in_range(served[2], 19, 21);
    fixture_end(&f);
}

/* Who did nothing for long has saved up nothing: the others are not held up by its burst. */
static void silence_saves_up_no_turns(void **state)
{
    (void)state;
    struct store_fixture f;
    int served[TENANTS] = {0};
    fixture_start(&f);
    submit_many(&f, "north", 80);
    for (int i = 0; i < 40; i++)
        serve_one(&f);
    submit_many(&f, "south", 40);
    for (int i = 0; i < 20; i++)
        served[serve_one(&f)]++;
    assert_in_range(served[0], 9, 11);
    assert_in_range(served[1], 9, 11);
    fixture_end(&f);
}

/* A stream: north brings three jobs for every one that is run, south and west one now and then.
 * Those two wait a few turns only, the whole time, while north's queue grows. */
static void a_flood_delays_only_its_own(void **state)
{
    (void)state;
    struct store_fixture f;
    int waiting[TENANTS] = {0}, since[TENANTS] = {0}, longest[TENANTS] = {0};
    unsigned random = 12345;
    fixture_start(&f);
    for (int i = 0; i < LONGEST; i++) {
        submit_many(&f, "north", 3);
        for (int t = 1; t < TENANTS; t++) {
            random = random * 1103515245u + 12345u;
            if (waiting[t] == 0 && random >> 16 & 1) {
                submit_many(&f, NAMES[t], 1);
                waiting[t] = 1;
                since[t] = i;
            }
        }
        const int t = serve_one(&f);
        if (t > 0) {
            waiting[t] = 0;
            longest[t] = i - since[t] > longest[t] ? i - since[t] : longest[t];
        }
    }
    assert_in_range(longest[1], 0, 3);
    assert_in_range(longest[2], 0, 3);
    fixture_end(&f);
}

/* The position that a job is told is the number of claims until it runs, if nothing comes after. */
static void positions_are_kept(void **state)
{
    (void)state;
    struct store_fixture f;
    char ids[12][MF_JOB_ID];
    int64_t position[12];
    start_with(&f, "south=2");
    for (int i = 0; i < 12; i++) /* 6 of north, then 4 of south, then 2 STAT of west */
        submit_as(&f,
                  i < 6    ? "north"
                  : i < 10 ? "south"
                           : "west",
                  i < 10 ? MF_PRIORITY_ROUTINE : MF_PRIORITY_STAT, ids[i]);
    for (int i = 0; i < 12; i++) {
        struct mf_job job;
        const char *tenant = i < 6 ? "north" : i < 10 ? "south" : "west";
        assert_true(mf_store_job(f.store, tenant, ids[i], &job, NULL));
        assert_true(isnan(job.eta_s)); /* nothing has been run yet */
        position[i] = job.position;
    }
    assert_int_equal(position[10], 1);      /* STAT */
    assert_true(position[6] < position[2]); /* south does not wait for all of north's */
    for (int n = 1; n <= 7; n++) {          /* with the eighth, priorities do not count */
        struct mf_claim *c;
        assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &c), 1);
        for (int i = 0; i < 12; i++)
            if (strcmp(ids[i], c->id) == 0)
                assert_int_equal(position[i], n);
        fixture_succeed(&f, fixture_ref(c));
    }
    fixture_end(&f);
}

/* A job that comes back after a crash is soon run again, and lets nobody overtake others. */
static void a_job_that_comes_back_keeps_the_turns(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_claim *c;
    char first[MF_JOB_ID];
    int served[TENANTS] = {0};
    fixture_start(&f);
    submit_as(&f, "north", MF_PRIORITY_ROUTINE, first);
    submit_many(&f, "north", 60);
    assert_int_equal(fixture_claim(&f, "slow", 1, NULL, 0, &c), 1);
    assert_string_equal(c->id, first);
    const struct mf_job_ref slow = fixture_ref(c);
    for (int i = 0; i < 30; i++)
        serve_one(&f);
    assert_true(mf_store_release(f.store, &slow, 1, MF_END_LOST, NULL));
    submit_many(&f, "south", 40);
    for (int i = 0; i < 20; i++) {
        struct mf_job job;
        served[serve_one(&f)]++;
        assert_true(mf_store_job(f.store, "north", first, &job, NULL));
        assert_true(i == 0 || job.state == MF_JOB_SUCCEEDED);
    }
    assert_in_range(served[0], 9, 12);
    assert_in_range(served[1], 8, 11);
    fixture_end(&f);
}

/* A tenant that fills the queue locks nobody out, and the queue stays bounded. */
static void a_full_queue_has_room_for_the_others(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_submitted made;
    struct mf_error err = MF_ERROR_INIT;
    int accepted[TENANTS] = {0};
    fixture_start(&f);
    for (int t = 0; t < TENANTS; t++)
        for (int i = 0; i < 30; i++) {
            struct mf_submission sub = fixture_submission();
            sub.tenant = NAMES[t];
            sub.max_queued = 16;
            mf_error_clear(&err);
            made.full = false;
            if (mf_store_submit(f.store, &sub, &made, &err))
                accepted[t]++;
            else
                assert_int_equal(err.code, MF_ERR_BUSY);
            if (err.code == MF_OK && t == 0)
                assert_int_equal(made.full, made.queued == 16); /* told before it is refused */
        }
    assert_int_equal(accepted[0], 16);
    assert_int_equal(accepted[1], 3);
    assert_int_equal(accepted[2], 0); /* an eighth in all */
    fixture_end(&f);
}

static void wrong_shares_open_no_store(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_error err = MF_ERROR_INIT;
    fixture_start(&f);
    mf_store_free(f.store);
    f.settings.shares = "north=0";
    f.store = mf_store_open(f.directory, &f.settings, &err);
    assert_null(f.store);
    assert_error(&err, MF_ERR_USAGE,
                 "jobs.shares: \"north=0\" is not TENANT=SHARE with a share from 1 to 1000");
    f.settings.shares = NULL;
    fixture_open(&f);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backlog_holds_nobody_up),
        cmocka_unit_test(turns_go_by_shares),
        cmocka_unit_test(silence_saves_up_no_turns),
        cmocka_unit_test(a_flood_delays_only_its_own),
        cmocka_unit_test(positions_are_kept),
        cmocka_unit_test(a_job_that_comes_back_keeps_the_turns),
        cmocka_unit_test(a_full_queue_has_room_for_the_others),
        cmocka_unit_test(wrong_shares_open_no_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
