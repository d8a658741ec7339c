/*
 * Courier: one delivery. STOW-RS looks into the FailedSOPSequence whatever the status says, for
 * there are servers that answer 200 to a partial failure.
 */
#include "server/courier_outbox.h"

#include "server/artifacts.h"
#include "server/courier_commit.h"
#include "server/courier_here.h"
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
    MAX_OBJECTS = MF_COURIER_OBJECTS,
    PATIENCE_MS = 10000,
    LAST_PAUSE_MS = 3600000
};

static const char BOUNDARY_HEAD[] = "--%s\r\nContent-Type: application/dicom\r\n\r\n";

/* The objects of one result. */
struct objects {
    struct mf_buffer files[MAX_OBJECTS];
    struct mf_courier_object names[MAX_OBJECTS];
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

/* --- opening --- */

bool mf_courier_outbox_open(struct mf_courier_outbox *c, const struct mf_config *config,
                            const char *decoder_address, struct mf_error *err)
{
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    *c = (struct mf_courier_outbox){.config = config};
    if (!(c->decoder = mf_decoder_new(decoder_address, 1, &limits, err)) ||
        !(c->blobs = mf_blobs_open_configured(config, 0, err)) ||
        !(c->fhir = mf_fhir_client_new(config->fhir.servers, (int)config->outbox.timeout_s, err)) ||
        !(c->webhooks = mf_webhooks_load(config->outbox.webhooks, err)) ||
        !mf_deidentify_configure(config, &c->deidentify, err) ||
        !(c->store = mf_store_connect(config->data.directory, PATIENCE_MS, err)))
        return false;
    c->deidentify.content = true; /* our own reports: written by us, word for word */
    return true;
}

void mf_courier_outbox_close(struct mf_courier_outbox *c)
{
    mf_store_free(c->store);
    mf_webhooks_free(c->webhooks);
    mf_fhir_client_free(c->fhir);
    mf_blobs_free(c->blobs);
    mf_decoder_free(c->decoder);
}

/* --- making --- */

/* The object, and what it is called from now on. */
static bool deidentify(const struct mf_courier_outbox *c, struct mf_buffer *file,
                       struct mf_courier_object *name, struct mf_error *err)
{
    char *const uids[] = {name->study, name->series, name->sop_instance};
    if (!mf_deidentify_buffer(c->decoder, &c->deidentify, file, err))
        return false;
    for (size_t i = 0; i < sizeof uids / sizeof *uids; i++) {
        char uid[MF_DEIDENTIFY_UID];
        if (!mf_deidentify_uid(&c->deidentify, uids[i], uid))
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        snprintf(uids[i], sizeof name->study, "%s", uid);
    }
    return true;
}

static struct mf_courier_object name_of(const struct mf_job_artifacts *a,
                                        const struct mf_write_item *item)
{
    struct mf_courier_object name;
    const char *study =
        mf_json_get_string(json_object_get(a->result, "study"), "study_instance_uid", "");
    snprintf(name.study, sizeof name.study, "%s", study);
    snprintf(name.series, sizeof name.series, "%s", item->series_instance_uid);
    snprintf(name.sop_class, sizeof name.sop_class, "%s", item->sop_class_uid);
    snprintf(name.sop_instance, sizeof name.sop_instance, "%s", item->sop_instance_uid);
    return name;
}

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
        ret->names[i] = name_of(&a, &items[i]);
        struct mf_buffer *file = &ret->files[ret->count++];
        mf_buffer_init(file, OBJECT_BYTES);
        if (!mf_artifact_make(a.set, &items[i], &a.images, file, err))
            return mf_error_prefix(err, "%s", items[i].name);
        if (mf_deidentify_wants(c->config, d->destination) &&
            !deidentify(c, file, &ret->names[i], err))
            return mf_error_prefix(err, "%s: de-identification", items[i].name);
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

static const char COMMIT[] = "commit"; /* of an address, "?commit" */

static bool send_dicom(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                       const struct objects *o, bool *ret_waiting, struct mf_error *err)
{
    struct mf_dicom_address to;
    struct mf_net_file files[MAX_OBJECTS];
    struct mf_commitment_item items[MAX_OBJECTS];
    bool commit;
    if (!mf_dicom_address_parse_with(d->destination, COMMIT, &to, &commit))
        return mf_error_set(err, MF_ERR_USAGE,
                            "outbox.destinations: an address is neither http(s)://host/path nor "
                            "dicom(s)://AE@host:port[?commit]");
    const struct mf_net_peer peer =
        mf_dicom_address_peer(&to, c->config, c->config->outbox.timeout_s);
    for (size_t i = 0; i < o->count; i++) {
        files[i] = (struct mf_net_file){o->files[i].data, o->files[i].len};
        items[i] = (struct mf_commitment_item){o->names[i].sop_class, o->names[i].sop_instance, 0};
    }
    return mf_net_store(&peer, files, o->count, err) &&
           (!commit || mf_courier_commit(c, d, &peer, items, o->count, ret_waiting, err));
}

/* --- one delivery --- */

static int64_t pause_ms(const struct mf_config *config, int64_t attempts)
{
    int64_t ms = config->outbox.retry_s * 1000;
    for (int64_t i = 0; i < attempts && ms < LAST_PAUSE_MS; i++)
        ms *= 2;
    return ms < LAST_PAUSE_MS ? ms : LAST_PAUSE_MS;
}

bool mf_courier_may_pass(enum mf_code code)
{
    return code != MF_ERR_GONE && code != MF_ERR_NOT_FOUND && code != MF_ERR_MALFORMED &&
           code != MF_ERR_USAGE;
}

static bool send_made(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                      const struct objects *o, bool *ret_waiting, struct mf_error *err)
{
    return mf_courier_here_wants(d->destination)
               ? mf_courier_here(c, d->tenant, o->files, o->count, err)
           : is_web(d->destination) ? send_stow(c, d->destination, o, err)
                                    : send_dicom(c, d, o, ret_waiting, err);
}

static bool send_objects(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                         bool *ret_waiting, struct mf_error *err)
{
    MF_AUTO(objects) struct objects *o = calloc(1, sizeof *o);
    if (!o)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a delivery");
    return make_objects(c, d, o, err) && send_made(c, d, o, ret_waiting, err);
}

bool mf_courier_send(const struct mf_courier_outbox *c, const char *tenant, const char *job,
                     const char *address, struct mf_courier_object *ret, size_t *ret_count,
                     struct mf_error *err)
{
    struct mf_delivery d = {.id = 0};
    bool waiting = false;
    MF_AUTO(objects) struct objects *o = calloc(1, sizeof *o);
    if (!o)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a delivery");
    snprintf(d.tenant, sizeof d.tenant, "%s", tenant);
    snprintf(d.job, sizeof d.job, "%s", job);
    snprintf(d.destination, sizeof d.destination, "%s", address);
    if (!make_objects(c, &d, o, err) || !send_made(c, &d, o, &waiting, err))
        return false;
    memcpy(ret, o->names, o->count * sizeof *ret);
    *ret_count = o->count;
    return true;
}

bool mf_courier_deliver(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                        bool *ret_waiting, struct mf_error *err)
{
    *ret_waiting = false;
    struct mf_error problem = MF_ERROR_INIT;
    bool ok = mf_courier_push_wants(d->destination) ? mf_courier_push(c, d, &problem)
              : mf_courier_webhook_wants(d->destination)
                  ? mf_courier_webhook(c, d, &problem)
                  : send_objects(c, d, ret_waiting, &problem);
    if (ok && *ret_waiting)
        return true;
    bool again = !ok && mf_courier_may_pass(problem.code) &&
                 d->attempts + 1 < c->config->outbox.max_attempts;
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
    bool commit;
    struct mf_mllp_peer peer;
    struct mf_error unknown = MF_ERROR_INIT;
    const char *address = without_tenant(entry);
    if (strncmp(address, "fhir:", 5) == 0)
        return mf_fhir_client_find(fhir, address + 5, &unknown) >= 0;
    if (mf_courier_webhook_wants(address))
        return mf_webhooks_find(webhooks, address + strlen("webhook:")) != NULL;
    return mf_courier_here_wants(address) || is_web(address) || mf_mllp_address(address, &peer) ||
           mf_dicom_address_parse_with(address, COMMIT, &to, &commit);
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
        bool commit;
        if (mf_dicom_address_parse_with(without_tenant(address), COMMIT, &to, &commit) &&
            !mf_dicom_address_usable(&to, config))
            return mf_error_set(err, MF_ERR_USAGE,
                                "outbox.destinations: \"%.100s\" needs dimse.tls_ca", address);
        at += len;
    }
    return true;
}
