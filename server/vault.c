/* Vault: the key file, wrapping and unwrapping. */
#include "server/vault.h"

#include "server/jose.h"
#include "server/store.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/outfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_KEYS = 64,
    FILE_BYTES = 64 << 10,
    NAME_BYTES = 128,
    /* a wrapped key: */
    ID_AT = 8,
    NONCE_AT = 24,
    SEALED_AT = 36,
    TAG_AT = 68
};

static const char SCHEMA[] = "medfusion.vault/1";
static const char MAGIC[ID_AT] = "MFKEY1";

struct vault_key {
    char id[MF_VAULT_ID];
    unsigned char key[MF_GCM_KEY];
};

struct mf_vault {
    struct vault_key keys[MAX_KEYS];
    size_t count;
};

/* --- the file --- */

static bool valid_id(const char *id)
{
    size_t len = strlen(id);
    return len > 0 && len < MF_VAULT_ID &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

static bool read_key(const json_t *object, struct mf_vault *v, struct mf_error *err)
{
    static const char *const names[] = {"id", "key", "created", NULL};
    struct vault_key *k = &v->keys[v->count];
    size_t len = 0;
    if (!mf_json_only_keys(object, names, "key", MF_ERR_USAGE, err))
        return false;
    const char *id = mf_json_get_string(object, "id", "");
    if (!valid_id(id))
        return mf_error_set(err, MF_ERR_USAGE,
                            "\"id\" must be 1 to %d letters, digits, '-', '_' or "
                            "'.'",
                            MF_VAULT_ID - 1);
    const char *text = mf_json_get_string(object, "key", "");
    MF_AUTO(mf_mem) unsigned char *bytes = mf_base64url_decode(text, strlen(text), &len);
    if (!bytes || len != MF_GCM_KEY)
        return mf_error_set(err, MF_ERR_USAGE, "key \"%s\" is not 32 bytes in base64url", id);
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->keys[i].id, id) == 0)
            return mf_error_set(err, MF_ERR_USAGE, "there are two keys \"%s\"", id);
    snprintf(k->id, sizeof k->id, "%s", id);
    memcpy(k->key, bytes, sizeof k->key);
    explicit_bzero(bytes, len);
    v->count++;
    return true;
}

static bool read_keys(const json_t *root, struct mf_vault *v, struct mf_error *err)
{
    if (strcmp(mf_json_get_string(root, "schema", ""), SCHEMA) != 0)
        return mf_error_set(err, MF_ERR_USAGE, "\"schema\" must be \"%s\"", SCHEMA);
    const json_t *list = mf_json_need_array(root, "keys", err);
    if (!list)
        return false;
    size_t n = json_array_size(list);
    if (n == 0 || n > MAX_KEYS)
        return mf_error_set(err, MF_ERR_USAGE, "\"keys\" must hold 1 to %d keys", MAX_KEYS);
    for (size_t i = 0; i < n; i++)
        if (!read_key(json_array_get(list, i), v, err))
            return false;
    return true;
}

static json_t *read_file(const char *path, struct mf_error *err)
{
    static const struct mf_json_limits limits = {FILE_BYTES, 8};
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO))) {
        mf_error_set(err, MF_ERR_USAGE,
                     "%s: others than its owner may read or write it (chmod 600)", path);
        return NULL;
    }
    return mf_json_read_file(path, &limits, err);
}

struct mf_vault *mf_vault_open(const char *path, struct mf_error *err)
{
    struct mf_error detail = MF_ERROR_INIT;
    if (strcmp(path, "off") == 0)
        return NULL;
    MF_AUTO(mf_vault) struct mf_vault *v = calloc(1, sizeof *v);
    if (!v) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for keys");
        return NULL;
    }
    MF_AUTO(mf_json) json_t *root = read_file(path, &detail);
    if (!root) {
        mf_error_set(err, MF_ERR_USAGE, "%s", detail.msg);
        return NULL;
    }
    if (!read_keys(root, v, &detail)) {
        mf_error_set(err, MF_ERR_USAGE, "%s: %s", path, detail.msg);
        return NULL;
    }
    return MF_STEAL(v);
}

void mf_vault_free(struct mf_vault *v)
{
    if (v)
        explicit_bzero(v, sizeof *v);
    free(v);
}

/* --- a new key --- */

static json_t *new_key(char id[MF_VAULT_ID])
{
    unsigned char key[MF_GCM_KEY];
    char random[MF_JOB_ID], created[MF_TIME_TEXT];
    mf_random_bytes(key, sizeof key);
    mf_job_id_new(random);
    snprintf(id, MF_VAULT_ID, "k%.8s", random);
    MF_AUTO(mf_mem) char *text = mf_base64url(key, sizeof key);
    json_t *object = text ? json_pack("{s:s, s:s, s:s}", "id", id, "key", text, "created",
                                      mf_clock_format_ms(mf_clock_wall_ms(), created))
                          : NULL;
    explicit_bzero(key, sizeof key);
    if (text)
        explicit_bzero(text, strlen(text));
    return object;
}

