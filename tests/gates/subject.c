/*
 * What the sweep of faults runs: a payload is stored, a job accepted, claimed and finished, and its
 * result read, as the daemon does it. It says on stdout what it has acknowledged; a failure is one
 * line on stderr and status 1. With `check` it looks whether what was acknowledged is there.
 *
 *   subject work DIRECTORY KEYS|off         accepted ID, finished ID
 *   subject check DIRECTORY KEYS|off LINE…  status 0: all of it is
 *   subject serve                           a child for each line of standard input, whose status
 * it says: STDOUT, STDERR, FAULT, work|check and so on, with tabs between them; a fault is for
 * `work` (shim.c)
 *
 * MF_PLANTED=ack: it acknowledges before the payload is synced and the job committed, which the
 * sweep must find.
 */
#include "server/blobs.h"
#include "server/store.h"
#include "server/vault.h"

#include "core/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAYLOAD = 150000, MOST_WORDS = 16 };

void mf_faults_begin(void) __attribute__((weak)); /* of the shim, when that is preloaded */

static const char RESULT[] = "{\"schema\":\"medfusion.result/1\",\"predictions\":[]}";
static const char INDEX[] = "{\"objects\":[]}";

struct subject {
    struct mf_vault *vault;
    struct mf_blobs *blobs;
    struct mf_store *store;
    struct mf_arena *arena;
};

static void fill(unsigned char *payload)
{
    for (uint32_t i = 0; i < PAYLOAD; i++)
        payload[i] = (unsigned char)(i * 2654435761u >> 17);
}

static bool open_all(struct subject *s, const char *directory, const char *keys,
                     struct mf_error *err)
{
    s->vault = mf_vault_open(keys, err);
    if (err->code)
        return false;
    const struct mf_store_settings settings = {
        .lease_s = 30, .max_crashes = 3, .max_losses = 20, .retention_s = 86400, .vault = s->vault};
    return ((s->arena = mf_arena_new(64 << 20)) ||
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory")) &&
           (s->blobs = mf_blobs_open(directory, keys, 0, err)) &&
           (s->store = mf_store_open_sqlite(directory, &settings, err));
}

static void close_all(struct subject *s)
{
    mf_store_free(s->store);
    mf_blobs_free(s->blobs);
    mf_arena_free(s->arena);
    mf_vault_free(s->vault);
}

static void say(const char *what, const char *id)
{
    printf("%s %s\n", what, id);
    fflush(stdout);
}

static bool accept_job(struct subject *s, char id[MF_JOB_ID], struct mf_error *err)
{
    static unsigned char payload[PAYLOAD];
    struct mf_pack_member member;
    struct mf_submitted made;
    bool early = getenv("MF_PLANTED") != NULL;
    fill(payload);
    mf_job_id_new(id);
    MF_AUTO(mf_pack) struct mf_pack *pack = mf_pack_new(s->blobs, err);
    if (early)
        say("accepted", id);
    if (!pack || !mf_pack_begin(pack, err) || !mf_pack_write(pack, payload, PAYLOAD, err) ||
        !mf_pack_end(pack, &member, err) || !mf_pack_sync(pack, err))
        return false;
    struct mf_job_input input = {.part = "dicom",
                                 .kind = "blob",
                                 .locator = mf_pack_name(pack),
                                 .offset = member.offset,
                                 .size = member.size};
    memcpy(input.sha256, member.sha256, sizeof input.sha256);
    struct mf_submission sub = {.tenant = MF_TENANT_DEFAULT,
                                .priority = MF_PRIORITY_ROUTINE,
                                .options = "{}",
                                .index = INDEX,
                                .index_len = sizeof INDEX - 1,
                                .inputs = &input,
                                .input_count = 1};
    memcpy(sub.id, id, sizeof sub.id);
    mf_pack_keep(pack); /* as the daemon does: a sweep takes what no job came to need */
    if (!mf_store_submit(s->store, &sub, &made, err))
        return false;
    if (!early)
        say("accepted", id);
    return true;
}

static bool finish_job(struct subject *s, const char *id, struct mf_error *err)
{
    struct mf_claim *claims = NULL;
    size_t count = 0;
    struct mf_claim_request request = {.worker = "gate", .max = 1, .wait_ms = 0};
    if (!mf_store_claim(s->store, &request, s->arena, &claims, &count, err))
        return false;
    if (count != 1 || strcmp(claims[0].id, id) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "another job was claimed");
    struct mf_outcome outcome = {.job = {.fence = claims[0].fence},
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = RESULT,
                                 .result_len = sizeof RESULT - 1};
    memcpy(outcome.job.id, id, sizeof outcome.job.id);
    if (!mf_store_finish(s->store, &outcome, 1, err))
        return false;
    say("finished", id);
    return true;
}

static bool same_result(struct subject *s, const char *id, struct mf_error *err)
{
    struct mf_job job;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 1 << 20);
    if (!mf_store_result(s->store, MF_TENANT_DEFAULT, id, &job, &text, NULL, err))
        return false;
    return (text.len == sizeof RESULT - 1 && memcmp(text.data, RESULT, text.len) == 0) ||
           mf_error_set(err, MF_ERR_INTERNAL, "%s: the result is another one", id);
}

