/* When a record is: effective[x], onset[x], performed[x], period; else when it became known. */
#include "fhir/record.h"

#include <string.h>

struct mf_time mf_fhir_time(const char *text, bool local_clock)
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

bool mf_fhir_lasts(enum mf_resource_type type)
{
    return type == MF_RESOURCE_CONDITION || type == MF_RESOURCE_ALLERGY_INTOLERANCE ||
           type == MF_RESOURCE_ENCOUNTER || type == MF_RESOURCE_MEDICATION_REQUEST ||
           type == MF_RESOURCE_MEDICATION_STATEMENT;
}

struct mf_time mf_fhir_record_time(const struct mf_fhir_record *record, bool local_clock,
                                   const char **ret_text)
{
    if (record->start && record->end && !mf_fhir_lasts(record->type)) {
        struct mf_time from = mf_fhir_time(record->start, local_clock);
        struct mf_time to = mf_fhir_time(record->end, local_clock);
        if (ret_text)
            *ret_text = record->end;
        if (from.begin < to.begin)
            to.begin = from.begin;
        return to;
    }
    const char *text = record->start ? record->start : record->end ? record->end : record->issued;
    if (ret_text)
        *ret_text = text;
    return mf_fhir_time(text, local_clock);
}
