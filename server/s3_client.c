/* S3: put, get, delete, list. */
#include "server/s3_client.h"

#include "server/s3_request.h"
#include "server/s3_xml.h"

#include "core/clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { QUERY_BYTES = 4096, PARTS = 10000, TOKEN = 1024, KEY = 1100 };

struct mf_s3 *mf_s3_new(const struct mf_config *config, struct mf_error *err)
{
    struct mf_s3 *s3 = calloc(1, sizeof *s3);
    if (!s3) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for payloads.s3");
        return NULL;
    }
    s3->config = config;
    pthread_mutex_init(&s3->lock, NULL);
    if (mf_s3_place_parse(config->payloads.s3, &s3->place, err) &&
        mf_s3_credentials(config, &s3->key, err) && (s3->pool = mf_web_pool_new(err)))
        return s3;
    mf_s3_free(s3);
    return NULL;
}

void mf_s3_free(struct mf_s3 *s3)
{
    if (!s3)
        return;
    mf_web_pool_free(s3->pool);
    pthread_mutex_destroy(&s3->lock);
    explicit_bzero(&s3->key, sizeof s3->key);
    free(s3);
}

static bool expect(const struct mf_s3_answer *a, long status, struct mf_error *err)
{
    return a->status == status ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "payloads.s3: the server answered %ld", a->status);
}

/* --- put --- */

static bool put_whole(struct mf_s3 *s3, const char *name, int fd, uint64_t size,
                      struct mf_error *err)
{
    char digest[MF_SHA256_HEX];
    struct mf_s3_answer answer;
    const struct mf_s3_call call = {.method = "PUT",
                                    .name = name,
                                    .sha256 = digest,
                                    .payload = digest,
                                    .file = fd,
                                    .size = size};
    return mf_s3_digest(fd, 0, size, digest, err) && mf_s3_send(s3, &call, &answer, err) &&
           expect(&answer, 200, err);
}

/* "uploadId=…", or what comes before it and that. */
static bool upload_query(const char *id, const char *before, char out[QUERY_BYTES],
                         struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, QUERY_BYTES - 1);
    if (!mf_buffer_printf(&text, err, "%suploadId=", before) || !mf_web_encode(&text, id, err))
        return false;
    snprintf(out, QUERY_BYTES, "%s", text.data);
    return true;
}

static bool begin_parts(struct mf_s3 *s3, const char *name, const char *digest,
                        char id[MF_S3_UPLOAD_ID], struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    struct mf_s3_answer answer;
    mf_buffer_init(&text, MF_S3_ANSWER);
    const struct mf_s3_call call = {.method = "POST",
                                    .name = name,
                                    .query = "uploads=",
                                    .sha256 = digest,
                                    .body = "",
                                    .text = &text};
    if (!mf_s3_send(s3, &call, &answer, err) || !expect(&answer, 200, err))
        return false;
    const struct mf_s3_xml xml = {text.data, text.data + text.len};
    return (text.len > 0 && mf_s3_xml_text(xml, "UploadId", id, MF_S3_UPLOAD_ID) && *id) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "payloads.s3: the server began no upload");
}

/* Puts one part, and appends its line of the list that ends the upload. */
static bool put_part(struct mf_s3 *s3, const char *name, const char *id, int number, int fd,
                     uint64_t offset, uint64_t size, struct mf_buffer *list, struct mf_error *err)
{
    char digest[MF_SHA256_HEX], query[QUERY_BYTES], before[32];
    struct mf_s3_answer answer;
    const struct mf_s3_call call = {.method = "PUT",
                                    .name = name,
                                    .query = query,
                                    .payload = digest,
                                    .file = fd,
                                    .offset = offset,
                                    .size = size};
    snprintf(before, sizeof before, "partNumber=%d&", number);
    if (!upload_query(id, before, query, err) || !mf_s3_digest(fd, offset, size, digest, err) ||
        !mf_s3_send(s3, &call, &answer, err) || !expect(&answer, 200, err))
        return false;
    if (!*answer.etag || strpbrk(answer.etag, "<>&"))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "payloads.s3: the server kept no part");
    return mf_buffer_printf(list, err, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>",
                            number, answer.etag);
}

/* The server may say 200 first and then that it failed. */
static bool end_parts(struct mf_s3 *s3, const char *name, const char *id, const char *list,
                      struct mf_error *err)
{
    char query[QUERY_BYTES], digest[MF_SHA256_HEX], etag[MF_S3_ETAG];
    unsigned char bytes[MF_SHA256_BYTES];
    struct mf_s3_answer answer;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, MF_S3_ANSWER);
    mf_sha256(list, strlen(list), bytes);
    mf_sha256_to_hex(bytes, digest);
    const struct mf_s3_call call = {.method = "POST",
                                    .name = name,
                                    .query = query,
                                    .payload = digest,
                                    .body = list,
                                    .text = &text};
    if (!upload_query(id, "", query, err) || !mf_s3_send(s3, &call, &answer, err) ||
        !expect(&answer, 200, err))
        return false;
    const struct mf_s3_xml xml = {text.data, text.data + text.len};
    return (text.len > 0 && mf_s3_xml_text(xml, "ETag", etag, sizeof etag)) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "payloads.s3: the upload was not completed");
}

