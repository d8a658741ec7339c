/*
 * The zygote: a process that loads what decoding needs (DCMTK's dictionary, iconv's modules, the
 * sandbox's filter) once, then forks one sandboxed decoder for every connection. It reads no
 * request and no data itself; it only accepts, forks, reaps, and ends a decoder whose client went
 * away.
 */
#ifndef MF_SERVER_DECODER_PROCESS_H
#define MF_SERVER_DECODER_PROCESS_H

#include "server/decoder_protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The role of the program medfusion-decoder: `argv[1]` is MF_ZYGOTE_ROLE, the listening socket and
 * the ready pipe are at their numbers. `extra` are verbs MF_VERB_EXTRA + i of a test program.
 * Returns the exit status. */
int mf_zygote_main(const mf_decoder_verb extra[], size_t extra_count);

#ifdef __cplusplus
}
#endif

#endif
