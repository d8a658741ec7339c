/*
 * GET /dicom-web/studies/{study}/series/{series}/instances/{instance}[/frames/{frames}]/rendered:
 * stored images as pictures (PS3.18 10.4.1.1.3, query parameters of 8.3.5).
 *
 * One frame is one JPEG or PNG; several are the parts of multipart/related. Everything that is
 * parsed is parsed in decoders; the picture is that of the frames of a result (frame_picture.c).
 */
#include "server/artifacts.h"
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/frame_picture.h"
#include "server/multipart.h"
#include "server/negotiate.h"
#include "server/numbers.h"
#include "server/services.h"

#include "core/grayscale.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { PICTURE_BYTES = 512 << 20, MAX_FRAMES = 64, MAX_FRAME = 1 << 20, BEST = 100 };

static const char *const TYPES[] = {"image/jpeg", "image/png"};
enum { TYPE_COUNT = sizeof TYPES / sizeof *TYPES };
enum { JPEG_QUALITY = 90 }; /* when the request names none */

struct rendering {
    const char *type; /* of TYPES */
    struct mf_viewport viewport;
    struct mf_frame_picture picture;
    bool windowed;
    double center, width;
    enum mf_voi_function function;
    uint32_t frames[MAX_FRAMES]; /* counted from 1 */
    size_t frame_count;          /* 0: the path names none */
};

/* --- what is asked for --- */

/* PS3.18 8.3.5.1.4: "center,width,function". */
static bool read_window(const char *text, struct rendering *r, struct mf_error *err)
{
    static const struct {
        const char *name;
        enum mf_voi_function function;
        double least; /* width */
        bool open;    /* and not the least itself */
    } functions[] = {{"linear", MF_VOI_LINEAR, 1, false},
                     {"linear-exact", MF_VOI_LINEAR_EXACT, 0, true},
                     {"sigmoid", MF_VOI_SIGMOID, 0, true}};
    char numbers[80];
    double v[2] = {0};
    size_t n = 0;
    const char *function = strrchr(text, ',');
    size_t len = function ? (size_t)(function - text) : sizeof numbers;
    if (len < sizeof numbers) {
        snprintf(numbers, sizeof numbers, "%.*s", (int)len, text);
        bool ok = mf_numbers_parse(numbers, v, 2, 2, &n) && n == 2;
        for (size_t i = 0; ok && i < sizeof functions / sizeof *functions; i++)
            if (strcmp(function + 1, functions[i].name) == 0 && v[1] >= functions[i].least &&
                (v[1] > functions[i].least || !functions[i].open)) {
                r->windowed = true;
                r->center = v[0];
                r->width = v[1];
                r->function = functions[i].function;
                return true;
            }
    }
    return mf_error_set(err, MF_ERR_MALFORMED,
                        "query parameter \"window\" must be center,width,function, with a positive "
                        "width and linear, linear-exact or sigmoid");
}

/* The picture type that an Accept field prefers, single or as parts; NULL = none of them. */
static const char *accepted_type(const char *accept)
{
    char range[MF_DICOMWEB_RANGE], type[64];
    int chosen = *accept ? mf_negotiate(accept, TYPES, TYPE_COUNT) : -1;
    if (chosen >= 0)
        return TYPES[chosen];
    while (mf_dicomweb_next_range(&accept, range))
        for (size_t i = 0; mf_media_type_is(range, "multipart/related") && i < TYPE_COUNT; i++)
            if (mf_multipart_parameter(range, "type", type, sizeof type) &&
                strcasecmp(type, TYPES[i]) == 0)
                return TYPES[i];
    return NULL;
}

/* PS3.18 8.3.3.1: the query parameter wins over the header field. */
static bool read_type(const struct mf_request *request, struct rendering *r, struct mf_error *err)
{
    const char *accept = mf_request_query(request, "accept");
    if (!accept)
        accept = mf_request_header(request, "Accept");
    r->type = accepted_type(accept ? accept : "");
    return r->type || mf_error_set(err, MF_ERR_NOT_ACCEPTABLE,
                                   "Accept: pictures are given as image/jpeg or image/png");
}

