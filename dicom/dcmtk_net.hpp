/* Private to the fence of DCMTK's network (dcmtk_net*.cpp): TLS, errors, reports. */
#ifndef MF_DICOM_DCMTK_NET_HPP
#define MF_DICOM_DCMTK_NET_HPP

#include "dicom/net.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmnet/assoc.h"
#include "dcmtk/dcmnet/dcmtrans.h"
#include "dcmtk/dcmnet/scu.h"
#include "dcmtk/dcmtls/tlslayer.h"

#include <memory>

/* A transport layer of the BCP 195 profile for this side; null with an error. */
std::unique_ptr<DcmTLSTransportLayer>
mf_net_tls_layer(T_ASC_NetworkRole role, const struct mf_net_tls &tls, struct mf_error *err);

/* The requesting side of an association. */
class MfRequester
{
    struct Scu : DcmSCU {
        using DcmSCU::useSecureConnection;
    };
    const struct mf_net_peer &peer;
    std::unique_ptr<DcmTLSTransportLayer> tls; /* outlives scu */

  public:
    /* Still to be told its presentation contexts. */
    explicit MfRequester(const struct mf_net_peer &peer);
    /* Connects, with TLS where the peer has it, and negotiates. */
    bool connect(struct mf_error *err);

    Scu scu;
};

/* Storage commitment on an association that the peer has opened: our answer to its request, and our
 * report, which the peer will answer. */
OFCondition mf_net_answer_action(T_ASC_Association *association, T_ASC_PresentationContextID id,
                                 const T_DIMSE_N_ActionRQ &request, Uint16 result);
OFCondition mf_net_send_report(T_ASC_Association *association, T_ASC_PresentationContextID id,
                               const struct mf_commitment &commitment);

/* A DCMTK condition as an error: code by what it is, text without what the peer sent. */
bool mf_net_fail(const OFCondition &condition, const char *what, struct mf_error *err);

#endif