static bool same_payload(struct subject *s, const char *id, struct mf_error *err)
{
    static unsigned char wanted[PAYLOAD], found[PAYLOAD];
    struct mf_job_record record;
    if (!mf_store_record(s->store, MF_TENANT_DEFAULT, id, s->arena, &record, err))
        return false;
    MF_AUTO(mf_fd) int fd = mf_blobs_open_pack(s->blobs, record.inputs[0].locator, err);
    fill(wanted);
    return fd >= 0 && ((pread(fd, found, PAYLOAD, (off_t)record.inputs[0].offset) == PAYLOAD &&
                        memcmp(found, wanted, PAYLOAD) == 0) ||
                       mf_error_set(err, MF_ERR_INTERNAL, "%s: the payload is another one", id));
}

/* One line of what was said before. */
static bool check(struct subject *s, const char *line, struct mf_error *err)
{
    struct mf_job job;
    const char *id = strchr(line, ' ');
    if (!id)
        return mf_error_set(err, MF_ERR_USAGE, "\"%s\" is no line of mine", line);
    id++;
    if (strncmp(line, "finished", 8) == 0)
        return same_result(s, id, err) && same_payload(s, id, err);
    return mf_store_job(s->store, MF_TENANT_DEFAULT, id, &job, err);
}

/* Work or check, as the head of this file says; ends the process. */
static _Noreturn void run(int argc, char **argv)
{
    struct subject s = {.store = NULL};
    struct mf_error err = MF_ERROR_INIT;
    char id[MF_JOB_ID];
    bool working = strcmp(argv[1], "work") == 0;
    if (working && mf_faults_begin)
        mf_faults_begin();
    bool ok = open_all(&s, argv[2], argv[3], &err);
    if (working)
        ok =
            ok && accept_job(&s, id, &err) && finish_job(&s, id, &err) && same_result(&s, id, &err);
    for (int i = 4; ok && !working && i < argc; i++)
        ok = check(&s, argv[i], &err);
    close_all(&s);
    if (!ok)
        fprintf(stderr, "%s: %s\n", mf_code_name(err.code), err.msg);
    fflush(NULL);
    _exit(ok ? 0 : 1); /* as the daemon's processes do: other libraries' handlers are not tried */
}

/* A child for one line of requests; what it says goes to the files that the line names first. */
static void run_line(char *line)
{
    char *argv[MOST_WORDS], *rest = line;
    int argc = 0;
    for (char *word; argc < MOST_WORDS && (word = strsep(&rest, "\t"));)
        argv[argc++] = word;
    if (argc < 6 || !freopen(argv[0], "w", stdout) || !freopen(argv[1], "w", stderr) ||
        setenv("MF_FAULT", argv[2], 1) != 0)
        _exit(2);
    run(argc - 2, argv + 2);
}

/* Without a new program for each fault, of which most of the time would go to its libraries. */
static int serve(void)
{
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        int status;
        line[strcspn(line, "\n")] = '\0';
        pid_t pid = fork();
        if (pid == 0)
            run_line(line);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 1;
        printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    bool serving = argc == 2 && strcmp(argv[1], "serve") == 0;
    if (argc < 4 && !serving)
        return 2;
    /* OpenSSL 3.0 does not survive a failed allocation while it sets itself up, at its first use;
     * the supervisor has used it before it forks the daemon's processes. */
    unsigned char digest[MF_SHA256_BYTES];
    mf_sha256("", 0, digest);
    if (serving)
        return serve();
    run(argc, argv);
}
