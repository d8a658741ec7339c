/* Signatures of bundles. */
#include "server/signature.h"

#include "core/auto.h"
#include "core/buffer.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

enum { SIGNATURE_BYTES = 64, MANIFEST_MAX = 16 << 20, PATH_BYTES = 4096 };

MF_AUTO_DEFINE(pkey, EVP_PKEY *, EVP_PKEY_free(*p))
MF_AUTO_DEFINE(md_context, EVP_MD_CTX *, EVP_MD_CTX_free(*p))

static bool path_in(const char *dir, const char *name, char path[PATH_BYTES], struct mf_error *err)
{
    if (snprintf(path, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
        return mf_error_set(err, MF_ERR_USAGE, "%s: the path is too long", dir);
    return true;
}

static EVP_PKEY *read_key(const char *path, bool private_key, struct mf_error *err)
{
    MF_AUTO(mf_file) FILE *f = fopen(path, "re");
    if (!f) {
        mf_error_set(err, MF_ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
        return NULL;
    }
    EVP_PKEY *key = private_key ? PEM_read_PrivateKey(f, NULL, NULL, NULL)
                                : PEM_read_PUBKEY(f, NULL, NULL, NULL);
    if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
        return key;
    EVP_PKEY_free(key);
    mf_error_set(err, MF_ERR_UNUSABLE, "%s: not %s Ed25519 key in PEM", path,
                 private_key ? "a private" : "a public");
    return NULL;
}

static bool read_manifest(const char *dir, struct mf_buffer *manifest, struct mf_error *err)
{
    char path[PATH_BYTES];
    mf_buffer_init(manifest, MANIFEST_MAX);
    return path_in(dir, "manifest.json", path, err) && mf_buffer_read_file(manifest, path, err);
}

static bool read_signature(const char *dir, struct mf_buffer *signature, struct mf_error *err)
{
    char path[PATH_BYTES];
    struct mf_error problem = MF_ERROR_INIT;
    mf_buffer_init(signature, SIGNATURE_BYTES);
    if (!path_in(dir, "manifest.sig", path, err))
        return false;
    return mf_buffer_read_file(signature, path, &problem) ||
           mf_error_set(err, MF_ERR_MODEL, "the bundle is not signed: %s", problem.msg);
}

/* Whether the key made it; *ret_own. */
static bool try_key(const char *path, const struct mf_buffer *manifest,
                    const struct mf_buffer *signature, bool *ret_own, struct mf_error *err)
{
    MF_AUTO(pkey) EVP_PKEY *key = read_key(path, false, err);
    MF_AUTO(md_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!key || !context)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    *ret_own = EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
               EVP_DigestVerify(context, (const unsigned char *)signature->data, signature->len,
                                (const unsigned char *)manifest->data, manifest->len) == 1;
    return true;
}

bool mf_signature_verify(const char *dir, const char *const keys[], size_t count,
                         char digest[MF_SHA256_HEX], struct mf_error *err)
{
    unsigned char hash[MF_SHA256_BYTES];
    bool own = false;
    MF_AUTO(mf_buffer) struct mf_buffer manifest = {.ceiling = 0}, signature = {.ceiling = 0};
    if (!read_manifest(dir, &manifest, err) || !read_signature(dir, &signature, err))
        return false;
    for (size_t i = 0; i < count && !own; i++)
        if (!try_key(keys[i], &manifest, &signature, &own, err))
            return false;
    if (!own)
        return mf_error_set(err, MF_ERR_MODEL, "%s: manifest.sig is not %s signature", dir,
                            count == 1 ? "this key's" : "one of these keys'");
    mf_sha256(manifest.data, manifest.len, hash);
    if (digest)
        mf_sha256_to_hex(hash, digest);
    return true;
}

bool mf_signature_write(const char *dir, const char *key_path, struct mf_error *err)
{
    char path[PATH_BYTES];
    unsigned char signature[SIGNATURE_BYTES];
    size_t len = sizeof signature;
    MF_AUTO(mf_buffer) struct mf_buffer manifest = {.ceiling = 0};
    if (!read_manifest(dir, &manifest, err) || !path_in(dir, "manifest.sig", path, err))
        return false;
    MF_AUTO(pkey) EVP_PKEY *key = read_key(key_path, true, err);
    MF_AUTO(md_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!key || !context)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(context, signature, &len, (const unsigned char *)manifest.data,
                       manifest.len) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "%s: cannot sign", key_path);
    FILE *f = fopen(path, "we");
    bool ok = f && fwrite(signature, 1, len, f) == len;
    ok = f && fclose(f) == 0 && ok;
    return ok || mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(errno));
}
