/*
 * POST /dicom-web/studies[/{study}]: STOW-RS (PS3.18 10.5).
 *
 * Parts stream into one pack, and are hashed behind it; a decoder says what each object is while
 * the pack is made durable; then all that can be stored is committed in one transaction, and only
 * then answered: 200 all stored, 202 some, 409 none. The response names each object with its
 * address or its failure reason. The 128 bytes of preamble are not kept: they may hold another
 * format's program.
 */
#include "server/access.h"
#include "server/deidentify.h"
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/multipart.h"
#include "server/negotiate.h"
#include "server/services.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    PREAMBLE = 128,
    HEAD = PREAMBLE + 4,
    TAG_SOP_CLASS = 0x00081150,
    TAG_SOP_INSTANCE = 0x00081155,
    TAG_RETRIEVE_URL = 0x00081190,
    TAG_FAILURE_REASON = 0x00081197,
    TAG_FAILED = 0x00081198,
    TAG_STORED = 0x00081199
};

static const char *const OFFERS[] = {MF_DICOM_JSON};

struct upload {
    struct mf_request *request;
    const char *study; /* of the path, or NULL */
    struct mf_multipart *multipart;
    struct mf_pack *pack;
    struct mf_intake_item *items;
    size_t count, capacity;
    unsigned char head[HEAD]; /* the first bytes of the part, until there are enough to judge */
    size_t head_len;
};

/* --- parts --- */

static bool part_begin(void *context, const char *type, struct mf_error *err)
{
    struct upload *u = context;
    if (*type && !mf_media_type_is(type, "application/dicom"))
        return mf_error_set(err, MF_ERR_UNSUPPORTED,
                            "multipart body: parts must be application/dicom");
    u->head_len = 0;
    return mf_pack_begin(u->pack, err);
}

/* Clears the preamble; file meta information without one (some clients leave it out) gets it. */
static bool write_head(struct upload *u, struct mf_error *err)
{
    static const char missing[HEAD + 1] = {[PREAMBLE] = 'D', 'I', 'C', 'M'};
    if (u->head_len == HEAD && memcmp(u->head + PREAMBLE, "DICM", 4) == 0)
        memset(u->head, 0, PREAMBLE);
    else if (u->head_len >= 4 && memcmp(u->head, "\2\0", 2) == 0 &&
             !mf_pack_write(u->pack, missing, HEAD, err))
        return false;
    return mf_pack_write(u->pack, u->head, u->head_len, err);
}

static bool part_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    struct upload *u = context;
    size_t n = HEAD - u->head_len < len ? HEAD - u->head_len : len;
    if (n > 0) {
        memcpy(u->head + u->head_len, data, n);
        u->head_len += n;
        if (u->head_len == HEAD && !write_head(u, err))
            return false;
    }
    return n == len || mf_pack_write(u->pack, (const char *)data + n, len - n, err);
}

static bool part_end(void *context, struct mf_error *err)
{
    struct upload *u = context;
    if (u->head_len < HEAD && !write_head(u, err))
        return false;
    if (u->count == u->capacity) {
        size_t capacity = u->capacity ? 2 * u->capacity : 16;
        struct mf_intake_item *grown = realloc(u->items, capacity * sizeof *grown);
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        u->items = grown;
        u->capacity = capacity;
    }
    u->items[u->count] = (struct mf_intake_item){.status = MF_DICOM_SUCCESS};
    return mf_pack_end(u->pack, &u->items[u->count++].place, err);
}

/* --- begin --- */

static bool admit(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    struct mf_services *s = request->services;
    int64_t most = s->config->http.max_body_bytes;
    if (!mf_request_only_query(request, no_query, err) ||
        mf_dicomweb_accept(request, OFFERS, 1, err) < 0)
        return false;
    if (__atomic_load_n(&s->draining, __ATOMIC_RELAXED))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the server is stopping");
    if (request->has_length && request->content_length > (uint64_t)most)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the body has more than %" PRId64 " bytes",
                            most);
    return mf_blobs_have_room(s->blobs, request->content_length, err);
}

static bool open_multipart(struct upload *u, struct mf_error *err)
{
    static const struct mf_multipart_sink sink = {part_begin, part_data, part_end};
    const char *content = mf_request_header(u->request, "Content-Type");
    char type[64] = "application/dicom";
    if (!mf_media_type_is(content, "multipart/related"))
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "Content-Type must be multipart/related");
    (void)mf_multipart_parameter(content, "type", type, sizeof type);
    if (strcasecmp(type, "application/dicom") != 0)
        return mf_error_set(err, MF_ERR_UNSUPPORTED,
                            "Content-Type: the type of multipart/related must be "
                            "application/dicom");
    u->multipart = mf_multipart_new(content, (size_t)u->request->services->config->http.max_parts,
                                    &sink, u, err);
    return u->multipart != NULL;
}

