/*
 * Private to the supervisor: its children, and how they are started (supervisor_children.c), how
 * all of them are replaced by others with a newer configuration (supervisor_reload.c), and the loop
 * around both (supervisor.c).
 */
#ifndef MF_SERVER_SUPERVISOR_CHILDREN_H
#define MF_SERVER_SUPERVISOR_CHILDREN_H

#include "server/control.h"
#include "server/process.h"
#include "server/store.h"
#include "server/supervisor.h"
#include "server/worker_gauges.h"

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_child_kind {
    MF_CHILD_STORE,
    MF_CHILD_WORKER,
    MF_CHILD_FRONT,
    MF_CHILD_ZYGOTE,
    MF_CHILD_COURIER,
    MF_CHILD_DIMSE,
    MF_CHILD_QUERY,
    MF_CHILD_CHECK, /* of a reload: looks whether the new configuration can be served, and ends */
    MF_CHILD_NOTE,  /* of a reload: writes down what became of it, and ends */
    MF_CHILD_KINDS
};

/* Where a child stands when there are two of its kind. */
enum mf_child_standing {
    MF_CHILD_CURRENT, /* it works, and is started again when it dies */
    MF_CHILD_NEXT,    /* of a reload: it has to become ready, then it is current */
    MF_CHILD_RETIRED  /* it finishes what it has in hand, and ends */
};

enum {
    MF_MAX_WORKERS = 16, /* worker.count */
    MF_MAX_CHILDREN = 3 * MF_MAX_WORKERS + 16,
    MF_CHILD_FAILED = '!' /* first byte of what a child says that cannot become ready: the reason */
};

struct mf_child {
    enum mf_child_kind kind;
    enum mf_child_standing standing;
    pid_t pid;                       /* 0: not running */
    int ready_fd;                    /* −1: ready, or not running */
    int go_fd;                       /* of one that waits to be let loose; −1 = none */
    bool was_ready;                  /* ever */
    bool renewed;                    /* it was told to end, so that the next one reads anew */
    uint64_t started_ns, restart_ns; /* restart_ns: when to start it, while it is not running */
    unsigned pause_ms;               /* of the next restart */
    unsigned starts;
    size_t number;                   /* of a worker: among those that stand where it does */
    struct mf_worker_gauges *gauges; /* of a worker */
    char id[MF_WORKER_ID];           /* of a worker */
    char unreported[MF_WORKER_ID];   /* a worker whose end the store was not told; "" = none */
    enum mf_attempt_end unreported_end;
};

/* A configuration, and a memory file a bundle for its workers (0 = none). */
struct mf_generation {
    const struct mf_config *config;
    struct mf_config *owned; /* the configuration, unless it is the caller's */
    int *weights;
};

struct mf_zygote;
struct mf_ups_gauges;

struct mf_supervisor {
    const struct mf_supervisor_options *options;
    struct mf_generation current, next; /* next.config NULL: no reload is under way */
    struct mf_zygote *zygote;
    struct mf_worker_gauges *gauges;  /* MF_WORKER_GAUGES of them, shared with the front */
    struct mf_ups_gauges *ups_gauges; /* the courier's, shared with the front */
    int listen_fd, dimse_fd, store_fd, query_fd, lock_fd, control_fd;
    char query_address[MF_PROCESS_ADDRESS];
    char url[128];
    int signals;
    struct mf_child children[MF_MAX_CHILDREN];
    size_t count;
    bool announced;
    bool stopping;
    uint64_t kill_ns;        /* while stopping: when patience ends */
    struct mf_error failure; /* why a process could never become ready */
    struct mf_reload_status reload;
    uint64_t reload_until_ns; /* when a reload that is under way is given up */
};

/* --- children --- */

/* What a kind is called in ps, "mf-front". */
const char *mf_child_name(enum mf_child_kind kind);

/* Adds a child that is not running yet; NULL when there is no room. */
struct mf_child *mf_child_add(struct mf_supervisor *s, enum mf_child_kind kind,
                              enum mf_child_standing standing, struct mf_error *err);
/* Starts it (again). */
bool mf_child_start(struct mf_supervisor *s, struct mf_child *c, struct mf_error *err);
/* Takes those that were retired and have ended out of the list. */
void mf_children_tidy(struct mf_supervisor *s);
/* Sends a signal to those that run, of these kinds (bits) and, unless −1, this standing. */
void mf_children_signal(const struct mf_supervisor *s, unsigned kinds, int standing,
                        int signal_number);
bool mf_children_any(const struct mf_supervisor *s, unsigned kinds, int standing);

/* --- generations --- */

/* Where workers on the CPU pack weights once for all of them, and for those that come after one
 * that died. */
bool mf_generation_open(struct mf_generation *g, struct mf_error *err);
void mf_generation_close(struct mf_generation *g);

/* --- reload --- */

/* Begins one, unless one is under way (false). */
bool mf_reload_begin(struct mf_supervisor *s);
/* A child of the next generation is ready, or (ready false) says why it cannot be. */
void mf_reload_take(struct mf_supervisor *s, struct mf_child *c, bool ready, const char *reason);
/* Gives up a reload that takes too long. */
void mf_reload_step(struct mf_supervisor *s);
/* Ends one that is under way without a result (the daemon stops). */
void mf_reload_abandon(struct mf_supervisor *s);

#ifdef __cplusplus
}
#endif

#endif
