/* Views of projection radiographs: coded views as values of View Position. Private to the module.
 */
#ifndef MF_DICOM_VIEW_H
#define MF_DICOM_VIEW_H

#ifdef __cplusplus
extern "C" {
#endif

/* The View Position (0018,5101) that a code of CID 4010 stands for ("PA", "AP", "LL", …), or NULL.
 * DX objects must have the code and may lack the View Position. */
const char *mf_view_from_code(const char *code);

#ifdef __cplusplus
}
#endif

#endif
