/*
 * Control: what an administrator's processes (`medfusion reload`, the front for the page) ask of
 * the supervisor, over a datagram socket "control.sock" in the data directory, which only the
 * daemon's user can reach. A question is one byte, the answer one struct mf_reload_status, at once:
 * the supervisor waits for nobody and parses nothing.
 */
#ifndef MF_SERVER_CONTROL_H
#define MF_SERVER_CONTROL_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_reload_state { MF_RELOAD_NONE, MF_RELOAD_RUNNING, MF_RELOAD_SUCCEEDED, MF_RELOAD_FAILED };

enum { MF_RELOAD_REASON = 256 };

/* The newest reload since the daemon was started. */
struct mf_reload_status {
    enum mf_reload_state state;
    int64_t number;     /* counts them; 0 = there was none */
    int64_t generation; /* those that succeeded: of the processes that work now */
    int64_t started_ms, ended_ms;
    bool refused;                  /* it was asked for, and one is under way */
    char reason[MF_RELOAD_REASON]; /* why it failed; else "" */
};

/* "none", "running", "succeeded", "failed" */
const char *mf_reload_state_name(enum mf_reload_state state);

enum mf_control { MF_CONTROL_STATUS = 's', MF_CONTROL_RELOAD = 'r' };

/* The supervisor's socket; −1 on failure. */
int mf_control_listen(const char *directory, struct mf_error *err) MF_CHECK_RESULT;
/* Takes one question; false when there is none. The answer goes with mf_control_answer(). */
struct mf_control_question {
    unsigned char what;
    char from[128]; /* an address */
    unsigned from_len;
};
bool mf_control_take(int fd, struct mf_control_question *ret);
void mf_control_answer(int fd, const struct mf_control_question *question,
                       const struct mf_reload_status *status);

/* Asks the daemon that works in this directory. MF_ERR_UNAVAILABLE: there is none. */
bool mf_control_ask(const char *directory, enum mf_control what, struct mf_reload_status *ret,
                    struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
