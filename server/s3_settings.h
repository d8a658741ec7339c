/* S3: where a bucket is and with which credentials, from the configuration. */
#ifndef MF_SERVER_S3_SETTINGS_H
#define MF_SERVER_S3_SETTINGS_H

#include "server/config.h"
#include "server/sigv4.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_S3_URL = 512, MF_S3_HOST = 256 };

struct mf_s3_place {
    char url[MF_S3_URL];    /* scheme, host and port */
    char host[MF_S3_HOST];  /* as in the Host field */
    char bucket[MF_S3_URL]; /* "/bucket" */
    char prefix[MF_S3_URL]; /* of the names, "" or "some/folder/" */
};

/* Reads "https://host[:port]/bucket[/prefix…]". MF_ERR_USAGE names the key. */
bool mf_s3_place_parse(const char *text, struct mf_s3_place *ret,
                       struct mf_error *err) MF_CHECK_RESULT;

/* The credentials: of payloads.s3_credentials, a file as the AWS tools have it (profile "default";
 * without a section everything is of it), or of the environment (AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). MF_ERR_USAGE; no secret is in the message. */
bool mf_s3_credentials(const struct mf_config *config, struct mf_sigv4_key *ret,
                       struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