static bool begin(struct mf_request *request, struct mf_error *err)
{
    const char *study = request->parameters[0];
    if (study && !mf_dicomweb_uid(request, 0, "study", err))
        return false;
    if (!admit(request, err))
        return false;
    struct upload *u = mf_arena_alloc(request->arena, 1, sizeof *u, err);
    if (!u)
        return false;
    u->request = request;
    u->study = study;
    request->state = u;
    u->pack = mf_pack_new(request->services->blobs, err);
    if (!u->pack)
        return false;
    mf_pack_hash_apart(u->pack); /* the event loop has enough to do */
    return open_multipart(u, err);
}

static bool data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    struct upload *u = request->state;
    int64_t most = request->services->config->http.max_body_bytes;
    if (request->body_bytes > (uint64_t)most)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the body has more than %" PRId64 " bytes",
                            most);
    return mf_multipart_feed(u->multipart, bytes, len, err);
}

/* --- storing --- */

/* Objects of another study than the path's are not stored (PS3.18 10.5.1.2). */
static void check_study(struct upload *u)
{
    for (size_t i = 0; u->study && i < u->count; i++) {
        struct mf_intake_item *item = &u->items[i];
        if (item->status != MF_DICOM_SUCCESS ||
            strcmp(item->description.instance.values[MF_STUDY_UID], u->study) == 0)
            continue;
        mf_error_set(&item->description.problem, MF_ERR_UNUSABLE,
                     "it belongs to another study than the path names");
        item->status = MF_DICOM_MISMATCH;
    }
}

static bool any_storable(const struct upload *u)
{
    for (size_t i = 0; i < u->count; i++)
        if (u->items[i].status == MF_DICOM_SUCCESS)
            return true;
    return false;
}

static bool make_durable(struct upload *u, struct mf_error *err)
{
    struct mf_services *s = u->request->services;
    struct mf_error refused = MF_ERROR_INIT;
    if (mf_pack_sync(u->pack, &refused))
        return true;
    if (refused.code == MF_ERR_IO) { /* what the kernel dropped is not known */
        __atomic_store_n(&s->draining, 1, __ATOMIC_RELAXED);
        s->stop();
    }
    return mf_error_set(err, refused.code, "%s", refused.msg);
}

/* Who sends it: the principal, or whoever may use the tenant when nobody has to authenticate. */
static const char *sender(struct mf_request *request, struct mf_error *err)
{
    if (!request->principal)
        return request->tenant;
    const size_t size = MF_TENANT + MF_PRINCIPAL + 1;
    char *text = mf_arena_alloc(request->arena, size, 1, err);
    if (text)
        snprintf(text, size, "%s/%s", request->tenant, request->principal->name);
    return text;
}

static bool take_digests(struct upload *u, struct mf_error *err)
{
    for (size_t i = 0; i < u->count; i++)
        if (!mf_pack_digest(u->pack, i, u->items[i].place.sha256, err))
            return false;
    return true;
}

static bool store_all(struct upload *u, struct mf_error *err)
{
    struct mf_request *request = u->request;
    struct mf_intake intake = {.describer = request->services->describer,
                               .blobs = request->services->blobs,
                               .store = request->store,
                               .tenant = request->tenant,
                               .source = "stow",
                               .sender = sender(request, err),
                               .quiet_ms = request->services->config->intake.quiet_s * 1000};
    if (mf_deidentify_stores(request->services->config)) {
        intake.deidentify = request->services->deidentify;
        intake.decoder = request->services->decoder;
    }
    if (!intake.sender || !mf_multipart_finish(u->multipart, err))
        return false;
    if (u->count == 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "multipart body: it has no parts");
    int fd = mf_pack_flush(u->pack, err);
    mf_pack_begin_sync(u->pack); /* it goes to the disk while a decoder reads it */
    if (fd < 0 || !mf_intake_describe(&intake, fd, u->items, u->count, request->arena, err) ||
        !take_digests(u, err))
        return false;
    check_study(u);
    if (!any_storable(u))
        return true;
    struct mf_error refused = MF_ERROR_INIT;
    bool kept = false;
    bool ok = make_durable(u, err) &&
              mf_intake_commit(&intake, mf_pack_name(u->pack), u->items, u->count, &kept, &refused);
    if (kept || refused.code == MF_ERR_IO) /* IO: it may be committed, the sweep decides later */
        mf_pack_keep(u->pack);
    return ok || mf_error_set(err, refused.code, "%s", refused.msg);
}

/* --- the answer --- */

