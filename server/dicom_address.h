/* Addresses of DICOM peers that we send to: "dicom://AE@host:port", "dicoms://" with TLS. */
#ifndef MF_SERVER_DICOM_ADDRESS_H
#define MF_SERVER_DICOM_ADDRESS_H

#include "dicom/net.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_dicom_address {
    char ae[MF_NET_AE], host[256];
    int port;
    bool secure;
};

/* Splits an address; false when it is something else. */
bool mf_dicom_address_parse(const char *text, struct mf_dicom_address *ret);

/* The same for an address that may end in "?FLAG"; *ret_flag tells whether it does. */
bool mf_dicom_address_parse_with(const char *text, const char *flag, struct mf_dicom_address *ret,
                                 bool *ret_flag);

/* Whether the configuration has what the address needs: with TLS the certificates of the peer's
 * authorities (dimse.tls_ca). */
bool mf_dicom_address_usable(const struct mf_dicom_address *address,
                             const struct mf_config *config);

/* The peer as dicom/net.h has it, with our AE title and, for TLS, our files. It borrows from both.
 */
struct mf_net_peer mf_dicom_address_peer(const struct mf_dicom_address *address,
                                         const struct mf_config *config, int64_t timeout_s);

#ifdef __cplusplus
}
#endif

#endif
