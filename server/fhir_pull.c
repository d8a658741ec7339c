/* FHIR pull: whose data, which searches, page after page. */
#include "server/fhir_pull.h"

#include "core/arena.h"
#include "core/clock.h"
#include "engine/bundle.h"
#include "server/fhir_queries.h"
#include "server/web_client.h"

#include <string.h>

enum {
    ARENA_BYTES = 8 << 20,
    URL_BYTES = 8192,
    MAX_PAGES = 1000,
    MAX_SETS = 64,
    SMALL_ANSWER = 1 << 20,
    ID = 65,
    REFERENCE = 80
};

struct pull {
    struct mf_fhir_client *client;
    long server;
    struct mf_arena *arena;
    struct mf_fhir_wanted wanted;
    struct mf_buffer *out;
};

/* --- references --- */

/* The id in "Patient/1", "1", or an address of this server that ends so; NULL for anything else. */
static const char *id_of(const struct mf_fhir_server *server, const char *type, const char *text,
                         char id[ID])
{
    if (mf_fhir_server_owns(server, text) && text[strlen(server->url)] == '/')
        text += strlen(server->url) + 1;
    size_t len = strlen(type);
    if (strncmp(text, type, len) == 0 && text[len] == '/')
        text += len + 1;
    len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.");
    if (len == 0 || len > 64 || strspn(text, ".") == len ||
        (text[len] && strncmp(text + len, "/_history/", 10) != 0))
        return NULL;
    snprintf(id, ID, "%.*s", (int)len, text);
    return id;
}

/* --- answers --- */

static bool append_url(struct mf_buffer *url, const struct mf_fhir_server *server,
                       const char *relative, struct mf_error *err)
{
    return mf_buffer_printf(url, err, "%s/%s", server->url, relative);
}

static json_t *parse(const struct mf_buffer *answer, struct mf_error *err)
{
    const struct mf_json_limits limits = {answer->ceiling, 64};
    struct mf_error reason = MF_ERROR_INIT;
    json_t *json = mf_json_parse(answer->data ? answer->data : "", answer->len, &limits,
                                 "the FHIR server's answer", &reason);
    if (!json) /* not the client's mistake */
        mf_error_set(err, MF_ERR_UNAVAILABLE, "%s", reason.msg);
    return json;
}

/* One resource of the server by its relative address. The caller owns it. */
static json_t *read_json(struct mf_fhir_client *client, long server, const char *relative,
                         struct mf_buffer *answer, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer url;
    mf_buffer_init(&url, URL_BYTES);
    if (!append_url(&url, mf_fhir_client_server(client, server), relative, err) ||
        !mf_fhir_client_get(client, server, url.data, answer, err))
        return NULL;
    return parse(answer, err);
}

static bool is_type(const json_t *resource, const char *type)
{
    return strcmp(mf_json_get_string(resource, "resourceType", ""), type) == 0;
}

/* Appends one resource or page; a line break keeps it apart from the next. */
static bool keep(const struct pull *p, const struct mf_buffer *page, struct mf_error *err)
{
    struct mf_error full = MF_ERROR_INIT;
    if (mf_buffer_append(p->out, page->data, page->len, &full) &&
        mf_buffer_append_str(p->out, "\n", &full))
        return true;
    return mf_error_set(err, full.code, "the FHIR server has more about the patient than %zu bytes",
                        p->out->ceiling);
}

/* The address of the page after this one, or "" at the end. */
static bool next_page(const struct mf_fhir_server *server, const json_t *page,
                      struct mf_buffer *url, struct mf_error *err)
{
    size_t i;
    const json_t *link;
    mf_buffer_clear(url);
    json_array_foreach(json_object_get(page, "link"), i, link)
    {
        const char *to = mf_json_get_string(link, "url", "");
        if (strcmp(mf_json_get_string(link, "relation", ""), "next") != 0)
            continue;
        return strstr(to, "://") ? mf_buffer_append_str(url, to, err)
                                 : append_url(url, server, to, err);
    }
    return true;
}

