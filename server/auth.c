/* Authentication: credentials to principals. How a request is refused is in authorize.c. */
#include "server/auth.h"

#include "server/api_keys.h"
#include "server/replay.h"
#include "server/tokens.h"
#include "server/trust_file.h"

#include "core/clock.h"
#include "core/log.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
    REMEMBERED = 256,  /* signatures that were checked */
    REMEMBER_S = 60,   /* for so long */
    ASSERTION_S = 300, /* the longest life of an assertion */
    LIFE_S = 86400,    /* the longest rest of life of an issuer's token */
    ID_BYTES = 256     /* of a jti */
};

struct remembered {
    unsigned char digest[MF_SHA256_BYTES];
    int64_t until_s;
    struct mf_principal principal;
};

struct mf_auth {
    const struct mf_config *config;
    struct mf_trust_file *trust; /* NULL: auth.trust is off */
    struct mf_token_key *token_key;
    struct mf_replay *replay;
    pthread_mutex_t lock; /* of what follows */
    struct mf_api_keys *keys;
    struct remembered remembered[REMEMBERED];
    struct timespec keys_modified; /* of the thread alone */
    sem_t ended;
    pthread_t thread;
    bool running;
};

static bool is_set(const char *path)
{
    return strcmp(path, "off") != 0;
}

static int64_t now_s(void)
{
    return mf_clock_wall_ms() / 1000;
}

/* --- keeping fresh --- */

static struct timespec modified(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

static void refresh_keys(struct mf_auth *a)
{
    struct timespec now = modified(a->config->auth.keys);
    struct mf_error err = MF_ERROR_INIT;
    if (now.tv_sec == a->keys_modified.tv_sec && now.tv_nsec == a->keys_modified.tv_nsec)
        return;
    a->keys_modified = now;
    struct mf_api_keys *keys = mf_api_keys_read(a->config->auth.keys, &err);
    if (!keys) {
        mf_log(MF_LOG_ERROR, "auth.keys_unreadable", MF_LOG_S("reason", err.msg));
        return;
    }
    pthread_mutex_lock(&a->lock);
    struct mf_api_keys *old = a->keys;
    a->keys = keys;
    pthread_mutex_unlock(&a->lock);
    mf_api_keys_free(old);
    mf_log(MF_LOG_INFO, "auth.keys_read", MF_LOG_I("keys", keys->count));
}

static void refresh_sets(struct mf_trusted *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct mf_error err = MF_ERROR_INIT;
        if (mf_jwks_refresh(list[i].jwks, &err))
            mf_log(MF_LOG_INFO, "auth.key_set_read", MF_LOG_S("of", list[i].id));
        else if (err.code)
            mf_log(MF_LOG_WARN, "auth.key_set_unreadable", MF_LOG_S("reason", err.msg));
    }
}

