/*
 * A row of the audit trail for an audit repository: a syslog message (RFC 5424) that holds a DICOM
 * audit message (PS3.15 A.5.1), as PS3.15 A.6 and IHE ITI-20 transmit them.
 *
 * Rows hold no patient data, so there is no patient among the participating objects: these are the
 * job, the path that was asked for (it may hold UIDs), and the row itself with its number and the
 * hash of the chain up to it, by which the repository's copy proves the trail.
 */
#ifndef MF_SERVER_AUDIT_MESSAGE_H
#define MF_SERVER_AUDIT_MESSAGE_H

#include "core/buffer.h"
#include "server/store_audit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Appends the message, without the octet count of RFC 5425. `host`: of this machine. The text is
 * ASCII: other bytes of names and paths are percent-encoded. */
bool mf_audit_message(const struct mf_audit_row *row, const char *host, struct mf_buffer *out,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
