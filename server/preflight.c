/* Preflight: see preflight.h. */
#include "server/preflight.h"

#include "server/auth.h"
#include "server/courier_outbox.h"
#include "server/dimse_commitment.h"
#include "server/fetch_source.h"
#include "server/fhir_client.h"
#include "server/model_policy.h"
#include "server/routing.h"
#include "server/s3_client.h"
#include "server/shares.h"
#include "server/store_audit.h"
#include "server/syslog_client.h"
#include "server/tls.h"
#include "server/trace.h"
#include "server/ups_client.h"
#include "server/webhooks.h"

#include <stdio.h>
#include <string.h>

enum { PATIENCE_MS = 10000, DETAIL = 512 };

/* The descriptions of the models are closed again: whoever asks holds none. `rules`: whether those
 * that name models and destinations are looked at, too. */
static bool check_models(const struct mf_config *config, bool rules, struct mf_error *err)
{
    const struct mf_string_list *list = &config->models.directories;
    if (list->count == 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "no model: name bundle directories in models.directories");
    MF_AUTO(mf_registry) struct mf_registry *registry = mf_model_policy_open(config, NULL, err);
    MF_AUTO(mf_routing) struct mf_routing *routing = mf_routing_load(config->routing.rules, err);
    return registry && routing &&
           (!rules || (mf_routing_check(routing, config, registry, err) &&
                       mf_ups_check(config, registry, err)));
}

bool mf_preflight_models(const struct mf_config *config, struct mf_error *err)
{
    return check_models(config, false, err);
}

/* The files of FHIR servers and webhooks, and destinations. */
static bool check_fhir(const struct mf_config *config, struct mf_error *err)
{
    MF_AUTO(mf_fhir_client)
    struct mf_fhir_client *client = mf_fhir_client_new(config->fhir.servers, 1, err);
    const char *source = config->fhir.source;
    struct mf_error unknown = MF_ERROR_INIT;
    struct mf_deidentify_rules rules;
    MF_AUTO(mf_webhooks)
    struct mf_webhooks *webhooks = client ? mf_webhooks_load(config->outbox.webhooks, err) : NULL;
    if (!webhooks || !mf_courier_outbox_check(config, client, webhooks, err) ||
        !mf_deidentify_configure(config, &rules, err) || !mf_deidentify_stored_check(config, err) ||
        !mf_dimse_report_check(config, err) || !mf_fetch_sources_check(config, err))
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

static bool check_bucket(const struct mf_config *config, struct mf_error *err)
{
    if (strcmp(config->payloads.s3, "off") == 0)
        return true;
    MF_AUTO(mf_s3) struct mf_s3 *s3 = mf_s3_new(config, err);
    return s3 != NULL;
}

bool mf_preflight(const struct mf_config *config, struct mf_error *err)
{
    struct mf_shares shares;
    return mf_shares_parse(config->jobs.shares, &shares, err) && check_models(config, true, err) &&
           check_fhir(config, err) && check_identity(config, err) && check_tls(config, err) &&
           check_auth(config, err) && check_bucket(config, err);
}

/* --- what was found --- */

bool mf_preflight_record(const struct mf_config *config, struct mf_error *err)
{
    MF_AUTO(mf_registry) struct mf_registry *registry = mf_model_policy_open(config, NULL, err);
    return registry && mf_model_policy_record(config, registry, err);
}

/* "NAME VERSION DIGEST…", separated by commas, as many as there is room for. */
static void list_models(const struct mf_registry *registry, char out[DETAIL])
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < mf_registry_count(registry); i++) {
        struct mf_model_info info;
        mf_registry_info(registry, i, &info);
        int n = snprintf(out + used, DETAIL - used, "%s%s %s %.12s", used ? ", " : "", info.name,
                         info.version, info.digest);
        if (n < 0 || (size_t)n >= DETAIL - used) {
            out[used] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

static bool write_down(const struct mf_config *config, const char *event, const char *detail,
                       struct mf_error *err)
{
    const struct mf_audit_row row = {.tenant = MF_TENANT_DEFAULT,
                                     .actor = "supervisor",
                                     .job = "",
                                     .event = event,
                                     .detail = detail};
    MF_AUTO(mf_store)
    struct mf_store *store = mf_store_connect(config->data.directory, PATIENCE_MS, err);
    return store && mf_store_audit_add(store, &row, err);
}

bool mf_preflight_note(const struct mf_config *config, const char *failure, struct mf_error *err)
{
    char detail[DETAIL];
    if (failure)
        return write_down(config, "reload.failed", failure, err);
    MF_AUTO(mf_registry) struct mf_registry *registry = mf_model_policy_open(config, NULL, err);
    if (!registry)
        return false;
    list_models(registry, detail);
    return mf_model_policy_record(config, registry, err) &&
           write_down(config, "reload.succeeded", detail, err);
}
