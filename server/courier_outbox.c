/*
 * Courier: one delivery. STOW-RS looks into the FailedSOPSequence whatever the status says, for
 * there are servers that answer 200 to a partial failure.
 */
#include "server/courier_outbox.h"

#include "server/artifacts.h"
#include "server/courier_push.h"
#include "server/courier_webhook.h"
#include "server/dicom_address.h"
#include "server/mllp.h"
#include "server/web_client.h"

#include "dicom/net.h"

#include <stdlib.h>
#include <string.h>

enum {
    RECORD_BYTES = 512 << 20,
    OBJECT_BYTES = 1 << 30,
    ANSWER_BYTES = 4 << 20,
    MAX_OBJECTS = 256,
    LAST_PAUSE_MS = 3600000
};

static const char BOUNDARY_HEAD[] = "--%s\r\nContent-Type: application/dicom\r\n\r\n";

/* The objects of one result. */
struct objects {
    struct mf_buffer files[MAX_OBJECTS];
    size_t count;
};

static void free_objects(struct objects *o)
{
    for (size_t i = 0; o && i < o->count; i++)
        mf_buffer_free(&o->files[i]);
    free(o);
}

MF_AUTO_DEFINE(objects, struct objects *, free_objects(*p))

static bool is_web(const char *address)
{
    return strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0;
}

/* --- making --- */

static bool make_objects(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                         struct objects *ret, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    struct mf_job_record record;
    size_t n = 0;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    if (!mf_store_record(c->store, d->tenant, d->job, arena, &record, err))
        return false;
    if (!record.result || !record.index)
        return mf_error_set(err, MF_ERR_GONE, "the result is purged");
    if (!mf_job_artifacts_open(&record, c->blobs, c->decoder, &a, err) ||
        !mf_job_artifacts_amend(&a, c->store, err))
        return false;
    const struct mf_write_item *items = mf_write_set_items(a.set, &n);
    for (size_t i = 0; i < n && i < MAX_OBJECTS; i++) {
        struct mf_buffer *file = &ret->files[ret->count++];
        mf_buffer_init(file, OBJECT_BYTES);
        if (!mf_artifact_make(a.set, &items[i], &a.images, file, err))
            return mf_error_prefix(err, "%s", items[i].name);
    }
    return true;
}

/* --- STOW-RS --- */

static bool judge_answer(long status, const struct mf_buffer *answer, struct mf_error *err)
{
    static const struct mf_json_limits limits = {ANSWER_BYTES, 32};
    if (status / 100 == 5 || status == 429 || status == 408)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the destination answered %ld", status);
    if (status / 100 != 2)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the destination answered %ld", status);
    if (answer->len == 0)
        return true;
    struct mf_error ignored = MF_ERROR_INIT; /* an answer in XML tells nothing more */
    MF_AUTO(mf_json)
    json_t *body = mf_json_parse(answer->data, answer->len, &limits, "answer", &ignored);
    size_t failed = json_array_size(json_object_get(json_object_get(body, "00081198"), "Value"));
    return failed == 0 ||
           mf_error_set(err, MF_ERR_UNUSABLE, "the destination did not store %zu objects", failed);
}

static bool make_body(const struct objects *o, const char *boundary, struct mf_buffer *body,
                      struct mf_error *err)
{
    for (size_t i = 0; i < o->count; i++)
        if (!mf_buffer_printf(body, err, BOUNDARY_HEAD, boundary) ||
            !mf_buffer_append(body, o->files[i].data, o->files[i].len, err) ||
            !mf_buffer_append_str(body, "\r\n", err))
            return false;
    return mf_buffer_printf(body, err, "--%s--\r\n", boundary);
}

static bool send_stow(const struct mf_courier_outbox *c, const char *address,
                      const struct objects *o, struct mf_error *err)
{
    char boundary[MF_JOB_ID], url[MF_DESTINATION + 16], type[128];
    long status = 0;
    MF_AUTO(mf_buffer) struct mf_buffer body, answer;
    mf_buffer_init(&body, (size_t)2 * OBJECT_BYTES);
    mf_buffer_init(&answer, ANSWER_BYTES);
    mf_job_id_new(boundary);
    snprintf(url, sizeof url, "%s/studies", address);
    snprintf(type, sizeof type, "multipart/related; type=\"application/dicom\"; boundary=%s",
             boundary);
    if (!make_body(o, boundary, &body, err))
        return false;
    const struct mf_web_request request = {.url = url,
                                           .accept = "application/dicom+json",
                                           .content_type = type,
                                           .body = body.data,
                                           .body_len = body.len,
                                           .timeout_s = (int)c->config->outbox.timeout_s,
                                           .max_bytes = ANSWER_BYTES,
                                           .data = mf_web_keep,
                                           .context = &answer};
    return mf_web_send(&request, &status, err) && judge_answer(status, &answer, err);
}

