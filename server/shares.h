/*
 * Shares: how many turns each tenant has of the queue beside the others (jobs.shares). Within a
 * priority the queue is served by start-time fair queueing (Goyal, Vin, Cheng 1996): a job's turn
 * is that of the tenant's job before it plus what one job costs the tenant, or the turn that is
 * being served if that is later; the lowest turn is next. So a tenant's jobs keep their order,
 * tenants alternate by their shares, and who comes newly waits for nobody's backlog.
 */
#ifndef MF_SERVER_SHARES_H
#define MF_SERVER_SHARES_H

#include "core/error.h"
#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_SHARES = 256, MF_SHARE_MOST = 1000 };

struct mf_shares {
    struct {
        char tenant[MF_TENANT];
        int64_t weight; /* 1 … MF_SHARE_MOST */
    } list[MF_SHARES];
    size_t count;
};

/* Reads "TENANT=WEIGHT" between spaces; NULL and "off" are none. MF_ERR_USAGE names the entry. */
bool mf_shares_parse(const char *text, struct mf_shares *ret, struct mf_error *err) MF_CHECK_RESULT;

/* By how much a job moves its tenant's next turn: the less, the larger the share (1 unless it is in
 * the list). */
int64_t mf_shares_cost(const struct mf_shares *shares, const char *tenant);

#ifdef __cplusplus
}
#endif

#endif
