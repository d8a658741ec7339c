/* Clocks and calendar dates. Civil calendar arithmetic works on 400-year eras from 1 March. */
#include "core/clock.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS_PER_DAY INT64_C(86400000)
#define MAX_DURATION_MS                                                                            \
    1e15 /* some 30,000 years: differences of clinical times stay inside int64 */

uint64_t mf_clock_monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

int64_t mf_clock_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t mf_days_from_civil(int year, int month, int day)
{
    int64_t y = (int64_t)year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void mf_civil_from_days(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

static int days_in_month(int year, int month)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : DAYS[month - 1];
}

const char *mf_clock_format_ms(int64_t wall_ms, char out[MF_TIME_TEXT])
{
    int64_t days = wall_ms / MS_PER_DAY - (wall_ms % MS_PER_DAY < 0);
    int64_t ms = wall_ms - days * MS_PER_DAY;
    int year, month, day;
    mf_civil_from_days(days, &year, &month, &day);
    snprintf(out, MF_TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month, day,
             (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60), (int)(ms % 1000));
    return out;
}

/* Reads exactly `n` digits. */
static bool take_digits(const char **p, int n, int *value)
{
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (!isdigit((unsigned char)(*p)[i]))
            return false;
        v = v * 10 + ((*p)[i] - '0');
    }
    *p += n;
    *value = v;
    return true;
}

