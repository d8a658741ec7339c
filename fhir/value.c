/* One value[x] → a number in the feature's unit, or a category. A comparator ("<5") is read as the
 * limit itself. */
#include "fhir/values.h"

#include "core/ucum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_TEXT = 80 };

void mf_fhir_set_number(const struct mf_feature *f, double value, const char *unit,
                        struct mf_feature_value *ret)
{
    ret->has_number = true;
    ret->status = MF_FEATURE_IMPLAUSIBLE;
    if (!mf_feature_convert(f, value, unit, &ret->number)) {
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
static void read_concept(const struct mf_feature *f, const struct mf_fhir_concept *c,
                         struct mf_feature_value *ret)
{
    const char *first = NULL;
    for (int display = 0; display < 2 && f->kind == MF_FEATURE_CATEGORICAL; display++)
        for (size_t i = 0; i < c->count; i++) {
            const char *s = display ? c->codings[i].display : c->codings[i].code;
            if (set_category(f, s, ret))
                return;
            first = first ? first : s;
        }
    if (f->kind == MF_FEATURE_CATEGORICAL && set_category(f, c->text, ret))
        return;
    refuse_text(c->text ? c->text : first, ret);
}

/* A number, where the feature wants one. */
static void read_number(const struct mf_feature *f, double number, const char *unit,
                        struct mf_feature_value *ret)
{
    if (f->kind == MF_FEATURE_NUMERIC)
        mf_fhir_set_number(f, number, unit, ret);
    else
        refuse_text(NULL, ret);
}

/* The value as a multiple of the upper end of its own reference range. */
static bool read_upper_limits(const struct mf_feature *f, const struct mf_fhir_item *item,
                              struct mf_feature_value *ret)
{
    double high;
    if (item->value.kind != MF_FHIR_QUANTITY || !(item->high > 0))
        return false;
    if (item->range_unit == item->value.unit || !item->range_unit) /* strings are pooled */
        high = item->high;
    else if (!mf_ucum_convert(item->high, item->range_unit, item->value.unit, f->molar_mass, &high))
        return false;
    mf_fhir_set_number(f, item->value.number / high, "1", ret);
    return true;
}

bool mf_fhir_read_value(const struct mf_feature *f, enum mf_feature_read what,
                        const struct mf_fhir_item *item, struct mf_feature_value *ret)
{
    const struct mf_fhir_value *v = &item->value;
    *ret = (struct mf_feature_value){.status = MF_FEATURE_MISSING};
    if (what == MF_READ_UPPER_LIMITS)
        return read_upper_limits(f, item, ret);
    if (what == MF_READ_INTERPRETATION) {
        if (item->interpretation.count || item->interpretation.text)
            read_concept(f, &item->interpretation, ret);
        return ret->status != MF_FEATURE_MISSING;
    }
    switch (v->kind) {
    case MF_FHIR_NO_VALUE:
        return false;
    case MF_FHIR_QUANTITY:
        read_number(f, v->number, v->unit, ret);
        return true;
    case MF_FHIR_INTEGER:
        read_number(f, v->number, NULL, ret);
        return true;
    case MF_FHIR_STRING:
        read_string(f, v->text, ret);
        return true;
    case MF_FHIR_BOOLEAN:
        read_string(f, v->number ? "true" : "false", ret);
        return true;
    case MF_FHIR_CONCEPT:
        read_concept(f, &v->concept, ret);
        return true;
    case MF_FHIR_OTHER:
        refuse_text(NULL, ret);
        return true;
    }
    return false;
}
