/* server/store_serve*.c, store_client*.c, store_wire*.c: a request that is cut anywhere is refused
 * and changes nothing, an answer that is cut anywhere is an error to its reader; of every verb. The
 * client's transport is replaced (target_link_options: --wrap): requests go straight to the
 * server's function. */
#include "store_verbs.h"

#include "server/store_client.h"
#include "server/store_server.h"

static struct {
    struct mf_sql_store *store;
    struct mf_buffer request, answer; /* frames, of the last call that was passed on */
    long cut;                         /* bytes of the answer that the client gets; −1: pass on */
} relay;

bool __wrap_mf_client_call(struct mf_store_client *c, struct mf_wire_writer *w, int wait_ms,
                           struct mf_wire_reader *reply, struct mf_error *err);

static uint32_t serve(const char *request, size_t body, struct mf_buffer *answer)
{
    struct mf_wire_header header;
    int passed = 0, wait_ms = 0;
    memcpy(&header, request, sizeof header);
    mf_buffer_clear(answer);
    /* A copy of its own size: reading behind it is found by the address sanitizer. */
    MF_AUTO(mf_mem) char *copy = malloc(body + 1);
    assert_non_null(copy);
    memcpy(copy, request + sizeof header, body);
    assert_int_equal(
        mf_store_serve(relay.store, header.kind, copy, body, true, answer, &passed, &wait_ms),
        MF_SERVED);
    memcpy(&header, answer->data, sizeof header);
    assert_int_equal(header.len, answer->len - sizeof header);
    return header.kind;
}

bool __wrap_mf_client_call(struct mf_store_client *c, struct mf_wire_writer *w, int wait_ms,
                           struct mf_wire_reader *reply, struct mf_error *err)
{
    (void)c;
    (void)wait_ms;
    mf_wire_end(w, 0);
    assert_false(w->failed);
    if (relay.cut < 0) {
        mf_buffer_clear(&relay.request);
        assert_true(mf_buffer_append(&relay.request, w->out->data, w->out->len, NULL));
        const size_t body = w->out->len - sizeof(struct mf_wire_header);
        if (serve(relay.request.data, body, &relay.answer) != MF_REPLY_OK)
            return mf_error_set(err, MF_ERR_INTERNAL, "the verb was refused");
    }
    const size_t whole = relay.answer.len - sizeof(struct mf_wire_header);
    *reply = (struct mf_wire_reader){relay.answer.data + sizeof(struct mf_wire_header),
                                     relay.cut < 0 ? whole : (size_t)relay.cut, false};
    return true;
}

/* The body of an error frame. */
static struct mf_error error_of(const struct mf_buffer *answer)
{
    struct mf_error err;
    assert_int_equal(answer->len, sizeof(struct mf_wire_header) + sizeof err);
    memcpy(&err, answer->data + sizeof(struct mf_wire_header), sizeof err);
    return err;
}

static int64_t jobs_and_rows(void)
{
    int64_t n = 0;
    assert_true(mf_sql_int(relay.store,
                           relay.store->engine->query(
                               relay.store,
                               "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM leases)"
                               " + (SELECT count(*) FROM results) + (SELECT count(*) FROM audit)"
                               " + (SELECT count(*) FROM instances)",
                               false, NULL, 0, NULL),
                           &n, NULL));
    return n;
}

static void try_requests(const struct verb *verb)
{
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    mf_buffer_init(&answer, 1 << 24);
    const size_t body = relay.request.len - sizeof(struct mf_wire_header);
    const int64_t before = jobs_and_rows();
    for (size_t cut = 0; cut < body; cut++) {
        if (serve(relay.request.data, cut, &answer) != MF_REPLY_ERROR)
            fail_msg("%s: %zu of %zu bytes are taken for the request", verb->name, cut, body);
        const struct mf_error err = error_of(&answer);
        if (err.code == MF_OK || !err.msg[0])
            fail_msg("%s: %zu of %zu bytes are refused without a reason", verb->name, cut, body);
    }
    assert_int_equal(jobs_and_rows(), before);
}

