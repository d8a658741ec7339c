/*
 * Courier: opening, the loops, stopping. One thread looks for studies that are due. Nothing can
 * become due earlier than its quiet time from now, so it sleeps until the next one is due, or for
 * the quiet time; where storage commitments may make a study due at once, for two seconds at most.
 * A thread for each destination, eight at most, delivers results, in order, so that one destination
 * that hangs holds up none of the others; it looks again every two seconds, for a delivery is due
 * as soon as its job has succeeded. Others send the audit trail where it is to
 * be kept (courier_audit.c), and perform the work items of a manager (courier_ups.c).
 */
#include "server/courier.h"

#include "server/courier_audit.h"
#include "server/courier_outbox.h"
#include "server/courier_study.h"
#include "server/courier_ups.h"

#include "core/log.h"
#include "dicom/dicom.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    STUDY_BATCH = 16,
    TROUBLE_MS = 5000, /* pause after the store or the disk failed */
    LEAST_MS = 200,    /* between two looks */
    MOST_MS = 60000,
    HASTE_MS = 2000, /* between two looks where a study may become due early */
    LANES = 8,
    OUTBOX_BATCH = MF_STORE_BATCH,
    LIST_BYTES = 64 << 10,
    OUTBOX_MS = 2000
};

/* A thread that delivers to the destinations of its lane. */
struct sender {
    struct mf_courier_outbox outbox;
    size_t lane, lanes;
    struct mf_buffer list;        /* of `which` */
    struct mf_destinations which; /* the lane's; the first has also those of earlier
                                     configurations */
    pthread_t thread;
    bool running;
    int stop; /* eventfd of all, borrowed */
};

struct senders {
    struct sender lanes[LANES];
    size_t count;
    int stop; /* eventfd, −1 = there are none */
};

static bool run_study(struct mf_courier_study *c, const struct mf_due_study *study)
{
    struct mf_error err = MF_ERROR_INIT;
    char job[MF_JOB_ID];
    bool ok = mf_courier_study_run(c, study, job, &err);
    if (ok)
        mf_log(MF_LOG_INFO, "study.complete", MF_LOG_S("job", job[0] ? job : "none"));
    else
        mf_log(MF_LOG_WARN, "study.failed", MF_LOG_S("reason", err.msg));
    return ok;
}

/* Makes jobs of what is due; how long to sleep then. */
static int64_t look(struct mf_courier_study *c)
{
    struct mf_due_study due[STUDY_BATCH];
    struct mf_error err = MF_ERROR_INIT;
    size_t n = 0;
    int64_t next_ms = -1, quiet_ms = c->tools.config->intake.quiet_s * 1000;
    if (!mf_store_studies_due(c->tools.store, due, STUDY_BATCH, &n, &next_ms, &err)) {
        mf_log(MF_LOG_WARN, "courier.store_failed", MF_LOG_S("reason", err.msg));
        return TROUBLE_MS;
    }
    for (size_t i = 0; i < n; i++)
        if (!run_study(c, &due[i]))
            return TROUBLE_MS;
    if (n == STUDY_BATCH)
        return 0;
    int64_t sleep_ms = next_ms >= 0 && next_ms < quiet_ms ? next_ms : quiet_ms;
    if (strcmp(c->tools.config->dimse.listen, "off") != 0 && sleep_ms > HASTE_MS)
        sleep_ms = HASTE_MS;
    return sleep_ms < LEAST_MS ? LEAST_MS : sleep_ms > MOST_MS ? MOST_MS : sleep_ms;
}

/* --- delivering --- */

/* The next of outbox.destinations, without the tenant before it; NULL after the last. */
static const char *next_destination(const char **at, size_t *ret_len)
{
    *at += strspn(*at, " ");
    const char *entry = *at;
    size_t len = strcspn(entry, " "), name = strcspn(entry, "=:/ ");
    *at += len;
    bool tenant = name < len && entry[name] == '=';
    *ret_len = tenant ? len - name - 1 : len;
    return len == 0 ? NULL : tenant ? entry + name + 1 : entry;
}

static size_t count_destinations(const struct mf_config *config)
{
    const char *at = config->outbox.destinations;
    size_t n = 0, len;
    while (next_destination(&at, &len))
        n++;
    return n;
}

/* Which destinations a thread delivers to: what goes to one destination stays in order. */
static bool choose(struct sender *s, const struct mf_config *config, struct mf_error *err)
{
    const char *at = config->outbox.destinations, *entry;
    size_t len;
    mf_buffer_init(&s->list, LIST_BYTES);
    s->which.others = s->lane == 0;
    bool ok = mf_buffer_append(&s->list, " ", 1, err);
    for (size_t i = 0; ok && (entry = next_destination(&at, &len)); i++)
        if ((i % s->lanes == s->lane) != s->which.others)
            ok = mf_buffer_printf(&s->list, err, "%.*s ", (int)len, entry);
    s->which.list = s->list.data;
    return ok;
}

