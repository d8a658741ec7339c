/*
 * SQL store: the outbox. It is filled in the transaction in which a job ends, so that neither a
 * result without its deliveries nor a delivery without its result can exist. Webhooks are told of
 * every end, failed and cancelled jobs' too. Where the job's options name "destinations", the
 * others get nothing.
 */
#include "server/store_sql.h"

#include "core/json.h"

#include <stdlib.h>
#include <string.h>

/* "https://…", for the default tenant, or "TENANT=https://…". */
static bool add_destination(struct mf_sql_store *s, char *address, struct mf_error *err)
{
    const char *tenant = MF_TENANT_DEFAULT;
    char *equals = strchr(address, '='), *scheme = strstr(address, "://");
    if (equals && (!scheme || equals < scheme)) {
        *equals = '\0';
        tenant = address;
        address = equals + 1;
    }
    for (size_t i = 0; i < s->destination_count; i++)
        if (strcmp(s->destinations[i].tenant, tenant) == 0 &&
            strcmp(s->destinations[i].address, address) == 0)
            return true;
    if (s->destination_count == MF_SQL_DESTINATIONS)
        return mf_error_set(err, MF_ERR_USAGE, "outbox.destinations: more than %d addresses",
                            MF_SQL_DESTINATIONS);
    if (strlen(tenant) >= MF_TENANT)
        return mf_error_set(err, MF_ERR_USAGE, "outbox.destinations: a tenant's name is too long");
    memcpy(s->destinations[s->destination_count].tenant, tenant, strlen(tenant) + 1);
    memcpy(s->destinations[s->destination_count++].address, address, strlen(address) + 1);
    return true;
}

bool mf_sql_read_destinations(struct mf_sql_store *s, struct mf_error *err)
{
    const char *at = s->settings.destinations;
    if (!at || strcmp(at, "off") == 0)
        return true;
    s->destinations = calloc(MF_SQL_DESTINATIONS, sizeof *s->destinations);
    if (!s->destinations)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the job store");
    while (*(at += strspn(at, " "))) {
        char address[MF_DESTINATION];
        size_t len = strcspn(at, " ");
        if (len >= sizeof address)
            return mf_error_set(err, MF_ERR_USAGE,
                                "outbox.destinations: an address is longer than "
                                "%zu bytes",
                                sizeof address - 1);
        memcpy(address, at, len);
        address[len] = '\0';
        if (!add_destination(s, address, err))
            return false;
        at += len;
    }
    return true;
}

/* What a job's options say about destinations: an array of addresses, or NULL: all. */
static bool read_chosen(struct mf_sql_store *s, const char *job, json_t **ret, struct mf_error *err)
{
    struct mf_sql_rows *q = mf_sql_query(s, err, "SELECT options FROM jobs WHERE id = ?", "t", job);
    int row = mf_sql_row(s, q, err);
    if (row != 1)
        return row == 0;
    const char *text = mf_sql_text(q, 0);
    MF_AUTO(mf_json) json_t *options = mf_json_parse(text, strlen(text), NULL, "options", err);
    mf_sql_done(q);
    *ret = options ? json_incref(json_object_get(options, "destinations")) : NULL;
    return options != NULL;
}

static bool is_chosen(const json_t *chosen, const char *address)
{
    size_t i;
    json_t *item;
    if (!chosen)
        return true;
    json_array_foreach(chosen, i,
                       item) if (json_is_string(item) &&
                                 strcmp(json_string_value(item), address) == 0) return true;
    return false;
}

bool mf_sql_deliver(struct mf_sql_store *s, const char *tenant, const char *job,
                    enum mf_job_state state, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *chosen = NULL;
    if (s->destination_count > 0 && !read_chosen(s, job, &chosen, err))
        return false;
    for (size_t i = 0; i < s->destination_count; i++) {
        const char *address = s->destinations[i].address;
        if (strcmp(s->destinations[i].tenant, tenant) != 0 || !is_chosen(chosen, address) ||
            (state != MF_JOB_SUCCEEDED && strncmp(address, "webhook:", 8) != 0))
            continue;
        if (!mf_sql_run(s, err,
                        "INSERT INTO outbox(tenant, job, destination, due) VALUES(?, ?, ?, 1)"
                        " ON CONFLICT(job, destination) DO NOTHING",
                        "ttt", tenant, job, address))
            return false;
    }
    return true;
}

