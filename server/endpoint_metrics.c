/* GET /metrics: Prometheus text. */
#include "server/endpoints.h"
#include "server/services.h"
#include "server/ups_gauges.h"

enum { METRICS_BYTES = 1 << 20 };

static bool get(struct mf_request *request, struct mf_error *err)
{
    struct mf_store_counts counts;
    struct mf_worker *workers = NULL;
    size_t n = 0, len = 0;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, METRICS_BYTES);
    if (!mf_store_counts(request->store, &counts, err) ||
        !mf_store_workers(request->store, request->arena, &workers, &n, err) ||
        !mf_metrics_write(request->services->metrics, &counts, workers, n, &text, err) ||
        !mf_ups_gauges_write(request->services->ups_gauges, &text, err) ||
        !mf_monitor_write(request->services->monitor, request->services, request->store, &text,
                          err))
        return false;
    char *body = mf_buffer_take(&text, &len);
    mf_respond_take(request, 200, "text/plain; version=0.0.4; charset=utf-8", body, len);
    return true;
}

const struct mf_endpoint mf_endpoint_metrics = {
    .method = "GET", .pattern = "/metrics", .handle = get};
