/* Routing: reading and checking the rules, and choosing among them. */
#include "server/routing.h"

#include "dicom/study.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 1 << 20, MAX_RULES = 256, MAX_NAME = 64 };

/* What a pattern of `match` is compared with. */
enum subject {
    MODALITY,
    BODY_PART,
    STUDY_DESCRIPTION,
    SERIES_DESCRIPTION,
    CALLING,
    CALLED,
    SUBJECTS
};

static const char *const SUBJECT_NAMES[SUBJECTS + 1] = {
    "modality", "body_part", "study_description", "series_description", "calling", "called", NULL};

struct rule {
    struct mf_route route;
    const char *tenant;
    const json_t *patterns[SUBJECTS]; /* a string or an array of strings; NULL = anything */
};

struct mf_routing {
    json_t *file; /* owns every string */
    struct rule rules[MAX_RULES];
    size_t count;
};

/* --- reading --- */

static bool is_texts(const json_t *value)
{
    size_t i;
    const json_t *item;
    json_array_foreach(value, i, item)
    {
        if (!json_is_string(item))
            return false;
    }
    return json_is_string(value) || (json_is_array(value) && json_array_size(value) > 0);
}

static bool read_match(struct rule *rule, const json_t *match, struct mf_error *err)
{
    if (!match)
        return true;
    if (!json_is_object(match))
        return mf_error_set(err, MF_ERR_USAGE, "\"match\" must be an object");
    if (!mf_json_only_keys(match, SUBJECT_NAMES, "match", MF_ERR_USAGE, err))
        return false;
    for (size_t i = 0; i < SUBJECTS; i++) {
        rule->patterns[i] = json_object_get(match, SUBJECT_NAMES[i]);
        if (rule->patterns[i] && !is_texts(rule->patterns[i]))
            return mf_error_set(err, MF_ERR_USAGE, "\"%s\" must be a string or a list of strings",
                                SUBJECT_NAMES[i]);
    }
    return true;
}

static bool read_route(struct rule *rule, const json_t *object, struct mf_error *err)
{
    static const char *const keys[] = {"name",         "tenant",   "match", "model",
                                       "destinations", "priority", NULL};
    struct mf_route *r = &rule->route;
    const json_t *model = json_object_get(object, "model");
    const json_t *priority = json_object_get(object, "priority");
    const json_t *tenant = json_object_get(object, "tenant");
    if (!mf_json_only_keys(object, keys, "rule", MF_ERR_USAGE, err))
        return false;
    r->model = json_string_value(model);
    r->destinations = json_object_get(object, "destinations");
    rule->tenant = tenant ? json_string_value(tenant) : MF_TENANT_DEFAULT;
    if (model && !r->model)
        return mf_error_set(err, MF_ERR_USAGE, "\"model\" must be the name of a model");
    if (!rule->tenant)
        return mf_error_set(err, MF_ERR_USAGE, "\"tenant\" must be the name of a tenant");
    if (r->destinations && (!json_is_array(r->destinations) ||
                            (json_array_size(r->destinations) && !is_texts(r->destinations))))
        return mf_error_set(err, MF_ERR_USAGE, "\"destinations\" must be a list of addresses");
    r->has_priority = priority != NULL;
    if (priority && (!json_is_string(priority) ||
                     !mf_priority_parse(json_string_value(priority), &r->priority)))
        return mf_error_set(err, MF_ERR_USAGE, "\"priority\" must be stat, urgent or routine");
    return true;
}

static bool read_rule(struct mf_routing *routing, const json_t *object, struct mf_error *err)
{
    struct rule *rule = &routing->rules[routing->count];
    struct mf_error problem = MF_ERROR_INIT;
    const char *name = mf_json_get_string(object, "name", "");
    if (!*name || strlen(name) > MAX_NAME)
        return mf_error_set(err, MF_ERR_USAGE, "rule %zu has no \"name\"", routing->count + 1);
    rule->route.name = name;
    for (size_t i = 0; i < routing->count; i++)
        if (strcmp(routing->rules[i].route.name, name) == 0)
            return mf_error_set(err, MF_ERR_USAGE, "two rules are named \"%s\"", name);
    if (!read_match(rule, json_object_get(object, "match"), &problem) ||
        !read_route(rule, object, &problem))
        return mf_error_set(err, MF_ERR_USAGE, "rule \"%s\": %s", name, problem.msg);
    routing->count++;
    return true;
}

static bool read_rules(struct mf_routing *routing, struct mf_error *err)
{
    static const char *const keys[] = {"rules", NULL};
    const json_t *rules = json_object_get(routing->file, "rules"), *rule;
    size_t i;
    if (!json_is_array(rules) || !mf_json_only_keys(routing->file, keys, "file", MF_ERR_USAGE, err))
        return mf_error_set(err, MF_ERR_USAGE, "must hold {\"rules\": […]}");
    if (json_array_size(rules) > MAX_RULES)
        return mf_error_set(err, MF_ERR_USAGE, "has more than %d rules", MAX_RULES);
    json_array_foreach(rules, i, rule)
    {
        if (!read_rule(routing, rule, err))
            return false;
    }
    return true;
}

struct mf_routing *mf_routing_load(const char *path, struct mf_error *err)
{
    static const struct mf_json_limits limits = {FILE_BYTES, 8};
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_routing) struct mf_routing *routing = calloc(1, sizeof *routing);
    if (!routing) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for routing rules");
        return NULL;
    }
    if (strcmp(path, "off") == 0)
        return MF_STEAL(routing);
    if (!(routing->file = mf_json_read_file(path, &limits, &problem))) {
        mf_error_set(err, MF_ERR_USAGE, "routing.rules: %s", problem.msg);
        return NULL;
    }
    if (!read_rules(routing, &problem)) {
        mf_error_set(err, MF_ERR_USAGE, "routing.rules: %s: %s", path, problem.msg);
        return NULL;
    }
    return MF_STEAL(routing);
}

