/*
 * Courier: from inputs to a job. A decoder scans them as it would scan an upload, and the same code
 * judges the index (pipeline.h). Inputs that lie in more packs than a decoder takes descriptors of
 * are copied into one pack first.
 */
#include "server/courier_collect.h"

#include "server/fhir_pull.h"
#include "server/job_options.h"
#include "server/model_policy.h"
#include "server/pipeline.h"
#include "server/upload.h"

#include "core/file_range.h"
#include "core/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, INDEX_BYTES = 128 << 20, MAX_PACKS = MF_DECODER_MAX_FDS - 8 };

/* --- opening --- */

bool mf_courier_tools_open(struct mf_courier_tools *t, const struct mf_config *config,
                           const char *decoder_address, const char *query, struct mf_error *err)
{
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    *t = (struct mf_courier_tools){.config = config, .query = query};
    return (t->registry = mf_model_policy_open(config, NULL, err)) &&
           (t->routing = mf_routing_load(config->routing.rules, err)) &&
           (t->decoder = mf_decoder_new(decoder_address, 1, &limits, err)) &&
           (t->fhir = mf_fhir_client_new(config->fhir.servers, (int)config->fhir.timeout_s, err)) &&
           (t->blobs = mf_blobs_open_configured(config, 0, err)) &&
           (t->store = mf_store_connect(config->data.directory, PATIENCE_MS, err));
}

void mf_courier_tools_close(struct mf_courier_tools *t)
{
    mf_store_free(t->store);
    mf_blobs_free(t->blobs);
    mf_fhir_client_free(t->fhir);
    mf_decoder_free(t->decoder);
    mf_routing_free(t->routing);
    mf_registry_free(t->registry);
}

void mf_collection_init(struct mf_collection *l, const struct mf_courier_tools *tools,
                        const char *tenant, struct mf_arena *arena)
{
    *l = (struct mf_collection){.tools = tools, .tenant = tenant, .arena = arena, .ehr_fd = -1};
}

static void close_fds(struct mf_collection *l)
{
    while (l->fd_count > 0)
        close(l->fds[--l->fd_count]);
}

static void close_ehr(struct mf_collection *l)
{
    if (l->ehr_fd >= 0)
        close(l->ehr_fd);
    mf_pack_free(l->ehr);
    l->ehr = NULL;
    l->ehr_fd = -1;
}

void mf_collection_close(struct mf_collection *l)
{
    close_fds(l);
    close_ehr(l);
    while (l->pack_count > 0)
        mf_pack_free(l->packs[--l->pack_count]);
}

/* --- inputs --- */

bool mf_collection_add(struct mf_collection *l, const struct mf_job_input *input,
                       struct mf_error *err)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        struct mf_job_input *grown = mf_arena_alloc(l->arena, capacity, sizeof *grown, err);
        if (!grown)
            return false;
        if (l->count)
            memcpy(grown, l->inputs, l->count * sizeof *grown);
        l->inputs = grown;
        l->capacity = capacity;
    }
    l->inputs[l->count++] = *input;
    return true;
}

static struct mf_pack *new_pack(struct mf_collection *l, struct mf_error *err)
{
    if (l->pack_count == MF_COLLECTION_PACKS) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "the job is of too many studies");
        return NULL;
    }
    struct mf_pack *pack = mf_pack_new(l->tools->blobs, err);
    if (pack)
        l->packs[l->pack_count++] = pack;
    return pack;
}

/* --- what is fetched --- */

struct fetched {
    struct mf_collection *collection;
    struct mf_pack *pack;
    uint64_t bytes;
};

static bool object_begin(void *context, const char *name, struct mf_error *err)
{
    struct fetched *f = context;
    (void)name;
    if (f->collection->count >= (size_t)f->collection->tools->config->http.max_parts)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "there are more than %zu objects",
                            f->collection->count);
    return mf_pack_begin(f->pack, err);
}

