/*
 * What a decoder client and a decoder process say to each other. Private to decoder*.c: both ends
 * are always the same program.
 *
 * First, as soon as it is connected, the client sends MF_DECODER_LIMITS (payload: struct
 * mf_decoder_limits, no zeros left); the decoder confines itself and waits. Request: one message of
 * kind verb, its descriptors those of the parts, its payload
 *     struct mf_decoder_head, struct mf_wire_part[parts], struct mf_frame_request[wanted], index
 * text. Answer: one message MF_ANSWER_OK (payload: the index text, or struct mf_wire_frame[wanted]
 * and one sealed memfd) or MF_ANSWER_ERROR (payload: struct mf_wire_error). When the process died
 * instead, its zygote sends MF_ANSWER_DIED (payload: its wait status). The client trusts nothing in
 * an answer.
 *
 * One answer ends a decoder, but for a scan's and a description's. The frames of what it scanned
 * may be asked of it too, by MF_VERB_FRAMES_AHEAD. That answer begins with the request's payload,
 * because another process may take it (mf_decoder_adopt()), which compares it with the request that
 * it would send. More objects of the same sender may be described, MF_DECODER_DESCRIBES times.
 */
#ifndef MF_SERVER_DECODER_PROTOCOL_H
#define MF_SERVER_DECODER_PROTOCOL_H

#include "server/decoder.h"
#include "server/process.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_decoder_verb_id {
    MF_DECODER_LIMITS = 0,
    MF_VERB_SCAN = 1,
    MF_VERB_FRAMES = 2,
    MF_VERB_DESCRIBE = 3,
    MF_VERB_METADATA = 4,
    MF_VERB_FRAMES_AHEAD = 5,
    MF_VERB_DEIDENTIFY = 6,
    MF_VERB_EXTRA = 100 /* first of those that a test program adds */
};

enum mf_decoder_answer { MF_ANSWER_OK = 200, MF_ANSWER_ERROR, MF_ANSWER_DIED };

/* The socket's number in the zygote, and the byte it writes to the ready pipe. */
enum { MF_ZYGOTE_LISTEN_FD = 3, MF_ZYGOTE_READY_FD = 4 };
#define MF_ZYGOTE_ROLE "@decoder " MF_VERSION /* both ends are of one version */

enum {
    MF_DECODER_REQUEST_MAX = 128 << 20, /* index text included */
    MF_DECODER_ANSWER_MAX = 32 << 20    /* an index */
};

struct mf_decoder_head {
    uint32_t part_count, wanted_count;
    uint64_t index_len;
};

struct mf_wire_part {
    uint32_t kind, fd_slot;
    uint64_t offset, size;
};

struct mf_wire_frame {
    uint64_t offset, size; /* of a packed frame (core/frame.h) in the memfd */
};

struct mf_wire_error {
    uint32_t code; /* enum mf_code */
    char msg[256];
};

/* A request as the process sees it, after its shape was checked. Pointers into the message. */
struct mf_decoder_request {
    const struct mf_decoder_limits *limits;
    struct mf_part *parts; /* fd: the received descriptors */
    size_t part_count;
    const struct mf_frame_request *wanted;
    size_t wanted_count;
    const char *index;
    size_t index_len;
};

struct mf_decoder_reply {
    struct mf_buffer payload;
    int fd; /* one descriptor to pass back, or −1 */
};

/* Does one request inside the sandbox. False fills err. */
typedef bool (*mf_decoder_verb)(const struct mf_decoder_request *request,
                                struct mf_decoder_reply *reply, struct mf_error *err);

/* The two verbs of the program (decoder_verbs.c). */
bool mf_decoder_verb_scan(const struct mf_decoder_request *request, struct mf_decoder_reply *reply,
                          struct mf_error *err);
bool mf_decoder_verb_frames(const struct mf_decoder_request *request,
                            struct mf_decoder_reply *reply, struct mf_error *err);

/* Three more (decoder_describe.c). */
bool mf_decoder_verb_describe(const struct mf_decoder_request *request,
                              struct mf_decoder_reply *reply, struct mf_error *err);
bool mf_decoder_verb_metadata(const struct mf_decoder_request *request,
                              struct mf_decoder_reply *reply, struct mf_error *err);
/* One part and, in place of an index, struct mf_deidentify_rules → a descriptor of the new file. */
bool mf_decoder_verb_deidentify(const struct mf_decoder_request *request,
                                struct mf_decoder_reply *reply, struct mf_error *err);

/* One request from the client's side, for any verb; `answer` (initialised here) is the caller's to
 * free. */
struct mf_decoder_call {
    uint32_t verb;
    const char *sender; /* of MF_VERB_DESCRIBE: whose objects they are (describe.h); NULL */
    const struct mf_part *parts;
    size_t part_count;
    const struct mf_frame_request *wanted;
    size_t wanted_count;
    const char *index;
    size_t index_len;
};
bool mf_decoder_do(struct mf_decoder *decoder, const struct mf_decoder_call *call,
                   struct mf_message *answer, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
