/* Frame selection: see frame_selection.h. */
#include "server/frame_selection.h"

#include "core/json.h"
#include "server/upload.h"

#include <stdio.h>
#include <string.h>

/* The slot of an input among those selected, opened at its first use. */
static bool select_input(struct mf_frame_selection *s, const struct mf_frame_inputs *inputs,
                         uint32_t input, uint32_t *ret, struct mf_error *err)
{
    size_t n = s->wanted.fd_count;
    for (size_t i = 0; i < n; i++)
        if (s->inputs[i] == input) {
            *ret = (uint32_t)i;
            return true;
        }
    int fd = inputs->open(inputs->context, input, err);
    if (fd < 0)
        return false;
    *ret = (uint32_t)n;
    s->inputs[n] = input;
    s->fds[n] = fd;
    s->wanted.fd_count++;
    return true;
}

static bool select_frame(struct mf_frame_selection *s, struct mf_index_object *objects,
                         const struct mf_frame_inputs *inputs, const struct mf_study_frame *frame,
                         struct mf_error *err)
{
    size_t i = 0;
    while (i < s->object_count && s->origin[i] != frame->object)
        i++;
    if (i == s->object_count) {
        s->origin[i] = frame->object;
        objects[i] = *frame->object;
        snprintf(s->names[i], sizeof s->names[i], "object %zu", i);
        objects[i].name = s->names[i];
        if (!select_input(s, inputs, frame->object->input, &objects[i].input, err))
            return false;
        s->object_count++;
    }
    s->frames[s->wanted.frame_count++] = (struct mf_frame_request){(uint32_t)i, frame->frame};
    return true;
}

bool mf_frame_selection_make(const struct mf_study_request *request,
                             const struct mf_frame_inputs *inputs, struct mf_frame_selection *ret,
                             struct mf_error *err)
{
    struct mf_index_object objects[MF_SELECTION_FRAMES];
    memset(ret, 0, sizeof *ret);
    if (request->frame_count == 0 || request->frame_count > MF_SELECTION_FRAMES)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%zu frames, 1 to %d can be used",
                            request->frame_count, MF_SELECTION_FRAMES);
    for (size_t i = 0; i < request->frame_count; i++)
        if (!select_frame(ret, objects, inputs, &request->frames[i], err))
            return false;
    const struct mf_index index = {.objects = objects, .object_count = ret->object_count};
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(&index);
    ret->text = json ? mf_json_text(json, 0) : NULL;
    if (!ret->text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    ret->wanted.fds = ret->fds;
    ret->wanted.index = ret->text;
    ret->wanted.index_len = strlen(ret->text);
    ret->wanted.frames = ret->frames;
    return true;
}

/* What a decoder that came to its end could not say: whose fault it was. */
static bool names_nobody(const struct mf_frame_selection *s, const struct mf_error *error)
{
    if (error->code != MF_ERR_CRASHED && error->code != MF_ERR_TIMEOUT &&
        error->code != MF_ERR_TOO_LARGE)
        return false;
    for (size_t i = 0; i < s->object_count; i++)
        if (strncmp(error->msg, s->names[i], strlen(s->names[i])) == 0)
            return false;
    return true;
}

/* Whether this frame ends a decoder that has nothing else to do. */
static bool is_guilty(const struct mf_frame_selection *s, struct mf_decoder *decoder, size_t frame)
{
    struct mf_error alone = MF_ERROR_INIT;
    struct mf_frames_wanted one = s->wanted;
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    one.frames = &s->frames[frame];
    one.frame_count = 1;
    return !mf_decoder_frames(decoder, &one, &frames, &alone) && names_nobody(s, &alone);
}

static void blame(const struct mf_frame_selection *s, struct mf_decoder *decoder,
                  struct mf_error *err)
{
    for (size_t i = 0; i < s->wanted.frame_count; i++)
        if (s->wanted.frame_count == 1 || is_guilty(s, decoder, i)) {
            mf_error_prefix(err, "%s", s->names[s->frames[i].object]);
            return;
        }
}

bool mf_frame_selection_decode(const struct mf_frame_selection *s, struct mf_decoder *decoder,
                               struct mf_frame_set *ret, struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    if (mf_decoder_frames(decoder, &s->wanted, ret, &problem))
        return true;
    if (names_nobody(s, &problem))
        blame(s, decoder, &problem);
    for (size_t i = 0; i < s->object_count; i++) /* objects get their own names back */
        if (mf_upload_rename(&problem, s->names[i], s->origin[i]->name))
            break;
    return mf_error_set(err, problem.code, "%s", problem.msg);
}

void mf_frame_selection_free(struct mf_frame_selection *s)
{
    if (s)
        free(s->text);
}
