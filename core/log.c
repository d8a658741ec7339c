/* Logging: JSON lines on stderr. */
#include "core/log.h"

#include "core/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum mf_log_level least_level = MF_LOG_INFO;
static const char *component_name = "medfusion";

static const char *const LEVELS[] = {"debug", "info", "warn", "error"};

void mf_log_setup(enum mf_log_level least, const char *component)
{
    least_level = least;
    component_name = component;
}

bool mf_log_level_parse(const char *name, enum mf_log_level *ret)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(name, LEVELS[i]) == 0) {
            *ret = (enum mf_log_level)i;
            return true;
        }
    return false;
}

struct line {
    char text[2048];
    size_t len;
    bool full; /* something did not fit; two bytes are always left for the end of the line */
};

static void put(struct line *l, const char *s, size_t n)
{
    if (l->full || n > sizeof l->text - 2 - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

static void put_string(struct line *l, const char *s)
{
    size_t n = 0;
    put(l, "\"", 1);
    for (; s && *s && n < 200; s++, n++) {
        char escaped[8];
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            put(l, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\%c", c));
        else if (c < 0x20 || c >= 0x7F) /* terminals and log readers get ASCII only */
            put(l, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", c));
        else
            put(l, s, 1);
    }
    put(l, "\"", 1);
}

void mf_log_write(enum mf_log_level level, const char *event, const struct mf_log_field *fields)
{
    if (level < least_level)
        return;
    struct line l = {.len = 0};
    char time_text[MF_TIME_TEXT], number[40];
    put(&l, "{\"time\":", 8);
    put_string(&l, mf_clock_format_ms(mf_clock_wall_ms(), time_text));
    put(&l, ",\"level\":", 9);
    put_string(&l, LEVELS[level]);
    put(&l, ",\"component\":", 13);
    put_string(&l, component_name);
    put(&l, ",\"event\":", 9);
    put_string(&l, event);
    for (const struct mf_log_field *f = fields; f->kind != MF_LOG_END; f++) {
        size_t before = l.len;
        put(&l, ",", 1);
        put_string(&l, f->key);
        put(&l, ":", 1);
        if (f->kind == MF_LOG_INT)
            put(&l, number, (size_t)snprintf(number, sizeof number, "%" PRId64, f->i));
        else if (f->kind == MF_LOG_REAL)
            put(&l, number, (size_t)snprintf(number, sizeof number, "%.6g", f->r));
        else
            put_string(&l, f->id);
        if (l.full) { /* a field that does not fit is left out, so that the line stays JSON */
            l.len = before;
            l.full = false;
        }
    }
    l.text[l.len++] = '}';
    l.text[l.len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, l.text, l.len);
    (void)ignored; /* nobody is left to tell */
}
