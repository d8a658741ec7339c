/* Processes and the messages between them: descriptors pass, caps hold, a dead end is noticed. */
#include "server/process.h"

#include "core/clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

static void make_pair(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static uint64_t in_ms(unsigned ms)
{
    return mf_clock_monotonic_ns() + ms * 1000000ULL;
}

static void a_message_arrives_with_its_descriptors(void **state)
{
    (void)state;
    int ends[2], files[2];
    make_pair(ends);
    for (int i = 0; i < 2; i++) {
        files[i] = memfd_create("test", MFD_CLOEXEC);
        assert_int_equal(write(files[i], i ? "second" : "first", 6), 6);
    }
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_message_send(ends[0], 7, "hello", 5, files, 2, in_ms(1000), &err));
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, 100);
    assert_true(mf_message_receive(ends[1], &m, in_ms(1000), &err));
    assert_int_equal(m.kind, 7);
    assert_string_equal(m.payload.data, "hello");
    assert_int_equal(m.fd_count, 2);
    char text[7] = "";
    assert_int_equal(pread(m.fds[1], text, 6, 0), 6);
    assert_string_equal(text, "second");
    assert_int_equal(fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        close(files[i]);
        close(ends[i]);
    }
}

static int send_large(void *context)
{
    const int *ends = context;
    MF_AUTO(mf_mem) char *data = malloc(8 << 20);
    memset(data, 'x', 8 << 20);
    return mf_message_send(ends[0], 1, data, 8 << 20, NULL, 0, in_ms(10000), NULL) ? 0 : 1;
}

static void a_message_larger_than_the_socket_buffer_arrives(void **state)
{
    (void)state;
    int ends[2], status;
    struct mf_error err = MF_ERROR_INIT;
    make_pair(ends);
    pid_t pid = mf_process_fork("sender", send_large, ends, &err);
    assert_true(pid > 0);
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, 8 << 20);
    assert_true(mf_message_receive(ends[1], &m, in_ms(10000), &err));
    assert_int_equal(m.payload.len, 8 << 20);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ends[0]);
    close(ends[1]);
}

static void a_payload_over_the_cap_is_refused_before_it_is_read(void **state)
{
    (void)state;
    int ends[2];
    struct mf_error err = MF_ERROR_INIT;
    make_pair(ends);
    assert_true(mf_message_send(ends[0], 1, "0123456789", 10, NULL, 0, 0, &err));
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, 9);
    assert_false(mf_message_receive(ends[1], &m, in_ms(1000), &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_string_equal(err.msg, "a message of 10 bytes, at most 9 allowed");
    close(ends[0]);
    close(ends[1]);
}

static void bytes_that_are_no_message_are_malformed(void **state)
{
    (void)state;
    int ends[2];
    struct mf_error err = MF_ERROR_INIT;
    make_pair(ends);
    assert_int_equal(write(ends[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), 27);
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, 100);
    assert_false(mf_message_receive(ends[1], &m, in_ms(1000), &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    close(ends[0]);
    close(ends[1]);
}

static void a_closed_connection_is_an_io_error(void **state)
{
    (void)state;
    int ends[2];
    struct mf_error receive = MF_ERROR_INIT, send = MF_ERROR_INIT;
    make_pair(ends);
    close(ends[0]);
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, 100);
    assert_false(mf_message_receive(ends[1], &m, 0, &receive));
    assert_int_equal(receive.code, MF_ERR_IO);
    assert_false(mf_message_send(ends[1], 1, "x", 1, NULL, 0, 0, &send));
    assert_int_equal(send.code, MF_ERR_IO);
    close(ends[1]);
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    int ends[2];
    struct mf_error err = MF_ERROR_INIT;
    make_pair(ends);
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, 100);
    uint64_t before = mf_clock_monotonic_ns();
    assert_false(mf_message_receive(ends[1], &m, in_ms(50), &err));
    assert_int_equal(err.code, MF_ERR_TIMEOUT);
    assert_true(mf_clock_monotonic_ns() - before >= 50 * 1000000ULL);
    close(ends[0]);
    close(ends[1]);
}

static int exit_with_three(void *context)
{
    (void)context;
    return 3;
}

static int end_by_signal(void *context)
{
    (void)context;
    return raise(SIGSEGV);
}

static void the_end_of_a_process_is_told_in_words(void **state)
{
    (void)state;
    int status;
    char text[MF_PROCESS_END_TEXT];
    pid_t pid = mf_process_fork("three", exit_with_three, NULL, NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(mf_process_end_text(status, text), "exit status 3");
    pid = mf_process_fork("segv", end_by_signal, NULL, NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(mf_process_end_text(status, text), "signal 11 (Segmentation fault)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_arrives_with_its_descriptors),
        cmocka_unit_test(a_message_larger_than_the_socket_buffer_arrives),
        cmocka_unit_test(a_payload_over_the_cap_is_refused_before_it_is_read),
        cmocka_unit_test(bytes_that_are_no_message_are_malformed),
        cmocka_unit_test(a_closed_connection_is_an_io_error),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(the_end_of_a_process_is_told_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
