/* The file of issuers and clients. */
#include "server/trust_file.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 4 << 20, MOST = 1000 };

static const char SCHEMA[] = "medfusion.trust/1";

static void free_list(struct mf_trusted *list, size_t n)
{
    for (size_t i = 0; list && i < n; i++)
        mf_jwks_free(list[i].jwks);
    free(list);
}

void mf_trust_file_free(struct mf_trust_file *t)
{
    if (!t)
        return;
    free_list(t->issuers, t->issuer_count);
    free_list(t->clients, t->client_count);
    json_decref(t->root);
    free(t);
}

static bool read_scopes(const json_t *object, const char *name, struct mf_grant *ret,
                        struct mf_error *err)
{
    const char *s = mf_json_need_string(object, "scopes", err);
    if (!s)
        return mf_error_prefix(err, "%s", name);
    while (*(s += strspn(s, " "))) {
        size_t len = strcspn(s, " ");
        if (!mf_grant_add(ret, s, len))
            return mf_error_set(err, MF_ERR_USAGE, "%s: \"%.*s\" is no scope", name, (int)len, s);
        s += len;
    }
    return true;
}

static bool read_trusted(const json_t *object, const char *id_name, bool issuer,
                         const struct mf_config *config, struct mf_trusted *ret,
                         struct mf_error *err)
{
    static const char *const keys[] = {"issuer",    "client_id", "audience", "jwks",
                                       "jwks_file", "jwks_url",  "tenant",   "tenant_claim",
                                       "scopes",    "scopeless", NULL};
    char name[128];
    ret->id = mf_json_need_string(object, id_name, err);
    if (!ret->id)
        return false;
    snprintf(name, sizeof name, "%s %.80s", issuer ? "issuer" : "client", ret->id);
    ret->audience = mf_json_get_string(object, "audience", NULL);
    ret->tenant = mf_json_get_string(object, "tenant", NULL);
    ret->tenant_claim = issuer ? mf_json_get_string(object, "tenant_claim", NULL) : NULL;
    ret->scopeless = issuer && mf_json_get_bool(object, "scopeless", false);
    if (!mf_json_only_keys(object, keys, name, MF_ERR_USAGE, err))
        return false;
    if (issuer && !ret->audience)
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"audience\" is missing", name);
    if ((ret->tenant != NULL) == (ret->tenant_claim != NULL) ||
        (ret->tenant && !mf_tenant_valid(ret->tenant)))
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"tenant\" is missing or no name", name);
    ret->jwks = mf_jwks_new(object, name, config, err);
    return ret->jwks && read_scopes(object, name, &ret->limit, err);
}

static bool read_list(const json_t *root, const char *list_name, const char *id_name, bool issuer,
                      const struct mf_config *config, struct mf_trusted **ret, size_t *ret_count,
                      struct mf_error *err)
{
    const json_t *list = json_object_get(root, list_name);
    size_t n = json_array_size(list);
    if ((list && !json_is_array(list)) || n > MOST)
        return mf_error_set(err, MF_ERR_USAGE, "\"%s\" must be an array of at most %d", list_name,
                            MOST);
    *ret = calloc(n + 1, sizeof **ret);
    if (!*ret)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for \"%s\"", list_name);
    for (size_t i = 0; i < n; i++) {
        *ret_count = i + 1;
        if (!read_trusted(json_array_get(list, i), id_name, issuer, config, &(*ret)[i], err))
            return false;
        for (size_t k = 0; k < i; k++)
            if (strcmp((*ret)[k].id, (*ret)[i].id) == 0)
                return mf_error_set(err, MF_ERR_USAGE, "\"%s\": two have the same id", list_name);
    }
    return true;
}

static bool read_root(struct mf_trust_file *t, const struct mf_config *config, struct mf_error *err)
{
    static const char *const keys[] = {"schema", "token_url", "issuers", "clients", NULL};
    if (strcmp(mf_json_get_string(t->root, "schema", ""), SCHEMA) != 0)
        return mf_error_set(err, MF_ERR_USAGE, "\"schema\" must be \"%s\"", SCHEMA);
    t->token_url = mf_json_get_string(t->root, "token_url", NULL);
    if (!mf_json_only_keys(t->root, keys, "file", MF_ERR_USAGE, err) ||
        !read_list(t->root, "issuers", "issuer", true, config, &t->issuers, &t->issuer_count,
                   err) ||
        !read_list(t->root, "clients", "client_id", false, config, &t->clients, &t->client_count,
                   err))
        return false;
    return t->client_count == 0 || t->token_url ||
           mf_error_set(err, MF_ERR_USAGE, "clients need \"token_url\"");
}

struct mf_trust_file *mf_trust_file_read(const char *path, const struct mf_config *config,
                                         struct mf_error *err)
{
    static const struct mf_json_limits limits = {FILE_BYTES, 16};
    struct mf_error detail = MF_ERROR_INIT;
    MF_AUTO(mf_trust_file) struct mf_trust_file *t = calloc(1, sizeof *t);
    if (!t) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for auth.trust");
        return NULL;
    }
    t->root = mf_json_read_file(path, &limits, &detail);
    if (!t->root) {
        mf_error_set(err, MF_ERR_USAGE, "%s", detail.msg);
        return NULL;
    }
    if (!read_root(t, config, &detail)) {
        mf_error_set(err, MF_ERR_USAGE, "%s: %s", path, detail.msg);
        return NULL;
    }
    return MF_STEAL(t);
}

static const struct mf_trusted *find(const struct mf_trusted *list, size_t n, const char *id)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].id, id) == 0)
            return &list[i];
    return NULL;
}

const struct mf_trusted *mf_trust_file_issuer(const struct mf_trust_file *t, const char *issuer)
{
    return find(t->issuers, t->issuer_count, issuer);
}

const struct mf_trusted *mf_trust_file_client(const struct mf_trust_file *t, const char *client_id)
{
    return find(t->clients, t->client_count, client_id);
}