/* All pages of a search. */
static bool pull_pages(const struct pull *p, const char *relative, struct mf_error *err)
{
    const struct mf_fhir_server *server = mf_fhir_client_server(p->client, p->server);
    MF_AUTO(mf_buffer) struct mf_buffer url, page;
    mf_buffer_init(&url, URL_BYTES);
    mf_buffer_init(&page, p->out->ceiling);
    if (!append_url(&url, server, relative, err))
        return false;
    for (int n = 0; url.len > 0; n++) {
        if (n == MAX_PAGES)
            return mf_error_set(err, MF_ERR_TOO_LARGE, "the FHIR server gives more than %d pages",
                                MAX_PAGES);
        if (!mf_fhir_client_get(p->client, p->server, url.data, &page, err))
            return false;
        MF_AUTO(mf_json) json_t *json = parse(&page, err);
        if (!json)
            return false;
        if (!is_type(json, "Bundle"))
            return mf_error_set(err, MF_ERR_UNAVAILABLE,
                                "the FHIR server's answer to a search is not a Bundle");
        if (!keep(p, &page, err) || !next_page(server, json, &url, err))
            return false;
    }
    return true;
}

/* --- whose data --- */

bool mf_fhir_find(struct mf_fhir_client *client, long server, const char *patient_id,
                  char ret[REFERENCE], bool *ret_found, struct mf_error *err)
{
    const struct mf_fhir_server *s = mf_fhir_client_server(client, server);
    MF_AUTO(mf_buffer) struct mf_buffer query, answer;
    size_t i, count = 0;
    const json_t *entry;
    char id[ID];
    mf_buffer_init(&query, URL_BYTES);
    mf_buffer_init(&answer, SMALL_ANSWER);
    *ret_found = false;
    if (!mf_buffer_append_str(&query, "Patient?identifier=", err) ||
        (s->identifier_system && (!mf_web_encode(&query, s->identifier_system, err) ||
                                  !mf_buffer_append_str(&query, "%7C", err))) ||
        !mf_web_encode(&query, patient_id, err) || !mf_buffer_append_str(&query, "&_count=10", err))
        return false;
    MF_AUTO(mf_json) json_t *page = read_json(client, server, query.data, &answer, err);
    if (!page)
        return false;
    json_array_foreach(json_object_get(page, "entry"), i, entry)
    {
        const json_t *resource = json_object_get(entry, "resource");
        if (is_type(resource, "Patient") &&
            id_of(s, "Patient", mf_json_get_string(resource, "id", ""), id)) {
            snprintf(ret, REFERENCE, "Patient/%s", id);
            count++;
        }
    }
    *ret_found = count == 1;
    return true;
}

/* The patient that an encounter is of. */
static bool patient_of_encounter(const struct pull *p, const char *encounter, char id[ID],
                                 struct mf_error *err)
{
    const struct mf_fhir_server *server = mf_fhir_client_server(p->client, p->server);
    char own[ID], relative[REFERENCE + 16];
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    mf_buffer_init(&answer, SMALL_ANSWER);
    if (!id_of(server, "Encounter", encounter, own))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "\"encounter\" is not a reference to an Encounter");
    snprintf(relative, sizeof relative, "Encounter/%s", own);
    MF_AUTO(mf_json) json_t *found = read_json(p->client, p->server, relative, &answer, err);
    if (!found)
        return mf_error_prefix(err, "the encounter");
    const char *subject = mf_json_get_string(json_object_get(found, "subject"), "reference", "");
    return id_of(server, "Patient", subject, id) ||
           mf_error_set(err, MF_ERR_UNUSABLE, "the encounter names no patient of its server");
}

