/*
 * GET
 * /dicom-web/studies/{study}[/series/{series}[/instances/{instance}[/frames/{frames}]]]/rendered:
 * stored images as pictures (PS3.18 10.4.1.1.3, query parameters of 8.3.5).
 *
 * An instance of one frame, or one frame, is one JPEG or PNG; several frames, and the images of a
 * series or study, are the parts of multipart/related. What has no picture is left out of those.
 */
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/numbers.h"
#include "server/rendered.h"

#include <stdlib.h>
#include <string.h>

enum { PICTURE_BYTES = 512 << 20, MAX_FRAMES = 64, MAX_FRAME = 1 << 20, MAX_PICTURES = 512 };

/* The frames of the path, counted from 1. */
struct wanted {
    uint32_t frames[MAX_FRAMES];
    size_t count; /* 0: the path names none */
};

/* "1" or "1,4,5": counted from 1, ascending. */
static bool read_frames(const char *text, struct wanted *w, struct mf_error *err)
{
    double numbers[MAX_FRAMES];
    size_t n = 0;
    bool ok = mf_numbers_parse(text, numbers, MAX_FRAMES, MAX_FRAMES, &n);
    for (size_t i = 0; ok && i < n; i++) {
        ok = numbers[i] >= (i ? numbers[i - 1] + 1 : 1) && numbers[i] <= MAX_FRAME;
        w->frames[i] = ok ? (uint32_t)numbers[i] : 0;
        ok = ok && w->frames[i] == numbers[i];
    }
    w->count = n;
    return ok || mf_error_set(err, MF_ERR_MALFORMED,
                              "the path must name up to %d frames as ascending numbers, from 1",
                              (int)MAX_FRAMES);
}

/* The frames wanted; all of an image that has one. */
static bool choose_frames(const struct mf_rendered_source *s, struct wanted *w,
                          struct mf_error *err)
{
    if (w->count == 0 && s->object->frames > 1)
        return mf_error_set(err, MF_ERR_NOT_ACCEPTABLE,
                            "the instance has %u frames: ask for some of them, /frames/1/rendered",
                            (unsigned)s->object->frames);
    if (w->count == 0)
        w->frames[w->count++] = 1;
    return w->frames[w->count - 1] <= s->object->frames ||
           mf_error_set(err, MF_ERR_NOT_FOUND, "the instance has %u frames",
                        (unsigned)s->object->frames);
}

/* --- parts --- */

/* multipart/related as it grows. */
struct parts {
    struct mf_request *request;
    const struct mf_rendering *rendering;
    char boundary[MF_JOB_ID]; /* 128 random bits: no picture can contain it */
    struct mf_buffer body;
    size_t count;
};

static void begin_parts(struct parts *p, struct mf_request *request,
                        const struct mf_rendering *rendering)
{
    *p = (struct parts){.request = request, .rendering = rendering};
    mf_job_id_new(p->boundary);
    mf_buffer_init(&p->body, PICTURE_BYTES);
}

static void end_parts(struct parts *p)
{
    mf_buffer_free(&p->body);
}

MF_AUTO_DEFINE(parts, struct parts, end_parts(p))

/* One frame of an instance; `whole`: it is all of it. */
static bool add_part(struct parts *p, struct mf_rendered_source *s,
                     const struct mf_instance *instance, uint32_t number, bool whole,
                     struct mf_error *err)
{
    char frame[32] = "";
    const char *const *v = instance->values;
    const char *url =
        mf_dicomweb_url(p->request, v[MF_STUDY_UID], v[MF_SERIES_UID], v[MF_SOP_INSTANCE_UID], err);
    if (!whole)
        snprintf(frame, sizeof frame, "/frames/%u", (unsigned)number);
    p->count++;
    return url &&
           mf_buffer_printf(&p->body, err,
                            "--%s\r\nContent-Type: %s\r\nContent-Location: %s%s/rendered\r\n\r\n",
                            p->boundary, p->rendering->type, url, frame) &&
           mf_rendered_append(s, p->rendering, number, &p->body, err) &&
           mf_buffer_append_str(&p->body, "\r\n", err);
}

static bool respond_parts(struct parts *p, struct mf_error *err)
{
    const char *type =
        mf_arena_printf(p->request->arena, err, "multipart/related; type=\"%s\"; boundary=%s",
                        p->rendering->type, p->boundary);
    return type && mf_buffer_printf(&p->body, err, "--%s--\r\n", p->boundary) &&
           mf_rendered_respond(p->request, type, &p->body, err);
}

