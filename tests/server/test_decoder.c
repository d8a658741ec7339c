/*
 * A decoder that misbehaves in any way costs one clear error and nothing else. The misbehaviour is
 * test verbs: they exist in this program only, whose zygote is itself.
 */
#include "tests/server/decoder_fixture.h"

#include "server/decoder_process.h"
#include "server/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* --- the verbs --- */

static bool say(struct mf_decoder_reply *reply, const char *text, struct mf_error *err)
{
    return mf_buffer_append_str(&reply->payload, text, err);
}

static bool verb_echo(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    return say(reply, "still here", err);
}

static bool verb_execve(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                        struct mf_error *err)
{
    (void)r;
    char name[] = "/bin/true";
    char *const argv[] = {name, NULL};
    execv(name, argv);
    return say(reply, "execve came back", err);
}

static bool verb_socket(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                        struct mf_error *err)
{
    (void)r;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return say(reply, fd >= 0 ? "a socket" : "no socket", err);
}

static bool verb_fork(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return say(reply, pid > 0 ? "a child" : "no child", err);
}

static bool verb_kill(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    return say(reply, kill(getppid(), 0) == 0 ? "may kill" : "may not kill", err);
}

static bool verb_open(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    int fd = open("/etc/passwd", O_RDONLY);
    return say(reply, fd >= 0 ? "opened" : errno == EACCES ? "EACCES" : "another error", err);
}

static bool verb_executable_memory(const struct mf_decoder_request *r,
                                   struct mf_decoder_reply *reply, struct mf_error *err)
{
    (void)r;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return say(reply, p != MAP_FAILED ? "executable" : "refused", err);
}

static bool verb_segv(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    (void)reply;
    (void)err;
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
    return true;
}

static bool verb_loop(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    (void)reply;
    (void)err;
    volatile unsigned turns = 0;
    while (turns < 2) /* never more than 1 */
        turns ^= 1;
    return true;
}

static bool verb_hang(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    (void)reply;
    (void)err;
    return poll(NULL, 0, -1) == 0;
}

static bool verb_oom(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                     struct mf_error *err)
{
    (void)r;
    (void)reply;
    for (;;) {
        char *p = malloc(1 << 20);
        if (!p)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        memset(p, 1, 1 << 20);
    }
}

/* Takes a while, so that somebody can kill it meanwhile. */
static bool verb_slow(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                      struct mf_error *err)
{
    (void)r;
    poll(NULL, 0, 300);
    return say(reply, "done slowly", err);
}

static bool verb_garbage(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                         struct mf_error *err)
{
    (void)r;
    (void)reply;
    (void)err;
    const char text[] = "this is not an answer of the protocol";
    ssize_t n = write(3, text, sizeof text); /* 3: the connection */
    (void)n;
    poll(NULL, 0, 2000);
    return true;
}

enum {
    ECHO = MF_VERB_EXTRA,
    EXECVE,
    SOCKET,
    FORK,
    KILL,
    OPEN,
    EXECUTABLE_MEMORY,
    SEGV,
    LOOP,
    HANG,
    OOM,
    SLOW,
    GARBAGE
};

static const mf_decoder_verb VERBS[] = {
    verb_echo, verb_execve, verb_socket, verb_fork, verb_kill, verb_open,   verb_executable_memory,
    verb_segv, verb_loop,   verb_hang,   verb_oom,  verb_slow, verb_garbage};

/* --- helpers --- */

static bool call(struct fixture *f, uint32_t verb, char *text, size_t size, struct mf_error *err)
{
    const struct mf_decoder_call c = {.verb = verb};
    MF_AUTO(mf_message) struct mf_message answer;
    bool ok = mf_decoder_do(f->decoder, &c, &answer, err);
    if (ok)
        snprintf(text, size, "%s", answer.payload.data);
    return ok;
}

/* The verb fails with this code, and the next request is served as if nothing had happened. */
static void assert_contained(struct fixture *f, uint32_t verb, enum mf_code code, const char *start)
{
    struct mf_error err = MF_ERROR_INIT;
    char text[64] = "";
    bool ok = call(f, verb, text, sizeof text, &err);
    if (ok)
        fail_msg("the decoder answered \"%s\"", text);
    assert_int_equal(err.code, code);
    if (strncmp(err.msg, start, strlen(start)) != 0)
        fail_msg("message is \"%s\"", err.msg);
    mf_error_clear(&err);
    assert_true(call(f, ECHO, text, sizeof text, &err));
    assert_string_equal(text, "still here");
}

static void skip_under_sanitizers(void)
{
    if (!mf_sandbox_is_strict())
        skip();
}

/* --- containment --- */

static void starting_a_program_kills_the_decoder(void **state)
{
    skip_under_sanitizers();
    assert_contained(*state, EXECVE, MF_ERR_CRASHED,
                     "decoding crashed: signal 31 (Bad system call)");
}

static void making_a_socket_kills_the_decoder(void **state)
{
    skip_under_sanitizers();
    assert_contained(*state, SOCKET, MF_ERR_CRASHED,
                     "decoding crashed: signal 31 (Bad system call)");
}

