/*
 * GET /dicom-web/studies/{study}[/series/{series}[/instances/{instance}]][/metadata]: WADO-RS
 * (PS3.18 10.4).
 *
 * Objects go out as they came in, in their transfer syntax, as the parts of multipart/related
 * straight from their packs (one instance also as application/dicom). Metadata is made by a
 * decoder.
 */
#include "server/describe.h"
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/multipart.h"
#include "server/services.h"
#include "server/store_instances.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { METADATA_BYTES = 256 << 20 };

/* --- what is asked for --- */

static bool fits_syntax(const char *range, const struct mf_found *rows, size_t n)
{
    char syntax[80];
    if (!mf_multipart_parameter(range, "transfer-syntax", syntax, sizeof syntax) ||
        strcmp(syntax, "*") == 0)
        return true;
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].stored.instance.transfer_syntax, syntax) != 0)
            return false;
    return true;
}

enum form { FORM_NONE, FORM_SINGLE, FORM_MULTIPART };

static enum form form_of(const char *range, bool single)
{
    char type[64] = "application/dicom";
    size_t len = strcspn(range, "; \t");
    if ((len == 3 && memcmp(range, "*/*", 3) == 0) ||
        (len == 11 && strncasecmp(range, "multipart/*", 11) == 0))
        return FORM_MULTIPART;
    if (len == 17 && strncasecmp(range, "multipart/related", 17) == 0) {
        (void)mf_multipart_parameter(range, "type", type, sizeof type);
        return strcasecmp(type, "application/dicom") == 0 || strcmp(type, "*/*") == 0
                   ? FORM_MULTIPART
                   : FORM_NONE;
    }
    return single && len == 17 && strncasecmp(range, "application/dicom", 17) == 0 ? FORM_SINGLE
                                                                                   : FORM_NONE;
}

static bool choose_form(const struct mf_request *request, const struct mf_found *rows, size_t n,
                        enum form *ret, struct mf_error *err)
{
    char range[MF_DICOMWEB_RANGE];
    const char *accept = mf_request_header(request, "Accept");
    bool single = request->parameters[2] != NULL;
    for (const char *at = accept ? accept : ""; mf_dicomweb_next_range(&at, range);) {
        *ret = form_of(range, single);
        if (*ret != FORM_NONE && fits_syntax(range, rows, n))
            return true;
    }
    return mf_error_set(err, MF_ERR_NOT_ACCEPTABLE,
                        "Accept: objects are given as multipart/related; "
                        "type=\"application/dicom\", in the transfer syntax they are stored in");
}

/* --- objects, as a stream of pieces --- */

struct piece {
    const char *text; /* or NULL: a range of a pack */
    const char *locator;
    uint64_t offset, size, begin; /* begin: in the body */
};

struct stream {
    const struct mf_blobs *blobs;
    struct piece *pieces;
    size_t count, current;
    int fd; /* of the pack at hand, −1 = none */
    const char *locator;
};

static int need_pack(struct stream *s, const char *locator)
{
    if (s->fd >= 0 && strcmp(s->locator, locator) == 0)
        return s->fd;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = mf_blobs_open_pack(s->blobs, locator, NULL);
    s->locator = locator;
    return s->fd;
}

/* A part of the body from `position` on (never beyond its end); −1 when it cannot be read. */
static ssize_t read_stream(void *context, uint64_t position, char *out, size_t max)
{
    struct stream *s = context;
    while (s->current + 1 < s->count && position >= s->pieces[s->current + 1].begin)
        s->current++;
    while (s->current > 0 && position < s->pieces[s->current].begin)
        s->current--;
    const struct piece *p = &s->pieces[s->current];
    uint64_t at = position - p->begin;
    size_t n = p->size - at < max ? (size_t)(p->size - at) : max;
    if (p->text) {
        memcpy(out, p->text + at, n);
        return (ssize_t)n;
    }
    int fd = need_pack(s, p->locator);
    ssize_t got;
    do
        got = fd < 0 ? -1 : pread(fd, out, n, (off_t)(p->offset + at));
    while (got < 0 && errno == EINTR);
    return got > 0 ? got : -1;
}

static void add_text(struct stream *s, uint64_t *end, const char *text)
{
    s->pieces[s->count++] = (struct piece){.text = text, .size = strlen(text), .begin = *end};
    *end += strlen(text);
}

static void add_object(struct stream *s, uint64_t *end, const struct mf_stored *in)
{
    s->pieces[s->count++] = (struct piece){
        .locator = in->locator, .offset = in->offset, .size = in->size, .begin = *end};
    *end += in->size;
}

static bool add_parts(struct mf_request *request, struct stream *s, const struct mf_found *rows,
                      size_t n, const char *boundary, uint64_t *end, struct mf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct mf_stored *in = &rows[i].stored;
        const char *head =
            mf_arena_printf(request->arena, err,
                            "%s--%s\r\nContent-Type: application/dicom;transfer-syntax=%s\r\n\r\n",
                            i ? "\r\n" : "", boundary, in->instance.transfer_syntax);
        if (!head)
            return false;
        add_text(s, end, head);
        add_object(s, end, in);
    }
    const char *tail = mf_arena_printf(request->arena, err, "\r\n--%s--\r\n", boundary);
    if (tail)
        add_text(s, end, tail);
    return tail != NULL;
}

