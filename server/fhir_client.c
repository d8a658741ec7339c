/* FHIR client: requests. Answers in XML are not asked for, redirects are not followed. */
#include "server/fhir_client.h"

#include "server/fhir_token.h"
#include "server/web_client.h"

#include "core/clock.h"

#include <pthread.h>
#include <string.h>

enum { CAPABILITY_BYTES = 16 << 20 };

static const char FHIR_JSON[] = "application/fhir+json";
static const uint64_t SECOND = 1000000000;
static const uint64_t CAPABILITY_AGE_S = 3600;

/* What is known of one server. */
struct peer {
    pthread_mutex_t lock; /* of what follows */
    struct mf_fhir_token token;
    json_t *capabilities; /* NULL = none */
    uint64_t asked_ns;    /* when it was asked for them; 0 = not yet */
};

struct mf_fhir_client {
    struct mf_fhir_servers *servers;
    struct peer *peers;
    int timeout_s;
};

/* A key that cannot sign is told at once. */
static bool check_keys(const struct mf_fhir_servers *servers, struct mf_error *err)
{
    for (size_t i = 0; i < mf_fhir_servers_count(servers); i++) {
        MF_AUTO(mf_buffer) struct mf_buffer jwt;
        mf_buffer_init(&jwt, MF_FHIR_TOKEN_BYTES);
        if (mf_fhir_servers_get(servers, i)->private_key_file &&
            !mf_fhir_assertion(mf_fhir_servers_get(servers, i), 0, "check", &jwt, err))
            return false;
    }
    return true;
}

struct mf_fhir_client *mf_fhir_client_new(const char *servers_path, int timeout_s,
                                          struct mf_error *err)
{
    struct mf_fhir_servers *servers = mf_fhir_servers_load(servers_path, err);
    struct mf_fhir_client *client = calloc(1, sizeof *client);
    struct peer *peers = servers ? calloc(mf_fhir_servers_count(servers) + 1, sizeof *peers) : NULL;
    if (!servers || !client || !peers) {
        if (servers)
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for FHIR servers");
        mf_fhir_servers_free(servers);
        free(client);
        free(peers);
        return NULL;
    }
    *client = (struct mf_fhir_client){.servers = servers, .peers = peers, .timeout_s = timeout_s};
    for (size_t i = 0; i < mf_fhir_servers_count(servers); i++)
        pthread_mutex_init(&peers[i].lock, NULL);
    if (!check_keys(servers, err)) {
        mf_fhir_client_free(client);
        return NULL;
    }
    return client;
}

void mf_fhir_client_free(struct mf_fhir_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < mf_fhir_servers_count(client->servers); i++) {
        mf_fhir_token_clear(&client->peers[i].token);
        json_decref(client->peers[i].capabilities);
        pthread_mutex_destroy(&client->peers[i].lock);
    }
    mf_fhir_servers_free(client->servers);
    free(client->peers);
    free(client);
}

long mf_fhir_client_find(const struct mf_fhir_client *client, const char *name,
                         struct mf_error *err)
{
    long i = mf_fhir_servers_find(client->servers, name);
    if (i < 0)
        mf_error_set(err, MF_ERR_UNUSABLE, "there is no such FHIR server in fhir.servers");
    return i;
}

const struct mf_fhir_server *mf_fhir_client_server(const struct mf_fhir_client *client, long server)
{
    return mf_fhir_servers_get(client->servers, (size_t)server);
}

/* --- requests --- */

/* The header field's value with a valid token, or "" for a server that wants none. `fresh`: the one
 * that was used is not good any more. */
static bool authorize(struct mf_fhir_client *c, long server, bool fresh, struct mf_buffer *ret,
                      struct mf_error *err)
{
    const struct mf_fhir_server *s = mf_fhir_client_server(c, server);
    struct peer *peer = &c->peers[server];
    mf_buffer_clear(ret);
    if (!s->token_url)
        return true;
    pthread_mutex_lock(&peer->lock);
    if (fresh)
        mf_fhir_token_clear(&peer->token);
    bool ok = mf_fhir_token_renew(&peer->token, s, c->timeout_s, err) &&
              mf_buffer_printf(ret, err, "Bearer %s", peer->token.text);
    pthread_mutex_unlock(&peer->lock);
    return ok;
}