static void forking_kills_the_decoder(void **state)
{
    skip_under_sanitizers();
    assert_contained(*state, FORK, MF_ERR_CRASHED, "decoding crashed: signal 31 (Bad system call)");
}

static void signalling_another_process_kills_the_decoder(void **state)
{
    skip_under_sanitizers();
    assert_contained(*state, KILL, MF_ERR_CRASHED, "decoding crashed: signal 31 (Bad system call)");
}

static void executable_memory_kills_the_decoder(void **state)
{
    skip_under_sanitizers();
    assert_contained(*state, EXECUTABLE_MEMORY, MF_ERR_CRASHED,
                     "decoding crashed: signal 31 (Bad system call)");
}

static void opening_a_file_fails_politely(void **state)
{
    skip_under_sanitizers();
    struct mf_error err = MF_ERROR_INIT;
    char text[64] = "";
    assert_true(call(*state, OPEN, text, sizeof text, &err));
    assert_string_equal(text, "EACCES");
}

static void a_crash_is_one_error(void **state)
{
    skip_under_sanitizers(); /* the sanitizer turns it into an exit of its own */
    assert_contained(*state, SEGV, MF_ERR_CRASHED,
                     "decoding crashed: signal 11 (Segmentation fault)");
}

static void an_endless_loop_ends_at_the_cpu_limit(void **state)
{
    assert_contained(*state, LOOP, MF_ERR_TIMEOUT, "decoding took more than 1 seconds of CPU time");
}

static void a_hang_ends_at_the_deadline(void **state)
{
    struct fixture f = *(struct fixture *)*state;
    struct mf_error err = MF_ERROR_INIT;
    char text[64];
    const struct mf_decoder_limits limits = {.wall_seconds = 2};
    f.decoder = mf_decoder_new(mf_zygote_address(f.zygote), 1, &limits, &err);
    assert_non_null(f.decoder);
    assert_false(call(&f, HANG, text, sizeof text, &err));
    assert_int_equal(err.code, MF_ERR_TIMEOUT);
    assert_string_equal(err.msg, "decoding took more than 2 seconds");
    mf_decoder_free(f.decoder);
}

static void too_much_memory_is_too_large(void **state)
{
    skip_under_sanitizers();
    assert_contained(*state, OOM, MF_ERR_TOO_LARGE, "decoding takes more than the allowed 256 MiB");
}

static void an_answer_that_is_no_message_is_refused(void **state)
{
    assert_contained(*state, GARBAGE, MF_ERR_CRASHED, "the decoder's answer makes no sense");
}

static void an_unknown_verb_is_refused(void **state)
{
    assert_contained(*state, 99, MF_ERR_INTERNAL, "decoder: unknown verb 99");
}

/* --- kills from outside --- */

static pid_t parent_of(pid_t pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY);
    int parent = 0;
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return 0;
    const char *end = strrchr(text, ')');
    return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* The decoders of the zygote; returns how many. */
enum { MANY = 64 };
static size_t list_decoders(const struct fixture *f, pid_t ret[MANY])
{
    size_t n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid > 0 && n < MANY && parent_of(pid) == mf_zygote_pid(f->zygote))
            ret[n++] = pid;
    }
    closedir(proc);
    return n;
}

/* Kills every decoder of the zygote; returns how many. */
static int kill_decoders(const struct fixture *f)
{
    pid_t pids[MANY];
    int killed = 0;
    for (size_t i = list_decoders(f, pids); i-- > 0;)
        killed += kill(pids[i], SIGKILL) == 0;
    return killed;
}

struct slow_call {
    struct fixture *f;
    bool ok;
    struct mf_error err;
    char text[64];
};

static void *run_slow(void *arg)
{
    struct slow_call *c = arg;
    c->ok = call(c->f, SLOW, c->text, sizeof c->text, &c->err);
    return NULL;
}

static void a_decoder_killed_from_outside_is_replaced_unseen(void **state)
{
    struct slow_call c = {.f = *state, .err = MF_ERROR_INIT};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_slow, &c), 0);
    poll(NULL, 0, 100);
    assert_true(kill_decoders(*state) >= 1);
    pthread_join(thread, NULL);
    assert_true(c.ok);
    assert_string_equal(c.text, "done slowly");
}

static void a_killed_zygote_is_replaced_under_the_same_address(void **state)
{
    struct fixture *f = *state;
    struct slow_call c = {.f = f, .err = MF_ERROR_INIT};
    struct mf_error err = MF_ERROR_INIT;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_slow, &c), 0);
    poll(NULL, 0, 100);
    pid_t pid = mf_zygote_pid(f->zygote);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(mf_zygote_restart(f->zygote, &err));
    pthread_join(thread, NULL);
    assert_true(c.ok);
    assert_string_equal(c.text, "done slowly");
}

