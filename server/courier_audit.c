/*
 * Courier: the audit trail to a syslog server. Syslog acknowledges nothing, so rows count as
 * delivered only when the connection is still there at the next look, two seconds after they were
 * sent.
 */
#include "server/courier_audit.h"

#include "server/audit_message.h"
#include "server/syslog_client.h"

#include "core/log.h"
#include "core/outfile.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 10000,
    LOOK_MS = 2000,
    LONGEST_MS = 60000, /* between attempts to connect */
    TIMEOUT_S = 20,
    MESSAGE_BYTES = 64 << 10,
    ARENA_BYTES = 64 << 20,
    PATH_BYTES = 4096,
    HOST_BYTES = 256
};

struct mf_courier_audit {
    const struct mf_config *config;
    struct mf_store *store;
    struct mf_syslog *syslog; /* NULL = not connected */
    int64_t sent, kept;       /* rows up to here were sent; are delivered */
    int pause_ms;             /* until the next look */
    char path[PATH_BYTES], host[HOST_BYTES];
    int stop; /* eventfd */
    bool started;
    pthread_t thread;
};

/* --- where it was --- */

static bool read_place(struct mf_courier_audit *a, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 64);
    if (access(a->path, F_OK) != 0)
        return true;
    if (!mf_buffer_read_file(&text, a->path, err))
        return false;
    char *end = text.data;
    a->kept = text.len ? strtoll(text.data, &end, 10) : -1;
    if (a->kept < 0 || strcmp(end, "\n") != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "%s holds no number of a row", a->path);
    a->sent = a->kept;
    return true;
}

static bool keep_place(struct mf_courier_audit *a, struct mf_error *err)
{
    struct mf_outfile out;
    if (a->kept == a->sent)
        return true;
    if (!mf_outfile_open(&out, a->path, err))
        return false;
    fprintf(out.file, "%" PRId64 "\n", a->sent);
    if (!mf_outfile_commit(&out, err))
        return false;
    a->kept = a->sent;
    return true;
}

/* --- sending --- */

static void disconnect(struct mf_courier_audit *a)
{
    mf_syslog_close(a->syslog);
    a->syslog = NULL;
    a->sent = a->kept;
}

static bool connected(struct mf_courier_audit *a, struct mf_error *err)
{
    const struct mf_syslog_peer peer = {.address = a->config->audit.syslog,
                                        .ca_file = a->config->audit.syslog_ca,
                                        .certificate = a->config->audit.syslog_certificate,
                                        .key = a->config->audit.syslog_key,
                                        .timeout_s = TIMEOUT_S};
    if (a->syslog)
        return true;
    a->syslog = mf_syslog_connect(&peer, err);
    if (a->syslog)
        mf_log(MF_LOG_INFO, "audit.syslog_connected", MF_LOG_I("after", a->sent));
    return a->syslog != NULL;
}

static bool send_row(struct mf_courier_audit *a, const struct mf_audit_row *row,
                     struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer message;
    mf_buffer_init(&message, MESSAGE_BYTES);
    if (!mf_audit_message(row, a->host, &message, err) ||
        !mf_syslog_send(a->syslog, message.data, message.len, err))
        return false;
    a->sent = row->seq;
    return true;
}

/* Sends a page; *ret_more: there may be another. */
static bool send_page(struct mf_courier_audit *a, bool *ret_more, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    *ret_more = false;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the audit trail");
    if (!mf_store_audit_read(a->store, a->sent, arena, &base, &rows, &n, err))
        return false;
    if (base.seq > a->sent)
        mf_log(MF_LOG_WARN, "audit.removed_unsent", MF_LOG_I("from", a->sent + 1),
               MF_LOG_I("to", base.seq));
    if (n > 0 && !connected(a, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!send_row(a, &rows[i], err))
            return false;
    *ret_more = n == MF_AUDIT_PAGE;
    return true;
}

/* What was sent before and is still alive is delivered; then what is new. */
static bool look(struct mf_courier_audit *a, struct mf_error *err)
{
    bool more = true;
    if (a->syslog && !mf_syslog_alive(a->syslog))
        disconnect(a);
    if (!keep_place(a, err))
        return false;
    while (more)
        if (!send_page(a, &more, err))
            return false;
    return true;
}

static void *thread_main(void *argument)
{
    struct mf_courier_audit *a = argument;
    struct pollfd stop = {.fd = a->stop, .events = POLLIN};
    do {
        struct mf_error err = MF_ERROR_INIT;
        if (look(a, &err)) {
            a->pause_ms = LOOK_MS;
            continue;
        }
        mf_log(MF_LOG_WARN, "audit.syslog_failed", MF_LOG_S("reason", err.msg));
        disconnect(a);
        a->pause_ms = 2 * a->pause_ms < LONGEST_MS ? 2 * a->pause_ms : LONGEST_MS;
    } while (poll(&stop, 1, a->pause_ms) <= 0);
    return NULL;
}

/* --- starting and stopping --- */

struct mf_courier_audit *mf_courier_audit_start(const struct mf_config *config,
                                                struct mf_error *err)
{
    if (strcmp(config->audit.syslog, "off") == 0)
        return NULL;
    MF_AUTO(mf_courier_audit) struct mf_courier_audit *a = calloc(1, sizeof *a);
    if (!a) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for audit.syslog");
        return NULL;
    }
    a->config = config;
    a->pause_ms = LOOK_MS / 2;
    a->stop = eventfd(0, EFD_CLOEXEC);
    snprintf(a->path, sizeof a->path, "%s/audit.sent", config->data.directory);
    if (gethostname(a->host, sizeof a->host - 1) != 0 || !a->host[0])
        snprintf(a->host, sizeof a->host, "localhost");
    if (!mf_syslog_check(config->audit.syslog, err) || !read_place(a, err) ||
        !(a->store = mf_store_connect(config->data.directory, PATIENCE_MS, err)))
        return NULL;
    a->started = a->stop >= 0 && pthread_create(&a->thread, NULL, thread_main, a) == 0;
    if (!a->started) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "no thread for audit.syslog");
        return NULL;
    }
    return MF_STEAL(a);
}

void mf_courier_audit_stop(struct mf_courier_audit *a)
{
    uint64_t one = 1;
    if (!a)
        return;
    if (a->started && write(a->stop, &one, sizeof one) == (ssize_t)sizeof one)
        pthread_join(a->thread, NULL);
    mf_syslog_close(a->syslog);
    mf_store_free(a->store);
    if (a->stop >= 0)
        close(a->stop);
    free(a);
}
