/* DCMTK fence: storing objects at a peer (C-STORE SCU, PS3.4 annex B). */
#include "dicom/dcmtk_net.hpp"

#include "dcmtk/dcmdata/dcfilefo.h"
#include "dcmtk/dcmdata/dcistrmb.h"

#include <exception>
#include <memory>
#include <vector>

namespace
{

std::unique_ptr<DcmFileFormat> read_file(const struct mf_net_file &from)
{
    auto file = std::make_unique<DcmFileFormat>();
    DcmInputBufferStream stream;
    stream.setBuffer(from.data, static_cast<offile_off_t>(from.len));
    stream.setEos();
    file->transferInit();
    OFCondition status = file->read(stream);
    file->transferEnd();
    if (status.bad())
        file.reset();
    return file;
}

/* What an object is, as its presentation context needs it. */
bool names_of(DcmFileFormat &file, OFString &sop_class, OFString &syntax)
{
    syntax = DcmXfer(file.getDataset()->getOriginalXfer()).getXferID();
    return file.getDataset()->findAndGetOFString(DCM_SOPClassUID, sop_class).good();
}

bool send_one(DcmSCU &scu, DcmFileFormat &file, struct mf_error *err)
{
    OFString sop_class, syntax;
    Uint16 result = 0;
    names_of(file, sop_class, syntax);
    T_ASC_PresentationContextID id = scu.findPresentationContextID(sop_class, syntax);
    if (id == 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the peer does not accept the SOP class %s",
                            sop_class.c_str());
    OFCondition status = scu.sendSTORERequest(id, "", file.getDataset(), result);
    if (status.bad())
        return mf_net_fail(status, "the peer broke off", err);
    if (result == STATUS_Success || (result & 0xF000) == 0xB000)
        return true;
    return mf_error_set(err, MF_ERR_UNUSABLE, "the peer refused an object with status %04X",
                        result);
}

bool send_all(MfRequester &requester, std::vector<std::unique_ptr<DcmFileFormat>> &files,
              struct mf_error *err)
{
    DcmSCU &scu = requester.scu;
    if (!requester.connect(err))
        return false;
    for (auto &file : files)
        if (!send_one(scu, *file, err)) {
            (void)scu.abortAssociation();
            return false;
        }
    (void)scu.releaseAssociation(); /* all were answered */
    return true;
}

bool store(const struct mf_net_peer &peer, const struct mf_net_file *from, size_t n,
           struct mf_error *err)
{
    std::vector<std::unique_ptr<DcmFileFormat>> files;
    MfRequester requester(peer);
    for (size_t i = 0; i < n; i++) {
        OFString sop_class, syntax;
        files.push_back(read_file(from[i]));
        if (!files.back() || !names_of(*files.back(), sop_class, syntax))
            return mf_error_set(err, MF_ERR_MALFORMED, "an object to be sent cannot be read");
        OFList<OFString> syntaxes;
        syntaxes.push_back(syntax);
        (void)requester.scu.addPresentationContext(sop_class, syntaxes); /* twice is once */
    }
    return send_all(requester, files, err);
}

} // namespace

bool mf_net_store(const struct mf_net_peer *peer, const struct mf_net_file *files, size_t n,
                  struct mf_error *err)
{
    try {
        return store(*peer, files, n, err);
    } catch (const std::bad_alloc &) {
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an association");
    } catch (const std::exception &) {
        return mf_error_set(err, MF_ERR_INTERNAL, "DCMTK failed in an association");
    }
}
