/* DCMTK fence: the messages of storage commitments (PS3.4 annex J): the response to a request
 * (N-ACTION), reports (N-EVENT-REPORT) on the same association or on one of their own. */
#include "dicom/dcmtk_net.hpp"

#include "dcmtk/dcmdata/dctk.h"

#include <cstring>
#include <exception>

namespace
{

enum { EVENT_COMMITTED = 1, EVENT_FAILURES = 2 }; /* PS3.4 J.3.3.1 */

bool add_item(DcmDataset &to, const struct mf_commitment_item &item)
{
    DcmItem *made = nullptr;
    const DcmTag sequence = item.reason ? DCM_FailedSOPSequence : DCM_ReferencedSOPSequence;
    return to.findOrCreateSequenceItem(sequence, made, -2).good() &&
           made->putAndInsertString(DCM_ReferencedSOPClassUID, item.sop_class).good() &&
           made->putAndInsertString(DCM_ReferencedSOPInstanceUID, item.sop_instance).good() &&
           (!item.reason || made->putAndInsertUint16(DCM_FailureReason, item.reason).good());
}

/* The event of a commitment: its type, and its information. */
Uint16 make_event(const struct mf_commitment &commitment, DcmDataset &ret)
{
    return mf_net_fill_commitment(commitment, ret) ? EVENT_FAILURES : EVENT_COMMITTED;
}

bool report(const struct mf_net_peer &peer, const struct mf_commitment &commitment,
            struct mf_error *err)
{
    MfRequester requester(peer);
    DcmSCU &scu = requester.scu;
    DcmDataset information;
    OFList<OFString> syntaxes;
    Uint16 result = 0;
    syntaxes.push_back(UID_LittleEndianExplicitTransferSyntax);
    syntaxes.push_back(UID_LittleEndianImplicitTransferSyntax);
    (void)scu.addPresentationContext(MF_COMMITMENT_CLASS, syntaxes, ASC_SC_ROLE_SCP);
    if (!requester.connect(err))
        return false;
    T_ASC_PresentationContextID id =
        scu.findPresentationContextID(MF_COMMITMENT_CLASS, "", ASC_SC_ROLE_SCP);
    if (id == 0) {
        (void)scu.releaseAssociation();
        return mf_error_set(err, MF_ERR_UNUSABLE, "the peer does not take reports of commitments");
    }
    Uint16 type = make_event(commitment, information);
    OFCondition status =
        scu.sendEVENTREPORTRequest(id, MF_COMMITMENT_INSTANCE, type, &information, result);
    if (status.bad()) {
        (void)scu.abortAssociation();
        return mf_net_fail(status, "the peer broke off", err);
    }
    (void)scu.releaseAssociation(); /* it has answered */
    return result == STATUS_Success ||
           mf_error_set(err, MF_ERR_UNUSABLE, "the peer refused the report with status %04X",
                        result);
}

} // namespace

bool mf_net_fill_commitment(const struct mf_commitment &commitment, DcmDataset &ret)
{
    bool failures = false;
    if (ret.putAndInsertString(DCM_TransactionUID, commitment.transaction).bad())
        throw std::bad_alloc();
    for (size_t i = 0; i < commitment.count; i++) {
        failures = failures || commitment.items[i].reason != MF_COMMITTED;
        if (!add_item(ret, commitment.items[i]))
            throw std::bad_alloc();
    }
    return failures;
}

OFCondition mf_net_send_report(T_ASC_Association *association, T_ASC_PresentationContextID id,
                               const struct mf_commitment &commitment)
{
    DcmDataset information;
    T_DIMSE_Message message;
    std::memset(&message, 0, sizeof message);
    T_DIMSE_N_EventReportRQ &request = message.msg.NEventReportRQ;
    message.CommandField = DIMSE_N_EVENT_REPORT_RQ;
    request.MessageID = association->nextMsgID++;
    request.EventTypeID = make_event(commitment, information);
    request.DataSetType = DIMSE_DATASET_PRESENT;
    OFStandard::strlcpy(request.AffectedSOPClassUID, MF_COMMITMENT_CLASS,
                        sizeof request.AffectedSOPClassUID);
    OFStandard::strlcpy(request.AffectedSOPInstanceUID, MF_COMMITMENT_INSTANCE,
                        sizeof request.AffectedSOPInstanceUID);
    return DIMSE_sendMessageUsingMemoryData(association, id, &message, nullptr, &information,
                                            nullptr, nullptr);
}

OFCondition mf_net_answer_action(T_ASC_Association *association, T_ASC_PresentationContextID id,
                                 const T_DIMSE_N_ActionRQ &request, Uint16 result)
{
    T_DIMSE_Message message;
    std::memset(&message, 0, sizeof message);
    T_DIMSE_N_ActionRSP &response = message.msg.NActionRSP;
    message.CommandField = DIMSE_N_ACTION_RSP;
    response.MessageIDBeingRespondedTo = request.MessageID;
    response.DimseStatus = result;
    response.DataSetType = DIMSE_DATASET_NULL;
    response.ActionTypeID = request.ActionTypeID;
    response.opts =
        O_NACTION_AFFECTEDSOPCLASSUID | O_NACTION_AFFECTEDSOPINSTANCEUID | O_NACTION_ACTIONTYPEID;
    OFStandard::strlcpy(response.AffectedSOPClassUID, request.RequestedSOPClassUID,
                        sizeof response.AffectedSOPClassUID);
    OFStandard::strlcpy(response.AffectedSOPInstanceUID, request.RequestedSOPInstanceUID,
                        sizeof response.AffectedSOPInstanceUID);
    return DIMSE_sendMessageUsingMemoryData(association, id, &message, nullptr, nullptr, nullptr,
                                            nullptr);
}

OFCondition mf_net_answer_report(T_ASC_Association *association, T_ASC_PresentationContextID id,
                                 const T_DIMSE_N_EventReportRQ &request, Uint16 result)
{
    T_DIMSE_Message message;
    std::memset(&message, 0, sizeof message);
    T_DIMSE_N_EventReportRSP &response = message.msg.NEventReportRSP;
    message.CommandField = DIMSE_N_EVENT_REPORT_RSP;
    response.MessageIDBeingRespondedTo = request.MessageID;
    response.DimseStatus = result;
    response.DataSetType = DIMSE_DATASET_NULL;
    response.EventTypeID = request.EventTypeID;
    response.opts = O_NEVENTREPORT_AFFECTEDSOPCLASSUID | O_NEVENTREPORT_AFFECTEDSOPINSTANCEUID |
                    O_NEVENTREPORT_EVENTTYPEID;
    OFStandard::strlcpy(response.AffectedSOPClassUID, request.AffectedSOPClassUID,
                        sizeof response.AffectedSOPClassUID);
    OFStandard::strlcpy(response.AffectedSOPInstanceUID, request.AffectedSOPInstanceUID,
                        sizeof response.AffectedSOPInstanceUID);
    return DIMSE_sendMessageUsingMemoryData(association, id, &message, nullptr, nullptr, nullptr,
                                            nullptr);
}

bool mf_net_report(const struct mf_net_peer *peer, const struct mf_commitment *commitment,
                   struct mf_error *err)
{
    try {
        return report(*peer, *commitment, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an association");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_INTERNAL, "DCMTK failed in an association");
    }
}