static void abort_parts(struct mf_s3 *s3, const char *name, const char *id)
{
    char query[QUERY_BYTES];
    struct mf_s3_answer answer;
    struct mf_error ignored = MF_ERROR_INIT; /* the sweep finds it */
    const struct mf_s3_call call = {.method = "DELETE", .name = name, .query = query};
    const bool gone =
        upload_query(id, "", query, &ignored) && mf_s3_send(s3, &call, &answer, &ignored);
    (void)gone;
}

static bool put_parts(struct mf_s3 *s3, const char *name, int fd, uint64_t size, uint64_t part,
                      struct mf_error *err)
{
    char digest[MF_SHA256_HEX], id[MF_S3_UPLOAD_ID];
    MF_AUTO(mf_buffer) struct mf_buffer list;
    mf_buffer_init(&list, MF_S3_ANSWER);
    if (!mf_s3_digest(fd, 0, size, digest, err) || !begin_parts(s3, name, digest, id, err))
        return false;
    bool ok = mf_buffer_append_str(&list, "<CompleteMultipartUpload>", err);
    int number = 1;
    for (uint64_t at = 0; ok && at < size; at += part, number++)
        ok =
            put_part(s3, name, id, number, fd, at, size - at < part ? size - at : part, &list, err);
    ok = ok && mf_buffer_append_str(&list, "</CompleteMultipartUpload>", err) &&
         end_parts(s3, name, id, list.data, err);
    if (!ok)
        abort_parts(s3, name, id);
    return ok;
}

bool mf_s3_put(struct mf_s3 *s3, const char *name, int fd, uint64_t size, struct mf_error *err)
{
    uint64_t part = (uint64_t)s3->config->payloads.s3_part_bytes;
    if (size <= part)
        return put_whole(s3, name, fd, size, err);
    if (size / part >= PARTS)
        part = size / (PARTS - 1) + 1;
    return put_parts(s3, name, fd, size, part, err);
}

/* --- get --- */

static bool resize(int fd, uint64_t size, struct mf_error *err)
{
    return ftruncate(fd, (off_t)size) == 0 ||
           mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a payload");
}

static bool get_whole(struct mf_s3 *s3, const char *name, int memory, struct mf_error *err)
{
    char digest[MF_SHA256_HEX];
    struct mf_s3_answer answer;
    const struct mf_s3_call call = {.method = "GET", .name = name, .memory = memory};
    if (!mf_s3_send(s3, &call, &answer, err))
        return false;
    if (answer.status == 404)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "payload %s: it is not there", name);
    if (!expect(&answer, 200, err) || !resize(memory, answer.received, err) ||
        !mf_s3_digest(memory, 0, answer.received, digest, err))
        return false;
    return strcmp(digest, answer.sha256) == 0 ||
           mf_error_set(err, MF_ERR_IO, "payload %s: it is not what was put", name);
}

bool mf_s3_fetch(struct mf_s3 *s3, const char *name, int file, struct mf_error *err)
{
    return get_whole(s3, name, file, err);
}

/* *size: 0 at first, then that of the object. */
static bool get_range(struct mf_s3 *s3, const char *name, int memory,
                      const struct mf_s3_range *range, uint64_t *size, struct mf_error *err)
{
    const bool suffix = range->offset == UINT64_MAX;
    char text[64];
    struct mf_s3_answer a;
    const struct mf_s3_call call = {.method = "GET", .name = name, .range = text, .memory = memory};
    if (range->size == 0)
        return true;
    if (suffix)
        snprintf(text, sizeof text, "bytes=-%" PRIu64, range->size);
    else
        snprintf(text, sizeof text, "bytes=%" PRIu64 "-%" PRIu64, range->offset,
                 range->offset + range->size - 1);
    if (!mf_s3_send(s3, &call, &a, err))
        return false;
    if (a.status == 404)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "payload %s: it is not there", name);
    if (a.status == 416) /* behind the end */
        return true;
    if (!expect(&a, 206, err))
        return false;
    const uint64_t first = !suffix                 ? range->offset
                           : a.total > range->size ? a.total - range->size
                                                   : 0;
    const uint64_t left = a.total - (first < a.total ? first : a.total);
    if (!a.partial || a.first != first || (*size && *size != a.total) ||
        a.received != (left < range->size ? left : range->size))
        return mf_error_set(err, MF_ERR_IO, "payload %s: its bytes did not come", name);
    *size = a.total;
    return resize(memory, *size, err);
}

int mf_s3_get(struct mf_s3 *s3, const char *name, const struct mf_s3_range *ranges, size_t n,
              struct mf_error *err)
{
    const int memory = memfd_create("payload", MFD_CLOEXEC);
    const bool whole = n == 1 && ranges->offset == 0 && ranges->size == UINT64_MAX;
    uint64_t size = 0;
    if (memory < 0) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a payload");
        return -1;
    }
    bool ok = !whole || get_whole(s3, name, memory, err);
    for (size_t i = 0; ok && !whole && i < n; i++)
        ok = get_range(s3, name, memory, &ranges[i], &size, err);
    if (ok)
        return memory;
    close(memory);
    return -1;
}

