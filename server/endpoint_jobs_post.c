/*
 * POST /v1/jobs: an upload becomes a job.
 *
 * Parts stream into one pack while they are hashed (endpoint_jobs_body.c); then a decoder scans the
 * pack, while it is made durable, and the scan decides whether it can be run; then the job is
 * committed; only then the 202 (or, with `Prefer: wait`, the result). Whatever fails on the way
 * leaves neither a job nor a file, and does not use up the Idempotency-Key.
 */
#include "server/deidentify.h"
#include "server/endpoint_jobs_body.h"
#include "server/endpoints.h"
#include "server/fetch.h"
#include "server/fhir_pull.h"
#include "server/job_options.h"
#include "server/job_response.h"
#include "server/negotiate.h"

#include "core/clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INDEX_BYTES = 128 << 20 };

/* --- handle: from the whole body to a job --- */

/* The options of a body by reference, with its `ehr` among them, as if they had been a part. */
static bool keep_options(struct mf_posted *u, json_t *body, struct mf_error *err)
{
    json_t *options = json_object_get(body, "options"), *ehr = json_object_get(body, "ehr");
    mf_buffer_clear(&u->options);
    u->has_options = options || ehr;
    if (!u->has_options)
        return true;
    if (ehr && options && (!json_is_object(options) || json_object_get(options, "ehr")))
        return mf_error_set(err, MF_ERR_UNUSABLE, "body: \"ehr\" is named once, or not at all");
    MF_AUTO(mf_json) json_t *whole = options ? json_incref(options) : json_object();
    if (ehr && json_object_set(whole, "ehr", ehr) != 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for options");
    MF_AUTO(mf_mem) char *text = mf_json_text(whole, 0);
    return text ? mf_buffer_append_str(&u->options, text, err)
                : mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for options");
}

/* The body is {"study": {"source", "study_instance_uid", "priors"}, "ehr": {…}, "options": {…}}:
 * fetches the objects into the pack. */
static bool fetch(struct mf_posted *u, struct mf_error *err)
{
    static const struct mf_json_limits limits = {MF_POSTED_OPTIONS, 8};
    static const char *const keys[] = {"study", "ehr", "options", NULL};
    static const char *const study_keys[] = {"source", "study_instance_uid", "priors", NULL};
    MF_AUTO(mf_json)
    json_t *body =
        mf_json_parse(u->options.data ? u->options.data : "", u->options.len, &limits, "body", err);
    const json_t *study = body ? mf_json_need_object(body, "study", err) : NULL;
    if (!study || !mf_json_only_keys(body, keys, "body", MF_ERR_UNUSABLE, err) ||
        !mf_json_only_keys(study, study_keys, "study", MF_ERR_UNUSABLE, err))
        return false;
    const struct mf_services *s = u->request->services;
    struct mf_fetch wanted = {
        .config = s->config,
        .query = s->query,
        .registry = s->registry,
        .store = u->request->store,
        .blobs = s->blobs,
        .model = mf_json_get_string(json_object_get(body, "options"), "model", NULL),
        .tenant = u->request->tenant,
        .source = mf_json_get_string(study, "source", NULL),
        .study = mf_json_need_string(study, "study_instance_uid", err),
        .priors = mf_json_get_bool(study, "priors", true),
        .sink = &mf_posted_sink,
        .context = u};
    return wanted.study && mf_fetch_study(&wanted, err) && keep_options(u, body, err);
}

static bool end_body(struct mf_posted *u, struct mf_error *err)
{
    if (u->reference)
        return fetch(u, err);
    if (u->multipart ? !mf_multipart_finish(u->multipart, err) : !mf_posted_part_end(u, err))
        return false;
    for (size_t i = 0; i < u->input_count; i++)
        if (u->inputs[i].part[0] == 'd')
            return true;
    return mf_error_set(err, MF_ERR_UNUSABLE, "multipart body: there is no part \"dicom\"");
}

/* {"source", "patient" or "encounter", "as_of"}: the part "ehr" comes from a FHIR server. */
static bool pull(struct mf_posted *u, const json_t *ehr, const char *model, struct mf_error *err)
{
    static const char *const keys[] = {"source", "patient", "encounter", "as_of", NULL};
    const struct mf_services *s = u->request->services;
    const struct mf_fhir_pull from = {.client = s->fhir,
                                      .server = mf_json_get_string(ehr, "source", NULL),
                                      .patient = mf_json_get_string(ehr, "patient", NULL),
                                      .encounter = mf_json_get_string(ehr, "encounter", NULL),
                                      .as_of = mf_json_get_string(ehr, "as_of", NULL),
                                      .registry = s->registry,
                                      .model = model};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, (size_t)s->config->http.max_ehr_bytes);
    if (!json_is_object(ehr))
        return mf_error_set(err, MF_ERR_UNUSABLE, "\"ehr\" must be a JSON object");
    if (strcmp(u->request->tenant, MF_TENANT_DEFAULT) != 0) /* whose servers they are */
        return mf_error_set(err, MF_ERR_UNUSABLE, "this tenant has no FHIR server");
    if (!mf_json_only_keys(ehr, keys, "ehr", MF_ERR_UNUSABLE, err))
        return false;
    if (!from.patient == !from.encounter)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "\"ehr\" must name either a \"patient\" or an \"encounter\"");
    if (u->has_ehr)
        return mf_error_set(err, MF_ERR_UNUSABLE, "\"ehr\" is named beside a part \"ehr\"");
    u->pulled = true;
    return mf_fhir_pull(&from, &text, err) && mf_posted_part_begin(u, "ehr", err) &&
           mf_posted_part_data(u, text.data, text.len, err) && mf_posted_part_end(u, err);
}

