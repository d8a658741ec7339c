/* Dead letters as JSON, for the API and the command line alike. */
#ifndef MF_SERVER_DEAD_LETTER_JSON_H
#define MF_SERVER_DEAD_LETTER_JSON_H

#include "core/json.h"
#include "server/store_dead_letters.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A dead letter's id: digits, from 1 to 2^53 − 1. */
bool mf_dead_letter_id(const char *text, int64_t *ret);

/* A new reference, or NULL without memory. */
json_t *mf_dead_letter_to_json(const struct mf_dead_letter *letter);

#ifdef __cplusplus
}
#endif

#endif
