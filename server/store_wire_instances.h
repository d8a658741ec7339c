/* Private to the store: instances in messages (store_wire.h), for its client and its server. */
#ifndef MF_SERVER_STORE_WIRE_INSTANCES_H
#define MF_SERVER_STORE_WIRE_INSTANCES_H

#include "server/store_instances.h"
#include "server/store_wire.h"

void mf_wire_put_stored(struct mf_wire_writer *w, const struct mf_stored *stored);
/* Texts lie in the body that is read. */
void mf_wire_get_stored(struct mf_wire_reader *r, struct mf_stored *ret);

void mf_wire_put_search(struct mf_wire_writer *w, const struct mf_search *search);
bool mf_wire_get_search(struct mf_wire_reader *r, struct mf_arena *arena, struct mf_search *ret,
                        struct mf_error *err);

#endif
