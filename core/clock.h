/*
 * Clocks and calendar dates.
 *
 * Durations come from the monotonic clock, time stamps from the wall clock (UTC). Clinical times
 * keep the precision they were given in: "2019-03" is a month, and comparing it with a day compares
 * intervals.
 */
#ifndef MF_CORE_CLOCK_H
#define MF_CORE_CLOCK_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds of the monotonic clock; milliseconds of the wall clock since 1970-01-01T00:00:00Z. */
uint64_t mf_clock_monotonic_ns(void);
int64_t mf_clock_wall_ms(void);

/* Size of a buffer that holds any text of mf_clock_format_ms() or mf_time_format(). */
enum { MF_TIME_TEXT = 40 };

/* RFC 3339 in UTC with milliseconds: "2026-11-22T13:24:00.123Z". Returns `out`. */
const char *mf_clock_format_ms(int64_t wall_ms, char out[MF_TIME_TEXT]);

/* How much of a time stamp is known. */
enum mf_time_precision {
    MF_TIME_UNKNOWN = 0,
    MF_TIME_YEAR,
    MF_TIME_MONTH,
    MF_TIME_DAY,
    MF_TIME_SECOND
};

/* The half-open interval [begin, end) in milliseconds since 1970 that a time stamp stands for.
 * `local` is set when no time zone was given: such times are read as UTC. */
struct mf_time {
    enum mf_time_precision precision;
    int64_t begin, end;
    bool local;
};

/* FHIR R4 date, dateTime or instant ("2019", "2019-03", "2019-03-07",
 * "2019-03-07T11:20:00.5+01:00"). */
bool mf_time_parse_fhir(const char *text, struct mf_time *ret, struct mf_error *err);
/* DICOM DA + TM (PS3.5 6.2; either may be NULL or empty, also "YYYY.MM.DD" of ACR-NEMA) with an
 * optional TimezoneOffsetFromUTC ("+0100"). An empty date gives MF_TIME_UNKNOWN and succeeds. */
bool mf_time_parse_dicom(const char *da, const char *tm, const char *utc_offset,
                         struct mf_time *ret, struct mf_error *err);
/* ISO 8601 text in the precision known ("2019-03-07", "2019-03-07T10:20:00Z"); "" when unknown. */
const char *mf_time_format(const struct mf_time *t, char out[MF_TIME_TEXT]);

/* Completed years from `birth` to `at`, by calendar (a birthday counts on its day); -1 when either
 * is unknown or `at` lies before `birth`. With partial dates the middle of the interval is used. */
double mf_time_years_between(const struct mf_time *birth, const struct mf_time *at);

/* Days since 1970-01-01 of a proleptic Gregorian date, and back. */
int64_t mf_days_from_civil(int year, int month, int day);
void mf_civil_from_days(int64_t days, int *year, int *month, int *day);

/* ISO 8601 duration ("P7D", "PT12H", "P1Y6M") as milliseconds; a year is 365.25 days, a month 1/12
 * of it. */
bool mf_duration_parse(const char *text, int64_t *ret_ms, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
