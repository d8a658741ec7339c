/*
 * Courier: from a stored study to a job. A decoder scans the stored objects as it would scan an
 * upload, and the same code judges the index (pipeline.h). Objects that lie in more packs than a
 * decoder takes descriptors of are copied into one pack first.
 */
#include "server/courier_study.h"

#include "server/fhir_pull.h"
#include "server/pipeline.h"

#include "core/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    INDEX_BYTES = 128 << 20,
    ARENA_BYTES = 256 << 20,
    MAX_PRIORS = 31,
    MAX_PACKS = MF_DECODER_MAX_FDS - 8,
    COPY_BYTES = 256 << 10,
    BUSY_RETRY_MS = 5000
};

/* The inputs of the job to be. */
struct collection {
    const struct mf_courier_study *c;
    struct mf_arena *arena;
    struct mf_job_input *inputs;
    size_t count, capacity;
    const char *study; /* its UID */
    size_t current;    /* so many inputs are of the study itself */
    struct mf_pack *copy;
    struct mf_pack *ehr; /* what the FHIR server gave; NULL = nothing */
    struct mf_job_input ehr_input;
    int ehr_fd;
    const char *locators[MF_DECODER_MAX_FDS];
    int fds[MF_DECODER_MAX_FDS];
    size_t fd_count;
};

/* --- which objects --- */

static bool add_input(struct collection *l, const struct mf_job_input *input, struct mf_error *err)
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

static bool add_instance(struct collection *l, const struct mf_stored *in, struct mf_error *err)
{
    struct mf_job_input input = {.part = "dicom",
                                 .kind = "blob",
                                 .locator = in->locator,
                                 .offset = in->offset,
                                 .size = in->size};
    memcpy(input.sha256, in->sha256, MF_SHA256_BYTES);
    return add_input(l, &input, err);
}

static bool add_study(struct collection *l, const char *tenant, const char *uid,
                      struct mf_error *err)
{
    const struct mf_match match = {MF_STUDY_UID, MF_MATCH_EQUAL, uid};
    struct mf_search search = {.tenant = tenant,
                               .level = MF_LEVEL_INSTANCE,
                               .matches = &match,
                               .match_count = 1,
                               .limit = MF_STORE_BATCH};
    for (size_t n = MF_STORE_BATCH; n == MF_STORE_BATCH; search.offset += n) {
        struct mf_found *rows = NULL;
        if (!mf_store_instances_search(l->c->store, &search, l->arena, &rows, &n, err))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!add_instance(l, &rows[i].stored, err))
                return false;
    }
    return true;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

/* Newest first; studies of one moment by UID, as the pipeline orders them. */
static int by_time(const void *a, const void *b)
{
    const struct mf_found *x = a, *y = b;
    static const enum mf_attribute_id keys[] = {MF_STUDY_DATE, MF_STUDY_TIME, MF_STUDY_UID};
    for (size_t i = 0; i < 3; i++) {
        int order = strcmp(or_empty(y->stored.instance.values[keys[i]]),
                           or_empty(x->stored.instance.values[keys[i]]));
        if (order)
            return order;
    }
    return 0;
}

/* The patient's studies that are older than this one. An empty PatientID is nobody's. */
static bool add_priors(struct collection *l, const char *tenant, const struct mf_found *current,
                       struct mf_error *err)
{
    const char *const *v = current->stored.instance.values;
    if (!v[MF_PATIENT_ID] || !v[MF_STUDY_DATE])
        return true;
    const struct mf_match matches[] = {
        {MF_PATIENT_ID, MF_MATCH_EQUAL, v[MF_PATIENT_ID]},
        {MF_PATIENT_ID_ISSUER, MF_MATCH_EQUAL, or_empty(v[MF_PATIENT_ID_ISSUER])},
    };
    struct mf_search search = {.tenant = tenant,
                               .level = MF_LEVEL_STUDY,
                               .matches = matches,
                               .match_count = 2,
                               .limit = MF_STORE_BATCH};
    struct mf_found *rows = NULL;
    size_t n = 0, taken = 0;
    if (!mf_store_instances_search(l->c->store, &search, l->arena, &rows, &n, err))
        return false;
    if (n > 1)
        qsort(rows, n, sizeof *rows, by_time);
    for (size_t i = 0; i < n && taken < MAX_PRIORS; i++) {
        const char *const *prior = rows[i].stored.instance.values;
        if (!prior[MF_STUDY_DATE] || by_time(current, &rows[i]) >= 0)
            continue;
        if (!add_study(l, tenant, prior[MF_STUDY_UID], err))
            return false;
        taken++;
    }
    return true;
}

static bool find_study(const struct collection *l, const struct mf_due_study *study,
                       struct mf_found **ret, struct mf_error *err)
{
    const struct mf_match match = {MF_STUDY_UID, MF_MATCH_EQUAL, study->uid};
    struct mf_search search = {.tenant = study->tenant,
                               .level = MF_LEVEL_STUDY,
                               .matches = &match,
                               .match_count = 1,
                               .limit = 1};
    size_t n = 0;
    if (!mf_store_instances_search(l->c->store, &search, l->arena, ret, &n, err))
        return false;
    return n == 1 || mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such study");
}

