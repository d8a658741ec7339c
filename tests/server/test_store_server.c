/*
 * server/store_server.c and store_client.c over the socket: waiting, interrupting, restarting, and
 * a disk that fails.
 */
#include "store_fixture.h"

#include "server/store_socket.h"
#include "server/store_sql.h"
#include "server/store_wire.h"

#include "core/clock.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A store process of its own, and a client of it in f.store. */
struct served {
    struct store_fixture f;
    int listen_fd;
    pid_t pid;
};

/* max_file: bytes a file of the store may have (0 = any): later writes fail. */
static void start_process(struct served *v, rlim_t max_file)
{
    v->pid = fork();
    if (v->pid == 0) {
        struct mf_error err = MF_ERROR_INIT;
        const struct rlimit limit = {max_file, max_file};
        const struct mf_store_server server = {.directory = v->f.directory,
                                               .settings = v->f.settings,
                                               .listen_fd = v->listen_fd,
                                               .stop_fd = -1,
                                               .ready_fd = -1};
        signal(SIGXFSZ, SIG_IGN);
        if (max_file)
            setrlimit(RLIMIT_FSIZE, &limit);
        _exit(mf_store_server_run(&server, &err) ? 0 : 3);
    }
}

static int end_process(struct served *v, int number)
{
    int status = 0;
    if (number)
        kill(v->pid, number);
    waitpid(v->pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void serve(struct served *v, rlim_t max_file)
{
    memset(v, 0, sizeof *v);
    fixture_start(&v->f);
    mf_store_free(v->f.store);
    v->listen_fd = mf_store_listen(v->f.directory, NULL);
    assert_true(v->listen_fd >= 0);
    start_process(v, max_file);
    v->f.store = mf_store_connect(v->f.directory, 3000, NULL);
    assert_non_null(v->f.store);
    struct mf_store_counts counts; /* once it answers it also takes signals */
    assert_true(mf_store_counts(v->f.store, &counts, NULL));
}

static void end(struct served *v)
{
    assert_int_equal(end_process(v, SIGTERM), 0);
    close(v->listen_fd);
    fixture_end(&v->f);
}

/* A claim that waits, on a connection and a thread of its own. */
struct waiting {
    struct served *v;
    struct mf_store *store;
    const char *worker;
    int wait_ms;
    size_t count;
    char id[MF_JOB_ID];
    int64_t fence;
    pthread_t thread;
};

static void *run_claim(void *argument)
{
    struct waiting *w = argument;
    struct mf_arena *arena = mf_arena_new(0);
    struct mf_claim *claims = NULL;
    struct mf_claim_request request = {.worker = w->worker, .max = 1, .wait_ms = w->wait_ms};
    if (mf_store_claim(w->store, &request, arena, &claims, &w->count, NULL) && w->count) {
        memcpy(w->id, claims[0].id, MF_JOB_ID);
        w->fence = claims[0].fence;
    }
    mf_arena_free(arena);
    return NULL;
}

static void start_claim(struct waiting *w, struct served *v, const char *worker, int wait_ms)
{
    *w = (struct waiting){.v = v, .worker = worker, .wait_ms = wait_ms};
    w->store = mf_store_connect(v->f.directory, 3000, NULL);
    assert_int_equal(pthread_create(&w->thread, NULL, run_claim, w), 0);
}

static void join_claim(struct waiting *w)
{
    pthread_join(w->thread, NULL);
    mf_store_free(w->store);
}

static void waiting_claims_are_served_in_their_order(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    struct waiting first, second;
    char a[MF_JOB_ID], b[MF_JOB_ID];
    start_claim(&first, &v, "w1", -1);
    poll(NULL, 0, 100);
    start_claim(&second, &v, "w2", -1);
    poll(NULL, 0, 100);
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, a);
    join_claim(&first);
    assert_string_equal(first.id, a);
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, b);
    join_claim(&second);
    assert_string_equal(second.id, b);
    end(&v);
}

