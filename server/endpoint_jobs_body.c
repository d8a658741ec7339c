/*
 * POST /v1/jobs until its body is whole: what can be refused is refused before a byte of it is
 * read, then parts stream into one pack while they are hashed.
 */
#include "server/endpoint_jobs_body.h"

#include "server/job_response.h"
#include "server/negotiate.h"

#include "core/clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_LATER_BYTES = 4 << 20 }; /* bodies up to this are hashed while a decoder reads them */

/* How old the last look at the queue may be to refuse by it. */
static const uint64_t QUEUE_SEEN_NS = 1000000000;

/* --- parts --- */

static bool add_input(struct mf_posted *u, const char *part, const struct mf_pack_member *member,
                      struct mf_error *err)
{
    if (u->input_count == u->input_capacity) {
        size_t capacity = u->input_capacity ? 2 * u->input_capacity : 16;
        struct mf_job_input *grown = realloc(u->inputs, capacity * sizeof *grown);
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        u->inputs = grown;
        u->input_capacity = capacity;
    }
    struct mf_job_input *in = &u->inputs[u->input_count++];
    *in = (struct mf_job_input){.part = part,
                                .kind = "blob",
                                .locator = mf_pack_name(u->pack),
                                .offset = member->offset,
                                .size = member->size};
    memcpy(in->sha256, member->sha256, sizeof in->sha256);
    return true;
}

bool mf_posted_part_begin(void *context, const char *name, struct mf_error *err)
{
    struct mf_posted *u = context;
    bool ehr = strcmp(name, "ehr") == 0, options = strcmp(name, "options") == 0;
    if (!ehr && !options && strcmp(name, "dicom") != 0)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "multipart body: parts are named dicom, ehr or options");
    if ((ehr && u->has_ehr) || (options && u->has_options))
        return mf_error_set(err, MF_ERR_UNUSABLE, "multipart body: more than one part \"%s\"",
                            name);
    if (u->input_count >= (size_t)u->request->services->config->http.max_parts)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "there are more than %zu parts", u->input_count);
    u->has_ehr = u->has_ehr || ehr;
    u->has_options = u->has_options || options;
    snprintf(u->part, sizeof u->part, "%s", name);
    u->part_bytes = 0;
    return mf_pack_begin(u->pack, err);
}

bool mf_posted_part_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    struct mf_posted *u = context;
    uint64_t max_ehr = (uint64_t)u->request->services->config->http.max_ehr_bytes;
    uint64_t max_total = (uint64_t)u->request->services->config->http.max_body_bytes;
    u->part_bytes += len;
    u->total_bytes += len;
    if (u->total_bytes > max_total)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the parts have more than %" PRIu64 " bytes",
                            max_total);
    if (u->part[0] == 'e' && u->part_bytes > max_ehr)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "part \"ehr\": more than %" PRIu64 " bytes",
                            max_ehr);
    if (u->part[0] == 'o' && !mf_buffer_append(&u->options, data, len, NULL))
        return mf_error_set(err, MF_ERR_TOO_LARGE, "part \"options\": more than %d bytes",
                            MF_POSTED_OPTIONS);
    return mf_pack_write(u->pack, data, len, err);
}

bool mf_posted_part_end(void *context, struct mf_error *err)
{
    struct mf_posted *u = context;
    const char *part = u->part[0] == 'e' ? "ehr" : u->part[0] == 'o' ? "options" : "dicom";
    return mf_pack_end(u->pack, &u->member, err) && add_input(u, part, &u->member, err);
}

/* --- begin: everything that can be refused before the body --- */

const struct mf_multipart_sink mf_posted_sink = {mf_posted_part_begin, mf_posted_part_data,
                                                 mf_posted_part_end};

static bool begin_body(struct mf_posted *u, struct mf_error *err)
{
    struct mf_request *request = u->request;
    const char *type = mf_request_header(request, "Content-Type");
    if (mf_media_type_is(type, "multipart/form-data")) {
        u->multipart = mf_multipart_new(type, (size_t)request->services->config->http.max_parts,
                                        &mf_posted_sink, u, err);
        return u->multipart != NULL;
    }
    if (mf_media_type_is(type, "application/zip"))
        return mf_posted_part_begin(u, "dicom", err);
    u->reference = mf_media_type_is(type, "application/json");
    return u->reference ||
           mf_error_set(err, MF_ERR_UNSUPPORTED,
                        "Content-Type must be multipart/form-data, application/zip or "
                        "application/json");
}

/* FNV-1a. */
uint64_t *mf_posted_full_slot(struct mf_services *s, const char *tenant)
{
    uint32_t hash = 2166136261u;
    for (; *tenant; tenant++)
        hash = (hash ^ (unsigned char)*tenant) * 16777619u;
    return &s->full_seen_ns[hash % MF_FULL_SLOTS];
}

static bool admit(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    struct mf_services *s = request->services;
    const struct mf_config *config = s->config;
    if (!mf_request_only_query(request, no_query, err))
        return false;
    if (__atomic_load_n(&s->draining, __ATOMIC_RELAXED))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the server is stopping");
    if (request->has_length && request->content_length > (uint64_t)config->http.max_body_bytes)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the body has more than %" PRId64 " bytes",
                            config->http.max_body_bytes);
    const uint64_t full =
        __atomic_load_n(mf_posted_full_slot(s, request->tenant), __ATOMIC_RELAXED);
    if (full > 0 && mf_clock_monotonic_ns() - full < QUEUE_SEEN_NS)
        return mf_error_set(err, MF_ERR_BUSY, "the queue is full; try again later");
    if (mf_request_wait_seconds(request) > 0 && !mf_result_acceptable(request, err))
        return false;
    return mf_blobs_have_room(s->blobs, request->content_length, err);
}

bool mf_posted_begin(struct mf_request *request, struct mf_error *err)
{
    const char *key = mf_request_header(request, "Idempotency-Key");
    if (!admit(request, err))
        return false;
    struct mf_posted *u = mf_arena_alloc(request->arena, 1, sizeof *u, err);
    if (!u)
        return false;
    mf_buffer_init(&u->options, MF_POSTED_OPTIONS);
    u->request = request;
    request->state = u;
    u->pack = mf_pack_new(request->services->blobs, err);
    if (!u->pack || !begin_body(u, err))
        return false;
    if (key && !mf_keys_reserve(request->services->keys, request->tenant, key, err))
        return false;
    u->key = key;
    u->unhashed =
        !u->reference && request->has_length && request->content_length <= HASH_LATER_BYTES;
    if (u->unhashed)
        mf_pack_hash_later(u->pack);
    return true;
}

bool mf_posted_data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    struct mf_posted *u = request->state;
    if (request->body_bytes > (uint64_t)request->services->config->http.max_body_bytes)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the body has more than %" PRId64 " bytes",
                            request->services->config->http.max_body_bytes);
    if (u->reference)
        return mf_buffer_append(&u->options, bytes, len, err);
    return u->multipart ? mf_multipart_feed(u->multipart, bytes, len, err)
                        : mf_posted_part_data(u, bytes, len, err);
}
