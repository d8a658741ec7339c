/* Signals that a process reads from a descriptor (signalfd(2)) between its other work. */
#ifndef MF_SERVER_SIGNALS_H
#define MF_SERVER_SIGNALS_H

#include <stdbool.h>

/* Blocks SIGTERM and SIGINT, and with `children` SIGCHLD, and returns a non-blocking descriptor
 * from which they are read, which the caller closes; −1: there is none (errno). */
int mf_signals_open(bool children);

#endif
