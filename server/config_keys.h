/* Private to the configuration: its keys. */
#ifndef MF_SERVER_CONFIG_KEYS_H
#define MF_SERVER_CONFIG_KEYS_H

#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_config_type { MF_CONFIG_TEXT, MF_CONFIG_INTEGER, MF_CONFIG_LIST };

struct mf_config_key {
    const char *name; /* "section.key" */
    enum mf_config_type type;
    size_t offset; /* in struct mf_config */
    const char *fallback;
    int64_t min, max; /* MF_CONFIG_INTEGER only */
    const char *help;
};

extern const struct mf_config_key mf_config_keys[];
extern const size_t mf_config_key_count;

#ifdef __cplusplus
}
#endif

#endif
