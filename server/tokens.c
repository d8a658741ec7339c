/* Access tokens of our own. */
#include "server/tokens.h"

#include "server/jose.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = 32, TAG_BYTES = 32, PATH_BYTES = 4096, TOKEN_BYTES = 4096 };

static const char PREFIX[] = "mft_";

struct mf_token_key {
    unsigned char bytes[KEY_BYTES];
};

/* The key appears whole or not at all: made under another name, and linked. */
static int make_key(const char *path, struct mf_error *err)
{
    unsigned char bytes[KEY_BYTES];
    char temporary[PATH_BYTES + 16];
    snprintf(temporary, sizeof temporary, "%s.part%ld", path, (long)getpid());
    while (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
    }
    int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes &&
              fsync(fd) == 0 && rename(temporary, path) == 0 && lseek(fd, 0, SEEK_SET) == 0;
    explicit_bzero(bytes, sizeof bytes);
    if (ok)
        return fd;
    mf_error_set(err, MF_ERR_IO, "the key of access tokens cannot be made: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

struct mf_token_key *mf_token_key_open(const char *directory, struct mf_error *err)
{
    char path[PATH_BYTES];
    MF_AUTO(mf_token_key) struct mf_token_key *key = calloc(1, sizeof *key);
    if (!key) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for access tokens");
        return NULL;
    }
    snprintf(path, sizeof path, "%s/token.key", directory);
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        fd = make_key(path, err);
    if (fd < 0 || read(fd, key->bytes, sizeof key->bytes) != (ssize_t)sizeof key->bytes) {
        mf_error_set(err, MF_ERR_IO, "the key of access tokens cannot be read");
        return NULL;
    }
    return MF_STEAL(key);
}

void mf_token_key_close(struct mf_token_key *key)
{
    if (key)
        explicit_bzero(key, sizeof *key);
    free(key);
}

static bool make_tag(const struct mf_token_key *key, const char *text, size_t len,
                     unsigned char out[TAG_BYTES])
{
    unsigned n = 0;
    return HMAC(EVP_sha256(), key->bytes, KEY_BYTES, (const unsigned char *)text, len, out, &n) &&
           n == TAG_BYTES;
}

char *mf_token_make(const struct mf_token_key *key, const char *name, const char *tenant,
                    const char *scopes, int64_t expires, struct mf_error *err)
{
    unsigned char tag[TAG_BYTES];
    MF_AUTO(mf_json)
    json_t *claims = json_pack("{s:s, s:s, s:s, s:I}", "name", name, "tenant", tenant, "scope",
                               scopes, "exp", (json_int_t)expires);
    MF_AUTO(mf_mem) char *text = claims ? mf_json_text(claims, 0) : NULL;
    MF_AUTO(mf_mem) char *body = text ? mf_base64url(text, strlen(text)) : NULL;
    bool tagged = body && make_tag(key, body, strlen(body), tag);
    MF_AUTO(mf_mem) char *encoded = tagged ? mf_base64url(tag, sizeof tag) : NULL;
    char *token = NULL;
    if (!encoded || asprintf(&token, "%s%s.%s", PREFIX, body, encoded) < 0) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for access tokens");
        return NULL;
    }
    return token;
}

bool mf_token_is(const char *text)
{
    return strncmp(text, PREFIX, sizeof PREFIX - 1) == 0;
}

static json_t *read_claims(const char *body, size_t len)
{
    static const struct mf_json_limits limits = {TOKEN_BYTES, 2};
    size_t n = 0;
    MF_AUTO(mf_mem) unsigned char *text = mf_base64url_decode(body, len, &n);
    return text ? mf_json_parse((const char *)text, n, &limits, "token", NULL) : NULL;
}

bool mf_token_identify(const struct mf_token_key *key, const char *text, int64_t now,
                       struct mf_principal *ret, struct mf_error *err)
{
    unsigned char tag[TAG_BYTES];
    const char *body = text + sizeof PREFIX - 1, *dot = strchr(text, '.');
    size_t given_len = 0;
    MF_AUTO(mf_mem)
    unsigned char *given = dot ? mf_base64url_decode(dot + 1, strlen(dot + 1), &given_len) : NULL;
    if (!given || given_len != TAG_BYTES || strlen(text) > TOKEN_BYTES)
        return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token is not valid");
    if (!make_tag(key, body, (size_t)(dot - body), tag) ||
        CRYPTO_memcmp(tag, given, TAG_BYTES) != 0)
        return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token is not valid");
    MF_AUTO(mf_json) json_t *claims = read_claims(body, (size_t)(dot - body));
    if (mf_json_get_int(claims, "exp", 0) <= now)
        return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token has expired");
    *ret = (struct mf_principal){.tenant = ""};
    snprintf(ret->tenant, sizeof ret->tenant, "%s", mf_json_get_string(claims, "tenant", ""));
    snprintf(ret->name, sizeof ret->name, "%s", mf_json_get_string(claims, "name", ""));
    mf_grant_add_list(&ret->grant, mf_json_get_string(claims, "scope", ""));
    return mf_tenant_valid(ret->tenant) ||
           mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token is not valid");
}
