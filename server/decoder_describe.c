/* Three verbs of a decoder, run inside the sandbox: describe (parts → what they are), metadata
 * (parts → DICOM JSON; describe.h) and deidentify (a part → another file; deidentify.h). */
#include "server/decoder_protocol.h"

#include "dicom/deidentify.h"
#include "dicom/instance.h"
#include "dicom/metadata.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARENA_BYTES = 256 << 20 };

/* A part's bytes, mapped. */
struct mapping {
    void *map;
    size_t map_size, size;
    const char *data;
};

MF_AUTO_DEFINE(mapping, struct mapping, if (p->map) munmap(p->map, p->map_size))

static bool map_part(const struct mf_part *part, struct mapping *ret, struct mf_error *err)
{
    struct stat st;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), begin = part->offset / page * page;
    if (fstat(part->fd, &st) != 0 || part->offset > (uint64_t)st.st_size ||
        part->size > (uint64_t)st.st_size - part->offset)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the payload ends before this part");
    if (part->size == 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "empty");
    ret->map_size = (size_t)(part->offset - begin + part->size);
    void *map = mmap(NULL, ret->map_size, PROT_READ, MAP_PRIVATE, part->fd, (off_t)begin);
    if (map == MAP_FAILED)
        return mf_error_set(err, errno == ENOMEM ? MF_ERR_NO_MEMORY : MF_ERR_IO,
                            "cannot be mapped: %s", strerror(errno));
    ret->map = map;
    ret->data = (const char *)map + (part->offset - begin);
    ret->size = (size_t)part->size;
    return true;
}

static json_t *describe_part(const struct mf_part *part, struct mf_arena *arena)
{
    struct mf_error problem = MF_ERROR_INIT;
    struct mf_instance instance;
    MF_AUTO(mapping) struct mapping m = {.map = NULL};
    if (map_part(part, &m, &problem) &&
        mf_instance_read(m.data, m.size, arena, &instance, &problem))
        return mf_instance_to_json(&instance);
    return json_pack("{s:s, s:s}", "code", mf_code_name(problem.code), "detail", problem.msg);
}

bool mf_decoder_verb_describe(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                              struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    MF_AUTO(mf_json) json_t *list = arena ? json_array() : NULL;
    for (size_t i = 0; list && i < r->part_count; i++)
        if (json_array_append_new(list, describe_part(&r->parts[i], arena)) != 0)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    MF_AUTO(mf_mem) char *text = list ? mf_json_text(list, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return mf_buffer_append_str(&reply->payload, text, err);
}

bool mf_decoder_verb_metadata(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                              struct mf_error *err)
{
    for (size_t i = 0; i < r->part_count; i++) {
        MF_AUTO(mapping) struct mapping m = {.map = NULL};
        if ((i > 0 && !mf_buffer_append_str(&reply->payload, ",", err)) ||
            !map_part(&r->parts[i], &m, err) ||
            !mf_metadata_json(m.data, m.size, &reply->payload, err))
            return false;
    }
    return true;
}

static bool put_file(const struct mf_buffer *file, struct mf_decoder_reply *reply,
                     struct mf_error *err)
{
    reply->fd = memfd_create("object", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (reply->fd < 0 || ftruncate(reply->fd, (off_t)file->len) != 0)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the object takes more than is allowed");
    void *map = mmap(NULL, file->len, PROT_READ | PROT_WRITE, MAP_SHARED, reply->fd, 0);
    if (map == MAP_FAILED)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "the object: %s", strerror(errno));
    memcpy(map, file->data, file->len);
    munmap(map, file->len);
    return true;
}

bool mf_decoder_verb_deidentify(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                                struct mf_error *err)
{
    struct mf_deidentify_rules rules;
    MF_AUTO(mapping) struct mapping m = {.map = NULL};
    MF_AUTO(mf_buffer) struct mf_buffer file;
    mf_buffer_init(&file, r->limits->memory);
    if (r->part_count != 1 || r->index_len != sizeof rules)
        return mf_error_set(err, MF_ERR_INTERNAL, "de-identification: not one part and its rules");
    memcpy(&rules, r->index, sizeof rules);
    return map_part(&r->parts[0], &m, err) && mf_deidentify(m.data, m.size, &rules, &file, err) &&
           put_file(&file, reply, err);
}
