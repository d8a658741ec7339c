/* S3: one request. */
#include "server/s3_request.h"

#include "core/clock.h"
#include "core/file_range.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { ATTEMPTS = 4, FIRST_PAUSE_MS = 100, URL_BYTES = 8 << 10, FIELD = MF_SIGV4_TOKEN + 64 };
enum { SHOWN = 7, READ_BYTES = 64 << 10 };

static const char NOTHING[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const uint64_t LARGEST = UINT64_C(1) << 40;

static bool hash_piece(void *context, const void *piece, size_t len, struct mf_error *err)
{
    (void)err;
    mf_sha256_update(context, piece, len);
    return true;
}

bool mf_s3_digest(int fd, uint64_t offset, uint64_t size, char out[MF_SHA256_HEX],
                  struct mf_error *err)
{
    unsigned char digest[MF_SHA256_BYTES];
    const struct mf_file_range range = {"a payload", fd, offset, size};
    MF_AUTO(mf_sha256) struct mf_sha256 *hash = mf_sha256_new();
    if (!hash)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a payload");
    if (!mf_file_range_pieces(&range, hash_piece, hash, err))
        return false;
    mf_sha256_final(hash, digest);
    mf_sha256_to_hex(digest, out);
    return true;
}

/* --- the answer --- */

struct receiver {
    const struct mf_s3_call *call;
    struct mf_s3_answer *answer;
};

static bool read_number(const char **at, char stop, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = **at >= '0' && **at <= '9' ? strtoull(*at, &end, 10) : UINT64_MAX;
    if (*ret > LARGEST || errno || *end != stop)
        return false;
    *at = end + 1;
    return true;
}

/* "bytes 0-9/100" */
static void read_range(const char *value, struct mf_s3_answer *a)
{
    uint64_t last = 0;
    a->partial = strncmp(value, "bytes ", 6) == 0;
    value += a->partial ? 6 : 0;
    a->partial = a->partial && read_number(&value, '-', &a->first) &&
                 read_number(&value, '/', &last) && read_number(&value, '\0', &a->total) &&
                 a->first <= last && last < a->total;
    if (!a->partial)
        a->first = 0;
}

static void on_field(void *context, const char *name, const char *value)
{
    struct mf_s3_answer *a = ((struct receiver *)context)->answer;
    if (strcasecmp(name, "ETag") == 0)
        snprintf(a->etag, sizeof a->etag, "%s", value);
    else if (strcasecmp(name, "x-amz-meta-sha256") == 0)
        snprintf(a->sha256, sizeof a->sha256, "%s", value);
    else if (strcasecmp(name, "Content-Range") == 0)
        read_range(value, a);
}

static bool on_data(void *context, const char *content_type, const void *data, size_t len,
                    struct mf_error *err)
{
    const struct receiver *r = context;
    const struct mf_s3_call *call = r->call;
    (void)content_type;
    if (call->memory <= 0)
        return !call->text || mf_buffer_append(call->text, data, len, err);
    const char *from = data;
    while (len > 0) {
        const ssize_t n =
            pwrite(call->memory, from, len, (off_t)(r->answer->first + r->answer->received));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "no room for a payload (%s)",
                                strerror(errno));
        r->answer->received += (uint64_t)n;
        from += n;
        len -= (size_t)n;
    }
    return true;
}

/* --- the request --- */

static bool make_path(const struct mf_s3 *s3, const struct mf_s3_call *call, char out[URL_BYTES],
                      struct mf_error *err)
{
    const int n = snprintf(out, URL_BYTES, "%s%s%s%s", s3->place.bucket, call->name ? "/" : "",
                           call->name ? s3->place.prefix : "", call->name ? call->name : "");
    return (n > 0 && n < URL_BYTES) ||
           mf_error_set(err, MF_ERR_INTERNAL, "an object's name is too long");
}

