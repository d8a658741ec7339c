/* Observations: when they were made, and whether they count. */
#include "fhir/internal.h"

#include <stdio.h>
#include <string.h>

bool mf_fhir_observation_counts(const json_t *observation)
{
    const char *status = mf_json_get_string(observation, "status", "");
    return strcmp(status, "entered-in-error") != 0 && strcmp(status, "cancelled") != 0;
}

/* Parses a dateTime that passed the check of the document; see mf_fhir_observation_time(). */
static struct mf_time parse(const char *text, bool local_clock)
{
    struct mf_time t = {.precision = MF_TIME_UNKNOWN};
    char local[64];
    const char *clock = text ? strchr(text, 'T') : NULL;
    if (!text)
        return t;
    if (local_clock && clock) { /* the zone begins at the first of "Z+-" behind the T */
        size_t len = (size_t)(clock - text) + strcspn(clock, "Z+-");
        if (len < sizeof local) {
            memcpy(local, text, len);
            local[len] = '\0';
            text = local;
        }
    }
    if (!mf_time_parse_fhir(text, &t, NULL))
        t.precision = MF_TIME_UNKNOWN;
    return t;
}

struct mf_time mf_fhir_observation_time(const json_t *observation, bool local_clock,
                                        const char **ret_text)
{
    static const char *const MOMENTS[] = {"effectiveDateTime", "effectiveInstant"};
    const json_t *period = json_object_get(observation, "effectivePeriod");
    const char *start = mf_json_get_string(period, "start", NULL);
    const char *end = mf_json_get_string(period, "end", NULL);
    const char *text = NULL;
    for (size_t i = 0; i < sizeof MOMENTS / sizeof *MOMENTS && !text; i++)
        text = mf_json_get_string(observation, MOMENTS[i], NULL);
    if (!text && start && end) {
        struct mf_time from = parse(start, local_clock), to = parse(end, local_clock);
        if (ret_text)
            *ret_text = end;
        if (from.begin < to.begin)
            to.begin = from.begin;
        return to;
    }
    if (!text)
        text = start ? start : end ? end : mf_json_get_string(observation, "issued", NULL);
    if (ret_text)
        *ret_text = text;
    return parse(text, local_clock);
}

/* The later of `latest` and the newest time of one patient's Observations. */
static struct mf_time latest_of(const struct mf_fhir_patient *patient, struct mf_time latest)
{
    for (size_t i = 0; i < patient->observation_count; i++) {
        if (!mf_fhir_observation_counts(patient->observations[i]))
            continue;
        struct mf_time t = mf_fhir_observation_time(patient->observations[i], false, NULL);
        if (t.precision != MF_TIME_UNKNOWN &&
            (latest.precision == MF_TIME_UNKNOWN || t.end > latest.end))
            latest = t;
    }
    return latest;
}

struct mf_time mf_fhir_latest_time(const struct mf_fhir_document *doc,
                                   const struct mf_fhir_patient *patient)
{
    struct mf_time latest = {.precision = MF_TIME_UNKNOWN};
    if (patient)
        return latest_of(patient, latest);
    for (size_t p = 0; p < doc->patient_count; p++)
        latest = latest_of(&doc->patients[p], latest);
    return latest;
}
