/* Rendered: reading what is asked for, and making one picture of one frame. */
#include "server/rendered.h"

#include "server/artifacts.h"
#include "server/dicomweb.h"
#include "server/multipart.h"
#include "server/negotiate.h"
#include "server/numbers.h"

#include "core/grayscale.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { BEST = 100, THUMBNAIL_SIDE = 128 };

static const char *const TYPES[] = {"image/jpeg", "image/png"};
enum { TYPE_COUNT = sizeof TYPES / sizeof *TYPES };
enum { JPEG_QUALITY = 90 }; /* when the request names none */

/* --- what is asked for --- */

/* PS3.18 8.3.5.1.4: "center,width,function". */
static bool read_window(const char *text, struct mf_rendering *r, struct mf_error *err)
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
static bool read_type(const struct mf_request *request, struct mf_rendering *r,
                      struct mf_error *err)
{
    const char *accept = mf_request_query(request, "accept");
    if (!accept)
        accept = mf_request_header(request, "Accept");
    r->type = accepted_type(accept ? accept : "");
    return r->type || mf_error_set(err, MF_ERR_NOT_ACCEPTABLE,
                                   "Accept: pictures are given as image/jpeg or image/png");
}

bool mf_rendering_read(const struct mf_request *request, bool thumbnail, struct mf_rendering *r,
                       struct mf_error *err)
{
    static const char *const known[] = {"accept", "viewport", "quality", "window", NULL};
    static const char *const few[] = {"accept", "viewport", NULL};
    *r = (struct mf_rendering){.type = NULL};
    const char *quality = mf_request_query(request, "quality");
    const char *viewport = mf_request_query(request, "viewport");
    const char *window = mf_request_query(request, "window");
    uint32_t jpeg_quality = JPEG_QUALITY;
    if (!mf_request_only_query(request, thumbnail ? few : known, err))
        return false;
    if (quality && !mf_number_parse(quality, 1, BEST, &jpeg_quality))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "query parameter \"quality\" must be a number from 1 to 100");
    if ((window && !read_window(window, r, err)) ||
        (viewport && !mf_viewport_parse(viewport, &r->viewport, err)) ||
        !read_type(request, r, err))
        return false;
    r->picture = (struct mf_frame_picture){.bits = 8,
                                           .side = thumbnail ? THUMBNAIL_SIDE : 0,
                                           .viewport = viewport ? &r->viewport : NULL,
                                           .jpeg_quality = r->type == TYPES[0] ? jpeg_quality : 0};
    return true;
}

/* --- the stored object --- */

static int only_input(void *context, uint32_t input, struct mf_error *err)
{
    const struct mf_rendered_source *s = context;
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

bool mf_rendered_open(struct mf_request *request, const struct mf_stored *stored,
                      struct mf_rendered_source *s, struct mf_error *err)
{
    *s = (struct mf_rendered_source){.fd = -1};
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer index;
    mf_buffer_init(&index, MF_UPLOAD_MAX);
    s->decoder = request->services->decoder;
    if (!s->decoder) {
        mf_error_set(err, MF_ERR_UNAVAILABLE, "images cannot be decoded here");
        return false;
    }
    s->fd = mf_blobs_open_part(request->services->blobs, stored->locator, stored->offset,
                               stored->size, err);
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

void mf_rendered_close(struct mf_rendered_source *s)
{
    mf_upload_free(&s->upload);
    if (s->fd >= 0)
        close(s->fd);
}

/* --- pictures --- */

bool mf_rendered_append(struct mf_rendered_source *s, const struct mf_rendering *r, uint32_t number,
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

bool mf_rendered_respond(struct mf_request *request, const char *type, struct mf_buffer *body,
                         struct mf_error *err)
{
    size_t len = 0;
    char *bytes = mf_buffer_take(body, &len);
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    mf_respond_take(request, 200, type, bytes, len);
    return true;
}
