/*
 * DCMTK fence: one association from the accepting side (PS3.8), with C-ECHO (PS3.7 9.1.5), C-STORE
 * (PS3.7 9.1.1) and storage commitment (PS3.4 annex J). Data sets are taken from the PDVs as they
 * arrive, without DCMTK parsing them.
 */
#include "dicom/dcmtk_net.hpp"

#include "dicom/part10.h"
#include "dicom/syntax.h"

#include "dcmtk/dcmnet/dimse.h"

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace
{

const unsigned MIN_PDU_RATE = 4096;  /* bytes a second inside one PDU */
const size_t ARENA_BYTES = 64 << 20; /* of what one commitment asks about */

struct Association {
    const struct mf_net_options &options;
    const struct mf_net_handler &handler;
    void *context;
    std::unique_ptr<DcmTLSTransportLayer> tls;
    int socket = -1;
    T_ASC_Network *network = nullptr;
    T_ASC_Association *association = nullptr;
    unsigned reports = 0; /* sent, not answered yet */

    Association(const struct mf_net_options &o, const struct mf_net_handler &h, void *c)
        : options(o), handler(h), context(c)
    {
    }
    ~Association()
    {
        if (association) {
            ASC_dropSCPAssociation(association, 0);
            ASC_destroyAssociation(&association);
        }
        ASC_dropNetwork(&network);
    }
    Association(const Association &) = delete;
    Association &operator=(const Association &) = delete;

    /* Ends the process unless the next step is done in time. */
    void watch() const
    {
        alarm(static_cast<unsigned>(2 * options.timeout_s) + options.max_pdu / MIN_PDU_RATE + 1);
    }
    /* Acknowledges at once what the peer has sent: many peers send a command and its data set in
     * small writes with Nagle's algorithm on, and would wait 40 ms for our delayed acknowledgement.
     * The kernel forgets the setting, so it is repeated before each read. */
    void acknowledge() const
    {
        const int on = 1;
        (void)setsockopt(socket, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    }
};

/* --- negotiation --- */

bool is_storage(const char *uid)
{
    for (int i = 0; i < numberOfDcmAllStorageSOPClassUIDs; i++)
        if (std::strcmp(uid, dcmAllStorageSOPClassUIDs[i]) == 0)
            return true;
    return std::strncmp(uid, "1.2.840.10008.5.1.4.1.1.", 24) == 0; /* newer than DCMTK's list */
}

bool is_commitment(const char *uid)
{
    return std::strcmp(uid, MF_COMMITMENT_CLASS) == 0;
}

bool is_little_endian(const char *uid)
{
    return std::strcmp(uid, UID_LittleEndianExplicitTransferSyntax) == 0 ||
           std::strcmp(uid, UID_LittleEndianImplicitTransferSyntax) == 0;
}

/* The first proposed syntax that is known, but Explicit VR Little Endian rather than implicit. */
const char *choose_syntax(const T_ASC_PresentationContext &pc)
{
    const char *chosen = nullptr;
    for (int i = 0; i < pc.transferSyntaxCount; i++) {
        const char *uid = pc.proposedTransferSyntaxes[i];
        if (is_commitment(pc.abstractSyntax) ? !is_little_endian(uid) : !mf_syntax_find(uid))
            continue;
        if (!chosen || (std::strcmp(chosen, UID_LittleEndianImplicitTransferSyntax) == 0 &&
                        std::strcmp(uid, UID_LittleEndianExplicitTransferSyntax) == 0))
            chosen = uid;
    }
    return chosen;
}

void negotiate(T_ASC_Parameters *params)
{
    for (int i = 0; i < ASC_countPresentationContexts(params); i++) {
        T_ASC_PresentationContext pc;
        if (ASC_getPresentationContext(params, i, &pc).bad())
            continue;
        bool known = std::strcmp(pc.abstractSyntax, UID_VerificationSOPClass) == 0 ||
                     is_commitment(pc.abstractSyntax) || is_storage(pc.abstractSyntax);
        const char *syntax = known ? choose_syntax(pc) : nullptr;
        if (syntax)
            (void)ASC_acceptPresentationContext(params, pc.presentationContextID, syntax,
                                                ASC_SC_ROLE_DEFAULT, OFTrue);
        else
            (void)ASC_refusePresentationContext(params, pc.presentationContextID,
                                                known ? ASC_P_TRANSFERSYNTAXESNOTSUPPORTED
                                                      : ASC_P_ABSTRACTSYNTAXNOTSUPPORTED);
    }
}

bool reject(Association &a, T_ASC_RejectParametersReason reason, const char *why,
            struct mf_error *err)
{
    T_ASC_RejectParameters rejection = {ASC_RESULT_REJECTEDPERMANENT, ASC_SOURCE_SERVICEUSER,
                                        reason};
    (void)ASC_rejectAssociation(a.association, &rejection);
    return mf_error_set(err, MF_ERR_FORBIDDEN, "association rejected: %s", why);
}

bool admit(Association &a, struct mf_error *err)
{
    char calling[MF_NET_AE] = "", called[MF_NET_AE] = "", context[MF_NET_UID] = "";
    T_ASC_Parameters *params = a.association->params;
    if (ASC_getAPTitles(params, calling, sizeof calling, called, sizeof called, nullptr, 0).bad() ||
        ASC_getApplicationContextName(params, context, sizeof context).bad() ||
        std::strcmp(context, UID_StandardApplicationContext) != 0)
        return reject(a, ASC_REASON_SU_APPCONTEXTNAMENOTSUPPORTED,
                      "its application context is not supported", err);
    enum mf_net_admission admission = a.handler.admit(a.context, calling, called);
    if (admission == MF_NET_REJECT_CALLING)
        return reject(a, ASC_REASON_SU_CALLINGAETITLENOTRECOGNIZED,
                      "the calling AE title is not in dimse.allow", err);
    if (admission == MF_NET_REJECT_CALLED)
        return reject(a, ASC_REASON_SU_CALLEDAETITLENOTRECOGNIZED,
                      "the called AE title is not dimse.ae_title", err);
    negotiate(params);
    OFStandard::strlcpy(params->ourImplementationClassUID, MF_IMPLEMENTATION_UID,
                        sizeof params->ourImplementationClassUID);
    OFStandard::strlcpy(params->ourImplementationVersionName, MF_IMPLEMENTATION_NAME,
                        sizeof params->ourImplementationVersionName);
    OFCondition status = ASC_acknowledgeAssociation(a.association);
    return status.good() || mf_net_fail(status, "the association cannot be accepted", err);
}

/* --- data sets --- */

OFCondition next_pdv(Association &a, DUL_PDV *pdv)
{
    OFCondition status = DUL_NextPDV(&a.association->DULassociation, pdv);
    if (status.good())
        return status;
    a.acknowledge();
    if (!ASC_dataWaiting(a.association, a.options.timeout_s))
        return DIMSE_NODATAAVAILABLE;
    a.watch();
    status =
        DUL_ReadPDVs(&a.association->DULassociation, nullptr, DUL_NOBLOCK, a.options.timeout_s);
    if (status != DUL_PDATAPDUARRIVED)
        return status;
    return DUL_NextPDV(&a.association->DULassociation, pdv);
}

bool too_slow(const Association &a, time_t begin, uint64_t received)
{
    time_t elapsed = time(nullptr) - begin - a.options.timeout_s;
    return elapsed > 0 && received < static_cast<uint64_t>(a.options.min_byte_rate) *
                                         static_cast<uint64_t>(elapsed);
}

/* `take` gets the data set in pieces; false: it takes no more of it. */
template <typename Take>
OFCondition receive_data_set(Association &a, T_ASC_PresentationContextID id, Take take)
{
    const time_t begin = time(nullptr);
    uint64_t received = 0;
    for (;;) {
        DUL_PDV pdv;
        OFCondition status = next_pdv(a, &pdv);
        if (status.bad())
            return status;
        if (pdv.pdvType != DUL_DATASETPDV || pdv.presentationContextID != id)
            return DIMSE_UNEXPECTEDPDVTYPE;
        if (!take(pdv.data, pdv.fragmentLength))
            return DIMSE_RECEIVEFAILED;
        received += pdv.fragmentLength;
        if (pdv.lastPDV)
            return EC_Normal;
        if (too_slow(a, begin, received))
            return DUL_READTIMEOUT;
    }
}

/* --- commands --- */

OFCondition echo(Association &a, T_ASC_PresentationContextID id, const T_DIMSE_C_EchoRQ &request)
{
    return DIMSE_sendEchoResponse(a.association, id, &request, STATUS_Success, nullptr);
}

OFCondition store(Association &a, T_ASC_PresentationContextID id, const T_DIMSE_C_StoreRQ &request)
{
    T_ASC_PresentationContext pc;
    struct mf_net_object object = {};
    OFCondition status = ASC_findAcceptedPresentationContext(a.association->params, id, &pc);
    if (status.bad())
        return status;
    OFStandard::strlcpy(object.sop_class, request.AffectedSOPClassUID, sizeof object.sop_class);
    OFStandard::strlcpy(object.sop_instance, request.AffectedSOPInstanceUID,
                        sizeof object.sop_instance);
    OFStandard::strlcpy(object.transfer_syntax, pc.acceptedTransferSyntax,
                        sizeof object.transfer_syntax);
    a.handler.store_begin(a.context, &object);
    auto keep = [&a](const void *data, size_t len) {
        a.handler.store_data(a.context, data, len);
        return true;
    };
    status = request.DataSetType == DIMSE_DATASET_NULL ? DIMSE_RECEIVEFAILED
                                                       : receive_data_set(a, id, keep);
    alarm(0); /* what follows is our own work */
    uint16_t result = a.handler.store_end(a.context, status.good());
    if (status.bad())
        return status;
    T_DIMSE_C_StoreRSP response = {};
    response.MessageIDBeingRespondedTo = request.MessageID;
    response.DimseStatus = result;
    response.DataSetType = DIMSE_DATASET_NULL;
    response.opts = O_STORE_AFFECTEDSOPCLASSUID | O_STORE_AFFECTEDSOPINSTANCEUID;
    OFStandard::strlcpy(response.AffectedSOPClassUID, request.AffectedSOPClassUID,
                        sizeof response.AffectedSOPClassUID);
    OFStandard::strlcpy(response.AffectedSOPInstanceUID, request.AffectedSOPInstanceUID,
                        sizeof response.AffectedSOPInstanceUID);
    return DIMSE_sendStoreResponse(a.association, id, &request, &response, nullptr);
}

/* --- storage commitment --- */

/* An answer to one of our reports. */
OFCondition reported(Association &a, const T_DIMSE_N_EventReportRSP &response)
{
    if (a.reports == 0 || response.DataSetType != DIMSE_DATASET_NULL)
        return DIMSE_BADMESSAGE;
    a.reports--;
    a.handler.reported(a.context, response.DimseStatus);
    return EC_Normal;
}

/* PS3.7 10.1.4.1.10: the status that the request deserves; with success, what it asks about. */
Uint16 judge_action(Association &a, const T_DIMSE_N_ActionRQ &request,
                    const std::vector<unsigned char> &data, bool implicit_vr,
                    struct mf_arena *arena, struct mf_commitment *ret)
{
    struct mf_error problem = MF_ERROR_INIT;
    if (!is_commitment(request.RequestedSOPClassUID))
        return STATUS_N_NoSuchSOPClass;
    if (std::strcmp(request.RequestedSOPInstanceUID, MF_COMMITMENT_INSTANCE) != 0)
        return STATUS_N_NoSuchSOPInstance;
    if (request.ActionTypeID != 1)
        return STATUS_N_NoSuchAction;
    if (!mf_commitment_read(data.data(), data.size(), implicit_vr, arena, ret, &problem))
        return problem.code == MF_ERR_TOO_LARGE ? STATUS_N_ResourceLimitation
                                                : STATUS_N_InvalidArgumentValue;
    return a.handler.commit(a.context, ret) ? STATUS_Success : STATUS_N_ProcessingFailure;
}

OFCondition action(Association &a, T_ASC_PresentationContextID id,
                   const T_DIMSE_N_ActionRQ &request)
{
    T_ASC_PresentationContext pc;
    std::vector<unsigned char> data;
    std::unique_ptr<struct mf_arena, void (*)(struct mf_arena *)> arena(mf_arena_new(ARENA_BYTES),
                                                                        mf_arena_free);
    OFCondition status = ASC_findAcceptedPresentationContext(a.association->params, id, &pc);
    if (status.bad())
        return status;
    auto keep = [&data](const void *piece, size_t len) {
        const unsigned char *bytes = static_cast<const unsigned char *>(piece);
        data.insert(data.end(), bytes, bytes + len);
        return data.size() <= MF_COMMITMENT_BYTES;
    };
    if (request.DataSetType != DIMSE_DATASET_NULL)
        status = receive_data_set(a, id, keep);
    if (status.bad())
        return status;
    alarm(0); /* what follows is our own work */
    if (!arena)
        throw std::bad_alloc();
    struct mf_commitment commitment = {};
    bool implicit_vr =
        std::strcmp(pc.acceptedTransferSyntax, UID_LittleEndianImplicitTransferSyntax) == 0;
    Uint16 result = judge_action(a, request, data, implicit_vr, arena.get(), &commitment);
    status = mf_net_answer_action(a.association, id, request, result);
    if (status.bad() || result != STATUS_Success || a.handler.report(a.context, &commitment))
        return status;
    a.reports++; /* its answer comes as a command (step) */
    return mf_net_send_report(a.association, id, commitment);
}

/* One command and what it asks for. */
OFCondition step(Association &a)
{
    T_ASC_PresentationContextID id = 0;
    T_DIMSE_Message message;
    a.acknowledge();
    if (!ASC_dataWaiting(a.association, a.options.timeout_s))
        return DIMSE_NODATAAVAILABLE;
    a.acknowledge();
    a.watch();
    OFCondition status = DIMSE_receiveCommand(a.association, DIMSE_NONBLOCKING, a.options.timeout_s,
                                              &id, &message, nullptr);
    if (status.bad())
        return status;
    if (message.CommandField == DIMSE_C_ECHO_RQ)
        return echo(a, id, message.msg.CEchoRQ);
    if (message.CommandField == DIMSE_C_STORE_RQ)
        return store(a, id, message.msg.CStoreRQ);
    if (message.CommandField == DIMSE_N_ACTION_RQ)
        return action(a, id, message.msg.NActionRQ);
    if (message.CommandField == DIMSE_N_EVENT_REPORT_RSP)
        return reported(a, message.msg.NEventReportRSP);
    return DIMSE_BADCOMMANDTYPE;
}

bool serve(Association &a, struct mf_error *err)
{
    OFCondition status = EC_Normal;
    while (status.good())
        status = step(a);
    a.watch();
    if (status == DUL_PEERREQUESTEDRELEASE)
        return ASC_acknowledgeRelease(a.association).good() ||
               mf_error_set(err, MF_ERR_IO, "the release cannot be confirmed");
    if (status == DUL_PEERABORTEDASSOCIATION || status == DUL_NETWORKCLOSED)
        return mf_error_set(err, MF_ERR_IO, "the peer aborted the association");
    (void)ASC_abortAssociation(a.association);
    return mf_net_fail(status, "the association was aborted", err);
}

bool open(Association &a, int socket, struct mf_error *err)
{
    a.socket = socket;
    setenv("TCP_NODELAY", "1", 1); /* where DCMTK looks for it */
    dcmExternalSocketHandle.set(socket);
    dcmDisableGethostbyaddr.set(OFTrue);
    dcmSocketReceiveTimeout.set(a.options.timeout_s);
    dcmSocketSendTimeout.set(a.options.timeout_s);
    bool secure = a.options.tls.certificate != nullptr;
    if (secure && !(a.tls = mf_net_tls_layer(NET_ACCEPTOR, a.options.tls, err))) {
        close(socket);
        return false;
    }
    OFCondition status = ASC_initializeNetwork(NET_ACCEPTOR, 0, a.options.timeout_s, &a.network);
    if (status.good() && secure)
        status = ASC_setTransportLayer(a.network, a.tls.get(), 0);
    if (status.bad()) {
        close(socket);
        return mf_net_fail(status, "the network cannot be opened", err);
    }
    a.watch();
    status = ASC_receiveAssociation(a.network, &a.association, a.options.max_pdu, nullptr, nullptr,
                                    secure ? OFTrue : OFFalse, DUL_NOBLOCK, a.options.timeout_s);
    return status.good() || mf_net_fail(status, "no association was requested", err);
}

} // namespace

bool mf_net_serve(int socket, const struct mf_net_options *options,
                  const struct mf_net_handler *handler, void *context, struct mf_error *err)
{
    try {
        Association a(*options, *handler, context);
        return open(a, socket, err) && admit(a, err) && serve(a, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an association");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_INTERNAL, "DCMTK failed in an association");
    }
}
