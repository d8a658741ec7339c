/* Describe: the client's side. The answers come from a process that hostile bytes may own. */
#include "server/describe.h"

#include "server/decoder_protocol.h"

#include <string.h>

static const struct mf_json_limits LIMITS = {MF_DECODER_ANSWER_MAX, 8};

static bool read_one(const json_t *value, struct mf_arena *arena, struct mf_description *ret,
                     struct mf_error *err)
{
    const char *code = mf_json_get_string(value, "code", NULL);
    if (!code)
        return mf_instance_from_json(value, arena, &ret->instance, err);
    mf_error_set(&ret->problem, mf_code_from_name(code), "%s",
                 mf_json_get_string(value, "detail", "it cannot be read"));
    return true;
}

static bool read_answer(const struct mf_message *answer, size_t n, struct mf_arena *arena,
                        struct mf_description *ret, struct mf_error *err)
{
    MF_AUTO(mf_json)
    json_t *list =
        mf_json_parse(answer->payload.data, answer->payload.len, &LIMITS, "description", err);
    if (!list)
        return false;
    if (!json_is_array(list) || json_array_size(list) != n)
        return mf_error_set(err, MF_ERR_CRASHED, "the decoder's description is incomplete");
    for (size_t i = 0; i < n; i++)
        if (!read_one(json_array_get(list, i), arena, &ret[i], err))
            return false;
    return true;
}

static bool describe_all(struct mf_decoder *decoder, const char *sender,
                         const struct mf_part *parts, size_t n, struct mf_arena *arena,
                         struct mf_description *ret, struct mf_error *err)
{
    struct mf_decoder_call call = {
        .verb = MF_VERB_DESCRIBE, .sender = sender, .parts = parts, .part_count = n};
    MF_AUTO(mf_message) struct mf_message answer;
    memset(ret, 0, n * sizeof *ret);
    return mf_decoder_do(decoder, &call, &answer, err) && read_answer(&answer, n, arena, ret, err);
}

bool mf_describe(struct mf_decoder *decoder, const char *sender, const struct mf_part *parts,
                 size_t n, struct mf_arena *arena, struct mf_description *ret, struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    if (n == 0 || describe_all(decoder, sender, parts, n, arena, ret, &first))
        return true;
    if (first.code == MF_ERR_UNAVAILABLE || first.code == MF_ERR_IO)
        return mf_error_set(err, first.code, "%s", first.msg);
    memset(ret, 0, n * sizeof *ret);
    for (size_t i = 0; i < n; i++) { /* one of them is to blame: it alone shall fail */
        struct mf_error error = MF_ERROR_INIT;
        if (describe_all(decoder, NULL, &parts[i], 1, arena, &ret[i], &error))
            continue;
        if (error.code == MF_ERR_UNAVAILABLE || error.code == MF_ERR_IO)
            return mf_error_set(err, error.code, "%s", error.msg);
        ret[i].problem = error;
    }
    return true;
}

bool mf_describe_metadata(struct mf_decoder *decoder, const struct mf_part *parts, size_t n,
                          struct mf_buffer *ret, struct mf_error *err)
{
    struct mf_decoder_call call = {.verb = MF_VERB_METADATA, .parts = parts, .part_count = n};
    MF_AUTO(mf_message) struct mf_message answer;
    return mf_decoder_do(decoder, &call, &answer, err) &&
           mf_buffer_append(ret, answer.payload.data, answer.payload.len, err);
}
