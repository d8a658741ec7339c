/* MLLP: an HL7 v2 message over TCP in a block, and its acknowledgement in another (HL7 Minimal
 * Lower Layer Protocol, release 1). One connection a message. */
#ifndef MF_SERVER_MLLP_H
#define MF_SERVER_MLLP_H

#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_MLLP_NAME = 180 };

/* "mllp://host:port", "mllp://host:port/APPLICATION", "mllp://host:port/APPLICATION/FACILITY" */
struct mf_mllp_peer {
    char host[256], port[6];
    char application[MF_MLLP_NAME], facility[MF_MLLP_NAME]; /* MSH-5, MSH-6; "" = not given */
};

/* Takes an address apart; false when it is something else. */
bool mf_mllp_address(const char *address, struct mf_mllp_peer *ret);

/* Sends the message and waits for the answer: true when that accepts (MSA-1 AA or CA) this very
 * message (MSA-2 is `control_id`, its MSH-10). MF_ERR_UNUSABLE: the receiver refuses (AE, AR, CE,
 * CR); MF_ERR_UNAVAILABLE: the answer is no acknowledgement of the message; MF_ERR_IO: it cannot be
 * reached, or broke off; MF_ERR_TIMEOUT: not all was done within timeout_s. */
bool mf_mllp_send(const struct mf_mllp_peer *peer, const char *message, const char *control_id,
                  int timeout_s, struct mf_error *err) MF_CHECK_RESULT;

/* What a receiver's answer says (HL7 v2.5.1, 2.9.2), the block's text with or without the character
 * that begins it: true and errors as mf_mllp_send tells them. */
bool mf_mllp_accepted(const char *answer, const char *control_id,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
