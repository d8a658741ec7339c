/*
 * The decoders: what they decode, and that a decoder which misbehaves in any way costs one clear
 * error and nothing else. The misbehaviour is test verbs: they exist in this program only, whose
 * zygote is itself.
 */
#include "server/decoder.h"

#include "core/json.h"
#include "server/decoder_process.h"
#include "server/sandbox.h"
#include "server/upload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

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

struct fixture {
    struct mf_zygote *zygote;
    struct mf_decoder *decoder;
};

static int set_up(void **state)
{
    static struct fixture f;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_decoder_limits limits = {
        .memory = 256 << 20, .cpu_seconds = 1, .wall_seconds = 120};
    f.zygote = mf_zygote_start(&err);
    f.decoder = f.zygote ? mf_decoder_new(mf_zygote_address(f.zygote), 4, &limits, &err) : NULL;
    if (!f.decoder)
        print_error("%s\n", err.msg);
    *state = &f;
    return f.decoder ? 0 : 1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mf_decoder_free(f->decoder);
    mf_zygote_stop(f->zygote);
    return 0;
}

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

/* Kills every decoder of the zygote; returns how many. */
static int kill_decoders(const struct fixture *f)
{
    int killed = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid > 0 && parent_of(pid) == mf_zygote_pid(f->zygote))
            killed += kill(pid, SIGKILL) == 0;
    }
    closedir(proc);
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

/* --- the two verbs --- */

static struct mf_part part_of(const char *path, enum mf_part_kind kind)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    return (struct mf_part){kind, fd, 0, (uint64_t)st.st_size};
}

#define SAMPLE MF_SOURCE_DIR "/tests/data/sample/"

static void a_study_is_scanned_and_its_frames_decoded(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part parts[] = {part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM),
                              part_of(SAMPLE "ehr.json", MF_PART_EHR),
                              part_of(SAMPLE "dicom/2016-07-08.dcm", MF_PART_DICOM)};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    if (!mf_decoder_scan(f->decoder, parts, 3, &text, &err) ||
        !mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(upload.index->object_count, 2);
    assert_int_equal(upload.index->objects[1].input, 1);
    assert_int_equal(upload.ehr_problem.code, MF_OK);
    assert_int_equal(mf_fhir_patient_count(upload.ehr), 1);

    MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
    MF_AUTO(mf_mem) char *index = mf_json_text(json, 0);
    const int fds[] = {parts[0].fd, parts[2].fd};
    const struct mf_frame_request wanted[] = {{1, 0}, {0, 0}};
    const struct mf_frames_wanted request = {fds, 2, index, strlen(index), wanted, 2};
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    if (!mf_decoder_frames(f->decoder, &request, &frames, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(frames.count, 2);
    assert_int_equal(frames.frames[0].rows, upload.index->objects[1].rows);
    assert_int_equal(frames.frames[1].columns, upload.index->objects[0].columns);
    for (int i = 0; i < 3; i++)
        close(parts[i].fd);
}

static void fhir_of_another_patient_is_noted_in_the_index(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    const char other[] =
        "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[{\"resource\":"
        "{\"resourceType\":\"Patient\",\"id\":\"x\",\"identifier\":[{\"value\":"
        "\"somebody-else\"}]}}]}";
    int fd = memfd_create("ehr", MFD_CLOEXEC);
    assert_int_equal(write(fd, other, sizeof other - 1), sizeof other - 1);
    struct mf_part parts[] = {part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM),
                              {MF_PART_EHR, fd, 0, sizeof other - 1}};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    if (!mf_decoder_scan(f->decoder, parts, 2, &text, &err) ||
        !mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(upload.ehr_problem.code, MF_ERR_UNUSABLE);
    assert_null(upload.ehr);
    assert_null(strstr(text.data, "somebody-else")); /* what is not needed is not kept */
    close(parts[0].fd);
    close(fd);
}

static void a_truncated_file_is_malformed(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part part = part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM);
    part.size /= 2;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 16 << 20);
    assert_false(mf_decoder_scan(f->decoder, &part, 1, &text, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    assert_int_equal(text.len, 0);
    close(part.fd);
}

static void a_frame_that_is_not_there_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part part = part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    mf_buffer_init(&text, 16 << 20);
    assert_true(mf_decoder_scan(f->decoder, &part, 1, &text, &err));
    assert_true(mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err));
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
    MF_AUTO(mf_mem) char *index = mf_json_text(json, 0);
    const struct mf_frame_request wanted = {0, 1};
    const struct mf_frames_wanted request = {&part.fd, 1, index, strlen(index), &wanted, 1};
    assert_false(mf_decoder_frames(f->decoder, &request, &frames, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    close(part.fd);
}

/* A scanned file whose decoder stayed, and what to ask for. */
struct scanned {
    struct mf_part part;
    char *index;
    int connection;
    struct mf_frame_request frame;
    struct mf_frames_wanted wanted;
};

static void scan_and_stay(struct fixture *f, struct scanned *s)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    s->part = part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM);
    s->frame = (struct mf_frame_request){0, 0};
    if (!mf_decoder_scan_and_stay(f->decoder, &s->part, 1, &text, &s->connection, &err) ||
        !mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err))
        fail_msg("%s", err.msg);
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
    s->index = mf_json_text(json, 0);
    s->wanted = (struct mf_frames_wanted){&s->part.fd, 1, s->index, strlen(s->index), &s->frame, 1};
}

