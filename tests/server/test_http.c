/*
 * server/http.c with real sockets: framing that must be refused, suspended requests, the store
 * behind its socket.
 */
#include "loopback.h"

#include "server/front.h"
#include "server/http.h"

#include "core/clock.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

struct live {
    struct loopback l;
    struct mf_store_server server;
    pthread_t store_thread;
    struct mf_pool *pool, *slow;
    struct mf_waiter *waiter;
    struct mf_http *http;
    struct mf_store *worker; /* a client of the store, as a worker has one */
    int listen_fd, port;
};

static void *run_store(void *argument)
{
    struct live *v = argument;
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_store_server_run(&v->server, &err));
    return NULL;
}

static void start_store(struct live *v)
{
    struct mf_error err = MF_ERROR_INIT;
    v->server = (struct mf_store_server){.directory = v->l.f.directory,
                                         .settings = v->l.f.settings,
                                         .listen_fd = mf_store_listen(v->l.f.directory, &err),
                                         .stop_fd = eventfd(0, 0),
                                         .ready_fd = -1};
    assert_true(v->server.listen_fd >= 0);
    assert_int_equal(pthread_create(&v->store_thread, NULL, run_store, v), 0);
}

static void stop_store(struct live *v)
{
    uint64_t one = 1;
    assert_int_equal(write(v->server.stop_fd, &one, sizeof one), sizeof one);
    pthread_join(v->store_thread, NULL);
    close(v->server.stop_fd);
    close(v->server.listen_fd);
}

static void live_start(struct live *v)
{
    struct mf_error err = MF_ERROR_INIT;
    char url[64];
    memset(v, 0, sizeof *v);
    loopback_start(&v->l);
    mf_store_free(v->l.f.store); /* the server process owns the database */
    v->l.f.store = NULL;
    v->l.config->http.header_timeout_s = 1;
    v->l.config->http.max_body_bytes = 1 << 20;
    start_store(v);
    v->pool = mf_pool_new(2, v->l.f.directory, 3000, &err);
    v->slow = mf_pool_new(4, v->l.f.directory, 3000, &err);
    v->waiter = mf_waiter_new(v->l.f.directory, 3000, 100, &err);
    v->worker = mf_store_connect(v->l.f.directory, 3000, &err);
    v->listen_fd = mf_listen("http.listen", "http", "127.0.0.1:0", url, sizeof url, &err);
    v->port = atoi(strrchr(url, ':') + 1);
    const struct mf_http_options options = {.listen_fd = v->listen_fd,
                                            .services = &v->l.services,
                                            .pool = v->pool,
                                            .slow = v->slow,
                                            .waiter = v->waiter};
    v->http = mf_http_start(&options, &err);
    assert_no_error(&err);
}

static void live_end(struct live *v)
{
    mf_waiter_stop(v->waiter);
    mf_http_drain(v->http, 2000);
    mf_waiter_free(v->waiter);
    mf_pool_free(v->slow);
    mf_pool_free(v->pool);
    mf_http_stop(v->http);
    mf_store_free(v->worker);
    stop_store(v);
    loopback_end(&v->l);
}

static int dial(const struct live *v)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)v->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const void *data, size_t len)
{
    assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

/* Reads one response (its head and body); returns the status, 0 when the connection was closed
 * instead. */
static int hear(int fd, char *out, size_t size)
{
    size_t n = 0;
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, 5000) != 1)
            return -1;
        ssize_t got = recv(fd, out + n, size - 1 - n, 0);
        if (got <= 0)
            return n ? atoi(out + 9) : 0;
        n += (size_t)got;
        out[n] = '\0';
        const char *end = strstr(out, "\r\n\r\n"), *length = strcasestr(out, "content-length: ");
        if (end && n >= (size_t)(end + 4 - out) + (length ? (size_t)atoi(length + 16) : 0))
            return atoi(out + 9);
    }
}

