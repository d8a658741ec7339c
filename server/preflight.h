/*
 * Preflight: whether a configuration can be served. A wrong bundle, certificate, key file or
 * destination is told by name before anything is started, or, at a reload, before anything that
 * runs is touched; not by a process that dies of it.
 */
#ifndef MF_SERVER_PREFLIGHT_H
#define MF_SERVER_PREFLIGHT_H

#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Everything that the processes of a daemon open: bundles (manifest, signature, version), files of
 * FHIR servers and webhooks, addresses, certificates, keys. MF_ERR_USAGE or MF_ERR_MODEL names what
 * is wrong. Makes and changes nothing. */
bool mf_preflight(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;
/* The bundles alone, for a worker without a front. */
bool mf_preflight_models(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;

/* Writes down which versions run from here on (model_policy.h); the data directory exists. */
bool mf_preflight_record(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;
/* Writes to the audit trail what became of a reload (failure NULL: it succeeded, and the versions
 * are recorded, too). May wait for the store. */
bool mf_preflight_note(const struct mf_config *config, const char *failure,
                       struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
