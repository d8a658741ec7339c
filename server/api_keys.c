/* API keys: reading and writing the file `medfusion.keys/1`, making and recognising keys. */
#include "server/api_keys.h"

#include "server/jose.h"

#include "core/json.h"
#include "core/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SECRET_BYTES = 32,
    SECRET_TEXT = 43,
    MAX_KEYS = 10000,
    FILE_BYTES = 16 << 20,
    PATH_BYTES = 4096
};

static const char PREFIX[] = "mfk_", SCHEMA[] = "medfusion.keys/1";

struct mf_api_keys *mf_api_keys_new(struct mf_error *err)
{
    struct mf_api_keys *keys = calloc(1, sizeof *keys);
    if (!keys)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for API keys");
    return keys;
}

void mf_api_keys_free(struct mf_api_keys *keys)
{
    if (keys)
        free(keys->keys);
    free(keys);
}

static struct mf_api_key *append(struct mf_api_keys *keys, struct mf_error *err)
{
    if (keys->count == keys->capacity) {
        size_t capacity = keys->capacity ? 2 * keys->capacity : 16;
        struct mf_api_key *grown = realloc(keys->keys, capacity * sizeof *grown);
        if (!grown || keys->count >= MAX_KEYS) {
            if (grown)
                keys->keys = grown;
            mf_error_set(err, MF_ERR_NO_MEMORY, "there are too many API keys");
            return NULL;
        }
        keys->keys = grown;
        keys->capacity = capacity;
    }
    struct mf_api_key *key = &keys->keys[keys->count++];
    memset(key, 0, sizeof *key);
    return key;
}

/* --- the file --- */

static bool hex_bytes(const char *text, unsigned char out[MF_SHA256_BYTES])
{
    if (strlen(text) != MF_SHA256_HEX - 1 || strspn(text, "0123456789abcdef") != strlen(text))
        return false;
    for (size_t i = 0; i < MF_SHA256_BYTES; i++) {
        unsigned char high = (unsigned char)text[2 * i], low = (unsigned char)text[2 * i + 1];
        out[i] = (unsigned char)((high <= '9' ? high - '0' : high - 'a' + 10) << 4 |
                                 (low <= '9' ? low - '0' : low - 'a' + 10));
    }
    return true;
}

static bool take_text(const json_t *object, const char *name, char *out, size_t size)
{
    const char *text = mf_json_get_string(object, name, "");
    return *text && snprintf(out, size, "%s", text) < (int)size;
}

static bool known_scopes(const char *scopes, struct mf_error *err)
{
    struct mf_grant grant = {0};
    for (const char *s = scopes; *(s += strspn(s, " "));) {
        size_t len = strcspn(s, " ");
        if (!mf_grant_add(&grant, s, len))
            return mf_error_set(err, MF_ERR_USAGE, "\"%.*s\" is no scope", (int)len, s);
        s += len;
    }
    return true;
}

static bool read_key(const json_t *object, struct mf_api_key *key, struct mf_error *err)
{
    static const char *const names[] = {"id",      "name",    "tenant",  "scopes", "sha256",
                                        "created", "expires", "revoked", NULL};
    json_int_t created = mf_json_get_int(object, "created", 0);
    if (!mf_json_only_keys(object, names, "key", MF_ERR_USAGE, err))
        return false;
    if (!take_text(object, "id", key->id, sizeof key->id) ||
        !take_text(object, "name", key->name, sizeof key->name) ||
        !take_text(object, "tenant", key->tenant, sizeof key->tenant) ||
        !take_text(object, "scopes", key->scopes, sizeof key->scopes) ||
        !mf_tenant_valid(key->tenant) ||
        !hex_bytes(mf_json_get_string(object, "sha256", ""), key->sha256))
        return mf_error_set(err, MF_ERR_USAGE, "a key is incomplete");
    key->created_ms = created;
    key->expires_ms = mf_json_get_int(object, "expires", 0);
    key->revoked_ms = mf_json_get_int(object, "revoked", 0);
    return known_scopes(key->scopes, err);
}

static bool read_keys(const json_t *root, struct mf_api_keys *keys, struct mf_error *err)
{
    if (strcmp(mf_json_get_string(root, "schema", ""), SCHEMA) != 0)
        return mf_error_set(err, MF_ERR_USAGE, "\"schema\" must be \"%s\"", SCHEMA);
    const json_t *list = mf_json_need_array(root, "keys", err);
    if (!list)
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct mf_api_key *key = append(keys, err);
        if (!key || !read_key(json_array_get(list, i), key, err))
            return false;
    }
    return true;
}

struct mf_api_keys *mf_api_keys_read(const char *path, struct mf_error *err)
{
    static const struct mf_json_limits limits = {FILE_BYTES, 8};
    struct mf_error detail = MF_ERROR_INIT;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(err);
    MF_AUTO(mf_json) json_t *root = keys ? mf_json_read_file(path, &limits, &detail) : NULL;
    if (!keys)
        return NULL;
    if (!root) {
        mf_error_set(err, MF_ERR_USAGE, "%s", detail.msg);
        return NULL;
    }
    if (!read_keys(root, keys, &detail)) {
        mf_error_set(err, MF_ERR_USAGE, "%s: %s", path, detail.msg);
        return NULL;
    }
    return MF_STEAL(keys);
}