static void try_answers(struct subject *t, const struct verb *verb)
{
    const size_t body = relay.answer.len - sizeof(struct mf_wire_header);
    const size_t step = body > 2000 ? body / 997 : 1;
    for (size_t cut = 0; cut < body; cut += step) {
        struct mf_error err = MF_ERROR_INIT;
        const struct mf_arena_mark mark = mf_arena_position(t->f.arena);
        relay.cut = (long)cut;
        if (verb->call(t, &err))
            fail_msg("%s: %zu of %zu bytes are taken for the answer", verb->name, cut, body);
        if (err.code == MF_OK)
            fail_msg("%s: %zu of %zu bytes of the answer are no error", verb->name, cut, body);
        mf_arena_rewind(t->f.arena, &mark);
    }
    relay.cut = -1;
}

/* --- a store that fails --- */

static struct mf_sql_rows *no_query(struct mf_sql_store *s, const char *sql, bool literal,
                                    const struct mf_sql_value *values, size_t n,
                                    struct mf_error *err)
{
    (void)s, (void)sql, (void)literal, (void)values, (void)n;
    mf_error_set(err, MF_ERR_IO, "the disk is on fire");
    return NULL;
}

static bool no_run(struct mf_sql_store *s, const char *sql, const struct mf_sql_value *values,
                   size_t n, struct mf_error *err)
{
    (void)s, (void)sql, (void)values, (void)n;
    return mf_error_set(err, MF_ERR_IO, "the disk is on fire");
}

static bool no_savepoint(struct mf_sql_store *s, struct mf_error *err)
{
    (void)s;
    return mf_error_set(err, MF_ERR_IO, "the disk is on fire");
}

static void try_a_store_that_fails(const struct verb *verb)
{
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    const struct mf_sql_engine *real = relay.store->engine;
    struct mf_sql_engine broken = *real;
    mf_buffer_init(&answer, 1 << 20);
    broken.query = no_query;
    broken.run = no_run;
    broken.savepoint = no_savepoint;
    relay.store->engine = &broken;
    uint32_t kind =
        serve(relay.request.data, relay.request.len - sizeof(struct mf_wire_header), &answer);
    relay.store->engine = real;
    if (kind != MF_REPLY_ERROR)
        fail_msg("%s: the store failed, and the answer is none the less one", verb->name);
    const struct mf_error err = error_of(&answer);
    assert_error(&err, MF_ERR_IO, "the disk is on fire");
}

static void every_verb_of_a_client_is_whole_or_an_error(void **state)
{
    (void)state;
    size_t tried = 0;
    mf_buffer_init(&relay.request, 1 << 24);
    mf_buffer_init(&relay.answer, 1 << 24);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        struct subject t;
        struct mf_error err = MF_ERROR_INIT;
        subject_start(&t, &verbs[i]);
        struct mf_store *direct = t.f.store;
        relay.store = t.s;
        relay.cut = -1;
        mf_buffer_clear(&relay.request);
        t.f.store = mf_store_connect(t.f.directory, 1000, &err);
        assert_non_null(t.f.store);
        if (!verbs[i].call(&t, &err) || t.said != verbs[i].said)
            fail_msg("%s: said %lld (%s)", verbs[i].name, (long long)t.said, err.msg);
        if (relay.request.len > 0) { /* else it is no client's verb */
            tried++;
            try_requests(&verbs[i]);
            try_answers(&t, &verbs[i]);
            try_a_store_that_fails(&verbs[i]);
        }
        mf_store_free(t.f.store);
        t.f.store = direct;
        fixture_end(&t.f);
    }
    assert_true(tried > 40);
    mf_buffer_free(&relay.request);
    mf_buffer_free(&relay.answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_of_a_client_is_whole_or_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
