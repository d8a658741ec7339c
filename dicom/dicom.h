/*
 * DICOM module: what a process does once before it touches DICOM.
 *
 * The module's parts, in the order data passes through them:
 *   prescan.h   bytes → checked structure (own code: the only parser of data sets)
 *   scan.h      uploads (Part 10 files, zips) → index.h
 *   index.h     the index: one entry per object, kept as JSON with a job
 *   study.h     index → patients, studies, the ordered frames of one request
 *   decode.h    index entry + frame number → stored samples
 * DCMTK decodes JPEG, JPEG-LS and character sets behind dcmtk_*.cpp, OpenJPEG decodes JPEG 2000.
 */
#ifndef MF_DICOM_DICOM_H
#define MF_DICOM_DICOM_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loads everything that DCMTK and iconv would open later (data dictionary, conversion modules),
 * registers the decoders and silences DCMTK's logger, which would print patient data. Call it once,
 * before threads start and before a seccomp filter is applied; later calls do nothing. Afterwards
 * scan.h needs no system calls but memory and pread/fstat/mmap of the descriptors it is given,
 * decode.h only memory and pread. */
bool mf_dicom_init(struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
