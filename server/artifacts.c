/* Artifacts: decoding the picture, writing files, and what a job keeps as the source of objects. */
#include "server/artifacts.h"

#include "core/outfile.h"
#include "server/heatmap.h"
#include "server/predecessor.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OBJECT_BYTES = 1 << 30, PATH_BYTES = 4096, RECORD_BYTES = 512 << 20 };

/* --- the picture --- */

bool mf_artifact_decode(const struct mf_artifact_images *images,
                        const struct mf_index_object *shown, uint32_t frame,
                        struct mf_frame_set *ret, struct mf_error *err)
{
    const struct mf_frame_request wanted = {.object = 0, .frame = frame};
    struct mf_index_object object = *shown;
    const struct mf_index index = {.objects = &object, .object_count = 1};
    if (!images->decoder)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "images cannot be decoded here");
    int fd = images->input(images->context, shown->input, err);
    if (fd < 0)
        return false;
    object.input = 0;
    object.name = "picture";
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(&index);
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    const struct mf_frames_wanted frames = {&fd, 1, text, strlen(text), &wanted, 1};
    return mf_decoder_frames(images->decoder, &frames, ret, err);
}

const struct mf_index_object *mf_artifact_object(const struct mf_index *index,
                                                 const char *sop_instance_uid)
{
    for (size_t i = 0; i < index->object_count; i++) {
        const struct mf_index_object *o = &index->objects[i];
        if (o->pixel_data != MF_PIXEL_DATA_NONE && o->sop_instance_uid && sop_instance_uid &&
            strcmp(o->sop_instance_uid, sop_instance_uid) == 0)
            return o;
    }
    return NULL;
}

json_t *mf_artifact_subject(const struct mf_index *index, const json_t *result)
{
    const char *study =
        mf_json_get_string(json_object_get(result, "study"), "study_instance_uid", "");
    for (size_t i = 0; i < index->object_count; i++) {
        const struct mf_index_object *o = &index->objects[i];
        if (o->study_instance_uid && strcmp(o->study_instance_uid, study) == 0)
            return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "patient_id",
                             mf_json_string(o->patient_id), "patient_name",
                             mf_json_string(o->patient_name), "sex", mf_json_string(o->patient_sex),
                             "birth_date", mf_json_string(o->patient_birth_date), "age",
                             mf_json_string(o->patient_age), "accession_number",
                             mf_json_string(o->accession_number), "study_date",
                             mf_json_string(o->study_date), "study_description",
                             mf_json_string(o->study_description));
    }
    return json_null();
}

bool mf_artifact_make(struct mf_write_set *set, const struct mf_write_item *item,
                      const struct mf_artifact_images *images, struct mf_buffer *out,
                      struct mf_error *err)
{
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {.count = 0};
    if (!item->needs_picture)
        return mf_write_object(set, item, out, err);
    uint32_t frame = 0;
    const struct mf_index_object *shown = mf_write_set_picture(set, &frame);
    if (!mf_artifact_decode(images, shown, frame, &frames, err))
        return false;
    mf_write_set_give_picture(set, &frames.frames[0]);
    bool ok = mf_write_object(set, item, out, err);
    mf_write_set_give_picture(set, NULL);
    return ok;
}

bool mf_artifact_heatmap(struct mf_write_set *set, const json_t *explanation, const char *name,
                         const struct mf_artifact_images *images, struct mf_buffer *out,
                         struct mf_error *err)
{
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {.count = 0};
    struct mf_heatmap_frame shown = {.index = 0};
    const struct mf_index_object *object = mf_write_set_picture(set, &shown.index);
    shown.sop_instance_uid = object->sop_instance_uid;
    if (!mf_artifact_decode(images, object, shown.index, &frames, err))
        return false;
    shown.picture = &frames.frames[0];
    return mf_heatmap_draw(explanation, name, &shown, out, err);
}

/* --- files --- */

static bool make_directory(const char *path, struct mf_error *err)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ||
           mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(errno));
}

static bool write_file(const char *path, const struct mf_buffer *content, struct mf_error *err)
{
    struct mf_outfile out;
    if (!mf_outfile_open(&out, path, err))
        return false;
    if (fwrite(content->data, 1, content->len, out.file) == content->len)
        return mf_outfile_commit(&out, err);
    mf_outfile_abandon(&out);
    return mf_error_set(err, MF_ERR_IO, "%s: cannot be written", path);
}

static bool write_json(const json_t *json, const char *path, struct mf_error *err)
{
    char *text = mf_json_text(json, 0);
    MF_AUTO(mf_buffer) struct mf_buffer content = {.data = text, .len = text ? strlen(text) : 0};
    return text ? write_file(path, &content, err)
                : mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %s", path);
}

/* DIRECTORY/STUDY, made. A UID that is no name for a directory ("..") is replaced by that of the
 * report's series. */
static bool make_folder(const struct mf_write_set *set, const char *directory, const char *study,
                        char folder[PATH_BYTES], struct mf_error *err)
{
    size_t n;
    const struct mf_write_item *items = mf_write_set_items(set, &n);
    snprintf(folder, PATH_BYTES, "%s/%s", directory,
             isdigit((unsigned char)*study) ? study : items[0].series_instance_uid);
    return make_directory(directory, err) && make_directory(folder, err);
}