/* `deidentify`: whether this upload is to be. */
static bool read_deidentify(struct mf_posted *u, json_t *options, struct mf_error *err)
{
    const json_t *value = json_object_get(options, "deidentify");
    if (value && !json_is_boolean(value))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "part \"options\": \"deidentify\" must be true or false");
    u->deidentify = json_is_true(value);
    json_object_del(options, "deidentify");
    return !u->deidentify || u->request->services->deidentify ||
           mf_error_set(err, MF_ERR_UNUSABLE,
                        "part \"options\": \"deidentify\" is not offered here (there is no "
                        "deidentify.secret_file)");
}

/* Takes `priority`, `deidentify` and `ehr` out of the options; the others are the pipeline's.
 * Returns the text of those. */
static const char *read_options(struct mf_posted *u, enum mf_priority *priority,
                                struct mf_error *err)
{
    const struct mf_json_limits limits = {MF_POSTED_OPTIONS, 8};
    *priority = MF_PRIORITY_ROUTINE;
    if (!u->has_options)
        return "{}";
    MF_AUTO(mf_json)
    json_t *options = mf_json_parse(u->options.data ? u->options.data : "", u->options.len, &limits,
                                    "part \"options\"", err);
    if (!options)
        return NULL;
    const json_t *value = json_object_get(options, "priority");
    if (!json_is_object(options)) {
        mf_error_set(err, MF_ERR_UNUSABLE, "part \"options\": must be a JSON object");
        return NULL;
    }
    if (value &&
        (!json_is_string(value) || !mf_priority_parse(json_string_value(value), priority))) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "part \"options\": \"priority\" must be stat, urgent or routine");
        return NULL;
    }
    u->has_priority = value != NULL;
    json_object_del(options, "priority");
    if (!read_deidentify(u, options, err) ||
        !mf_job_options_check(options, u->request->services->config, u->request->tenant, err))
        return NULL;
    const json_t *ehr = json_object_get(options, "ehr");
    if (ehr && !pull(u, ehr, mf_json_get_string(options, "model", NULL), err))
        return NULL;
    json_object_del(options, "ehr");
    MF_AUTO(mf_mem) char *text = mf_json_text(options, 0);
    if (!text) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for options");
        return NULL;
    }
    return mf_arena_strdup(u->request->arena, text, err);
}

/* Puts another pack in the place of the one that was received, where that is wished or configured.
 */
static bool deidentify(struct mf_posted *u, struct mf_error *err)
{
    const struct mf_services *s = u->request->services;
    if (!u->deidentify && !mf_deidentify_stores(s->config))
        return true;
    int fd = mf_pack_flush(u->pack, err);
    MF_AUTO(mf_pack) struct mf_pack *made = fd >= 0 ? mf_pack_new(s->blobs, err) : NULL;
    if (!made ||
        !mf_deidentify_upload(s->decoder, s->deidentify, fd, u->inputs, u->input_count, made, err))
        return false;
    mf_pack_free(u->pack);
    u->pack = MF_STEAL(made);
    u->unhashed = false;
    return true;
}