static bool object_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    struct fetched *f = context;
    uint64_t most = (uint64_t)f->collection->tools->config->http.max_body_bytes;
    f->bytes += len;
    if (f->bytes > most)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the objects have more than %" PRIu64 " bytes",
                            most);
    return mf_pack_write(f->pack, data, len, err);
}

static bool object_end(void *context, struct mf_error *err)
{
    struct fetched *f = context;
    struct mf_pack_member place;
    if (!mf_pack_end(f->pack, &place, err))
        return false;
    struct mf_job_input input = {.part = "dicom",
                                 .kind = "blob",
                                 .locator = mf_pack_name(f->pack),
                                 .offset = place.offset,
                                 .size = place.size};
    memcpy(input.sha256, place.sha256, MF_SHA256_BYTES);
    return mf_collection_add(f->collection, &input, err);
}

bool mf_collection_fetch(struct mf_collection *l, struct mf_fetch *wanted,
                         bool (*fetch)(const struct mf_fetch *wanted, struct mf_error *err),
                         struct mf_error *err)
{
    static const struct mf_multipart_sink sink = {object_begin, object_data, object_end};
    size_t before = l->count;
    struct fetched to = {.collection = l, .pack = new_pack(l, err)};
    if (!to.pack)
        return false;
    wanted->sink = &sink;
    wanted->context = &to;
    if (fetch(wanted, err) && (l->count == before || mf_pack_sync(to.pack, err)))
        return true;
    l->count = before;
    mf_pack_free(l->packs[--l->pack_count]);
    return false;
}

/* --- where they lie --- */

/* The descriptor of a pack; −2: there are too many. */
static int need_pack(struct mf_collection *l, const char *locator, struct mf_error *err)
{
    for (size_t i = l->fd_count; i-- > 0;)
        if (strcmp(l->locators[i], locator) == 0)
            return l->fds[i];
    if (l->fd_count == MAX_PACKS)
        return -2;
    int fd = mf_blobs_open_pack(l->tools->blobs, locator, err);
    if (fd < 0)
        return -1;
    l->locators[l->fd_count] = locator;
    l->fds[l->fd_count++] = fd;
    return fd;
}

static bool write_piece(void *context, const void *piece, size_t len, struct mf_error *err)
{
    return mf_pack_write(context, piece, len, err);
}

static bool copy_input(int fd, const struct mf_job_input *from, struct mf_pack *to,
                       struct mf_error *err)
{
    const struct mf_file_range range = {"a stored instance", fd, from->offset, from->size};
    return mf_file_range_pieces(&range, write_piece, to, err);
}

/* Puts all inputs into one new pack. */
static bool compact(struct mf_collection *l, struct mf_error *err)
{
    close_fds(l);
    struct mf_pack *pack = new_pack(l, err);
    if (!pack)
        return false;
    for (size_t i = 0; i < l->count; i++) {
        struct mf_job_input *in = &l->inputs[i];
        struct mf_pack_member place;
        MF_AUTO(mf_fd) int fd = mf_blobs_open_pack(l->tools->blobs, in->locator, err);
        if (fd < 0 || !mf_pack_begin(pack, err) || !copy_input(fd, in, pack, err) ||
            !mf_pack_end(pack, &place, err))
            return false;
        in->locator = mf_pack_name(pack);
        in->offset = place.offset;
    }
    return mf_pack_sync(pack, err);
}

static bool open_packs(struct mf_collection *l, struct mf_error *err)
{
    for (size_t i = 0; i < l->count; i++) {
        int fd = need_pack(l, l->inputs[i].locator, err);
        if (fd == -1)
            return false;
        if (fd == -2)
            return compact(l, err) && open_packs(l, err);
    }
    return true;
}

/* A job refers to what its inputs lie in. */
static void keep_packs(struct mf_collection *l)
{
    for (size_t i = 0; i < l->pack_count; i++)
        for (size_t k = 0; k < l->count; k++)
            if (strcmp(mf_pack_name(l->packs[i]), l->inputs[k].locator) == 0) {
                mf_pack_keep(l->packs[i]);
                break;
            }
    if (l->ehr)
        mf_pack_keep(l->ehr);
}