static int ask(const struct live *v, const char *request, size_t len, char *out, size_t size)
{
    int fd = dial(v);
    say(fd, request, len);
    int status = hear(fd, out, size);
    close(fd);
    return status;
}

#define ASK(v, request, out) ask((v), request, sizeof request - 1, out, sizeof out)

#define HOST "Host: a\r\n"

static const struct {
    const char *name, *request;
    size_t len;
    int status;
} FRAMING[] = {
#define CASE(name, status, text)                                                                   \
    {                                                                                              \
        name, text, sizeof text - 1, status                                                        \
    }
    CASE("plain", 200, "GET /v2/health/live HTTP/1.1\r\n" HOST "\r\n"),
    CASE("no Host", 400, "GET /v2/health/live HTTP/1.1\r\n\r\n"),
    CASE("two Hosts", 400, "GET /v2/health/live HTTP/1.1\r\n" HOST HOST "\r\n"),
    CASE("two equal lengths", 400,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    CASE("two differing lengths", 400,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
    CASE("length and transfer encoding", 400,
         "POST /v1/jobs HTTP/1.1\r\n" HOST
         "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    CASE("two transfer encodings", 400,
         "POST /v1/jobs HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    CASE("gzip transfer encoding", 400,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    CASE("length that is no number", 400,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Length: 5x\r\n\r\n"),
    CASE("negative length", 400, "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n"),
    CASE("NUL escape in the path", 400, "GET /v2/health/live%00 HTTP/1.1\r\n" HOST "\r\n"),
    CASE("NUL escape in the query", 400, "GET /v1/jobs?state=%00 HTTP/1.1\r\n" HOST "\r\n"),
    CASE("half an escape", 400, "GET /v2/health/live%2 HTTP/1.1\r\n" HOST "\r\n"),
    CASE("control character escape", 400, "GET /v2%0a HTTP/1.1\r\n" HOST "\r\n"),
    CASE("dot segments", 400, "GET /v1/../v2 HTTP/1.1\r\n" HOST "\r\n"),
    CASE("no leading slash", 400, "GET v2 HTTP/1.1\r\n" HOST "\r\n"),
    CASE("unknown method", 405, "BREW /v1/jobs HTTP/1.1\r\n" HOST "\r\n"),
    CASE("body nobody asked for", 200,
         "GET /v2/health/live HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"),
    CASE("encoded body", 415,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Type: application/zip\r\n"
         "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nPK"),
    CASE("announced too large", 413,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Type: application/zip\r\n"
         "Content-Length: 99999999\r\n\r\n"),
    CASE("too large for those who expect to continue", 413,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Type: application/zip\r\n"
         "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"),
    CASE("chunked", 202,
         "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Type: application/zip\r\n"
         "Transfer-Encoding: chunked\r\n\r\n2\r\nPK\r\n0\r\n\r\n"),
#undef CASE
};

static void framing_is_judged(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    for (size_t i = 0; i < sizeof FRAMING / sizeof FRAMING[0]; i++) {
        char out[8192] = "";
        int status = ask(&v, FRAMING[i].request, FRAMING[i].len, out, sizeof out);
        if (status != FRAMING[i].status)
            fail_msg("%s: %d instead of %d: %s", FRAMING[i].name, status, FRAMING[i].status, out);
    }
    live_end(&v);
}

static void large_header_fields_are_431(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    char request[70000], out[8192] = "";
    static const size_t sizes[] = {17000,
                                   69000}; /* over our limit, and over the library's buffer */
    for (size_t i = 0; i < 2; i++) {
        int n = snprintf(request, sizeof request, "GET /v2 HTTP/1.1\r\n" HOST "X: %0*d\r\n\r\n",
                         (int)sizes[i], 0);
        int fd = dial(&v);
        (void)!send(fd, request, (size_t)n, MSG_NOSIGNAL);
        assert_int_equal(hear(fd, out, sizeof out), 431);
        close(fd);
    }
    live_end(&v);
}

static void responses_are_not_stored_nor_sniffed(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    char out[8192];
    assert_int_equal(ASK(&v, "GET /v2 HTTP/1.1\r\n" HOST "\r\n", out), 200);
    assert_non_null(strcasestr(out, "cache-control: no-store\r\n"));
    assert_non_null(strcasestr(out, "x-content-type-options: nosniff\r\n"));
    assert_int_equal(ASK(&v, "GET /v1/jobs/x HTTP/1.1\r\n" HOST "\r\n", out), 404);
    assert_non_null(strcasestr(out, "content-type: application/problem+json\r\n"));
    live_end(&v);
}

static void a_refused_body_is_read_and_the_connection_goes_on(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    char out[8192], body[100000];
    int fd = dial(&v);
    memset(body, 'x', sizeof body);
    static const char head[] = "POST /v1/jobs HTTP/1.1\r\n" HOST
                               "Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
    say(fd, head, sizeof head - 1);
    say(fd, body, sizeof body);
    assert_int_equal(hear(fd, out, sizeof out), 415);
    static const char next[] = "GET /v2/health/live HTTP/1.1\r\n" HOST "\r\n";
    say(fd, next, sizeof next - 1);
    assert_int_equal(hear(fd, out, sizeof out), 200);
    close(fd);
    live_end(&v);
}

static const char WAITING[] = "POST /v1/jobs HTTP/1.1\r\n" HOST "Content-Type: application/zip\r\n"
                              "Prefer: wait=10\r\nContent-Length: 2\r\n\r\nPK";

static void finish_one(struct live *v)
{
    struct mf_claim *c = NULL;
    size_t n = 0;
    struct mf_claim_request request = {.worker = "w", .max = 1, .wait_ms = 5000};
    assert_true(mf_store_claim(v->worker, &request, v->l.f.arena, &c, &n, NULL));
    assert_int_equal(n, 1);
    struct mf_outcome outcome = {
        .job = fixture_ref(c), .state = MF_JOB_SUCCEEDED, .result = "{\"n\":1}", .result_len = 7};
    assert_true(mf_store_finish(v->worker, &outcome, 1, NULL));
    assert_int_equal(outcome.lease, MF_LEASE_KEPT);
}

static void waiting_requests_hold_no_thread_and_get_their_results(void **state)
{
    (void)state;
    enum { CLIENTS = 20 }; /* five times the pool */
    struct live v;
    live_start(&v);
    int fds[CLIENTS];
    char out[8192];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = dial(&v);
        say(fds[i], WAITING, sizeof WAITING - 1);
    }
    assert_int_equal(ASK(&v, "GET /metrics HTTP/1.1\r\n" HOST "\r\n", out), 200);
    for (int i = 0; i < CLIENTS; i++)
        finish_one(&v);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(hear(fds[i], out, sizeof out), 200);
        assert_non_null(strstr(out, "{\"n\":1}"));
        close(fds[i]);
    }
    live_end(&v);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static bool slow_scan(void *context, const struct mf_scan *scan, struct mf_scanned *ret,
                      struct mf_error *err)
{
    (void)context;
    (void)scan;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return mf_buffer_append_str(&ret->index, "{}", err);
}

static void slow_uploads_do_not_keep_others_waiting(void **state)
{
    (void)state;
    enum { UPLOADS = 10 }; /* more than there are threads for them */
    struct live v;
    live_start(&v);
    v.l.services.scanner.scan = slow_scan;
    static const char post[] = "POST /v1/jobs HTTP/1.1\r\n" HOST
                               "Content-Type: application/zip\r\nContent-Length: 2\r\n\r\nPK";
    int fds[UPLOADS];
    char out[8192];
    pthread_mutex_lock(&gate);
    for (int i = 0; i < UPLOADS; i++) {
        fds[i] = dial(&v);
        say(fds[i], post, sizeof post - 1);
    }
    poll(NULL, 0, 200);
    assert_int_equal(ASK(&v, "GET /v1/jobs HTTP/1.1\r\n" HOST "\r\n", out), 200);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < UPLOADS; i++) {
        assert_int_equal(hear(fds[i], out, sizeof out), 202);
        close(fds[i]);
    }
    live_end(&v);
}