/* Route, then every part's name and content in order: never the raw body, whose boundary is random,
 * nor what was pulled, which differs from one time to the next. */
static bool fingerprint(const struct mf_posted *u, unsigned char out[MF_SHA256_BYTES],
                        struct mf_error *err)
{
    MF_AUTO(mf_sha256) struct mf_sha256 *hash = mf_sha256_new();
    if (!hash)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    mf_sha256_update(hash, "POST /v1/jobs", sizeof "POST /v1/jobs");
    if (u->reference && u->has_options)
        mf_sha256_update(hash, u->options.data, u->options.len);
    for (size_t i = 0; i < u->input_count; i++) {
        if (u->pulled && u->inputs[i].part[0] == 'e')
            continue;
        mf_sha256_update(hash, u->inputs[i].part, strlen(u->inputs[i].part) + 1);
        mf_sha256_update(hash, u->inputs[i].sha256, MF_SHA256_BYTES);
    }
    mf_sha256_final(hash, out);
    return true;
}

/* Makes the digests of a small upload's inputs, while a decoder reads them. */
static void hash_inputs(void *context)
{
    struct mf_posted *u = context;
    bool ok = true;
    for (size_t i = 0; ok && u->unhashed && i < u->input_count; i++)
        ok = mf_pack_hash(u->pack, u->inputs[i].offset, u->inputs[i].size, u->inputs[i].sha256,
                          &u->hash_error);
    u->unhashed = false;
}

static bool scan(struct mf_posted *u, const char *options, struct mf_scanned *ret,
                 struct mf_error *err)
{
    struct mf_services *services = u->request->services;
    struct mf_scan request = {.fd = mf_pack_flush(u->pack, err),
                              .inputs = u->inputs,
                              .input_count = u->input_count,
                              .options = options,
                              .options_len = strlen(options),
                              .tenant = u->request->tenant,
                              .ahead = __atomic_load_n(&services->queued, __ATOMIC_RELAXED) <=
                                       MF_STORE_FRAMES_AHEAD,
                              .meanwhile = hash_inputs,
                              .meanwhile_context = u};
    mf_pack_begin_sync(u->pack); /* it goes to the disk while a decoder reads it */
    if (request.fd < 0 || !services->scanner.scan(services->scanner.context, &request, ret, err))
        return false;
    hash_inputs(u); /* unless that is done */
    return u->hash_error.code == MF_OK ||
           mf_error_set(err, u->hash_error.code, "%s", u->hash_error.msg);
}

static void end_scan(struct mf_scanned *scanned)
{
    mf_buffer_free(&scanned->index);
    if (scanned->frames_ahead >= 0)
        close(scanned->frames_ahead);
}
MF_AUTO_DEFINE(scanned, struct mf_scanned, end_scan(p))

static void note_queue(const struct mf_request *request, int64_t queued, bool full)
{
    struct mf_services *s = request->services;
    __atomic_store_n(&s->queued, queued, __ATOMIC_RELAXED);
    __atomic_store_n(mf_posted_full_slot(s, request->tenant), full ? mf_clock_monotonic_ns() : 0,
                     __ATOMIC_RELAXED);
}

static bool commit(struct mf_posted *u, struct mf_submission *sub, struct mf_submitted *made,
                   struct mf_error *err)
{
    struct mf_request *request = u->request;
    sub->tenant = request->tenant;
    sub->inputs = u->inputs;
    sub->input_count = u->input_count;
    sub->idempotency_key = u->key;
    sub->max_queued = request->services->config->jobs.max_queued;
    mf_job_id_new(sub->id);
    struct mf_error refused = MF_ERROR_INIT;
    if (!mf_pack_sync(u->pack, &refused)) {
        if (refused.code == MF_ERR_IO) { /* what the kernel dropped is not known */
            __atomic_store_n(&request->services->draining, 1, __ATOMIC_RELAXED);
            request->services->stop();
        }
        return mf_error_set(err, refused.code, "%s", refused.msg);
    }
    if (!mf_store_submit(request->store, sub, made, &refused)) {
        if (refused.code == MF_ERR_BUSY)
            note_queue(request, sub->max_queued, true);
        else if (refused.code == MF_ERR_IO) /* it may be committed: the sweep decides later */
            mf_pack_keep(u->pack);
        return mf_error_set(err, refused.code, "%s", refused.msg);
    }
    note_queue(request, made->queued, made->full);
    if (!made->replayed)
        mf_pack_keep(u->pack);
    return true;
}