/* --- what the FHIR server knows of the patient --- */

static bool write_ehr(struct mf_collection *l, const struct mf_buffer *text, struct mf_error *err)
{
    struct mf_pack_member place;
    if (!(l->ehr = mf_pack_new(l->tools->blobs, err)) || !mf_pack_begin(l->ehr, err) ||
        !mf_pack_write(l->ehr, text->data, text->len, err) || !mf_pack_end(l->ehr, &place, err) ||
        !mf_pack_sync(l->ehr, err) ||
        (l->ehr_fd = mf_blobs_open_pack(l->tools->blobs, mf_pack_name(l->ehr), err)) < 0)
        return false;
    l->ehr_input = (struct mf_job_input){.part = "ehr",
                                         .kind = "blob",
                                         .locator = mf_pack_name(l->ehr),
                                         .offset = place.offset,
                                         .size = place.size};
    memcpy(l->ehr_input.sha256, place.sha256, MF_SHA256_BYTES);
    return true;
}

static void forget_ehr(struct mf_collection *l, const char *reason)
{
    mf_log(MF_LOG_WARN, "study.ehr_failed", MF_LOG_S("reason", reason));
    close_ehr(l);
}

void mf_collection_ask_fhir(struct mf_collection *l, const char *patient_id)
{
    const char *source = l->tools->config->fhir.source;
    struct mf_error problem = MF_ERROR_INIT;
    const struct mf_fhir_pull pull = {.client = l->tools->fhir,
                                      .server = source,
                                      .patient_id = patient_id,
                                      .registry = l->tools->registry};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, (size_t)l->tools->config->http.max_ehr_bytes);
    if (strcmp(source, "off") != 0 && patient_id &&
        (!mf_fhir_pull(&pull, &text, &problem) || !write_ehr(l, &text, &problem)))
        forget_ehr(l, problem.msg);
}

/* --- judging and submitting --- */

/* Scans the first `count` inputs and decides how they will be run. */
static bool judge(struct mf_collection *l, const struct mf_job_wish *w, size_t count,
                  struct mf_buffer *index, struct mf_acceptance *ret, struct mf_error *err)
{
    struct mf_pipeline_options options;
    struct mf_part *parts = mf_arena_alloc(l->arena, count + 2, sizeof *parts, err);
    if (!parts || !mf_pipeline_options_parse(w->options, strlen(w->options), &options, err))
        return false;
    size_t n = count;
    const struct mf_route_origin origin = {.tenant = l->tenant,
                                           .calling =
                                               w->titles.calling[0] ? w->titles.calling : NULL,
                                           .called = w->titles.called[0] ? w->titles.called : NULL};
    options.identity = &l->tools->config->ehr;
    options.routing = l->tools->routing;
    options.origin = &origin;
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct mf_part){MF_PART_DICOM, need_pack(l, l->inputs[i].locator, err),
                                    l->inputs[i].offset, l->inputs[i].size};
    if (l->ehr)
        parts[n++] =
            (struct mf_part){MF_PART_EHR, l->ehr_fd, l->ehr_input.offset, l->ehr_input.size};
    mf_buffer_clear(index);
    if (!mf_decoder_scan(l->tools->decoder, parts, n, index, err) ||
        !mf_pipeline_accept(l->tools->registry, index->data ? index->data : "", index->len,
                            &options, ret, NULL, err))
        return false;
    return !w->study || strcmp(ret->study_instance_uid, w->study) == 0 ||
           mf_error_set(err, MF_ERR_UNUSABLE, "the study has no usable image, a prior has");
}

bool mf_collection_may_pass(enum mf_code code)
{
    return code == MF_ERR_IO || code == MF_ERR_UNAVAILABLE || code == MF_ERR_NO_MEMORY;
}

