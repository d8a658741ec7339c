/*
 * Rendered: stored images as pictures for DICOMweb (PS3.18 8.3.5): what a request asks for, and the
 * picture of one frame. Everything that is parsed is parsed in decoders.
 */
#ifndef MF_SERVER_RENDERED_H
#define MF_SERVER_RENDERED_H

#include "core/frame.h"
#include "server/frame_picture.h"
#include "server/request.h"
#include "server/services.h"
#include "server/upload.h"
#include "server/viewport.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a request wants its pictures. */
struct mf_rendering {
    const char *type; /* image/jpeg or image/png */
    struct mf_viewport viewport;
    struct mf_frame_picture picture;
    bool windowed;
    double center, width;
    enum mf_voi_function function;
};

/* Reads the query parameters accept, quality, viewport and window (of a thumbnail: accept and
 * viewport), and Accept. MF_ERR_MALFORMED, MF_ERR_NOT_ACCEPTABLE. *ret must not be moved then. */
bool mf_rendering_read(const struct mf_request *request, bool thumbnail, struct mf_rendering *ret,
                       struct mf_error *err) MF_CHECK_RESULT;

/* A stored object that has an image. */
struct mf_rendered_source {
    struct mf_decoder *decoder;
    int fd;
    struct mf_upload upload;
    const struct mf_index_object *object;
};

/* MF_ERR_NOT_ACCEPTABLE: it has no image, or none that can be read. Close it also after a failure.
 */
bool mf_rendered_open(struct mf_request *request, const struct mf_stored *stored,
                      struct mf_rendered_source *ret, struct mf_error *err) MF_CHECK_RESULT;
void mf_rendered_close(struct mf_rendered_source *source);

/* Appends the picture of one frame, counted from 1. */
bool mf_rendered_append(struct mf_rendered_source *source, const struct mf_rendering *rendering,
                        uint32_t number, struct mf_buffer *out,
                        struct mf_error *err) MF_CHECK_RESULT;

/* Answers with what is in the buffer. */
bool mf_rendered_respond(struct mf_request *request, const char *type, struct mf_buffer *body,
                         struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_rendered_source, struct mf_rendered_source, mf_rendered_close(p))

#endif
