/* Options of a job: destinations. */
#include "server/job_options.h"

#include <string.h>

bool mf_job_options_check(const json_t *options, const struct mf_config *config, const char *tenant,
                          struct mf_error *err)
{
    const json_t *address;
    size_t i;
    if (json_object_get(options, "priors_unavailable"))
        return mf_error_set(err, MF_ERR_UNUSABLE, "options: unknown key \"priors_unavailable\"");
    json_array_foreach(json_object_get(options, "destinations"), i, address)
    {
        const char *text = json_string_value(address);
        if (!text || !mf_destination_known(config, tenant, text))
            return mf_error_set(err, MF_ERR_UNUSABLE,
                                "options: \"destinations\" must be of outbox.destinations");
    }
    return true;
}

const char *mf_job_options_route(const char *options, const struct mf_route *route,
                                 struct mf_arena *arena, struct mf_error *err)
{
    if (!route || !route->destinations)
        return options;
    MF_AUTO(mf_json)
    json_t *json = mf_json_parse(options, strlen(options), NULL, "options", err);
    if (!json || json_object_get(json, "destinations"))
        return json ? options : NULL;
    MF_AUTO(mf_json) json_t *destinations = json_deep_copy(route->destinations);
    MF_AUTO(mf_mem)
    char *text =
        json_object_set(json, "destinations", destinations) == 0 ? mf_json_text(json, 0) : NULL;
    if (text)
        return mf_arena_strdup(arena, text, err);
    mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for options");
    return NULL;
}