/* --- C-STORE --- */

static bool send_dicom(const struct mf_courier_outbox *c, const char *address,
                       const struct objects *o, struct mf_error *err)
{
    struct mf_dicom_address to;
    struct mf_net_file files[MAX_OBJECTS];
    if (!mf_dicom_address_parse(address, &to))
        return mf_error_set(err, MF_ERR_USAGE,
                            "outbox.destinations: an address is neither http(s)://host/path nor "
                            "dicom(s)://AE@host:port");
    const struct mf_net_peer peer =
        mf_dicom_address_peer(&to, c->config, c->config->outbox.timeout_s);
    for (size_t i = 0; i < o->count; i++)
        files[i] = (struct mf_net_file){o->files[i].data, o->files[i].len};
    return mf_net_store(&peer, files, o->count, err);
}

/* --- one delivery --- */

static int64_t pause_ms(const struct mf_config *config, int64_t attempts)
{
    int64_t ms = config->outbox.retry_s * 1000;
    for (int64_t i = 0; i < attempts && ms < LAST_PAUSE_MS; i++)
        ms *= 2;
    return ms < LAST_PAUSE_MS ? ms : LAST_PAUSE_MS;
}

/* Whether another attempt may end otherwise. */
static bool may_pass(enum mf_code code)
{
    return code != MF_ERR_GONE && code != MF_ERR_NOT_FOUND && code != MF_ERR_MALFORMED &&
           code != MF_ERR_USAGE;
}

static bool send_objects(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                         struct mf_error *err)
{
    MF_AUTO(objects) struct objects *o = calloc(1, sizeof *o);
    if (!o)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a delivery");
    return make_objects(c, d, o, err) &&
           (is_web(d->destination) ? send_stow(c, d->destination, o, err)
                                   : send_dicom(c, d->destination, o, err));
}

bool mf_courier_deliver(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                        struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    bool ok = mf_courier_push_wants(d->destination)      ? mf_courier_push(c, d, &problem)
              : mf_courier_webhook_wants(d->destination) ? mf_courier_webhook(c, d, &problem)
                                                         : send_objects(c, d, &problem);
    bool again = !ok && may_pass(problem.code) && d->attempts + 1 < c->config->outbox.max_attempts;
    if (!mf_store_delivery_settle(c->store, d->id, ok ? NULL : &problem,
                                  again ? pause_ms(c->config, d->attempts) : 0, err))
        return false;
    return ok || mf_error_set(err, problem.code, "%s", problem.msg);
}

/* --- checking the configuration --- */

/* "TENANT=" may stand before the address. */
static const char *without_tenant(const char *entry)
{
    size_t name = strcspn(entry, "=:/");
    return entry[name] == '=' ? entry + name + 1 : entry;
}

static bool is_understood(const char *entry, const struct mf_fhir_client *fhir,
                          const struct mf_webhooks *webhooks)
{
    struct mf_dicom_address to;
    struct mf_mllp_peer peer;
    struct mf_error unknown = MF_ERROR_INIT;
    const char *address = without_tenant(entry);
    if (strncmp(address, "fhir:", 5) == 0)
        return mf_fhir_client_find(fhir, address + 5, &unknown) >= 0;
    if (mf_courier_webhook_wants(address))
        return mf_webhooks_find(webhooks, address + strlen("webhook:")) != NULL;
    return is_web(address) || mf_mllp_address(address, &peer) ||
           mf_dicom_address_parse(address, &to);
}

bool mf_courier_outbox_check(const struct mf_config *config, const struct mf_fhir_client *fhir,
                             const struct mf_webhooks *webhooks, struct mf_error *err)
{
    const char *at = config->outbox.destinations;
    if (strcmp(at, "off") == 0)
        return true;
    while (*(at += strspn(at, " "))) {
        char address[MF_DESTINATION];
        size_t len = strcspn(at, " ");
        snprintf(address, sizeof address, "%.*s", (int)len, at);
        if (!is_understood(address, fhir, webhooks))
            return mf_error_set(
                err, MF_ERR_USAGE,
                "outbox.destinations: \"%.100s\" is no http(s):// or dicom(s):// or "
                "mllp:// address, nor fhir:NAME of a server in fhir.servers or "
                "webhook:NAME of outbox.webhooks",
                address);
        struct mf_dicom_address to;
        if (mf_dicom_address_parse(without_tenant(address), &to) &&
            !mf_dicom_address_usable(&to, config))
            return mf_error_set(err, MF_ERR_USAGE,
                                "outbox.destinations: \"%.100s\" needs dimse.tls_ca", address);
        at += len;
    }
    return true;
}
