/*
 * Courier: opening, the loops, stopping. One thread looks for studies that are due. Nothing can
 * become due earlier than its quiet time from now, so it sleeps until the next one is due, or for
 * the quiet time; where storage commitments may make a study due at once, for two seconds at most.
 * A second thread, when there are destinations, delivers results; it looks again every two seconds,
 * for a delivery is due as soon as its job has succeeded. A third one (courier_audit.c) sends the
 * audit trail where it is to be kept.
 */
#include "server/courier.h"

#include "server/courier_audit.h"
#include "server/courier_outbox.h"
#include "server/courier_study.h"
#include "server/model_policy.h"

#include "core/log.h"
#include "dicom/dicom.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 10000,
    STUDY_BATCH = 16,
    TROUBLE_MS = 5000, /* pause after the store or the disk failed */
    LEAST_MS = 200,    /* between two looks */
    MOST_MS = 60000,
    HASTE_MS = 2000, /* between two looks where a study may become due early */
    OUTBOX_BATCH = 8,
    OUTBOX_MS = 2000
};

/* The thread that delivers. */
struct sender {
    struct mf_courier_outbox outbox;
    pthread_t thread;
    int stop; /* eventfd, −1 = there is no thread */
};

static bool open_courier(struct mf_courier_study *c, const struct mf_courier_options *o,
                         struct mf_error *err)
{
    const struct mf_config *config = o->config;
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    c->config = config;
    return (c->registry = mf_model_policy_open(config, NULL, err)) &&
           (c->decoder = mf_decoder_new(o->decoder_address, 1, &limits, err)) &&
           (c->fhir = mf_fhir_client_new(config->fhir.servers, (int)config->fhir.timeout_s, err)) &&
           (c->blobs = mf_blobs_open(config->data.directory, 0, err)) &&
           (c->store = mf_store_connect(config->data.directory, PATIENCE_MS, err));
}

static void close_courier(struct mf_courier_study *c)
{
    mf_store_free(c->store);
    mf_blobs_free(c->blobs);
    mf_fhir_client_free(c->fhir);
    mf_decoder_free(c->decoder);
    mf_registry_free(c->registry);
}

static bool run_study(const struct mf_courier_study *c, const struct mf_due_study *study)
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
static int64_t look(const struct mf_courier_study *c)
{
    struct mf_due_study due[STUDY_BATCH];
    struct mf_error err = MF_ERROR_INIT;
    size_t n = 0;
    int64_t next_ms = -1, quiet_ms = c->config->intake.quiet_s * 1000;
    if (!mf_store_studies_due(c->store, due, STUDY_BATCH, &n, &next_ms, &err)) {
        mf_log(MF_LOG_WARN, "courier.store_failed", MF_LOG_S("reason", err.msg));
        return TROUBLE_MS;
    }
    for (size_t i = 0; i < n; i++)
        if (!run_study(c, &due[i]))
            return TROUBLE_MS;
    if (n == STUDY_BATCH)
        return 0;
    int64_t sleep_ms = next_ms >= 0 && next_ms < quiet_ms ? next_ms : quiet_ms;
    if (strcmp(c->config->dimse.listen, "off") != 0 && sleep_ms > HASTE_MS)
        sleep_ms = HASTE_MS;
    return sleep_ms < LEAST_MS ? LEAST_MS : sleep_ms > MOST_MS ? MOST_MS : sleep_ms;
}

/* --- delivering --- */

static void deliver_due(const struct mf_courier_outbox *c)
{
    struct mf_delivery due[OUTBOX_BATCH];
    struct mf_error err = MF_ERROR_INIT;
    size_t n = 0;
    int64_t next_ms = -1;
    if (!mf_store_deliveries_due(c->store, due, OUTBOX_BATCH, &n, &next_ms, &err))
        mf_log(MF_LOG_WARN, "outbox.store_failed", MF_LOG_S("reason", err.msg));
    for (size_t i = 0; i < n; i++) {
        struct mf_error failure = MF_ERROR_INIT;
        bool ok = mf_courier_deliver(c, &due[i], &failure);
        mf_log(ok ? MF_LOG_INFO : MF_LOG_WARN, ok ? "outbox.delivered" : "outbox.failed",
               MF_LOG_S("job", due[i].job), MF_LOG_S("destination", due[i].destination),
               MF_LOG_I("attempt", due[i].attempts + 1), MF_LOG_S("reason", ok ? "" : failure.msg));
    }
}

static void *sender_main(void *context)
{
    struct sender *s = context;
    struct pollfd stop = {.fd = s->stop, .events = POLLIN};
    do
        deliver_due(&s->outbox);
    while (poll(&stop, 1, OUTBOX_MS) <= 0);
    return NULL;
}

/* Starts it when results are to be stored back. */
static bool start_sender(struct sender *s, const struct mf_courier_options *o, struct mf_error *err)
{
    const struct mf_config *config = o->config;
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    s->stop = -1;
    if (strcmp(config->outbox.destinations, "off") == 0)
        return true;
    s->outbox.config = config;
    if (!(s->outbox.decoder = mf_decoder_new(o->decoder_address, 1, &limits, err)) ||
        !(s->outbox.blobs = mf_blobs_open(config->data.directory, 0, err)) ||
        !(s->outbox.fhir =
              mf_fhir_client_new(config->fhir.servers, (int)config->outbox.timeout_s, err)) ||
        !(s->outbox.webhooks = mf_webhooks_load(config->outbox.webhooks, err)) ||
        !(s->outbox.store = mf_store_connect(config->data.directory, PATIENCE_MS, err)))
        return false;
    s->stop = eventfd(0, EFD_CLOEXEC);
    if (s->stop >= 0 && pthread_create(&s->thread, NULL, sender_main, s) == 0)
        return true;
    if (s->stop >= 0)
        close(s->stop);
    s->stop = -1;
    return mf_error_set(err, MF_ERR_NO_MEMORY, "no thread for the outbox");
}

static void stop_sender(struct sender *s)
{
    uint64_t one = 1;
    if (s->stop >= 0 && write(s->stop, &one, sizeof one) == (ssize_t)sizeof one) {
        pthread_join(s->thread, NULL);
        close(s->stop);
    }
    mf_store_free(s->outbox.store);
    mf_webhooks_free(s->outbox.webhooks);
    mf_fhir_client_free(s->outbox.fhir);
    mf_blobs_free(s->outbox.blobs);
    mf_decoder_free(s->outbox.decoder);
}

bool mf_courier_run(const struct mf_courier_options *o, struct mf_error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct mf_courier_study c = {.config = NULL};
    struct sender sender = {.stop = -1};
    struct mf_error silent = MF_ERROR_INIT;
    bool ok = mf_dicom_init(err) && open_courier(&c, o, err) && start_sender(&sender, o, err);
    MF_AUTO(mf_courier_audit)
    struct mf_courier_audit *audit = ok ? mf_courier_audit_start(o->config, &silent) : NULL;
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
    stop_sender(&sender);
    close_courier(&c);
    return ok;
}
