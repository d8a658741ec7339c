/*
 * Which bundles may run here: with models.trusted_keys only those that one of these keys signed,
 * and none of a lower version than the highest that has run with this data directory
 * ("models.json" there). Every process that opens bundles asks for itself, about the very manifest
 * that it has opened.
 */
#ifndef MF_SERVER_MODEL_POLICY_H
#define MF_SERVER_MODEL_POLICY_H

#include "server/config.h"
#include "server/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opens the bundles of models.directories (registry.h) if all of them may run. MF_ERR_MODEL names
 * the one that may not, and why. */
struct mf_registry *mf_model_policy_open(const struct mf_config *config,
                                         const struct mf_registry_device *device,
                                         struct mf_error *err) MF_CHECK_RESULT;

/* Writes down their versions, so that none goes back from here on. Does nothing without
 * models.trusted_keys. */
bool mf_model_policy_record(const struct mf_config *config, const struct mf_registry *registry,
                            struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
