/* core/ucum.c: what is understood, and the numbers that come out. Property tests are in
 * tests/fhir/test_properties.py. */
#include "core/ucum.h"

#include "tests/expect.h"

#include <math.h>

static void conversions(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *from, *to;
        double molar_mass, expected;
    } ROWS[] = {
        {1, "mg/dL", "mg/L", 0, 10},
        {1, "mg/dL", "ug/mL", 0, 10},
        {1, "g/L", "mg/dL", 0, 100},
        {98.6, "[degF]", "Cel", 0, 37},
        {37, "Cel", "[degF]", 0, 98.6},
        {310.15, "K", "Cel", 0, 37},
        {50, "%", "1", 0, 0.5},
        {0.21, NULL, "%", 0, 21},
        {0.21, "", "%", 0, 21},
        {120, "mm[Hg]", "kPa", 0, 15.99864},
        {1, "[in_i]", "cm", 0, 2.54},
        {6, "[ft_i]", "m", 0, 1.8288},
        {150, "[lb_av]", "kg", 0, 68.0388555},
        {1, "a", "d", 0, 365.25},
        {12, "mo", "a", 0, 1},
        {60, "/min", "Hz", 0, 1},
        {60, "{beats}/min", "/s", 0, 1},
        {72, "bpm", "/min", 0, 72},
        {5, "10*3/uL", "10*9/L", 0, 5},
        {5000, "/uL", "10*9/L", 0, 5},
        {5000, "/mm3", "10*9/L", 0, 5},
        {1, "10^12/L", "10*6/uL", 0, 1},
        {1, "U/L", "ukat/L", 0, 1 / 60.0},
        {1, "k[IU]/L", "m[IU]/mL", 0, 1000},
        {7, "IU/L", "[IU]/L", 0, 7},
        {1, "kg/m2", "g/cm2", 0, 0.1},
        {1, "mL/min/{1.73_m2}", "mL/min", 0, 1},
        {1, "mL/(kg.h)", "L/g/h", 0, 1e-6},
        {90, "mg/dL", "mmol/L", 180.156, 4.99567},
        {5, "mmol/L", "mg/dL", 180.156, 90.078},
        {1, "mg/dL", "umol/L", 113.12, 88.4017},
        {1, "ug/L", "nmol/L", 0, NAN},
        {1, "meq/L", "mmol/L", 0, NAN}, /* the analyte's charge is not in the unit */
        {1, "[IU]/L", "mg/L", 100, NAN},
        {1, "kg", "m", 0, NAN},
        {1, "Cel", "1", 0, NAN},
        {1, "Cel/min", "K/min", 0, NAN}, /* a scale with a zero of its own stands alone */
        {1, "furlong", "m", 0, NAN},
        {1, "mg//dL", "mg/dL", 0, NAN},
        {1, "mg/dL)", "mg/dL", 0, NAN},
        {1, "mg/dL{", "mg/dL", 0, NAN},
        {1, "m[Hg", "kPa", 0, NAN},
        {1, "dmin", "s", 0, NAN}, /* a minute takes no prefix */
        {1, "m99", "m", 0, NAN},
        {1, "11*3", "1", 0, NAN},
        {1, "((((((((((m))))))))))", "m", 0, NAN},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        double got = NAN;
        bool ok =
            mf_ucum_convert(ROWS[i].value, ROWS[i].from, ROWS[i].to, ROWS[i].molar_mass, &got);
        if (ok != !isnan(ROWS[i].expected) ||
            (ok && fabs(got - ROWS[i].expected) > 1e-5 * fabs(ROWS[i].expected)))
            fail_msg("row %zu: %s → %s gave %.9g", i, ROWS[i].from, ROWS[i].to, got);
    }
}

/* The same unit gives the same bits. */
static void nothing_is_lost_between_spellings(void **state)
{
    (void)state;
    double got;
    assert_true(mf_ucum_convert(0.1, "mg/dl", "mg/dL", 0, &got));
    assert_true(got == 0.1);
    assert_true(mf_ucum_convert(36.6,
                                "\xC2\xB0"
                                "C",
                                "Cel", 0, &got));
    assert_true(got == 36.6);
}

static void validity(void **state)
{
    (void)state;
    static const char *const GOOD[] = {"",       "1",       "%",     "{score}",
                                       "mmol/L", "10*3/uL", "kg/m2", "mL/min/{1.73_m2}",
                                       "/min",   "m[H2O]",  "ng/mL"};
    static const char *const BAD[] = {"mg per dL", "{", "mmol/", "[lb", "x", "/", ".", "("};
    assert_true(mf_ucum_valid(NULL));
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++)
        assert_true(mf_ucum_valid(GOOD[i]));
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        if (mf_ucum_valid(BAD[i]))
            fail_msg("%s is no unit", BAD[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversions),
        cmocka_unit_test(nothing_is_lost_between_spellings),
        cmocka_unit_test(validity),
    };
    return cmocka_run_group_tests_name("core/ucum", tests, NULL, NULL);
}