bool mf_s3_delete(struct mf_s3 *s3, const char *name, struct mf_error *err)
{
    struct mf_s3_answer answer;
    const struct mf_s3_call call = {.method = "DELETE", .name = name};
    return mf_s3_send(s3, &call, &answer, err) &&
           (answer.status == 404 || answer.status / 100 == 2 || expect(&answer, 204, err));
}

/* --- list --- */

static bool list_query(const struct mf_s3 *s3, const char *before, const char *token,
                       const char *behind, struct mf_buffer *out, struct mf_error *err)
{
    mf_buffer_clear(out);
    return (!*token || (mf_buffer_append_str(out, "continuation-token=", err) &&
                        mf_web_encode(out, token, err) && mf_buffer_append_str(out, "&", err))) &&
           mf_buffer_printf(out, err, "%sprefix=", before) &&
           mf_web_encode(out, s3->place.prefix, err) && mf_buffer_append_str(out, behind, err);
}

static bool ask_list(struct mf_s3 *s3, const char *query, struct mf_buffer *text,
                     struct mf_error *err)
{
    struct mf_s3_answer answer;
    const struct mf_s3_call call = {.method = "GET", .query = query, .text = text};
    return mf_s3_send(s3, &call, &answer, err) && expect(&answer, 200, err);
}

/* The name below our prefix of an entry that is old enough, or NULL. */
static const char *old_name(const struct mf_s3 *s3, struct mf_s3_xml entry, const char *time_tag,
                            int64_t before_ms, char key[KEY])
{
    char text[64];
    struct mf_time time;
    struct mf_error ignored = MF_ERROR_INIT; /* what has no time is left alone */
    const size_t prefix = strlen(s3->place.prefix);
    if (!mf_s3_xml_text(entry, "Key", key, KEY) ||
        !mf_s3_xml_text(entry, time_tag, text, sizeof text) ||
        strncmp(key, s3->place.prefix, prefix) != 0 || !mf_time_parse_fhir(text, &time, &ignored) ||
        time.precision != MF_TIME_SECOND || time.begin > before_ms)
        return NULL;
    return key + prefix;
}

static bool end_stale_uploads(struct mf_s3 *s3, int64_t before_ms, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer query, text;
    mf_buffer_init(&query, QUERY_BYTES);
    mf_buffer_init(&text, MF_S3_ANSWER);
    if (!list_query(s3, "", "", "&uploads=", &query, err) || !ask_list(s3, query.data, &text, err))
        return false;
    struct mf_s3_xml all = {text.data, text.data + text.len}, entry;
    while (text.len > 0 && mf_s3_xml_next(&all, "Upload", &entry)) {
        char key[KEY], id[MF_S3_UPLOAD_ID];
        const char *name = old_name(s3, entry, "Initiated", before_ms, key);
        if (name && mf_s3_xml_text(entry, "UploadId", id, sizeof id))
            abort_parts(s3, name, id);
    }
    return true;
}

static bool each_before(struct mf_s3 *s3, int64_t before_ms,
                        bool (*visit)(void *context, const char *name, struct mf_error *err),
                        void *context, struct mf_error *err)
{
    char token[TOKEN] = "";
    MF_AUTO(mf_buffer) struct mf_buffer query, text;
    mf_buffer_init(&query, QUERY_BYTES);
    mf_buffer_init(&text, MF_S3_ANSWER);
    do {
        if (!list_query(s3, "list-type=2&", token, "", &query, err) ||
            !ask_list(s3, query.data, &text, err))
            return false;
        struct mf_s3_xml all = {text.data, text.data + text.len}, entry;
        const struct mf_s3_xml whole = all;
        while (text.len > 0 && mf_s3_xml_next(&all, "Contents", &entry)) {
            char key[KEY];
            const char *name = old_name(s3, entry, "LastModified", before_ms, key);
            if (name && !visit(context, name, err))
                return false;
        }
        if (text.len == 0 || !mf_s3_xml_text(whole, "NextContinuationToken", token, sizeof token))
            *token = '\0';
    } while (*token);
    return true;
}

bool mf_s3_each(struct mf_s3 *s3, int64_t min_age_s,
                bool (*visit)(void *context, const char *name, struct mf_error *err), void *context,
                struct mf_error *err)
{
    const int64_t before_ms = mf_clock_wall_ms() - min_age_s * 1000;
    return each_before(s3, before_ms, visit, context, err) && end_stale_uploads(s3, before_ms, err);
}

bool mf_s3_all(struct mf_s3 *s3,
               bool (*visit)(void *context, const char *name, struct mf_error *err), void *context,
               struct mf_error *err)
{
    return each_before(s3, INT64_MAX, visit, context, err);
}
