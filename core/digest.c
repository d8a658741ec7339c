/* SHA-256 over OpenSSL's EVP interface. */
#include "core/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

struct mf_sha256 {
    EVP_MD_CTX *ctx;
};

struct mf_sha256 *mf_sha256_new(void)
{
    struct mf_sha256 *h = calloc(1, sizeof *h);
    if (h && (!(h->ctx = EVP_MD_CTX_new()) || !EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL))) {
        mf_sha256_free(h);
        return NULL;
    }
    return h;
}

void mf_sha256_free(struct mf_sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void mf_sha256_update(struct mf_sha256 *h, const void *data, size_t len)
{
    EVP_DigestUpdate(h->ctx, data, len);
}

void mf_sha256_final(struct mf_sha256 *h, unsigned char out[MF_SHA256_BYTES])
{
    EVP_DigestFinal_ex(h->ctx, out, NULL);
    EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);
}

void mf_sha256(const void *data, size_t len, unsigned char out[MF_SHA256_BYTES])
{
    EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL);
}

bool mf_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                    unsigned char out[MF_SHA256_BYTES])
{
    unsigned n = MF_SHA256_BYTES;
    return HMAC(EVP_sha256(), key, (int)key_len, data, len, out, &n) != NULL;
}

const char *mf_sha256_to_hex(const unsigned char digest[MF_SHA256_BYTES], char out[MF_SHA256_HEX])
{
    for (int i = 0; i < MF_SHA256_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return out;
}

bool mf_sha256_file(const char *path, unsigned char out[MF_SHA256_BYTES], struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    MF_AUTO(mf_sha256) struct mf_sha256 *h = mf_sha256_new();
    MF_AUTO(mf_mem) unsigned char *chunk = malloc(1 << 16);
    if (fd < 0)
        return mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "%s: %s", path,
                            strerror(errno));
    if (!h || !chunk)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (;;) {
        ssize_t n = read(fd, chunk, 1 << 16);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(errno));
        if (n == 0)
            break;
        mf_sha256_update(h, chunk, (size_t)n);
    }
    mf_sha256_final(h, out);
    return true;
}
