/* See ups_gauges.h. */
#include "server/ups_gauges.h"

#include "server/worker_gauges.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

struct mf_ups_gauges *mf_ups_gauges_new(struct mf_error *err)
{
    void *gauges = mmap(NULL, sizeof(struct mf_ups_gauges), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (gauges != MAP_FAILED)
        return gauges;
    mf_error_set(err, MF_ERR_NO_MEMORY, "memory for the metrics of work items: %s",
                 strerror(errno));
    return NULL;
}

bool mf_ups_gauges_write(const struct mf_ups_gauges *g, struct mf_buffer *out, struct mf_error *err)
{
    if (!g)
        return true;
    return mf_buffer_printf(
        out, err,
        "# HELP medfusion_ups_workitems Work items that are held\n"
        "# TYPE medfusion_ups_workitems gauge\n"
        "medfusion_ups_workitems %" PRIu64 "\n"
        "# HELP medfusion_ups_workitems_total Work items by what became of them\n"
        "# TYPE medfusion_ups_workitems_total counter\n"
        "medfusion_ups_workitems_total{event=\"claimed\"} %" PRIu64 "\n"
        "medfusion_ups_workitems_total{event=\"lost\"} %" PRIu64 "\n"
        "medfusion_ups_workitems_total{event=\"completed\"} %" PRIu64 "\n"
        "medfusion_ups_workitems_total{event=\"canceled\"} %" PRIu64 "\n"
        "medfusion_ups_workitems_total{event=\"withdrawn\"} %" PRIu64 "\n"
        "# HELP medfusion_ups_failures_total Requests to the manager of work items that failed\n"
        "# TYPE medfusion_ups_failures_total counter\n"
        "medfusion_ups_failures_total %" PRIu64 "\n",
        MF_GAUGE_GET(g->held), MF_GAUGE_GET(g->claimed), MF_GAUGE_GET(g->lost),
        MF_GAUGE_GET(g->completed), MF_GAUGE_GET(g->canceled), MF_GAUGE_GET(g->withdrawn),
        MF_GAUGE_GET(g->failures));
}
