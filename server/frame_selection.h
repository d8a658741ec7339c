/*
 * Frame selection: what a decoder must be told to decode the frames of a plan, and nothing else of
 * a perhaps large index. Front and worker make it of the same plan, so that frames which the one
 * asked for ahead are recognised by the other.
 */
#ifndef MF_SERVER_FRAME_SELECTION_H
#define MF_SERVER_FRAME_SELECTION_H

#include "dicom/study.h"
#include "server/decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_SELECTION_FRAMES = 32 };

struct mf_frame_selection {
    struct mf_frames_wanted wanted; /* points into this struct and to `text` */
    char *text;                     /* owned */
    /* Objects have short names for the decoder: a file's path is not its business. */
    char names[MF_SELECTION_FRAMES][16];
    const struct mf_index_object *origin[MF_SELECTION_FRAMES]; /* borrowed from the plan's index */
    size_t object_count;
    int fds[MF_SELECTION_FRAMES];
    uint32_t inputs[MF_SELECTION_FRAMES];
    struct mf_frame_request frames[MF_SELECTION_FRAMES];
};

/* Where the bytes of an index's inputs are: the descriptor of an input (object.input), which stays
 * the callee's; −1 with an error. */
struct mf_frame_inputs {
    int (*open)(void *context, uint32_t input, struct mf_error *err);
    void *context;
};

/* Selects the frames of a request. `ret` must stay where it is while `wanted` is used; free it with
 * mf_frame_selection_free(). MF_ERR_UNUSABLE: no frames, or more than the network takes. */
bool mf_frame_selection_make(const struct mf_study_request *request,
                             const struct mf_frame_inputs *inputs, struct mf_frame_selection *ret,
                             struct mf_error *err) MF_CHECK_RESULT;
/* Decodes the selected frames (mf_decoder_frames()). An error names the object that it is of, also
 * when that brought the decoder to its end or to its limits: then the frames are decoded one by one
 * until one does so again. */
bool mf_frame_selection_decode(const struct mf_frame_selection *selection,
                               struct mf_decoder *decoder, struct mf_frame_set *ret,
                               struct mf_error *err) MF_CHECK_RESULT;
void mf_frame_selection_free(struct mf_frame_selection *selection); /* what it owns */

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_frame_selection, struct mf_frame_selection, mf_frame_selection_free(p))

#endif
