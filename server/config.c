/* Configuration: the three ways to set keys (config_keys.c), and what is told of them. */
#include "server/config_keys.h"

#include "core/json.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST = 256, CONFIG_BYTES = 1 << 20 };

static const struct mf_config_key *find_key(const char *name)
{
    for (size_t i = 0; i < mf_config_key_count; i++)
        if (strcmp(mf_config_keys[i].name, name) == 0)
            return &mf_config_keys[i];
    return NULL;
}

bool mf_config_has_database(const struct mf_config *config)
{
    return strcmp(config->store.database, "off") != 0 ||
           strcmp(config->store.database_file, "off") != 0;
}

bool mf_config_database(const struct mf_config *config, char **ret, struct mf_error *err)
{
    const char *file = config->store.database_file;
    *ret = NULL;
    if (!mf_config_has_database(config))
        return true;
    if (strcmp(config->store.database, "off") != 0) {
        if (strcmp(file, "off") != 0)
            return mf_error_set(err, MF_ERR_USAGE,
                                "store.database: store.database_file is set, too: one of them");
        *ret = strdup(config->store.database);
    } else {
        MF_AUTO(mf_buffer) struct mf_buffer text;
        mf_buffer_init(&text, 64 << 10);
        if (!mf_buffer_read_file(&text, file, err))
            return mf_error_prefix(err, "store.database_file");
        *ret = strndup(text.data ? text.data : "", strcspn(text.data ? text.data : "", "\r\n"));
        if (*ret && !**ret) {
            free(*ret);
            *ret = NULL;
            return mf_error_set(err, MF_ERR_USAGE,
                                "store.database_file: %s: its first line is empty", file);
        }
    }
    return *ret || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the configuration");
}

bool mf_config_has(const char *key)
{
    return key && find_key(key) != NULL;
}

/* --- storing one value; `where` names the source in messages --- */

static void *slot(struct mf_config *config, const struct mf_config_key *key)
{
    return (char *)config + key->offset;
}

static bool store_text(struct mf_config *config, const struct mf_config_key *key, const char *value,
                       const char *where, struct mf_error *err)
{
    if (!*value)
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must not be empty", where, key->name);
    char *copy = mf_arena_strdup(config->arena, value, err);
    if (!copy)
        return false;
    *(const char **)slot(config, key) = copy;
    return true;
}

static bool store_integer(struct mf_config *config, const struct mf_config_key *key, int64_t value,
                          const char *where, struct mf_error *err)
{
    if (value < key->min || value > key->max)
        return mf_error_set(err, MF_ERR_USAGE,
                            "%s: \"%s\" must lie between %" PRId64 " and %" PRId64, where,
                            key->name, key->min, key->max);
    *(int64_t *)slot(config, key) = value;
    return true;
}

static bool store_list(struct mf_config *config, const struct mf_config_key *key,
                       const char *const *items, size_t count, const char *where,
                       struct mf_error *err)
{
    if (count > MAX_LIST)
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" has more than %d entries", where,
                            key->name, MAX_LIST);
    const char **copy = mf_arena_alloc(config->arena, count + 1, sizeof *copy, err);
    if (!copy)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!(copy[i] = mf_arena_strdup(config->arena, items[i], err)))
            return false;
    *(struct mf_string_list *)slot(config, key) = (struct mf_string_list){copy, count};
    return true;
}

static bool split_list(struct mf_config *config, const struct mf_config_key *key, const char *text,
                       const char *where, struct mf_error *err)
{
    const char *items[MAX_LIST + 1] = {NULL};
    size_t count = 0;
    while (*text) {
        size_t len = strcspn(text, ":");
        if (len > 0 && count <= MAX_LIST) {
            items[count] = mf_arena_strndup(config->arena, text, len, err);
            if (!items[count++])
                return false;
        }
        text += len + (text[len] != '\0');
    }
    return store_list(config, key, items, count, where, err);
}

static bool parse_integer(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end)
        return false;
    *ret = v;
    return true;
}

static bool set_from_text(struct mf_config *config, const struct mf_config_key *key,
                          const char *text, const char *where, struct mf_error *err)
{
    int64_t number = 0;
    switch (key->type) {
    case MF_CONFIG_INTEGER:
        if (!parse_integer(text, &number))
            return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must be an integer", where,
                                key->name);
        return store_integer(config, key, number, where, err);
    case MF_CONFIG_LIST:
        return split_list(config, key, text, where, err);
    case MF_CONFIG_TEXT:
        break;
    }
    return store_text(config, key, text, where, err);
}

/* --- life --- */

