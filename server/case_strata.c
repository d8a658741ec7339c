/* Strata of a study (case_strata.h). Age: PatientAge (PS3.5 6.2, AS), else from the birth date. */
#include "server/case_strata.h"

#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* "045Y" in years; NaN when it is not an age. */
static double parse_age(const char *text)
{
    char *end;
    if (!text || !isdigit((unsigned char)*text))
        return NAN;
    long n = strtol(text, &end, 10);
    switch (*end) {
    case 'Y':
        return (double)n;
    case 'M':
        return (double)n / 12;
    case 'W':
        return (double)n * 7 / 365.25;
    case 'D':
        return (double)n / 365.25;
    default:
        return NAN;
    }
}

static double age_of(const struct mf_study_request *request)
{
    struct mf_time birth;
    double age = parse_age(request->demographics.patient_age);
    if (!isnan(age) || !request->demographics.patient_birth_date ||
        !mf_time_parse_dicom(request->demographics.patient_birth_date, NULL, NULL, &birth, NULL))
        return age;
    age = mf_time_years_between(&birth, &request->study_time);
    return age >= 0 ? age : NAN;
}

struct mf_strata mf_case_strata(const struct mf_study_request *request, const char *site)
{
    return (struct mf_strata){.view = request->demographics.view_position,
                              .sex = request->demographics.patient_sex,
                              .site = site,
                              .age = age_of(request)};
}
