/* GET /v1/quality: how the newest results of each model look beside its calibration. */
#include "server/endpoints.h"
#include "server/monitor.h"
#include "server/registry.h"
#include "server/services.h"

#include <stdlib.h>
#include <string.h>

enum { SITE_BYTES = 64 };

static bool read_last(const struct mf_request *request, size_t *ret, struct mf_error *err)
{
    const char *text = mf_request_query(request, "last");
    char *end;
    if (!text)
        return true;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n == 0 || n > MF_MONITOR_MOST)
        return mf_error_set(err, MF_ERR_MALFORMED, "last must be a number from 1 to %d",
                            MF_MONITOR_MOST);
    *ret = n;
    return true;
}

/* As options.site: see pipeline_options.c. */
static bool read_site(const struct mf_request *request, const char **ret, struct mf_error *err)
{
    *ret = mf_request_query(request, "site");
    return !*ret || (**ret && strlen(*ret) <= SITE_BYTES) ||
           mf_error_set(err, MF_ERR_MALFORMED, "site must be a name of at most %d bytes",
                        SITE_BYTES);
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    static const char *const QUERY[] = {"model", "site", "last", NULL};
    struct mf_monitor_window window = {.tenant = request->tenant, .last = MF_MONITOR_LAST};
    const struct mf_services *services = request->services;
    if (!mf_request_only_query(request, QUERY, err) || !read_last(request, &window.last, err) ||
        !read_site(request, &window.site, err))
        return false;
    const char *model = mf_request_query(request, "model");
    MF_AUTO(mf_json) json_t *models = json_array();
    bool found = !model;
    for (size_t i = 0; i < mf_registry_count(services->registry); i++) {
        const struct mf_bundle *bundle = mf_registry_bundle(services->registry, i);
        if (model && strcmp(model, mf_bundle_name(bundle)) != 0)
            continue;
        found = true;
        json_t *report = mf_monitor_report(request->store, bundle, &window, err);
        if (!report)
            return false;
        json_array_append_new(models, report);
    }
    if (!found)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such model");
    return mf_respond_json_take(
        request, 200, "application/json",
        json_pack("{s:s, s:O}", "schema", "medfusion.quality/1", "models", models), err);
}

const struct mf_endpoint mf_endpoint_quality = {
    .method = "GET", .pattern = "/v1/quality", .slow = true, .handle = get};
