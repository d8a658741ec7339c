/* Derived features: arithmetic over other features, parsed once to postfix order by recursive
 * descent. */
#include "core/feature.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_STEPS = 128, MAX_NESTING = 32, ID_TEXT = 64 };

struct parser {
    const char *text, *p;
    long (*lookup)(void *context, const char *id);
    void *context;
    struct mf_expression_step steps[MAX_STEPS];
    size_t count;
    int nesting;
    struct mf_error *err;
};

static const struct {
    const char *name;
    enum mf_operation operation;
    int arguments;
} FUNCTIONS[] = {{"min", MF_OP_MIN, 2}, {"max", MF_OP_MAX, 2}, {"abs", MF_OP_ABS, 1},
                 {"exp", MF_OP_EXP, 1}, {"ln", MF_OP_LN, 1},   {"sqrt", MF_OP_SQRT, 1}};

static bool parse_sum(struct parser *s);

static bool fail(struct parser *s, const char *format, ...) MF_PRINTF(2, 3);

static bool fail(struct parser *s, const char *format, ...)
{
    char reason[160];
    va_list ap;
    va_start(ap, format);
    vsnprintf(reason, sizeof reason, format, ap);
    va_end(ap);
    return mf_error_set(s->err, MF_ERR_MODEL, "at character %zu: %s", (size_t)(s->p - s->text) + 1,
                        reason);
}

static bool emit(struct parser *s, enum mf_operation operation, double number, size_t variable)
{
    if (s->count == MAX_STEPS)
        return fail(s, "too long, at most %d steps", MAX_STEPS);
    s->steps[s->count++] = (struct mf_expression_step){operation, number, variable};
    return true;
}

static void skip_space(struct parser *s)
{
    s->p += strspn(s->p, " \t\n");
}

static bool take(struct parser *s, char c)
{
    skip_space(s);
    if (*s->p != c)
        return false;
    s->p++;
    return true;
}

static bool expect(struct parser *s, char c)
{
    return take(s, c) || fail(s, "'%c' expected", c);
}

static bool parse_number(struct parser *s)
{
    char *end;
    double value = strtod(s->p, &end);
    if (end == s->p || !isfinite(value))
        return fail(s, "not a number");
    s->p = end;
    return emit(s, MF_OP_NUMBER, value, 0);
}

static bool parse_call(struct parser *s, size_t function)
{
    for (int i = 0; i < FUNCTIONS[function].arguments; i++)
        if (!expect(s, i ? ',' : '(') || !parse_sum(s))
            return false;
    return expect(s, ')') && emit(s, FUNCTIONS[function].operation, 0, 0);
}

/* An id: letters, digits and underscores. */
static bool parse_name(struct parser *s)
{
    char id[ID_TEXT];
    size_t n = 0;
    while (isalnum((unsigned char)s->p[n]) || s->p[n] == '_')
        n++;
    if (n == 0)
        return fail(s, *s->p ? "a number, a feature or '(' expected" : "something is missing");
    if (n >= sizeof id)
        return fail(s, "the name is too long");
    memcpy(id, s->p, n);
    id[n] = '\0';
    bool call = s->p[n + strspn(s->p + n, " ")] == '(';
    for (size_t i = 0; call && i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++)
        if (strcmp(FUNCTIONS[i].name, id) == 0) {
            s->p += n;
            return parse_call(s, i);
        }
    long variable = call ? -1 : s->lookup(s->context, id);
    if (variable < 0)
        return fail(s,
                    call ? "there is no function \"%s\""
                         : "\"%s\" is neither a helper nor a numeric feature before this one",
                    id);
    s->p += n;
    return emit(s, MF_OP_VARIABLE, 0, (size_t)variable);
}

