/*
 * Units of measure: converting between UCUM codes (https://ucum.org/ucum, case sensitive).
 *
 * Understood is the part of UCUM that clinical data uses: metric prefixes, products, quotients,
 * powers, parentheses, annotations, the units of length, time, mass, temperature, amount, volume,
 * pressure, energy, catalytic activity, customary mass and length, percent and 10*n; and,
 * leniently, a dozen spellings that are no UCUM but cannot mean anything else ("mmHg", "°C",
 * "mcg"). Arbitrary units ([IU]), equivalents and osmoles are dimensions of their own: only the
 * analyte says what they are in moles.
 */
#ifndef MF_CORE_UCUM_H
#define MF_CORE_UCUM_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether this is a unit we understand; NULL and "" are the unit 1. */
bool mf_ucum_valid(const char *unit);

/* `value` of unit `from` in unit `to`. False when one of them is not understood, or they measure
 * different things. `molar_mass` (g/mol, 0 = unknown) lets mass become amount and back
 * (mg/dL ↔ mmol/L). NULL and "" are the unit 1. */
bool mf_ucum_convert(double value, const char *from, const char *to, double molar_mass,
                     double *ret);

#ifdef __cplusplus
}
#endif

#endif
