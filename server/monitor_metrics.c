/* The monitor's figures as metrics (monitor_metrics.h). Labels are names of models and of their
 * labels: they come from the bundle. */
#include "server/monitor_metrics.h"

#include "core/clock.h"
#include "server/monitor.h"
#include "server/registry.h"
#include "server/services.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t KEPT_NS = UINT64_C(60000000000);

struct mf_monitor {
    pthread_mutex_t lock; /* guards everything below */
    json_t *reports;      /* of all models; NULL: none made yet */
    uint64_t made_ns;
};

struct mf_monitor *mf_monitor_new(struct mf_error *err)
{
    struct mf_monitor *m = calloc(1, sizeof *m);
    if (m)
        pthread_mutex_init(&m->lock, NULL);
    else
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the monitor");
    return m;
}

void mf_monitor_free(struct mf_monitor *m)
{
    if (!m)
        return;
    json_decref(m->reports);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static bool refresh(struct mf_monitor *m, const struct mf_services *services,
                    struct mf_store *store, struct mf_error *err)
{
    const struct mf_monitor_window window = {.last = MF_MONITOR_LAST};
    if (m->reports && mf_clock_monotonic_ns() - m->made_ns < KEPT_NS)
        return true;
    MF_AUTO(mf_json) json_t *reports = json_array();
    size_t models = services->registry ? mf_registry_count(services->registry) : 0;
    for (size_t i = 0; i < models; i++) {
        json_t *report =
            mf_monitor_report(store, mf_registry_bundle(services->registry, i), &window, err);
        if (!report)
            return false;
        json_array_append_new(reports, report);
    }
    json_decref(m->reports);
    m->reports = MF_STEAL(reports);
    m->made_ns = mf_clock_monotonic_ns();
    return true;
}

/* A label value with what Prometheus wants escaped. */
static bool put_label(struct mf_buffer *out, const char *name, const char *value,
                      struct mf_error *err)
{
    bool ok = mf_buffer_printf(out, err, "%s=\"", name);
    for (; ok && *value; value++)
        ok = *value == '\n'                    ? mf_buffer_append_str(out, "\\n", err)
             : *value == '"' || *value == '\\' ? mf_buffer_printf(out, err, "\\%c", *value)
                                               : mf_buffer_append(out, value, 1, err);
    return ok && mf_buffer_append_str(out, "\"", err);
}

static bool head(struct mf_buffer *out, const char *name, const char *help, struct mf_error *err)
{
    return mf_buffer_printf(out, err, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

/* NAME{model="…"[,KEY="VALUE"]} number */
static bool sample(struct mf_buffer *out, const char *name, const json_t *report, const char *key,
                   const char *value, double number, struct mf_error *err)
{
    return mf_buffer_printf(out, err, "%s{", name) &&
           put_label(out, "model", mf_json_get_string(report, "model", ""), err) &&
           (!key || (mf_buffer_append_str(out, ",", err) && put_label(out, key, value, err))) &&
           mf_buffer_printf(out, err, "} %.9g\n", number);
}

static size_t alarms_of(const json_t *report, const char *kind)
{
    const json_t *alarms = json_object_get(report, "alarms");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(alarms); i++)
        n += strcmp(mf_json_get_string(json_array_get(alarms, i), "kind", ""), kind) == 0;
    return n;
}

static bool write_window(const json_t *reports, const char *name, const char *help,
                         const char *member, struct mf_buffer *out, struct mf_error *err)
{
    bool ok = head(out, name, help, err);
    for (size_t i = 0; ok && i < json_array_size(reports); i++) {
        const json_t *report = json_array_get(reports, i);
        ok = sample(out, name, report, NULL, NULL,
                    mf_json_get_number(json_object_get(report, "window"), member, 0), err);
    }
    return ok;
}

static bool write_alarms(const json_t *reports, struct mf_buffer *out, struct mf_error *err)
{
    static const char name[] = "medfusion_quality_alarms";
    bool ok = head(out, name, "Alarms of GET /v1/quality by kind", err);
    for (size_t i = 0; ok && i < json_array_size(reports); i++)
        for (size_t k = 0; ok && k < MF_ALARM_KINDS; k++) {
            const json_t *report = json_array_get(reports, i);
            ok = sample(out, name, report, "kind", mf_alarm_kind(k),
                        (double)alarms_of(report, mf_alarm_kind(k)), err);
        }
    return ok;
}

static bool write_drift(const json_t *reports, struct mf_buffer *out, struct mf_error *err)
{
    static const char name[] = "medfusion_quality_score_psi";
    bool ok =
        head(out, name, "Population stability index of the scores against the calibration", err);
    for (size_t i = 0; ok && i < json_array_size(reports); i++) {
        const json_t *report = json_array_get(reports, i),
                     *labels = json_object_get(report, "labels");
        for (size_t k = 0; ok && k < json_array_size(labels); k++) {
            const json_t *label = json_array_get(labels, k);
            double psi = mf_json_get_number(json_object_get(label, "scores"), "psi", NAN);
            ok = isnan(psi) || sample(out, name, report, "label",
                                      mf_json_get_string(label, "label", ""), psi, err);
        }
    }
    return ok;
}

bool mf_monitor_write(struct mf_monitor *m, const struct mf_services *services,
                      struct mf_store *store, struct mf_buffer *out, struct mf_error *err)
{
    pthread_mutex_lock(&m->lock);
    bool ok = refresh(m, services, store, err) &&
              write_window(m->reports, "medfusion_quality_results",
                           "Results that the quality figures are made of", "results", out, err) &&
              write_window(m->reports, "medfusion_quality_feedback",
                           "Results of these that have feedback", "with_feedback", out, err) &&
              write_alarms(m->reports, out, err) && write_drift(m->reports, out, err);
    pthread_mutex_unlock(&m->lock);
    return ok;
}
