/*
 * DCMTK fence: Query/Retrieve as SCU (PS3.4 annex C; PS3.7 9.1.2 to 9.1.4, 9.3.2.3 C-CANCEL), Study
 * Root. Data sets are taken from the PDVs as they arrive; DCMTK parses commands only.
 */
#include "dicom/net_query.h"

#include "dicom/dcmtk_net.hpp"
#include "dicom/metadata.h"
#include "dicom/part10.h"

#include "dcmtk/dcmdata/dcistrmb.h"
#include "dcmtk/dcmdata/dctk.h"

#include <cstring>
#include <exception>
#include <string>

namespace
{

const size_t IDENTIFIER_BYTES = 1 << 20; /* of one answer */
const int CANCEL_S = 3;                  /* how long a peer has to answer a C-CANCEL */

/* Offered for C-GET in compressed syntaxes, too, so that the peer need not decode them. */
const char *const IMAGES[] = {UID_ComputedRadiographyImageStorage,
                              UID_DigitalXRayImageStorageForPresentation,
                              UID_DigitalXRayImageStorageForProcessing,
                              UID_CTImageStorage,
                              UID_EnhancedCTImageStorage,
                              UID_MRImageStorage,
                              UID_EnhancedMRImageStorage,
                              UID_SecondaryCaptureImageStorage};
const char *const COMPRESSED[] = {
    UID_JPEGProcess1TransferSyntax,         UID_JPEGProcess2_4TransferSyntax,
    UID_JPEGProcess14SV1TransferSyntax,     UID_JPEGLSLosslessTransferSyntax,
    UID_JPEG2000LosslessOnlyTransferSyntax, UID_JPEG2000TransferSyntax,
    UID_RLELosslessTransferSyntax};

struct Querier : MfCaller {
    const struct mf_net_query &query;
    const char *sop_class; /* of the query model */
    T_ASC_PresentationContextID id = 1;
    Uint16 message_id = 0;
    bool cancelled = false;
    struct mf_error taken = MF_ERROR_INIT; /* why what came could not be taken */

