/* DCMTK fence: the requesting side of an association, message by message (PS3.8 7, 9.3). */
#include "dicom/dcmtk_net.hpp"

#include "dicom/part10.h"

#include <cerrno>
#include <cstdlib>
#include <poll.h>
#include <string>

namespace
{

const size_t MAX_CONTEXTS = 128;

/* The association's socket, which DCMTK keeps to the connection's descendants. */
struct Reach : DcmTransportConnection {
    static int socket_of(DcmTransportConnection *connection)
    {
        return connection ? (connection->*(&Reach::getSocket))() : -1;
    }
};

} // namespace

MfCaller::~MfCaller()
{
    if (association) {
        ASC_dropAssociation(association);
        ASC_destroyAssociation(&association);
    } else if (params) {
        ASC_destroyAssociationParameters(&params);
    }
    ASC_dropNetwork(&network);
}

void MfCaller::offer(const char *abstract_syntax, const char *const *syntaxes, int n,
                     T_ASC_SC_ROLE role)
{
    if (offers.size() < MAX_CONTEXTS)
        offers.push_back({abstract_syntax, syntaxes, n, role});
}

OFCondition MfCaller::prepare()
{
    const std::string address = std::string(peer.host) + ":" + std::to_string(peer.port);
    OFCondition status = ASC_createAssociationParameters(&params, ASC_DEFAULTMAXPDU);
    if (status.good())
        status = ASC_setAPTitles(params, peer.calling, peer.called, nullptr);
    if (status.good())
        status = ASC_setPresentationAddresses(params, OFStandard::getHostName().c_str(),
                                              address.c_str());
    if (status.good() && peer.secure)
        status = ASC_setTransportLayerType(params, OFTrue);
    if (status.bad())
        return status;
    OFStandard::strlcpy(params->ourImplementationClassUID, MF_IMPLEMENTATION_UID,
                        sizeof params->ourImplementationClassUID);
    OFStandard::strlcpy(params->ourImplementationVersionName, MF_IMPLEMENTATION_NAME,
                        sizeof params->ourImplementationVersionName);
    for (size_t i = 0; i < offers.size() && status.good(); i++)
        status = ASC_addPresentationContext(
            params, static_cast<T_ASC_PresentationContextID>(2 * i + 1), offers[i].abstract_syntax,
            const_cast<const char **>(offers[i].syntaxes), offers[i].count, offers[i].role);
    return status;
}

bool MfCaller::rejected(struct mf_error *err)
{
    T_ASC_RejectParameters why;
    (void)ASC_getRejectParameters(params, &why);
    const char *text =
        why.reason == ASC_REASON_SU_CALLINGAETITLENOTRECOGNIZED  ? "it does not know our AE title"
        : why.reason == ASC_REASON_SU_CALLEDAETITLENOTRECOGNIZED ? "it has another AE title"
        : why.result == ASC_RESULT_REJECTEDTRANSIENT             ? "it is busy"
                                                                 : "it gave no reason";
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the peer rejected the association: %s", text);
}

bool MfCaller::connect(struct mf_error *err)
{
    setenv("TCP_NODELAY", "1", 1); /* where DCMTK looks for it */
    dcmConnectionTimeout.set(peer.timeout_s);
    dcmSocketReceiveTimeout.set(peer.timeout_s);
    dcmSocketSendTimeout.set(peer.timeout_s);
    OFCondition status = ASC_initializeNetwork(NET_REQUESTOR, 0, peer.timeout_s, &network);
    if (status.good() && peer.secure) {
        if (!(tls = mf_net_tls_layer(NET_REQUESTOR, peer.tls, err)))
            return false;
        status = ASC_setTransportLayer(network, tls.get(), 0);
    }
    if (status.good())
        status = prepare();
    if (status.good())
        status = ASC_requestAssociation(network, params, &association, nullptr, nullptr,
                                        DUL_NOBLOCK, peer.timeout_s);
    if (status == DUL_ASSOCIATIONREJECTED)
        return rejected(err);
    return status.good() || mf_net_fail(status, "no association with the peer", err);
}

MfCaller::Event MfCaller::wait(int seconds, int other)
{
    DcmTransportConnection *connection = DUL_getTransportConnection(association->DULassociation);
    while (!ASC_dataWaiting(association, 0)) {
        struct pollfd p[2] = {};
        p[0].fd = Reach::socket_of(connection);
        p[1].fd = other;
        p[0].events = p[1].events = POLLIN;
        int n = poll(p, 2, seconds * 1000);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SILENCE;
        if (p[0].revents)
            break; /* data, or an end that the reader will tell */
        return OTHER;
    }
    return DATA;
}
