/*
 * Confine: what each process of the daemon gives up before it does anything (landlock.h). Whatever
 * it is made to do by what it reads, it starts no program, listens nowhere, writes to the data
 * directory only, and reads the system's libraries and settings and what the configuration names.
 *
 * Left as they are: the supervisor, which starts the others; the store on PostgreSQL, whose library
 * reads certificates from anywhere; workers of a GPU, whose driver needs devices and files of its
 * own.
 */
#ifndef MF_SERVER_CONFINE_H
#define MF_SERVER_CONFINE_H

#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_confined { MF_CONFINED_FRONT, MF_CONFINED_WORKER, MF_CONFINED_OTHER };

/* For good, before the process makes a thread. The front may change the file of API keys, which is
 * put in place of the old one; a worker connects only where payloads or traces are elsewhere. On
 * failure the process must end. */
bool mf_confine(const struct mf_config *config, enum mf_confined who,
                struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
