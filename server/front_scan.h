/* Scanner of the front: a decoder's scan, then the pipeline's decision which bundle will run
 * (services.h). */
#ifndef MF_SERVER_FRONT_SCAN_H
#define MF_SERVER_FRONT_SCAN_H

#include "server/decoder.h"
#include "server/registry.h"
#include "server/services.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_front_scan {
    struct mf_decoder *decoder;
    const struct mf_registry *registry;
    const struct mf_config_ehr *identity; /* NULL = any identifier may be the PatientID */
    const struct mf_routing *routing;     /* NULL = no rules */
};

/* The functions of an mf_scanner; context is a struct mf_front_scan. */
bool mf_front_scan(void *context, const struct mf_scan *scan, struct mf_scanned *ret,
                   struct mf_error *err);
void mf_front_prepare(void *context);

#ifdef __cplusplus
}
#endif

#endif
