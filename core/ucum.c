/* UCUM: a recursive descent parser over a table of units (UCUM 2.1, sections 2 to 4). */
#include "core/ucum.h"

#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum dimension { LENGTH, TIME, MASS, HEAT, AMOUNT, CURRENT, ARBITRARY, EQUIVALENT, OSMOLE, NONE };
enum { DIMENSIONS = NONE, MAX_NESTING = 8, MAX_POWER = 9 };

/* factor · value + offset is in the base units m, s, g, K, mol, A, [IU], eq, osm. */
struct unit {
    double factor, offset;
    signed char power[DIMENSIONS];
    bool special; /* has an offset: stands alone only */
};

static const struct atom {
    const char *code;
    bool metric;
    double factor, offset;
    signed char power[DIMENSIONS];
} ATOMS[] = {
    {"m", true, 1, 0, {[LENGTH] = 1}},
    {"s", true, 1, 0, {[TIME] = 1}},
    {"g", true, 1, 0, {[MASS] = 1}},
    {"K", true, 1, 0, {[HEAT] = 1}},
    {"mol", true, 1, 0, {[AMOUNT] = 1}},
    {"A", true, 1, 0, {[CURRENT] = 1}},
    {"[IU]", true, 1, 0, {[ARBITRARY] = 1}},
    {"[iU]", true, 1, 0, {[ARBITRARY] = 1}},
    {"eq", true, 1, 0, {[EQUIVALENT] = 1}},
    {"osm", true, 1, 0, {[OSMOLE] = 1}},
    {"%", false, 0.01, 0, {0}},
    {"[ppth]", false, 1e-3, 0, {0}},
    {"[ppm]", false, 1e-6, 0, {0}},
    {"[ppb]", false, 1e-9, 0, {0}},
    {"rad", true, 1, 0, {0}},
    {"deg", false, 0.017453292519943295, 0, {0}},
    {"L", true, 1e-3, 0, {[LENGTH] = 3}},
    {"l", true, 1e-3, 0, {[LENGTH] = 3}},
    {"t", true, 1e6, 0, {[MASS] = 1}},
    {"Cel", true, 1, 273.15, {[HEAT] = 1}},
    {"[degF]", false, 5.0 / 9, 459.67 * 5 / 9, {[HEAT] = 1}},
    {"min", false, 60, 0, {[TIME] = 1}},
    {"h", false, 3600, 0, {[TIME] = 1}},
    {"d", false, 86400, 0, {[TIME] = 1}},
    {"wk", false, 604800, 0, {[TIME] = 1}},
    {"mo", false, 2629800, 0, {[TIME] = 1}},
    {"a", false, 31557600, 0, {[TIME] = 1}},
    {"Hz", true, 1, 0, {[TIME] = -1}},
    {"N", true, 1e3, 0, {[MASS] = 1, [LENGTH] = 1, [TIME] = -2}},
    {"Pa", true, 1e3, 0, {[MASS] = 1, [LENGTH] = -1, [TIME] = -2}},
    {"bar", true, 1e8, 0, {[MASS] = 1, [LENGTH] = -1, [TIME] = -2}},
    {"m[Hg]", true, 133322e3, 0, {[MASS] = 1, [LENGTH] = -1, [TIME] = -2}},
    {"m[H2O]", true, 9806.65e3, 0, {[MASS] = 1, [LENGTH] = -1, [TIME] = -2}},
    {"J", true, 1e3, 0, {[MASS] = 1, [LENGTH] = 2, [TIME] = -2}},
    {"cal", true, 4184, 0, {[MASS] = 1, [LENGTH] = 2, [TIME] = -2}},
    {"[Cal]", false, 4184e3, 0, {[MASS] = 1, [LENGTH] = 2, [TIME] = -2}},
    {"W", true, 1e3, 0, {[MASS] = 1, [LENGTH] = 2, [TIME] = -3}},
    {"V", true, 1e3, 0, {[MASS] = 1, [LENGTH] = 2, [TIME] = -3, [CURRENT] = -1}},
    {"kat", true, 1, 0, {[AMOUNT] = 1, [TIME] = -1}},
    {"U", true, 1e-6 / 60, 0, {[AMOUNT] = 1, [TIME] = -1}},
    {"[lb_av]", false, 453.59237, 0, {[MASS] = 1}},
    {"[oz_av]", false, 28.349523125, 0, {[MASS] = 1}},
    {"[stone_av]", false, 6350.29318, 0, {[MASS] = 1}},
    {"[in_i]", false, 0.0254, 0, {[LENGTH] = 1}},
    {"[ft_i]", false, 0.3048, 0, {[LENGTH] = 1}},
    {"[yd_i]", false, 0.9144, 0, {[LENGTH] = 1}},
    {"[mi_i]", false, 1609.344, 0, {[LENGTH] = 1}},
    /* not UCUM, and unmistakable */
    {"mmHg", false, 133322, 0, {[MASS] = 1, [LENGTH] = -1, [TIME] = -2}},
    {"cmH2O", false, 98066.5, 0, {[MASS] = 1, [LENGTH] = -1, [TIME] = -2}},
    {"\xC2\xB0"
     "C",
     false,
     1,
     273.15,
     {[HEAT] = 1}},
    {"degC", false, 1, 273.15, {[HEAT] = 1}},
    {"\xC2\xB0"
     "F",
     false,
     5.0 / 9,
     459.67 * 5 / 9,
     {[HEAT] = 1}},
    {"degF", false, 5.0 / 9, 459.67 * 5 / 9, {[HEAT] = 1}},
    {"mcg", false, 1e-6, 0, {[MASS] = 1}},
    {"\xC2\xB5g", false, 1e-6, 0, {[MASS] = 1}},
    {"\xC2\xB5mol", false, 1e-6, 0, {[AMOUNT] = 1}},
    {"\xC2\xB5L", false, 1e-9, 0, {[LENGTH] = 3}},
    {"IU", false, 1, 0, {[ARBITRARY] = 1}},
    {"mIU", false, 1e-3, 0, {[ARBITRARY] = 1}},
    {"lb", false, 453.59237, 0, {[MASS] = 1}},
    {"lbs", false, 453.59237, 0, {[MASS] = 1}},
    {"bpm", false, 1.0 / 60, 0, {[TIME] = -1}},
};

