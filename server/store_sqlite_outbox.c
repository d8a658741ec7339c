/*
 * SQLite store: the outbox. A trigger fills it in the transaction in which a job becomes succeeded,
 * so that neither a result without its deliveries nor a delivery without its result can exist.
 * Webhooks are told of every end, failed and cancelled jobs' too.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

#include <string.h>

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS outbox("
    " id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, job TEXT NOT NULL, destination TEXT NOT NULL,"
    " due INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, problem TEXT,"
    " UNIQUE(job, destination));"
    "CREATE INDEX IF NOT EXISTS outbox_due ON outbox(due) WHERE due > 0;"
    "CREATE TEMP TABLE destinations("
    " tenant TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY(tenant, address));"
    "CREATE TEMP TRIGGER deliver AFTER UPDATE OF state ON main.jobs"
    " WHEN new.state IN (2, 3, 4) AND old.state NOT IN (2, 3, 4) BEGIN"
    " INSERT OR IGNORE INTO outbox(tenant, job, destination, due)"
    "  SELECT new.tenant, new.id, address, 1 FROM destinations"
    "  WHERE tenant = new.tenant AND (new.state = 2 OR address GLOB 'webhook:*')"
    "  ORDER BY destinations.rowid; END;";

/* "https://…", for the default tenant, or "TENANT=https://…". */
static bool add_destination(struct mf_sqlite_store *s, char *address, struct mf_error *err)
{
    const char *tenant = MF_TENANT_DEFAULT;
    char *equals = strchr(address, '='), *scheme = strstr(address, "://");
    if (equals && (!scheme || equals < scheme)) {
        *equals = '\0';
        tenant = address;
        address = equals + 1;
    }
    return MF_SQLITE_RUN(s, err, "INSERT OR IGNORE INTO destinations(tenant, address) VALUES(?, ?)",
                         "tt", tenant, address);
}

bool mf_sqlite_outbox_open(struct mf_sqlite_store *s, struct mf_error *err)
{
    const char *at = s->settings.destinations;
    if (sqlite3_exec(s->db, SCHEMA, NULL, NULL, NULL) != SQLITE_OK)
        return mf_sqlite_fail(s, err);
    if (!at || strcmp(at, "off") == 0)
        return true;
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

bool mf_sqlite_deliveries_due(struct mf_store *store, struct mf_delivery *ret, size_t max,
                              size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    int64_t now = mf_clock_wall_ms();
    sqlite3_stmt *q = mf_sqlite_query(s, err,
                                      "SELECT id, attempts, tenant, job, destination, due"
                                      " FROM outbox WHERE due > 0 ORDER BY due, id LIMIT ?",
                                      "i", (int64_t)max + 1);
    size_t n = 0;
    int row;
    *ret_next_ms = -1;
    while ((row = mf_sqlite_row(s, q, err)) == 1) {
        int64_t due = sqlite3_column_int64(q, 5);
        if (due > now || n == max) {
            *ret_next_ms = due > now ? due - now : 0;
            mf_sqlite_done(q);
            row = 0;
            break;
        }
        ret[n].id = sqlite3_column_int64(q, 0);
        ret[n].attempts = sqlite3_column_int64(q, 1);
        mf_sqlite_text(q, 2, ret[n].tenant, sizeof ret[n].tenant);
        mf_sqlite_text(q, 3, ret[n].job, sizeof ret[n].job);
        mf_sqlite_text(q, 4, ret[n].destination, sizeof ret[n].destination);
        n++;
    }
    *ret_count = n;
    return row == 0;
}

static bool settle_step(struct mf_sqlite_store *s, int64_t id, const struct mf_error *problem,
                        int64_t retry_ms, struct mf_error *err)
{
    int64_t due = problem && retry_ms > 0 ? mf_clock_wall_ms() + retry_ms : 0;
    char job[MF_JOB_ID] = "", tenant[MF_TENANT] = "";
    sqlite3_stmt *q =
        mf_sqlite_query(s, err, "SELECT job, tenant FROM outbox WHERE id = ?", "i", id);
    int row = mf_sqlite_row(s, q, err);
    if (row != 1)
        return row == 0;
    mf_sqlite_text(q, 0, job, sizeof job);
    mf_sqlite_text(q, 1, tenant, sizeof tenant);
    mf_sqlite_done(q);
    if (!MF_SQLITE_RUN(s, err,
                       "UPDATE outbox SET due = ?, attempts = attempts + 1, problem = ?"
                       " WHERE id = ?",
                       "iti", due, problem ? problem->msg : NULL, id))
        return false;
    return due > 0 ||
           mf_sqlite_audit(s, tenant, job, problem ? "result.not_delivered" : "result.delivered",
                           NULL, err);
}

bool mf_sqlite_delivery_settle(struct mf_store *store, int64_t id, const struct mf_error *problem,
                               int64_t retry_ms, struct mf_error *err)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    return mf_sqlite_savepoint(s, err) &&
           mf_sqlite_end(s, settle_step(s, id, problem, retry_ms, err), err);
}
