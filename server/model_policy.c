/* Which bundles may run here. */
#include "server/model_policy.h"

#include "server/signature.h"

#include "core/json.h"
#include "core/outfile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FILE_BYTES = 1 << 20 };

static const char SCHEMA[] = "medfusion.models/1";

/* --- versions: three numbers, as the bundle's schema demands --- */

static int compare_versions(const char *a, const char *b)
{
    for (int i = 0; i < 3; i++) {
        char *end_a, *end_b;
        unsigned long long x = strtoull(a, &end_a, 10), y = strtoull(b, &end_b, 10);
        if (x != y)
            return x < y ? -1 : 1;
        a = *end_a ? end_a + 1 : end_a;
        b = *end_b ? end_b + 1 : end_b;
    }
    return 0;
}

/* The highest version of each model so far: {"schema", "highest": {NAME: VERSION}}. */
static json_t *read_highest(const char *path, struct mf_error *err)
{
    static const struct mf_json_limits limits = {FILE_BYTES, 4};
    if (access(path, F_OK) != 0)
        return json_object();
    MF_AUTO(mf_json) json_t *root = mf_json_read_file(path, &limits, err);
    json_t *highest = root ? mf_json_need_object(root, "highest", err) : NULL;
    return json_incref(highest);
}

static void name_file(const struct mf_config *config, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/models.json", config->data.directory);
}

/* --- checking --- */

static bool check_one(const struct mf_config *config, const struct mf_registry *registry, size_t i,
                      const json_t *highest, struct mf_error *err)
{
    const char *dir = config->models.directories.items[i];
    const struct mf_string_list *keys = &config->models.trusted_keys;
    char digest[MF_SHA256_HEX];
    struct mf_model_info info;
    mf_registry_info(registry, i, &info);
    if (!mf_signature_verify(dir, keys->items, keys->count, digest, err))
        return false;
    if (strcmp(digest, info.digest) != 0)
        return mf_error_set(err, MF_ERR_MODEL, "%s: the manifest changed while it was opened", dir);
    const char *before = mf_json_get_string(highest, info.name, NULL);
    return !before || compare_versions(info.version, before) >= 0 ||
           mf_error_set(err, MF_ERR_MODEL,
                        "%s: version %.20s of %.60s is older than %.20s, which has run here", dir,
                        info.version, info.name, before);
}

static bool check(const struct mf_config *config, const struct mf_registry *registry,
                  struct mf_error *err)
{
    char path[PATH_BYTES];
    name_file(config, path);
    MF_AUTO(mf_json) json_t *highest = read_highest(path, err);
    if (!highest)
        return false;
    for (size_t i = 0; i < config->models.directories.count; i++)
        if (!check_one(config, registry, i, highest, err))
            return false;
    return true;
}

struct mf_registry *mf_model_policy_open(const struct mf_config *config,
                                         const struct mf_registry_device *device,
                                         struct mf_error *err)
{
    const struct mf_string_list *list = &config->models.directories;
    MF_AUTO(mf_registry)
    struct mf_registry *registry = mf_registry_open(list->items, list->count, device, err);
    if (!registry || (config->models.trusted_keys.count && !check(config, registry, err)))
        return NULL;
    return MF_STEAL(registry);
}

/* --- writing down --- */

static bool write_highest(const char *path, json_t *highest, struct mf_error *err)
{
    struct mf_outfile out;
    MF_AUTO(mf_json)
    json_t *root = json_pack("{s:s, s:O}", "schema", SCHEMA, "highest", highest);
    MF_AUTO(mf_mem) char *text = root ? mf_json_text(root, 2) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for models.json");
    if (!mf_outfile_open(&out, path, err))
        return false;
    fprintf(out.file, "%s\n", text);
    return mf_outfile_commit(&out, err);
}

bool mf_model_policy_record(const struct mf_config *config, const struct mf_registry *registry,
                            struct mf_error *err)
{
    char path[PATH_BYTES];
    bool changed = false;
    if (config->models.trusted_keys.count == 0)
        return true;
    name_file(config, path);
    MF_AUTO(mf_json) json_t *highest = read_highest(path, err);
    for (size_t i = 0; highest && i < mf_registry_count(registry); i++) {
        struct mf_model_info info;
        mf_registry_info(registry, i, &info);
        const char *before = mf_json_get_string(highest, info.name, NULL);
        if (before && compare_versions(info.version, before) <= 0)
            continue;
        changed = true;
        if (json_object_set_new(highest, info.name, json_string(info.version)) != 0)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for models.json");
    }
    return highest && (!changed || write_highest(path, highest, err));
}