static bool respond_accepted(struct mf_request *request, const char *id, struct mf_error *err)
{
    struct mf_job job;
    return mf_store_job(request->store, request->tenant, id, &job, err) &&
           mf_respond_job(request, 202, &job, err);
}

/* The upload is a job now, or was refused: the key is free, files and memory are not needed any
 * more. */
static void end_upload(struct mf_request *request)
{
    struct mf_posted *u = request->state;
    if (!u)
        return;
    if (u->key)
        mf_keys_release(request->services->keys, request->tenant, u->key);
    mf_multipart_free(u->multipart);
    mf_pack_free(u->pack);
    mf_buffer_free(&u->options);
    free(u->inputs);
    request->state = NULL;
}

static bool make_job(struct mf_posted *u, struct mf_submitted *made, struct mf_error *err)
{
    struct mf_submission sub = {.options = NULL};
    MF_AUTO(scanned) struct mf_scanned scanned = {.model = "", .frames_ahead = -1};
    mf_buffer_init(&scanned.index, INDEX_BYTES);
    if (!end_body(u, err) || !(sub.options = read_options(u, &sub.priority, err)) ||
        !deidentify(u, err) || !scan(u, sub.options, &scanned, err) ||
        !fingerprint(u, sub.fingerprint, err))
        return false;
    if (!(sub.options = mf_job_options_route(sub.options, scanned.route, u->request->arena, err)))
        return false;
    if (scanned.route && scanned.route->has_priority && !u->has_priority)
        sub.priority = scanned.route->priority;
    sub.model = scanned.model[0] ? scanned.model : NULL;
    sub.index = scanned.index.data ? scanned.index.data : "";
    sub.index_len = scanned.index.len;
    sub.frames_ahead = scanned.frames_ahead;
    return commit(u, &sub, made, err);
}

static bool handle(struct mf_request *request, struct mf_error *err)
{
    struct mf_submitted made = {.replayed = false};
    bool ok = make_job(request->state, &made, err);
    end_upload(request); /* here, not on the event loop: it may wait for the disk */
    if (!ok)
        return false;
    int seconds = mf_request_wait_seconds(request);
    if (seconds == 0 || made.replayed)
        return respond_accepted(request, made.id, err);
    memcpy(request->wait_for, made.id, MF_JOB_ID);
    request->wait_plain = mf_result_plain(request);
    request->wait_until_ns = mf_clock_monotonic_ns() + (uint64_t)seconds * 1000000000;
    return true;
}

/* The wait is over: the result, the job's problem, or the 202 after all. */
static bool resume(struct mf_request *request, struct mf_error *err)
{
    MF_AUTO(mf_stored_result) struct mf_stored_result stored = {.job = {.state = MF_JOB_QUEUED}};
    const struct mf_job *job = &stored.job;
    if (!mf_stored_result_read(request, request->wait_for, &stored, err))
        return false;
    if (!mf_job_state_terminal(job->state))
        return mf_respond_job(request, 202, job, err);
    return mf_respond_field(request, err, "Preference-Applied", "wait=%d",
                            mf_request_wait_seconds(request)) &&
           (job->state != MF_JOB_SUCCEEDED ||
            mf_respond_field(request, err, "Content-Location", "/v1/jobs/%s/result", job->id)) &&
           mf_respond_result(request, &stored, true, err);
}

void mf_services_prepare(struct mf_services *services)
{
    if (services->scanner.prepare)
        services->scanner.prepare(services->scanner.context);
    mf_blobs_prepare(services->blobs);
}

const struct mf_endpoint mf_endpoint_jobs_post = {.method = "POST",
                                                  .pattern = "/v1/jobs",
                                                  .slow = true,
                                                  .begin = mf_posted_begin,
                                                  .data = mf_posted_data,
                                                  .handle = handle,
                                                  .resume = resume,
                                                  .dispose = end_upload,
                                                  .after = mf_services_prepare};
