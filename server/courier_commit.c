/* Courier: storage commitment of what was sent. */
#include "server/courier_commit.h"

#include "server/commitment_ticket.h"

#include "core/log.h"

#include <string.h>

enum { ARENA_BYTES = 16 << 20 };

static const int64_t SECOND_MS = 1000;

/* Whether a report says that all of `count` objects are kept. */
static bool judge(const struct mf_commitment *report, size_t count, struct mf_error *err)
{
    size_t failed = 0;
    uint16_t reason = 0;
    for (size_t i = 0; i < report->count; i++) {
        failed += report->items[i].reason != MF_COMMITTED;
        reason = report->items[i].reason ? report->items[i].reason : reason;
    }
    if (failed > 0)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the destination has not committed %zu of %zu objects (reason %04X)",
                            failed, count, reason);
    return report->count >= count ||
           mf_error_set(err, MF_ERR_UNAVAILABLE,
                        "the destination has committed %zu of %zu objects only", report->count,
                        count);
}

/* From here on the delivery waits: the report may overtake us. */
static bool settle_to_wait(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                           struct mf_error *err)
{
    struct mf_error waiting = MF_ERROR_INIT;
    mf_error_set(&waiting, MF_ERR_UNAVAILABLE, "waiting for the report of the storage commitment");
    return mf_store_delivery_settle(c->store, d->id, &waiting,
                                    c->config->outbox.commit_s * SECOND_MS, err);
}

bool mf_courier_commit(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                       const struct mf_net_peer *peer, struct mf_commitment_item *items,
                       size_t count, bool *ret_waiting, struct mf_error *err)
{
    unsigned char key[MF_TICKET_KEY];
    char transaction[MF_TICKET_UID];
    const struct mf_commitment asked = {transaction, items, count};
    struct mf_commitment report = {.count = 0};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a commitment");
    if (!mf_ticket_key(c->config->data.directory, key, err) ||
        !mf_ticket_make(key, d->id, count, transaction, err) || !settle_to_wait(c, d, err) ||
        !mf_net_commit(peer, &asked, (int)c->config->outbox.commit_wait_s, arena, &report, err))
        return false;
    *ret_waiting = report.count == 0;
    return *ret_waiting || judge(&report, count, err);
}

bool mf_courier_commit_report(const struct mf_config *config, struct mf_store *store,
                              const struct mf_commitment *report, struct mf_error *err)
{
    unsigned char key[MF_TICKET_KEY];
    struct mf_error problem = MF_ERROR_INIT;
    int64_t delivery = 0;
    size_t objects = 0;
    if (!mf_ticket_key(config->data.directory, key, err))
        return false;
    if (!mf_ticket_read(key, report->transaction, &delivery, &objects))
        return mf_error_set(err, MF_ERR_NOT_FOUND,
                            "the report is about no commitment that was asked for");
    bool ok = judge(report, objects, &problem);
    mf_log(ok ? MF_LOG_INFO : MF_LOG_WARN, ok ? "outbox.committed" : "outbox.not_committed",
           MF_LOG_I("delivery", delivery), MF_LOG_S("reason", problem.msg));
    return mf_store_delivery_settle(store, delivery, ok ? NULL : &problem,
                                    config->outbox.retry_s * SECOND_MS, err);
}
