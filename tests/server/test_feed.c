/* server/feed.c: what a subscription gives, when it rests, who has room. */
#include "served_fixture.h"

#include "server/feed.h"

#include <poll.h>

enum { PATIENCE_MS = 10000, TAKEN = 1 << 20 };

/* A reader in place of a connection. */
struct reader {
    struct mf_subscription *subscription;
    int paused; /* atomic */
    char text[TAKEN];
    size_t len;
    bool ended;
};

static void pause_reader(void *connection)
{
    __atomic_store_n(&((struct reader *)connection)->paused, 1, __ATOMIC_SEQ_CST);
}

static void wake_reader(void *connection)
{
    __atomic_store_n(&((struct reader *)connection)->paused, 0, __ATOMIC_SEQ_CST);
}

static struct reader *subscribe(struct mf_feed *feed, const char *tenant, const char *job,
                                int64_t after)
{
    struct mf_error err = MF_ERROR_INIT;
    struct reader *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->subscription = mf_feed_subscribe(feed, tenant, job, after, &err);
    if (!r->subscription)
        fail_msg("%s", err.msg);
    return r;
}

static void leave(struct reader *r)
{
    mf_feed_unsubscribe(r->subscription);
    free(r);
}

/* Takes `max` bytes at a time until `needle` is there, or the end. */
static void take_until(struct reader *r, const char *needle, size_t max)
{
    const struct mf_rest rest = {pause_reader, wake_reader, r};
    while (!r->ended && (!needle || !strstr(r->text, needle))) {
        if (__atomic_load_n(&r->paused, __ATOMIC_SEQ_CST)) {
            poll(NULL, 0, 1);
            continue;
        }
        assert_true(r->len + max < sizeof r->text);
        ssize_t n = mf_subscription_follow(r->subscription, &rest, r->text + r->len, max);
        if (n < 0)
            r->ended = true;
        else
            r->len += (size_t)n;
    }
    if (needle && !strstr(r->text, needle))
        fail_msg("the stream ended without \"%s\"", needle);
}

static struct mf_feed *make_feed(struct served_fixture *v, size_t most)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_feed *feed = mf_feed_new(v->f.directory, PATIENCE_MS, most, &err);
    if (!feed)
        fail_msg("%s", err.msg);
    return feed;
}

static void test_events_come_byte_by_byte_as_well(void **state)
{
    struct served_fixture v;
    struct mf_claim *claim = NULL;
    char id[MF_JOB_ID];
    (void)state;
    served_start(&v);
    struct mf_feed *feed = make_feed(&v, 10);
    struct reader *all = subscribe(feed, MF_TENANT_DEFAULT, NULL, -1);
    struct reader *slow = subscribe(feed, MF_TENANT_DEFAULT, NULL, -1);
    take_until(all, "event: begin\ndata: {\"lost\":false}\n\n", 4096);
    take_until(slow, "event: begin\ndata: {\"lost\":false}\n\n", 1);
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, id);
    take_until(all, "\"state\":\"queued\"", 4096);
    assert_int_equal(fixture_claim(&v.f, "w", 1, NULL, 0, &claim), 1);
    fixture_succeed(&v.f, fixture_ref(claim));
    take_until(all, "\"state\":\"succeeded\"", 4096);
    take_until(slow, "\"state\":\"succeeded\"", 1);
    assert_non_null(strstr(slow->text, id));
    assert_false(all->ended);
    leave(all);
    leave(slow);
    mf_feed_free(feed);
    served_end(&v);
}

static void test_a_tenant_follows_its_own(void **state)
{
    struct served_fixture v;
    char id[MF_JOB_ID];
    struct mf_submission theirs = fixture_submission();
    struct mf_submitted made;
    (void)state;
    served_start(&v);
    struct mf_feed *feed = make_feed(&v, 10);
    struct reader *north = subscribe(feed, "north", NULL, -1);
    take_until(north, "event: begin", 4096);
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, id);
    theirs.tenant = "north";
    assert_true(mf_store_submit(v.f.store, &theirs, &made, NULL));
    take_until(north, made.id, 4096);
    assert_null(strstr(north->text, id));
    struct reader *other = subscribe(feed, MF_TENANT_DEFAULT, made.id, -1);
    take_until(other, NULL, 4096); /* not theirs: ends at once, and says nothing */
    assert_string_equal(other->text, "");
    leave(north);
    leave(other);
    mf_feed_free(feed);
    served_end(&v);
}

static void test_who_takes_nothing_is_ended(void **state)
{
    struct served_fixture v;
    char id[MF_JOB_ID], last[MF_JOB_ID];
    (void)state;
    served_start(&v);
    struct mf_feed *feed = make_feed(&v, 10);
    struct reader *idle = subscribe(feed, MF_TENANT_DEFAULT, NULL, -1);
    struct reader *quick = subscribe(feed, MF_TENANT_DEFAULT, NULL, -1);
    take_until(idle, "event: begin", 4096);
    take_until(quick, "event: begin", 4096);
    for (int i = 0; i < 450; i++) {
        fixture_submit(&v.f, MF_PRIORITY_ROUTINE, i == 0 ? id : last);
        if (i % 50 == 49)
            take_until(quick, last, 4096);
    }
    take_until(idle, NULL, 4096);
    assert_true(idle->ended && !quick->ended);
    assert_true(idle->len <= 150 << 10);
    assert_non_null(strstr(idle->text, id));
    assert_null(strstr(idle->text, last));
    assert_string_equal(idle->text + idle->len - 2, "\n\n"); /* no event is cut */
    char *at = idle->text;                                   /* the last id continues */
    for (char *next = at; (next = strstr(next, "\nid: ")); at = next)
        next += 5;
    struct reader *back = subscribe(feed, MF_TENANT_DEFAULT, NULL, strtoll(at, NULL, 10));
    take_until(back, last, 4096);
    assert_non_null(strstr(back->text, "{\"lost\":false}"));
    leave(idle);
    leave(quick);
    leave(back);
    mf_feed_free(feed);
    served_end(&v);
}

static void test_one_tenant_has_half_of_the_room(void **state)
{
    struct served_fixture v;
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    served_start(&v);
    struct mf_feed *feed = make_feed(&v, 3);
    struct reader *first = subscribe(feed, "a", NULL, -1), *second = subscribe(feed, "a", NULL, -1);
    assert_null(mf_feed_subscribe(feed, "a", NULL, -1, &err));
    assert_error(&err, MF_ERR_BUSY, "too many streams of events are open");
    struct reader *third = subscribe(feed, "b", NULL, -1);
    err = (struct mf_error)MF_ERROR_INIT;
    assert_null(mf_feed_subscribe(feed, "b", NULL, -1, &err));
    leave(first);
    struct reader *fourth = subscribe(feed, "a", NULL, -1);
    mf_feed_stop(feed);
    take_until(second, NULL, 64);
    take_until(third, NULL, 64);
    take_until(fourth, NULL, 64);
    leave(second);
    leave(third);
    leave(fourth);
    struct reader *late = subscribe(feed, "a", NULL, -1);
    take_until(late, NULL, 64);
    assert_string_equal(late->text, "");
    leave(late);
    mf_feed_free(feed);
    served_end(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_byte_by_byte_as_well),
        cmocka_unit_test(test_a_tenant_follows_its_own),
        cmocka_unit_test(test_who_takes_nothing_is_ended),
        cmocka_unit_test(test_one_tenant_has_half_of_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
