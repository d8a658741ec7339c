/*
 * Metrics: counters without locks. Labels are endpoints, statuses, job states and devices: never an
 * id, a UID or a name that came from outside.
 */
#include "server/metrics.h"

#include "server/metrics_workers.h"
#include "server/router.h"

#include "core/clock.h"

#include <inttypes.h>
#include <stdlib.h>

static const int STATUSES[] = {200, 202, 204, 304, 400, 404, 405, 406, 409,
                               410, 413, 415, 422, 429, 431, 500, 503, 504};
static const double BUCKETS[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                 0.5,   1,      2.5,   5,    10,    30,   60};

enum {
    STATUS_COUNT = sizeof STATUSES / sizeof STATUSES[0],
    BUCKET_COUNT = sizeof BUCKETS / sizeof BUCKETS[0]
};

struct route {
    uint64_t statuses[STATUS_COUNT + 1]; /* the last: any other */
    uint64_t buckets[BUCKET_COUNT + 1];  /* the last: slower than all */
    uint64_t nanoseconds;
};

struct mf_metrics {
    const struct mf_worker_gauges *gauges; /* NULL: no workers here */
    uint64_t received_bytes;
    int64_t connections, start_ms;
    struct route routes[]; /* by mf_route_index(); the last, mf_route_count(): no endpoint */
};

#define ADD(counter, n) __atomic_fetch_add(&(counter), (n), __ATOMIC_RELAXED)
#define GET(counter) __atomic_load_n(&(counter), __ATOMIC_RELAXED)

struct mf_metrics *mf_metrics_new(const struct mf_worker_gauges *gauges, struct mf_error *err)
{
    struct mf_metrics *m = calloc(1, sizeof *m + (mf_route_count() + 1) * sizeof *m->routes);
    if (!m) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for metrics");
        return NULL;
    }
    m->gauges = gauges;
    m->start_ms = mf_clock_wall_ms();
    return m;
}

void mf_metrics_free(struct mf_metrics *metrics)
{
    free(metrics);
}

void mf_metrics_request(struct mf_metrics *m, const struct mf_endpoint *endpoint, int status,
                        double seconds, uint64_t body_bytes)
{
    struct route *r = &m->routes[mf_route_index(endpoint)];
    size_t i = 0, b = 0;
    while (i < STATUS_COUNT && STATUSES[i] != status)
        i++;
    while (b < BUCKET_COUNT && seconds > BUCKETS[b])
        b++;
    ADD(r->statuses[i], 1);
    ADD(r->buckets[b], 1);
    ADD(r->nanoseconds, (uint64_t)(seconds * 1e9));
    ADD(m->received_bytes, body_bytes);
}

void mf_metrics_connection(struct mf_metrics *m, int change)
{
    ADD(m->connections, change);
}

/* --- text --- */

