/*
 * UPS: requests to the manager of work items, ups.manager (PS3.18 section 11). Addresses come from
 * the configuration only, UIDs are checked.
 *
 * Errors: MF_ERR_NOT_FOUND (404, 410), MF_ERR_CONFLICT (400, 409: the state or the transaction does
 * not allow it), MF_ERR_UNAVAILABLE (any other answer), MF_ERR_IO, MF_ERR_TIMEOUT.
 */
#ifndef MF_SERVER_UPS_CLIENT_H
#define MF_SERVER_UPS_CLIENT_H

#include "server/config.h"
#include "server/registry.h"
#include "server/ups_item.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_UPS_ROWS = 100 };

/* The scheduled work items with this code at this station (NULL: any), an array of at most
 * MF_UPS_ROWS objects that the caller owns. */
json_t *mf_ups_search(const struct mf_config *config, const struct mf_ups_code *work,
                      const struct mf_ups_code *station, struct mf_error *err) MF_CHECK_RESULT;
/* All of one. */
bool mf_ups_retrieve(const struct mf_config *config, const char *uid, struct mf_ups_item *ret,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Claims it, or ends it. */
bool mf_ups_change_state(const struct mf_config *config, const char *uid, const char *transaction,
                         enum mf_ups_state state, struct mf_error *err) MF_CHECK_RESULT;
/* Sends what mf_ups_progress(), mf_ups_perform() or mf_ups_discontinue() made, and frees it. */
bool mf_ups_update(const struct mf_config *config, const char *uid, const char *transaction,
                   json_t *update, struct mf_error *err) MF_CHECK_RESULT;

/* Whether the keys of the section `ups` are understood and fit together, and the models that they
 * name are served. MF_ERR_USAGE names the key. */
bool mf_ups_check(const struct mf_config *config, const struct mf_registry *registry,
                  struct mf_error *err) MF_CHECK_RESULT;
/* Whether there is a manager. */
bool mf_ups_wanted(const struct mf_config *config);

/* Which of ups.outputs the work item's objects go to. */
void mf_ups_output(const struct mf_config *config, const struct mf_ups_item *item,
                   char ret[MF_UPS_URL]);

#ifdef __cplusplus
}
#endif

#endif
