/* Metrics: what workers tell of themselves. */
#include "server/metrics_workers.h"

#include "server/worker_report.h"

#include <stdio.h>
#include <string.h>

static bool write_ready(const struct mf_worker *workers, size_t n, struct mf_buffer *out,
                        struct mf_error *err)
{
    if (!mf_metrics_head(out, "medfusion_worker_ready", "gauge", "Workers by device, 1 = ready",
                         err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!mf_buffer_printf(out, err, "medfusion_worker_ready{worker=\"%zu\",device=\"%s\"} %d\n",
                              i, workers[i].device, workers[i].ready))
            return false;
    return true;
}

/* One number of a worker. */
struct gauge {
    const char *name; /* behind the family's */
    const char *type, *help;
    const char *label; /* beside worker and device, or "" */
    double (*value)(const struct mf_worker_gauges *g);
};

static double computing(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->computing_ns) / 1e9;
}

static double batches(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->batches);
}

static double studies(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->studies);
}

static double batch_most(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->batch_most);
}

static double memory_total(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->memory_total);
}

static double memory_available(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->memory_available);
}

static double memory_taken(const struct mf_worker_gauges *g)
{
    return (double)MF_GAUGE_GET(g->memory_taken);
}

static const char GPU_MEMORY[] = "gpu_memory_bytes";

static const struct gauge GAUGES[] = {
    {"worker_computing_seconds_total", "counter", "Time in which networks were at work", "",
     computing},
    {"worker_batches_total", "counter", "Computations, of one study or several together", "",
     batches},
    {"worker_studies_total", "counter", "Studies computed", "", studies},
    {"worker_batch_limit", "gauge", "Studies that are claimed together at most", "", batch_most},
    {GPU_MEMORY, "gauge", "Memory of the worker's GPU when its models had been loaded",
     ",kind=\"total\"", memory_total},
    {GPU_MEMORY, NULL, NULL, ",kind=\"available\"", memory_available},
    {GPU_MEMORY, NULL, NULL, ",kind=\"models\"", memory_taken},
};

/* "medfusion_" for workers on this machine, which no other front shows; for those that are nobody's
 * a family of their own, which every front shows alike: to be looked at as a maximum. */
static bool write_head(const struct gauge *g, const char *family, struct mf_buffer *out,
                       struct mf_error *err)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", family, g->name);
    return !g->help || mf_metrics_head(out, name, g->type, g->help, err);
}

static bool write_one(const struct gauge *g, const char *family, const char *worker,
                      const struct mf_worker_gauges *w, struct mf_buffer *out, struct mf_error *err)
{
    if (!w->device[0] || (g->name == GPU_MEMORY && !MF_GAUGE_GET(w->memory_total)))
        return true;
    return mf_buffer_printf(out, err, "%s%s{worker=\"%s\",device=\"%.15s\"%s} %.17g\n", family,
                            g->name, worker, w->device, g->label, g->value(w));
}

static bool write_local(const struct mf_worker_gauges *gauges, const struct gauge *g,
                        struct mf_buffer *out, struct mf_error *err)
{
    char number[24];
    if (!write_head(g, "medfusion_", out, err))
        return false;
    for (size_t k = 0; k < MF_WORKER_GAUGES; k++) {
        snprintf(number, sizeof number, "%zu", k);
        if (!write_one(g, "medfusion_", number, &gauges[k], out, err))
            return false;
    }
    return true;
}

/* Whether an earlier one has this name: two hosts of one name would make one line twice. */
static bool named_before(const struct mf_worker *workers, size_t i, const char *name)
{
    struct mf_worker_gauges ignored;
    char other[MF_WORKER_NAME];
    for (size_t k = 0; k < i; k++)
        if (mf_worker_reported(workers[k].models, &ignored, other) && strcmp(other, name) == 0)
            return true;
    return false;
}

static bool write_standalone(const struct mf_worker *workers, size_t n, const struct gauge *g,
                             struct mf_buffer *out, struct mf_error *err)
{
    static const char family[] = "medfusion_standalone_";
    bool told = false;
    for (size_t i = 0; i < n; i++) {
        struct mf_worker_gauges w;
        char name[MF_WORKER_NAME];
        if (!mf_worker_reported(workers[i].models, &w, name) || named_before(workers, i, name))
            continue;
        if ((!told && !write_head(g, family, out, err)) ||
            !write_one(g, family, name, &w, out, err))
            return false;
        told = true;
    }
    return true;
}

bool mf_metrics_workers(const struct mf_worker_gauges *gauges, const struct mf_worker *workers,
                        size_t n, struct mf_buffer *out, struct mf_error *err)
{
    const size_t count = sizeof GAUGES / sizeof *GAUGES;
    if (!write_ready(workers, n, out, err))
        return false;
    for (size_t i = 0; gauges && i < count; i++)
        if (!write_local(gauges, &GAUGES[i], out, err))
            return false;
    for (size_t i = 0; i < count; i++)
        if (!write_standalone(workers, n, &GAUGES[i], out, err))
            return false;
    return true;
}
