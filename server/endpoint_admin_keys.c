/*
 * GET and POST /v1/admin/keys, DELETE /v1/admin/keys/{id}: the API keys of auth.keys, for the scope
 * admin. A new key is in the answer to its POST and nowhere else.
 */
#include "server/api_keys.h"
#include "server/collected_body.h"
#include "server/endpoints.h"
#include "server/negotiate.h"
#include "server/services.h"

#include "core/clock.h"

#include <string.h>

static const char *const NO_QUERY[] = {NULL};
static const char JSON[] = "application/json";

enum { BODY_BYTES = 8 << 10, MAX_DAYS = 36500 };

/* The file, or NULL: keys are kept elsewhere, or nobody has any. */
static const char *file_of(const struct mf_request *request, struct mf_error *err)
{
    const char *path = request->services->config->auth.keys;
    if (strcmp(path, "off") != 0)
        return path;
    mf_error_set(err, MF_ERR_NOT_FOUND, "this service has no API keys (auth.keys)");
    return NULL;
}

static json_t *time_of(int64_t ms)
{
    char text[MF_TIME_TEXT];
    return ms ? json_string(mf_clock_format_ms(ms, text)) : json_null();
}

/* What may be shown of a key; `text`: the key itself, when it is new. */
static json_t *describe(const struct mf_api_key *key, const char *text)
{
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "id", key->id, "name", key->name,
                  "tenant", key->tenant, "scopes", key->scopes, "state",
                  mf_api_key_state(key, mf_clock_wall_ms()), "created", time_of(key->created_ms),
                  "expires", time_of(key->expires_ms), "revoked", time_of(key->revoked_ms));
    if (object && text)
        json_object_set_new(object, "key", json_string(text));
    return object;
}

static bool list(struct mf_request *request, struct mf_error *err)
{
    const char *path = file_of(request, err);
    if (!path || !mf_request_only_query(request, NO_QUERY, err))
        return false;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_read(path, err);
    if (!keys)
        return false;
    json_t *all = json_array();
    for (size_t i = 0; i < keys->count; i++)
        json_array_append_new(all, describe(&keys->keys[i], NULL));
    return mf_respond_json_take(request, 200, JSON, json_pack("{s:o}", "keys", all), err);
}

/* --- making one --- */

static bool begin(struct mf_request *request, struct mf_error *err)
{
    if (!mf_media_type_is(mf_request_header(request, "Content-Type"), JSON))
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "Content-Type must be application/json");
    return mf_collect_begin(request, BODY_BYTES, err);
}

static bool data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    return mf_collect_data(request, "a key", bytes, len, err);
}

static bool take(const json_t *object, const char *name, const char *fallback, char *out,
                 size_t size, struct mf_error *err)
{
    const json_t *value = json_object_get(object, name);
    const char *text = value ? json_string_value(value) : fallback;
    return (text && *text && (size_t)snprintf(out, size, "%s", text) < size) ||
           mf_error_set(err, MF_ERR_UNUSABLE, "\"%s\" must be a string of 1 to %zu bytes", name,
                        size - 1);
}

static bool read_wanted(const struct mf_buffer *body, struct mf_api_key *key, struct mf_error *err)
{
    static const char *const names[] = {"name", "scopes", "tenant", "days", NULL};
    static const struct mf_json_limits limits = {BODY_BYTES, 4};
    MF_AUTO(mf_json)
    json_t *root = mf_json_parse(body->data ? body->data : "", body->len, &limits, "the key", err);
    if (!root || !mf_json_only_keys(root, names, "key", MF_ERR_UNUSABLE, err) ||
        !take(root, "name", NULL, key->name, sizeof key->name, err) ||
        !take(root, "scopes", NULL, key->scopes, sizeof key->scopes, err) ||
        !take(root, "tenant", MF_TENANT_DEFAULT, key->tenant, sizeof key->tenant, err))
        return false;
    const json_t *days = json_object_get(root, "days");
    json_int_t n = json_integer_value(days);
    if (days && (!json_is_integer(days) || n < 1 || n > MAX_DAYS))
        return mf_error_set(err, MF_ERR_UNUSABLE, "\"days\" must be a number from 1 to %d",
                            MAX_DAYS);
    key->created_ms = mf_clock_wall_ms();
    key->expires_ms = days ? key->created_ms + (int64_t)n * 86400000 : 0;
    return true;
}

static bool add(struct mf_request *request, struct mf_error *err)
{
    struct mf_api_key wanted = {.id = ""};
    struct mf_error refused = MF_ERROR_INIT;
    char text[MF_API_KEY_TEXT];
    const char *path = file_of(request, err);
    if (!path || !mf_request_only_query(request, NO_QUERY, err) ||
        !read_wanted(mf_collected(request), &wanted, err))
        return false;
    MF_AUTO(mf_fd) int lock = mf_api_keys_lock(path, err);
    if (lock < 0)
        return false;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_read(path, err);
    if (!keys)
        return false;
    if (!mf_api_keys_add(keys, &wanted, text, &refused))
        return mf_error_set(err, refused.code == MF_ERR_USAGE ? MF_ERR_UNUSABLE : refused.code,
                            "%s", refused.msg);
    bool ok =
        mf_api_keys_write(keys, path, err) &&
        mf_respond_json_take(request, 201, JSON, describe(&keys->keys[keys->count - 1], text), err);
    explicit_bzero(text, sizeof text);
    return ok;
}

/* --- revoking one --- */

static bool revoke_key(struct mf_request *request, struct mf_error *err)
{
    const char *path = file_of(request, err), *id = request->parameters[0];
    if (!path || !mf_request_only_query(request, NO_QUERY, err))
        return false;
    MF_AUTO(mf_fd) int lock = mf_api_keys_lock(path, err);
    if (lock < 0)
        return false;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_read(path, err);
    if (!keys || !mf_api_keys_revoke(keys, id, mf_clock_wall_ms(), err) ||
        !mf_api_keys_write(keys, path, err))
        return false;
    size_t i = 0;
    while (strcmp(keys->keys[i].id, id) != 0)
        i++;
    return mf_respond_json_take(request, 200, JSON, describe(&keys->keys[i], NULL), err);
}

const struct mf_endpoint mf_endpoint_admin_keys_get = {
    .method = "GET", .pattern = "/v1/admin/keys", .handle = list};
const struct mf_endpoint mf_endpoint_admin_keys_post = {.method = "POST",
                                                        .pattern = "/v1/admin/keys",
                                                        .begin = begin,
                                                        .data = data,
                                                        .handle = add,
                                                        .dispose = mf_collect_dispose};
const struct mf_endpoint mf_endpoint_admin_keys_delete = {
    .method = "DELETE", .pattern = "/v1/admin/keys/{id}", .handle = revoke_key};