bool mf_metrics_head(struct mf_buffer *out, const char *name, const char *type, const char *help,
                     struct mf_error *err)
{
    return mf_buffer_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static bool one(struct mf_buffer *out, const char *name, const char *type, const char *help,
                double value, struct mf_error *err)
{
    return mf_metrics_head(out, name, type, help, err) &&
           mf_buffer_printf(out, err, "%s %.17g\n", name, value);
}

static const struct mf_endpoint *route_at(size_t i)
{
    static const struct mf_endpoint none = {.method = "any", .pattern = "none"};
    return i < mf_route_count() ? mf_route_at(i) : &none;
}

static bool write_requests(const struct mf_metrics *m, struct mf_buffer *out, struct mf_error *err)
{
    static const char name[] = "medfusion_http_requests_total";
    if (!mf_metrics_head(out, name, "counter", "Answered requests", err))
        return false;
    for (size_t i = 0; i <= mf_route_count(); i++) {
        const struct route *r = &m->routes[i];
        const struct mf_endpoint *e = route_at(i);
        for (size_t k = 0; k <= STATUS_COUNT; k++) {
            char status[16] = "other";
            if (GET(r->statuses[k]) == 0)
                continue;
            if (k < STATUS_COUNT)
                snprintf(status, sizeof status, "%d", STATUSES[k]);
            if (!mf_buffer_printf(out, err,
                                  "%s{method=\"%s\",route=\"%s\",status=\"%s\"} %" PRIu64 "\n",
                                  name, e->method, e->pattern, status, GET(r->statuses[k])))
                return false;
        }
    }
    return true;
}

static bool write_route_times(const struct route *r, const struct mf_endpoint *e,
                              struct mf_buffer *out, struct mf_error *err)
{
    static const char name[] = "medfusion_http_request_seconds";
    uint64_t sum = 0;
    for (size_t b = 0; b <= BUCKET_COUNT; b++) {
        char limit[32] = "+Inf";
        sum += GET(r->buckets[b]);
        if (b < BUCKET_COUNT)
            snprintf(limit, sizeof limit, "%g", BUCKETS[b]);
        if (!mf_buffer_printf(out, err,
                              "%s_bucket{method=\"%s\",route=\"%s\",le=\"%s\"} %" PRIu64 "\n", name,
                              e->method, e->pattern, limit, sum))
            return false;
    }
    return mf_buffer_printf(out, err,
                            "%s_sum{method=\"%s\",route=\"%s\"} %.9g\n"
                            "%s_count{method=\"%s\",route=\"%s\"} %" PRIu64 "\n",
                            name, e->method, e->pattern, (double)GET(r->nanoseconds) / 1e9, name,
                            e->method, e->pattern, sum);
}

static bool write_times(const struct mf_metrics *m, struct mf_buffer *out, struct mf_error *err)
{
    if (!mf_metrics_head(out, "medfusion_http_request_seconds", "histogram",
                         "Time from the first header to the answer, waiting included", err))
        return false;
    for (size_t i = 0; i <= mf_route_count(); i++) {
        uint64_t sum = 0;
        for (size_t b = 0; b <= BUCKET_COUNT; b++)
            sum += GET(m->routes[i].buckets[b]);
        if (sum > 0 && !write_route_times(&m->routes[i], route_at(i), out, err))
            return false;
    }
    return true;
}

static bool write_states(struct mf_buffer *out, const char *name, const char *type,
                         const char *help, const int64_t *values, int from, struct mf_error *err)
{
    if (!mf_metrics_head(out, name, type, help, err))
        return false;
    for (int i = from; i < MF_JOB_STATE_COUNT; i++)
        if (!mf_buffer_printf(out, err, "%s{state=\"%s\"} %" PRId64 "\n", name,
                              mf_job_state_name((enum mf_job_state)i), values[i]))
            return false;
    return true;
}

static bool write_jobs(const struct mf_store_counts *c, struct mf_buffer *out, struct mf_error *err)
{
    return write_states(out, "medfusion_jobs", "gauge", "Jobs in each state", c->jobs, 0, err) &&
           write_states(out, "medfusion_jobs_finished_total", "counter", "Jobs that have ended",
                        c->finished_total, MF_JOB_SUCCEEDED, err) &&
           one(out, "medfusion_jobs_submitted_total", "counter", "Jobs accepted",
               (double)c->submitted_total, err) &&
           one(out, "medfusion_jobs_replayed_total", "counter",
               "Requests answered with an earlier job of the same Idempotency-Key",
               (double)c->replayed_total, err) &&
           one(out, "medfusion_job_crashes_total", "counter", "Attempts that crashed a worker",
               (double)c->crashes_total, err) &&
           one(out, "medfusion_job_losses_total", "counter",
               "Attempts whose worker was killed or lost", (double)c->losses_total, err) &&
           one(out, "medfusion_deliveries", "gauge",
               "Results and webhooks that are still to be delivered", (double)c->deliveries, err) &&
           one(out, "medfusion_dead_letters", "gauge",
               "Deliveries that were given up and wait for somebody (dead letters)",
               (double)c->dead_letters, err) &&
           mf_metrics_head(out, "medfusion_job_wait_seconds", "summary",
                           "Time in the queue before the first attempt", err) &&
           mf_buffer_printf(out, err,
                            "medfusion_job_wait_seconds_sum %.9g\n"
                            "medfusion_job_wait_seconds_count %" PRId64 "\n",
                            c->wait_seconds_total, c->wait_count) &&
           mf_metrics_head(out, "medfusion_job_run_seconds", "summary",
                           "Time from the claim to the result of succeeded jobs", err) &&
           mf_buffer_printf(out, err,
                            "medfusion_job_run_seconds_sum %.9g\n"
                            "medfusion_job_run_seconds_count %" PRId64 "\n",
                            c->run_seconds_total, c->run_count);
}

bool mf_metrics_write(const struct mf_metrics *m, const struct mf_store_counts *counts,
                      const struct mf_worker *workers, size_t worker_count, struct mf_buffer *out,
                      struct mf_error *err)
{
    return mf_metrics_head(out, "medfusion_build_info", "gauge", "Version of this program", err) &&
           mf_buffer_printf(out, err, "medfusion_build_info{version=\"" MF_VERSION "\"} 1\n") &&
           one(out, "medfusion_front_start_time_seconds", "gauge",
               "When the front was started, seconds since 1970", (double)m->start_ms / 1e3, err) &&
           one(out, "medfusion_http_connections", "gauge", "Open connections",
               (double)GET(m->connections), err) &&
           one(out, "medfusion_http_received_bytes_total", "counter", "Bytes of request bodies",
               (double)GET(m->received_bytes), err) &&
           write_requests(m, out, err) && write_times(m, out, err) &&
           write_jobs(counts, out, err) &&
           mf_metrics_workers(m->gauges, workers, worker_count, out, err);
}
