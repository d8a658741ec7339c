/* Addresses of DICOM peers: "dicom://AE@host:port". */
#ifndef MF_SERVER_DICOM_ADDRESS_H
#define MF_SERVER_DICOM_ADDRESS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Splits an address; false when it is something else. */
bool mf_dicom_address(const char *address, char ae[17], char host[256], int *port);

#ifdef __cplusplus
}
#endif

#endif