static void end_scanned(struct scanned *s)
{
    free(s->index);
    close(s->part.fd);
}

static void frames_asked_for_ahead_are_taken_over(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    assert_true(mf_decoder_frames_ahead(s.connection, &s.wanted, &err));
    /* The address leads nowhere: whatever is not taken over cannot be had. */
    MF_AUTO(mf_decoder) struct mf_decoder *other = mf_decoder_new("@nobody", 1, NULL, &err);
    mf_decoder_adopt(other, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set ahead = {0};
    MF_AUTO(mf_frame_set) struct mf_frame_set fresh = {0};
    MF_AUTO(mf_frame_set) struct mf_frame_set none = {0};
    if (!mf_decoder_frames(other, &s.wanted, &ahead, &err) ||
        !mf_decoder_frames(f->decoder, &s.wanted, &fresh, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(ahead.count, 1);
    assert_int_equal(ahead.map_size, fresh.map_size);
    assert_memory_equal(ahead.map, fresh.map, fresh.map_size);
    assert_false(mf_decoder_frames(other, &s.wanted, &none, &err)); /* once only */
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    end_scanned(&s);
}

static void other_frames_than_those_asked_for_ahead_are_decoded_anew(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    const struct mf_frame_request twice[] = {{0, 0}, {0, 0}};
    struct mf_frames_wanted wanted = s.wanted;
    wanted.frames = twice;
    wanted.frame_count = 2;
    assert_true(mf_decoder_frames_ahead(s.connection, &s.wanted, &err));
    mf_decoder_adopt(f->decoder, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    assert_true(mf_decoder_frames(f->decoder, &wanted, &frames, &err));
    assert_int_equal(frames.count, 2);
    end_scanned(&s);
}

static void a_decoder_that_is_lost_ahead_costs_nothing(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    shutdown(s.connection, SHUT_RDWR);
    mf_decoder_adopt(f->decoder, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    if (!mf_decoder_frames(f->decoder, &s.wanted, &frames, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(frames.count, 1);
    end_scanned(&s);
}

static void a_bad_frame_asked_for_ahead_is_refused_when_it_is_needed(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    s.frame.frame = 1; /* there is only one */
    assert_true(mf_decoder_frames_ahead(s.connection, &s.wanted, &err));
    mf_decoder_adopt(f->decoder, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    assert_false(mf_decoder_frames(f->decoder, &s.wanted, &frames, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    end_scanned(&s);
}

/* Scans one file and decodes the first frame of each of its objects; refusals are fine, deaths are
 * not. */
static void decode_file(struct fixture *f, const char *path)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part part = part_of(path, MF_PART_DICOM);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    if (mf_decoder_scan(f->decoder, &part, 1, &text, &err)) {
        assert_true(mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err));
        MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
        MF_AUTO(mf_mem) char *index = mf_json_text(json, 0);
        for (uint32_t i = 0; i < upload.index->object_count && err.code == MF_OK; i++) {
            MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
            const struct mf_frame_request wanted = {i, 0};
            const struct mf_frames_wanted request = {&part.fd, 1, index, strlen(index), &wanted, 1};
            bool ok = mf_decoder_frames(f->decoder, &request, &frames, &err);
            assert_true(ok || err.code != MF_OK);
        }
    }
    if (err.code == MF_ERR_CRASHED || err.code == MF_ERR_TIMEOUT || err.code == MF_ERR_INTERNAL)
        fail_msg("%s: %s", path, err.msg);
    close(part.fd);
}

static void every_kind_of_file_is_decoded_or_refused_inside_the_sandbox(void **state)
{
    static char root[] = MF_SHARED_DATA "/dicom";
    char *const roots[] = {root, NULL};
    FTS *tree = access(root, R_OK) == 0 ? fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL) : NULL;
    int files = 0;
    if (!tree) {
        print_message("skipped: no ../shared/data\n");
        return;
    }
    for (FTSENT *e; (e = fts_read(tree));)
        if (e->fts_info == FTS_F) {
            decode_file(*state, e->fts_path);
            files++;
        }
    fts_close(tree);
    assert_true(files > 100);
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
        cmocka_unit_test(an_address_where_nobody_listens_is_unavailable),
        cmocka_unit_test(a_study_is_scanned_and_its_frames_decoded),
        cmocka_unit_test(fhir_of_another_patient_is_noted_in_the_index),
        cmocka_unit_test(a_truncated_file_is_malformed),
        cmocka_unit_test(a_frame_that_is_not_there_is_refused),
        cmocka_unit_test(frames_asked_for_ahead_are_taken_over),
        cmocka_unit_test(other_frames_than_those_asked_for_ahead_are_decoded_anew),
        cmocka_unit_test(a_decoder_that_is_lost_ahead_costs_nothing),
        cmocka_unit_test(a_bad_frame_asked_for_ahead_is_refused_when_it_is_needed),
        cmocka_unit_test(every_kind_of_file_is_decoded_or_refused_inside_the_sandbox),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