static bool parse_factor(struct parser *s)
{
    bool ok;
    if (++s->nesting > MAX_NESTING)
        return fail(s, "nested too deep");
    if (take(s, '-'))
        ok = parse_factor(s) && emit(s, MF_OP_NEGATE, 0, 0);
    else if (take(s, '('))
        ok = parse_sum(s) && expect(s, ')');
    else if (isdigit((unsigned char)*s->p) || *s->p == '.')
        ok = parse_number(s);
    else
        ok = parse_name(s);
    if (ok && take(s, '^'))
        ok = parse_factor(s) && emit(s, MF_OP_POWER, 0, 0);
    s->nesting--;
    return ok;
}

static bool parse_product(struct parser *s)
{
    if (!parse_factor(s))
        return false;
    for (;;) {
        bool times = take(s, '*');
        if (!times && !take(s, '/'))
            return true;
        if (!parse_factor(s) || !emit(s, times ? MF_OP_MULTIPLY : MF_OP_DIVIDE, 0, 0))
            return false;
    }
}

static bool parse_sum(struct parser *s)
{
    if (!parse_product(s))
        return false;
    for (;;) {
        bool plus = take(s, '+');
        if (!plus && !take(s, '-'))
            return true;
        if (!parse_product(s) || !emit(s, plus ? MF_OP_ADD : MF_OP_SUBTRACT, 0, 0))
            return false;
    }
}

struct mf_expression *mf_expression_parse(const char *text,
                                          long (*lookup)(void *context, const char *id),
                                          void *context, struct mf_arena *arena,
                                          struct mf_error *err)
{
    struct parser s = {.text = text, .p = text, .lookup = lookup, .context = context, .err = err};
    if (!parse_sum(&s))
        return NULL;
    skip_space(&s);
    if (*s.p) {
        fail(&s, "'%c' is not expected here", *s.p);
        return NULL;
    }
    struct mf_expression *e = mf_arena_alloc(arena, 1, sizeof *e, err);
    if (!e || !(e->steps = mf_arena_alloc(arena, s.count, sizeof *e->steps, err)))
        return NULL;
    memcpy(e->steps, s.steps, s.count * sizeof *e->steps);
    e->count = s.count;
    return e;
}

static double apply(enum mf_operation operation, double a, double b)
{
    switch (operation) {
    case MF_OP_ADD:
        return a + b;
    case MF_OP_SUBTRACT:
        return a - b;
    case MF_OP_MULTIPLY:
        return a * b;
    case MF_OP_DIVIDE:
        return a / b;
    case MF_OP_POWER:
        return pow(a, b);
    case MF_OP_MIN:
        return a < b ? a : b;
    case MF_OP_MAX:
        return a > b ? a : b;
    case MF_OP_NEGATE:
        return -b;
    case MF_OP_ABS:
        return fabs(b);
    case MF_OP_EXP:
        return exp(b);
    case MF_OP_LN:
        return log(b);
    case MF_OP_SQRT:
        return sqrt(b);
    case MF_OP_NUMBER:
    case MF_OP_VARIABLE:
        break;
    }
    return NAN;
}

double mf_expression_evaluate(const struct mf_expression *expression, const double *values)
{
    double stack[MAX_STEPS];
    size_t n = 0;
    for (size_t i = 0; i < expression->count; i++) {
        const struct mf_expression_step *step = &expression->steps[i];
        if (step->operation == MF_OP_NUMBER) {
            stack[n++] = step->number;
        } else if (step->operation == MF_OP_VARIABLE) {
            stack[n++] = values[step->variable];
        } else { /* one operand is the top, two are the two topmost */
            bool two = step->operation <= MF_OP_POWER || step->operation == MF_OP_MIN ||
                       step->operation == MF_OP_MAX;
            if (n < (two ? 2 : 1)) /* the parser emits no such thing */
                return NAN;
            double b = stack[--n], a = two ? stack[--n] : 0;
            stack[n++] = apply(step->operation, a, b);
        }
    }
    return n == 1 ? stack[0] : NAN;
}
