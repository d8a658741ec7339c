/*
 * DIMSE: storage commitment. What is in the store is durable (intake.h), so an object is committed
 * when its row is there. Rows are looked up a batch of UIDs at a time.
 */
#include "server/dimse_commitment.h"

#include <string.h>

enum { UIDS = 100, ARENA_BYTES = 16 << 20, ENTRY_BYTES = 512 };

static const struct mf_found *find_row(const struct mf_found *rows, size_t n, const char *uid)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].stored.instance.values[MF_SOP_INSTANCE_UID], uid) == 0)
            return &rows[i];
    return NULL;
}

static bool find_rows(struct mf_store *store, const char *tenant,
                      const struct mf_commitment_item *items, size_t n, struct mf_arena *arena,
                      struct mf_found **ret, size_t *ret_count, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer uids;
    mf_buffer_init(&uids, (size_t)UIDS * (MF_NET_UID + 1));
    for (size_t i = 0; i < n; i++)
        if (!mf_buffer_printf(&uids, err, "%s%s", i ? "," : "", items[i].sop_instance))
            return false;
    const struct mf_match match = {MF_SOP_INSTANCE_UID, MF_MATCH_LIST, uids.data};
    const struct mf_search search = {.tenant = tenant,
                                     .level = MF_LEVEL_INSTANCE,
                                     .matches = &match,
                                     .match_count = 1,
                                     .limit = MF_STORE_BATCH};
    return mf_store_instances_search(store, &search, arena, ret, ret_count, err);
}

/* Judges a batch; `hasten`: also makes the studies of its objects due, of which neighbours mostly
 * share one. */
static bool judge(struct mf_store *store, const char *tenant, struct mf_commitment_item *items,
                  size_t n, bool hasten, bool *all, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    struct mf_found *rows = NULL;
    size_t found = 0;
    const char *last = "";
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a commitment");
    if (!find_rows(store, tenant, items, n, arena, &rows, &found, err))
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct mf_found *row = find_row(rows, found, items[i].sop_instance);
        const char *const *values = row ? row->stored.instance.values : NULL;
        items[i].reason = !row ? MF_COMMITMENT_NO_SUCH_OBJECT
                          : strcmp(values[MF_SOP_CLASS_UID], items[i].sop_class) != 0
                              ? MF_COMMITMENT_CLASS_CONFLICT
                              : MF_COMMITTED;
        *all = *all && items[i].reason == MF_COMMITTED;
        if (!hasten || !row || strcmp(last, values[MF_STUDY_UID]) == 0)
            continue;
        last = values[MF_STUDY_UID];
        if (!mf_store_study_hasten(store, tenant, last, err))
            return false;
    }
    return true;
}

static bool judge_all(struct mf_store *store, const char *tenant, struct mf_commitment *c,
                      bool hasten, bool *all, struct mf_error *err)
{
    for (size_t i = 0; i < c->count; i += UIDS) {
        size_t n = c->count - i < UIDS ? c->count - i : UIDS;
        if (!judge(store, tenant, c->items + i, n, hasten, all, err))
            return false;
    }
    return true;
}

static bool judge_request(struct mf_store *store, const char *tenant, struct mf_commitment *c,
                          struct mf_error *err)
{
    bool all = true;
    return judge_all(store, tenant, c, false, &all, err) &&
           (!all || judge_all(store, tenant, c, true, &all, err));
}

/* The request as it would be made by whoever knows the UIDs that the objects have here. */
static bool judge_renamed(struct mf_store *store, const char *tenant,
                          const struct mf_deidentify_rules *rules, struct mf_commitment *c,
                          struct mf_error *err)
{
    MF_AUTO(mf_mem) char(*uids)[MF_DEIDENTIFY_UID] = calloc(c->count + 1, sizeof *uids);
    MF_AUTO(mf_mem) struct mf_commitment_item *items = calloc(c->count + 1, sizeof *items);
    struct mf_commitment renamed = {c->transaction, items, c->count};
    for (size_t i = 0; uids && items && i < c->count; i++) {
        items[i] = c->items[i];
        items[i].sop_instance = uids[i];
        if (!mf_deidentify_uid(rules, c->items[i].sop_instance, uids[i]))
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a commitment");
    }
    if (!uids || !items)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a commitment");
    if (!judge_request(store, tenant, &renamed, err))
        return false;
    for (size_t i = 0; i < c->count; i++)
        c->items[i].reason = items[i].reason;
    return true;
}

bool mf_dimse_commit(struct mf_store *store, const char *tenant,
                     const struct mf_deidentify_rules *deidentify, struct mf_commitment *c,
                     struct mf_error *err)
{
    return deidentify ? judge_renamed(store, tenant, deidentify, c, err)
                      : judge_request(store, tenant, c, err);
}

/* --- addresses --- */

/* The next address of the list; false at its end. */
static bool next_address(const char **at, char out[ENTRY_BYTES])
{
    *at += strspn(*at, " ");
    size_t len = strcspn(*at, " ");
    snprintf(out, ENTRY_BYTES, "%.*s", (int)len, *at);
    *at += len;
    return len > 0;
}

bool mf_dimse_report_address(const struct mf_config *config, const char *ae,
                             struct mf_dicom_address *ret)
{
    char entry[ENTRY_BYTES];
    const char *at = config->dimse.report_to;
    while (next_address(&at, entry))
        if (mf_dicom_address_parse(entry, ret) && strcmp(ret->ae, ae) == 0)
            return true;
    return false;
}

bool mf_dimse_report_check(const struct mf_config *config, struct mf_error *err)
{
    char entry[ENTRY_BYTES];
    struct mf_dicom_address address;
    const char *at = config->dimse.report_to;
    if (strcmp(at, "off") == 0)
        return true;
    while (next_address(&at, entry)) {
        if (!mf_dicom_address_parse(entry, &address))
            return mf_error_set(err, MF_ERR_USAGE,
                                "dimse.report_to: \"%.100s\" is no dicom(s)://AE@host:port", entry);
        if (!mf_dicom_address_usable(&address, config))
            return mf_error_set(err, MF_ERR_USAGE, "dimse.report_to: \"%.100s\" needs dimse.tls_ca",
                                entry);
    }
    return true;
}
