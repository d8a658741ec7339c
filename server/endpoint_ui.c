/*
 * GET /ui/…: the page, from files compiled in; GET /schemas/…: the JSON Schemas; GET / leads to the
 * page. Nothing here is anybody's data: it may be cached, and is asked for again by its entity tag.
 */
#include "server/embedded.h"
#include "server/endpoints.h"

#include "core/json.h"

#include <string.h>

/* The page runs its own scripts and styles and talks to its own server, nothing else. Pictures are
 * fetched (with the caller's token) and shown from memory. */
static const char POLICY[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const struct mf_embedded_file *mf_embedded_find(const struct mf_embedded_file *files, size_t count,
                                                const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

static bool give(struct mf_request *request, const struct mf_embedded_file *file,
                 struct mf_error *err)
{
    if (!file)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is nothing at this path");
    if (!mf_respond_field(request, err, "ETag", "%s", file->etag) ||
        !mf_respond_field(request, err, "Cache-Control", "no-cache"))
        return false;
    const char *held = mf_request_header(request, "If-None-Match");
    if (held && strstr(held, file->etag))
        mf_respond_empty(request, 304);
    else
        mf_respond_static(request, 200, file->content_type, file->data, file->size);
    return true;
}

static bool get_page_file(struct mf_request *request, struct mf_error *err)
{
    const char *name = request->parameters[0] ? request->parameters[0] : "index.html";
    return mf_respond_field(request, err, "Content-Security-Policy", "%s", POLICY) &&
           mf_respond_field(request, err, "Referrer-Policy", "no-referrer") &&
           mf_respond_field(request, err, "Cross-Origin-Opener-Policy", "same-origin") &&
           give(request, mf_embedded_find(mf_ui_files, mf_ui_files_count, name), err);
}

static bool lead_to_page(struct mf_request *request, struct mf_error *err)
{
    if (!mf_respond_field(request, err, "Location", "/ui/"))
        return false;
    mf_respond_empty(request, 308);
    return true;
}

static bool list_schemas(struct mf_request *request, struct mf_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < mf_schema_files_count; i++)
        json_array_append_new(list, json_sprintf("/schemas/%s", mf_schema_files[i].name));
    return mf_respond_json_take(request, 200, "application/json",
                                json_pack("{s:o}", "schemas", list), err);
}

static bool get_schema(struct mf_request *request, struct mf_error *err)
{
    return give(request,
                mf_embedded_find(mf_schema_files, mf_schema_files_count, request->parameters[0]),
                err);
}

const struct mf_endpoint mf_endpoint_root = {
    .method = "GET", .pattern = "/", .quick = true, .handle = lead_to_page};
const struct mf_endpoint mf_endpoint_ui_bare = {
    .method = "GET", .pattern = "/ui", .quick = true, .handle = lead_to_page};
const struct mf_endpoint mf_endpoint_ui = {
    .method = "GET", .pattern = "/ui/", .quick = true, .handle = get_page_file};
const struct mf_endpoint mf_endpoint_ui_file = {
    .method = "GET", .pattern = "/ui/{file}", .quick = true, .handle = get_page_file};
const struct mf_endpoint mf_endpoint_schemas = {
    .method = "GET", .pattern = "/schemas/", .quick = true, .handle = list_schemas};
const struct mf_endpoint mf_endpoint_schema = {
    .method = "GET", .pattern = "/schemas/{name}", .quick = true, .handle = get_schema};