static void a_wait_ends_by_time_or_by_interrupt(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    struct waiting timed, endless, early;
    uint64_t begin = mf_clock_monotonic_ns();
    start_claim(&timed, &v, "w1", 150);
    join_claim(&timed);
    assert_int_equal(timed.count, 0);
    assert_true(mf_clock_monotonic_ns() - begin >= 140000000);
    start_claim(&endless, &v, "w2", -1);
    poll(NULL, 0, 100);
    mf_store_interrupt(endless.store);
    join_claim(&endless);
    assert_int_equal(endless.count, 0);
    /* An interrupt before the wait ends that wait, and only that one. */
    early = (struct waiting){.v = &v, .worker = "w3", .wait_ms = -1};
    early.store = mf_store_connect(v.f.directory, 3000, NULL);
    mf_store_interrupt(early.store);
    run_claim(&early);
    assert_int_equal(early.count, 0);
    char id[MF_JOB_ID];
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, id);
    run_claim(&early);
    assert_string_equal(early.id, id);
    mf_store_free(early.store);
    end(&v);
}

static void a_worker_that_is_gone_gets_nothing(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    int fd = mf_store_socket_connect(v.f.directory, NULL); /* a claim whose sender then dies */
    MF_AUTO(mf_buffer) struct mf_buffer frame;
    mf_buffer_init(&frame, 1000);
    struct mf_wire_writer w = {&frame, false};
    mf_wire_begin(&w, MF_VERB_CLAIM);
    mf_wire_put_int(&w, -1);
    mf_wire_put_text(&w, "dead");
    mf_wire_put_int(&w, 1);
    mf_wire_put_int(&w, 0);
    mf_wire_end(&w, 0);
    assert_int_equal(send(fd, frame.data, frame.len, 0), frame.len);
    poll(NULL, 0, 100);
    close(fd);
    poll(NULL, 0, 100);
    char id[MF_JOB_ID];
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_job(&v.f, id).state, MF_JOB_QUEUED);
    end(&v);
}

static void what_is_no_frame_closes_the_connection_only(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    char junk[64], id[MF_JOB_ID];
    memset(junk, 'x', sizeof junk);
    int fd = mf_store_socket_connect(v.f.directory, NULL);
    assert_int_equal(send(fd, junk, sizeof junk, 0), sizeof junk);
    assert_int_equal(recv(fd, junk, sizeof junk, 0), 0);
    close(fd);
    /* The right frame with a wrong body is answered with an error. */
    static const uint32_t verbs[] = {MF_VERB_SUBMIT, MF_VERB_CLAIM,         MF_VERB_FINISH,
                                     MF_VERB_LIST,   MF_VERB_WAIT_FOR_JOBS, 77};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        struct mf_wire_header header = {mf_wire_magic(), verbs[i], 5}, reply;
        fd = mf_store_socket_connect(v.f.directory, NULL);
        assert_int_equal(send(fd, &header, sizeof header, 0), sizeof header);
        assert_int_equal(send(fd, "\xff\xff\xff\xff\xff", 5, 0), 5);
        assert_int_equal(recv(fd, &reply, sizeof reply, MSG_WAITALL), sizeof reply);
        assert_int_equal(reply.kind, MF_REPLY_ERROR);
        close(fd);
    }
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, id);
    end(&v);
}

/* Submits a job with the write end of a pipe as the connection on which its frames come. */
static int submit_with_frames_ahead(struct served *v, char id[MF_JOB_ID])
{
    int ends[2];
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    assert_int_equal(pipe(ends), 0);
    sub.frames_ahead = ends[1];
    assert_true(mf_store_submit(v->f.store, &sub, &made, NULL));
    close(ends[1]);
    memcpy(id, made.id, MF_JOB_ID);
    return ends[0];
}

/* Whether nobody holds the other end any more. */
static bool is_closed(int end)
{
    struct pollfd p = {.fd = end};
    return poll(&p, 1, 1000) == 1 && (p.revents & POLLHUP);
}

