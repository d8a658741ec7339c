/* Courier: the audit trail on its way to an audit repository (audit.syslog). */
#ifndef MF_SERVER_COURIER_AUDIT_H
#define MF_SERVER_COURIER_AUDIT_H

#include "core/auto.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_courier_audit;

/* Starts a thread that sends every row of the trail in its order, again after a connection that
 * broke, and from where it was after a restart ("audit.sent" in the data directory): a row may come
 * twice, none is left out. NULL without an error when audit.syslog is "off". */
struct mf_courier_audit *mf_courier_audit_start(const struct mf_config *config,
                                                struct mf_error *err);
void mf_courier_audit_stop(struct mf_courier_audit *audit);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_courier_audit, struct mf_courier_audit *, mf_courier_audit_stop(*p))

#endif
