/* Courier: performing the work items of a UPS-RS manager (IHE AIW-I, Task Performer; PS3.18 11). */
#ifndef MF_SERVER_COURIER_UPS_H
#define MF_SERVER_COURIER_UPS_H

#include "core/auto.h"
#include "server/courier.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_courier_ups;

/* Starts a thread that asks ups.manager for work and does it. What was claimed before a restart is
 * gone on with (ups_journal.h). NULL without an error when there is no manager. */
struct mf_courier_ups *mf_courier_ups_start(const struct mf_courier_options *options,
                                            struct mf_error *err);
void mf_courier_ups_stop(struct mf_courier_ups *ups);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_courier_ups, struct mf_courier_ups *, mf_courier_ups_stop(*p))

#endif
