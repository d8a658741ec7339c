/*
 * The database at rest: a layer between SQLite and its files (a VFS) that encrypts every page of
 * the database and of its write-ahead log, so that all columns are, the searched ones as well.
 *
 * The key is the database's own (store_key.h). A page on the disk is followed
 * by 40 bytes: the salt (16) that its key was derived with (HMAC-SHA256 of the database's key), a
 * counter (8) and the tag (16). The salt is drawn when the database is opened and whenever 2^32
 * pages were written, the counter counts them and is the nonce: no nonce comes twice with a key.
 * The authenticated data are the file's kind and the page's place in it. In plain are the log's
 * header and its frames' headers (page numbers, salts, SQLite's checksums), which hold no data of a
 * page. Whoever can write the files can still put an earlier state of a page or of all of them
 * back.
 *
 * Rollback journals with pages and temporary files are refused: the store has none (WAL,
 * temp_store=MEMORY).
 */
#ifndef MF_SERVER_STORE_SQLITE_PAGES_H
#define MF_SERVER_STORE_SQLITE_PAGES_H

#include "server/gcm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_sqlite_pages;

/* Registers the layer with the database's key. NULL when out of memory. */
struct mf_sqlite_pages *mf_sqlite_pages_new(const unsigned char key[MF_GCM_KEY],
                                            struct mf_error *err) MF_CHECK_RESULT;
/* Once no database is open with it. */
void mf_sqlite_pages_free(struct mf_sqlite_pages *pages);
/* What sqlite3_open_v2() is told; NULL for NULL: the usual layer. */
const char *mf_sqlite_pages_vfs(const struct mf_sqlite_pages *pages);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_sqlite_pages, struct mf_sqlite_pages *, mf_sqlite_pages_free(*p))

#endif