static bool judge(long status, struct mf_error *err)
{
    if (status / 100 == 2)
        return true;
    if (status == 404 || status == 410)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the FHIR server answered %ld", status);
    bool passes = status / 100 == 5 || status == 408 || status == 429 || status == 401;
    return mf_error_set(err, passes ? MF_ERR_UNAVAILABLE : MF_ERR_UNUSABLE,
                        "the FHIR server answered %ld", status);
}

/* Sends it; once more with a new token when the server has forgotten the old one. */
static bool exchange(struct mf_fhir_client *c, long server, struct mf_web_request *request,
                     struct mf_buffer *answer, struct mf_error *err)
{
    const struct mf_fhir_server *s = mf_fhir_client_server(c, server);
    MF_AUTO(mf_buffer) struct mf_buffer authorization;
    long status = 401;
    mf_buffer_init(&authorization, MF_FHIR_TOKEN_BYTES + 16);
    request->accept = FHIR_JSON;
    request->ca_file = s->ca_file;
    request->timeout_s = c->timeout_s;
    request->max_bytes = answer->ceiling;
    request->data = mf_web_keep;
    request->context = answer;
    for (int attempt = 0; attempt < 2 && status == 401; attempt++) {
        if (!authorize(c, server, attempt > 0, &authorization, err))
            return false;
        request->authorization = authorization.len ? authorization.data : NULL;
        mf_buffer_clear(answer);
        if (!mf_web_send(request, &status, err))
            return mf_error_prefix(err, "FHIR server \"%s\"", s->name);
        if (!s->token_url)
            break;
    }
    return judge(status, err);
}

bool mf_fhir_client_get(struct mf_fhir_client *c, long server, const char *url,
                        struct mf_buffer *answer, struct mf_error *err)
{
    struct mf_web_request request = {.url = url};
    if (!mf_fhir_server_owns(mf_fhir_client_server(c, server), url))
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the FHIR server names an address that is not its own");
    return exchange(c, server, &request, answer, err);
}

bool mf_fhir_client_post(struct mf_fhir_client *c, long server, const char *body, size_t body_len,
                         struct mf_buffer *answer, struct mf_error *err)
{
    struct mf_web_request request = {.url = mf_fhir_client_server(c, server)->url,
                                     .content_type = FHIR_JSON,
                                     .body = body,
                                     .body_len = body_len};
    return exchange(c, server, &request, answer, err);
}

/* --- capabilities --- */

static json_t *ask_capabilities(struct mf_fhir_client *c, long server)
{
    const struct mf_json_limits limits = {CAPABILITY_BYTES, 32};
    struct mf_error ignored =
        MF_ERROR_INIT; /* a server that tells nothing is asked the plain way */
    MF_AUTO(mf_buffer) struct mf_buffer url, answer;
    mf_buffer_init(&url, 4096);
    mf_buffer_init(&answer, CAPABILITY_BYTES);
    if (!mf_buffer_printf(&url, &ignored, "%s/metadata", mf_fhir_client_server(c, server)->url) ||
        !mf_fhir_client_get(c, server, url.data, &answer, &ignored) || answer.len == 0)
        return NULL;
    return mf_json_parse(answer.data, answer.len, &limits, "CapabilityStatement", &ignored);
}

json_t *mf_fhir_client_capabilities(struct mf_fhir_client *c, long server)
{
    struct peer *peer = &c->peers[server];
    pthread_mutex_lock(&peer->lock);
    uint64_t now = mf_clock_monotonic_ns();
    bool old = peer->asked_ns == 0 || now - peer->asked_ns > CAPABILITY_AGE_S * SECOND;
    json_t *known = old ? NULL : json_deep_copy(peer->capabilities);
    pthread_mutex_unlock(&peer->lock);
    if (!old)
        return known;
    json_t *asked = ask_capabilities(c, server);
    if (!asked)
        return NULL; /* the next request asks again */
    pthread_mutex_lock(&peer->lock);
    json_decref(peer->capabilities);
    peer->capabilities = json_deep_copy(asked);
    peer->asked_ns = mf_clock_monotonic_ns();
    pthread_mutex_unlock(&peer->lock);
    return asked;
}
