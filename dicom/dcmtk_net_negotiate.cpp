/* DCMTK fence: what the accepting side takes of the presentation contexts that a peer proposes
 * (PS3.8 9.3.3). */
#include "dicom/dcmtk_net.hpp"

#include "dicom/syntax.h"

#include "dcmtk/dcmdata/dcxfer.h"
#include "dcmtk/dcmnet/lst.h"

#include <cstring>

namespace
{

bool is_storage(const char *uid)
{
    for (int i = 0; i < numberOfDcmAllStorageSOPClassUIDs; i++)
        if (std::strcmp(uid, dcmAllStorageSOPClassUIDs[i]) == 0)
            return true;
    return std::strncmp(uid, "1.2.840.10008.5.1.4.1.1.", 24) == 0; /* newer than DCMTK's list */
}

bool is_little_endian(const char *uid)
{
    return std::strcmp(uid, UID_LittleEndianExplicitTransferSyntax) == 0 ||
           std::strcmp(uid, UID_LittleEndianImplicitTransferSyntax) == 0;
}

/* Whether images in it are read. */
bool is_decoded(const char *uid)
{
    const struct mf_syntax *syntax = mf_syntax_find(uid);
    return syntax && syntax->codec != MF_CODEC_NONE;
}

/* The first proposed syntax that is read, but Explicit VR Little Endian rather than implicit. */
const char *choose_syntax(const T_ASC_PresentationContext &pc)
{
    const char *chosen = nullptr;
    for (int i = 0; i < pc.transferSyntaxCount; i++) {
        const char *uid = pc.proposedTransferSyntaxes[i];
        if (mf_net_is_commitment(pc.abstractSyntax) ? !is_little_endian(uid) : !is_decoded(uid))
            continue;
        if (!chosen || (std::strcmp(chosen, UID_LittleEndianImplicitTransferSyntax) == 0 &&
                        std::strcmp(uid, UID_LittleEndianExplicitTransferSyntax) == 0))
            chosen = uid;
    }
    return chosen;
}

} // namespace

bool mf_net_is_commitment(const char *uid)
{
    return std::strcmp(uid, MF_COMMITMENT_CLASS) == 0;
}

void mf_net_negotiate(T_ASC_Parameters *params)
{
    for (int i = 0; i < ASC_countPresentationContexts(params); i++) {
        T_ASC_PresentationContext pc;
        if (ASC_getPresentationContext(params, i, &pc).bad())
            continue;
        bool known = std::strcmp(pc.abstractSyntax, UID_VerificationSOPClass) == 0 ||
                     mf_net_is_commitment(pc.abstractSyntax) || is_storage(pc.abstractSyntax);
        const char *syntax = known ? choose_syntax(pc) : nullptr;
        /* who reports commitments to us is their SCP */
        T_ASC_SC_ROLE role =
            mf_net_is_commitment(pc.abstractSyntax) ? pc.proposedRole : ASC_SC_ROLE_DEFAULT;
        if (syntax)
            (void)ASC_acceptPresentationContext(params, pc.presentationContextID, syntax, role,
                                                OFTrue);
        else
            (void)ASC_refusePresentationContext(params, pc.presentationContextID,
                                                known ? ASC_P_TRANSFERSYNTAXESNOTSUPPORTED
                                                      : ASC_P_ABSTRACTSYNTAXNOTSUPPORTED);
    }
}

MfNewerSyntaxes mf_net_hide_newer_syntaxes(T_ASC_Parameters *params)
{
    MfNewerSyntaxes newer;
    /* where DCMTK looks a context up, the answer to it included */
    LST_HEAD **contexts = &params->DULparams.requestedPresentationContext;
    if (!*contexts)
        return newer;
    auto *pc = static_cast<DUL_PRESENTATIONCONTEXT *>(LST_Head(contexts));
    (void)LST_Position(contexts, pc);
    for (; pc; pc = static_cast<DUL_PRESENTATIONCONTEXT *>(LST_Next(contexts))) {
        if (pc->result != DUL_PRESENTATION_ACCEPT ||
            DcmXfer(pc->acceptedTransferSyntax).getXfer() != EXS_Unknown)
            continue;
        newer[pc->presentationContextID] = pc->acceptedTransferSyntax;
        OFStandard::strlcpy(pc->acceptedTransferSyntax, UID_LittleEndianExplicitTransferSyntax,
                            sizeof pc->acceptedTransferSyntax);
    }
    return newer;
}