struct mf_config *mf_config_new(struct mf_error *err)
{
    MF_AUTO(mf_config) struct mf_config *config = calloc(1, sizeof *config);
    if (config)
        config->arena = mf_arena_new(CONFIG_BYTES);
    if (!config || !config->arena) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the configuration");
        return NULL;
    }
    for (size_t i = 0; i < mf_config_key_count; i++)
        if (!set_from_text(config, &mf_config_keys[i], mf_config_keys[i].fallback, "default", err))
            return NULL;
    return MF_STEAL(config);
}

void mf_config_free(struct mf_config *config)
{
    if (!config)
        return;
    mf_arena_free(config->arena);
    free(config);
}

/* --- the file --- */

static bool set_from_json(struct mf_config *config, const struct mf_config_key *key,
                          const json_t *value, const char *where, struct mf_error *err)
{
    const char *items[MAX_LIST + 1] = {NULL};
    size_t i;
    const json_t *item;
    switch (key->type) {
    case MF_CONFIG_INTEGER:
        if (!json_is_integer(value))
            return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must be an integer", where,
                                key->name);
        return store_integer(config, key, json_integer_value(value), where, err);
    case MF_CONFIG_TEXT:
        if (!json_is_string(value))
            return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must be a string", where, key->name);
        return store_text(config, key, json_string_value(value), where, err);
    case MF_CONFIG_LIST:
        break;
    }
    if (!json_is_array(value) || json_array_size(value) > MAX_LIST)
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must be an array of at most %d strings",
                            where, key->name, MAX_LIST);
    json_array_foreach(value, i, item)
    {
        if (!(items[i] = json_string_value(item)))
            return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must be an array of strings", where,
                                key->name);
    }
    return store_list(config, key, items, json_array_size(value), where, err);
}

static bool load_section(struct mf_config *config, const char *section, json_t *members,
                         const char *path, struct mf_error *err)
{
    const char *name;
    json_t *value;
    char full[128];
    if (!json_is_object(members))
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" must be an object", path, section);
    json_object_foreach(members, name, value)
    {
        snprintf(full, sizeof full, "%s.%s", section, name);
        const struct mf_config_key *key = find_key(full);
        if (!key)
            return mf_error_set(err, MF_ERR_USAGE, "%s: unknown key \"%s\"", path, full);
        if (!set_from_json(config, key, value, path, err))
            return false;
    }
    return true;
}

bool mf_config_load_file(struct mf_config *config, const char *path, struct mf_error *err)
{
    struct mf_error detail = MF_ERROR_INIT;
    const struct mf_json_limits limits = {CONFIG_BYTES, 8};
    MF_AUTO(mf_json) json_t *root = mf_json_read_file(path, &limits, &detail);
    if (!root)
        return mf_error_set(err, MF_ERR_USAGE, "%s", detail.msg);
    if (!json_is_object(root))
        return mf_error_set(err, MF_ERR_USAGE, "%s: must hold a JSON object", path);
    const char *section;
    json_t *members;
    json_object_foreach(root, section, members)
    {
        if (!load_section(config, section, members, path, err))
            return false;
    }
    return true;
}

/* --- environment and command line --- */

static const char PREFIX[] = "MEDFUSION_";

/* "http.listen" → "MEDFUSION_HTTP_LISTEN" */
static void environment_name(const struct mf_config_key *key, char out[128])
{
    snprintf(out, 128, "%s%s", PREFIX, key->name);
    for (char *s = out; *s; s++)
        *s = (char)(*s == '.' ? '_' : toupper((unsigned char)*s));
}

bool mf_config_load_environment(struct mf_config *config, char *const *environment,
                                struct mf_error *err)
{
    for (; *environment; environment++) {
        const char *entry = *environment;
        const char *equals = strchr(entry, '=');
        if (strncmp(entry, PREFIX, strlen(PREFIX)) != 0 || !equals)
            continue;
        const struct mf_config_key *key = NULL;
        char name[128] = "";
        for (size_t i = 0; i < mf_config_key_count && !key; i++) {
            environment_name(&mf_config_keys[i], name);
            if (strlen(name) == (size_t)(equals - entry) && memcmp(name, entry, strlen(name)) == 0)
                key = &mf_config_keys[i];
        }
        if (!key)
            return mf_error_set(err, MF_ERR_USAGE, "environment: unknown key \"%.*s\"",
                                (int)(equals - entry < 100 ? equals - entry : 100), entry);
        if (!set_from_text(config, key, equals + 1, name, err))
            return false;
    }
    return true;
}

bool mf_config_set(struct mf_config *config, const char *name, const char *value,
                   struct mf_error *err)
{
    const struct mf_config_key *key = find_key(name);
    if (!key)
        return mf_error_set(err, MF_ERR_USAGE, "command line: unknown key \"%s\"", name);
    return set_from_text(config, key, value, "command line", err);
}

