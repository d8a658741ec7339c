/* `medfusion reload`: has the daemon of a data directory read configuration, models, certificates
 * and keys anew, and says what became of it. */
#include "server/cli.h"
#include "server/cmd.h"
#include "server/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char USAGE[] =
    "usage: medfusion reload DIRECTORY\n"
    "\n"
    "The daemon that works in this data directory reads its configuration, bundles, certificates "
    "and\n"
    "keys anew, loads the models beside those that run, and changes over when all of it is ready.\n"
    "Nothing that was accepted is lost. When anything is wrong the daemon goes on as it was, and\n"
    "this command says what it is.\n";

static const char COMMAND[] = "reload";

static bool wait_for_end(const char *directory, struct mf_reload_status *status,
                         struct mf_error *err)
{
    const struct timespec pause = {.tv_nsec = 200000000};
    int64_t number = status->number;
    while (status->state == MF_RELOAD_RUNNING && status->number == number) {
        nanosleep(&pause, NULL);
        if (!mf_control_ask(directory, MF_CONTROL_STATUS, status, err))
            return false;
    }
    return status->number == number ||
           mf_error_set(err, MF_ERR_CONFLICT, "another reload has begun meanwhile");
}

static bool reload(const char *directory, struct mf_error *err)
{
    struct mf_reload_status status;
    if (!mf_control_ask(directory, MF_CONTROL_RELOAD, &status, err))
        return false;
    if (status.refused)
        return mf_error_set(err, MF_ERR_CONFLICT,
                            "%s: a reload is under way, or the daemon starts or stops", directory);
    if (!wait_for_end(directory, &status, err))
        return false;
    if (status.state != MF_RELOAD_SUCCEEDED)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%s", status.reason);
    return (printf("reloaded in %" PRId64 " ms\n", status.ended_ms - status.started_ms) > 0 &&
            fflush(stdout) == 0) ||
           mf_error_set(err, MF_ERR_IO, "the result cannot be printed");
}

int mf_cmd_reload(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct mf_error err = MF_ERROR_INIT;
    int c = mf_cli_option(argc, argv, ":h", options, &err);
    if (c == 'h')
        return mf_cli_help(USAGE);
    if (c == -1 && argc - optind != 1)
        mf_error_set(&err, MF_ERR_USAGE, "name one data directory, see --help");
    bool ok = err.code == MF_OK && reload(argv[optind], &err);
    return ok ? MF_EXIT_OK : mf_cli_fail(COMMAND, &err);
}