static bool respond_objects(struct mf_request *request, const struct mf_found *rows, size_t n,
                            enum form form, struct mf_error *err)
{
    char boundary[MF_JOB_ID];
    uint64_t end = 0;
    struct stream *s = mf_arena_alloc(request->arena, 1, sizeof *s, err);
    if (!s)
        return false;
    s->fd = -1;
    s->blobs = request->services->blobs;
    s->pieces = mf_arena_alloc(request->arena, 2 * n + 2, sizeof *s->pieces, err);
    request->state = s;
    if (!s->pieces)
        return false;
    const char *type = "application/dicom";
    mf_job_id_new(boundary); /* 128 random bits: no object can contain it */
    if (form == FORM_SINGLE) {
        add_object(s, &end, &rows[0].stored);
    } else {
        type =
            mf_arena_printf(request->arena, err,
                            "multipart/related;type=\"application/dicom\";boundary=%s", boundary);
        if (!type || !add_parts(request, s, rows, n, boundary, &end, err))
            return false;
    }
    if (need_pack(s, rows[0].stored.locator) < 0) /* before the status is sent */
        return mf_error_set(err, MF_ERR_IO, "a stored instance cannot be read");
    mf_respond_stream(request, 200, type, read_stream, s, end);
    return true;
}

static void dispose(struct mf_request *request)
{
    struct stream *s = request->state;
    if (s && s->fd >= 0)
        close(s->fd);
    request->state = NULL;
}

static bool retrieve(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    struct mf_found *rows = NULL;
    size_t n = 0;
    enum form form = FORM_NONE;
    return mf_request_only_query(request, no_query, err) &&
           mf_dicomweb_find(request, &rows, &n, err) && choose_form(request, rows, n, &form, err) &&
           respond_objects(request, rows, n, form, err);
}

/* --- metadata --- */

struct packs {
    int fds[MF_DECODER_MAX_FDS];
    const char *locators[MF_DECODER_MAX_FDS];
    size_t count;
};

static void close_packs(struct packs *p)
{
    while (p->count > 0)
        close(p->fds[--p->count]);
}

/* Describes rows from `first` on, as many as lie in the packs that one decoder takes; how many. */
static size_t describe_some(struct mf_request *request, const struct mf_found *rows, size_t n,
                            size_t first, struct mf_buffer *text, struct mf_error *err)
{
    enum { MOST = 256 };
    struct mf_part parts[MOST];
    struct packs packs = {.count = 0};
    size_t count = 0;
    for (; count < MOST && first + count < n; count++) {
        const struct mf_stored *in = &rows[first + count].stored;
        size_t k = 0;
        while (k < packs.count && strcmp(packs.locators[k], in->locator) != 0)
            k++;
        if (k == MF_DECODER_MAX_FDS)
            break;
        if (k == packs.count) {
            packs.fds[k] = mf_blobs_open_pack(request->services->blobs, in->locator, err);
            if (packs.fds[k] < 0)
                break;
            packs.locators[packs.count++] = in->locator;
        }
        parts[count] = (struct mf_part){MF_PART_DICOM, packs.fds[k], in->offset, in->size};
    }
    bool ok =
        count > 0 && mf_describe_metadata(request->services->decoder, parts, count, text, err);
    close_packs(&packs);
    return ok ? count : 0;
}

static bool metadata(struct mf_request *request, struct mf_error *err)
{
    static const char *const offers[] = {MF_DICOM_JSON, "application/json"};
    static const char *const no_query[] = {NULL};
    struct mf_found *rows = NULL;
    size_t n = 0;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, METADATA_BYTES);
    int offer = mf_dicomweb_accept(request, offers, 2, err);
    if (offer < 0 || !mf_request_only_query(request, no_query, err) ||
        !mf_dicomweb_find(request, &rows, &n, err) || !mf_buffer_append_str(&text, "[", err))
        return false;
    for (size_t done = 0, some; done < n; done += some) {
        if ((done > 0 && !mf_buffer_append_str(&text, ",", err)) ||
            (some = describe_some(request, rows, n, done, &text, err)) == 0)
            return false;
    }
    if (!mf_buffer_append_str(&text, "]", err))
        return false;
    size_t len = 0;
    char *body = mf_buffer_take(&text, &len);
    mf_respond_take(request, 200, offers[offer], body, len);
    return true;
}

#define STUDY MF_DICOMWEB_ROOT "/studies/{study}"
#define SERIES STUDY "/series/{series}"
#define INSTANCE SERIES "/instances/{instance}"

#define WADO(name, path, function, is_slow)                                                        \
    const struct mf_endpoint mf_endpoint_wado_##name = {                                           \
        .method = "GET", .pattern = path, .slow = is_slow, .handle = function, .dispose = dispose}

WADO(study, STUDY, retrieve, false);
WADO(series, SERIES, retrieve, false);
WADO(instance, INSTANCE, retrieve, false);
WADO(study_metadata, STUDY "/metadata", metadata, true);
WADO(series_metadata, SERIES "/metadata", metadata, true);
WADO(instance_metadata, INSTANCE "/metadata", metadata, true);
