/*
 * Artifacts: the DICOM objects of a result (dicom/write.h), with the picture that some of them show
 * decoded where everything from outside is: in a sandboxed decoder. For the endpoint, the command
 * line, and whoever sends results on.
 */
#ifndef MF_SERVER_ARTIFACTS_H
#define MF_SERVER_ARTIFACTS_H

#include "dicom/write.h"
#include "server/blobs.h"
#include "server/decoder.h"
#include "server/store.h"
#include "server/upload.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the images are. */
struct mf_artifact_images {
    struct mf_decoder *decoder; /* NULL: no object that needs a picture can be made */
    /* As in struct mf_run: the descriptor of an input of the index. */
    int (*input)(void *context, uint32_t input, struct mf_error *err);
    void *context;
};

/* Decodes one frame of an object of the index, in a decoder. Free the set. MF_ERR_UNAVAILABLE
 * without a decoder. */
bool mf_artifact_decode(const struct mf_artifact_images *images,
                        const struct mf_index_object *shown, uint32_t frame,
                        struct mf_frame_set *ret, struct mf_error *err) MF_CHECK_RESULT;
/* The image of this UID, or NULL. */
const struct mf_index_object *mf_artifact_object(const struct mf_index *index,
                                                 const char *sop_instance_uid);

/* Whose the reported study is and what was asked for, as DICOM has it ("subject" of
 * medfusion.frames/1); null when the index does not know the study. The caller owns it. */
json_t *mf_artifact_subject(const struct mf_index *index, const json_t *result);

/* One object as a Part 10 file, appended to `out`. Errors: those of mf_write_object() and of the
 * decoder; MF_ERR_UNAVAILABLE without one. */
bool mf_artifact_make(struct mf_write_set *set, const struct mf_write_item *item,
                      const struct mf_artifact_images *images, struct mf_buffer *out,
                      struct mf_error *err) MF_CHECK_RESULT;

/* The picture `name` of an explanation (server/heatmap.h) over the frame that the objects show,
 * appended to `out`. Errors: those of mf_heatmap_draw() and of the decoder. */
bool mf_artifact_heatmap(struct mf_write_set *set, const json_t *explanation, const char *name,
                         const struct mf_artifact_images *images, struct mf_buffer *out,
                         struct mf_error *err) MF_CHECK_RESULT;

/* All of them as files DIRECTORY/STUDY/NAME.dcm, STUDY being the UID, and beside them the masks, if
 * any, as masks.json; directories are made. MF_ERR_IO names the path. */
bool mf_artifacts_write(struct mf_write_set *set, const struct mf_artifact_images *images,
                        const json_t *masks, const char *directory, const char *study,
                        struct mf_error *err);

/* An explanation as DIRECTORY/STUDY/explanation.json, and its pictures beside it as NAME.png. */
bool mf_explanation_write(struct mf_write_set *set, const struct mf_artifact_images *images,
                          const json_t *explanation, const char *directory, const char *study,
                          struct mf_error *err);

/* The objects of a job that has succeeded. */
struct mf_job_artifacts {
    struct mf_write_set *set; /* NULL before opening */
    struct mf_artifact_images images;
    json_t *result, *masks, *explanation; /* masks, explanation: NULL without */
    struct mf_upload upload;
    /* private */
    struct mf_write_source source;
    const struct mf_job_record *record;
    const struct mf_blobs *blobs;
    char replaced_series[65], replaced_instance[65];
    int fd; /* the pack that was opened last; −1 = none */
};

/* `record` (with a result) and the others are borrowed. `decoder` may be NULL. Close it also after
 * a failure. `read` leaves `set` out: images need no UIDs that a DICOM object could refer to. */
bool mf_job_artifacts_read(const struct mf_job_record *record, const struct mf_blobs *blobs,
                           struct mf_decoder *decoder, struct mf_job_artifacts *ret,
                           struct mf_error *err) MF_CHECK_RESULT;
bool mf_job_artifacts_open(const struct mf_job_record *record, const struct mf_blobs *blobs,
                           struct mf_decoder *decoder, struct mf_job_artifacts *ret,
                           struct mf_error *err) MF_CHECK_RESULT;
/* Makes its report the one that replaces the predecessor's, if the job has one (predecessor.h). */
bool mf_job_artifacts_amend(struct mf_job_artifacts *artifacts, struct mf_store *store,
                            struct mf_error *err) MF_CHECK_RESULT;
void mf_job_artifacts_close(struct mf_job_artifacts *artifacts);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_job_artifacts, struct mf_job_artifacts, mf_job_artifacts_close(p))

#endif