/* --- an instance, frames --- */

static bool respond(struct mf_request *request, struct mf_rendered_source *s,
                    const struct mf_rendering *r, const struct wanted *w,
                    const struct mf_instance *instance, struct mf_error *err)
{
    MF_AUTO(parts) struct parts p;
    begin_parts(&p, request, r);
    if (w->count == 1)
        return mf_rendered_append(s, r, w->frames[0], &p.body, err) &&
               mf_rendered_respond(request, r->type, &p.body, err);
    for (size_t i = 0; i < w->count; i++)
        if (!add_part(&p, s, instance, w->frames[i], false, err))
            return false;
    return respond_parts(&p, err);
}

static bool render(struct mf_request *request, struct mf_error *err)
{
    struct mf_rendering r;
    struct wanted w = {.count = 0};
    MF_AUTO(mf_rendered_source) struct mf_rendered_source s = {.fd = -1};
    struct mf_found *rows = NULL;
    size_t n = 0;
    return mf_rendering_read(request, false, &r, err) &&
           (!request->parameters[3] || read_frames(request->parameters[3], &w, err)) &&
           mf_dicomweb_find(request, &rows, &n, err) &&
           mf_rendered_open(request, &rows[0].stored, &s, err) && choose_frames(&s, &w, err) &&
           respond(request, &s, &r, &w, &rows[0].stored.instance, err);
}

/* --- a series, a study --- */

static bool add_instance(struct parts *p, const struct mf_stored *stored, struct mf_error *err)
{
    MF_AUTO(mf_rendered_source) struct mf_rendered_source s = {.fd = -1};
    if (!mf_rendered_open(p->request, stored, &s, err))
        return false;
    if (p->count + s.object->frames > MAX_PICTURES)
        return mf_error_set(err, MF_ERR_TOO_LARGE,
                            "there are more than %d pictures: ask for series, instances or frames",
                            (int)MAX_PICTURES);
    for (uint32_t f = 1; f <= s.object->frames; f++)
        if (!add_part(p, &s, &stored->instance, f, s.object->frames == 1, err))
            return false;
    return true;
}

/* What has no picture is left out, but not everything may be. */
static bool add_all(struct parts *p, const struct mf_found *rows, size_t n, struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    for (size_t i = 0; i < n; i++) {
        struct mf_error problem = MF_ERROR_INIT;
        size_t count = p->count, len = p->body.len;
        if (add_instance(p, &rows[i].stored, &problem))
            continue;
        if (problem.code != MF_ERR_NOT_ACCEPTABLE)
            return mf_error_set(err, problem.code, "%s", problem.msg);
        p->count = count;
        p->body.len = len;
        mf_error_set(&first, problem.code, "%s", problem.msg);
    }
    return p->count > 0 || mf_error_set(err, first.code, "%s", first.msg);
}

static bool render_all(struct mf_request *request, struct mf_error *err)
{
    struct mf_rendering r;
    struct mf_found *rows = NULL;
    size_t n = 0;
    MF_AUTO(parts) struct parts p;
    begin_parts(&p, request, &r);
    if (!mf_rendering_read(request, false, &r, err) || !mf_dicomweb_find(request, &rows, &n, err))
        return false;
    mf_dicomweb_sort(rows, n);
    return add_all(&p, rows, n, err) && respond_parts(&p, err);
}

#define STUDY MF_DICOMWEB_ROOT "/studies/{study}"
#define SERIES STUDY "/series/{series}"
#define INSTANCE SERIES "/instances/{instance}"

const struct mf_endpoint mf_endpoint_wado_rendered = {
    .method = "GET", .pattern = INSTANCE "/rendered", .slow = true, .handle = render};
const struct mf_endpoint mf_endpoint_wado_frames_rendered = {.method = "GET",
                                                             .pattern = INSTANCE
                                                             "/frames/{frames}/rendered",
                                                             .slow = true,
                                                             .handle = render};
const struct mf_endpoint mf_endpoint_wado_series_rendered = {
    .method = "GET", .pattern = SERIES "/rendered", .slow = true, .handle = render_all};
const struct mf_endpoint mf_endpoint_wado_study_rendered = {
    .method = "GET", .pattern = STUDY "/rendered", .slow = true, .handle = render_all};
