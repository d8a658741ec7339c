/*
 * Courier: performing work items. One thread looks for work, claims what it may hold
 * (ups.max_claimed) and does for each that is held what is next (courier_ups_step.c). A claim is
 * written down before the manager is told, so that none is forgotten; whoever claims second is told
 * so by the manager (409). Nothing waits for a manager that fails: searches pause for longer and
 * longer, and every work item has a pause of its own.
 */
#include "server/courier_ups.h"

#include "server/courier_ups_private.h"
#include "server/dicom_row.h"

#include "core/clock.h"
#include "core/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LEAST_MS = 1000, LOOK_MS = 500, LONGEST_MS = 300000, STEPS = 8, EARLY_MS = 1000 };

static const uint64_t MS = 1000000;

/* --- holding --- */

static bool is_held(const struct mf_courier_ups *u, const char *uid)
{
    for (size_t i = 0; i < u->count; i++)
        if (strcmp(u->held[i].item, uid) == 0)
            return true;
    return false;
}

static void note_held(struct mf_courier_ups *u)
{
    MF_GAUGE_SET(u->gauges->held, u->count);
}

/* What is over is forgotten, on the disk first. */
static bool let_go(struct mf_courier_ups *u, size_t i, struct mf_error *err)
{
    if (!mf_ups_journal_remove(u->config->data.directory, &u->held[i], err))
        return false;
    u->held[i] = u->held[--u->count];
    note_held(u);
    return true;
}

/* Does as much for one as can be done at once; false when it is over. */
static bool go_on(struct mf_courier_ups *u, struct mf_ups_entry *e)
{
    struct mf_error err = MF_ERROR_INIT;
    enum mf_ups_step step = MF_UPS_STEP_ON;
    for (int n = 0; n < STEPS && step == MF_UPS_STEP_ON; n++)
        step = mf_courier_ups_step(u, e, &err);
    uint64_t now = mf_clock_monotonic_ns();
    if (step != MF_UPS_STEP_FAILED) {
        e->pause_ms = LEAST_MS;
        e->next_ns = now + LOOK_MS * MS;
        return step != MF_UPS_STEP_OVER;
    }
    mf_log(MF_LOG_WARN, "ups.failed", MF_LOG_S("job", e->job), MF_LOG_S("reason", err.msg));
    MF_GAUGE_ADD(u->gauges->failures, 1);
    e->next_ns = now + (uint64_t)e->pause_ms * MS;
    e->pause_ms = 2 * e->pause_ms < LONGEST_MS ? 2 * e->pause_ms : LONGEST_MS;
    return true;
}

static void work(struct mf_courier_ups *u)
{
    for (size_t i = u->count; i-- > 0;) {
        struct mf_error err = MF_ERROR_INIT;
        if (mf_clock_monotonic_ns() < u->held[i].next_ns || go_on(u, &u->held[i]))
            continue;
        if (!let_go(u, i, &err)) /* it will be found to be over again */
            mf_log(MF_LOG_ERROR, "ups.journal_failed", MF_LOG_S("reason", err.msg));
    }
}

/* --- claiming --- */

/* Whether one of the configured codes is among these; with none configured, all are. */
static bool fits(const struct mf_string_list *wanted, const struct mf_ups_codes *codes)
{
    for (size_t i = 0; i < wanted->count; i++) {
        struct mf_ups_code code;
        char model[128];
        if (mf_ups_code_parse(wanted->items[i], &code, model) && mf_ups_codes_have(codes, &code))
            return true;
    }
    return wanted->count == 0;
}

/* A manager may match generously. */
static bool is_ours(const struct mf_courier_ups *u, const struct mf_ups_item *item)
{
    return item->uid[0] && item->state == MF_UPS_SCHEDULED && item->ready &&
           item->start_ms <= mf_clock_wall_ms() + EARLY_MS &&
           fits(&u->config->ups.codes, &item->work) &&
           fits(&u->config->ups.stations, &item->stations) && !is_held(u, item->uid);
}

static bool claim(struct mf_courier_ups *u, const char *uid, struct mf_error *err)
{
    struct mf_ups_entry *e = &u->held[u->count];
    if (!mf_ups_entry_new(uid, e, err) || !mf_ups_journal_save(u->config->data.directory, e, err))
        return false;
    e->pause_ms = LEAST_MS;
    u->count++;
    note_held(u);
    return true;
}

/* Rows of a search with this priority, in the manager's order. What a search returns of a work item
 * may be little, so all of it is looked at before it is claimed. */
static bool claim_rows(struct mf_courier_ups *u, const json_t *rows, bool high,
                       struct mf_error *err)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        struct mf_ups_item item;
        if (u->count >= (size_t)u->config->ups.max_claimed)
            return true;
        const char *readiness = mf_dicom_row_text(row, "00404041");
        if (!mf_ups_item_read(row, &item, NULL) || !item.uid[0] || item.high != high ||
            is_held(u, item.uid) || (*readiness && !item.ready))
            continue;
        char uid[MF_UPS_UID];
        struct mf_error problem = MF_ERROR_INIT;
        memcpy(uid, item.uid, sizeof uid);
        if (!mf_ups_retrieve(u->config, uid, &item, &problem)) {
            if (problem.code == MF_ERR_NOT_FOUND || problem.code == MF_ERR_CONFLICT)
                continue; /* it is gone since */
            return mf_error_set(err, problem.code, "%s", problem.msg);
        }
        memcpy(item.uid, uid, sizeof uid);
        if (is_ours(u, &item) && !claim(u, uid, err))
            return false;
    }
    return true;
}

