/*
 * DCMTK fence: asking for storage commitment (PS3.4 J.3.2, N-ACTION as SCU), and the report when it
 * comes on the same association (J.3.3, N-EVENT-REPORT).
 */
#include "dicom/dcmtk_net.hpp"

#include "dcmtk/dcmdata/dctk.h"

#include <cstring>
#include <ctime>
#include <exception>

namespace
{

struct Asker : MfCaller {
    const struct mf_commitment &asked;
    struct mf_arena *arena;
    struct mf_commitment report = {};
    bool answered = false, reported = false;
    Uint16 result = 0; /* of the request */

    Asker(const struct mf_net_peer &to, const struct mf_commitment &what, struct mf_arena *memory)
        : MfCaller(to), asked(what), arena(memory)
    {
    }
};

OFCondition send_request(Asker &a)
{
    DcmDataset information;
    T_DIMSE_Message message = {};
    T_DIMSE_N_ActionRQ &request = message.msg.NActionRQ;
    message.CommandField = DIMSE_N_ACTION_RQ;
    request.MessageID = a.association->nextMsgID++;
    request.ActionTypeID = 1;
    request.DataSetType = DIMSE_DATASET_PRESENT;
    OFStandard::strlcpy(request.RequestedSOPClassUID, MF_COMMITMENT_CLASS,
                        sizeof request.RequestedSOPClassUID);
    OFStandard::strlcpy(request.RequestedSOPInstanceUID, MF_COMMITMENT_INSTANCE,
                        sizeof request.RequestedSOPInstanceUID);
    mf_net_fill_commitment(a.asked, information);
    return DIMSE_sendMessageUsingMemoryData(a.association, 1, &message, nullptr, &information,
                                            nullptr, nullptr);
}

/* A report; one of another transaction is refused and does not count. */
OFCondition take_report(Asker &a, T_ASC_PresentationContextID id,
                        const T_DIMSE_N_EventReportRQ &request)
{
    T_ASC_PresentationContext pc;
    std::vector<unsigned char> data;
    struct mf_commitment report = {};
    struct mf_error unreadable = MF_ERROR_INIT;
    OFCondition status = ASC_findAcceptedPresentationContext(a.association->params, id, &pc);
    if (status.good() && request.DataSetType != DIMSE_DATASET_NULL)
        status = a.receive_data_set(id, [&data](const void *piece, size_t len) {
            return mf_net_keep_commitment(data, piece, len);
        });
    if (status.bad())
        return status;
    bool implicit_vr =
        std::strcmp(pc.acceptedTransferSyntax, UID_LittleEndianImplicitTransferSyntax) == 0;
    bool ours =
        mf_commitment_read(data.data(), data.size(), implicit_vr, a.arena, &report, &unreadable) &&
        std::strcmp(report.transaction, a.asked.transaction) == 0;
    if (ours) {
        a.report = report;
        a.reported = true;
    }
    return mf_net_answer_report(a.association, id, request,
                                ours ? STATUS_Success : STATUS_N_InvalidArgumentValue);
}

/* The peer's next message: the answer to the request, or a report. */
OFCondition step(Asker &a)
{
    T_ASC_PresentationContextID id = 0;
    T_DIMSE_Message message = {};
    OFCondition status = DIMSE_receiveCommand(a.association, DIMSE_NONBLOCKING, a.peer.timeout_s,
                                              &id, &message, nullptr);
    if (status.bad())
        return status;
    if (message.CommandField == DIMSE_N_EVENT_REPORT_RQ)
        return take_report(a, id, message.msg.NEventReportRQ);
    if (message.CommandField != DIMSE_N_ACTION_RSP || a.answered)
        return DIMSE_BADCOMMANDTYPE;
    a.answered = true;
    a.result = message.msg.NActionRSP.DimseStatus;
    if (message.msg.NActionRSP.DataSetType == DIMSE_DATASET_NULL)
        return EC_Normal;
    return a.receive_data_set(id, [](const void *, size_t) { return true; }); /* tells nothing */
}

/* Until the report, or until the time for it is over; a peer may also go when it has answered. */
OFCondition converse(Asker &a, int wait_s)
{
    time_t until = 0;
    OFCondition status = send_request(a);
    while (status.good() && !(a.answered && (a.reported || a.result != STATUS_Success))) {
        if (a.answered && !until)
            until = time(nullptr) + wait_s;
        time_t left = a.answered ? until - time(nullptr) : a.peer.timeout_s;
        if (left < 0 || a.wait(static_cast<int>(left), -1) == MfCaller::SILENCE)
            return a.answered ? EC_Normal : DIMSE_NODATAAVAILABLE;
        status = step(a);
    }
    return status;
}

bool ask(const struct mf_net_peer &peer, const struct mf_commitment &asked, int wait_s,
         struct mf_arena *arena, struct mf_commitment *ret, struct mf_error *err)
{
    static const char *const syntaxes[] = {UID_LittleEndianExplicitTransferSyntax,
                                           UID_LittleEndianImplicitTransferSyntax};
    T_ASC_PresentationContext accepted;
    Asker a(peer, asked, arena);
    a.offer(MF_COMMITMENT_CLASS, syntaxes, 2, ASC_SC_ROLE_DEFAULT);
    if (!a.connect(err))
        return false;
    if (ASC_findAcceptedPresentationContext(a.association->params, 1, &accepted).bad())
        return mf_error_set(err, MF_ERR_UNUSABLE, "the peer does not offer storage commitment");
    OFCondition status = converse(a, wait_s);
    if (status.good())
        (void)ASC_releaseAssociation(a.association);
    else if (status == DUL_PEERREQUESTEDRELEASE)
        (void)ASC_acknowledgeRelease(a.association);
    else
        (void)ASC_abortAssociation(a.association);
    if (a.answered && a.result != STATUS_Success)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "the peer refused the storage commitment with status %04X", a.result);
    if (!a.answered)
        return mf_net_fail(status, "the peer broke off", err);
    *ret = a.report;
    return true;
}

} // namespace

bool mf_net_commit(const struct mf_net_peer *peer, const struct mf_commitment *asked, int wait_s,
                   struct mf_arena *arena, struct mf_commitment *ret, struct mf_error *err)
{
    try {
        return ask(*peer, *asked, wait_s, arena, ret, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an association");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_INTERNAL, "DCMTK failed in an association");
    }
}