static bool take(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

/* Skips ".digits" and returns the milliseconds they stand for. */
static int take_fraction(const char **p)
{
    int ms = 0, scale = 100;
    if (**p != '.' || !isdigit((unsigned char)(*p)[1]))
        return 0;
    for ((*p)++; isdigit((unsigned char)**p); (*p)++) {
        ms += (**p - '0') * scale;
        scale /= 10;
    }
    return ms;
}

/* The interval of a date in the precision of the parts given (month or day 0 = not given). */
static bool date_interval(int year, int month, int day, struct mf_time *t)
{
    if (year < 1 || month < 0 || month > 12 || day < 0 ||
        (day > 0 && (month == 0 || day > days_in_month(year, month))))
        return false;
    if (month == 0) {
        t->precision = MF_TIME_YEAR;
        t->begin = mf_days_from_civil(year, 1, 1) * MS_PER_DAY;
        t->end = mf_days_from_civil(year + 1, 1, 1) * MS_PER_DAY;
    } else if (day == 0) {
        t->precision = MF_TIME_MONTH;
        t->begin = mf_days_from_civil(year, month, 1) * MS_PER_DAY;
        t->end = t->begin + days_in_month(year, month) * MS_PER_DAY;
    } else {
        t->precision = MF_TIME_DAY;
        t->begin = mf_days_from_civil(year, month, day) * MS_PER_DAY;
        t->end = t->begin + MS_PER_DAY;
    }
    return true;
}

static void set_second(struct mf_time *t, int64_t ms_of_day)
{
    t->precision = MF_TIME_SECOND;
    t->begin += ms_of_day;
    t->end = t->begin + 1000;
}

/* "Z", "+hh:mm" or (DICOM) "+hhmm" as milliseconds east of UTC. */
static bool take_offset(const char **p, bool colon, int64_t *ms)
{
    if (take(p, 'Z')) {
        *ms = 0;
        return true;
    }
    int sign = **p == '+' ? 1 : **p == '-' ? -1 : 0;
    int hours, minutes;
    if (!sign)
        return false;
    (*p)++;
    if (!take_digits(p, 2, &hours) || (colon && !take(p, ':')) || !take_digits(p, 2, &minutes) ||
        hours > 14 || minutes > 59)
        return false;
    *ms = sign * (hours * 60 + minutes) * INT64_C(60000);
    return true;
}

bool mf_time_parse_fhir(const char *text, struct mf_time *ret, struct mf_error *err)
{
    struct mf_time t = {.local = true};
    const char *p = text;
    int year, month = 0, day = 0, hour, minute, second = 0;
    if (!take_digits(&p, 4, &year))
        goto bad;
    if (take(&p, '-') && !take_digits(&p, 2, &month))
        goto bad;
    if (month && take(&p, '-') && !take_digits(&p, 2, &day))
        goto bad;
    bool has_month = p - text >= 7, has_day = p - text >= 10;
    if ((has_month && month == 0) || (has_day && day == 0) || !date_interval(year, month, day, &t))
        goto bad;
    if (day && take(&p, 'T')) {
        if (!take_digits(&p, 2, &hour) || !take(&p, ':') || !take_digits(&p, 2, &minute) ||
            (take(&p, ':') && !take_digits(&p, 2, &second)) || hour > 23 || minute > 59 ||
            second > 60)
            goto bad;
        int fraction = take_fraction(&p);
        set_second(&t, hour * INT64_C(3600000) + minute * 60000 + second * 1000 + fraction);
        if (*p) {
            int64_t offset;
            if (!take_offset(&p, true, &offset))
                goto bad;
            t.begin -= offset;
            t.end -= offset;
            t.local = false;
        }
    }
    if (*p)
        goto bad;
    *ret = t;
    return true;
bad:
    return mf_error_set(err, MF_ERR_MALFORMED,
                        "not a FHIR date or dateTime (YYYY[-MM[-DD[Thh:mm:ssZ]]])");
}

/* TM: HH[MM[SS[.F]]], also with colons (ACR-NEMA). */
static bool parse_dicom_time(const char *tm, int64_t *ms_of_day)
{
    int hour, minute = 0, second = 0, fraction = 0;
    if (!take_digits(&tm, 2, &hour))
        return false;
    take(&tm, ':');
    if (isdigit((unsigned char)*tm)) {
        if (!take_digits(&tm, 2, &minute))
            return false;
        take(&tm, ':');
        if (isdigit((unsigned char)*tm)) {
            if (!take_digits(&tm, 2, &second))
                return false;
            fraction = take_fraction(&tm);
        }
    }
    while (*tm == ' ')
        tm++;
    if (*tm || hour > 23 || minute > 59 || second > 60)
        return false;
    *ms_of_day = hour * INT64_C(3600000) + minute * 60000 + second * 1000 + fraction;
    return true;
}

bool mf_time_parse_dicom(const char *da, const char *tm, const char *utc_offset,
                         struct mf_time *ret, struct mf_error *err)
{
    struct mf_time t = {.local = true};
    const char *p = da ? da : "";
    int year, month, day;
    while (*p == ' ')
        p++;
    if (!*p) {
        *ret = t;
        return true;
    }
    if (!take_digits(&p, 4, &year) || (take(&p, '.'), !take_digits(&p, 2, &month)) ||
        (take(&p, '.'), !take_digits(&p, 2, &day)) || !month || !day ||
        !date_interval(year, month, day, &t))
        return mf_error_set(err, MF_ERR_MALFORMED, "not a DICOM date (YYYYMMDD)");
    while (*p == ' ')
        p++;
    if (*p)
        return mf_error_set(err, MF_ERR_MALFORMED, "not a DICOM date (YYYYMMDD)");
    int64_t ms, offset;
    while (tm && *tm == ' ')
        tm++;
    if (tm && *tm) {
        if (!parse_dicom_time(tm, &ms))
            return mf_error_set(err, MF_ERR_MALFORMED, "not a DICOM time (HHMMSS.FFFFFF)");
        set_second(&t, ms);
        if (utc_offset && take_offset(&utc_offset, false, &offset)) {
            t.begin -= offset;
            t.end -= offset;
            t.local = false;
        }
    }
    *ret = t;
    return true;
}

const char *mf_time_format(const struct mf_time *t, char out[MF_TIME_TEXT])
{
    int year, month, day;
    int64_t days = t->begin / MS_PER_DAY - (t->begin % MS_PER_DAY < 0);
    int64_t ms = t->begin - days * MS_PER_DAY;
    mf_civil_from_days(days, &year, &month, &day);
    out[0] = '\0';
    if (t->precision == MF_TIME_YEAR)
        snprintf(out, MF_TIME_TEXT, "%04d", year);
    else if (t->precision == MF_TIME_MONTH)
        snprintf(out, MF_TIME_TEXT, "%04d-%02d", year, month);
    else if (t->precision == MF_TIME_DAY)
        snprintf(out, MF_TIME_TEXT, "%04d-%02d-%02d", year, month, day);
    else if (t->precision == MF_TIME_SECOND)
        snprintf(out, MF_TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d%s", year, month, day,
                 (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60),
                 t->local ? "" : "Z");
    return out;
}

/* A date that stands for the interval: its first day, or the middle of a month or year. */
static int64_t representative_day(const struct mf_time *t)
{
    int64_t ms = t->precision == MF_TIME_YEAR || t->precision == MF_TIME_MONTH
                     ? t->begin + (t->end - t->begin) / 2
                     : t->begin;
    return ms / MS_PER_DAY - (ms % MS_PER_DAY < 0);
}

double mf_time_years_between(const struct mf_time *birth, const struct mf_time *at)
{
    if (birth->precision == MF_TIME_UNKNOWN || at->precision == MF_TIME_UNKNOWN)
        return -1;
    int by, bm, bd, ay, am, ad;
    mf_civil_from_days(representative_day(birth), &by, &bm, &bd);
    mf_civil_from_days(representative_day(at), &ay, &am, &ad);
    int years = ay - by - (am < bm || (am == bm && ad < bd));
    return years < 0 ? -1 : years;
}

bool mf_duration_parse(const char *text, int64_t *ret_ms, struct mf_error *err)
{
    static const struct {
        char unit;
        bool time;
        double ms;
    } UNITS[] = {{'Y', false, 365.25 * 86400e3},
                 {'M', false, 365.25 / 12 * 86400e3},
                 {'W', false, 7 * 86400e3},
                 {'D', false, 86400e3},
                 {'H', true, 3600e3},
                 {'M', true, 60e3},
                 {'S', true, 1e3}};
    const char *p = text;
    bool in_time = false;
    double total = 0;
    size_t next = 0;
    if (!take(&p, 'P') || !*p)
        goto bad;
    while (*p) {
        if (!in_time && take(&p, 'T'))
            in_time = true;
        double value = 0;
        int digits = 0;
        for (; isdigit((unsigned char)*p) && digits < 9; p++, digits++)
            value = value * 10 + (*p - '0');
        while (next < sizeof UNITS / sizeof *UNITS &&
               (UNITS[next].unit != *p || UNITS[next].time != in_time))
            next++;
        if (!digits || next == sizeof UNITS / sizeof *UNITS)
            goto bad;
        total += value * UNITS[next++].ms;
        p++;
    }
    if (total > MAX_DURATION_MS)
        goto bad;
    *ret_ms = (int64_t)llround(total);
    return true;
bad:
    return mf_error_set(err, MF_ERR_MALFORMED, "not an ISO 8601 duration: \"%.40s\"", text);
}
