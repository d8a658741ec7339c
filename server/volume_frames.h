/*
 * Volume frames: the planes of a request's volume (dicom/volume.h) as frames of modality values, of
 * slices that a decoder decodes and engine/reslice.h adds up.
 */
#ifndef MF_SERVER_VOLUME_FRAMES_H
#define MF_SERVER_VOLUME_FRAMES_H

#include "core/result.h"
#include "dicom/volume.h"
#include "engine/bundle.h"
#include "server/decoder.h"
#include "server/frame_selection.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_volume_source {
    struct mf_decoder *decoder;
    struct mf_frame_inputs inputs;
    /* Asked between batches of slices when not NULL, with the share that is done: false stops with
     * the error that it sets. */
    bool (*go_on)(void *context, double done, struct mf_error *err);
    void *context;
};

/* Makes `count` planes (numbers below volume->size[0]). On success free `ret` with
 * mf_frame_set_free(): floats of the stack's rows and columns, with the window that `values` or
 * else the nearest slice has. Errors are the decoder's; MF_ERR_MALFORMED when a slice has not the
 * size that its series has. */
bool mf_volume_frames(const struct mf_volume *volume, const struct mf_bundle_volume *values,
                      const size_t *planes, size_t count, const struct mf_volume_source *source,
                      struct mf_frame_set *ret, struct mf_error *err) MF_CHECK_RESULT;

/* What a result says of a volume, and the quality flags that it earns: at most MF_VOLUME_FLAGS
 * names, returns how many. */
enum { MF_VOLUME_FLAGS = 5 };
void mf_volume_describe(const struct mf_volume *volume, struct mf_result_volume *ret);
size_t mf_volume_flags(const struct mf_volume *volume, const char *flags[MF_VOLUME_FLAGS]);

/* A box in pixels of a plane as one in stored pixels: results speak of stored images. */
void mf_volume_stored_box(const struct mf_volume *volume, uint32_t box[4]);

#ifdef __cplusplus
}
#endif

#endif
