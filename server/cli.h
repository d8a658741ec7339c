/* What commands share: exit statuses, error lines, configuration from arguments, a progress bar. */
#ifndef MF_SERVER_CLI_H
#define MF_SERVER_CLI_H

#include "core/error.h"
#include "server/config.h"

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mf_exit { MF_EXIT_OK = 0, MF_EXIT_FAILED = 1, MF_EXIT_USAGE = 2 };

/* "medfusion predict: message" on stderr; returns the exit status that the error's code asks for.
 */
int mf_cli_fail(const char *command, const struct mf_error *err);

/* --help: the text on stdout; returns MF_EXIT_OK, or MF_EXIT_FAILED when it cannot be written. */
int mf_cli_help(const char *text);

/* One option with getopt_long(), whose own messages are replaced by ours: returns its `val`, −1 at
 * the end of the options, or '?' with MF_ERR_USAGE naming the option. `shorts` begins with ':'. */
int mf_cli_option(int argc, char **argv, const char *shorts, const struct option *longs,
                  struct mf_error *err);

/* A number from an option's value; MF_ERR_USAGE names the option. */
bool mf_cli_number(const char *option, const char *text, double low, double high, double *ret,
                   struct mf_error *err) MF_CHECK_RESULT;

/* Configuration of serve and worker: file (--config), environment, then the other arguments
 * (--section.key VALUE or
 * --section.key=VALUE, and --device as --worker.device). *ret_help is set when help was asked for
 * and printed. NULL on failure or help. */
struct mf_config *mf_cli_config(int argc, char **argv, const char *help, bool *ret_help,
                                struct mf_error *err);

/* What a reload reads again: the same arguments, for mf_cli_config(). */
struct mf_cli_source {
    int argc;
    char **argv;
    const char *help;
};
/* The configuration anew from a struct mf_cli_source (`context`); NULL on failure. */
struct mf_config *mf_cli_config_again(void *context, struct mf_error *err);

/* A bar on stderr, only when that is a terminal: "calibrate  [####----]  120/317  0:42 left". */
struct mf_progress {
    const char *label;
    size_t total, done;
    uint64_t start_ns, shown_ns;
    bool visible;
};
void mf_progress_start(struct mf_progress *p, const char *label, size_t total);
void mf_progress_step(struct mf_progress *p, size_t done);
void mf_progress_clear(
    struct mf_progress *p); /* before another line is printed; the next step draws it again */
void mf_progress_end(struct mf_progress *p); /* clears it for good */

#endif
