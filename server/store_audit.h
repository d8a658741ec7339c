/*
 * Store: the audit trail. Every change of state leaves a row in its own transaction; every request
 * of somebody who had to authenticate leaves one before it is answered. Rows are numbered without
 * gaps and chained: a row's hash covers the row and the hash of the row before, so that no row can
 * be changed, added or taken out unseen. Old rows are removed from the beginning
 * (audit.retention_s); a row about the removal, and the base that is kept, hold the hash where the
 * chain now begins.
 *
 * Who can write the database can make a whole new chain: keep heads (`audit.head` in the log)
 * elsewhere, and have them checked.
 */
#ifndef MF_SERVER_STORE_AUDIT_H
#define MF_SERVER_STORE_AUDIT_H

#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_AUDIT_PAGE = 1000 };

struct mf_audit_row {
    int64_t seq, time_ms;                              /* the store's */
    const char *tenant, *actor, *job, *event, *detail; /* actor and detail may be NULL, job "" */
    unsigned char hash[MF_SHA256_BYTES];
};

/* Where a chain begins or ends: a row's number and hash; 0 and zeros before the first row. */
struct mf_audit_point {
    int64_t seq;
    unsigned char hash[MF_SHA256_BYTES];
};

/* Adds a row with these texts. */
bool mf_store_audit_add(struct mf_store *store, const struct mf_audit_row *row,
                        struct mf_error *err) MF_CHECK_RESULT;
/* Up to MF_AUDIT_PAGE rows after number `after`, in order, and the base. */
bool mf_store_audit_read(struct mf_store *store, int64_t after, struct mf_arena *arena,
                         struct mf_audit_point *ret_base, struct mf_audit_row **ret,
                         size_t *ret_count, struct mf_error *err) MF_CHECK_RESULT;

/* The hash of a row behind `before`. */
void mf_audit_hash(const unsigned char before[MF_SHA256_BYTES], const struct mf_audit_row *row,
                   unsigned char out[MF_SHA256_BYTES]);
/* "SEQ:HEX", as logged, and back. */
enum { MF_AUDIT_POINT_TEXT = 96 };
const char *mf_audit_point_format(const struct mf_audit_point *point,
                                  char out[MF_AUDIT_POINT_TEXT]);
bool mf_audit_point_parse(const char *text, struct mf_audit_point *ret);

/* What verifying found. */
struct mf_audit_report {
    struct mf_audit_point base, head;
    int64_t rows;
};

/* Walks the whole trail. MF_ERR_MALFORMED names the first row that is wrong; `known`, unless NULL,
 * is a head from before, which must still be in it (or be the base). */
bool mf_audit_verify(struct mf_store *store, const struct mf_audit_point *known,
                     struct mf_audit_report *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
