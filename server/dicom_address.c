/* Addresses of DICOM peers, as text of the configuration. */
#include "server/dicom_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool mf_dicom_address(const char *address, char ae[17], char host[256], int *port)
{
    static const char scheme[] = "dicom://";
    if (strncmp(address, scheme, strlen(scheme)) != 0)
        return false;
    const char *title = address + strlen(scheme), *at = strchr(title, '@');
    const char *colon = at ? strrchr(at, ':') : NULL;
    if (!colon || at == title || at - title > 16 || colon - at < 2 || colon - at > 255)
        return false;
    char *end;
    long number = strtol(colon + 1, &end, 10);
    if (*end || number < 1 || number > 65535)
        return false;
    snprintf(ae, 17, "%.*s", (int)(at - title), title);
    snprintf(host, 256, "%.*s", (int)(colon - at - 1), at + 1);
    *port = (int)number;
    return true;
}
