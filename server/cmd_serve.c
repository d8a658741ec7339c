/* `medfusion serve`: the whole daemon on one machine. */
#include "server/auth.h"
#include "server/cli.h"
#include "server/cmd.h"
#include "server/courier_outbox.h"
#include "server/dimse_commitment.h"
#include "server/fhir_client.h"
#include "server/model_policy.h"
#include "server/supervisor.h"
#include "server/syslog_client.h"
#include "server/tls.h"
#include "server/trace.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char USAGE[] =
    "usage: medfusion serve [--config FILE] [--SECTION.KEY VALUE]…\n"
    "\n"
    "Runs the daemon: HTTP front, store, sandboxed decoders and a worker, until SIGTERM or "
    "SIGINT.\n"
    "Prints \"medfusion is ready at URL\" when it takes requests; logs JSON lines on stderr.\n"
    "\n"
    "  --config FILE         configuration as JSON\n"
    "  --SECTION.KEY VALUE   one key, stronger than the environment (MEDFUSION_SECTION_KEY) and "
    "the file\n"
    "  --device DEV          the same as --worker.device: auto, cpu or cuda:N\n"
    "  --help-config         every key with its meaning and default\n"
    "  --example-config      a configuration file with all defaults\n";

static bool make_directory(const struct mf_config *config, struct mf_error *err)
{
    const char *directory = config->data.directory;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", directory, strerror(errno));
    return true;
}

/* A wrong bundle is told at once, not by a worker that dies. The descriptions are closed again: the
 * supervisor holds no model. */
static bool check_models(const struct mf_config *config, struct mf_error *err)
{
    const struct mf_string_list *list = &config->models.directories;
    if (list->count == 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "no model: name bundle directories in models.directories");
    MF_AUTO(mf_registry) struct mf_registry *registry = mf_model_policy_open(config, NULL, err);
    return registry && make_directory(config, err) && mf_model_policy_record(config, registry, err);
}

/* Neither is a mistake in the files of FHIR servers and webhooks or in a destination left for
 * later.
 */
static bool check_fhir(const struct mf_config *config, struct mf_error *err)
{
    MF_AUTO(mf_fhir_client)
    struct mf_fhir_client *client = mf_fhir_client_new(config->fhir.servers, 1, err);
    const char *source = config->fhir.source;
    struct mf_error unknown = MF_ERROR_INIT;
    MF_AUTO(mf_webhooks)
    struct mf_webhooks *webhooks = client ? mf_webhooks_load(config->outbox.webhooks, err) : NULL;
    if (!webhooks || !mf_courier_outbox_check(config, client, webhooks, err) ||
        !mf_dimse_report_check(config, err))
        return false;
    if (!mf_trace_check(config, err))
        return false;
    if (strcmp(config->audit.syslog, "off") != 0 && !mf_syslog_check(config->audit.syslog, err))
        return false;
    return strcmp(source, "off") == 0 || mf_fhir_client_find(client, source, &unknown) >= 0 ||
           mf_error_set(err, MF_ERR_USAGE, "fhir.source: there is no server \"%s\" in fhir.servers",
                        source);
}

static bool check_identity(const struct mf_config *config, struct mf_error *err)
{
    const char *mismatch = config->ehr.mismatch;
    return strcmp(mismatch, "refuse") == 0 || strcmp(mismatch, "report") == 0 ||
           mf_error_set(err, MF_ERR_USAGE, "ehr.mismatch: must be refuse or report");
}

/* Nor is a wrong certificate told by a front that dies. */
static bool check_tls(const struct mf_config *config, struct mf_error *err)
{
    if (!mf_tls_wanted(config))
        return true;
    MF_AUTO(mf_tls) struct mf_tls *tls = mf_tls_load(config, err);
    return tls != NULL;
}

static bool check_auth(const struct mf_config *config, struct mf_error *err)
{
    if (!mf_access_guarded(config))
        return true;
    MF_AUTO(mf_auth) struct mf_auth *auth = mf_auth_new(config, err);
    return auth != NULL;
}

int mf_cmd_serve(int argc, char **argv)
{
    struct mf_error err = MF_ERROR_INIT;
    bool help;
    MF_AUTO(mf_config) struct mf_config *config = mf_cli_config(argc, argv, USAGE, &help, &err);
    if (help)
        return MF_EXIT_OK;
    if (!config || !check_models(config, &err) || !check_fhir(config, &err) ||
        !check_identity(config, &err) || !check_tls(config, &err) || !check_auth(config, &err) ||
        !mf_supervisor_run(config, MF_SUPERVISE_ALL, &err))
        return mf_cli_fail("serve", &err);
    return MF_EXIT_OK;
}