static void frames_ahead_go_to_the_claim_of_their_job(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    char ids[MF_STORE_FRAMES_AHEAD + 1][MF_JOB_ID], byte = 0;
    int ends[MF_STORE_FRAMES_AHEAD + 1];
    struct mf_claim *claims;
    for (int i = 0; i <= MF_STORE_FRAMES_AHEAD; i++)
        ends[i] = submit_with_frames_ahead(&v, ids[i]);
    assert_true(is_closed(ends[MF_STORE_FRAMES_AHEAD])); /* too far behind */
    assert_int_equal(fixture_claim(&v.f, "w", 1, NULL, 0, &claims), 1);
    assert_string_equal(claims[0].id, ids[0]);
    assert_true(claims[0].frames_ahead > 0);
    assert_int_equal(write(claims[0].frames_ahead, "x", 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(claims[0].frames_ahead);
    assert_true(is_closed(ends[0]));
    /* Of two claims in one answer the first keeps what it had. */
    struct mf_job_ref mine = {.fence = claims[0].fence};
    memcpy(mine.id, claims[0].id, sizeof mine.id);
    assert_int_equal(fixture_claim(&v.f, "w", 2, &mine, 1, &claims), 2);
    assert_true(claims[0].frames_ahead > 0);
    assert_int_equal(claims[1].frames_ahead, 0);
    assert_true(is_closed(ends[2]));
    close(claims[0].frames_ahead);
    struct mf_job job;
    assert_true(mf_store_cancel(v.f.store, MF_TENANT_DEFAULT, ids[3], &job, NULL));
    assert_true(is_closed(ends[3]));
    for (int i = 0; i <= MF_STORE_FRAMES_AHEAD; i++)
        close(ends[i]);
    end(&v);
}

static void a_client_outlives_the_store(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    char before[MF_JOB_ID], after[MF_JOB_ID];
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, before);
    struct waiting w;
    start_claim(&w, &v, "busy", -1);
    join_claim(&w);
    start_claim(&w, &v, "patient", -1); /* waits across the restart */
    poll(NULL, 0, 100);
    assert_int_equal(end_process(&v, SIGKILL), -SIGKILL);
    start_process(&v, 0);
    fixture_submit(&v.f, MF_PRIORITY_ROUTINE, after);
    join_claim(&w);
    assert_string_equal(w.id, after);
    assert_int_equal(fixture_job(&v.f, before).state, MF_JOB_RUNNING);
    end(&v);
}

static void without_a_store_a_call_fails_when_patience_ends(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    assert_int_equal(end_process(&v, SIGTERM), 0);
    struct mf_store *hasty = mf_store_connect(v.f.directory, 200, NULL);
    struct mf_store_counts counts;
    struct mf_error err = MF_ERROR_INIT;
    uint64_t begin = mf_clock_monotonic_ns();
    assert_false(mf_store_counts(hasty, &counts, &err));
    assert_error(&err, MF_ERR_IO, "the job store does not answer; try again later");
    assert_true(mf_clock_monotonic_ns() - begin < UINT64_C(5000000000));
    mf_store_free(hasty);
    close(v.listen_fd);
    fixture_end(&v.f);
}

static void a_disk_that_fails_acknowledges_nothing_that_is_not_there(void **state)
{
    (void)state;
    struct served v;
    if (fixture_on_postgres())
        skip();        /* the disk is the database's */
    serve(&v, 400000); /* the log soon reaches it */
    size_t accepted = 0;
    char ids[64][MF_JOB_ID];
    static char index[20000];
    memset(index, 'i', sizeof index);
    for (;;) {
        struct mf_submission sub = fixture_submission();
        struct mf_submitted made;
        sub.index = index;
        sub.index_len = sizeof index;
        if (!mf_store_submit(v.f.store, &sub, &made, NULL))
            break;
        assert_in_range(accepted, 0, 63);
        memcpy(ids[accepted++], made.id, MF_JOB_ID);
    }
    assert_true(accepted > 0);
    assert_int_equal(end_process(&v, 0), 3); /* it has stopped by itself */
    mf_store_free(v.f.store);
    fixture_open(&v.f);
    for (size_t i = 0; i < accepted; i++)
        assert_int_equal(fixture_job(&v.f, ids[i]).state, MF_JOB_QUEUED);
    close(v.listen_fd);
    fixture_end(&v.f);
}

/* Claims are answered before the commit: one that did not come to be is worth nothing. */
static void a_claim_that_was_not_written_is_lost(void **state)
{
    (void)state;
    struct served v;
    struct waiting w;
    static char index[200000]; /* longer than the log may become */
    memset(index, 'i', sizeof index);
    if (fixture_on_postgres())
        skip(); /* the disk is the database's */
    serve(&v, 150000);
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    sub.index = index;
    sub.index_len = sizeof index;
    start_claim(&w, &v, "w1", -1);
    poll(NULL, 0, 100);
    assert_false(mf_store_submit(v.f.store, &sub, &made, NULL));
    assert_int_equal(end_process(&v, 0), 3);
    start_process(&v, 0); /* the front asks again, as it does when the store was away */
    assert_true(mf_store_submit(v.f.store, &sub, &made, NULL));
    join_claim(&w);
    assert_int_equal(w.count, 1);
    assert_string_equal(w.id, sub.id);
    struct mf_job_ref ref = {.fence = w.fence};
    memcpy(ref.id, w.id, MF_JOB_ID);
    assert_int_equal(fixture_job(&v.f, sub.id).state, MF_JOB_QUEUED);
    assert_int_equal(fixture_succeed(&v.f, ref), MF_LEASE_LOST);
    assert_int_equal(fixture_job(&v.f, sub.id).state, MF_JOB_QUEUED);
    end(&v);
}

static void a_wait_brings_the_result(void **state)
{
    (void)state;
    struct served v;
    serve(&v, 0);
    char ids[3][MF_JOB_ID];
    bool over[3];
    struct mf_claim *claims;
    struct mf_ended_job ended = {.tenant = MF_TENANT_DEFAULT};
    mf_buffer_init(&ended.text, 1 << 20);
    for (int i = 0; i < 3; i++)
        fixture_submit(&v.f, MF_PRIORITY_ROUTINE, ids[i]);
    assert_int_equal(fixture_claim(&v.f, "w1", 2, NULL, 0, &claims), 2);
    assert_int_equal(fixture_succeed(&v.f, fixture_ref(&claims[0])), MF_LEASE_KEPT);
    const char(*all)[MF_JOB_ID] = (const char(*)[MF_JOB_ID])ids;
    assert_true(mf_store_wait_for_jobs(v.f.store, all, 3, 0, over, &ended, NULL));
    assert_true(over[0] && !over[1] && !over[2] && ended.known);
    assert_string_equal(ended.job.id, ids[0]);
    assert_int_equal(ended.job.state, MF_JOB_SUCCEEDED);
    assert_string_equal(ended.text.data, "{\"schema\":\"medfusion.result/1\"}");
    ended.tenant = "another";
    assert_true(mf_store_wait_for_jobs(v.f.store, all, 3, 0, over, &ended, NULL));
    assert_true(over[0] && !ended.known);
    ended.tenant = MF_TENANT_DEFAULT; /* of two none is brought */
    assert_int_equal(fixture_succeed(&v.f, fixture_ref(&claims[1])), MF_LEASE_KEPT);
    assert_true(mf_store_wait_for_jobs(v.f.store, all, 3, 0, over, &ended, NULL));
    assert_true(over[0] && over[1] && !over[2] && !ended.known);
    assert_true(mf_store_wait_for_jobs(v.f.store, all, 3, 0, over, NULL, NULL));
    assert_true(over[0] && over[1] && !over[2]);
    mf_buffer_free(&ended.text);
    end(&v);
}

static void finished_jobs_leave_when_their_time_is_over(void **state)
{
    (void)state;
    struct store_fixture f;
    fixture_start(&f);
    char done[MF_JOB_ID], queued[MF_JOB_ID];
    fixture_submit(&f, MF_PRIORITY_STAT, done);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, queued);
    struct mf_claim *c;
    fixture_claim(&f, "w", 1, NULL, 0, &c);
    fixture_succeed(&f, fixture_ref(c));
    struct mf_sql_store *s = (struct mf_sql_store *)f.store;
    int removed = 0;
    assert_true(mf_sql_expire_jobs(s, 10, &removed, NULL));
    assert_int_equal(removed, 0);
    s->settings.retention_s = -1;
    assert_true(mf_sql_expire_jobs(s, 10, &removed, NULL));
    assert_int_equal(removed, 1);
    struct mf_error err = MF_ERROR_INIT;
    struct mf_job job;
    assert_false(mf_store_job(f.store, MF_TENANT_DEFAULT, done, &job, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    assert_int_equal(fixture_job(&f, queued).state, MF_JOB_QUEUED);
    struct mf_store_counts counts;
    assert_true(mf_store_counts(f.store, &counts, NULL));
    assert_int_equal(counts.jobs[MF_JOB_SUCCEEDED], 0);
    assert_int_equal(counts.finished_total[MF_JOB_SUCCEEDED], 1);
    fixture_end(&f);
}

static bool file_holds(const struct store_fixture *f, const char *name, const char *needle)
{
    char path[128];
    MF_AUTO(mf_buffer) struct mf_buffer bytes;
    mf_buffer_init(&bytes, 64 << 20);
    snprintf(path, sizeof path, "%s/%s", f->directory, name);
    assert_true(mf_buffer_read_file(&bytes, path, NULL));
    return memmem(bytes.data ? bytes.data : "", bytes.len, needle, strlen(needle)) != NULL;
}

static void what_was_purged_is_in_no_file(void **state)
{
    (void)state;
    static const char secret[] = "CANARY-IN-THE-INDEX";
    struct store_fixture f;
    if (fixture_on_postgres())
        skip(); /* its VACUUM sees to that */
    fixture_start(&f);
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_job job;
    sub.index = secret;
    sub.index_len = sizeof secret - 1;
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    struct mf_sql_store *s = (struct mf_sql_store *)f.store;
    s->engine->idle(s);
    assert_true(file_holds(&f, "store.db", secret)); /* the test would see it */
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, made.id, &job, NULL));
    const char *const *locators = NULL;
    size_t n = 0;
    assert_true(mf_store_purge(f.store, MF_TENANT_DEFAULT, made.id, f.arena, &locators, &n, NULL));
    assert_int_equal(n, 1);
    s->engine->idle(s); /* the loop does so when it is idle */
    assert_false(file_holds(&f, "store.db", secret));
    assert_false(file_holds(&f, "store.db-wal", secret));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_claims_are_served_in_their_order),
        cmocka_unit_test(a_wait_ends_by_time_or_by_interrupt),
        cmocka_unit_test(a_worker_that_is_gone_gets_nothing),
        cmocka_unit_test(what_is_no_frame_closes_the_connection_only),
        cmocka_unit_test(frames_ahead_go_to_the_claim_of_their_job),
        cmocka_unit_test(a_client_outlives_the_store),
        cmocka_unit_test(without_a_store_a_call_fails_when_patience_ends),
        cmocka_unit_test(a_disk_that_fails_acknowledges_nothing_that_is_not_there),
        cmocka_unit_test(a_claim_that_was_not_written_is_lost),
        cmocka_unit_test(a_wait_brings_the_result),
        cmocka_unit_test(finished_jobs_leave_when_their_time_is_over),
        cmocka_unit_test(what_was_purged_is_in_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
