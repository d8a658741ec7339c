/* FHIR servers of the configuration: reading and checking the file. */
#include "server/fhir_servers.h"

#include "core/arena.h"
#include "core/buffer.h"
#include "core/json.h"
#include "server/web_client.h"

#include <string.h>

enum { FILE_BYTES = 1 << 20, SECRET_BYTES = 4096, MAX_SERVERS = 64, MAX_NAME = 64 };

struct mf_fhir_servers {
    struct mf_arena *arena;
    struct mf_fhir_server list[MAX_SERVERS];
    size_t count;
};

static const char *const KEYS[] = {
    "url",    "token_url", "client_id", "client_secret_file", "private_key_file",
    "key_id", "scope",     "ca_file",   "identifier_system",  "everything",
    NULL};

/* Reads one server's members. */
struct reader {
    const char *path, *name;
    struct mf_arena *arena;
    struct mf_error *err;
};

static bool wrong(const struct reader *r, const char *member, const char *reason)
{
    return mf_error_set(r->err, MF_ERR_USAGE, "%s: server \"%s\": \"%s\" %s", r->path, r->name,
                        member, reason);
}

/* A member that is a string, or absent. */
static bool take_text(const struct reader *r, const json_t *object, const char *key,
                      const char **ret)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    *ret = NULL;
    if (!value)
        return true;
    if (!text || !*text)
        return wrong(r, key, "must be a string");
    *ret = mf_arena_strdup(r->arena, text, r->err);
    return *ret != NULL;
}

/* http or https, a host, nothing that hides another one. */
static bool check_url(const struct reader *r, const char *key, const char *url)
{
    return mf_web_url_plain(url) ||
           wrong(r, key, "must be an http or https URL without user, query or fragment");
}

/* Secrets and tokens travel over TLS (RFC 6749 3.2), or within this machine. */
static bool check_tls(const struct reader *r, const char *key, const char *url)
{
    return mf_web_url_protected(url) ||
           wrong(r, key, "must be https, because credentials are sent there");
}

static bool read_secret(const struct reader *r, const json_t *object, const char **ret)
{
    const char *path;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    struct mf_error problem = MF_ERROR_INIT;
    mf_buffer_init(&text, SECRET_BYTES);
    if (!take_text(r, object, "client_secret_file", &path) || !path)
        return path == NULL && r->err->code == MF_OK;
    if (!mf_buffer_read_file(&text, path, &problem))
        return wrong(r, "client_secret_file", problem.msg);
    size_t len = text.len ? strcspn(text.data, "\r\n") : 0;
    if (len == 0)
        return wrong(r, "client_secret_file", "is empty");
    *ret = mf_arena_strndup(r->arena, text.data, len, r->err);
    return *ret != NULL;
}

static bool check_credentials(const struct reader *r, const struct mf_fhir_server *s)
{
    if (!s->token_url)
        return (!s->client_id && !s->client_secret && !s->private_key_file) ||
               wrong(r, "token_url", "is needed with client credentials");
    if (!s->client_id)
        return wrong(r, "client_id", "is needed with token_url");
    if (!s->client_secret == !s->private_key_file)
        return wrong(r, "token_url", "needs client_secret_file or private_key_file");
    return check_url(r, "token_url", s->token_url) && check_tls(r, "token_url", s->token_url) &&
           check_tls(r, "url", s->url);
}

static bool read_server(struct reader *r, const json_t *object, struct mf_fhir_server *s)
{
    const json_t *everything = json_object_get(object, "everything");
    char where[MAX_NAME + 300];
    snprintf(where, sizeof where, "%s: server \"%s\"", r->path, r->name);
    *s = (struct mf_fhir_server){.everything = !json_is_false(everything)};
    if (strlen(r->name) > MAX_NAME || strpbrk(r->name, " /:@") || !*r->name)
        return mf_error_set(r->err, MF_ERR_USAGE, "%s: a server's name has no space, / : or @",
                            r->path);
    if (!json_is_object(object))
        return mf_error_set(r->err, MF_ERR_USAGE, "%s must be an object", where);
    if (everything && !json_is_boolean(everything))
        return wrong(r, "everything", "must be true or false");
    if (!mf_json_only_keys(object, KEYS, where, MF_ERR_USAGE, r->err) ||
        !(s->name = mf_arena_strdup(r->arena, r->name, r->err)) ||
        !take_text(r, object, "url", &s->url) ||
        !take_text(r, object, "token_url", &s->token_url) ||
        !take_text(r, object, "client_id", &s->client_id) ||
        !read_secret(r, object, &s->client_secret) ||
        !take_text(r, object, "private_key_file", &s->private_key_file) ||
        !take_text(r, object, "key_id", &s->key_id) || !take_text(r, object, "scope", &s->scope) ||
        !take_text(r, object, "ca_file", &s->ca_file) ||
        !take_text(r, object, "identifier_system", &s->identifier_system))
        return false;
    if (!s->url)
        return wrong(r, "url", "is missing");
    size_t len = strlen(s->url);
    while (len > 0 && s->url[len - 1] == '/')
        len--;
    return (s->url = mf_arena_strndup(r->arena, s->url, len, r->err)) &&
           check_url(r, "url", s->url) && check_credentials(r, s);
}

static bool read_all(struct mf_fhir_servers *servers, const char *path, struct mf_error *err)
{
    const struct mf_json_limits limits = {FILE_BYTES, 8};
    struct mf_error detail = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *root = mf_json_read_file(path, &limits, &detail);
    if (!root)
        return mf_error_set(err, MF_ERR_USAGE, "fhir.servers: %s", detail.msg);
    if (!json_is_object(root) || json_object_size(root) > MAX_SERVERS)
        return mf_error_set(err, MF_ERR_USAGE, "%s: must be an object of at most %d servers", path,
                            MAX_SERVERS);
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        struct reader r = {path, name, servers->arena, err};
        if (!read_server(&r, value, &servers->list[servers->count]))
            return false;
        servers->count++;
    }
    return true;
}

struct mf_fhir_servers *mf_fhir_servers_load(const char *path, struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_servers) struct mf_fhir_servers *servers = calloc(1, sizeof *servers);
    if (!servers || !(servers->arena = mf_arena_new(4 * FILE_BYTES))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for fhir.servers");
        return NULL;
    }
    if (strcmp(path, "off") != 0 && !read_all(servers, path, &problem)) {
        mf_error_set(err, problem.code, "%s", problem.msg);
        return NULL;
    }
    return MF_STEAL(servers);
}

void mf_fhir_servers_free(struct mf_fhir_servers *servers)
{
    if (!servers)
        return;
    mf_arena_free(servers->arena);
    free(servers);
}

size_t mf_fhir_servers_count(const struct mf_fhir_servers *servers)
{
    return servers->count;
}

const struct mf_fhir_server *mf_fhir_servers_get(const struct mf_fhir_servers *servers, size_t i)
{
    return &servers->list[i];
}

long mf_fhir_servers_find(const struct mf_fhir_servers *servers, const char *name)
{
    for (size_t i = 0; i < servers->count; i++)
        if (!name || strcmp(servers->list[i].name, name) == 0)
            return (long)i;
    return -1;
}

bool mf_fhir_server_owns(const struct mf_fhir_server *server, const char *url)
{
    size_t len = strlen(server->url);
    return strncmp(url, server->url, len) == 0 && (!url[len] || strchr("/?", url[len])) &&
           !strstr(url, "/../") && !strpbrk(url, " #\\");
}
