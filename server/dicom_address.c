/* Addresses of DICOM peers, as text of the configuration. */
#include "server/dicom_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *file_or_null(const char *setting)
{
    return strcmp(setting, "off") == 0 ? NULL : setting;
}

bool mf_dicom_address_parse(const char *text, struct mf_dicom_address *ret)
{
    static const char plain[] = "dicom://", secure[] = "dicoms://";
    struct mf_dicom_address a = {.secure = strncmp(text, secure, strlen(secure)) == 0};
    if (!a.secure && strncmp(text, plain, strlen(plain)) != 0)
        return false;
    const char *title = text + strlen(a.secure ? secure : plain), *at = strchr(title, '@');
    const char *colon = at ? strrchr(at, ':') : NULL;
    if (!colon || at == title || at - title >= MF_NET_AE || colon - at < 2 ||
        (size_t)(colon - at) > sizeof a.host - 1)
        return false;
    char *end;
    long number = strtol(colon + 1, &end, 10);
    if (*end || number < 1 || number > 65535)
        return false;
    snprintf(a.ae, sizeof a.ae, "%.*s", (int)(at - title), title);
    snprintf(a.host, sizeof a.host, "%.*s", (int)(colon - at - 1), at + 1);
    a.port = (int)number;
    *ret = a;
    return true;
}

bool mf_dicom_address_parse_with(const char *text, const char *flag, struct mf_dicom_address *ret,
                                 bool *ret_flag)
{
    enum { ADDRESS = 512 };
    char address[ADDRESS];
    const char *mark = strchr(text, '?');
    size_t len = mark ? (size_t)(mark - text) : strlen(text);
    *ret_flag = mark && strcmp(mark + 1, flag) == 0;
    if (len >= sizeof address || (mark && !*ret_flag))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    return mf_dicom_address_parse(address, ret);
}

bool mf_dicom_address_usable(const struct mf_dicom_address *address, const struct mf_config *config)
{
    return !address->secure || file_or_null(config->dimse.tls_ca);
}

struct mf_net_peer mf_dicom_address_peer(const struct mf_dicom_address *address,
                                         const struct mf_config *config, int64_t timeout_s)
{
    struct mf_net_peer peer = {.host = address->host,
                               .port = address->port,
                               .called = address->ae,
                               .calling = config->dimse.ae_title,
                               .timeout_s = (int)timeout_s,
                               .secure = address->secure};
    if (address->secure)
        peer.tls = (struct mf_net_tls){file_or_null(config->dimse.tls_certificate),
                                       file_or_null(config->dimse.tls_key),
                                       file_or_null(config->dimse.tls_ca)};
    return peer;
}