static bool write_file(const char *path, const json_t *root, struct mf_error *err)
{
    struct mf_outfile out;
    MF_AUTO(mf_mem) char *text = mf_json_text(root, 1);
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for keys");
    mode_t mask = umask(077);
    bool opened = mf_outfile_open(&out, path, err);
    umask(mask);
    if (!opened)
        return false;
    fprintf(out.file, "%s\n", text);
    explicit_bzero(text, strlen(text));
    return mf_outfile_commit(&out, err);
}

bool mf_vault_add(const char *path, char id[MF_VAULT_ID], struct mf_error *err)
{
    bool there = access(path, F_OK) == 0 || errno != ENOENT;
    if (there) { /* a file that could not be read later must not grow */
        MF_AUTO(mf_vault) struct mf_vault *v = mf_vault_open(path, err);
        if (!v)
            return false;
        if (v->count == MAX_KEYS)
            return mf_error_set(err, MF_ERR_USAGE, "%s: has %d keys already", path, MAX_KEYS);
    }
    MF_AUTO(mf_json)
    json_t *root =
        there ? read_file(path, err) : json_pack("{s:s, s:[]}", "schema", SCHEMA, "keys");
    if (!root)
        return there ? false : mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for keys");
    if (json_array_insert_new(json_object_get(root, "keys"), 0, new_key(id)) != 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for keys");
    return write_file(path, root, err);
}

/* --- wrapping --- */

/* What is authenticated beside the key: who wrapped it, and what it is for. */
static size_t associate(const char *id, const char *name, char out[NAME_BYTES])
{
    int n = snprintf(out, NAME_BYTES, "medfusion|%s|%s", id, name);
    return n > 0 && n < NAME_BYTES ? (size_t)n : 0;
}

bool mf_vault_wrap(const struct mf_vault *v, const char *name, const unsigned char key[MF_GCM_KEY],
                   unsigned char out[MF_WRAPPED_KEY], struct mf_error *err)
{
    const struct vault_key *k = &v->keys[0];
    char aad[NAME_BYTES];
    size_t aad_len = associate(k->id, name, aad);
    memset(out, 0, MF_WRAPPED_KEY);
    memcpy(out, MAGIC, sizeof MAGIC);
    memcpy(out + ID_AT, k->id, strlen(k->id));
    mf_random_bytes(out + NONCE_AT, MF_GCM_NONCE);
    MF_AUTO(mf_gcm) struct mf_gcm *gcm = mf_gcm_new(k->key);
    return (gcm && aad_len &&
            mf_gcm_seal(gcm, out + NONCE_AT, aad, aad_len, key, MF_GCM_KEY, out + SEALED_AT,
                        out + TAG_AT)) ||
           mf_error_set(err, MF_ERR_INTERNAL, "%s: its key cannot be wrapped", name);
}

bool mf_vault_wrapped_by(const unsigned char wrapped[MF_WRAPPED_KEY], char id[MF_VAULT_ID])
{
    memcpy(id, wrapped + ID_AT, MF_VAULT_ID - 1);
    id[MF_VAULT_ID - 1] = '\0';
    return memcmp(wrapped, MAGIC, sizeof MAGIC) == 0 && valid_id(id);
}

bool mf_vault_unwrap(const struct mf_vault *v, const char *name,
                     const unsigned char wrapped[MF_WRAPPED_KEY], unsigned char out[MF_GCM_KEY],
                     struct mf_error *err)
{
    char id[MF_VAULT_ID], aad[NAME_BYTES];
    size_t i = 0;
    if (!mf_vault_wrapped_by(wrapped, id))
        return mf_error_set(err, MF_ERR_IO, "%s: its key is damaged, or it is not encrypted", name);
    while (i < v->count && strcmp(v->keys[i].id, id) != 0)
        i++;
    if (i == v->count)
        return mf_error_set(err, MF_ERR_IO,
                            "%s: is encrypted with the key \"%s\", which is not in the key file",
                            name, id);
    size_t aad_len = associate(id, name, aad);
    MF_AUTO(mf_gcm) struct mf_gcm *gcm = mf_gcm_new(v->keys[i].key);
    return (gcm && aad_len &&
            mf_gcm_open(gcm, wrapped + NONCE_AT, aad, aad_len, wrapped + SEALED_AT, MF_GCM_KEY, out,
                        wrapped + TAG_AT)) ||
           mf_error_set(err, MF_ERR_IO,
                        "%s: cannot be decrypted: it is damaged, or the key \"%s\" is another one",
                        name, id);
}

const char *mf_vault_newest(const struct mf_vault *v)
{
    return v->keys[0].id;
}
