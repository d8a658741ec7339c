/* `medfusion worker`: one more worker for a daemon whose data directory this machine can reach. */
#include "server/cli.h"
#include "server/cmd.h"
#include "server/preflight.h"
#include "server/supervisor.h"

static const char USAGE[] =
    "usage: medfusion worker [--config FILE] [--device DEV] [--SECTION.KEY VALUE]…\n"
    "\n"
    "Runs a worker and its decoders, without front and store, until SIGTERM or SIGINT. It takes "
    "jobs\n"
    "from the daemon that works in the same data directory (data.directory).\n"
    "\n"
    "  --config FILE         configuration as JSON, the daemon's own file will do\n"
    "  --device DEV          auto, cpu or cuda:N\n"
    "  --SECTION.KEY VALUE   one key, stronger than the environment (MEDFUSION_SECTION_KEY) and "
    "the file\n"
    "  --help-config         every key with its meaning and default\n";

int mf_cmd_worker(int argc, char **argv)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_cli_source source = {argc, argv, USAGE};
    bool help;
    MF_AUTO(mf_config) struct mf_config *config = mf_cli_config(argc, argv, USAGE, &help, &err);
    const struct mf_supervisor_options options = {.config = config,
                                                  .what = MF_SUPERVISE_WORKER,
                                                  .read = mf_cli_config_again,
                                                  .check = mf_preflight_models,
                                                  .context = &source};
    if (help)
        return MF_EXIT_OK;
    if (!config || !mf_supervisor_run(&options, &err))
        return mf_cli_fail("worker", &err);
    return MF_EXIT_OK;
}