/* Signs it; the fields it is sent with are in `shown`. */
static bool sign(struct mf_s3 *s3, const struct mf_s3_call *call, const char *path,
                 char fields[SHOWN][FIELD], const char *shown[SHOWN + 1], struct mf_error *err)
{
    char time[MF_SIGV4_TIME], authorization[MF_SIGV4_TEXT];
    const char *payload = call->payload ? call->payload : NOTHING;
    struct mf_sigv4_key key;
    size_t n = 0;
    pthread_mutex_lock(&s3->lock);
    key = s3->key;
    pthread_mutex_unlock(&s3->lock);
    mf_sigv4_time(mf_clock_wall_ms(), time);
    snprintf(fields[n++], FIELD, "host:%s", s3->place.host);
    snprintf(fields[n++], FIELD, "x-amz-content-sha256:%s", payload);
    snprintf(fields[n++], FIELD, "x-amz-date:%s", time);
    if (call->sha256)
        snprintf(fields[n++], FIELD, "x-amz-meta-sha256:%s", call->sha256);
    if (*key.token)
        snprintf(fields[n++], FIELD, "x-amz-security-token:%s", key.token);
    struct mf_sigv4_request r = {.method = call->method,
                                 .region = s3->config->payloads.s3_region,
                                 .service = "s3",
                                 .path = path,
                                 .query = call->query ? call->query : "",
                                 .field_count = n,
                                 .payload = payload,
                                 .time = time};
    for (size_t i = 0; i < n; i++)
        r.fields[i] = fields[i];
    const bool ok = mf_sigv4_authorization(&r, &key, authorization, err);
    explicit_bzero(&key, sizeof key);
    for (size_t i = 1; i < n; i++) /* libcurl writes Host */
        shown[i - 1] = fields[i];
    snprintf(fields[n], FIELD, "Authorization: %s", authorization);
    shown[n - 1] = fields[n];
    n++;
    if (call->range) {
        snprintf(fields[n], FIELD, "Range: %s", call->range);
        shown[n - 1] = fields[n];
        n++;
    }
    shown[n - 1] = NULL;
    return ok;
}

static bool send_once(struct mf_s3 *s3, const struct mf_s3_call *call, struct mf_s3_answer *ret,
                      struct mf_error *err)
{
    char path[URL_BYTES], url[URL_BYTES + MF_S3_URL];
    char(*fields)[FIELD] = calloc(SHOWN, FIELD);
    const char *shown[SHOWN + 1];
    struct receiver receiver = {call, ret};
    bool ok = false;
    *ret = (struct mf_s3_answer){.status = 0};
    if (call->text)
        mf_buffer_clear(call->text);
    if (!fields)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a request");
    if (make_path(s3, call, path, err) && sign(s3, call, path, fields, shown, err)) {
        const char *ca = s3->config->payloads.s3_ca;
        snprintf(url, sizeof url, "%s%s%s%s", s3->place.url, path, call->query ? "?" : "",
                 call->query ? call->query : "");
        const struct mf_web_request request = {
            .url = url,
            .accept = "*/*",
            .method = call->method,
            .content_type = call->body || call->file > 0 ? "application/octet-stream" : NULL,
            .body = call->body,
            .body_len = call->body ? strlen(call->body) : (size_t)call->size,
            .file = call->file,
            .file_offset = call->offset,
            .fields = shown,
            .ca_file = strcmp(ca, "off") != 0 ? ca : NULL,
            .timeout_s = (int)s3->config->payloads.s3_timeout_s,
            .max_bytes = call->memory > 0 ? LARGEST : MF_S3_ANSWER,
            .data = on_data,
            .field = on_field,
            .context = &receiver,
            .pool = s3->pool};
        ok = mf_web_send(&request, &ret->status, err);
    }
    explicit_bzero(fields, (size_t)SHOWN * FIELD);
    free(fields);
    return ok;
}

static bool may_pass(long status)
{
    return status == 408 || status == 429 || status / 100 == 5;
}

/* The credentials as they are now; false: as before, or not to be had. */
static bool renew(struct mf_s3 *s3)
{
    struct mf_sigv4_key key;
    struct mf_error ignored = MF_ERROR_INIT; /* the refusal is told */
    if (!mf_s3_credentials(s3->config, &key, &ignored))
        return false;
    pthread_mutex_lock(&s3->lock);
    const bool changed = memcmp(&key, &s3->key, sizeof key) != 0;
    s3->key = key;
    pthread_mutex_unlock(&s3->lock);
    explicit_bzero(&key, sizeof key);
    return changed;
}

bool mf_s3_send(struct mf_s3 *s3, const struct mf_s3_call *call, struct mf_s3_answer *ret,
                struct mf_error *err)
{
    struct mf_error reason = MF_ERROR_INIT;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        const int64_t ms = (int64_t)FIRST_PAUSE_MS << (2 * attempt);
        const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        mf_error_clear(&reason);
        const bool answered = send_once(s3, call, ret, &reason);
        const bool passes = answered ? may_pass(ret->status)
                                     : reason.code == MF_ERR_IO || reason.code == MF_ERR_TIMEOUT;
        if (answered && (ret->status == 401 || ret->status == 403) && renew(s3))
            continue;
        if (!passes)
            break;
        if (attempt + 1 < ATTEMPTS)
            nanosleep(&pause, NULL);
    }
    if (reason.code != MF_OK)
        return mf_error_set(err, reason.code == MF_ERR_NO_MEMORY ? reason.code : MF_ERR_UNAVAILABLE,
                            "payloads.s3: %s", reason.msg);
    return ret->status / 100 == 2 || ret->status == 404 || ret->status == 416 ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "payloads.s3: the server answered %ld",
                        ret->status);
}