const char *mf_api_key_state(const struct mf_api_key *key, int64_t now_ms)
{
    return key->revoked_ms                                ? "revoked"
           : key->expires_ms && key->expires_ms <= now_ms ? "expired"
                                                          : "valid";
}

/* The file itself is replaced by each change, so the lock is one beside it. */
int mf_api_keys_lock(const char *path, struct mf_error *err)
{
    char name[PATH_BYTES];
    if ((size_t)snprintf(name, sizeof name, "%s.lock", path) >= sizeof name) {
        mf_error_set(err, MF_ERR_USAGE, "%.100s…: the path is too long", path);
        return -1;
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    mf_error_set(err, MF_ERR_IO, "%s: cannot be locked (%s)", name, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static json_t *key_to_json(const struct mf_api_key *key)
{
    char hex[MF_SHA256_HEX];
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "id", key->id, "name", key->name,
                     "tenant", key->tenant, "scopes", key->scopes, "sha256",
                     mf_sha256_to_hex(key->sha256, hex), "created", (json_int_t)key->created_ms,
                     "expires", (json_int_t)key->expires_ms, "revoked",
                     (json_int_t)key->revoked_ms);
}

bool mf_api_keys_write(const struct mf_api_keys *keys, const char *path, struct mf_error *err)
{
    struct mf_outfile out;
    json_t *list = json_array();
    bool whole = list != NULL;
    for (size_t i = 0; i < keys->count && whole; i++)
        whole = json_array_append_new(list, key_to_json(&keys->keys[i])) == 0;
    MF_AUTO(mf_json) json_t *root = json_pack("{s:s, s:o}", "schema", SCHEMA, "keys", list);
    MF_AUTO(mf_mem) char *text = root && whole ? mf_json_text(root, 1) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for API keys");
    mode_t mask = umask(077);
    bool opened = mf_outfile_open(&out, path, err);
    umask(mask);
    if (!opened)
        return false;
    fprintf(out.file, "%s\n", text);
    return mf_outfile_commit(&out, err);
}

/* --- making and revoking --- */

bool mf_api_keys_add(struct mf_api_keys *keys, const struct mf_api_key *wanted,
                     char text[MF_API_KEY_TEXT], struct mf_error *err)
{
    unsigned char secret[SECRET_BYTES];
    char id[MF_JOB_ID];
    if (!mf_tenant_valid(wanted->tenant))
        return mf_error_set(err, MF_ERR_USAGE, "a tenant is 1 to %d of a-z, 0-9, '-', '_' and '.'",
                            MF_TENANT - 1);
    if (!*wanted->name || !*wanted->scopes)
        return mf_error_set(err, MF_ERR_USAGE, "a key needs a name and scopes");
    if (!known_scopes(wanted->scopes, err))
        return false;
    struct mf_api_key *key = append(keys, err);
    if (!key)
        return false;
    *key = *wanted;
    key->revoked_ms = 0;
    mf_job_id_new(id);
    snprintf(key->id, sizeof key->id, "%.16s", id);
    while (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret) {
    }
    MF_AUTO(mf_mem) char *encoded = mf_base64url(secret, sizeof secret);
    if (!encoded)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for API keys");
    snprintf(text, MF_API_KEY_TEXT, "%s%s_%s", PREFIX, key->id, encoded);
    mf_sha256(text, strlen(text), key->sha256);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(encoded, strlen(encoded));
    return true;
}

bool mf_api_keys_revoke(struct mf_api_keys *keys, const char *id, int64_t now_ms,
                        struct mf_error *err)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->keys[i].id, id) != 0)
            continue;
        if (keys->keys[i].revoked_ms == 0)
            keys->keys[i].revoked_ms = now_ms;
        return true;
    }
    return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no key \"%.40s\"", id);
}

/* --- recognising --- */

bool mf_api_key_is(const char *text)
{
    return strncmp(text, PREFIX, sizeof PREFIX - 1) == 0;
}

bool mf_api_keys_identify(const struct mf_api_keys *keys, const char *text, int64_t now_ms,
                          struct mf_principal *ret, struct mf_error *err)
{
    static const struct mf_api_key nobody = {.id = ""};
    const struct mf_api_key *found = &nobody;
    unsigned char digest[MF_SHA256_BYTES];
    const size_t id_at = sizeof PREFIX - 1, id_len = MF_API_KEY_ID - 1;
    bool shaped = strlen(text) == id_at + id_len + 1 + SECRET_TEXT;
    for (size_t i = 0; shaped && i < keys->count; i++)
        if (memcmp(keys->keys[i].id, text + id_at, id_len) == 0)
            found = &keys->keys[i];
    mf_sha256(text, shaped ? strlen(text) : 0, digest);
    bool same = CRYPTO_memcmp(digest, found->sha256, sizeof digest) == 0 && found != &nobody;
    if (!same || found->revoked_ms || (found->expires_ms && found->expires_ms <= now_ms))
        return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the API key is not valid");
    *ret = (struct mf_principal){.tenant = ""};
    memcpy(ret->tenant, found->tenant, sizeof ret->tenant);
    snprintf(ret->name, sizeof ret->name, "key:%s", found->id);
    mf_grant_add_list(&ret->grant, found->scopes);
    return true;
}
