/* `medfusion serve`: the whole daemon on one machine. */
#include "server/cli.h"
#include "server/cmd.h"
#include "server/preflight.h"
#include "server/supervisor.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char USAGE[] =
    "usage: medfusion serve [--config FILE] [--SECTION.KEY VALUE]…\n"
    "\n"
    "Runs the daemon: HTTP front, store, sandboxed decoders and a worker, until SIGTERM or "
    "SIGINT;\n"
    "on SIGHUP (or medfusion reload) configuration, models, certificates and keys are read anew.\n"
    "Prints \"medfusion is ready at URL\" when it takes requests; logs JSON lines on stderr.\n"
    "\n"
    "  --config FILE         configuration as JSON\n"
    "  --SECTION.KEY VALUE   one key, stronger than the environment (MEDFUSION_SECTION_KEY) and "
    "the file\n"
    "  --device DEV          the same as --worker.device: auto, cpu, cuda:N, or several\n"
    "  --help-config         every key with its meaning and default\n"
    "  --example-config      a configuration file with all defaults\n";

static bool make_directory(const struct mf_config *config, struct mf_error *err)
{
    const char *directory = config->data.directory;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", directory, strerror(errno));
    return true;
}

int mf_cmd_serve(int argc, char **argv)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_cli_source source = {argc, argv, USAGE};
    bool help;
    MF_AUTO(mf_config) struct mf_config *config = mf_cli_config(argc, argv, USAGE, &help, &err);
    const struct mf_supervisor_options options = {.config = config,
                                                  .what = MF_SUPERVISE_ALL,
                                                  .read = mf_cli_config_again,
                                                  .check = mf_preflight,
                                                  .context = &source};
    if (help)
        return MF_EXIT_OK;
    if (!config || !mf_preflight(config, &err) || !make_directory(config, &err) ||
        !mf_preflight_record(config, &err) || !mf_supervisor_run(&options, &err))
        return mf_cli_fail("serve", &err);
    return MF_EXIT_OK;
}