static json_t *reference(struct mf_request *request, const struct mf_intake_item *item)
{
    json_t *object = json_object();
    const char *const *v = item->description.instance.values;
    bool ok = object != NULL;
    if (ok && v[MF_SOP_CLASS_UID])
        ok = mf_dicom_json_text(object, TAG_SOP_CLASS, "UI", v[MF_SOP_CLASS_UID]) &&
             mf_dicom_json_text(object, TAG_SOP_INSTANCE, "UI", v[MF_SOP_INSTANCE_UID]);
    if (ok && item->status != MF_DICOM_SUCCESS) {
        ok = mf_dicom_json_int(object, TAG_FAILURE_REASON, "US", item->status);
    } else if (ok && !mf_deidentify_stores(request->services->config)) {
        const char *url = mf_dicomweb_url(request, v[MF_STUDY_UID], v[MF_SERIES_UID],
                                          v[MF_SOP_INSTANCE_UID], NULL);
        ok = url && mf_dicom_json_text(object, TAG_RETRIEVE_URL, "UR", url);
    }
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}

/* The study that all stored objects belong to; NULL when they are of several. */
static const char *only_study(const struct upload *u)
{
    const char *study = NULL;
    for (size_t i = 0; i < u->count; i++) {
        const char *uid = u->items[i].description.instance.values[MF_STUDY_UID];
        if (u->items[i].status != MF_DICOM_SUCCESS)
            continue;
        if (study && strcmp(study, uid) != 0)
            return NULL;
        study = uid;
    }
    return study;
}

static json_t *answer(struct upload *u, const char *study, size_t *ret_stored)
{
    MF_AUTO(mf_json) json_t *stored = json_array();
    MF_AUTO(mf_json) json_t *failed = json_array();
    MF_AUTO(mf_json) json_t *body = json_object();
    bool ok = stored && failed && body;
    for (size_t i = 0; ok && i < u->count; i++) {
        bool success = u->items[i].status == MF_DICOM_SUCCESS;
        ok = json_array_append_new(success ? stored : failed,
                                   reference(u->request, &u->items[i])) == 0;
    }
    *ret_stored = json_array_size(stored);
    if (ok && study && !mf_deidentify_stores(u->request->services->config)) {
        const char *url = mf_dicomweb_url(u->request, study, NULL, NULL, NULL);
        ok = url && mf_dicom_json_text(body, TAG_RETRIEVE_URL, "UR", url);
    }
    ok = ok &&
         (json_array_size(failed) == 0 || mf_dicom_json_items(body, TAG_FAILED, MF_STEAL(failed)));
    ok = ok &&
         (json_array_size(stored) == 0 || mf_dicom_json_items(body, TAG_STORED, MF_STEAL(stored)));
    return ok ? MF_STEAL(body) : NULL;
}

/* Why the first object failed, in words (RFC 7234 5.5). */
static bool warn(struct mf_request *request, size_t part, const char *reason, struct mf_error *err)
{
    char text[sizeof((struct mf_error *)0)->msg];
    size_t n = 0;
    for (const char *s = reason; *s; s++)
        if (*s >= ' ' && *s < 127 && *s != '"' && *s != '\\')
            text[n++] = *s;
    text[n] = '\0';
    return mf_respond_field(request, err, "Warning", "299 medfusion \"part %zu: %s\"", part, text);
}

static bool respond(struct upload *u, struct mf_error *err)
{
    struct mf_request *request = u->request;
    const char *study = only_study(u);
    size_t stored = 0;
    json_t *body = answer(u, study, &stored);
    int status = stored == u->count ? 200 : stored > 0 ? 202 : 409;
    if (!mf_respond_json_take(request, status, MF_DICOM_JSON, body, err))
        return false;
    for (size_t i = 0; i < u->count; i++)
        if (u->items[i].status != MF_DICOM_SUCCESS)
            return warn(request, i + 1, u->items[i].description.problem.msg, err);
    return !study ||
           mf_respond_field(request, err, "Link", "</v1/studies/%s>; rel=\"monitor\"", study);
}

static void end_upload(struct mf_request *request)
{
    struct upload *u = request->state;
    if (!u)
        return;
    mf_multipart_free(u->multipart);
    mf_pack_free(u->pack);
    free(u->items);
    request->state = NULL;
}

static bool handle(struct mf_request *request, struct mf_error *err)
{
    struct upload *u = request->state;
    bool ok = store_all(u, err) && respond(u, err);
    end_upload(request); /* here, not on the event loop: it may wait for the disk */
    return ok;
}

const struct mf_endpoint mf_endpoint_stow = {.method = "POST",
                                             .pattern = MF_DICOMWEB_ROOT "/studies",
                                             .slow = true,
                                             .begin = begin,
                                             .data = data,
                                             .handle = handle,
                                             .dispose = end_upload,
                                             .after = mf_services_prepare};
const struct mf_endpoint mf_endpoint_stow_study = {.method = "POST",
                                                   .pattern = MF_DICOMWEB_ROOT "/studies/{study}",
                                                   .slow = true,
                                                   .begin = begin,
                                                   .data = data,
                                                   .handle = handle,
                                                   .dispose = end_upload,
                                                   .after = mf_services_prepare};