void mf_config_each_text(const struct mf_config *config,
                         void (*visit)(void *context, const char *key, const char *text),
                         void *context)
{
    for (size_t i = 0; i < mf_config_key_count; i++) {
        const void *value = (const char *)config + mf_config_keys[i].offset;
        const struct mf_string_list *list = value;
        if (mf_config_keys[i].type == MF_CONFIG_TEXT)
            visit(context, mf_config_keys[i].name, *(const char *const *)value);
        for (size_t k = 0; mf_config_keys[i].type == MF_CONFIG_LIST && k < list->count; k++)
            visit(context, mf_config_keys[i].name, list->items[k]);
    }
}

/* --- another configuration for a daemon that runs --- */

/* What the supervisor and the store, which stay, have been started with; no list is among it. */
static const char *const FIXED[] = {
    "data.keys",           "http.listen",       "dimse.listen",        "data.directory",
    "worker.count",        "jobs.lease_s",      "jobs.max_crashes",    "jobs.max_losses",
    "jobs.retention_s",    "audit.retention_s", "outbox.destinations", "store.database",
    "store.database_file", "jobs.shares"};

static bool same_value(const struct mf_config *a, const struct mf_config *b,
                       const struct mf_config_key *key)
{
    const void *x = (const char *)a + key->offset, *y = (const char *)b + key->offset;
    return key->type == MF_CONFIG_INTEGER
               ? *(const int64_t *)x == *(const int64_t *)y
               : strcmp(*(const char *const *)x, *(const char *const *)y) == 0;
}

bool mf_config_check_reload(const struct mf_config *old, const struct mf_config *wanted,
                            struct mf_error *err)
{
    for (size_t i = 0; i < sizeof FIXED / sizeof *FIXED; i++)
        if (!same_value(old, wanted, find_key(FIXED[i])))
            return mf_error_set(err, MF_ERR_USAGE,
                                "%s: cannot change while the daemon runs; start it again",
                                FIXED[i]);
    bool tls = strcmp(old->http.tls_certificate, "off") != 0;
    return tls == (strcmp(wanted->http.tls_certificate, "off") != 0) ||
           mf_error_set(err, MF_ERR_USAGE,
                        "http.tls_certificate: TLS cannot be turned on or off while the daemon "
                        "runs; start it again");
}

/* --- documentation --- */

static const char *type_name(enum mf_config_type type)
{
    return type == MF_CONFIG_INTEGER ? "integer" : type == MF_CONFIG_LIST ? "list" : "string";
}

bool mf_config_help(struct mf_buffer *out, struct mf_error *err)
{
    if (!mf_buffer_append_str(
            out,
            "| key | environment | type | default | range | meaning |\n|---|---|---|---|---|---|\n",
            err))
        return false;
    for (size_t i = 0; i < mf_config_key_count; i++) {
        const struct mf_config_key *key = &mf_config_keys[i];
        char variable[128], range[64] = "";
        environment_name(key, variable);
        if (key->type == MF_CONFIG_INTEGER)
            snprintf(range, sizeof range, "%" PRId64 "–%" PRId64, key->min, key->max);
        if (!mf_buffer_printf(out, err, "| `%s` | `%s` | %s | `%s` | %s | %s |\n", key->name,
                              variable, type_name(key->type),
                              key->type == MF_CONFIG_LIST ? "[]" : key->fallback, range, key->help))
            return false;
    }
    return true;
}

bool mf_config_example(struct mf_buffer *out, struct mf_error *err)
{
    const char *section = "";
    size_t section_len = 0;
    for (size_t i = 0; i < mf_config_key_count; i++) {
        const struct mf_config_key *key = &mf_config_keys[i];
        size_t len = strcspn(key->name, ".");
        bool same = len == section_len && memcmp(section, key->name, len) == 0;
        const char *quote = key->type == MF_CONFIG_TEXT ? "\"" : "";
        const char *before = i == 0 ? "{\n" : same ? ",\n" : "\n  },\n";
        if (!mf_buffer_append_str(out, before, err) ||
            (!same && !mf_buffer_printf(out, err, "  \"%.*s\": {\n", (int)len, key->name)) ||
            !mf_buffer_printf(out, err, "    \"%s\": %s%s%s", key->name + len + 1, quote,
                              key->type == MF_CONFIG_LIST ? "[]" : key->fallback, quote))
            return false;
        section = key->name;
        section_len = len;
    }
    return mf_buffer_append_str(out, "\n  }\n}\n", err);
}
