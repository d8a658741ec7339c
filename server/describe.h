/*
 * Describe: what objects are, found out by a sandboxed decoder (its third verb), and their header
 * as DICOM JSON (its fourth).
 */
#ifndef MF_SERVER_DESCRIBE_H
#define MF_SERVER_DESCRIBE_H

#include "dicom/instance.h"
#include "server/decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_description {
    struct mf_error problem; /* why the part cannot be stored; MF_OK: `instance` holds */
    struct mf_instance instance;
};

/* Describes each part (one Part 10 file each) in one decoder. `sender`: whose objects they are;
 * what one sender sends counts as one upload, so the next of its objects may meet the same decoder,
 * which spares a process an object. NULL: a decoder for these alone. A part that kills the decoder
 * is found by describing them singly, and has the problem MF_ERR_CRASHED. Strings lie in the arena.
 * False only when decoders cannot be had. */
bool mf_describe(struct mf_decoder *decoder, const char *sender, const struct mf_part *parts,
                 size_t n, struct mf_arena *arena, struct mf_description *ret,
                 struct mf_error *err) MF_CHECK_RESULT;

/* Appends the DICOM JSON Model (PS3.18 annex F) of each part's header, file meta information and
 * pixel data left out, as the members of one JSON array. */
bool mf_describe_metadata(struct mf_decoder *decoder, const struct mf_part *parts, size_t n,
                          struct mf_buffer *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