/* --- where they lie --- */

static void close_packs(struct collection *l)
{
    while (l->fd_count > 0)
        close(l->fds[--l->fd_count]);
}

/* The descriptor of a pack; −2: there are too many. */
static int need_pack(struct collection *l, const char *locator, struct mf_error *err)
{
    for (size_t i = l->fd_count; i-- > 0;)
        if (strcmp(l->locators[i], locator) == 0)
            return l->fds[i];
    if (l->fd_count == MAX_PACKS)
        return -2;
    int fd = mf_blobs_open_pack(l->c->blobs, locator, err);
    if (fd < 0)
        return -1;
    l->locators[l->fd_count] = locator;
    l->fds[l->fd_count++] = fd;
    return fd;
}

static bool copy_range(int fd, const struct mf_job_input *from, struct mf_pack *to,
                       struct mf_error *err)
{
    MF_AUTO(mf_mem) char *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a copy");
    for (uint64_t done = 0; done < from->size;) {
        size_t want = from->size - done < COPY_BYTES ? (size_t)(from->size - done) : COPY_BYTES;
        ssize_t n = pread(fd, buffer, want, (off_t)(from->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return mf_error_set(err, MF_ERR_IO, "a stored instance cannot be read");
        if (!mf_pack_write(to, buffer, (size_t)n, err))
            return false;
        done += (uint64_t)n;
    }
    return true;
}

/* Puts all inputs into one new pack. */
static bool compact(struct collection *l, struct mf_error *err)
{
    close_packs(l);
    if (!(l->copy = mf_pack_new(l->c->blobs, err)))
        return false;
    for (size_t i = 0; i < l->count; i++) {
        struct mf_job_input *in = &l->inputs[i];
        struct mf_pack_member place;
        MF_AUTO(mf_fd) int fd = mf_blobs_open_pack(l->c->blobs, in->locator, err);
        if (fd < 0 || !mf_pack_begin(l->copy, err) || !copy_range(fd, in, l->copy, err) ||
            !mf_pack_end(l->copy, &place, err))
            return false;
        in->locator = mf_pack_name(l->copy);
        in->offset = place.offset;
    }
    return mf_pack_sync(l->copy, err);
}

static bool open_packs(struct collection *l, struct mf_error *err)
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

/* --- what the FHIR server knows of the patient --- */

static bool write_ehr(struct collection *l, const struct mf_buffer *text, struct mf_error *err)
{
    struct mf_pack_member place;
    if (!(l->ehr = mf_pack_new(l->c->blobs, err)) || !mf_pack_begin(l->ehr, err) ||
        !mf_pack_write(l->ehr, text->data, text->len, err) || !mf_pack_end(l->ehr, &place, err) ||
        !mf_pack_sync(l->ehr, err) ||
        (l->ehr_fd = mf_blobs_open_pack(l->c->blobs, mf_pack_name(l->ehr), err)) < 0)
        return false;
    l->ehr_input = (struct mf_job_input){.part = "ehr",
                                         .kind = "blob",
                                         .locator = mf_pack_name(l->ehr),
                                         .offset = place.offset,
                                         .size = place.size};
    memcpy(l->ehr_input.sha256, place.sha256, MF_SHA256_BYTES);
    return true;
}

static void close_ehr(struct collection *l)
{
    if (l->ehr_fd >= 0)
        close(l->ehr_fd);
    mf_pack_free(l->ehr);
    l->ehr = NULL;
    l->ehr_fd = -1;
}

static void forget_ehr(struct collection *l, const char *reason)
{
    mf_log(MF_LOG_WARN, "study.ehr_failed", MF_LOG_S("reason", reason));
    close_ehr(l);
}

static void add_ehr(struct collection *l, const struct mf_found *current)
{
    const char *source = l->c->config->fhir.source;
    struct mf_error problem = MF_ERROR_INIT;
    const struct mf_fhir_pull pull = {.client = l->c->fhir,
                                      .server = source,
                                      .patient_id = current->stored.instance.values[MF_PATIENT_ID],
                                      .registry = l->c->registry};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, (size_t)l->c->config->http.max_ehr_bytes);
    if (strcmp(source, "off") != 0 && pull.patient_id &&
        (!mf_fhir_pull(&pull, &text, &problem) || !write_ehr(l, &text, &problem)))
        forget_ehr(l, problem.msg);
}

/* --- judging and submitting --- */

/* Scans the first `count` inputs and decides how they will be run. */
static bool judge(struct collection *l, size_t count, struct mf_buffer *index,
                  struct mf_acceptance *ret, struct mf_error *err)
{
    struct mf_pipeline_options options = MF_PIPELINE_OPTIONS_INIT;
    struct mf_part *parts = mf_arena_alloc(l->arena, count + 2, sizeof *parts, err);
    if (!parts)
        return false;
    size_t n = count;
    options.identity = &l->c->config->ehr;
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct mf_part){MF_PART_DICOM, need_pack(l, l->inputs[i].locator, err),
                                    l->inputs[i].offset, l->inputs[i].size};
    if (l->ehr)
        parts[n++] =
            (struct mf_part){MF_PART_EHR, l->ehr_fd, l->ehr_input.offset, l->ehr_input.size};
    mf_buffer_clear(index);
    if (!mf_decoder_scan(l->c->decoder, parts, n, index, err) ||
        !mf_pipeline_accept(l->c->registry, index->data ? index->data : "", index->len, &options,
                            ret, NULL, err))
        return false;
    return strcmp(ret->study_instance_uid, l->study) == 0 ||
           mf_error_set(err, MF_ERR_UNUSABLE, "the study has no usable image, a prior has");
}

