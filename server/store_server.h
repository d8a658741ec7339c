/* Private to the store server: carrying out one request's body on the SQLite store. */
#ifndef MF_SERVER_STORE_SERVER_H
#define MF_SERVER_STORE_SERVER_H

#include "server/store_sql.h"
#include "server/store_wire.h"

enum mf_served {
    MF_SERVED,      /* a reply was written */
    MF_SERVED_LATER /* nothing to answer yet, and the request is willing to wait */
};

/* Writes the whole reply frame to `out` (an error frame when the verb failed). *ret_wait_ms: for
 * MF_SERVED_LATER, how long at most. With `final` an empty answer is given instead of waiting.
 * *passed: in, the descriptor that came with the request (it stays the caller's); out, one to send
 * with the reply, which is the caller's too; 0 = none. */
enum mf_served mf_store_serve(struct mf_sql_store *s, uint32_t verb, const char *body, size_t len,
                              bool final, struct mf_buffer *out, int *passed, int *ret_wait_ms);

/* The verbs from MF_VERB_INSTANCES_ADD on: reads the body, carries it out, writes the answer. */
struct mf_store_exchange {
    struct mf_wire_reader *in;
    struct mf_wire_writer *out;
    struct mf_arena *arena;
};
bool mf_store_serve_instances(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                              struct mf_error *err);
/* The same of the two about dead letters. */
bool mf_store_serve_dead_letters(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                                 struct mf_error *err);
/* The same from MF_VERB_FEEDBACK on. */
bool mf_store_serve_feedback(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                             struct mf_error *err);

/* The same from MF_VERB_AUDIT_ADD on. */
bool mf_store_serve_audit(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                          struct mf_error *err);

/* Whether a parked wait_for_jobs asks for one of the jobs that ended in this group. */
bool mf_store_wait_concerned(const struct mf_sql_store *s, const char *body, size_t len);

#endif