static bool find_patient(const struct mf_fhir_pull *from, const struct pull *p, char id[ID],
                         struct mf_error *err)
{
    const struct mf_fhir_server *server = mf_fhir_client_server(p->client, p->server);
    bool found = false;
    if (from->patient)
        return id_of(server, "Patient", from->patient, id) ||
               mf_error_set(err, MF_ERR_UNUSABLE, "\"patient\" is not a reference to a Patient");
    if (from->encounter)
        return patient_of_encounter(p, from->encounter, id, err);
    char reference[REFERENCE];
    if (!mf_fhir_find(p->client, p->server, from->patient_id, reference, &found, err))
        return mf_error_prefix(err, "looking for the patient");
    return (found && id_of(server, "Patient", reference, id)) ||
           mf_error_set(err, MF_ERR_NOT_FOUND,
                        "not exactly one Patient of the FHIR server has the study's PatientID");
}

/* --- what --- */

/* The definitions of the bundle that will run, or of all that may. */
static bool find_sets(const struct mf_fhir_pull *from, const struct mf_feature_set **sets,
                      struct mf_fhir_wanted *w, struct mf_error *err)
{
    long only = from->model && *from->model ? mf_registry_find(from->registry, from->model) : -1;
    if (from->model && *from->model && only < 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "there is no model \"%.100s\"", from->model);
    for (size_t i = 0; i < mf_registry_count(from->registry); i++) {
        const struct mf_feature_set *set =
            mf_bundle_features(mf_registry_bundle(from->registry, i));
        if (set && (only < 0 || (size_t)only == i) && w->set_count < MAX_SETS)
            sets[w->set_count++] = set;
    }
    w->sets = sets;
    return true;
}

static bool pull_patient(const struct pull *p, struct mf_error *err)
{
    char relative[REFERENCE + 16];
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    mf_buffer_init(&answer, p->out->ceiling);
    snprintf(relative, sizeof relative, "Patient/%s", p->wanted.patient);
    MF_AUTO(mf_json) json_t *found = read_json(p->client, p->server, relative, &answer, err);
    if (!found)
        return mf_error_prefix(err, "the patient");
    if (!is_type(found, "Patient"))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the FHIR server's answer is not a Patient");
    return keep(p, &answer, err);
}

static bool pull_searches(const struct pull *p, struct mf_error *err)
{
    const char *const *queries = NULL;
    size_t n = 0;
    if (!pull_patient(p, err) || !mf_fhir_queries(&p->wanted, p->arena, &queries, &n, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!pull_pages(p, queries[i], err))
            return mf_error_prefix(err, "searching %.*s", (int)strcspn(queries[i], "?"),
                                   queries[i]);
    return true;
}

static bool pull_all(const struct pull *p, struct mf_error *err)
{
    const char *everything = NULL;
    struct mf_error problem = MF_ERROR_INIT;
    size_t begin = p->out->len;
    if (mf_fhir_client_server(p->client, p->server)->everything &&
        !mf_fhir_everything(&p->wanted, p->arena, &everything, err))
        return false;
    if (!everything)
        return pull_searches(p, err);
    if (pull_pages(p, everything, &problem))
        return true;
    if (problem.code != MF_ERR_TOO_LARGE && problem.code != MF_ERR_UNUSABLE)
        return mf_error_set(err, problem.code, "$everything: %s", problem.msg);
    p->out->len = begin; /* only what is needed, then */
    return pull_searches(p, err);
}

bool mf_fhir_pull(const struct mf_fhir_pull *from, struct mf_buffer *out, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    const struct mf_feature_set *sets[MAX_SETS];
    struct mf_time ignored;
    char id[ID];
    struct pull p = {.client = from->client, .arena = arena, .out = out};
    p.wanted.as_of = from->as_of;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a FHIR pull");
    if (from->as_of && !mf_time_parse_fhir(from->as_of, &ignored, NULL))
        return mf_error_set(err, MF_ERR_UNUSABLE, "\"as_of\" is not a dateTime");
    if ((p.server = mf_fhir_client_find(from->client, from->server, err)) < 0 ||
        !find_sets(from, sets, &p.wanted, err) || !find_patient(from, &p, id, err))
        return false;
    p.wanted.patient = id;
    MF_AUTO(mf_json) json_t *capabilities = mf_fhir_client_capabilities(p.client, p.server);
    p.wanted.capabilities = capabilities;
    return pull_all(&p, err);
}
