/* AES-256-GCM by OpenSSL's EVP: see gcm.h. */
#include "server/gcm.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct mf_gcm {
    EVP_CIPHER_CTX *seal, *open; /* keyed; each message sets its nonce */
};

struct mf_gcm *mf_gcm_new(const unsigned char key[MF_GCM_KEY])
{
    MF_AUTO(mf_gcm) struct mf_gcm *g = calloc(1, sizeof *g);
    if (!g || !(g->seal = EVP_CIPHER_CTX_new()) || !(g->open = EVP_CIPHER_CTX_new()) ||
        EVP_EncryptInit_ex(g->seal, EVP_aes_256_gcm(), NULL, key, NULL) != 1 ||
        EVP_DecryptInit_ex(g->open, EVP_aes_256_gcm(), NULL, key, NULL) != 1)
        return NULL;
    return MF_STEAL(g);
}

void mf_gcm_free(struct mf_gcm *g)
{
    if (!g)
        return;
    EVP_CIPHER_CTX_free(g->seal); /* wipes what it held */
    EVP_CIPHER_CTX_free(g->open);
    free(g);
}

bool mf_gcm_seal(struct mf_gcm *g, const unsigned char nonce[MF_GCM_NONCE], const void *aad,
                 size_t aad_len, const void *in, size_t len, void *out,
                 unsigned char tag[MF_GCM_TAG])
{
    int n = 0, end = 0;
    return len <= INT_MAX && aad_len <= INT_MAX &&
           EVP_EncryptInit_ex(g->seal, NULL, NULL, NULL, nonce) == 1 &&
           EVP_EncryptUpdate(g->seal, NULL, &n, aad, (int)aad_len) == 1 &&
           EVP_EncryptUpdate(g->seal, out, &n, in, (int)len) == 1 &&
           EVP_EncryptFinal_ex(g->seal, (unsigned char *)out + n, &end) == 1 &&
           EVP_CIPHER_CTX_ctrl(g->seal, EVP_CTRL_AEAD_GET_TAG, MF_GCM_TAG, tag) == 1;
}

bool mf_gcm_open(struct mf_gcm *g, const unsigned char nonce[MF_GCM_NONCE], const void *aad,
                 size_t aad_len, const void *in, size_t len, void *out,
                 const unsigned char tag[MF_GCM_TAG])
{
    unsigned char expected[MF_GCM_TAG];
    int n = 0, end = 0;
    memcpy(expected, tag, sizeof expected);
    return len <= INT_MAX && aad_len <= INT_MAX &&
           EVP_DecryptInit_ex(g->open, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(g->open, NULL, &n, aad, (int)aad_len) == 1 &&
           EVP_DecryptUpdate(g->open, out, &n, in, (int)len) == 1 &&
           EVP_CIPHER_CTX_ctrl(g->open, EVP_CTRL_AEAD_SET_TAG, MF_GCM_TAG, expected) == 1 &&
           EVP_DecryptFinal_ex(g->open, (unsigned char *)out + n, &end) == 1;
}

void mf_random_bytes(void *out, size_t len)
{
    unsigned char *to = out;
    while (len > 0) {
        ssize_t n = getrandom(to, len, 0);
        if (n > 0) { /* else a signal came first */
            to += n;
            len -= (size_t)n;
        }
    }
}
