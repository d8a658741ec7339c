/* Demographics: Patient.birthDate and gender, DICOM PatientAge, PatientBirthDate, PatientSex,
 * ViewPosition. */
#include "fhir/values.h"

#include <ctype.h>
#include <string.h>

#define MS_PER_DAY INT64_C(86400000)

/* Years rounded down: completed ones, or a negative number when the birth lies after `at`. */
static double age_years(const struct mf_time *birth, const struct mf_time *at)
{
    double years = mf_time_years_between(birth, at);
    if (years >= 0)
        return years;
    struct mf_time day_before = *birth;
    day_before.begin -= MS_PER_DAY;
    day_before.end -= MS_PER_DAY;
    double to_go = mf_time_years_between(at, birth);
    bool whole = mf_time_years_between(at, &day_before) < to_go; /* to the day */
    return whole ? -to_go : -to_go - 1;
}

/* An age in a unit of UCUM; negative ages are never plausible. */
static void set_age(const struct mf_feature *f, double age, const char *unit,
                    struct mf_feature_value *ret)
{
    mf_fhir_set_number(f, age, unit, ret);
    if (age < 0)
        ret->status = MF_FEATURE_IMPLAUSIBLE;
}

static void set_birth(const struct mf_feature *f, const struct mf_time *birth,
                      const struct mf_time *at, const char *source, struct mf_feature_value *ret)
{
    if (birth->precision == MF_TIME_UNKNOWN || at->precision == MF_TIME_UNKNOWN)
        return;
    ret->source = source;
    set_age(f, age_years(birth, at), "a", ret);
}

static void set_category(const struct mf_feature *f, const char *text, const char *source,
                         struct mf_feature_value *ret)
{
    if (!*text)
        return;
    ret->source = source;
    mf_fhir_set_category(f, text, ret);
}

void mf_fhir_read_patient(const struct mf_feature *feature, const char *path,
                          const struct mf_fhir_patient *patient, const struct mf_time *at,
                          struct mf_feature_value *ret)
{
    struct mf_time birth;
    const char *date = patient->resource->birth_date;
    const char *gender = patient->resource->gender ? patient->resource->gender : "";
    if (strcmp(path, "Patient.birthDate") == 0) {
        if (date && mf_time_parse_fhir(date, &birth, NULL))
            set_birth(feature, &birth, at, patient->reference, ret);
    } else if (strcmp(gender, "unknown") != 0) {
        set_category(feature, gender, patient->reference, ret);
    }
}

/* AS (PS3.5 6.2): "045Y", also without leading zeros. Days, weeks and months that the feature does
 * not list become years by UCUM's definitions (a = 365.25 d, mo = a/12, wk = 7 d). */
static void read_age_string(const struct mf_feature *f, const char *text,
                            struct mf_feature_value *ret)
{
    static const struct {
        char letter;
        const char *ucum;
        double years;
    } UNITS[] = {
        {'Y', "a", 1}, {'M', "mo", 1.0 / 12}, {'W', "wk", 7 / 365.25}, {'D', "d", 1 / 365.25}};
    double age = 0, ignored;
    size_t digits = 0;
    for (; isdigit((unsigned char)text[digits]) && digits < 4; digits++)
        age = age * 10 + (text[digits] - '0');
    ret->source = "dicom:PatientAge";
    ret->status = MF_FEATURE_IMPLAUSIBLE;
    if (digits == 0 || digits > 3 || text[digits] == '\0' || text[digits + 1] != '\0')
        return;
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
        if (text[digits] != UNITS[i].letter)
            continue;
        if (mf_feature_convert(f, age, UNITS[i].ucum, &ignored))
            set_age(f, age, UNITS[i].ucum, ret);
        else
            set_age(f, age * UNITS[i].years, "a", ret);
    }
}

/* A copy without the spaces that pad DICOM strings; NULL only when out of memory. */
static const char *trimmed(struct mf_arena *arena, const char *s, struct mf_error *err)
{
    s = s ? s : "";
    while (*s == ' ')
        s++;
    size_t len = strlen(s);
    while (len && s[len - 1] == ' ')
        len--;
    return mf_arena_strndup(arena, s, len, err);
}

bool mf_fhir_read_demographics(const struct mf_feature *feature, const char *path,
                               const struct mf_demographics *d, const struct mf_time *at,
                               struct mf_arena *arena, struct mf_feature_value *ret,
                               struct mf_error *err)
{
    bool age = strcmp(path, "PatientAge") == 0, birth = strcmp(path, "PatientBirthDate") == 0;
    bool sex = strcmp(path, "PatientSex") == 0;
    struct mf_time date;
    const char *text = trimmed(arena,
                               age     ? d->patient_age
                               : birth ? d->patient_birth_date
                               : sex   ? d->patient_sex
                                       : d->view_position,
                               err);
    if (!text)
        return false;
    if (!*text)
        return true;
    if (age) {
        read_age_string(feature, text, ret);
    } else if (birth && mf_time_parse_dicom(text, NULL, NULL, &date, NULL)) {
        set_birth(feature, &date, at, "dicom:PatientBirthDate", ret);
    } else if (birth) {
        ret->source = "dicom:PatientBirthDate";
        ret->status = MF_FEATURE_IMPLAUSIBLE;
    } else {
        set_category(feature, text, sex ? "dicom:PatientSex" : "dicom:ViewPosition", ret);
    }
    return true;
}
