/* Private to the fence of DCMTK's network (dcmtk_net*.cpp): TLS, errors, reports. */
#ifndef MF_DICOM_DCMTK_NET_HPP
#define MF_DICOM_DCMTK_NET_HPP

#include "dicom/net.h"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmnet/assoc.h"
#include "dcmtk/dcmnet/dcmtrans.h"
#include "dcmtk/dcmnet/dimse.h"
#include "dcmtk/dcmnet/scu.h"
#include "dcmtk/dcmtls/tlslayer.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

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

/* The next piece of a data set. `before` is called before each read from the network. */
template <typename Before>
OFCondition mf_net_next_pdv(T_ASC_Association *association, int timeout_s, Before before,
                            DUL_PDV *pdv)
{
    OFCondition status = DUL_NextPDV(&association->DULassociation, pdv);
    if (status.good())
        return status;
    before();
    if (!ASC_dataWaiting(association, timeout_s))
        return DIMSE_NODATAAVAILABLE;
    before();
    status = DUL_ReadPDVs(&association->DULassociation, nullptr, DUL_NOBLOCK, timeout_s);
    return status == DUL_PDATAPDUARRIVED ? DUL_NextPDV(&association->DULassociation, pdv) : status;
}

/* The requesting side of an association whose messages are taken apart here: commands by DCMTK,
 * data sets as they come. */
class MfCaller
{
    std::unique_ptr<DcmTLSTransportLayer> tls;
    T_ASC_Network *network = nullptr;
    T_ASC_Parameters *params = nullptr; /* until the association has them */
    struct Offer {
        const char *abstract_syntax;
        const char *const *syntaxes;
        int count;
        T_ASC_SC_ROLE role;
    };
    std::vector<Offer> offers;

    OFCondition prepare();
    bool rejected(struct mf_error *err);

  public:
    enum Event { DATA, OTHER, SILENCE };

    const struct mf_net_peer &peer;
    T_ASC_Association *association = nullptr;

    explicit MfCaller(const struct mf_net_peer &to) : peer(to)
    {
    }
    ~MfCaller();
    MfCaller(const MfCaller &) = delete;
    MfCaller &operator=(const MfCaller &) = delete;

    /* A presentation context to propose; the n-th has the number 2n − 1, beyond 128 (PS3.8 9.3.2.2)
     * they are left out. */
    void offer(const char *abstract_syntax, const char *const *syntaxes, int n, T_ASC_SC_ROLE role);
    bool connect(struct mf_error *err);
    /* Waits for the peer to send (or to end), for `other` to be readable (−1 = none), or for the
     * time to be over. */
    Event wait(int seconds, int other);
    /* `take` gets a data set in pieces; false: it takes no more of it. */
    template <typename Take>
    OFCondition receive_data_set(T_ASC_PresentationContextID id, Take take)
    {
        for (;;) {
            DUL_PDV pdv;
            OFCondition status = mf_net_next_pdv(association, peer.timeout_s, []() {}, &pdv);
            if (status.bad())
                return status;
            if (pdv.pdvType != DUL_DATASETPDV || pdv.presentationContextID != id)
                return DIMSE_UNEXPECTEDPDVTYPE;
            if (!take(pdv.data, pdv.fragmentLength))
                return DIMSE_RECEIVEFAILED;
            if (pdv.lastPDV)
                return EC_Normal;
        }
    }
};

/* Answers the presentation contexts that a peer proposes: verification, storage in every transfer
 * syntax that is read, storage commitment. */
void mf_net_negotiate(T_ASC_Parameters *params);
bool mf_net_is_commitment(const char *uid);

/* Transfer syntaxes by presentation context. */
using MfNewerSyntaxes = std::map<T_ASC_PresentationContextID, std::string>;

/* The accepted syntaxes that DCMTK does not know. It would take no command on their contexts, though
 * commands have a syntax of their own and data sets pass unread: from here on it finds Explicit VR
 * Little Endian there. For after the acknowledgement. */
MfNewerSyntaxes mf_net_hide_newer_syntaxes(T_ASC_Parameters *params);

/* Storage commitment on an association that the peer has opened: our answer to its request, and our
 * report, which the peer will answer. */
OFCondition mf_net_answer_action(T_ASC_Association *association, T_ASC_PresentationContextID id,
                                 const T_DIMSE_N_ActionRQ &request, Uint16 result);
OFCondition mf_net_send_report(T_ASC_Association *association, T_ASC_PresentationContextID id,
                               const struct mf_commitment &commitment);
/* The information of a request or report: transaction, items; whether an item has failed. Throws
 * std::bad_alloc. */
bool mf_net_fill_commitment(const struct mf_commitment &commitment, DcmDataset &ret);
/* Our answer to a report of the peer's. */
OFCondition mf_net_answer_report(T_ASC_Association *association, T_ASC_PresentationContextID id,
                                 const T_DIMSE_N_EventReportRQ &request, Uint16 result);

/* Appends a piece of a commitment's data set; false beyond the limit. */
inline bool mf_net_keep_commitment(std::vector<unsigned char> &to, const void *piece, size_t len)
{
    const unsigned char *bytes = static_cast<const unsigned char *>(piece);
    to.insert(to.end(), bytes, bytes + len);
    return to.size() <= MF_COMMITMENT_BYTES;
}

/* A DCMTK condition as an error: code by what it is, text without what the peer sent. */
bool mf_net_fail(const OFCondition &condition, const char *what, struct mf_error *err);

#endif
