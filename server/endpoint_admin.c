/*
 * GET /v1/admin/models, GET and POST /v1/admin/reload, GET /v1/admin/audit: what runs, having it
 * read anew, and whether the audit trail is whole. For the scope admin alone, which is above
 * tenants.
 */
#include "server/control.h"
#include "server/endpoints.h"
#include "server/model_policy.h"
#include "server/registry.h"
#include "server/services.h"
#include "server/store_audit.h"

#include "core/clock.h"

#include <string.h>

static const char *const NO_QUERY[] = {NULL};
static const char JSON[] = "application/json";

/* --- models --- */

/* The workers that are ready for this very bundle (by digest): [{"worker","device"}…]. */
static json_t *workers_of(const struct mf_worker *workers, size_t n, const char *digest)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        MF_AUTO(mf_json) json_t *models = json_loads(workers[i].models, 0, NULL);
        size_t k;
        const json_t *model;
        json_array_foreach(models, k, model)
        {
            if (workers[i].ready && strcmp(mf_json_get_string(model, "digest", ""), digest) == 0)
                json_array_append_new(list, json_pack("{s:s, s:s}", "worker", workers[i].id,
                                                      "device", workers[i].device));
        }
    }
    return list;
}

static bool models(struct mf_request *request, struct mf_error *err)
{
    const struct mf_services *s = request->services;
    struct mf_worker *workers = NULL;
    size_t n = 0;
    if (!mf_request_only_query(request, NO_QUERY, err) ||
        !mf_store_workers(request->store, request->arena, &workers, &n, err))
        return false;
    json_t *list = json_array();
    for (size_t i = 0; i < mf_registry_count(s->registry); i++) {
        struct mf_model_info info;
        mf_registry_info(s->registry, i, &info);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "name",
                                              info.name, "version", info.version, "digest",
                                              info.digest, "model_hash", info.model_hash,
                                              "directory", s->config->models.directories.items[i],
                                              "signed", s->config->models.trusted_keys.count > 0,
                                              "workers", workers_of(workers, n, info.digest)));
    }
    return mf_respond_json_take(
        request, 200, JSON,
        json_pack("{s:I, s:o}", "generation", (json_int_t)s->generation, "models", list), err);
}

/* --- reload --- */

static json_t *time_of(int64_t ms)
{
    char text[MF_TIME_TEXT];
    return ms ? json_string(mf_clock_format_ms(ms, text)) : json_null();
}

static bool respond_reload(struct mf_request *request, int status,
                           const struct mf_reload_status *reload, struct mf_error *err)
{
    return mf_respond_json_take(
        request, status, JSON,
        json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "state", mf_reload_state_name(reload->state),
                  "number", (json_int_t)reload->number, "generation",
                  (json_int_t)reload->generation, "started", time_of(reload->started_ms), "ended",
                  time_of(reload->ended_ms), "reason",
                  reload->reason[0] ? mf_json_string(reload->reason) : json_null()),
        err);
}

static bool reload_state(struct mf_request *request, struct mf_error *err)
{
    struct mf_reload_status status;
    return mf_request_only_query(request, NO_QUERY, err) &&
           mf_control_ask(request->services->config->data.directory, MF_CONTROL_STATUS, &status,
                          err) &&
           respond_reload(request, 200, &status, err);
}

static bool reload(struct mf_request *request, struct mf_error *err)
{
    struct mf_reload_status status;
    if (!mf_request_only_query(request, NO_QUERY, err) ||
        !mf_control_ask(request->services->config->data.directory, MF_CONTROL_RELOAD, &status, err))
        return false;
    if (status.refused)
        return mf_error_set(err, MF_ERR_CONFLICT, "a reload is under way, or the daemon stops");
    return mf_respond_field(request, err, "Location", "/v1/admin/reload") &&
           respond_reload(request, 202, &status, err);
}

/* --- the audit trail --- */

static bool audit(struct mf_request *request, struct mf_error *err)
{
    static const char *const QUERY[] = {"head", NULL};
    struct mf_audit_point known = {.seq = 0};
    struct mf_audit_report report = {.rows = 0};
    struct mf_error wrong = MF_ERROR_INIT;
    char text[MF_AUDIT_POINT_TEXT];
    if (!mf_request_only_query(request, QUERY, err))
        return false;
    const char *head = mf_request_query(request, "head");
    if (head && !mf_audit_point_parse(head, &known))
        return mf_error_set(err, MF_ERR_MALFORMED, "head must be NUMBER:HASH");
    bool intact = mf_audit_verify(request->store, head ? &known : NULL, &report, &wrong);
    if (!intact && wrong.code != MF_ERR_MALFORMED)
        return mf_error_set(err, wrong.code, "%s", wrong.msg);
    json_t *answer =
        intact ? json_pack("{s:b, s:I, s:I, s:s, s:n}", "intact", 1, "rows",
                           (json_int_t)report.rows, "removed", (json_int_t)report.base.seq, "head",
                           mf_audit_point_format(&report.head, text), "reason")
               : json_pack("{s:b, s:n, s:n, s:n, s:s}", "intact", 0, "rows", "removed", "head",
                           "reason", wrong.msg);
    return mf_respond_json_take(request, 200, JSON, answer, err);
}

const struct mf_endpoint mf_endpoint_admin_models = {
    .method = "GET", .pattern = "/v1/admin/models", .handle = models};
const struct mf_endpoint mf_endpoint_admin_reload_get = {
    .method = "GET", .pattern = "/v1/admin/reload", .handle = reload_state};
const struct mf_endpoint mf_endpoint_admin_reload_post = {
    .method = "POST", .pattern = "/v1/admin/reload", .handle = reload};
const struct mf_endpoint mf_endpoint_admin_audit = {
    .method = "GET", .pattern = "/v1/admin/audit", .slow = true, .handle = audit};
