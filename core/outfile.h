/*
 * An output file that appears whole or not at all: written beside its place, renamed when complete;
 * it is on the disk when that is said, so that a power failure changes nothing of it.
 * "-" is standard output; devices and pipes are written directly.
 */
#ifndef MF_CORE_OUTFILE_H
#define MF_CORE_OUTFILE_H

#include "core/error.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_outfile {
    FILE *file;
    char path[4096], temporary[4096 + 16]; /* temporary "" = written directly */
};

/* MF_ERR_IO names the path. */
bool mf_outfile_open(struct mf_outfile *out, const char *path, struct mf_error *err);
/* Closes and puts the file in its place; a write that failed before is found here. */
bool mf_outfile_commit(struct mf_outfile *out, struct mf_error *err);
/* Closes and removes what was written. */
void mf_outfile_abandon(struct mf_outfile *out);

#ifdef __cplusplus
}
#endif

#endif
