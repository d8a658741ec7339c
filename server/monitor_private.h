/* The inside of the monitor: what is collected (monitor.c) and reported (monitor_report.c). */
#ifndef MF_SERVER_MONITOR_PRIVATE_H
#define MF_SERVER_MONITOR_PRIVATE_H

#include "server/monitor.h"

/* One label of one result. */
struct mf_monitor_case {
    float logit;
    double probability, alpha;  /* alpha: what the sets were issued at */
    double p_present, p_absent; /* conformal p-values; NaN without */
    int8_t truth;               /* 1, 0; −1 = no feedback */
    bool present, absent;       /* in the set */
    bool promised;              /* the guarantee is not void */
};

/* One feature over all results. */
struct mf_monitor_feature {
    float *values; /* of numeric ones, `used` of them; owned */
    json_t *categories;
    size_t used, missing;
};

struct mf_monitor_data {
    const struct mf_bundle *bundle;
    size_t label_count, feature_count, capacity;
    size_t count, other_versions, with_feedback;
    struct mf_monitor_case *cases; /* capacity × label_count */
    float *ood;                    /* p-values, ood_count of them */
    size_t ood_count;
    struct mf_monitor_feature *features;
    json_t *flags;          /* how often each was raised */
    int64_t from_ms, to_ms; /* when the oldest and the newest were finished */
};

/* Fills what is reported; `site` may be NULL. */
json_t *mf_monitor_describe(const struct mf_monitor_data *data, const char *site, size_t last,
                            const json_t *reference, struct mf_error *err);

#endif
