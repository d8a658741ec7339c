/* Key sets: one lock around the set in use; reading and fetching happen outside of it. */
#include "server/jwks.h"

#include "server/web_client.h"

#include "core/buffer.h"
#include "core/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { FETCH_S = 10, SOON_S = 5, HOST_BYTES = 256 };

static const uint64_t SECOND = 1000000000;

struct mf_jwks {
    pthread_mutex_t lock;
    struct mf_jwk_set *set; /* NULL: nothing was fetched yet */
    char *name, *file, *url;
    struct timespec modified; /* of the file that was read */
    uint64_t tried_ns, every_ns;
    int wanted; /* atomic: a token named a key that is not in the set */
};

/* The host of "https://host[:port]/…" (brackets of IPv6 stay); false: no such URL. */
static bool host_of(const char *url, char host[HOST_BYTES])
{
    const char *at = strstr(url, "://");
    if (!at)
        return false;
    at += 3;
    size_t len = *at == '[' ? strcspn(at, "]/") + 1 : strcspn(at, ":/?#");
    if (len == 0 || len >= HOST_BYTES || memchr(at, '@', strcspn(at, "/?#")))
        return false;
    snprintf(host, HOST_BYTES, "%.*s", (int)len, at);
    return true;
}

static bool check_url(const char *url, const char *name, const struct mf_config *config,
                      struct mf_error *err)
{
    char host[HOST_BYTES];
    if (!host_of(url, host))
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"jwks_url\" is no address", name);
    bool loopback = strcmp(host, "127.0.0.1") == 0 || strcmp(host, "[::1]") == 0;
    if (strncmp(url, "https://", 8) != 0 && !(loopback && strncmp(url, "http://", 7) == 0))
        return mf_error_set(err, MF_ERR_USAGE, "%s: \"jwks_url\" must be https", name);
    for (size_t i = 0; i < config->auth.jwks_hosts.count; i++)
        if (strcasecmp(config->auth.jwks_hosts.items[i], host) == 0)
            return true;
    return mf_error_set(err, MF_ERR_USAGE, "%s: the host of \"jwks_url\" is not in auth.jwks_hosts",
                        name);
}

static bool read_file(struct mf_jwks *j, struct mf_error *err);

static bool set_source(struct mf_jwks *j, const json_t *object, const struct mf_config *config,
                       struct mf_error *err)
{
    const char *file = mf_json_get_string(object, "jwks_file", NULL);
    const char *url = mf_json_get_string(object, "jwks_url", NULL);
    const json_t *given = json_object_get(object, "jwks");
    if ((file != NULL) + (url != NULL) + (given != NULL) != 1)
        return mf_error_set(err, MF_ERR_USAGE,
                            "%s: needs one of \"jwks\", \"jwks_file\" and \"jwks_url\"", j->name);
    if (url && !check_url(url, j->name, config, err))
        return false;
    j->file = file ? strdup(file) : NULL;
    j->url = url ? strdup(url) : NULL;
    if ((file && !j->file) || (url && !j->url))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for key sets");
    if (file)
        return read_file(j, err);
    if (url)
        return true;
    MF_AUTO(mf_mem) char *text = mf_json_text(given, 0);
    j->set = text ? mf_jwk_set_parse(text, strlen(text), j->name, err) : NULL;
    return j->set != NULL;
}

struct mf_jwks *mf_jwks_new(const json_t *object, const char *name, const struct mf_config *config,
                            struct mf_error *err)
{
    MF_AUTO(mf_jwks) struct mf_jwks *j = calloc(1, sizeof *j);
    if (j)
        pthread_mutex_init(&j->lock, NULL);
    if (!j || !(j->name = strdup(name))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for key sets");
        return NULL;
    }
    j->every_ns = (uint64_t)config->auth.jwks_refresh_s * SECOND;
    if (!set_source(j, object, config, err))
        return NULL;
    return MF_STEAL(j);
}

void mf_jwks_free(struct mf_jwks *j)
{
    if (!j)
        return;
    mf_jwk_set_free(j->set);
    pthread_mutex_destroy(&j->lock);
    free(j->name);
    free(j->file);
    free(j->url);
    free(j);
}

bool mf_jwks_verify(struct mf_jwks *j, const struct mf_jwt *jwt, struct mf_error *err)
{
    pthread_mutex_lock(&j->lock);
    bool known = j->set && mf_jwk_set_has(j->set, jwt->kid);
    bool ok = known ? mf_jwt_verify(jwt, j->set, err)
                    : mf_error_set(err, MF_ERR_UNAUTHORIZED,
                                   "the token is signed with a key that is not known");
    pthread_mutex_unlock(&j->lock);
    if (!known)
        __atomic_store_n(&j->wanted, 1, __ATOMIC_RELAXED);
    return ok;
}

/* --- reading --- */

static bool use(struct mf_jwks *j, const char *text, size_t len, struct mf_error *err)
{
    struct mf_jwk_set *set = mf_jwk_set_parse(text, len, j->name, err);
    if (!set)
        return false;
    pthread_mutex_lock(&j->lock);
    struct mf_jwk_set *old = j->set;
    j->set = set;
    pthread_mutex_unlock(&j->lock);
    mf_jwk_set_free(old);
    return true;
}

static bool read_file(struct mf_jwks *j, struct mf_error *err)
{
    struct stat st;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, MF_JWK_SET_BYTES);
    if (stat(j->file, &st) != 0 || !mf_buffer_read_file(&text, j->file, NULL))
        return mf_error_set(err, MF_ERR_USAGE, "%s: %.100s cannot be read", j->name, j->file);
    j->modified = st.st_mtim;
    return use(j, text.data ? text.data : "", text.len, err);
}

static bool keep(void *context, const char *content_type, const void *data, size_t len,
                 struct mf_error *err)
{
    (void)content_type;
    return mf_buffer_append(context, data, len, err);
}

static bool fetch(struct mf_jwks *j, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, MF_JWK_SET_BYTES);
    long status = 0;
    const struct mf_web_request request = {.url = j->url,
                                           .accept = "application/jwk-set+json, application/json",
                                           .timeout_s = FETCH_S,
                                           .max_bytes = MF_JWK_SET_BYTES,
                                           .data = keep,
                                           .context = &text};
    if (!mf_web_send(&request, &status, err))
        return mf_error_prefix(err, "%s: its key set", j->name);
    if (status != 200)
        return mf_error_set(err, MF_ERR_IO, "%s: its key set: the server answered %ld", j->name,
                            status);
    return use(j, text.data ? text.data : "", text.len, err);
}

bool mf_jwks_refresh(struct mf_jwks *j, struct mf_error *err)
{
    uint64_t now = mf_clock_monotonic_ns(), age = now - j->tried_ns;
    struct stat st;
    if (j->file)
        return stat(j->file, &st) == 0 &&
               (st.st_mtim.tv_sec != j->modified.tv_sec ||
                st.st_mtim.tv_nsec != j->modified.tv_nsec) &&
               read_file(j, err);
    bool soon = __atomic_load_n(&j->wanted, __ATOMIC_RELAXED) || !j->set;
    if (!j->url || (j->tried_ns && age < j->every_ns && !(soon && age >= SOON_S * SECOND)))
        return false;
    j->tried_ns = now;
    __atomic_store_n(&j->wanted, 0, __ATOMIC_RELAXED);
    return fetch(j, err);
}