static const struct {
    const char *code;
    double factor;
} PREFIXES[] = {{"da", 1e1}, {"d", 1e-1},  {"c", 1e-2},  {"m", 1e-3},  {"u", 1e-6},
                {"n", 1e-9}, {"p", 1e-12}, {"f", 1e-15}, {"a", 1e-18}, {"h", 1e2},
                {"k", 1e3},  {"M", 1e6},   {"G", 1e9},   {"T", 1e12},  {"P", 1e15}};

struct parser {
    const char *p;
    int nesting;
};

static bool parse_term(struct parser *s, struct unit *ret);

static const struct atom *find_atom(const char *code, size_t len)
{
    for (size_t i = 0; i < sizeof ATOMS / sizeof *ATOMS; i++)
        if (strlen(ATOMS[i].code) == len && memcmp(ATOMS[i].code, code, len) == 0)
            return &ATOMS[i];
    return NULL;
}

/* The unit of one symbol, its prefix included. */
static bool find_symbol(const char *code, size_t len, struct unit *ret)
{
    double scale = 1;
    const struct atom *atom = find_atom(code, len);
    for (size_t i = 0; !atom && i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        size_t n = strlen(PREFIXES[i].code);
        if (len <= n || memcmp(code, PREFIXES[i].code, n) != 0)
            continue;
        atom = find_atom(code + n, len - n);
        atom = atom && atom->metric ? atom : NULL;
        scale = PREFIXES[i].factor;
    }
    if (!atom)
        return false;
    *ret = (struct unit){
        .factor = scale * atom->factor, .offset = atom->offset, .special = atom->offset != 0};
    memcpy(ret->power, atom->power, sizeof ret->power);
    return true;
}

/* Bytes of a symbol: up to an operator, a digit or sign outside brackets. */
static size_t symbol_length(const char *p)
{
    size_t n = 0;
    while (p[n] && !strchr("./(){}+-0123456789", p[n])) {
        if (p[n] == '[') {
            const char *close = strchr(p + n, ']');
            if (!close)
                return 0;
            n = (size_t)(close - p);
        }
        n++;
    }
    return n;
}

static bool parse_power(struct parser *s, int *ret)
{
    int sign = *s->p == '-' ? -1 : 1, value = 0;
    *ret = 1;
    if (*s->p != '-' && *s->p != '+' && !isdigit((unsigned char)*s->p))
        return true;
    s->p += *s->p == '-' || *s->p == '+';
    if (!isdigit((unsigned char)*s->p))
        return false;
    for (; isdigit((unsigned char)*s->p) && value < 100; s->p++)
        value = value * 10 + (*s->p - '0');
    *ret = sign * value;
    return true;
}