bool mf_artifacts_write(struct mf_write_set *set, const struct mf_artifact_images *images,
                        const json_t *masks, const char *directory, const char *study,
                        struct mf_error *err)
{
    size_t n;
    char folder[PATH_BYTES], path[PATH_BYTES + 32];
    const struct mf_write_item *items = mf_write_set_items(set, &n);
    if (!make_folder(set, directory, study, folder, err))
        return false;
    for (size_t i = 0; i < n; i++) {
        MF_AUTO(mf_buffer) struct mf_buffer object;
        mf_buffer_init(&object, OBJECT_BYTES);
        snprintf(path, sizeof path, "%s/%s.dcm", folder, items[i].name);
        if (!mf_artifact_make(set, &items[i], images, &object, err) ||
            !write_file(path, &object, err))
            return false;
    }
    snprintf(path, sizeof path, "%s/masks.json", folder);
    return !masks || write_json(masks, path, err);
}

/* A label's name may hold what a file's may not. */
static void name_picture(const char *folder, const char *name, char path[PATH_BYTES + 320])
{
    int n = snprintf(path, PATH_BYTES + 320, "%s/", folder);
    size_t at = (size_t)n;
    for (; *name && at < PATH_BYTES + 310; name++)
        path[at++] = isalnum((unsigned char)*name) || strchr("-_", *name) ? *name : '_';
    memcpy(path + at, ".png", 5);
}

bool mf_explanation_write(struct mf_write_set *set, const struct mf_artifact_images *images,
                          const json_t *explanation, const char *directory, const char *study,
                          struct mf_error *err)
{
    char folder[PATH_BYTES], path[PATH_BYTES + 320];
    MF_AUTO(mf_json) json_t *names = mf_heatmap_names(explanation);
    if (!names)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for pictures");
    if (!make_folder(set, directory, study, folder, err))
        return false;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        MF_AUTO(mf_buffer) struct mf_buffer picture;
        mf_buffer_init(&picture, OBJECT_BYTES);
        name_picture(folder, name, path);
        if (!mf_artifact_heatmap(set, explanation, name, images, &picture, err) ||
            !write_file(path, &picture, err))
            return false;
    }
    snprintf(path, sizeof path, "%s/explanation.json", folder);
    return write_json(explanation, path, err);
}

/* --- a job --- */

/* The pack that an input of the index lies in. */
static int job_input(void *context, uint32_t input, struct mf_error *err)
{
    struct mf_job_artifacts *a = context;
    uint32_t n = 0;
    for (size_t i = 0; i < a->record->input_count; i++) {
        if (strcmp(a->record->inputs[i].part, "dicom") != 0 || n++ != input)
            continue;
        if (a->fd >= 0)
            close(a->fd);
        const struct mf_job_input *in = &a->record->inputs[i];
        a->fd = mf_blobs_open_part(a->blobs, in->locator, in->offset, in->size, err);
        return a->fd;
    }
    mf_error_set(err, MF_ERR_MALFORMED, "index: there is no part %u", input + 1);
    return -1;
}

bool mf_job_artifacts_read(const struct mf_job_record *record, const struct mf_blobs *blobs,
                           struct mf_decoder *decoder, struct mf_job_artifacts *ret,
                           struct mf_error *err)
{
    static const struct mf_json_limits LIMITS = {.max_bytes = 64 << 20};
    *ret = (struct mf_job_artifacts){.record = record, .blobs = blobs, .fd = -1};
    ret->images = (struct mf_artifact_images){decoder, job_input, ret};
    if (!mf_upload_parse(record->index, record->index_len, MF_UPLOAD_WITHOUT_EHR, &ret->upload,
                         err) ||
        !(ret->result = mf_json_parse(record->result, record->result_len, &LIMITS, "result", err)))
        return false;
    ret->masks = record->masks
                     ? mf_json_parse(record->masks, record->masks_len, &LIMITS, "masks", err)
                     : NULL;
    ret->explanation = record->explanation
                           ? mf_json_parse(record->explanation, record->explanation_len, &LIMITS,
                                           "explanation", err)
                           : NULL;
    return (ret->masks || !record->masks) && (ret->explanation || !record->explanation);
}

bool mf_job_artifacts_open(const struct mf_job_record *record, const struct mf_blobs *blobs,
                           struct mf_decoder *decoder, struct mf_job_artifacts *ret,
                           struct mf_error *err)
{
    if (!mf_job_artifacts_read(record, blobs, decoder, ret, err))
        return false;
    ret->source = (struct mf_write_source){.index = ret->upload.index,
                                           .result = ret->result,
                                           .masks = ret->masks,
                                           .explanation = ret->explanation,
                                           .made_ms = record->job.finished_ms};
    ret->set = mf_write_set_new(&ret->source, err);
    return ret->set != NULL;
}

bool mf_job_artifacts_amend(struct mf_job_artifacts *a, struct mf_store *store,
                            struct mf_error *err)
{
    const char *study =
        mf_json_get_string(json_object_get(a->result, "study"), "study_instance_uid", "");
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts earlier = {.fd = -1};
    struct mf_job_record record;
    bool found = false;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    if (!mf_predecessor(store, a->record->job.tenant, study, a->record->job.id, arena, &record,
                        &found, err))
        return false;
    if (!found)
        return true;
    if (!mf_job_artifacts_open(&record, a->blobs, NULL, &earlier, err))
        return false;
    const struct mf_write_item *report = mf_write_set_find(earlier.set, "sr");
    snprintf(a->replaced_series, sizeof a->replaced_series, "%s", report->series_instance_uid);
    snprintf(a->replaced_instance, sizeof a->replaced_instance, "%s", report->sop_instance_uid);
    a->source.replaced_series_uid = a->replaced_series;
    a->source.replaced_instance_uid = a->replaced_instance;
    return true;
}

void mf_job_artifacts_close(struct mf_job_artifacts *a)
{
    mf_write_set_free(a->set);
    mf_upload_free(&a->upload);
    json_decref(a->result);
    json_decref(a->masks);
    json_decref(a->explanation);
    if (a->record && a->fd >= 0)
        close(a->fd);
    *a = (struct mf_job_artifacts){.fd = -1};
}
