/*
 * The two verbs of a decoder, run inside the sandbox: scan (parts → index) and frames (index →
 * samples in a sealed memfd). See decoder_protocol.h for their requests.
 */
#include "server/decoder_protocol.h"

#include "core/file_range.h"
#include "dicom/decode.h"
#include "dicom/scan.h"
#include "server/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* --- scan --- */

static struct mf_index *scan_dicom(const struct mf_decoder_request *r, struct mf_error *err)
{
    struct mf_scan_limits limits = {.expanded_bytes = r->limits->expanded_bytes,
                                    .ratio = r->limits->expansion_ratio,
                                    .objects = r->limits->objects,
                                    .lenient = r->limits->lenient};
    MF_AUTO(mf_mem)
    struct mf_scan_input *inputs = calloc(r->part_count + 1, sizeof *inputs);
    size_t n = 0;
    if (!inputs) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < r->part_count; i++)
        if (r->parts[i].kind == MF_PART_DICOM)
            inputs[n++] =
                (struct mf_scan_input){r->parts[i].fd, r->parts[i].offset, r->parts[i].size};
    return mf_scan(inputs, n, &limits, err);
}

static bool read_piece(void *context, const void *piece, size_t len, struct mf_error *err)
{
    return mf_fhir_reader_feed(context, piece, len, err);
}

static struct mf_fhir_document *read_ehr(const struct mf_part *part,
                                         const struct mf_fhir_limits *limits, struct mf_error *err)
{
    const struct mf_file_range range = {"the FHIR part", part->fd, part->offset, part->size};
    MF_AUTO(mf_fhir_reader) struct mf_fhir_reader *reader = mf_fhir_reader_new(limits, "ehr", err);
    return reader && mf_file_range_pieces(&range, read_piece, reader, err)
               ? mf_fhir_reader_finish(reader, err)
               : NULL;
}

/* The FHIR part, at most one; false only on an error. */
static bool parse_ehr(const struct mf_decoder_request *r, struct mf_fhir_document **ret,
                      struct mf_error *err)
{
    const struct mf_part *ehr = NULL;
    for (size_t i = 0; i < r->part_count; i++) {
        if (r->parts[i].kind != MF_PART_EHR)
            continue;
        if (ehr)
            return mf_error_set(err, MF_ERR_MALFORMED, "more than one FHIR part");
        ehr = &r->parts[i];
    }
    if (!ehr)
        return true;
    const struct mf_fhir_limits limits = {.max_bytes = r->limits->ehr_bytes};
    if (ehr->size > r->limits->ehr_bytes)
        return mf_error_set(
            err, MF_ERR_TOO_LARGE, "ehr: %llu bytes of FHIR, at most %llu are accepted",
            (unsigned long long)ehr->size, (unsigned long long)r->limits->ehr_bytes);
    *ret = read_ehr(ehr, &limits, err);
    return *ret != NULL;
}

bool mf_decoder_verb_scan(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                          struct mf_error *err)
{
    MF_AUTO(mf_index) struct mf_index *index = NULL;
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *ehr = NULL;
    size_t dicom_parts = 0;
    for (size_t i = 0; i < r->part_count; i++)
        dicom_parts += r->parts[i].kind == MF_PART_DICOM;
    if (dicom_parts && !(index = scan_dicom(r, err)))
        return false;
    if (!parse_ehr(r, &ehr, err))
        return false;
    MF_AUTO(mf_mem) char *text = mf_upload_text(index, ehr, err);
    return text && (mf_buffer_append_str(&reply->payload, text, err) ||
                    mf_error_prefix(err, "the index of this upload"));
}

/* --- frames --- */

static const struct mf_json_limits INDEX_LIMITS = {MF_DECODER_REQUEST_MAX, 64};

/* Appends one packed frame to the memfd, 64-byte aligned, and its place to the answer. */
static bool put_frame(int memfd, uint64_t *end, const struct mf_frame *frame,
                      struct mf_decoder_reply *reply, struct mf_error *err)
{
    struct mf_wire_frame wire = {*end, mf_frame_packed_size(frame)};
    uint64_t page = wire.offset & ~4095ULL; /* mappings begin at pages */
    uint64_t next = (wire.offset + wire.size + 63) & ~63ULL;
    if (ftruncate(memfd, (off_t)next) != 0)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the decoded frames take more than is allowed");
    size_t size = (size_t)(next - page);
    char *map =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd, (off_t)page);
    if (map == MAP_FAILED)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "frames: %s", strerror(errno));
    mf_frame_pack(frame, map + (wire.offset - page));
    munmap(map, size);
    *end = next;
    return mf_buffer_append(&reply->payload, &wire, sizeof wire, err);
}

static bool put_wanted(const struct mf_decoder_request *r, const struct mf_index *index,
                       struct mf_decoder_reply *reply, struct mf_error *err)
{
    uint64_t end = 0;
    for (size_t i = 0; i < r->wanted_count; i++) {
        const struct mf_frame_request *w = &r->wanted[i];
        const struct mf_index_object *object =
            w->object < index->object_count ? &index->objects[w->object] : NULL;
        if (!object || object->input >= r->part_count)
            return mf_error_set(err, MF_ERR_INTERNAL, "frames: no such object");
        MF_AUTO(mf_frame) struct mf_frame frame = {0};
        if (!mf_decode_frame(r->parts[object->input].fd, object, w->frame, &frame, err))
            return mf_error_prefix(err, "%s", object->name);
        if (!put_frame(reply->fd, &end, &frame, reply, err))
            return false;
    }
    return true;
}

bool mf_decoder_verb_frames(const struct mf_decoder_request *r, struct mf_decoder_reply *reply,
                            struct mf_error *err)
{
    MF_AUTO(mf_json)
    json_t *json = mf_json_parse(r->index, r->index_len, &INDEX_LIMITS, "index", err);
    MF_AUTO(mf_index) struct mf_index *index = json ? mf_index_from_json(json, err) : NULL;
    if (!index)
        return false;
    reply->fd = memfd_create("frames", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (reply->fd < 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "frames: %s", strerror(errno));
    if (!put_wanted(r, index, reply, err))
        return false;
    if (fcntl(reply->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
        0)
        return mf_error_set(err, MF_ERR_INTERNAL, "frames: %s", strerror(errno));
    return true;
}