static bool raise(struct unit *u, int power)
{
    if (power == 1)
        return true;
    if (u->special)
        return false;
    u->factor = pow(u->factor, power);
    for (int i = 0; i < DIMENSIONS; i++) {
        int n = u->power[i] * power;
        if (n > MAX_POWER || n < -MAX_POWER)
            return false;
        u->power[i] = (signed char)n;
    }
    return true;
}

/* A whole number, or 10* and 10^ with their power. */
static bool parse_number(struct parser *s, struct unit *ret)
{
    double value = 0;
    int power;
    for (; isdigit((unsigned char)*s->p); s->p++)
        value = value * 10 + (*s->p - '0');
    *ret = (struct unit){.factor = value};
    if (*s->p != '*' && *s->p != '^')
        return value > 0;
    s->p++;
    if (value != 10 || !parse_power(s, &power))
        return false;
    ret->factor = pow(10, power);
    return true;
}

/* symbol [power] [{annotation}] | number | (term) | {annotation} */
static bool parse_component(struct parser *s, struct unit *ret)
{
    int power;
    *ret = (struct unit){.factor = 1};
    if (*s->p == '(') {
        s->p++;
        if (++s->nesting > MAX_NESTING || !parse_term(s, ret) || *s->p != ')')
            return false;
        s->nesting--;
        s->p++;
    } else if (isdigit((unsigned char)*s->p)) {
        if (!parse_number(s, ret))
            return false;
    } else if (*s->p != '{') {
        size_t n = symbol_length(s->p);
        if (n == 0 || !find_symbol(s->p, n, ret))
            return false;
        s->p += n;
        if (!parse_power(s, &power) || !raise(ret, power))
            return false;
    }
    if (*s->p == '{') {
        const char *close = strchr(s->p, '}');
        if (!close)
            return false;
        s->p = close + 1;
    }
    return true;
}

static bool multiply(struct unit *u, struct unit *by, bool divide)
{
    if (u->special || by->special)
        return false;
    if (divide && !raise(by, -1))
        return false;
    u->factor *= by->factor;
    for (int i = 0; i < DIMENSIONS; i++) {
        int n = u->power[i] + by->power[i];
        if (n > MAX_POWER || n < -MAX_POWER)
            return false;
        u->power[i] = (signed char)n;
    }
    return true;
}

/* ["/"] component {("." | "/") component}, from left to right */
static bool parse_term(struct parser *s, struct unit *ret)
{
    *ret = (struct unit){.factor = 1};
    bool first = *s->p != '/';
    if (first && !parse_component(s, ret))
        return false;
    while (*s->p == '.' || *s->p == '/') {
        bool divide = *s->p++ == '/';
        struct unit next;
        if (!parse_component(s, &next) || !multiply(ret, &next, divide))
            return false;
    }
    return true;
}

static bool parse(const char *unit, struct unit *ret)
{
    struct parser s = {.p = unit ? unit : ""};
    *ret = (struct unit){.factor = 1};
    return !*s.p || (parse_term(&s, ret) && !*s.p && isfinite(ret->factor) && ret->factor > 0);
}

bool mf_ucum_valid(const char *unit)
{
    struct unit u;
    return parse(unit, &u);
}

/* `from` with as much mass turned into amount, or amount into mass, as `to` has. */
static void exchange_mass(struct unit *from, const struct unit *to, double molar_mass)
{
    int moles = to->power[AMOUNT] - from->power[AMOUNT];
    if (molar_mass > 0 && moles == from->power[MASS] - to->power[MASS] && abs(moles) <= 1) {
        from->factor *= pow(molar_mass, -moles);
        from->power[AMOUNT] = to->power[AMOUNT];
        from->power[MASS] = to->power[MASS];
    }
}

bool mf_ucum_convert(double value, const char *from, const char *to, double molar_mass, double *ret)
{
    struct unit a, b;
    if (!parse(from, &a) || !parse(to, &b))
        return false;
    if (!a.special && !b.special)
        exchange_mass(&a, &b, molar_mass);
    if (memcmp(a.power, b.power, sizeof a.power) != 0)
        return false;
    if (a.offset == b.offset) { /* so that no rounding comes from adding and taking away */
        *ret = a.factor == b.factor ? value : value * (a.factor / b.factor);
        return true;
    }
    *ret = (value * a.factor + a.offset - b.offset) / b.factor;
    return true;
}
