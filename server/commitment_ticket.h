/*
 * Tickets: Transaction UIDs of the storage commitments that we ask for. A UID names the delivery
 * that waits for the report and how many objects it has, and a code over both with a key that is
 * kept in the data directory: so a report that comes on any association, after any restart, finds
 * its delivery, and nobody can make one up.
 *
 * The UID is "2.25." and the decimal of a UUID of version 8 (RFC 9562 5.8; PS3.5 B.2): 48 bits of
 * the delivery, 12 of the count, 62 of the code.
 */
#ifndef MF_SERVER_COMMITMENT_TICKET_H
#define MF_SERVER_COMMITMENT_TICKET_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_TICKET_KEY = 32, MF_TICKET_UID = 65, MF_TICKET_MAX_OBJECTS = 4095 };

/* The key of the data directory, made when there is none. MF_ERR_IO. */
bool mf_ticket_key(const char *directory, unsigned char ret[MF_TICKET_KEY],
                   struct mf_error *err) MF_CHECK_RESULT;

/* The UID for a delivery (1 … 2^48 − 1) of so many objects. */
bool mf_ticket_make(const unsigned char key[MF_TICKET_KEY], int64_t delivery, size_t objects,
                    char ret[MF_TICKET_UID], struct mf_error *err) MF_CHECK_RESULT;

/* "2.25." and the decimal of a UUID's two halves. */
void mf_uid_of_uuid(uint64_t high, uint64_t low, char ret[MF_TICKET_UID]);

/* Reads one back; false when it is none of this key's. */
bool mf_ticket_read(const unsigned char key[MF_TICKET_KEY], const char *uid, int64_t *ret_delivery,
                    size_t *ret_objects);

#ifdef __cplusplus
}
#endif

#endif