void mf_routing_free(struct mf_routing *routing)
{
    if (!routing)
        return;
    json_decref(routing->file);
    free(routing);
}

/* --- checking against what there is --- */

bool mf_destination_known(const struct mf_config *config, const char *tenant, const char *address)
{
    const char *at = strcmp(config->outbox.destinations, "off") ? config->outbox.destinations : "";
    while (*(at += strspn(at, " "))) {
        size_t len = strcspn(at, " "), name = strcspn(at, "=:/ ");
        bool named = name < len && at[name] == '=';
        const char *begin = named ? at + name + 1 : at, *owner = named ? at : MF_TENANT_DEFAULT;
        size_t owner_len = named ? name : strlen(owner), left = len - (size_t)(begin - at);
        if (strlen(tenant) == owner_len && memcmp(tenant, owner, owner_len) == 0 &&
            strlen(address) == left && memcmp(address, begin, left) == 0)
            return true;
        at += len;
    }
    return false;
}

static bool check_rule(const struct rule *rule, const struct mf_config *config,
                       const struct mf_registry *registry, struct mf_error *err)
{
    const struct mf_route *r = &rule->route;
    const json_t *address;
    size_t i;
    if (r->model && mf_registry_find(registry, r->model) < 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "routing.rules: rule \"%s\": there is no model named %.64s", r->name,
                            r->model);
    json_array_foreach(r->destinations, i, address)
    {
        if (!mf_destination_known(config, rule->tenant, json_string_value(address)))
            return mf_error_set(
                err, MF_ERR_USAGE,
                "routing.rules: rule \"%s\": \"%.80s\" is not in outbox.destinations of the tenant",
                r->name, json_string_value(address));
    }
    return true;
}

bool mf_routing_check(const struct mf_routing *routing, const struct mf_config *config,
                      const struct mf_registry *registry, struct mf_error *err)
{
    for (size_t i = 0; i < routing->count; i++)
        if (!check_rule(&routing->rules[i], config, registry, err))
            return false;
    return true;
}

/* --- choosing --- */

static bool fits_one(const json_t *pattern, const char *value)
{
    const char *text = json_string_value(pattern);
    if (!*text)
        return !value || !*value;
    return value && fnmatch(text, value, FNM_CASEFOLD | FNM_NOESCAPE) == 0;
}

static bool fits(const json_t *pattern, const char *value)
{
    const json_t *one;
    size_t i;
    if (!pattern)
        return true;
    if (json_is_string(pattern))
        return fits_one(pattern, value);
    json_array_foreach(pattern, i, one)
    {
        if (fits_one(one, value))
            return true;
    }
    return false;
}

static bool fits_object(const struct rule *rule, const struct mf_index_object *o,
                        const struct mf_route_origin *origin)
{
    const char *const values[SUBJECTS] = {
        [MODALITY] = o->modality,
        [BODY_PART] = o->body_part,
        [STUDY_DESCRIPTION] = o->study_description,
        [SERIES_DESCRIPTION] = o->series_description,
        [CALLING] = origin->calling,
        [CALLED] = origin->called,
    };
    for (size_t i = 0; i < SUBJECTS; i++)
        if (!fits(rule->patterns[i], values[i]))
            return false;
    return true;
}

static const struct mf_route *choose(const struct mf_routing *routing, const struct mf_study *study,
                                     const struct mf_route_origin *origin)
{
    for (size_t i = 0; i < routing->count; i++) {
        const struct rule *rule = &routing->rules[i];
        if (strcmp(rule->tenant, origin->tenant) != 0)
            continue;
        for (size_t k = 0; k < study->object_count; k++)
            if (study->objects[k]->pixel_data != MF_PIXEL_DATA_NONE &&
                fits_object(rule, study->objects[k], origin))
                return &rule->route;
    }
    return NULL;
}

const struct mf_route *mf_routing_choose(const struct mf_routing *routing,
                                         const struct mf_index *index,
                                         const struct mf_route_origin *origin)
{
    struct mf_error unreadable = MF_ERROR_INIT; /* the plan will tell what is wrong */
    size_t patients = 0;
    if (routing->count == 0)
        return NULL;
    MF_AUTO(mf_study_list)
    struct mf_study_list *list = mf_study_list_new(index, NULL, &unreadable);
    const struct mf_study_patient *p = list ? mf_study_list_patients(list, &patients) : NULL;
    for (size_t i = patients == 1 ? p->study_count : 0; i-- > 0;)
        if (p->studies[i].usable)
            return choose(routing, &p->studies[i], origin);
    return NULL;
}

struct mf_route_titles mf_route_titles(const char *source, const char *main)
{
    static const char PREFIX[] = "dimse:";
    struct mf_route_titles t = {"", ""};
    if (strncmp(source, PREFIX, strlen(PREFIX)) != 0)
        return t;
    const char *calling = source + strlen(PREFIX), *called = strchr(calling, '\\');
    int len = called ? (int)(called - calling) : (int)strlen(calling);
    snprintf(t.calling, sizeof t.calling, "%.*s", len, calling);
    snprintf(t.called, sizeof t.called, "%s", called ? called + 1 : main);
    return t;
}
