/* References by urn:uuid hold inside their Bundle only; a resource that is read alone refers to
 * others by where they can be read. */
#include "fhir/links.h"

/* The `fullUrl`s of the entries, each with the name it gets. NULL when out of memory. */
static json_t *names_of(const json_t *entries)
{
    json_t *names = json_object();
    for (size_t i = 0; names && i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        const json_t *resource = json_object_get(entry, "resource");
        json_t *name = json_sprintf("%s/%s", mf_json_get_string(resource, "resourceType", ""),
                                    mf_json_get_string(resource, "id", ""));
        if (json_object_set_new(names, mf_json_get_string(entry, "fullUrl", ""), name) != 0) {
            json_decref(names);
            names = NULL;
        }
    }
    return names;
}

/* As deep as the resources that report.c makes. */
static bool rename_references(json_t *value, const json_t *names)
{
    bool ok = true;
    size_t i;
    const char *key;
    json_t *member;
    json_t *name = json_object_get(names, mf_json_get_string(value, "reference", ""));
    if (name)
        ok = json_object_set(value, "reference", name) == 0;
    json_object_foreach(value, key, member) ok = ok && rename_references(member, names);
    json_array_foreach(value, i, member) ok = ok && rename_references(member, names);
    return ok;
}

bool mf_fhir_link_by_id(json_t *entries)
{
    MF_AUTO(mf_json) json_t *names = names_of(entries);
    return names && rename_references(entries, names);
}
