/*
 * GET /fhir/{type}/{id} and GET /fhir/{type}: reads and searches of stored results
 * (http://hl7.org/fhir/R4/http.html#read, #search). A resource's id begins with its job's, so a
 * read needs no table; a search goes over the results, newest first, a page at a time.
 */
#include "server/endpoints.h"
#include "server/fhir_results.h"
#include "server/web_client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_COUNT = 20, MAX_COUNT = 100 }; /* results a page */
enum { URL_BYTES = 16384 };

static const char FHIR_JSON[] = "application/fhir+json";

static const char *const READ_TYPES[] = {"DiagnosticReport", "Observation", "RiskAssessment",
                                         "Device", "Provenance"};
enum { READ_COUNT = 5, SEARCH_COUNT = 3 }; /* the first three can be searched */

static bool known_type(const char *type, size_t count, struct mf_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(READ_TYPES[i], type) == 0)
            return true;
    return mf_error_set(err, MF_ERR_NOT_FOUND, "there are no resources of this type here");
}

static const json_t *find_resource(const json_t *bundle, const char *type, const char *id)
{
    const json_t *r;
    for (size_t i = 0; (r = mf_fhir_entry_resource(bundle, i)); i++)
        if (strcmp(mf_json_get_string(r, "resourceType", ""), type) == 0 &&
            strcmp(mf_json_get_string(r, "id", ""), id) == 0)
            return r;
    return NULL;
}

/* The job that a resource's id begins with; false when it cannot be one of ours. */
static bool job_of(const char *id, char job[MF_JOB_ID])
{
    size_t n = strlen(id);
    if (n < MF_JOB_ID - 1 || (id[MF_JOB_ID - 1] && id[MF_JOB_ID - 1] != '-'))
        return false;
    memcpy(job, id, MF_JOB_ID - 1);
    job[MF_JOB_ID - 1] = '\0';
    return mf_job_id_valid(job);
}

static bool read_one(struct mf_request *request, struct mf_error *err)
{
    static const char *const NO_QUERY[] = {NULL};
    const char *type = request->parameters[0], *id = request->parameters[1];
    char job[MF_JOB_ID];
    if (!mf_request_only_query(request, NO_QUERY, err) || !known_type(type, READ_COUNT, err))
        return false;
    if (!job_of(id, job))
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such resource");
    MF_AUTO(mf_json)
    json_t *bundle = mf_fhir_result(request, job, MF_FHIR_BUNDLE_STORED, NULL, err);
    const json_t *found = find_resource(bundle, type, id);
    if (!found)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such resource");
    return mf_respond_json_take(request, 200, FHIR_JSON, json_incref((json_t *)found), err);
}

/* --- search --- */

struct search {
    const char *type, *id, *identifier, *patient;
    size_t count;
    json_t *entries;
    bool failed;
};

/* A token "system|value", "|value" or "value" against an identifier. */
static bool token_matches(const char *token, const char *system, const char *value)
{
    const char *bar = strchr(token, '|');
    if (!bar)
        return strcmp(token, value) == 0;
    return strcmp(bar + 1, value) == 0 && strlen(system) == (size_t)(bar - token) &&
           strncmp(token, system, (size_t)(bar - token)) == 0;
}

static bool wanted(void *context, const struct mf_fhir_owner *owner)
{
    const struct search *s = context;
    return !s->patient || (*owner->id && token_matches(s->patient, owner->system, owner->id));
}

static bool resource_matches(const struct search *s, const json_t *r)
{
    const json_t *ids = json_object_get(r, "identifier");
    bool found = !s->identifier;
    for (size_t i = 0; i < json_array_size(ids) && !found; i++) {
        const json_t *id = json_array_get(ids, i);
        found = token_matches(s->identifier, mf_json_get_string(id, "system", ""),
                              mf_json_get_string(id, "value", ""));
    }
    return found && strcmp(mf_json_get_string(r, "resourceType", ""), s->type) == 0 &&
           (!s->id || strcmp(mf_json_get_string(r, "id", ""), s->id) == 0);
}

/* Adds what matches; a result is never cut in two, so that a page can end behind it. */
static bool take(void *context, const struct mf_job *job, const json_t *bundle)
{
    struct search *s = context;
    const json_t *entries = json_object_get(bundle, "entry");
    (void)job;
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        json_t *r = json_object_get(entry, "resource");
        if (resource_matches(s, r) &&
            json_array_append_new(s->entries,
                                  json_pack("{s:O, s:O, s:{s:s}}", "fullUrl",
                                            json_object_get(entry, "fullUrl"), "resource", r,
                                            "search", "mode", "match")) != 0)
            s->failed = true;
    }
    return !s->failed;
}

