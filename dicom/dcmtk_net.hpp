/* Private to the fence of DCMTK's network (dcmtk_net*.cpp): TLS, errors. */
#ifndef MF_DICOM_DCMTK_NET_HPP
#define MF_DICOM_DCMTK_NET_HPP

#include "dicom/net.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmnet/assoc.h"
#include "dcmtk/dcmnet/dcmtrans.h"
#include "dcmtk/dcmtls/tlslayer.h"

#include <memory>

/* A transport layer of the BCP 195 profile for this side; null with an error. */
std::unique_ptr<DcmTLSTransportLayer>
mf_net_tls_layer(T_ASC_NetworkRole role, const struct mf_net_tls &tls, struct mf_error *err);

/* A DCMTK condition as an error: code by what it is, text without what the peer sent. */
bool mf_net_fail(const OFCondition &condition, const char *what, struct mf_error *err);

#endif
