/*
 * Decoder client: everything that parses bytes from outside happens in a sandboxed process.
 *
 * The front, the worker and the command line talk to it through this interface. There are two
 * verbs: scan    parts of an upload (Part 10 files, zips, one FHIR Bundle) → an index, as JSON
 * text; frames  the same parts and that index → decoded frames in sealed shared memory, without
 * parsing again. Parts are ranges of descriptors, never paths. A decoder that crashes, hangs or
 * runs out of memory costs its caller one clear error; the next request gets a fresh process.
 *
 * How it works: a small "zygote" process (decoder_process.h) listens on an abstract Unix socket
 * that only the same user may reach. Every connection to it is one forked, sandboxed decoder that
 * serves one upload and ends: what one upload did to it cannot reach the next. Nothing but the
 * socket's name is needed to use it, from any process. A decoder killed from outside is replaced
 * and the request repeated, unseen.
 */
#ifndef MF_SERVER_DECODER_H
#define MF_SERVER_DECODER_H

#include "core/buffer.h"
#include "core/error.h"
#include "core/frame.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_part_kind { MF_PART_DICOM, MF_PART_EHR };

/* One part of an upload. Many parts may share a descriptor (a request's pack); at most
 * MF_DECODER_MAX_FDS different descriptors take part in one call. */
struct mf_part {
    enum mf_part_kind kind;
    int fd; /* borrowed; a regular file or a memfd, read with pread */
    uint64_t offset, size;
};

enum { MF_DECODER_MAX_FDS = 128, MF_DECODER_MAX_PARTS = 10000 };

/* How often one decoder describes objects of one sender, and how long a sender's name may be. */
enum { MF_DECODER_DESCRIBES = 64, MF_DECODER_SENDER = 192 };

/* What one request may use; 0 = the default. */
struct mf_decoder_limits {
    uint64_t memory;          /* address space of its process, bytes; 1 GiB */
    unsigned cpu_seconds;     /* CPU time; 20 */
    unsigned wall_seconds;    /* from request to answer; three times the CPU time */
    uint64_t expanded_bytes;  /* what zips and deflate may grow to, in all; 1 GiB */
    unsigned expansion_ratio; /* how many times its size a compressed member may grow; 200 */
    unsigned objects;         /* DICOM objects; 10,000 */
    uint64_t ehr_bytes;       /* of FHIR text; 16 MiB */
    bool lenient; /* parts that are not DICOM are listed as skipped, not refused (directories) */
};

struct mf_config;
struct mf_decoder;

/* The limits that the keys decoder.* and http.max_ehr_bytes set. */
struct mf_decoder_limits mf_decoder_limits_of(const struct mf_config *config);

/* Connects lazily to the zygote listening at `address` (mf_zygote_address()) with at most
 * `connections` decoders in use at once, and keeps fresh ones waiting: every call makes one at its
 * end, unless mf_decoder_prepare() is used. Thread-safe: a call waits while all are in use.
 * `limits` NULL = defaults. NULL when out of memory. */
struct mf_decoder *mf_decoder_new(const char *address, unsigned connections,
                                  const struct mf_decoder_limits *limits, struct mf_error *err);
void mf_decoder_free(struct mf_decoder *decoder);
/* Has fresh decoders made (two where that many may be in use) without waiting for them. From the
 * first call on only this does so: a server calls it when it has answered, so that making them
 * delays nobody. */
void mf_decoder_prepare(struct mf_decoder *decoder);

/* Parses every part and appends the index (JSON, server/upload.h says what it holds) to
 * `ret_index`. Errors: what the input deserves (MF_ERR_MALFORMED, MF_ERR_TOO_LARGE,
 * MF_ERR_UNSUPPORTED, MF_ERR_UNUSABLE), MF_ERR_CRASHED when the decoder died, MF_ERR_TIMEOUT when
 * it was stopped, MF_ERR_UNAVAILABLE when there is no zygote. Blocks; waits on the socket, never
 * polls. */
