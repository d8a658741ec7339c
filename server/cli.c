/* What commands share: see cli.h. */
#include "server/cli.h"

#include "core/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int mf_cli_fail(const char *command, const struct mf_error *err)
{
    fprintf(stderr, "medfusion %s: %s\n", command, err->msg);
    return err->code == MF_ERR_USAGE ? MF_EXIT_USAGE : MF_EXIT_FAILED;
}

int mf_cli_help(const char *text)
{
    return fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? MF_EXIT_OK : MF_EXIT_FAILED;
}

int mf_cli_option(int argc, char **argv, const char *shorts, const struct option *longs,
                  struct mf_error *err)
{
    opterr = 0; /* `shorts` begins with ':', so a missing value is told from an unknown option */
    int c = getopt_long(argc, argv, shorts, longs, NULL);
    if (c == ':')
        mf_error_set(err, MF_ERR_USAGE, "%s needs a value, see --help", argv[optind - 1]);
    else if (c == '?' && optopt)
        mf_error_set(err, MF_ERR_USAGE, "unknown option -%c, see --help", optopt);
    else if (c == '?')
        mf_error_set(err, MF_ERR_USAGE, "unknown option %s, see --help", argv[optind - 1]);
    return c == ':' ? '?' : c;
}

bool mf_cli_number(const char *option, const char *text, double low, double high, double *ret,
                   struct mf_error *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        return mf_error_set(err, MF_ERR_USAGE, "%s: must be a number from %g to %g, not \"%.40s\"",
                            option, low, high, text);
    *ret = value;
    return true;
}

/* --- configuration --- */

static const char *find_config_file(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            return argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            return argv[i + 1];
    }
    return NULL;
}

/* One argument of the form --key VALUE or --key=VALUE; *i moves past what was used. */
static bool take_argument(struct mf_config *config, int argc, char **argv, int *i,
                          struct mf_error *err)
{
    const char *argument = argv[*i];
    if (strncmp(argument, "--", 2) != 0 || !argument[2])
        return mf_error_set(err, MF_ERR_USAGE, "unexpected argument \"%.80s\", see --help",
                            argument);
    const char *name = argument + 2, *equals = strchr(name, '=');
    char key[128];
    int length = equals ? (int)(equals - name) : (int)strlen(name);
    snprintf(key, sizeof key, "%.*s", length < 127 ? length : 127, name);
    if (strcmp(key, "device") == 0)
        snprintf(key, sizeof key, "worker.device");
    if (strcmp(key, "config") != 0 && !mf_config_has(key))
        return mf_error_set(err, MF_ERR_USAGE, "unknown option --%s, see --help-config", key);
    const char *value = equals ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    if (!value)
        return mf_error_set(err, MF_ERR_USAGE, "--%s needs a value", key);
    return strcmp(key, "config") == 0 || mf_config_set(config, key, value, err);
}

/* Prints what --help… asks for; false when no argument does. */
static bool print_help(int argc, char **argv, const char *help, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 1 << 20);
    for (int i = 1; i < argc; i++) {
        bool keys = strcmp(argv[i], "--help-config") == 0;
        bool example = strcmp(argv[i], "--example-config") == 0;
        if (!keys && !example && strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0)
            continue;
        bool made = keys      ? mf_config_help(&text, err)
                    : example ? mf_config_example(&text, err)
                              : mf_buffer_append_str(&text, help, err);
        if (made && mf_cli_help(text.data) != MF_EXIT_OK)
            mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
        return true;
    }
    return false;
}

struct mf_config *mf_cli_config(int argc, char **argv, const char *help, bool *ret_help,
                                struct mf_error *err)
{
    struct mf_error unwritten = MF_ERROR_INIT;
    const bool asked = print_help(argc, argv, help, &unwritten);
    *ret_help = asked && unwritten.code == MF_OK;
    if (asked) {
        if (unwritten.code != MF_OK)
            mf_error_set(err, unwritten.code, "%s", unwritten.msg);
        return NULL;
    }
    struct mf_config *config = mf_config_new(err);
    const char *file = find_config_file(argc, argv);
    bool ok = config && (!file || mf_config_load_file(config, file, err)) &&
              mf_config_load_environment(config, environ, err);
    for (int i = 1; ok && i < argc; i++)
        ok = take_argument(config, argc, argv, &i, err);
    if (ok)
        return config;
    mf_config_free(config);
    return NULL;
}

struct mf_config *mf_cli_config_again(void *context, struct mf_error *err)
{
    const struct mf_cli_source *source = context;
    bool help;
    return mf_cli_config(source->argc, source->argv, source->help, &help, err);
}

/* --- progress --- */

enum { BAR_WIDTH = 30, REDRAW_MS = 100 };

void mf_progress_start(struct mf_progress *p, const char *label, size_t total)
{
    *p = (struct mf_progress){.label = label,
                              .total = total,
                              .start_ns = mf_clock_monotonic_ns(),
                              .visible = total > 0 && isatty(STDERR_FILENO)};
    mf_progress_step(p, 0);
}

void mf_progress_step(struct mf_progress *p, size_t done)
{
    char bar[BAR_WIDTH + 1];
    uint64_t now = mf_clock_monotonic_ns();
    p->done = done;
    if (!p->visible || p->total == 0 ||
        (done < p->total && now - p->shown_ns < REDRAW_MS * 1000000ULL))
        return;
    p->shown_ns = now;
    size_t filled = done * BAR_WIDTH / p->total;
    memset(bar, '#', filled);
    memset(bar + filled, '-', BAR_WIDTH - filled);
    bar[BAR_WIDTH] = '\0';
    double left =
        done ? (double)(now - p->start_ns) / 1e9 * (double)(p->total - done) / (double)done : 0;
    fprintf(stderr, "\r%s  [%s]  %zu/%zu  %d:%02d left ", p->label, bar, done, p->total,
            (int)(left / 60), (int)fmod(left, 60));
}

void mf_progress_clear(struct mf_progress *p)
{
    if (p->visible)
        fprintf(stderr, "\r\033[K");
    p->shown_ns = 0;
}

void mf_progress_end(struct mf_progress *p)
{
    mf_progress_clear(p);
    p->visible = false;
}