static bool read_number(const struct mf_request *request, const char *name, int64_t max,
                        int64_t *ret, struct mf_error *err)
{
    const char *text = mf_request_query(request, name);
    if (!text)
        return true;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || !*text || *end || strspn(text, "0123456789") != strlen(text) || n < 1 || n > max)
        return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"%s\" has an invalid value",
                            name);
    *ret = n;
    return true;
}

/* The search of one page: jobs from the cursor on. With _id only one job can have it. */
static bool run(struct mf_request *request, struct search *s, int64_t cursor, int64_t *next,
                struct mf_error *err)
{
    char job[MF_JOB_ID];
    const struct mf_fhir_walk walk = {cursor, s->count, wanted, take, s};
    if (!s->id)
        return mf_fhir_walk_results(request, &walk, next, err);
    if (!job_of(s->id, job))
        return true;
    struct mf_error cause = MF_ERROR_INIT;
    MF_AUTO(mf_json)
    json_t *bundle = mf_fhir_result(request, job, MF_FHIR_BUNDLE_STORED, NULL, &cause);
    if (!bundle)
        return cause.code == MF_ERR_NOT_FOUND || mf_error_set(err, cause.code, "%s", cause.msg);
    take(s, NULL, bundle);
    return true;
}

static const char *const QUERY[] = {"_id", "_count", "_cursor", "identifier", "patient.identifier",
                                    NULL};

/* {"relation", "url"}: the same search as it was asked, or the page that begins at `cursor`. */
static json_t *link_of(struct mf_request *request, const char *relation, int64_t cursor)
{
    MF_AUTO(mf_buffer) struct mf_buffer url;
    const char *separator = "?";
    mf_buffer_init(&url, URL_BYTES);
    bool ok = mf_buffer_append_str(&url, request->path, NULL);
    for (size_t i = 0; ok && QUERY[i]; i++) {
        const char *value = mf_request_query(request, QUERY[i]);
        if (!value || (cursor && strcmp(QUERY[i], "_cursor") == 0))
            continue;
        ok = mf_buffer_printf(&url, NULL, "%s%s=", separator, QUERY[i]) &&
             mf_web_encode(&url, value, NULL);
        separator = "&";
    }
    if (ok && cursor)
        ok = mf_buffer_printf(&url, NULL, "%s_cursor=%" PRId64, separator, cursor);
    return ok ? json_pack("{s:s, s:s}", "relation", relation, "url", url.data) : NULL;
}

static json_t *links_of(struct mf_request *request, int64_t next)
{
    json_t *links = json_array();
    if (json_array_append_new(links, link_of(request, "self", 0)) != 0 ||
        (next && json_array_append_new(links, link_of(request, "next", next)) != 0)) {
        json_decref(links);
        return NULL;
    }
    return links;
}

static bool search(struct mf_request *request, struct mf_error *err)
{
    int64_t count = DEFAULT_COUNT, cursor = 0, next = 0;
    if (strcmp(request->parameters[0], "$infer") == 0) /* this pattern takes its path too */
        return mf_respond_field(request, err, "Allow", "POST") &&
               mf_error_set(err, MF_ERR_METHOD, "this method is not allowed here: POST");
    if (!known_type(request->parameters[0], SEARCH_COUNT, err) ||
        !mf_request_only_query(request, QUERY, err) ||
        !read_number(request, "_count", MAX_COUNT, &count, err) ||
        !read_number(request, "_cursor", (INT64_C(1) << 53) - 1, &cursor, err))
        return false;
    MF_AUTO(mf_json) json_t *entries = json_array();
    struct search s = {.type = request->parameters[0],
                       .id = mf_request_query(request, "_id"),
                       .identifier = mf_request_query(request, "identifier"),
                       .patient = mf_request_query(request, "patient.identifier"),
                       .count = (size_t)count,
                       .entries = entries};
    if (!run(request, &s, cursor, &next, err))
        return false;
    if (s.failed)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a search");
    json_t *bundle = json_pack("{s:s, s:s, s:o}", "resourceType", "Bundle", "type", "searchset",
                               "link", links_of(request, next));
    if (bundle && json_array_size(entries) > 0 && json_object_set(bundle, "entry", entries) != 0) {
        json_decref(bundle);
        bundle = NULL;
    }
    return mf_respond_json_take(request, 200, FHIR_JSON, bundle, err);
}

const struct mf_endpoint mf_endpoint_fhir_read = {
    .method = "GET", .pattern = "/fhir/{type}/{id}", .handle = read_one};
const struct mf_endpoint mf_endpoint_fhir_search = {
    .method = "GET", .pattern = "/fhir/{type}", .handle = search};
