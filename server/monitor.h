/*
 * Monitor: what the newest results of a model look like beside its calibration, and what feedback
 * says about its promises (GET /v1/quality, metrics).
 *
 *   scores    PSI and Kolmogorov–Smirnov of each label's logits against the calibration cases'
 *             (conformal.json); the out-of-distribution p-values against the uniform distribution
 *   features  PSI of each EHR feature, "missing" being a bin of its own, against reference.json
 *   sets      shares of states, mean size
 *   coverage  per label and class, of studies with feedback, with Clopper–Pearson intervals
 *   calibration  per label: observed share (Wilson) beside the mean probability, Brier score
 *
 * An alarm is raised for what is both large and no accident: drift whose PSI exceeds 0.2 beyond the
 * noise of its sample and, for scores, whose KS p-value stays below 0.01 over all labels; coverage
 * whose interval, widened for the number of intervals, lies below the promise; a mean probability
 * outside such an interval; more than a tenth of the p-values below 0.05. Studies count as
 * independent, and readers may not give feedback on studies at random: an alarm is a reason to
 * look.
 */
#ifndef MF_SERVER_MONITOR_H
#define MF_SERVER_MONITOR_H

#include "engine/bundle.h"
#include "server/store_feedback.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_MONITOR_LAST = 1000, MF_MONITOR_MOST = 5000 };

struct mf_monitor_window {
    const char *tenant; /* NULL: all */
    const char *site;   /* as in options.site; NULL: all */
    size_t last;        /* results, 1 … MF_MONITOR_MOST */
};

/* The report on one bundle, an object of `medfusion.quality/1`'s "models"; the caller owns it. */
json_t *mf_monitor_report(struct mf_store *store, const struct mf_bundle *bundle,
                          const struct mf_monitor_window *window,
                          struct mf_error *err) MF_CHECK_RESULT;

/* Kinds of alarms, in the order of the metrics. */
enum { MF_ALARM_KINDS = 5 };
const char *mf_alarm_kind(size_t i);

#ifdef __cplusplus
}
#endif

#endif
