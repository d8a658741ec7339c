/* Courier: webhooks, as Standard Webhooks 1.0.0 has them. */
#include "server/courier_webhook.h"

#include "server/job_response.h"
#include "server/web_client.h"
#include "server/webhooks.h"

#include "core/clock.h"

#include <inttypes.h>
#include <string.h>

enum { FIELD = 64, TIMEOUT_S = 20 /* a receiver that needs longer holds up the others */ };

static const char WEBHOOK[] = "webhook:";

bool mf_courier_webhook_wants(const char *destination)
{
    return strncmp(destination, WEBHOOK, strlen(WEBHOOK)) == 0;
}

static char *make_body(const struct mf_job *job, struct mf_error *err)
{
    char type[FIELD], time[MF_TIME_TEXT];
    snprintf(type, sizeof type, "job.%s", mf_job_state_name(job->state));
    MF_AUTO(mf_json)
    json_t *message = json_pack("{s:s, s:s, s:{s:s, s:o}}", "type", type, "timestamp",
                                mf_clock_format_ms(job->finished_ms, time), "data", "tenant",
                                job->tenant, "job", mf_job_to_json(job));
    char *text = message ? mf_json_text(message, 0) : NULL;
    if (!text)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a webhook");
    return text;
}

static bool judge(long status, struct mf_error *err)
{
    if (status / 100 == 2)
        return true;
    if (status == 410)
        return mf_error_set(err, MF_ERR_GONE, "the webhook answered 410: it is gone");
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the webhook answered %ld", status);
}

static bool post(const struct mf_courier_outbox *c, const struct mf_webhook *webhook,
                 const char *job, const char *body, struct mf_error *err)
{
    char id[MF_JOB_ID + 4], signature[MF_WEBHOOK_SIGNATURE];
    char fields[3][MF_WEBHOOK_SIGNATURE + FIELD];
    int64_t now = mf_clock_wall_ms() / 1000;
    long status = 0;
    snprintf(id, sizeof id, "job_%s", job);
    if (!mf_webhook_sign(webhook, id, now, body, signature, err))
        return false;
    snprintf(fields[0], sizeof fields[0], "webhook-id: %s", id);
    snprintf(fields[1], sizeof fields[1], "webhook-timestamp: %" PRId64, now);
    snprintf(fields[2], sizeof fields[2], "webhook-signature: %s", signature);
    const int64_t longest_s = c->config->outbox.timeout_s;
    const struct mf_web_request request = {
        .url = webhook->url,
        .accept = "*/*",
        .content_type = "application/json",
        .body = body,
        .body_len = strlen(body),
        .fields = (const char *const[]){fields[0], fields[1], fields[2], NULL},
        .ca_file = webhook->ca_file,
        .timeout_s = (int)(longest_s < TIMEOUT_S ? longest_s : TIMEOUT_S)};
    return mf_web_send(&request, &status, err) && judge(status, err);
}

bool mf_courier_webhook(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                        struct mf_error *err)
{
    const struct mf_webhook *webhook =
        mf_webhooks_find(c->webhooks, d->destination + strlen(WEBHOOK));
    struct mf_job job;
    if (!webhook)
        return mf_error_set(err, MF_ERR_USAGE, "outbox.webhooks has no webhook of this name");
    if (!mf_store_job(c->store, d->tenant, d->job, &job, err))
        return false;
    MF_AUTO(mf_mem) char *body = make_body(&job, err);
    return body && post(c, webhook, d->job, body, err);
}
