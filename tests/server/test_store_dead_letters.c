/* server/store_sql_dead_letters.c: what was given up is found, tried again, dropped; both engines.
 */
#include "server/store_audit.h"
#include "server/store_dead_letters.h"
#include "server/store_sql.h"

#include "store_fixture.h"

static const struct mf_dead_letter_filter ALL = {.id = 0};

/* A store in which each of `jobs` jobs of two tenants (the odd ones are north's) has failed to
 * reach two destinations. */
static void start(struct store_fixture *f, int jobs)
{
    const struct mf_error refused = {MF_ERR_UNUSABLE, "the destination answered 400"};
    fixture_start(f);
    mf_store_free(f->store);
    f->settings.destinations = "http://a webhook:b north=http://a north=webhook:b";
    fixture_open(f);
    for (int i = 0; i < jobs; i++) {
        struct mf_submission sub = fixture_submission();
        struct mf_submitted made;
        struct mf_claim *claim;
        sub.tenant = i % 2 ? "north" : MF_TENANT_DEFAULT;
        assert_true(mf_store_submit(f->store, &sub, &made, NULL));
        assert_int_equal(fixture_claim(f, "w", 1, NULL, 0, &claim), 1);
        fixture_succeed(f, fixture_ref(claim));
    }
    struct mf_delivery due[64];
    size_t n = 0;
    int64_t next = 0;
    assert_true(mf_store_deliveries_due(f->store, NULL, due, 64, &n, &next, NULL));
    assert_int_equal(n, 2 * jobs);
    for (size_t i = 0; i < n; i++) {
        assert_true(mf_store_delivery_settle(f->store, due[i].id, &refused, 1, NULL));
        assert_true(mf_store_delivery_settle(f->store, due[i].id, &refused, 0, NULL));
    }
}

static struct mf_dead_letter *list(struct store_fixture *f, struct mf_dead_letter_filter which,
                                   size_t *n)
{
    struct mf_dead_letter *letters = NULL;
    struct mf_error err = MF_ERROR_INIT;
    int64_t next = 0;
    if (!mf_store_dead_letters(f->store, &which, 0, 100, f->arena, &letters, n, &next, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(next, 0);
    return letters;
}

static size_t count(struct store_fixture *f, struct mf_dead_letter_filter which)
{
    size_t n = 0;
    list(f, which, &n);
    return n;
}

static size_t due_now(struct store_fixture *f, struct mf_delivery due[64])
{
    size_t n = 0;
    int64_t next = 0;
    assert_true(mf_store_deliveries_due(f->store, NULL, due, 64, &n, &next, NULL));
    return n;
}

/* How often an event stands in the trail, and who the last one was by. */
static int audited(struct store_fixture *f, const char *event, const char **ret_actor)
{
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    int found = 0;
    assert_true(mf_store_audit_read(f->store, 0, f->arena, &base, &rows, &n, NULL));
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].event, event) == 0) {
            found++;
            *ret_actor = rows[i].actor;
            assert_string_equal(rows[i].detail, "webhook:b");
        }
    return found;
}

static void what_is_given_up_is_kept_with_its_reason(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_store_counts counts;
    size_t n = 0;
    start(&f, 2);
    struct mf_dead_letter *letters = list(&f, ALL, &n);
    assert_int_equal(n, 4);
    assert_string_equal(letters[0].destination, "http://a");
    assert_string_equal(letters[0].reason, "the destination answered 400");
    assert_int_equal(letters[0].attempts, 2);
    assert_true(letters[0].failed_ms > 0);
    assert_true(letters[0].id < letters[1].id);
    assert_string_equal(letters[2].tenant, "north");
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.dead_letters, 4);
    assert_int_equal(counts.deliveries, 0);
    fixture_end(&f);
}

static void filters_narrow_down(void **state)
{
    (void)state;
    struct store_fixture f;
    size_t n = 0;
    start(&f, 2);
    assert_int_equal(count(&f, (struct mf_dead_letter_filter){.tenant = "north"}), 2);
    assert_int_equal(count(&f, (struct mf_dead_letter_filter){.destination = "webhook:b"}), 2);
    assert_int_equal(
        count(&f, (struct mf_dead_letter_filter){.tenant = "north", .destination = "http://a"}), 1);
    assert_int_equal(count(&f, (struct mf_dead_letter_filter){.tenant = "south"}), 0);
    assert_int_equal(count(&f, (struct mf_dead_letter_filter){.id = 99}), 0);
    struct mf_dead_letter *letters = list(&f, ALL, &n);
    assert_int_equal(count(&f, (struct mf_dead_letter_filter){.id = letters[3].id}), 1);
    fixture_end(&f);
}

