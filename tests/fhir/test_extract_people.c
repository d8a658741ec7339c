/* fhir/extract.c, demographics.c: features of the patient and the study, and sources in order. */
#include "tests/fhir/extract_expect.h"

static void sources_in_order(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-15";
#define TWO                                                                                        \
    "{\"id\":\"x\",\"kind\":\"numeric\",\"unit\":\"mmol/L\",\"sources\":[{\"fhir\":[{\"system\":"  \
    "\"s\",\"code\":\"b\"}]},{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],\"window\":\"P7D\","  \
    "\"range\":[1,100],\"mean\":0,\"std\":1}"
#define B(time, rest)                                                                              \
    "{\"resourceType\":\"Observation\",\"id\":\"b\",\"code\":{\"coding\":[{\"system\":\"s\","      \
    "\"code\":\"b\"}]},\"effectiveDateTime\":\"" time "\"," rest "}"
    const struct row rows[] = {
        {TWO, PATIENT O("1", "2020-01-14", Q("5")) B("2020-01-10", Q("7")), AT,
         "7 mmol/L used Observation/b"},
        {TWO, PATIENT O("1", "2020-01-14", Q("5")) B("2019-01-10", Q("7")), AT, USED},
        {TWO, PATIENT O("1", "2018-01-14", Q("5")) B("2019-01-10", Q("7")), AT,
         "7 mmol/L stale Observation/b"},
        {TWO, PATIENT O("1", "2020-01-14", Q("5")) B("2020-01-10", Q("700")), AT,
         "700 mmol/L implausible Observation/b"},
    };
    CHECK(rows);
}