bool mf_decoder_scan(struct mf_decoder *decoder, const struct mf_part *parts, size_t part_count,
                     struct mf_buffer *ret_index, struct mf_error *err) MF_CHECK_RESULT;

struct mf_frame_request {
    uint32_t object; /* index into the index's objects */
    uint32_t frame;  /* 0-based */
};

/* Decoded frames, in the order asked for; they point into one sealed shared memory mapping. */
struct mf_frame_set {
    struct mf_frame *frames;
    size_t count;
    void *map;
    size_t map_size;
};

/* Which frames of which objects. `index` is a `medfusion.index/1` text (dicom/index.h), `fds` the
 * descriptors of its inputs: object.input counts into them. All borrowed. */
struct mf_frames_wanted {
    const int *fds;
    size_t fd_count;
    const char *index;
    size_t index_len;
    const struct mf_frame_request *frames;
    size_t frame_count;
};

/* Decodes the frames asked for. They are checked again on this side. On success free `ret` with
 * mf_frame_set_free(). Errors as above. */
bool mf_decoder_frames(struct mf_decoder *decoder, const struct mf_frames_wanted *wanted,
                       struct mf_frame_set *ret, struct mf_error *err) MF_CHECK_RESULT;
void mf_frame_set_free(struct mf_frame_set *set);

/* Decoding ahead: the decoder that scanned goes on with the frames while its caller makes a job of
 * the upload, and whoever runs the job finds them decoded. It is an offer: what does not come of it
 * is asked for anew, so nothing here can fail a job. */

/* What the calling thread can do while a decoder is at work: called once, if the request could be
 * sent at all. */
struct mf_decoder_meanwhile {
    void (*work)(void *context);
    void *context;
};

/* As mf_decoder_scan(); on success *ret_connection is the decoder's connection, which the caller
 * closes or passes on. `meanwhile` may be NULL. */
bool mf_decoder_scan_and_stay(struct mf_decoder *decoder, const struct mf_part *parts,
                              size_t part_count, const struct mf_decoder_meanwhile *meanwhile,
                              struct mf_buffer *ret_index, int *ret_connection,
                              struct mf_error *err) MF_CHECK_RESULT;
/* Asks the decoder of such a connection for frames, without waiting for them. */
bool mf_decoder_frames_ahead(int connection, const struct mf_frames_wanted *wanted,
                             struct mf_error *err) MF_CHECK_RESULT;
/* Takes over a connection on which frames were asked for: the next mf_decoder_frames() takes those,
 * if they are the ones it is asked for. */
void mf_decoder_adopt(struct mf_decoder *decoder, int connection);

/* The zygote, as its parent sees it: a program of its own, so that the decoders share no memory
 * (secrets, addresses) and no code but their own with the caller. */
struct mf_zygote;

/* Starts it and waits until it listens. It dies with its parent. */
struct mf_zygote *mf_zygote_start(struct mf_error *err);
/* The program beside which medfusion-decoder lies, where that is not the one that runs: for the
 * shared library, which lives in programs of others. Before the first start. */
bool mf_zygote_set_program(const char *path, struct mf_error *err);
/* Starts it again under the same address after its death was noticed (the listening socket stays
 * ours). */
bool mf_zygote_restart(struct mf_zygote *zygote, struct mf_error *err);
const char *mf_zygote_address(const struct mf_zygote *zygote);
int mf_zygote_pid(const struct mf_zygote *zygote);
void mf_zygote_stop(struct mf_zygote *zygote); /* NULL-safe; ends it and frees */

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_decoder, struct mf_decoder *, mf_decoder_free(*p))
MF_AUTO_DEFINE(mf_frame_set, struct mf_frame_set, mf_frame_set_free(p))
MF_AUTO_DEFINE(mf_zygote, struct mf_zygote *, mf_zygote_stop(*p))

#endif