static bool read_query(const struct mf_request *request, struct rendering *r, struct mf_error *err)
{
    static const char *const known[] = {"accept", "quality", "viewport", "window", NULL};
    const char *quality = mf_request_query(request, "quality");
    const char *viewport = mf_request_query(request, "viewport");
    const char *window = mf_request_query(request, "window");
    uint32_t jpeg_quality = JPEG_QUALITY;
    if (!mf_request_only_query(request, known, err))
        return false;
    if (quality && !mf_number_parse(quality, 1, BEST, &jpeg_quality))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "query parameter \"quality\" must be a number from 1 to 100");
    if ((window && !read_window(window, r, err)) ||
        (viewport && !mf_viewport_parse(viewport, &r->viewport, err)) ||
        !read_type(request, r, err))
        return false;
    r->picture = (struct mf_frame_picture){.bits = 8,
                                           .viewport = viewport ? &r->viewport : NULL,
                                           .jpeg_quality = r->type == TYPES[0] ? jpeg_quality : 0};
    return true;
}

/* "1" or "1,4,5": counted from 1, ascending. */
static bool read_frames(const char *text, struct rendering *r, struct mf_error *err)
{
    double numbers[MAX_FRAMES];
    size_t n = 0;
    bool ok = mf_numbers_parse(text, numbers, MAX_FRAMES, MAX_FRAMES, &n);
    for (size_t i = 0; ok && i < n; i++) {
        ok = numbers[i] >= (i ? numbers[i - 1] + 1 : 1) && numbers[i] <= MAX_FRAME;
        r->frames[i] = ok ? (uint32_t)numbers[i] : 0;
        ok = ok && r->frames[i] == numbers[i];
    }
    r->frame_count = n;
    return ok || mf_error_set(err, MF_ERR_MALFORMED,
                              "the path must name up to %d frames as ascending numbers, from 1",
                              (int)MAX_FRAMES);
}

/* --- the stored object --- */

struct source {
    struct mf_decoder *decoder;
    int fd;
    struct mf_upload upload;
    const struct mf_index_object *object;
};

static int only_input(void *context, uint32_t input, struct mf_error *err)
{
    const struct source *s = context;
    (void)input; /* there is one */
    (void)err;
    return s->fd;
}

/* What the object is to blame for makes it one that has no picture. */
static void blame(const struct mf_error *problem, struct mf_error *err)
{
    bool object = problem->code == MF_ERR_MALFORMED || problem->code == MF_ERR_UNSUPPORTED ||
                  problem->code == MF_ERR_UNUSABLE || problem->code == MF_ERR_TOO_LARGE;
    mf_error_set(err, object ? MF_ERR_NOT_ACCEPTABLE : problem->code, "%s", problem->msg);
    mf_error_prefix(err, "the instance cannot be rendered");
}

static bool open_source(struct mf_request *request, const struct mf_stored *stored,
                        struct source *s, struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer index;
    mf_buffer_init(&index, MF_UPLOAD_MAX);
    s->decoder = request->services->decoder;
    if (!s->decoder) {
        mf_error_set(err, MF_ERR_UNAVAILABLE, "images cannot be decoded here");
        return false;
    }
    s->fd = mf_blobs_open_pack(request->services->blobs, stored->locator, err);
    if (s->fd < 0)
        return false;
    const struct mf_part part = {MF_PART_DICOM, s->fd, stored->offset, stored->size};
    if (!mf_decoder_scan(s->decoder, &part, 1, &index, &problem)) {
        blame(&problem, err);
        return false;
    }
    if (!mf_upload_parse(index.data, index.len, MF_UPLOAD_WITHOUT_EHR, &s->upload, err))
        return false;
    s->object = mf_artifact_object(s->upload.index, stored->instance.values[MF_SOP_INSTANCE_UID]);
    if (!s->object)
        mf_error_set(err, MF_ERR_NOT_ACCEPTABLE, "the instance has no image");
    return s->object != NULL;
}

static void close_source(struct source *s)
{
    mf_upload_free(&s->upload);
    if (s->fd >= 0)
        close(s->fd);
}

MF_AUTO_DEFINE(source, struct source, close_source(p))