static bool is_our_trouble(enum mf_code code)
{
    return code == MF_ERR_IO || code == MF_ERR_UNAVAILABLE || code == MF_ERR_NO_MEMORY;
}

/* With the priors, or without them when they are what cannot be used. */
static bool judge_twice(struct collection *l, struct mf_buffer *index, struct mf_acceptance *ret,
                        struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    if (judge(l, l->count, index, ret, &first))
        return true;
    if (l->count == l->current || is_our_trouble(first.code))
        return mf_error_set(err, first.code, "%s", first.msg);
    l->count = l->current;
    return judge(l, l->count, index, ret, err);
}

/* With the FHIR server's data, or without when that cannot be used (it is of another patient). */
static bool judge_all(struct collection *l, struct mf_buffer *index, struct mf_acceptance *ret,
                      struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    size_t count = l->count;
    if (!l->ehr)
        return judge_twice(l, index, ret, err);
    if (judge_twice(l, index, ret, &first))
        return true;
    if (is_our_trouble(first.code))
        return mf_error_set(err, first.code, "%s", first.msg);
    forget_ehr(l, first.msg);
    l->count = count;
    return judge_twice(l, index, ret, err);
}

static bool submit(struct collection *l, const struct mf_due_study *study,
                   const struct mf_buffer *index, const char *model, struct mf_submitted *ret,
                   struct mf_error *err)
{
    /* The control character keeps it apart from every client's Idempotency-Key. */
    char key[128];
    snprintf(key, sizeof key, "\001study/%s/%" PRId64, study->uid, study->revision);
    struct mf_submission sub = {.tenant = study->tenant,
                                .priority = MF_PRIORITY_ROUTINE,
                                .model = model,
                                .options = "{}",
                                .index = index->data ? index->data : "",
                                .index_len = index->len,
                                .inputs = l->inputs,
                                .input_count = l->count,
                                .idempotency_key = key,
                                .max_queued = l->c->config->jobs.max_queued};
    if (l->ehr) {
        if (!add_input(l, &l->ehr_input, err))
            return false;
        sub.inputs = l->inputs;
        sub.input_count = l->count;
    }
    mf_job_id_new(sub.id);
    mf_sha256(key, strlen(key), sub.fingerprint);
    if (!mf_store_submit(l->c->store, &sub, ret, err))
        return false;
    if (l->copy && !ret->replayed)
        mf_pack_keep(l->copy);
    if (l->ehr && !ret->replayed)
        mf_pack_keep(l->ehr);
    return true;
}

static bool make_job(struct collection *l, const struct mf_due_study *study,
                     struct mf_submitted *ret, struct mf_error *err)
{
    struct mf_found *current = NULL;
    struct mf_acceptance acceptance;
    MF_AUTO(mf_buffer) struct mf_buffer index;
    mf_buffer_init(&index, INDEX_BYTES);
    if (!find_study(l, study, &current, err) || !add_study(l, study->tenant, study->uid, err))
        return false;
    l->current = l->count;
    if (!add_priors(l, study->tenant, current, err) || !open_packs(l, err))
        return false;
    if (strcmp(study->tenant, MF_TENANT_DEFAULT) == 0) /* whose server it is */
        add_ehr(l, current);
    return judge_all(l, &index, &acceptance, err) &&
           submit(l, study, &index, acceptance.model, ret, err);
}

bool mf_courier_study_run(const struct mf_courier_study *c, const struct mf_due_study *study,
                          char ret_job[MF_JOB_ID], struct mf_error *err)
{
    struct mf_submitted made = {.replayed = false};
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    struct collection l = {.c = c, .arena = arena, .study = study->uid, .ehr_fd = -1};
    ret_job[0] = '\0';
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a study");
    bool ok = make_job(&l, study, &made, &problem);
    close_packs(&l);
    mf_pack_free(l.copy);
    close_ehr(&l);
    if (!ok && is_our_trouble(problem.code))
        return mf_error_set(err, problem.code, "%s", problem.msg);
    if (ok)
        memcpy(ret_job, made.id, MF_JOB_ID);
    return mf_store_study_settle(c->store, study, ok ? made.id : NULL, ok ? NULL : &problem,
                                 problem.code == MF_ERR_BUSY ? BUSY_RETRY_MS : 0, err);
}
