/*
 * Private to the store: messages between its clients and its server, both of the same build on the
 * same machine.
 *
 * A frame is a header and a body. Bodies are sequences of plain structs as they lie in memory,
 * texts (with their NUL, so that they can be used where they are) and blocks. The header's magic
 * covers the sizes of the structs: another build is refused at its first frame.
 */
#ifndef MF_SERVER_STORE_WIRE_H
#define MF_SERVER_STORE_WIRE_H

#include "server/store.h"

enum mf_store_verb {
    MF_VERB_SUBMIT = 1,
    MF_VERB_CLAIM,
    MF_VERB_HEARTBEAT,
    MF_VERB_FINISH,
    MF_VERB_RELEASE,
    MF_VERB_WORKER_GONE,
    MF_VERB_ANNOUNCE,
    MF_VERB_WORKERS,
    MF_VERB_JOB,
    MF_VERB_RESULT,
    MF_VERB_RECORD,
    MF_VERB_LIST,
    MF_VERB_CANCEL,
    MF_VERB_PURGE,
    MF_VERB_LOCATORS_USED,
    MF_VERB_COUNTS,
    MF_VERB_WAIT_FOR_JOBS,
    MF_VERB_CHANGES,
    MF_VERB_HOLD,
    MF_VERB_INTERRUPT,     /* no reply of its own: ends the wait that is parked, if any */
    MF_VERB_INSTANCES_ADD, /* from here on: store_serve_instances.c */
    MF_VERB_INSTANCES_SEARCH,
    MF_VERB_STUDIES_DUE,
    MF_VERB_STUDY_SETTLE,
    MF_VERB_STUDY_HASTEN,
    MF_VERB_STUDY,
    MF_VERB_DELIVERIES_DUE,
    MF_VERB_DELIVERY_SETTLE,
    MF_VERB_DEAD_LETTERS, /* store_serve_dead_letters.c, with the next */
    MF_VERB_DEAD_LETTERS_END,
    MF_VERB_FEEDBACK, /* from here on: store_serve_feedback.c */
    MF_VERB_FEEDBACK_PUT,
    MF_VERB_STATE,
    MF_VERB_OBSERVED,
    MF_VERB_AUDIT_ADD, /* from here on: store_serve_audit.c */
    MF_VERB_AUDIT_READ,
    MF_VERB_COUNT
};

enum { MF_REPLY_OK = 1000, MF_REPLY_ERROR }; /* body of an error: struct mf_error */

struct mf_wire_header {
    uint32_t magic;
    uint32_t kind; /* a verb or a reply */
    uint64_t len;  /* of the body */
};

uint32_t mf_wire_magic(void);

/* Appends to a buffer; the first failure sticks. */
struct mf_wire_writer {
    struct mf_buffer *out;
    bool failed;
};

void mf_wire_put(struct mf_wire_writer *w, const void *data, size_t len);
void mf_wire_put_int(struct mf_wire_writer *w, int64_t value);
void mf_wire_put_text(struct mf_wire_writer *w, const char *text); /* NULL allowed */
void mf_wire_put_block(struct mf_wire_writer *w, const void *data, size_t len);

/* Starts a frame and, when its body is written, fills in its length. */
size_t mf_wire_begin(struct mf_wire_writer *w, uint32_t kind);
void mf_wire_end(struct mf_wire_writer *w, size_t begin);

/* Reads a body; the first failure sticks. */
struct mf_wire_reader {
    const char *at;
    size_t left;
    bool failed;
};

void mf_wire_get(struct mf_wire_reader *r, void *out, size_t len);
int64_t mf_wire_get_int(struct mf_wire_reader *r);
/* A number of elements that the rest of the body can hold at `least` bytes each. */
size_t mf_wire_get_count(struct mf_wire_reader *r, size_t least);
const char *mf_wire_get_text(struct mf_wire_reader *r); /* lies in the body; NULL allowed */
const char *mf_wire_get_block(struct mf_wire_reader *r,
                              size_t *len); /* lies in the body, NUL behind it */
/* The same, copied. */
const char *mf_wire_copy_text(struct mf_wire_reader *r, struct mf_arena *arena,
                              struct mf_error *err);
const char *mf_wire_copy_block(struct mf_wire_reader *r, struct mf_arena *arena, size_t *len,
                               struct mf_error *err);

#endif
