/*
 * What the gate `starve` shares with the programs it starves (starve.c): a file that all of them
 * map. The script beside this reads and writes it by the offsets that are fixed here.
 */
#ifndef MF_GATES_STARVE_H
#define MF_GATES_STARVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    STARVE_SLOTS = 1 << 17,
    STARVE_FINDINGS = 256,
    STARVE_PROGRAMS = 30,
    STARVE_FRAMES = 4, /* of our own program that tell one fault from another, innermost first */
    STARVE_DEEP = 20   /* of a finding */
};

/* A place that has failed, or whose turn it is: 80 bytes. */
struct starve_slot {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint32_t struck;
    uint32_t program;
    uint64_t frames[STARVE_FRAMES]; /* in the program, from its beginning */
    char call[16];
    uint64_t order; /* of its last failure among all */
    char process[8];
};

/* A signal, or memory that was not given back after a fault: 512 bytes. */
struct starve_finding {
    uint32_t number; /* of the signal; 0: memory */
    uint32_t pid, program, slot;
    uint64_t frames[STARVE_DEEP]; /* as above; other libraries' are left out */
    uint64_t fault[STARVE_DEEP];  /* those of the last fault of the process */
    char process[16];
    uint64_t lost;
    char library[32]; /* where the signal came from, if that is not the program itself */
    char input[56];
    char reserved[64];
};

struct starve_table {
    _Atomic uint32_t enabled;
    uint32_t most;   /* faults for a process; 0: any number */
    uint64_t gap_ns; /* between faults, whichever process they are in */
    _Atomic uint64_t last_ns;
    _Atomic uint64_t struck; /* faults so far */
    _Atomic uint32_t findings, programs;
    _Atomic uint32_t last_slot;
    uint32_t reserved;
    uint64_t calm_ns; /* without a fault for a process that a supervisor has started */
    char more[200];
    char program[STARVE_PROGRAMS][256];
    struct starve_finding finding[STARVE_FINDINGS];
    struct starve_slot slot[STARVE_SLOTS];
};

_Static_assert(sizeof(struct starve_slot) == 80 && sizeof(struct starve_finding) == 512,
               "the script reads them");

/* For programs that are starved piece by piece (replay.c): one fault at most until it is called
 * again, and none with `on` 0. It says how many there were since the last time. */
unsigned mf_starve(int on);

/* Allocations that live. */
long mf_starve_live(void);

/* Takes down that memory was lost after the last fault. */
void mf_starve_lost(long allocations, const char *input);

/* --- between the two halves of the library --- */

/* Whether this call has to fail; then errno is set. */
bool mf_starve_fails(const char *call, int error);

/* The same of one that may be interrupted, and is at first; error 0: it does not fail else. */
bool mf_starve_interrupts(const char *call, int error);

void mf_starve_count(long allocations);

/* The process has a new name; one that the supervisor has named has some peace to begin in. */
void mf_starve_name(const char *name);

#endif