static void patient_demographics(void **state)
{
    (void)state;
#define YEARS AGE("a", "{}", "\"fhir:Patient.birthDate\"")
    const struct row rows[] = {
        {YEARS, PATIENT, "2020-06-14", "39 a used Patient/1"},
        {YEARS, PATIENT, "2020-06-15", "40 a used Patient/1"},
        {YEARS, PATIENT, "1980-06-15", "0 a used Patient/1"},
        {YEARS, PATIENT, "1980-06-14", "-1 a implausible Patient/1"}, /* born after the study */
        {YEARS, PATIENT, "1970-01-01", "-11 a implausible Patient/1"},
        {YEARS, PATIENT, "2120-01-01", "139 a implausible Patient/1"},
        {YEARS, PATIENT, "", NOTHING},
        {YEARS, "{\"resourceType\":\"Patient\",\"id\":\"1\"}", "2020", NOTHING},
        {YEARS, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"1980\"}", "2020-01-01",
         "39 a used Patient/1"},
        {AGE("mo", "{\"a\":12}", "\"fhir:Patient.birthDate\""), PATIENT, "1982-06-15",
         "24 mo used Patient/1"},
        {AGE("d", "{}", "\"fhir:Patient.birthDate\""), PATIENT, "1982-06-15",
         "730.5 d implausible Patient/1"},
        {SEX, PATIENT, "", "male - used Patient/1"},
        {SEX, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"unknown\"}", "", NOTHING},
        {SEX, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"other\"}", "",
         "other - implausible Patient/1"},
        {SEX, "{\"resourceType\":\"Patient\",\"id\":\"1\"}", "", NOTHING},
        /* a patient who is named but not there */
        {SEX,
         "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":{\"reference\":"
         "\"Patient/1\"}}",
         "", NOTHING},
    };
    CHECK(rows);
}

static void dicom_demographics(void **state)
{
    (void)state;
#define AS AGE("a", "{}", "\"dicom:PatientAge\"")
#define DA AGE("a", "{}", "\"dicom:PatientBirthDate\"")
    static const struct {
        const char *feature;
        struct mf_demographics d;
        const char *at, *expected;
    } ROWS[] = {
        {AS, {.patient_age = "045Y"}, "", "45 a used dicom:PatientAge"},
        {AS, {.patient_age = "018M"}, "", "1.5 a used dicom:PatientAge"},
        {AS, {.patient_age = "002W"}, "", "0.03832991 a used dicom:PatientAge"},
        {AS, {.patient_age = "010D "}, "", "0.02737851 a used dicom:PatientAge"},
        {AS, {.patient_age = "5Y"}, "", "5 a used dicom:PatientAge"},
        {AS, {.patient_age = "130Y"}, "", "130 a implausible dicom:PatientAge"},
        {AS, {.patient_age = "45"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "0045Y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "045y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "Y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "-45Y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = ""}, "", NOTHING},
        {AS, {.patient_age = "   "}, "", NOTHING},
        {AS, {0}, "", NOTHING},
        {AGE("a", "{\"mo\":0.0833333}", "\"dicom:PatientAge\""),
         {.patient_age = "012M"},
         "",
         "0.9999996 a used dicom:PatientAge"},
        {AGE("d", "{\"wk\":7,\"a\":365}", "\"dicom:PatientAge\""),
         {.patient_age = "003W"},
         "",
         "21 d used dicom:PatientAge"},
        {AGE("d", "{\"a\":365.25}", "\"dicom:PatientAge\""),
         {.patient_age = "002M"},
         "",
         "60.875 d used dicom:PatientAge"},
        {DA, {.patient_birth_date = "19800615"}, "2020-06-14", "39 a used dicom:PatientBirthDate"},
        {DA, {.patient_birth_date = "19800615"}, "", NOTHING},
        {DA, {.patient_birth_date = "19801315"}, "2020", "- - implausible dicom:PatientBirthDate"},
        {DA,
         {.patient_birth_date = "20300101"},
         "2020-01-01",
         "-10 a implausible dicom:PatientBirthDate"},
        {AGE("a", "{}", "\"dicom:PatientBirthDate\",\"dicom:PatientAge\""),
         {.patient_age = "045Y"},
         "2020",
         "45 a used dicom:PatientAge"},
        {SEX, {.patient_sex = "F"}, "", "female - used dicom:PatientSex"},
        {SEX, {.patient_sex = "M "}, "", "male - used dicom:PatientSex"},
        {SEX, {.patient_sex = "O"}, "", "O - implausible dicom:PatientSex"},
        {SEX, {.patient_sex = ""}, "", NOTHING},
        {VIEW, {.view_position = "AP"}, "", "AP - used dicom:ViewPosition"},
        {VIEW, {.view_position = "LL"}, "", "LL - implausible dicom:ViewPosition"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_mem) char *got = extract(ROWS[i].feature, "", &ROWS[i].d, ROWS[i].at);
        if (strcmp(got, ROWS[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, ROWS[i].expected);
    }
}

static void fhir_goes_before_dicom(void **state)
{
    (void)state;
    const struct mf_demographics d = {.patient_age = "045Y", .patient_sex = "F"};
#define BOTH AGE("a", "{}", "\"fhir:Patient.birthDate\",\"dicom:PatientAge\"")
    static const char NOBODY[] =
        "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"unknown\"}";
    static const struct {
        const char *feature, *fhir, *expected;
    } ROWS[] = {
        {BOTH, PATIENT, "39 a used Patient/1"},
        {BOTH, NOBODY, "45 a used dicom:PatientAge"},
        {BOTH, "", "45 a used dicom:PatientAge"},
        {BOTH, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"2030\"}",
         "-11 a implausible Patient/1"},
        {SEX, PATIENT, "male - used Patient/1"},
        {SEX, NOBODY, "female - used dicom:PatientSex"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_mem) char *got = extract(ROWS[i].feature, ROWS[i].fhir, &d, "2020-01-01");
        if (strcmp(got, ROWS[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, ROWS[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_in_order),
        cmocka_unit_test(patient_demographics),
        cmocka_unit_test(dicom_demographics),
        cmocka_unit_test(fhir_goes_before_dicom),
    };
    return cmocka_run_group_tests_name("fhir/extract_people", tests, NULL, NULL);
}