static bool search_for(struct mf_courier_ups *u, const struct mf_ups_code *work,
                       const struct mf_ups_code *station, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *rows = mf_ups_search(u->config, work, station, err);
    return rows && claim_rows(u, rows, true, err) && claim_rows(u, rows, false, err);
}

/* One search for each pair of a code and a station: UPS-RS has no "or". */
static bool search(struct mf_courier_ups *u, struct mf_error *err)
{
    const struct mf_string_list *codes = &u->config->ups.codes,
                                *stations = &u->config->ups.stations;
    for (size_t i = 0; i < codes->count || (i == 0 && codes->count == 0); i++)
        for (size_t k = 0; k < stations->count || (k == 0 && stations->count == 0); k++) {
            struct mf_ups_code work, station;
            char model[128];
            bool has_work = codes->count && mf_ups_code_parse(codes->items[i], &work, model);
            bool has_station =
                stations->count && mf_ups_code_parse(stations->items[k], &station, NULL);
            if (!search_for(u, has_work ? &work : NULL, has_station ? &station : NULL, err))
                return false;
        }
    return true;
}

/* Looks for work when it is time to, and there is room. */
static void look(struct mf_courier_ups *u)
{
    struct mf_error err = MF_ERROR_INIT;
    if (mf_clock_monotonic_ns() < u->search_ns || u->count >= (size_t)u->config->ups.max_claimed)
        return;
    const int64_t poll_ms = u->config->ups.poll_s * 1000;
    if (search(u, &err)) {
        u->pause_ms = poll_ms;
    } else {
        mf_log(MF_LOG_WARN, "ups.search_failed", MF_LOG_S("reason", err.msg));
        MF_GAUGE_ADD(u->gauges->failures, 1);
        u->pause_ms = 2 * u->pause_ms < LONGEST_MS ? 2 * u->pause_ms : LONGEST_MS;
    }
    u->search_ns = mf_clock_monotonic_ns() + (uint64_t)u->pause_ms * MS;
}

static void *thread_main(void *argument)
{
    struct mf_courier_ups *u = argument;
    struct pollfd stop = {.fd = u->stop, .events = POLLIN};
    do {
        work(u);
        look(u);
        work(u);
    } while (poll(&stop, 1, u->count ? LOOK_MS : LEAST_MS) <= 0);
    return NULL;
}

/* --- starting and stopping --- */

static bool load(struct mf_courier_ups *u, struct mf_error *err)
{
    size_t damaged = 0;
    if (!mf_ups_journal_load(u->config->data.directory, u->held, MF_UPS_HELD, &u->count, &damaged,
                             err))
        return false;
    for (size_t i = 0; i < u->count; i++)
        u->held[i].pause_ms = LEAST_MS;
    if (damaged)
        mf_log(MF_LOG_ERROR, "ups.journal_damaged", MF_LOG_I("files", damaged));
    if (u->count)
        mf_log(MF_LOG_INFO, "ups.resumed", MF_LOG_I("workitems", u->count));
    note_held(u);
    return true;
}

struct mf_courier_ups *mf_courier_ups_start(const struct mf_courier_options *o,
                                            struct mf_error *err)
{
    if (!mf_ups_wanted(o->config))
        return NULL;
    MF_AUTO(mf_courier_ups) struct mf_courier_ups *u = calloc(1, sizeof *u);
    if (!u) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for work items");
        return NULL;
    }
    u->config = o->config;
    u->gauges = o->ups_gauges ? o->ups_gauges : &u->own_gauges;
    u->pause_ms = u->config->ups.poll_s * 1000;
    u->stop = eventfd(0, EFD_CLOEXEC);
    if (!mf_courier_tools_open(&u->tools, o->config, o->decoder_address, o->query_address, err) ||
        !mf_courier_outbox_open(&u->outbox, o->config, o->decoder_address, err) || !load(u, err))
        return NULL;
    u->started = u->stop >= 0 && pthread_create(&u->thread, NULL, thread_main, u) == 0;
    if (!u->started) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "no thread for work items");
        return NULL;
    }
    return MF_STEAL(u);
}

void mf_courier_ups_stop(struct mf_courier_ups *u)
{
    uint64_t one = 1;
    if (!u)
        return;
    if (u->started && write(u->stop, &one, sizeof one) == (ssize_t)sizeof one)
        pthread_join(u->thread, NULL);
    mf_courier_outbox_close(&u->outbox);
    mf_courier_tools_close(&u->tools);
    if (u->stop >= 0)
        close(u->stop);
    free(u);
}
