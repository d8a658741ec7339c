/*
 * Backup: copying of files by name from one open directory to another. Copies are for their owner's
 * eyes only (mode 0600), and durable once mf_backup_sync() says so.
 */
#ifndef MF_SERVER_BACKUP_FILES_H
#define MF_SERVER_BACKUP_FILES_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_BACKUP_STEP = 64 << 20 };

struct mf_backup_copier {
    int from, to; /* directories */
    /* Called after every MF_BACKUP_STEP bytes of a file; or NULL. */
    bool (*step)(void *context, struct mf_error *err);
    void *context;
    uint64_t files, bytes; /* copied so far */
};

/* One regular file; nothing of that name may be in `to`. *ret_absent: there is none (any more);
 * with NULL that is an error. MF_ERR_IO names the file. */
bool mf_backup_copy(struct mf_backup_copier *copier, const char *name, bool *ret_absent,
                    struct mf_error *err) MF_CHECK_RESULT;
/* All regular files that are wanted; those that vanish meanwhile are left out. */
bool mf_backup_copy_all(struct mf_backup_copier *copier, bool (*wanted)(const char *name),
                        struct mf_error *err) MF_CHECK_RESULT;

/* Calls `visit` for all regular files of a directory that are wanted; false ends it. */
bool mf_backup_each(int directory, bool (*wanted)(const char *name),
                    bool (*visit)(void *context, const char *name, struct mf_error *err),
                    void *context, struct mf_error *err) MF_CHECK_RESULT;

/* Opens a directory; with `make` it is made (mode 0700) where it is missing. −1 on failure, or
 * when it is missing and `ret_absent` is not NULL. */
int mf_backup_open(int parent, const char *name, bool make, bool *ret_absent,
                   struct mf_error *err) MF_CHECK_RESULT;
/* Whether a directory holds a file that is wanted. */
bool mf_backup_holds(int directory, bool (*wanted)(const char *name), bool *ret,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Everything that was written to the directory's file system is on its disk. */
bool mf_backup_sync(int directory, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
