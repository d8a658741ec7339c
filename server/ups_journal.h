/*
 * UPS: what is known of the work items that we hold, on the disk ("ups" in the data directory, one
 * file each) before the manager is told: after a restart they are found again, with the transaction
 * UID that nobody else has. UIDs and our own words only, no patient data.
 */
#ifndef MF_SERVER_UPS_JOURNAL_H
#define MF_SERVER_UPS_JOURNAL_H

#include "server/store.h"
#include "server/ups_item.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_ups_phase {
    MF_UPS_CLAIMING, /* the manager is told, but has not said yes */
    MF_UPS_CLAIMED,  /* it is ours, and there is no job */
    MF_UPS_RUNNING,  /* there is a job */
    MF_UPS_FAILED    /* it is to be canceled */
};

struct mf_ups_entry {
    char item[MF_UPS_UID], transaction[MF_UPS_UID];
    enum mf_ups_phase phase;
    char job[MF_JOB_ID];     /* RUNNING */
    struct mf_error problem; /* FAILED: why */
    int64_t claimed_ms;
    /* in memory only */
    uint64_t next_ns; /* before it nothing is done */
    int64_t pause_ms; /* after the next failure */
    int told;         /* percent that the manager knows of */
    uint64_t told_ns; /* when it was told */
};

/* A new one, CLAIMING, with a transaction UID of 122 random bits. */
bool mf_ups_entry_new(const char *item, struct mf_ups_entry *ret,
                      struct mf_error *err) MF_CHECK_RESULT;

/* Writes it down; durable when this returns true. `directory`: data.directory. MF_ERR_IO. */
bool mf_ups_journal_save(const char *directory, const struct mf_ups_entry *entry,
                         struct mf_error *err) MF_CHECK_RESULT;
/* Forgets it. */
bool mf_ups_journal_remove(const char *directory, const struct mf_ups_entry *entry,
                           struct mf_error *err) MF_CHECK_RESULT;
/* All that are written down, at most `max`; *ret_damaged counts files that are no claim, which stay
 * where they are. MF_ERR_IO. */
bool mf_ups_journal_load(const char *directory, struct mf_ups_entry *ret, size_t max,
                         size_t *ret_count, size_t *ret_damaged,
                         struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
