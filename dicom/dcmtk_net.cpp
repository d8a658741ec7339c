/* DCMTK fence: what both sides of associations share. */
#include "dicom/dcmtk_net.hpp"

#include "dcmtk/dcmnet/dimse.h"

std::unique_ptr<DcmTLSTransportLayer>
mf_net_tls_layer(T_ASC_NetworkRole role, const struct mf_net_tls &tls, struct mf_error *err)
{
    DcmTLSTransportLayer::initializeOpenSSL();
    auto layer = std::make_unique<DcmTLSTransportLayer>(role, nullptr, OFTrue);
    const DcmTLSSecurityProfile profile = TSP_Profile_BCP195_ND;
    const char *failed = nullptr;
    if (tls.key && layer->setPrivateKeyFile(tls.key, DCF_Filetype_PEM).bad())
        failed = "the private key";
    else if (tls.certificate && layer->setCertificateFile(tls.certificate, DCF_Filetype_PEM).bad())
        failed = "the certificate";
    else if (tls.key && !layer->checkPrivateKeyMatchesCertificate())
        failed = "the private key that belongs to the certificate";
    else if (tls.ca && layer->addTrustedCertificateFile(tls.ca, DCF_Filetype_PEM).bad())
        failed = "the certificates of the authorities";
    else if (layer->setTLSProfile(profile).bad() || layer->activateCipherSuites().bad())
        failed = "the BCP 195 profile";
    if (failed) {
        mf_error_set(err, MF_ERR_USAGE, "DICOM TLS: %s cannot be used", failed);
        return nullptr;
    }
    layer->setCertificateVerification(tls.ca ? DCV_requireCertificate : DCV_ignoreCertificate);
    return layer;
}

bool mf_net_fail(const OFCondition &condition, const char *what, struct mf_error *err)
{
    enum mf_code code = MF_ERR_IO;
    if (condition == DIMSE_NODATAAVAILABLE || condition == DUL_READTIMEOUT)
        code = MF_ERR_TIMEOUT;
    else if (condition == DUL_ILLEGALPDU || condition == DUL_UNEXPECTEDPDU ||
             condition == DUL_ILLEGALPDULENGTH || condition == DIMSE_PARSEFAILED ||
             condition == DIMSE_RECEIVEFAILED || condition == DIMSE_UNEXPECTEDPDVTYPE)
        code = MF_ERR_MALFORMED;
    return mf_error_set(err, code, "%s (DCMTK %04x:%04x)", what, condition.module(),
                        condition.code());
}

MfRequester::MfRequester(const struct mf_net_peer &to) : peer(to)
{
    scu.setAETitle(peer.calling);
    scu.setPeerAETitle(peer.called);
    scu.setPeerHostName(peer.host);
    scu.setPeerPort(static_cast<Uint16>(peer.port));
    scu.setACSETimeout(static_cast<Uint32>(peer.timeout_s));
    scu.setDIMSETimeout(static_cast<Uint32>(peer.timeout_s));
    scu.setDIMSEBlockingMode(DIMSE_NONBLOCKING);
    scu.setConnectionTimeout(peer.timeout_s);
}

bool MfRequester::connect(struct mf_error *err)
{
    OFCondition status = scu.initNetwork();
    if (status.good() && peer.secure) {
        tls = mf_net_tls_layer(NET_REQUESTOR, peer.tls, err);
        if (!tls)
            return false;
        status = scu.useSecureConnection(tls.get());
    }
    if (status.good())
        status = scu.negotiateAssociation();
    return status.good() || mf_net_fail(status, "no association with the peer", err);
}