static void *thread_main(void *argument)
{
    struct mf_auth *a = argument;
    struct timespec until;
    do {
        if (is_set(a->config->auth.keys))
            refresh_keys(a);
        if (a->trust) {
            refresh_sets(a->trust->issuers, a->trust->issuer_count);
            refresh_sets(a->trust->clients, a->trust->client_count);
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
    } while (sem_timedwait(&a->ended, &until) != 0);
    return NULL;
}

/* --- life --- */

struct mf_auth *mf_auth_new(const struct mf_config *config, struct mf_error *err)
{
    MF_AUTO(mf_auth) struct mf_auth *a = calloc(1, sizeof *a);
    if (!a) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for authentication");
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    sem_init(&a->ended, 0, 0);
    a->config = config;
    if (is_set(config->auth.keys)) {
        a->keys_modified = modified(config->auth.keys);
        a->keys = mf_api_keys_read(config->auth.keys, err);
        if (!a->keys) {
            mf_error_prefix(err, "auth.keys");
            return NULL;
        }
    }
    if (is_set(config->auth.trust) &&
        !(a->trust = mf_trust_file_read(config->auth.trust, config, err))) {
        mf_error_prefix(err, "auth.trust");
        return NULL;
    }
    return MF_STEAL(a);
}

bool mf_auth_start(struct mf_auth *a, struct mf_error *err)
{
    const char *directory = a->config->data.directory;
    if (mf_auth_token_url(a) && (!(a->token_key = mf_token_key_open(directory, err)) ||
                                 !(a->replay = mf_replay_open(directory, now_s(), err))))
        return false;
    a->running = pthread_create(&a->thread, NULL, thread_main, a) == 0;
    if (!a->running)
        mf_error_set(err, MF_ERR_NO_MEMORY, "a thread cannot be started");
    return a->running;
}

void mf_auth_free(struct mf_auth *a)
{
    if (!a)
        return;
    if (a->running) {
        sem_post(&a->ended);
        pthread_join(a->thread, NULL);
    }
    mf_api_keys_free(a->keys);
    mf_trust_file_free(a->trust);
    mf_token_key_close(a->token_key);
    mf_replay_close(a->replay);
    sem_destroy(&a->ended);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

const char *mf_auth_token_url(const struct mf_auth *a)
{
    return a->trust && a->trust->client_count ? a->trust->token_url : NULL;
}

/* --- tokens of issuers --- */

static bool recall(struct mf_auth *a, const unsigned char digest[MF_SHA256_BYTES],
                   struct mf_principal *ret)
{
    struct remembered *slot = &a->remembered[digest[0] % REMEMBERED];
    pthread_mutex_lock(&a->lock);
    bool found = slot->until_s > now_s() && memcmp(slot->digest, digest, MF_SHA256_BYTES) == 0;
    if (found)
        *ret = slot->principal;
    pthread_mutex_unlock(&a->lock);
    return found;
}

static void remember(struct mf_auth *a, const unsigned char digest[MF_SHA256_BYTES],
                     int64_t until_s, const struct mf_principal *principal)
{
    struct remembered *slot = &a->remembered[digest[0] % REMEMBERED];
    pthread_mutex_lock(&a->lock);
    memcpy(slot->digest, digest, MF_SHA256_BYTES);
    slot->until_s = until_s;
    slot->principal = *principal;
    pthread_mutex_unlock(&a->lock);
}

static bool refuse(struct mf_error *err, const char *reason)
{
    return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the token %s", reason);
}

/* The principal of verified claims. */
static bool take_claims(const struct mf_trusted *issuer, const struct mf_jwt *jwt,
                        struct mf_principal *ret, struct mf_error *err)
{
    const json_t *scope = json_object_get(jwt->claims, "scope");
    const char *tenant =
        issuer->tenant ? issuer->tenant : mf_json_get_string(jwt->claims, issuer->tenant_claim, "");
    if (!mf_tenant_valid(tenant))
        return refuse(err, "names no tenant");
    if (scope ? !json_is_string(scope) : !issuer->scopeless)
        return refuse(err, "has no scope");
    *ret = (struct mf_principal){.tenant = ""};
    snprintf(ret->tenant, sizeof ret->tenant, "%s", tenant);
    snprintf(ret->name, sizeof ret->name, "token:%.100s",
             mf_json_get_string(jwt->claims, "sub", "-"));
    if (scope)
        mf_grant_add_list(&ret->grant, json_string_value(scope));
    else
        ret->grant = issuer->limit;
    mf_grant_limit(&ret->grant, &issuer->limit);
    return true;
}

static bool identify_jwt(struct mf_auth *a, const char *text, struct mf_principal *ret,
                         struct mf_error *err)
{
    static const char *const types[] = {"at+jwt", "application/at+jwt", "JWT", NULL};
    unsigned char digest[MF_SHA256_BYTES];
    MF_AUTO(mf_jwt) struct mf_jwt jwt = {.text = NULL};
    mf_sha256(text, strlen(text), digest);
    if (recall(a, digest, ret))
        return true;
    if (!mf_jwt_open(text, types, &jwt, err))
        return false;
    const struct mf_trusted *issuer =
        mf_trust_file_issuer(a->trust, mf_json_get_string(jwt.claims, "iss", ""));
    if (!issuer)
        return refuse(err, "is of an issuer that is not trusted");
    if (!mf_jwks_verify(issuer->jwks, &jwt, err) || !mf_jwt_in_time(&jwt, now_s(), LIFE_S, err))
        return false;
    if (!mf_jwt_for_audience(&jwt, issuer->audience))
        return refuse(err, "is for somebody else (aud)");
    if (!take_claims(issuer, &jwt, ret, err))
        return false;
    int64_t exp = (int64_t)json_number_value(json_object_get(jwt.claims, "exp"));
    remember(a, digest, exp < now_s() + REMEMBER_S ? exp : now_s() + REMEMBER_S, ret);
    return true;
}

bool mf_auth_identify(struct mf_auth *a, const char *credential, struct mf_principal *ret,
                      struct mf_error *err)
{
    if (mf_api_key_is(credential) && a->keys) {
        pthread_mutex_lock(&a->lock);
        bool ok = mf_api_keys_identify(a->keys, credential, mf_clock_wall_ms(), ret, err);
        pthread_mutex_unlock(&a->lock);
        return ok;
    }
    if (mf_token_is(credential) && a->token_key)
        return mf_token_identify(a->token_key, credential, now_s(), ret, err);
    if (a->trust && a->trust->issuer_count)
        return identify_jwt(a, credential, ret, err);
    return mf_error_set(err, MF_ERR_UNAUTHORIZED, "the credential is of no kind that is known");
}

/* --- our own tokens --- */

/* The client that signed this; NULL: it is refused. */
static const struct mf_trusted *check_assertion(struct mf_auth *a, const char *text,
                                                struct mf_error *err)
{
    static const char *const types[] = {"JWT", NULL};
    MF_AUTO(mf_jwt) struct mf_jwt jwt = {.text = NULL};
    if (!mf_jwt_open(text, types, &jwt, err))
        return NULL;
    const char *issuer = mf_json_get_string(jwt.claims, "iss", "");
    const char *id = mf_json_get_string(jwt.claims, "jti", "");
    const struct mf_trusted *client = mf_trust_file_client(a->trust, issuer);
    const char *reason = NULL;
    if (!client || strcmp(issuer, mf_json_get_string(jwt.claims, "sub", "")) != 0)
        reason = "is of a client that is not known (iss, sub)";
    else if (!mf_jwks_verify(client->jwks, &jwt, err) ||
             !mf_jwt_in_time(&jwt, now_s(), ASSERTION_S, err))
        return NULL;
    else if (!mf_jwt_for_audience(&jwt, a->trust->token_url))
        reason = "is for somebody else (aud)";
    else if (!*id || strlen(id) >= ID_BYTES)
        reason = "has no id (jti)";
    if (reason) {
        refuse(err, reason);
        return NULL;
    }
    int64_t exp = (int64_t)json_number_value(json_object_get(jwt.claims, "exp"));
    return mf_replay_use(a->replay, issuer, id, now_s(), exp + 2 * 60, err) ? client : NULL;
}

/* Those of the scopes asked for that are the client's. */
static bool choose_scopes(const struct mf_grant *limit, const char *wanted, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    while (*(wanted += strspn(wanted, " "))) {
        size_t len = strcspn(wanted, " ");
        struct mf_grant one = {0};
        if (mf_grant_add(&one, wanted, len) && mf_grant_covers(limit, &one) &&
            used + len + 2 < size)
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? " " : "", (int)len,
                                     wanted);
        wanted += len;
    }
    return used > 0;
}

json_t *mf_auth_exchange(struct mf_auth *a, const char *assertion, const char *scopes,
                         struct mf_error *err)
{
    char chosen[MF_TOKEN_SCOPES], name[MF_PRINCIPAL];
    const struct mf_trusted *client = check_assertion(a, assertion, err);
    if (!client)
        return NULL;
    if (!choose_scopes(&client->limit, scopes, chosen, sizeof chosen)) {
        mf_error_set(err, MF_ERR_UNUSABLE, "none of the scopes is the client's");
        return NULL;
    }
    snprintf(name, sizeof name, "client:%.100s", client->id);
    MF_AUTO(mf_mem)
    char *token =
        mf_token_make(a->token_key, name, client->tenant, chosen, now_s() + MF_ACCESS_TOKEN_S, err);
    json_t *answer = token ? json_pack("{s:s, s:s, s:i, s:s}", "access_token", token, "token_type",
                                       "bearer", "expires_in", MF_ACCESS_TOKEN_S, "scope", chosen)
                           : NULL;
    if (!answer)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for access tokens");
    return answer;
}
