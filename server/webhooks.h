/*
 * Webhooks: who is told when a job has ended, the file `outbox.webhooks` of the configuration, and
 * the signature of what they are sent (Standard Webhooks 1.0.0).
 *
 *   {"NAME": {"url": "https://ris.example/hooks/medfusion",
 *             "secret_file": "FILE",    a line for each secret: "whsec_" and 24 to 64 bytes, base64
 *             "ca_file": "FILE"}}       PEM; else the system's authorities
 *
 * All secrets sign (at most four), so that a receiver can change to a new one without a gap.
 * Requests to this service never name an address: "webhook:NAME" stands in outbox.destinations.
 */
#ifndef MF_SERVER_WEBHOOKS_H
#define MF_SERVER_WEBHOOKS_H

#include "core/auto.h"
#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MF_WEBHOOK_SECRETS = 4,
    MF_WEBHOOK_SECRET_BYTES = 64,
    MF_WEBHOOK_SIGNATURE = 256 /* characters of the field's value, with the NUL */
};

struct mf_webhook_secret {
    unsigned char bytes[MF_WEBHOOK_SECRET_BYTES];
    size_t len;
};

/* Strings live as long as the list. */
struct mf_webhook {
    const char *name, *url;
    const char *ca_file; /* or NULL */
    struct mf_webhook_secret secrets[MF_WEBHOOK_SECRETS];
    size_t secret_count;
};

struct mf_webhooks;

/* "off" gives an empty list. MF_ERR_USAGE names the file, the webhook and the member. */
struct mf_webhooks *mf_webhooks_load(const char *path, struct mf_error *err) MF_CHECK_RESULT;
void mf_webhooks_free(struct mf_webhooks *webhooks);
/* NULL: there is none of this name. */
const struct mf_webhook *mf_webhooks_find(const struct mf_webhooks *webhooks, const char *name);

/* The value of the field webhook-signature: for each secret "v1," and the base64 of the HMAC-SHA256
 * over ID.TIMESTAMP.BODY, between spaces. `timestamp`: seconds since 1970. */
bool mf_webhook_sign(const struct mf_webhook *webhook, const char *id, int64_t timestamp,
                     const char *body, char out[MF_WEBHOOK_SIGNATURE],
                     struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_webhooks, struct mf_webhooks *, mf_webhooks_free(*p))

#endif
