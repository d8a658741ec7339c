/*
 * FHIR servers that this installation may speak to: the file `fhir.servers` of the configuration.
 *
 *   {"NAME": {"url": "https://ehr.example/fhir",
 *             "token_url": "https://login.example/token",    OAuth 2.0 client credentials, with
 *             "client_id": "medfusion",
 *             "client_secret_file": "FILE",                  a secret, or
 *             "private_key_file": "FILE", "key_id": "k1",    a key: PEM, RSA (RS384) or P-384
 * (ES384) "scope": "system/Patient.read …", "ca_file": "FILE",                             PEM;
 * else the system's authorities "identifier_system": "urn:oid:1.2.3",          of what DICOM calls
 * PatientID "everything": true}}                           false: never ask for $everything
 *
 * Only "url" is required. Requests name a server, never an address.
 */
#ifndef MF_SERVER_FHIR_SERVERS_H
#define MF_SERVER_FHIR_SERVERS_H

#include "core/auto.h"
#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Strings live as long as the list; NULL = not given. */
struct mf_fhir_server {
    const char *name;
    const char *url; /* without a slash at its end */
    const char *token_url, *client_id, *client_secret, *private_key_file, *key_id, *scope;
    const char *ca_file, *identifier_system;
    bool everything;
};

struct mf_fhir_servers;

/* "off" gives an empty list. MF_ERR_USAGE names the file, the server and the member. */
struct mf_fhir_servers *mf_fhir_servers_load(const char *path,
                                             struct mf_error *err) MF_CHECK_RESULT;
void mf_fhir_servers_free(struct mf_fhir_servers *servers);

size_t mf_fhir_servers_count(const struct mf_fhir_servers *servers);
const struct mf_fhir_server *mf_fhir_servers_get(const struct mf_fhir_servers *servers, size_t i);
/* The number of the server of this name (NULL = the first one), or −1. */
long mf_fhir_servers_find(const struct mf_fhir_servers *servers, const char *name);

/* Whether a URL lies on the same scheme, host and port as the server's, in its path. */
bool mf_fhir_server_owns(const struct mf_fhir_server *server, const char *url);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_fhir_servers, struct mf_fhir_servers *, mf_fhir_servers_free(*p))

#endif
