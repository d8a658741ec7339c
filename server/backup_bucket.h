/* Backup: payloads that lie in a bucket (payloads.s3). */
#ifndef MF_SERVER_BACKUP_BUCKET_H
#define MF_SERVER_BACKUP_BUCKET_H

#include "server/backup_files.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether payloads are kept in a bucket. */
bool mf_backup_has_bucket(const struct mf_config *config);
/* Every object of the bucket that is wanted, each compared with its SHA-256, into copier->to; those
 * that vanish meanwhile are left out. Nothing in the bucket is changed. */
bool mf_backup_fetch(const struct mf_config *config, struct mf_backup_copier *copier,
                     bool (*wanted)(const char *name), struct mf_error *err) MF_CHECK_RESULT;
/* Every file of copier->from that is wanted into the bucket. What is there under the same name is
 * the same payload, and is put again. */
bool mf_backup_put(const struct mf_config *config, struct mf_backup_copier *copier,
                   bool (*wanted)(const char *name), struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