/* With the priors, or without them when they are what cannot be used. */
static bool judge_twice(struct mf_collection *l, const struct mf_job_wish *w,
                        struct mf_buffer *index, struct mf_acceptance *ret, struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    if (judge(l, w, l->count, index, ret, &first))
        return true;
    if (l->count == l->current || mf_collection_may_pass(first.code))
        return mf_error_set(err, first.code, "%s", first.msg);
    l->count = l->current;
    return judge(l, w, l->count, index, ret, err);
}

/* With the FHIR server's data, or without when that cannot be used (it is of another patient). */
static bool judge_all(struct mf_collection *l, const struct mf_job_wish *w, struct mf_buffer *index,
                      struct mf_acceptance *ret, struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    size_t count = l->count;
    if (!l->ehr)
        return judge_twice(l, w, index, ret, err);
    if (judge_twice(l, w, index, ret, &first))
        return true;
    if (mf_collection_may_pass(first.code))
        return mf_error_set(err, first.code, "%s", first.msg);
    forget_ehr(l, first.msg);
    l->count = count;
    return judge_twice(l, w, index, ret, err);
}

static enum mf_priority priority_of(const struct mf_job_wish *w, const struct mf_route *route)
{
    return w->priority                    ? *w->priority
           : route && route->has_priority ? route->priority
                                          : MF_PRIORITY_ROUTINE;
}

static bool submit(struct mf_collection *l, const struct mf_job_wish *w,
                   const struct mf_buffer *index, const struct mf_acceptance *accepted,
                   struct mf_submitted *ret, struct mf_error *err)
{
    struct mf_submission sub = {
        .tenant = l->tenant,
        .priority = priority_of(w, accepted->route),
        .model = accepted->model,
        .options = mf_job_options_route(w->options, accepted->route, l->arena, err),
        .index = index->data ? index->data : "",
        .index_len = index->len,
        .idempotency_key = w->key,
        .max_queued = l->tools->config->jobs.max_queued};
    if (!sub.options || (l->ehr && !mf_collection_add(l, &l->ehr_input, err)))
        return false;
    sub.inputs = l->inputs;
    sub.input_count = l->count;
    mf_job_id_new(sub.id);
    mf_sha256(w->key, strlen(w->key), sub.fingerprint);
    struct mf_error refused = MF_ERROR_INIT;
    bool made = mf_store_submit(l->tools->store, &sub, ret, &refused);
    /* IO: it may be committed, the sweep decides later */
    if (made ? !ret->replayed : refused.code == MF_ERR_IO)
        keep_packs(l);
    return made || mf_error_set(err, refused.code, "%s", refused.msg);
}

/* Whether the study that will be reported is of the patient that it is meant to be of. */
static bool check_patient(const struct mf_job_wish *w, const struct mf_buffer *index,
                          const struct mf_acceptance *accepted, struct mf_error *err)
{
    MF_AUTO(mf_upload) struct mf_upload upload = {.index = NULL};
    if (!w->patient || !w->patient[0])
        return true;
    if (!mf_upload_parse(index->data, index->len, MF_UPLOAD_WITHOUT_EHR, &upload, err))
        return false;
    for (size_t i = 0; i < upload.index->object_count; i++) {
        const struct mf_index_object *o = &upload.index->objects[i];
        if (o->study_instance_uid &&
            strcmp(o->study_instance_uid, accepted->study_instance_uid) == 0 &&
            (!o->patient_id || strcmp(o->patient_id, w->patient) != 0))
            return mf_error_set(err, MF_ERR_UNUSABLE, "the study is of another patient");
    }
    return true;
}

bool mf_collection_submit(struct mf_collection *l, const struct mf_job_wish *wish,
                          struct mf_submitted *ret, struct mf_error *err)
{
    struct mf_acceptance acceptance = {.route = NULL};
    MF_AUTO(mf_buffer) struct mf_buffer index;
    mf_buffer_init(&index, INDEX_BYTES);
    return open_packs(l, err) && judge_all(l, wish, &index, &acceptance, err) &&
           check_patient(wish, &index, &acceptance, err) &&
           submit(l, wish, &index, &acceptance, ret, err);
}