static void a_stop_answers_those_who_wait(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    char out[8192];
    int fd = dial(&v);
    say(fd, WAITING, sizeof WAITING - 1);
    poll(NULL, 0, 200);
    mf_waiter_stop(v.waiter);
    assert_int_equal(hear(fd, out, sizeof out), 202);
    close(fd);
    live_end(&v);
}

static void slow_headers_do_not_outlive_their_deadline(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    int fd = dial(&v);
    char out[1024];
    uint64_t start = mf_clock_monotonic_ns();
    say(fd, "GET / HTTP/1.1\r\n", 16);
    bool closed = false;
    for (int i = 0; i < 20 && !closed; i++) { /* a byte now and then keeps an idle time-out away */
        poll(NULL, 0, 250);
        closed =
            send(fd, "X", 1, MSG_NOSIGNAL) != 1 || recv(fd, out, sizeof out, MSG_DONTWAIT) == 0;
    }
    assert_true(closed);
    assert_true(mf_clock_monotonic_ns() - start < UINT64_C(4000000000));
    close(fd);
    live_end(&v);
}

static void an_upload_keeps_up_the_least_rate_or_is_cut_off(void **state)
{
    (void)state;
    static const char head[] = "POST /v1/jobs HTTP/1.1\r\n" HOST
                               "Content-Type: application/zip\r\nContent-Length: 4000\r\n\r\n";
    static char body[4000];
    struct live v;
    live_start(&v); /* header_timeout_s is 1: so long a sender may be slow */
    v.l.config->http.min_body_rate = 1000;
    char out[8192];
    int slow = dial(&v), steady = dial(&v);
    uint64_t start = mf_clock_monotonic_ns();
    say(slow, head, sizeof head - 1);
    say(steady, head, sizeof head - 1);
    say(steady, body, 3000); /* earns three seconds more */
    bool closed = false;
    while (!closed && mf_clock_monotonic_ns() - start < UINT64_C(3000000000)) {
        poll(NULL, 0, 100);
        closed =
            send(slow, "X", 1, MSG_NOSIGNAL) != 1 || recv(slow, out, sizeof out, MSG_DONTWAIT) == 0;
    }
    assert_true(closed);
    assert_true(mf_clock_monotonic_ns() - start > UINT64_C(900000000));
    say(steady, body, 1000);
    assert_int_equal(hear(steady, out, sizeof out), 202);
    close(slow);
    close(steady);
    finish_one(&v);
    live_end(&v);
}

static void the_store_may_restart_between_requests(void **state)
{
    (void)state;
    struct live v;
    live_start(&v);
    char out[8192];
    static const char post[] = "POST /v1/jobs HTTP/1.1\r\n" HOST
                               "Content-Type: application/zip\r\nContent-Length: 2\r\n\r\nPK";
    assert_int_equal(ASK(&v, post, out), 202);
    stop_store(&v);
    start_store(&v);
    assert_int_equal(ASK(&v, post, out), 202);
    finish_one(&v);
    finish_one(&v);
    live_end(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framing_is_judged),
        cmocka_unit_test(large_header_fields_are_431),
        cmocka_unit_test(responses_are_not_stored_nor_sniffed),
        cmocka_unit_test(a_refused_body_is_read_and_the_connection_goes_on),
        cmocka_unit_test(waiting_requests_hold_no_thread_and_get_their_results),
        cmocka_unit_test(slow_uploads_do_not_keep_others_waiting),
        cmocka_unit_test(a_stop_answers_those_who_wait),
        cmocka_unit_test(slow_headers_do_not_outlive_their_deadline),
        cmocka_unit_test(an_upload_keeps_up_the_least_rate_or_is_cut_off),
        cmocka_unit_test(the_store_may_restart_between_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