/* The frames wanted; all of an image that has one. */
static bool choose_frames(const struct source *s, struct rendering *r, struct mf_error *err)
{
    if (r->frame_count == 0 && s->object->frames > 1)
        return mf_error_set(err, MF_ERR_NOT_ACCEPTABLE,
                            "the instance has %u frames: ask for some of them, /frames/1/rendered",
                            (unsigned)s->object->frames);
    if (r->frame_count == 0)
        r->frames[r->frame_count++] = 1;
    return r->frames[r->frame_count - 1] <= s->object->frames ||
           mf_error_set(err, MF_ERR_NOT_FOUND, "the instance has %u frames",
                        (unsigned)s->object->frames);
}

/* --- pictures --- */

static bool append_picture(struct source *s, const struct rendering *r, uint32_t number,
                           struct mf_buffer *out, struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    const struct mf_artifact_images images = {s->decoder, only_input, s};
    MF_AUTO(mf_frame_set) struct mf_frame_set decoded = {.count = 0};
    if (!mf_artifact_decode(&images, s->object, number - 1, &decoded, &problem)) {
        blame(&problem, err);
        return false;
    }
    struct mf_frame frame = decoded.frames[0];
    frame.owned = NULL;
    if (r->windowed) {
        if (mf_grayscale_channels(&frame) != 1)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "query parameter \"window\": the image is in colour");
        frame.voi_lut.count = 0;
        frame.has_window = true;
        frame.voi_function = r->function;
        frame.window_center = r->center;
        frame.window_width = r->width;
    }
    return mf_frame_picture(&frame, &r->picture, out, err);
}

static bool append_part(struct mf_request *request, struct source *s, const struct rendering *r,
                        uint32_t number, const char *boundary, struct mf_buffer *out,
                        struct mf_error *err)
{
    const char *url = mf_dicomweb_url(request, request->parameters[0], request->parameters[1],
                                      request->parameters[2], err);
    return url &&
           mf_buffer_printf(out, err,
                            "--%s\r\nContent-Type: %s\r\n"
                            "Content-Location: %s/frames/%u/rendered\r\n\r\n",
                            boundary, r->type, url, (unsigned)number) &&
           append_picture(s, r, number, out, err) && mf_buffer_append_str(out, "\r\n", err);
}

static bool respond(struct mf_request *request, struct source *s, const struct rendering *r,
                    struct mf_error *err)
{
    char boundary[MF_JOB_ID];
    const char *type = r->type;
    MF_AUTO(mf_buffer) struct mf_buffer body;
    mf_buffer_init(&body, PICTURE_BYTES);
    if (r->frame_count == 1) {
        if (!append_picture(s, r, r->frames[0], &body, err))
            return false;
    } else {
        mf_job_id_new(boundary); /* 128 random bits: no picture can contain it */
        for (size_t i = 0; i < r->frame_count; i++)
            if (!append_part(request, s, r, r->frames[i], boundary, &body, err))
                return false;
        type = mf_arena_printf(request->arena, err, "multipart/related; type=\"%s\"; boundary=%s",
                               r->type, boundary);
        if (!type || !mf_buffer_printf(&body, err, "--%s--\r\n", boundary))
            return false;
    }
    size_t len = 0;
    char *bytes = mf_buffer_take(&body, &len);
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    mf_respond_take(request, 200, type, bytes, len);
    return true;
}

static bool render(struct mf_request *request, struct mf_error *err)
{
    struct rendering r = {.type = NULL};
    MF_AUTO(source) struct source s = {.fd = -1};
    struct mf_found *rows = NULL;
    size_t n = 0;
    return read_query(request, &r, err) &&
           (!request->parameters[3] || read_frames(request->parameters[3], &r, err)) &&
           mf_dicomweb_find(request, &rows, &n, err) &&
           open_source(request, &rows[0].stored, &s, err) && choose_frames(&s, &r, err) &&
           respond(request, &s, &r, err);
}

#define INSTANCE MF_DICOMWEB_ROOT "/studies/{study}/series/{series}/instances/{instance}"

const struct mf_endpoint mf_endpoint_wado_rendered = {
    .method = "GET", .pattern = INSTANCE "/rendered", .slow = true, .handle = render};
const struct mf_endpoint mf_endpoint_wado_frames_rendered = {.method = "GET",
                                                             .pattern = INSTANCE
                                                             "/frames/{frames}/rendered",
                                                             .slow = true,
                                                             .handle = render};
