/*
 * FHIR client: requests to the configured servers (fhir_servers.h), with access tokens by OAuth 2.0
 * client credentials (RFC 6749 4.4; with a key by RFC 7523, as SMART Backend Services asks). Tokens
 * and capabilities are kept until they are old. Thread-safe.
 */
#ifndef MF_SERVER_FHIR_CLIENT_H
#define MF_SERVER_FHIR_CLIENT_H

#include "core/buffer.h"
#include "core/json.h"
#include "server/fhir_servers.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_fhir_client;

/* `timeout_s`: of one exchange. The file of servers is read here: MF_ERR_USAGE. */
struct mf_fhir_client *mf_fhir_client_new(const char *servers_path, int timeout_s,
                                          struct mf_error *err) MF_CHECK_RESULT;
void mf_fhir_client_free(struct mf_fhir_client *client);

/* The number of a server (NULL = the first one). −1 with MF_ERR_UNUSABLE: there is none. */
long mf_fhir_client_find(const struct mf_fhir_client *client, const char *name,
                         struct mf_error *err);
const struct mf_fhir_server *mf_fhir_client_server(const struct mf_fhir_client *client,
                                                   long server);

/* GETs a URL of the server (its own address, or MF_ERR_UNAVAILABLE) into `answer`, which is
 * cleared. MF_ERR_NOT_FOUND: 404, 410; MF_ERR_UNUSABLE: another 4xx; MF_ERR_UNAVAILABLE: what
 * passes (408, 429, 5xx), no token; MF_ERR_TIMEOUT, MF_ERR_IO; MF_ERR_TOO_LARGE: the answer is
 * larger than the buffer's ceiling. */
bool mf_fhir_client_get(struct mf_fhir_client *client, long server, const char *url,
                        struct mf_buffer *answer, struct mf_error *err) MF_CHECK_RESULT;
/* POSTs a resource to the server's base. Errors as above. */
bool mf_fhir_client_post(struct mf_fhir_client *client, long server, const char *body,
                         size_t body_len, struct mf_buffer *answer,
                         struct mf_error *err) MF_CHECK_RESULT;

/* The server's CapabilityStatement, an hour old at most; the caller owns the reference. NULL: it
 * gives none. */
json_t *mf_fhir_client_capabilities(struct mf_fhir_client *client, long server);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_fhir_client, struct mf_fhir_client *, mf_fhir_client_free(*p))

#endif
