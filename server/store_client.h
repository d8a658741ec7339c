/* Private to the store client: its transport (store_client.c) as its verbs (store_client_verbs.c)
 * use it. */
#ifndef MF_SERVER_STORE_CLIENT_H
#define MF_SERVER_STORE_CLIENT_H

#include "server/store_ops.h"
#include "server/store_wire.h"

struct mf_store_client {
    struct mf_store base;
    struct mf_store_ops ops; /* the verbs, and this file's own */
    char *directory;
    int patience_ms;
    int socket;            /* −1 = not connected */
    int interrupt;         /* eventfd */
    bool interrupt_passed; /* an interrupt was sent with the request under way */
    struct mf_buffer out, in;
    int passing; /* > 0: goes beside the request under way */
    int passed;  /* > 0: came beside the last answer, and nobody has taken it */
};

/* Starts the frame of a request in c->out. */
struct mf_wire_writer mf_client_begin(struct mf_store_client *c, enum mf_store_verb verb);
/* Ends the frame, sends it until it is answered, and gives the body of the answer. wait_ms: how
 * long the server may hold the answer back (−1 = for ever); 0 = not at all. */
bool mf_client_call(struct mf_store_client *c, struct mf_wire_writer *w, int wait_ms,
                    struct mf_wire_reader *reply, struct mf_error *err);
/* Whether all of the answer was there. */
bool mf_client_check(const struct mf_wire_reader *reply, struct mf_error *err);

bool mf_client_instances_add(struct mf_store *, const char *, int64_t, const struct mf_stored *,
                             size_t, struct mf_added *, struct mf_error *);
bool mf_client_instances_search(struct mf_store *, const struct mf_search *, struct mf_arena *,
                                struct mf_found **, size_t *, struct mf_error *);
bool mf_client_studies_due(struct mf_store *, struct mf_due_study *, size_t, size_t *, int64_t *,
                           struct mf_error *);
bool mf_client_study_settle(struct mf_store *, const struct mf_due_study *, const char *,
                            const struct mf_error *, int64_t, struct mf_error *);
bool mf_client_study_hasten(struct mf_store *, const char *, const char *, struct mf_error *);
bool mf_client_study(struct mf_store *, const char *, const char *, struct mf_arena *,
                     struct mf_study_state *, struct mf_error *);
bool mf_client_deliveries_due(struct mf_store *, const struct mf_destinations *,
                              struct mf_delivery *, size_t, size_t *, int64_t *, struct mf_error *);
bool mf_client_delivery_settle(struct mf_store *, int64_t, const struct mf_error *, int64_t,
                               struct mf_error *);

bool mf_client_dead_letters(struct mf_store *, const struct mf_dead_letter_filter *, int64_t,
                            size_t, struct mf_arena *, struct mf_dead_letter **, size_t *,
                            int64_t *, struct mf_error *);
bool mf_client_dead_letters_end(struct mf_store *, const struct mf_dead_letter_filter *,
                                enum mf_dead_letter_end, const char *, int64_t *, int64_t *,
                                struct mf_error *);

bool mf_client_feedback(struct mf_store *, const char *, const char *, struct mf_arena *,
                        struct mf_observed *, struct mf_error *);
bool mf_client_feedback_put(struct mf_store *, const struct mf_feedback_put *, bool *,
                            struct mf_error *);
bool mf_client_state(struct mf_store *, const char *, const char *, int64_t, struct mf_arena *,
                     const char **, int64_t *, struct mf_error *);
bool mf_client_observed(struct mf_store *, const char *, const char *, int64_t, size_t,
                        struct mf_arena *, struct mf_observed **, size_t *, int64_t *,
                        struct mf_error *);

bool mf_client_audit_add(struct mf_store *, const struct mf_audit_row *, struct mf_error *);
bool mf_client_audit_read(struct mf_store *, int64_t, struct mf_arena *, struct mf_audit_point *,
                          struct mf_audit_row **, size_t *, struct mf_error *);

/* The verbs, with the connection's own operations left out. */
extern const struct mf_store_ops mf_client_verbs;

#endif