static void deliver(const struct mf_courier_outbox *c, const struct mf_delivery *delivery)
{
    struct mf_error failure = MF_ERROR_INIT;
    bool waiting, ok = mf_courier_deliver(c, delivery, &waiting, &failure);
    mf_log(ok ? MF_LOG_INFO : MF_LOG_WARN,
           !ok       ? "outbox.failed"
           : waiting ? "outbox.waiting"
                     : "outbox.delivered",
           MF_LOG_S("job", delivery->job), MF_LOG_S("destination", delivery->destination),
           MF_LOG_I("attempt", delivery->attempts + 1), MF_LOG_S("reason", ok ? "" : failure.msg));
}

static void deliver_due(const struct sender *s, struct mf_delivery due[OUTBOX_BATCH])
{
    struct mf_error err = MF_ERROR_INIT;
    struct pollfd stop = {.fd = s->stop, .events = POLLIN};
    size_t n = 0;
    int64_t next_ms = -1;
    if (!mf_store_deliveries_due(s->outbox.store, &s->which, due, OUTBOX_BATCH, &n, &next_ms, &err))
        mf_log(MF_LOG_WARN, "outbox.store_failed", MF_LOG_S("reason", err.msg));
    for (size_t i = 0; i < n && poll(&stop, 1, 0) <= 0; i++)
        deliver(&s->outbox, &due[i]);
}

static void *sender_main(void *context)
{
    struct sender *s = context;
    struct pollfd stop = {.fd = s->stop, .events = POLLIN};
    MF_AUTO(mf_mem) struct mf_delivery *due = calloc(OUTBOX_BATCH, sizeof *due);
    if (!due)
        mf_log(MF_LOG_ERROR, "outbox.store_failed", MF_LOG_S("reason", "out of memory"));
    while (due && poll(&stop, 1, 0) <= 0) {
        deliver_due(s, due);
        if (poll(&stop, 1, OUTBOX_MS) > 0)
            break;
    }
    return NULL;
}

static bool start_sender(struct sender *s, const struct mf_courier_options *o, struct mf_error *err)
{
    if (!choose(s, o->config, err) ||
        !mf_courier_outbox_open(&s->outbox, o->config, o->decoder_address, err))
        return false;
    s->running = pthread_create(&s->thread, NULL, sender_main, s) == 0;
    return s->running || mf_error_set(err, MF_ERR_NO_MEMORY, "no thread for the outbox");
}

/* Starts them when results are to be stored back. */
static bool start_senders(struct senders *all, const struct mf_courier_options *o,
                          struct mf_error *err)
{
    all->stop = -1;
    if (strcmp(o->config->outbox.destinations, "off") == 0)
        return true;
    size_t n = count_destinations(o->config);
    all->count = n < LANES ? n : LANES;
    all->stop = eventfd(0, EFD_CLOEXEC);
    if (all->stop < 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "no descriptor for the outbox");
    for (size_t i = 0; i < all->count; i++) {
        struct sender *s = &all->lanes[i];
        s->lane = i;
        s->lanes = all->count;
        s->stop = all->stop;
        if (!start_sender(s, o, err))
            return false;
    }
    return true;
}

static void stop_senders(struct senders *all)
{
    uint64_t one = 1;
    bool told = all->stop >= 0 && write(all->stop, &one, sizeof one) == (ssize_t)sizeof one;
    for (size_t i = 0; i < all->count; i++) {
        struct sender *s = &all->lanes[i];
        if (s->running && told)
            pthread_join(s->thread, NULL);
        mf_courier_outbox_close(&s->outbox);
        mf_buffer_free(&s->list);
    }
    if (all->stop >= 0)
        close(all->stop);
}

bool mf_courier_run(const struct mf_courier_options *o, struct mf_error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct mf_courier_study c = {.rest_until_ns = 0};
    struct senders senders = {.stop = -1};
    struct mf_error silent = MF_ERROR_INIT;
    bool ok =
        mf_dicom_init(err) &&
        mf_courier_tools_open(&c.tools, o->config, o->decoder_address, o->query_address, err) &&
        start_senders(&senders, o, err);
    MF_AUTO(mf_courier_audit)
    struct mf_courier_audit *audit = ok ? mf_courier_audit_start(o->config, &silent) : NULL;
    MF_AUTO(mf_courier_ups)
    struct mf_courier_ups *ups = ok && !silent.code ? mf_courier_ups_start(o, &silent) : NULL;
    if (silent.code)
        ok = mf_error_set(err, silent.code, "%s", silent.msg);
    if (ok && o->ready_fd >= 0) {
        ssize_t ignored = write(o->ready_fd, "1", 1);
        (void)ignored; /* whoever waited is gone */
        close(o->ready_fd);
    }
    while (ok) {
        int64_t ms = look(&c);
        struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        if (sigtimedwait(&signals, NULL, &wait) > 0)
            break;
    }
    stop_senders(&senders);
    mf_courier_tools_close(&c.tools);
    return ok;
}