static void four_threads_are_served_at_once(void **state)
{
    struct slow_call calls[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        calls[i] = (struct slow_call){.f = *state, .err = MF_ERROR_INIT};
        assert_int_equal(pthread_create(&threads[i], NULL, run_slow, &calls[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(calls[i].ok);
    }
}

/* --- one sender --- */

static void describe(struct mf_decoder *decoder, const char *sender, int times)
{
    MF_AUTO(mf_fd) int fd = memfd_create("object", MFD_CLOEXEC);
    assert_int_equal(write(fd, "no DICOM", 8), 8);
    const struct mf_part part = {MF_PART_DICOM, fd, 0, 8};
    const struct mf_decoder_call c = {
        .verb = MF_VERB_DESCRIBE, .sender = sender, .parts = &part, .part_count = 1};
    for (int i = 0; i < times; i++) {
        MF_AUTO(mf_message) struct mf_message answer;
        struct mf_error err = MF_ERROR_INIT;
        if (!mf_decoder_do(decoder, &c, &answer, &err))
            fail_msg("%s", err.msg);
        assert_non_null(strstr(answer.payload.data, "malformed"));
    }
}

/* How many of the zygote's decoders are not among `known`. */
static size_t new_decoders(const struct fixture *f, const pid_t known[MANY], size_t n)
{
    pid_t now[MANY];
    size_t fresh = list_decoders(f, now), count = fresh;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < n; k++)
            if (now[i] == known[k]) {
                fresh--;
                break;
            }
    return fresh;
}

static void the_objects_of_one_sender_share_a_decoder(void **state)
{
    struct fixture f = *(struct fixture *)*state;
    struct mf_error err = MF_ERROR_INIT;
    pid_t known[MANY];
    f.decoder = mf_decoder_new(mf_zygote_address(f.zygote), 1, NULL, &err);
    assert_non_null(f.decoder);
    describe(f.decoder, "A", 1);
    size_t n = list_decoders(&f, known);
    describe(f.decoder, "A", MF_DECODER_DESCRIBES - 2);
    assert_int_equal(new_decoders(&f, known, n), 0);
    describe(f.decoder, "A", 2); /* its last, and the first of another one */
    assert_true(new_decoders(&f, known, n) >= 1);
    assert_true(kill_decoders(&f) >= 1);
    describe(f.decoder, "A", 1);
    mf_decoder_free(f.decoder);
}

static void the_objects_of_another_sender_meet_another_decoder(void **state)
{
    struct fixture f = *(struct fixture *)*state;
    static const char *const senders[] = {"A", "B", NULL, "C", "D", "E"}; /* more than are kept */
    struct mf_error err = MF_ERROR_INIT;
    pid_t known[MANY];
    f.decoder = mf_decoder_new(mf_zygote_address(f.zygote), 1, NULL, &err);
    assert_non_null(f.decoder);
    for (size_t i = 0; i < sizeof senders / sizeof *senders; i++) {
        size_t n = list_decoders(&f, known);
        describe(f.decoder, senders[i], 1);
        assert_true(new_decoders(&f, known, n) >= 1 || !senders[i]);
    }
    size_t n = list_decoders(&f, known);
    describe(f.decoder, "E", 3); /* its own still waits */
    assert_int_equal(new_decoders(&f, known, n), 0);
    mf_decoder_free(f.decoder);
}

static void an_address_where_nobody_listens_is_unavailable(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct fixture f = {.decoder = mf_decoder_new("@medfusion-test-nobody", 1, NULL, &err)};
    char text[8];
    assert_non_null(f.decoder);
    assert_false(call(&f, ECHO, text, sizeof text, &err));
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    mf_decoder_free(f.decoder);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], MF_ZYGOTE_ROLE) == 0)
        return mf_zygote_main(VERBS, sizeof VERBS / sizeof *VERBS);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starting_a_program_kills_the_decoder),
        cmocka_unit_test(making_a_socket_kills_the_decoder),
        cmocka_unit_test(forking_kills_the_decoder),
        cmocka_unit_test(signalling_another_process_kills_the_decoder),
        cmocka_unit_test(executable_memory_kills_the_decoder),
        cmocka_unit_test(opening_a_file_fails_politely),
        cmocka_unit_test(a_crash_is_one_error),
        cmocka_unit_test(an_endless_loop_ends_at_the_cpu_limit),
        cmocka_unit_test(a_hang_ends_at_the_deadline),
        cmocka_unit_test(too_much_memory_is_too_large),
        cmocka_unit_test(an_answer_that_is_no_message_is_refused),
        cmocka_unit_test(an_unknown_verb_is_refused),
        cmocka_unit_test(a_decoder_killed_from_outside_is_replaced_unseen),
        cmocka_unit_test(a_killed_zygote_is_replaced_under_the_same_address),
        cmocka_unit_test(four_threads_are_served_at_once),
        cmocka_unit_test(the_objects_of_one_sender_share_a_decoder),
        cmocka_unit_test(the_objects_of_another_sender_meet_another_decoder),
        cmocka_unit_test(an_address_where_nobody_listens_is_unavailable),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