bool mf_sql_next_due(struct mf_sql_store *s, struct mf_sql_rows *q, int64_t now, int64_t *ret_ms,
                     struct mf_error *err)
{
    if (mf_sql_row(s, q, err) != 1)
        return false;
    int64_t due = mf_sql_int64(q, 0);
    *ret_ms = mf_sql_null(q, 0) ? -1 : due > now ? due - now : 0;
    mf_sql_done(q);
    return true;
}

/* With couriers on other hosts, what is handed out is not due again for MF_SQL_HELD_MS: time enough
 * to settle it, unless its courier dies. It is handed out in the order in which it fell due, so
 * that a receiver hears of jobs in the order in which they ended. */
#define COLUMNS "id, attempts, tenant, job, destination, due"
#define OF_THESE                                                                                   \
    "due > 0 AND due <= ? AND CASE WHEN replace(?, ' ' || destination || ' ', '') = ?"             \
    " THEN 1 ELSE 0 END = ? ORDER BY due, id LIMIT ?"
#define DUE_NOW "SELECT " COLUMNS " FROM outbox WHERE " OF_THESE
#define TAKE_NOW                                                                                   \
    "WITH fallen AS (SELECT id AS which, due AS since FROM outbox WHERE " OF_THESE                 \
    "/*! FOR UPDATE SKIP LOCKED*/), taken AS (UPDATE outbox SET due = ? FROM fallen"               \
    " WHERE id = which RETURNING " COLUMNS ", since) SELECT " COLUMNS                              \
    " FROM taken ORDER BY since, id"

static bool due_step(struct mf_sql_store *s, const struct mf_destinations *which,
                     struct mf_delivery *ret, size_t max, size_t *ret_count, int64_t *ret_next_ms,
                     struct mf_error *err)
{
    int64_t now = mf_sql_now_ms(s), wanted = (int64_t)max, others = which->others;
    s->writes += s->engine->shared;
    struct mf_sql_rows *q =
        s->engine->shared
            ? mf_sql_query(s, err, TAKE_NOW, "ittiii", now, which->list, which->list, others,
                           wanted, now + MF_SQL_HELD_MS)
            : mf_sql_query(s, err, DUE_NOW, "ittii", now, which->list, which->list, others, wanted);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1) {
        ret[n].id = mf_sql_int64(q, 0);
        ret[n].attempts = mf_sql_int64(q, 1);
        mf_sql_copy_text(q, 2, ret[n].tenant, sizeof ret[n].tenant);
        mf_sql_copy_text(q, 3, ret[n].job, sizeof ret[n].job);
        mf_sql_copy_text(q, 4, ret[n].destination, sizeof ret[n].destination);
        n++;
    }
    *ret_count = n;
    /* Those that were handed out are settled before anybody asks again; of others, when. */
    return row >= 0 &&
           mf_sql_next_due(s,
                           mf_sql_query(s, err, "SELECT min(due) FROM outbox WHERE due > ?", "i",
                                        n == max ? INT64_C(0) : now),
                           now, ret_next_ms, err);
}

bool mf_sql_deliveries_due(struct mf_store *store, const struct mf_destinations *which,
                           struct mf_delivery *ret, size_t max, size_t *ret_count,
                           int64_t *ret_next_ms, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, due_step(s, which, ret, max, ret_count, ret_next_ms, err), err);
}

static bool settle_step(struct mf_sql_store *s, int64_t id, const struct mf_error *problem,
                        int64_t retry_ms, struct mf_error *err)
{
    const int64_t now = mf_sql_now_ms(s), due = problem && retry_ms > 0 ? now + retry_ms : 0;
    char job[MF_JOB_ID] = "", tenant[MF_TENANT] = "";
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT job, tenant FROM outbox WHERE id = ?", "i", id);
    int row = mf_sql_row(s, q, err);
    if (row != 1)
        return row == 0;
    mf_sql_copy_text(q, 0, job, sizeof job);
    mf_sql_copy_text(q, 1, tenant, sizeof tenant);
    mf_sql_done(q);
    if (!mf_sql_run(s, err,
                    "UPDATE outbox SET due = ?, failed = ?, attempts = attempts + 1, problem = ?"
                    " WHERE id = ?",
                    "iiti", due, problem && due == 0 ? now : INT64_C(0),
                    problem ? problem->msg : NULL, id))
        return false;
    return due > 0 ||
           mf_sql_audit(s, tenant, job, problem ? "result.not_delivered" : "result.delivered", NULL,
                        err);
}

bool mf_sql_delivery_settle(struct mf_store *store, int64_t id, const struct mf_error *problem,
                            int64_t retry_ms, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, settle_step(s, id, problem, retry_ms, err), err);
}
