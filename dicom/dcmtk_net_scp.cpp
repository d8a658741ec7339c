/*
 * DCMTK fence: one association from the accepting side (PS3.8), with C-ECHO (PS3.7 9.1.5), C-STORE
 * (PS3.7 9.1.1) and storage commitment (PS3.4 annex J). Data sets are taken from the PDVs as they
 * arrive, without DCMTK parsing them.
 */
#include "dicom/dcmtk_net.hpp"

#include "dicom/part10.h"

#include "dcmtk/dcmnet/dimse.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
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
    MfNewerSyntaxes newer;

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
    mf_net_negotiate(params);
    OFStandard::strlcpy(params->ourImplementationClassUID, MF_IMPLEMENTATION_UID,
                        sizeof params->ourImplementationClassUID);
    OFStandard::strlcpy(params->ourImplementationVersionName, MF_IMPLEMENTATION_NAME,
                        sizeof params->ourImplementationVersionName);
    OFCondition status = ASC_acknowledgeAssociation(a.association);
    if (status.bad())
        return mf_net_fail(status, "the association cannot be accepted", err);
    a.newer = mf_net_hide_newer_syntaxes(params);
    return true;
}

/* --- data sets --- */

OFCondition next_pdv(Association &a, DUL_PDV *pdv)
{
    auto before = [&a]() {
        a.acknowledge();
        a.watch();
    };
    return mf_net_next_pdv(a.association, a.options.timeout_s, before, pdv);
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

/* Why an object was refused, as an Error Comment (PS3.7 C.5.2); nothing without a reason. */
void put_comment(const char *reason, DcmDataset &detail)
{
    enum { LO_CHARACTERS = 64 };
    std::string text(reason ? reason : "");
    text.resize(std::min<size_t>(text.size(), LO_CHARACTERS));
    for (char &c : text)
        if (c < ' ' || c > '~' || c == '\\')
            c = '?';
    if (!text.empty())
        (void)detail.putAndInsertString(DCM_ErrorComment, text.c_str());
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
    const auto newer = a.newer.find(id);
    OFStandard::strlcpy(object.transfer_syntax,
                        newer == a.newer.end() ? pc.acceptedTransferSyntax : newer->second.c_str(),
                        sizeof object.transfer_syntax);
    if (request.opts & O_STORE_MOVEORIGINATORAETITLE)
        OFStandard::strlcpy(object.move_originator, request.MoveOriginatorApplicationEntityTitle,
                            sizeof object.move_originator);
    a.handler.store_begin(a.context, &object);
    auto keep = [&a](const void *data, size_t len) {
        a.handler.store_data(a.context, data, len);
        return true;
    };
    status = request.DataSetType == DIMSE_DATASET_NULL ? DIMSE_RECEIVEFAILED
                                                       : receive_data_set(a, id, keep);
    alarm(0); /* what follows is our own work */
    const char *reason = nullptr;
    uint16_t result = a.handler.store_end(a.context, status.good(), &reason);
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
    DcmDataset detail;
    put_comment(reason, detail);
    return DIMSE_sendStoreResponse(a.association, id, &request, &response,
                                   detail.isEmpty() ? nullptr : &detail);
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
    if (!mf_net_is_commitment(request.RequestedSOPClassUID))
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

/* The data set of a request or report, and memory for what it says. */
struct Information {
    std::vector<unsigned char> data;
    bool implicit_vr = false;
    std::unique_ptr<struct mf_arena, void (*)(struct mf_arena *)> arena;

    Information() : arena(mf_arena_new(ARENA_BYTES), mf_arena_free)
    {
        if (!arena)
            throw std::bad_alloc();
    }
};

OFCondition receive_information(Association &a, T_ASC_PresentationContextID id, bool present,
                                Information &ret)
{
    T_ASC_PresentationContext pc;
    OFCondition status = ASC_findAcceptedPresentationContext(a.association->params, id, &pc);
    if (status.bad())
        return status;
    ret.implicit_vr =
        std::strcmp(pc.acceptedTransferSyntax, UID_LittleEndianImplicitTransferSyntax) == 0;
    auto keep = [&ret](const void *piece, size_t len) {
        return mf_net_keep_commitment(ret.data, piece, len);
    };
    if (present)
        status = receive_data_set(a, id, keep);
    alarm(0); /* what follows is our own work */
    return status;
}

/* PS3.4 J.3.3: what a peer says of objects that we asked it to commit. */
OFCondition event(Association &a, T_ASC_PresentationContextID id,
                  const T_DIMSE_N_EventReportRQ &request)
{
    Information i;
    struct mf_commitment commitment = {};
    struct mf_error problem = MF_ERROR_INIT;
    OFCondition status = receive_information(a, id, request.DataSetType != DIMSE_DATASET_NULL, i);
    if (status.bad())
        return status;
    Uint16 result = STATUS_N_InvalidArgumentValue;
    if (!mf_net_is_commitment(request.AffectedSOPClassUID))
        result = STATUS_N_NoSuchSOPClass;
    else if (request.EventTypeID != 1 && request.EventTypeID != 2)
        result = STATUS_N_NoSuchEventType;
    else if (mf_commitment_read(i.data.data(), i.data.size(), i.implicit_vr, i.arena.get(),
                                &commitment, &problem))
        result = a.handler.event(a.context, &commitment);
    return mf_net_answer_report(a.association, id, request, result);
}

OFCondition action(Association &a, T_ASC_PresentationContextID id,
                   const T_DIMSE_N_ActionRQ &request)
{
    Information i;
    OFCondition status = receive_information(a, id, request.DataSetType != DIMSE_DATASET_NULL, i);
    if (status.bad())
        return status;
    struct mf_commitment commitment = {};
    Uint16 result = judge_action(a, request, i.data, i.implicit_vr, i.arena.get(), &commitment);
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
    if (message.CommandField == DIMSE_N_EVENT_REPORT_RQ)
        return event(a, id, message.msg.NEventReportRQ);
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
