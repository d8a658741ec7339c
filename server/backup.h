/*
 * Backup: everything a daemon keeps, copied into a directory while it serves, and put back.
 *
 * A backup holds the database first and the payloads afterwards, so that every job in it has its
 * payload: payloads are durable before their job is accepted, are never changed and go after their
 * job. Besides, what the data directory has in files: the key of our access tokens, states of
 * adaptation, versions of models, the (wrapped) key of the database. Not configuration, bundles and
 * the files that it names, which are the administrator's. "backup.json" (medfusion.backup/1) is
 * written last: without it a backup is not whole.
 *
 * With PostgreSQL the database is all hosts'; payloads and files are those of this data directory.
 * With payloads.s3 the payloads in the bucket are copied beside those of the directory, and all of
 * them are put into the bucket when a backup is restored: so a backup of a directory may be
 * restored into a bucket, and the other way round.
 */
#ifndef MF_SERVER_BACKUP_H
#define MF_SERVER_BACKUP_H

#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_backup_report {
    uint64_t payloads, bytes; /* bytes: of all files */
};

/* Into a directory that is not there yet or empty. */
bool mf_backup_make(const struct mf_config *config, const char *to, struct mf_backup_report *ret,
                    struct mf_error *err) MF_CHECK_RESULT;
/* Into a data directory that holds nothing, and an empty database. MF_ERR_CONFLICT: there is
 * something; MF_ERR_USAGE: the backup is not whole, or of the other kind of database. */
bool mf_backup_restore(const struct mf_config *config, const char *from,
                       struct mf_backup_report *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