    Querier(const struct mf_net_query &q, const char *model)
        : MfCaller(*q.peer), query(q), sop_class(model)
    {
    }
};

/* --- associating --- */

bool is_image(const char *sop_class)
{
    for (const char *image : IMAGES)
        if (std::strcmp(image, sop_class) == 0)
            return true;
    return false;
}

/* The model itself, and for C-GET what may come back (PS3.4 C.5.3: we are SCP of those). */
void offer_all(Querier &q, bool storage)
{
    const char *const native[] = {UID_LittleEndianExplicitTransferSyntax,
                                  UID_LittleEndianImplicitTransferSyntax};
    q.offer(q.sop_class, native, 2, ASC_SC_ROLE_DEFAULT);
    for (const char *image : IMAGES) {
        if (storage)
            q.offer(image, native, 2, ASC_SC_ROLE_SCP);
        for (const char *const &syntax : COMPRESSED)
            if (storage)
                q.offer(image, &syntax, 1, ASC_SC_ROLE_SCP);
    }
    for (int i = 0; storage && i < numberOfDcmShortSCUStorageSOPClassUIDs; i++)
        if (!is_image(dcmShortSCUStorageSOPClassUIDs[i]))
            q.offer(dcmShortSCUStorageSOPClassUIDs[i], native, 2, ASC_SC_ROLE_SCP);
}

bool connect(Querier &q, bool storage, struct mf_error *err)
{
    T_ASC_PresentationContext accepted;
    offer_all(q, storage);
    return q.connect(err) &&
           (ASC_findAcceptedPresentationContext(q.association->params, q.id, &accepted).good() ||
            mf_error_set(err, MF_ERR_UNUSABLE, "the peer does not offer this query or retrieval"));
}

/* --- requesting --- */

/* The identifier of a request (PS3.4 C.4.1.1.3). */
OFCondition fill_identifier(const struct mf_net_query &query, DcmDataset &ret)
{
    OFCondition status = ret.putAndInsertString(DCM_QueryRetrieveLevel, query.level);
    for (size_t i = 0; i < query.key_count && status.good(); i++) {
        const struct mf_net_key &key = query.keys[i];
        status = ret.putAndInsertString(
            DcmTag(static_cast<Uint16>(key.tag >> 16), static_cast<Uint16>(key.tag & 0xFFFF)),
            key.value);
    }
    return status;
}

bool send(Querier &q, T_DIMSE_Message &message, struct mf_error *err)
{
    DcmDataset identifier;
    OFCondition status = fill_identifier(q.query, identifier);
    if (status.good())
        status = DIMSE_sendMessageUsingMemoryData(q.association, q.id, &message, nullptr,
                                                  &identifier, nullptr, nullptr);
    return status.good() || mf_net_fail(status, "the request cannot be sent", err);
}

/* The members that requests have in common. */
template <typename Request>
void fill_request(Querier &q, Request &request)
{
    q.message_id = q.association->nextMsgID++;
    request.MessageID = q.message_id;
    request.Priority = DIMSE_PRIORITY_MEDIUM;
    request.DataSetType = DIMSE_DATASET_PRESENT;
    OFStandard::strlcpy(request.AffectedSOPClassUID, q.sop_class,
                        sizeof request.AffectedSOPClassUID);
}

/* --- receiving --- */

void cancel(Querier &q)
{
    q.cancelled = true;
    (void)DIMSE_sendCancelRequest(q.association, q.id, q.message_id);
}

/* Waits for the peer, or for the wish to cancel, which is passed on once. */
OFCondition wait_for_peer(Querier &q)
{
    for (;;) {
        int other = q.cancelled ? -1 : q.query.cancel_fd;
        MfCaller::Event event = q.wait(q.cancelled ? CANCEL_S : q.peer.timeout_s, other);
        if (event == MfCaller::SILENCE)
            return DIMSE_NODATAAVAILABLE;
        if (event == MfCaller::DATA)
            return EC_Normal;
        cancel(q);
    }
}

/* An identifier as a Part 10 file; empty without one. */
OFCondition receive_identifier(Querier &q, T_ASC_PresentationContextID id, bool present,
                               std::string &ret)
{
    T_ASC_PresentationContext pc;
    OFCondition status = ASC_findAcceptedPresentationContext(q.association->params, id, &pc);
    if (status.bad() || !present)
        return status;
    MF_AUTO(mf_buffer) struct mf_buffer header;
    mf_buffer_init(&header, 4096);
    const struct mf_part10 meta = {q.sop_class, "2.25.1", pc.acceptedTransferSyntax, nullptr};
    if (!mf_part10_header(&meta, &header, nullptr))
        throw std::bad_alloc();
    ret.assign(header.data, header.len);
    return q.receive_data_set(id, [&ret](const void *data, size_t len) {
        ret.append(static_cast<const char *>(data), len);
        return ret.size() <= IDENTIFIER_BYTES;
    });
}

OFCondition receive_command(Querier &q, T_ASC_PresentationContextID *id, T_DIMSE_Message *message)
{
    OFCondition status = wait_for_peer(q);
    if (status.good())
        status = DIMSE_receiveCommand(q.association, DIMSE_NONBLOCKING, q.peer.timeout_s, id,
                                      message, nullptr);
    return status;
}

bool is_pending(Uint16 status)
{
    return status == STATUS_Pending || status == 0xFF01;
}

/* Ends the association; what `status` and the last response mean. */
bool conclude(Querier &q, OFCondition status, Uint16 last, bool warning_is_fine,
              struct mf_error *err)
{
    if (status.good())
        (void)ASC_releaseAssociation(q.association);
    else
        (void)ASC_abortAssociation(q.association);
    if (q.taken.code != MF_OK)
        return mf_error_set(err, q.taken.code, "%s", q.taken.msg);
    if (q.cancelled)
        return mf_error_set(err, MF_ERR_CONFLICT, "the operation was cancelled");
    if (status.bad())
        return mf_net_fail(status, "the peer broke off", err);
    if (last == STATUS_Success || (warning_is_fine && (last & 0xF000) == 0xB000))
        return true;
    return mf_error_set(err, MF_ERR_UNUSABLE, "the peer answered with status %04X", last);
}

/* --- C-FIND --- */

bool take_row(Querier &q, const std::string &file, mf_net_row *row)
{
    MF_AUTO(mf_buffer) struct mf_buffer json;
    mf_buffer_init(&json, 4 * IDENTIFIER_BYTES);
    return mf_metadata_json(file.data(), file.size(), &json, &q.taken) &&
           row(q.query.context, json.data, json.len, &q.taken);
}

bool find(const struct mf_net_query &query, mf_net_row *row, struct mf_error *err)
{
    Querier q(query, UID_FINDStudyRootQueryRetrieveInformationModel);
    T_DIMSE_Message message = {};
    message.CommandField = DIMSE_C_FIND_RQ;
    if (!connect(q, false, err))
        return false;
    fill_request(q, message.msg.CFindRQ);
    if (!send(q, message, err))
        return false;
    Uint16 last = STATUS_Pending;
    OFCondition status = EC_Normal;
    bool enough = false; /* rows are left out from here on, which is no failure */
    for (size_t rows = 0; status.good() && is_pending(last);) {
        T_ASC_PresentationContextID id = 0;
        std::string file;
        status = receive_command(q, &id, &message);
        if (status.good() && message.CommandField != DIMSE_C_FIND_RSP)
            status = DIMSE_BADCOMMANDTYPE;
        if (status.bad())
            break;
        const T_DIMSE_C_FindRSP &response = message.msg.CFindRSP;
        last = response.DimseStatus;
        status = receive_identifier(q, id, response.DataSetType != DIMSE_DATASET_NULL, file);
        if (status.bad() || !is_pending(last) || file.empty() || q.cancelled || enough)
            continue;
        enough = ++rows > query.max_rows;
        if (enough)
            (void)DIMSE_sendCancelRequest(q.association, q.id, q.message_id);
        else if (!take_row(q, file, row))
            cancel(q);
    }
    return conclude(q, status, enough && last == 0xFE00 ? STATUS_Success : last, false, err);
}

/* --- C-GET and C-MOVE --- */

/* Failed SOP Instance UID List (0008,0058) of a last response. */
void note_failed(const std::string &file, struct mf_net_retrieved *ret)
{
    DcmFileFormat parsed;
    DcmInputBufferStream stream;
    OFString uid;
    stream.setBuffer(file.data(), static_cast<offile_off_t>(file.size()));
    stream.setEos();
    parsed.transferInit();
    if (parsed.read(stream).bad())
        return;
    parsed.transferEnd();
    for (unsigned long i = 0; ret->failed_uid_count < MF_NET_FAILED; i++) {
        if (parsed.getDataset()->findAndGetOFString(DCM_FailedSOPInstanceUIDList, uid, i).bad() ||
            uid.empty())
            return;
        OFStandard::strlcpy(ret->failed_uids[ret->failed_uid_count++], uid.c_str(), MF_NET_UID);
    }
}

/* The response of either; the identifier of a failure is looked at only after the pre-scan. */
template <typename Response>
OFCondition take_response(Querier &q, T_ASC_PresentationContextID id, const Response &response,
                          struct mf_net_retrieved *ret)
{
    std::string file;
    struct mf_error unreadable = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer json;
    mf_buffer_init(&json, 4 * IDENTIFIER_BYTES);
    ret->status = response.DimseStatus;
    if (!is_pending(ret->status)) {
        ret->completed = response.NumberOfCompletedSubOperations;
        ret->failed = response.NumberOfFailedSubOperations;
        ret->warning = response.NumberOfWarningSubOperations;
    }
    OFCondition status =
        receive_identifier(q, id, response.DataSetType != DIMSE_DATASET_NULL, file);
    if (status.good() && !file.empty() && !is_pending(ret->status) &&
        mf_metadata_json(file.data(), file.size(), &json, &unreadable))
        note_failed(file, ret);
    return status;
}

bool begin_object(Querier &q, const struct mf_net_sink &sink, const T_DIMSE_C_StoreRQ &request,
                  const char *syntax)
{
    MF_AUTO(mf_buffer) struct mf_buffer header;
    mf_buffer_init(&header, 4096);
    const struct mf_part10 meta = {request.AffectedSOPClassUID, request.AffectedSOPInstanceUID,
                                   syntax, q.peer.called};
    return sink.begin(q.query.context, &q.taken) && mf_part10_header(&meta, &header, &q.taken) &&
           sink.data(q.query.context, header.data, header.len, &q.taken);
}

/* One object of a C-GET; once the operation is cancelled what still comes is dropped. */
OFCondition take_object(Querier &q, T_ASC_PresentationContextID id,
                        const T_DIMSE_C_StoreRQ &request, const struct mf_net_sink &sink)
{
    T_ASC_PresentationContext pc;
    OFCondition status = ASC_findAcceptedPresentationContext(q.association->params, id, &pc);
    if (status.good() && request.DataSetType == DIMSE_DATASET_NULL)
        status = DIMSE_RECEIVEFAILED;
    if (status.bad())
        return status;
    bool taking = !q.cancelled && begin_object(q, sink, request, pc.acceptedTransferSyntax);
    status = q.receive_data_set(id, [&](const void *data, size_t len) {
        taking = taking && sink.data(q.query.context, data, len, &q.taken);
        return true;
    });
    if (status.bad())
        return status;
    taking = taking && sink.end(q.query.context, &q.taken);
    if (!taking && !q.cancelled)
        cancel(q);
    T_DIMSE_C_StoreRSP response = {};
    response.MessageIDBeingRespondedTo = request.MessageID;
    response.DimseStatus = taking ? STATUS_Success : STATUS_STORE_Refused_OutOfResources;
    response.DataSetType = DIMSE_DATASET_NULL;
    response.opts = O_STORE_AFFECTEDSOPCLASSUID | O_STORE_AFFECTEDSOPINSTANCEUID;
    OFStandard::strlcpy(response.AffectedSOPClassUID, request.AffectedSOPClassUID,
                        sizeof response.AffectedSOPClassUID);
    OFStandard::strlcpy(response.AffectedSOPInstanceUID, request.AffectedSOPInstanceUID,
                        sizeof response.AffectedSOPInstanceUID);
    return DIMSE_sendStoreResponse(q.association, id, &request, &response, nullptr);
}

/* Until the last response; `sink` NULL: no objects may come here. */
bool run(Querier &q, const struct mf_net_sink *sink, struct mf_net_retrieved *ret,
         struct mf_error *err)
{
    OFCondition status = EC_Normal;
    *ret = {};
    ret->status = STATUS_Pending;
    while (status.good() && is_pending(ret->status)) {
        T_ASC_PresentationContextID id = 0;
        T_DIMSE_Message message = {};
        status = receive_command(q, &id, &message);
        if (status.bad())
            break;
        if (message.CommandField == DIMSE_C_GET_RSP && sink)
            status = take_response(q, id, message.msg.CGetRSP, ret);
        else if (message.CommandField == DIMSE_C_STORE_RQ && sink)
            status = take_object(q, id, message.msg.CStoreRQ, *sink);
        else if (message.CommandField == DIMSE_C_MOVE_RSP && !sink)
            status = take_response(q, id, message.msg.CMoveRSP, ret);
        else
            status = DIMSE_BADCOMMANDTYPE;
    }
    return conclude(q, status, ret->status, true, err);
}

bool get(const struct mf_net_query &query, const struct mf_net_sink &sink,
         struct mf_net_retrieved *ret, struct mf_error *err)
{
    Querier q(query, UID_GETStudyRootQueryRetrieveInformationModel);
    T_DIMSE_Message message = {};
    message.CommandField = DIMSE_C_GET_RQ;
    if (!connect(q, true, err))
        return false;
    fill_request(q, message.msg.CGetRQ);
    return send(q, message, err) && run(q, &sink, ret, err);
}

bool move(const struct mf_net_query &query, const char *destination, struct mf_net_retrieved *ret,
          struct mf_error *err)
{
    Querier q(query, UID_MOVEStudyRootQueryRetrieveInformationModel);
    T_DIMSE_Message message = {};
    message.CommandField = DIMSE_C_MOVE_RQ;
    if (!connect(q, false, err))
        return false;
    fill_request(q, message.msg.CMoveRQ);
    OFStandard::strlcpy(message.msg.CMoveRQ.MoveDestination, destination,
                        sizeof message.msg.CMoveRQ.MoveDestination);
    return send(q, message, err) && run(q, nullptr, ret, err);
}

/* No exception of DCMTK's leaves the fence. */
template <typename Work>
bool guarded(Work work, struct mf_error *err)
{
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an association");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_INTERNAL, "DCMTK failed in an association");
    }
}

} // namespace

bool mf_net_find(const struct mf_net_query *query, mf_net_row *row, struct mf_error *err)
{
    return guarded([&]() { return find(*query, row, err); }, err);
}

bool mf_net_get(const struct mf_net_query *query, const struct mf_net_sink *sink,
                struct mf_net_retrieved *ret, struct mf_error *err)
{
    return guarded([&]() { return get(*query, *sink, ret, err); }, err);
}

bool mf_net_move(const struct mf_net_query *query, const char *destination,
                 struct mf_net_retrieved *ret, struct mf_error *err)
{
    return guarded([&]() { return move(*query, destination, ret, err); }, err);
}
