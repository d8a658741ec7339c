/* `medfusion model smooth`, as cmd_model.c calls it. */
#ifndef MF_SERVER_CMD_SMOOTH_H
#define MF_SERVER_CMD_SMOOTH_H

#include "core/error.h"

#include <stddef.h>

struct mf_smooth_arguments {
    const char *model, *output; /* bundle directories; `output` new or empty */
    const char *ehr;            /* FHIR of the studies' patients, or NULL */
    double alpha;               /* engine/smoothing.h */
    size_t studies;             /* how many are enough */
    char **paths;               /* DICOM files and directories */
    size_t path_count;
};

/* Runs the studies, writes the copy and prints one line about it. */
bool mf_model_smooth(const struct mf_smooth_arguments *arguments, struct mf_error *err);

#endif
