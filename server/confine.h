/*
 * Confine: what each process of the daemon gives up before it does anything: files and TCP
 * (landlock.h) and system calls (syscalls.h). Whatever it is made to do by what it reads, it starts
 * no program, listens nowhere, touches no other process, writes to the data directory only, and
 * reads the system's libraries and settings and what the configuration names.
 *
 * Left their files: the supervisor, which starts the others; the store on PostgreSQL, whose library
 * reads certificates from anywhere; workers of a GPU, whose driver needs devices and files of its
 * own. System calls they give up, too.
 *
 * | process | programs | processes | listening | IP | by |
 * |---|---|---|---|---|---|
 * | supervisor, zygote as it starts | yes | yes | yes | yes | refusing |
 * | front, courier | – | – | – | yes | refusing |
 * | DIMSE, query | – | one for each association or request | – | yes | refusing |
 * | worker | – | – | – | where payloads or traces are elsewhere | refusing |
 * | store on SQLite | – | – | – | – | a list of what is allowed |
 * | store on PostgreSQL | – | – | – | yes | refusing |
 * | zygote, once it listens | – | decoders | – | – | refusing |
 * | decoder | – | – | – | – | a list of what is allowed (sandbox.h) |
 */
#ifndef MF_SERVER_CONFINE_H
#define MF_SERVER_CONFINE_H

#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_confined {
    MF_CONFINED_SUPERVISOR,
    MF_CONFINED_FRONT,
    MF_CONFINED_WORKER,
    MF_CONFINED_STORE,
    MF_CONFINED_COURIER,
    MF_CONFINED_FORKING /* DIMSE and query */
};

/* For good, before the process makes a thread. The front may change the file of API keys, which is
 * put in place of the old one; a worker connects only where payloads or traces are elsewhere. On
 * failure the process must end. */
bool mf_confine(const struct mf_config *config, enum mf_confined who,
                struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