static void pages_join_up(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_dead_letter *letters = NULL;
    int64_t cursor = 0, last = 0;
    size_t n = 0, seen = 0;
    start(&f, 3);
    do {
        assert_true(
            mf_store_dead_letters(f.store, &ALL, cursor, 4, f.arena, &letters, &n, &cursor, NULL));
        for (size_t i = 0; i < n; i++, seen++) {
            assert_true(letters[i].id > last);
            last = letters[i].id;
        }
    } while (cursor);
    assert_int_equal(seen, 6);
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_store_dead_letters(f.store, &ALL, 0, 0, f.arena, &letters, &n, &cursor, &err));
    assert_error(&err, MF_ERR_INTERNAL, "a list asks for no dead letters or more than 1000");
    fixture_end(&f);
}

static void a_retry_begins_with_all_attempts_and_is_audited(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_delivery due[64];
    const char *actor = NULL;
    int64_t n = 0;
    const struct mf_dead_letter_filter hooks = {.destination = "webhook:b"};
    start(&f, 2);
    assert_int_equal(due_now(&f, due), 0);
    assert_true(mf_store_dead_letters_end_all(f.store, &hooks, MF_DEAD_LETTER_RETRY, "key:admin",
                                              &n, NULL));
    assert_int_equal(n, 2);
    assert_int_equal(audited(&f, "delivery.retried", &actor), 2);
    assert_string_equal(actor, "key:admin");
    assert_int_equal(due_now(&f, due), 2);
    assert_int_equal(due[0].attempts, 0);
    assert_string_equal(due[0].destination, "webhook:b");
    assert_int_equal(count(&f, ALL), 2);
    assert_true(mf_store_delivery_settle(f.store, due[0].id, NULL, 0, NULL)); /* now it arrives */
    assert_int_equal(count(&f, ALL), 2);
    assert_true(mf_store_dead_letters_end_all(f.store, &hooks, MF_DEAD_LETTER_RETRY, NULL, &n,
                                              NULL)); /* there are no more */
    assert_int_equal(n, 0);
    fixture_end(&f);
}

static void what_is_dropped_never_comes_back(void **state)
{
    (void)state;
    struct store_fixture f;
    struct mf_delivery due[64];
    struct mf_error err = MF_ERROR_INIT;
    const char *actor = "nobody";
    int64_t n = 0;
    size_t have = 0;
    start(&f, 1);
    struct mf_dead_letter *letters = list(&f, ALL, &have);
    const struct mf_dead_letter_filter one = {.id = letters[1].id};
    assert_true(mf_store_dead_letters_end_all(f.store, &one, MF_DEAD_LETTER_DROP, NULL, &n, NULL));
    assert_int_equal(n, 1);
    assert_int_equal(audited(&f, "delivery.dropped", &actor), 1);
    assert_null(actor);
    assert_int_equal(count(&f, ALL), 1);
    assert_int_equal(due_now(&f, due), 0);
    assert_false(mf_store_dead_letters_end_all(f.store, &one, MF_DEAD_LETTER_DROP, NULL, &n, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such dead letter");
    /* whatever is said about it later (a report of a commitment, say) changes nothing */
    assert_true(mf_store_delivery_settle(f.store, one.id, NULL, 0, NULL));
    assert_int_equal(count(&f, ALL), 1);
    fixture_end(&f);
}

/* More than one call takes: they go a thousand at a time. */
static void many_are_ended_in_pieces(void **state)
{
    (void)state;
    struct store_fixture f;
    int64_t n = 0, cursor = 0;
    fixture_start(&f);
    mf_store_free(f.store);
    fixture_execute(&f,
                    "INSERT INTO outbox(tenant, job, destination, due, attempts, problem, failed)"
                    " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                    " WHERE i < 2500) SELECT 'default', 'job-' || i, 'http://a', 0, 60, 'x', 1"
                    " FROM n");
    fixture_open(&f);
    assert_true(
        mf_store_dead_letters_end(f.store, &ALL, MF_DEAD_LETTER_RETRY, NULL, &cursor, &n, NULL));
    assert_int_equal(n, MF_STORE_BATCH);
    assert_true(cursor > 0);
    assert_true(mf_store_dead_letters_end_all(f.store, &ALL, MF_DEAD_LETTER_RETRY, NULL, &n, NULL));
    assert_int_equal(n, 1500);
    assert_int_equal(count(&f, ALL), 0);
    fixture_end(&f);
}

/* Nothing of an expired job is left in the outbox. */
static void dead_letters_go_with_their_job(void **state)
{
    (void)state;
    struct store_fixture f;
    start(&f, 1);
    mf_store_free(f.store);
    fixture_execute(&f, "UPDATE jobs SET finished = 1");
    fixture_open(&f);
    int removed = 0;
    assert_true(mf_sql_expire_jobs((struct mf_sql_store *)f.store, 10, &removed, NULL));
    assert_int_equal(removed, 1);
    assert_int_equal(count(&f, ALL), 0);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_up_is_kept_with_its_reason),
        cmocka_unit_test(filters_narrow_down),
        cmocka_unit_test(pages_join_up),
        cmocka_unit_test(a_retry_begins_with_all_attempts_and_is_audited),
        cmocka_unit_test(what_is_dropped_never_comes_back),
        cmocka_unit_test(many_are_ended_in_pieces),
        cmocka_unit_test(dead_letters_go_with_their_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
