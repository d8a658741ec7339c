/* Webhooks of the configuration: reading and checking the file, signing. */
#include "server/webhooks.h"

#include "core/arena.h"
#include "core/buffer.h"
#include "core/json.h"
#include "server/web_client.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILE_BYTES = 1 << 20,
    SECRETS_FILE_BYTES = 4096,
    MAX_WEBHOOKS = 64,
    MAX_NAME = 64,
    LEAST_SECRET = 24,
    TAG_BYTES = 32,
    TAG_TEXT = 45, /* base64 and the NUL */
    MESSAGE_BYTES = 1 << 20
};

static const char PREFIX[] = "whsec_";

struct mf_webhooks {
    struct mf_arena *arena;
    struct mf_webhook list[MAX_WEBHOOKS];
    size_t count;
};

/* --- secrets --- */

/* One line of a file of secrets. */
static bool read_secret(const char *line, size_t len, struct mf_webhook_secret *ret)
{
    unsigned char decoded[SECRETS_FILE_BYTES];
    size_t prefix = strlen(PREFIX), pad = 0;
    if (len <= prefix || strncmp(line, PREFIX, prefix) != 0)
        return false;
    line += prefix;
    len -= prefix;
    int n = len % 4 == 0 ? EVP_DecodeBlock(decoded, (const unsigned char *)line, (int)len) : -1;
    while (pad < 2 && line[len - 1 - pad] == '=')
        pad++;
    bool ok = n >= LEAST_SECRET + (int)pad && n <= MF_WEBHOOK_SECRET_BYTES + (int)pad;
    ret->len = ok ? (size_t)n - pad : 0;
    memcpy(ret->bytes, decoded, ret->len);
    explicit_bzero(decoded, sizeof decoded);
    return ok;
}

static bool read_secrets(const char *path, struct mf_webhook *webhook, struct mf_error *err)
{
    struct mf_buffer text;
    mf_buffer_init(&text, SECRETS_FILE_BYTES);
    bool ok = mf_buffer_read_file(&text, path, err);
    for (const char *at = text.data ? text.data : ""; ok && *(at += strspn(at, "\r\n"));) {
        size_t len = strcspn(at, "\r\n");
        ok = webhook->secret_count < MF_WEBHOOK_SECRETS &&
             read_secret(at, len, &webhook->secrets[webhook->secret_count++]);
        at += len;
    }
    if (text.data)
        explicit_bzero(text.data, text.len);
    mf_buffer_free(&text);
    return (ok && webhook->secret_count > 0) ||
           mf_error_set(err, MF_ERR_USAGE,
                        "must hold 1 to %d lines of \"%s\" and 24 to 64 bytes as base64",
                        MF_WEBHOOK_SECRETS, PREFIX);
}

/* --- the file --- */

static bool check_url(const char *url, struct mf_error *err)
{
    if (!mf_web_url_plain(url))
        return mf_error_set(err, MF_ERR_USAGE,
                            "\"url\" must be an http or https URL without user, query or fragment");
    return mf_web_url_protected(url) ||
           mf_error_set(err, MF_ERR_USAGE, "\"url\" must be https beyond this machine");
}

static bool read_webhook(struct mf_webhooks *w, const char *name, const json_t *object,
                         struct mf_error *err)
{
    static const char *const keys[] = {"url", "secret_file", "ca_file", NULL};
    struct mf_webhook *webhook = &w->list[w->count];
    struct mf_error problem = MF_ERROR_INIT;
    const char *url, *secrets, *ca = mf_json_get_string(object, "ca_file", NULL);
    if (!*name || strlen(name) > MAX_NAME || strpbrk(name, " /:@="))
        return mf_error_set(err, MF_ERR_USAGE, "a webhook's name has no space, /, :, @ or =");
    if (!json_is_object(object))
        return mf_error_set(err, MF_ERR_USAGE, "must be an object");
    if (!mf_json_only_keys(object, keys, "webhook", MF_ERR_USAGE, err) ||
        !(url = mf_json_need_string(object, "url", err)) || !check_url(url, err) ||
        !(secrets = mf_json_need_string(object, "secret_file", err)))
        return false;
    if (!read_secrets(secrets, webhook, &problem))
        return mf_error_set(err, MF_ERR_USAGE, "\"secret_file\" %s", problem.msg);
    if (!(webhook->name = mf_arena_strdup(w->arena, name, err)) ||
        !(webhook->url = mf_arena_strdup(w->arena, url, err)) ||
        (ca && !(webhook->ca_file = mf_arena_strdup(w->arena, ca, err))))
        return false;
    w->count++;
    return true;
}

static bool read_all(struct mf_webhooks *w, const char *path, struct mf_error *err)
{
    const struct mf_json_limits limits = {FILE_BYTES, 8};
    struct mf_error detail = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *root = mf_json_read_file(path, &limits, &detail);
    const char *name;
    json_t *value;
    if (!root)
        return mf_error_set(err, MF_ERR_USAGE, "outbox.webhooks: %s", detail.msg);
    if (!json_is_object(root) || json_object_size(root) > MAX_WEBHOOKS)
        return mf_error_set(err, MF_ERR_USAGE, "%s: must be an object of at most %d webhooks", path,
                            MAX_WEBHOOKS);
    json_object_foreach(root, name, value)
    {
        if (!read_webhook(w, name, value, &detail))
            return mf_error_set(err, MF_ERR_USAGE, "%s: webhook \"%.64s\": %s", path, name,
                                detail.msg);
    }
    return true;
}

struct mf_webhooks *mf_webhooks_load(const char *path, struct mf_error *err)
{
    MF_AUTO(mf_webhooks) struct mf_webhooks *w = calloc(1, sizeof *w);
    if (!w || !(w->arena = mf_arena_new(4 * FILE_BYTES))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for outbox.webhooks");
        return NULL;
    }
    if (strcmp(path, "off") != 0 && !read_all(w, path, err))
        return NULL;
    return MF_STEAL(w);
}

void mf_webhooks_free(struct mf_webhooks *w)
{
    if (!w)
        return;
    mf_arena_free(w->arena);
    explicit_bzero(w->list, sizeof w->list);
    free(w);
}

const struct mf_webhook *mf_webhooks_find(const struct mf_webhooks *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->list[i].name, name) == 0)
            return &w->list[i];
    return NULL;
}

/* --- signing --- */

bool mf_webhook_sign(const struct mf_webhook *webhook, const char *id, int64_t timestamp,
                     const char *body, char out[MF_WEBHOOK_SIGNATURE], struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer message;
    mf_buffer_init(&message, MESSAGE_BYTES);
    if (!mf_buffer_printf(&message, err, "%s.%" PRId64 ".", id, timestamp) ||
        !mf_buffer_append_str(&message, body, err))
        return false;
    size_t used = 0;
    for (size_t i = 0; i < webhook->secret_count; i++) {
        const struct mf_webhook_secret *secret = &webhook->secrets[i];
        unsigned char tag[TAG_BYTES], text[TAG_TEXT];
        unsigned n = 0;
        if (!HMAC(EVP_sha256(), secret->bytes, (int)secret->len,
                  (const unsigned char *)message.data, message.len, tag, &n) ||
            n != TAG_BYTES)
            return mf_error_set(err, MF_ERR_INTERNAL, "a webhook cannot be signed");
        EVP_EncodeBlock(text, tag, TAG_BYTES);
        used += (size_t)snprintf(out + used, MF_WEBHOOK_SIGNATURE - used, "%sv1,%s",
                                 used ? " " : "", (const char *)text);
    }
    return true;
}
