/*
 * Pictures of an explanation (explanation.h): a map over the frame it belongs to, as PNG.
 *   attribution-LABEL  red: speaks for the label, blue: against it
 *   relevance-LABEL, rollout  from nothing (the picture) to yellow
 */
#ifndef MF_SERVER_HEATMAP_H
#define MF_SERVER_HEATMAP_H

#include "core/buffer.h"
#include "core/frame.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Names of all pictures of an explanation: an array of strings; the caller owns it. NULL: out of
 * memory, or it is no explanation. */
json_t *mf_heatmap_names(const json_t *explanation);

/* Which frame a picture is of. */
struct mf_heatmap_frame {
    const char *sop_instance_uid;
    uint32_t index;
    const struct mf_frame *picture; /* decoded */
};

/* Appends the picture `name` to `out`, at most 1,024 pixels along the longer side.
 * MF_ERR_NOT_FOUND: there is no such picture, or no map of this frame; MF_ERR_MALFORMED: it is no
 * explanation. */
bool mf_heatmap_draw(const json_t *explanation, const char *name,
                     const struct mf_heatmap_frame *frame, struct mf_buffer *out,
                     struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
