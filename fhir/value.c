/*
 * One value[x] → a number in the feature's unit, or a category.
 *
 * Units are compared as UCUM codes (https://ucum.org/ucum), which are case sensitive. A Quantity
 * with a code of another system is read by its `unit` text, which helps where that text happens to
 * be UCUM. A comparator ("<5") is read as the limit itself.
 */
#include "fhir/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT_TEXT = 64, SHOWN_TEXT = 80 };

static const char UCUM[] = "http://unitsofmeasure.org";

/* A unit without annotations; "1/min" as "/min", "1" and no unit as "". Units that do not fit are
 * absurd. */
static bool normalise(const char *unit, char out[UNIT_TEXT])
{
    size_t n = 0;
    for (const char *p = unit ? unit : ""; *p; p++) {
        if (*p == '{') {
            const char *close = strchr(p, '}');
            if (!close)
                return false;
            p = close;
            continue;
        }
        if (n + 1 >= UNIT_TEXT)
            return false;
        out[n++] = *p;
    }
    out[n] = '\0';
    if (out[0] == '1' && (out[1] == '\0' || out[1] == '/'))
        memmove(out, out + 1, n);
    return true;
}

bool mf_fhir_convert(const struct mf_feature *feature, double value, const char *unit, double *ret)
{
    char given[UNIT_TEXT], other[UNIT_TEXT];
    if (!normalise(unit, given))
        return false;
    if (normalise(feature->unit, other) && strcmp(given, other) == 0) {
        *ret = value;
        return true;
    }
    for (size_t i = 0; i < feature->conversion_count; i++)
        if (normalise(feature->conversions[i].unit, other) && strcmp(given, other) == 0) {
            *ret = value * feature->conversions[i].factor + feature->conversions[i].offset;
            return true;
        }
    return false;
}

void mf_fhir_set_number(const struct mf_feature *f, double value, const char *unit,
                        struct mf_feature_value *ret)
{
    ret->has_number = true;
    ret->status = MF_FEATURE_IMPLAUSIBLE;
    if (!mf_fhir_convert(f, value, unit, &ret->number)) {
        ret->number = value;
        ret->unit = unit && *unit ? unit : "1";
        return;
    }
    ret->unit = f->unit;
    if (!f->has_range || (ret->number >= f->range_low && ret->number <= f->range_high))
        ret->status = MF_FEATURE_USED;
}

/* What was refused; long free text stays where it is. */
static void refuse_text(const char *text, struct mf_feature_value *ret)
{
    ret->status = MF_FEATURE_IMPLAUSIBLE;
    ret->text = text && strlen(text) <= SHOWN_TEXT ? text : NULL;
}

static bool set_category(const struct mf_feature *f, const char *text, struct mf_feature_value *ret)
{
    if (!text || !mf_feature_category(f, text, &ret->category))
        return false;
    ret->has_category = true;
    ret->status = MF_FEATURE_USED;
    return true;
}

void mf_fhir_set_category(const struct mf_feature *f, const char *text,
                          struct mf_feature_value *ret)
{
    if (!set_category(f, text, ret))
        refuse_text(text, ret);
}

static void read_quantity(const struct mf_feature *f, const json_t *quantity,
                          struct mf_feature_value *ret)
{
    const char *system = mf_json_get_string(quantity, "system", UCUM);
    const char *code = mf_json_get_string(quantity, "code", NULL);
    const char *unit = mf_json_get_string(quantity, "unit", NULL);
    if (f->kind == MF_FEATURE_NUMERIC)
        mf_fhir_set_number(f, mf_json_get_number(quantity, "value", 0),
                           code && strcmp(system, UCUM) == 0 ? code : unit, ret);
    else
        refuse_text(NULL, ret);
}

/* "-12.5e3" between spaces, digits around a point; nothing else that strtod() would take. */
static bool parse_number(const char *text, double *ret)
{
    static const char DIGITS[] = "0123456789";
    const char *p = text + strspn(text, " ");
    const char *start = p;
    p += *p == '-';
    size_t n = strspn(p, DIGITS);
    p += n;
    if (n > 0 && *p == '.')
        p += 1 + (n = strspn(p + 1, DIGITS));
    if (n > 0 && (*p == 'e' || *p == 'E')) {
        p += 1 + (p[1] == '-' || p[1] == '+');
        p += n = strspn(p, DIGITS);
    }
    if (n == 0 || p[strspn(p, " ")] != '\0')
        return false;
    *ret = strtod(start, NULL);
    return isfinite(*ret);
}

/* A string that is a number is one without unit (scores are often sent so). */
static void read_string(const struct mf_feature *f, const char *text, struct mf_feature_value *ret)
{
    double number;
    if (f->kind == MF_FEATURE_CATEGORICAL)
        mf_fhir_set_category(f, text, ret);
    else if (parse_number(text, &number))
        mf_fhir_set_number(f, number, NULL, ret);
    else
        refuse_text(text, ret);
}

/* The codes, then the displays, then the text: the first that is a category. */
static void read_concept(const struct mf_feature *f, const json_t *concept,
                         struct mf_feature_value *ret)
{
    static const char *const MEMBERS[] = {"code", "display"};
    const json_t *list = json_object_get(concept, "coding");
    const char *text = mf_json_get_string(concept, "text", NULL), *first = NULL;
    for (size_t m = 0; m < 2 && f->kind == MF_FEATURE_CATEGORICAL; m++)
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *s = mf_json_get_string(json_array_get(list, i), MEMBERS[m], NULL);
            if (set_category(f, s, ret))
                return;
            first = first ? first : s;
        }
    if (f->kind == MF_FEATURE_CATEGORICAL && set_category(f, text, ret))
        return;
    refuse_text(text ? text : first, ret);
}

bool mf_fhir_read_value(const struct mf_feature *feature, const json_t *holder,
                        struct mf_feature_value *ret)
{
    const json_t *quantity = json_object_get(holder, "valueQuantity");
    const json_t *integer = json_object_get(holder, "valueInteger");
    const json_t *boolean = json_object_get(holder, "valueBoolean");
    const json_t *concept = json_object_get(holder, "valueCodeableConcept");
    const char *string = mf_json_get_string(holder, "valueString", NULL);
    *ret = (struct mf_feature_value){.status = MF_FEATURE_MISSING};
    if (json_object_get(holder, "dataAbsentReason"))
        return false;
    if (json_object_get(quantity, "value"))
        read_quantity(feature, quantity, ret);
    else if (integer && feature->kind == MF_FEATURE_NUMERIC)
        mf_fhir_set_number(feature, (double)json_integer_value(integer), NULL, ret);
    else if (integer)
        refuse_text(NULL, ret);
    else if (boolean)
        read_string(feature, json_is_true(boolean) ? "true" : "false", ret);
    else if (concept)
        read_concept(feature, concept, ret);
    else if (string && *string)
        read_string(feature, string, ret);
    return ret->status != MF_FEATURE_MISSING;
}
