/* server/store_sqlite_pages.c: a database whose pages are encrypted is one like any other to
 * SQLite; on the disk nothing of it can be read, and nothing changed unseen. */
#include "server/store_sqlite_pages.h"

#include "tests/expect.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const unsigned char KEY[MF_GCM_KEY] = "0123456789abcdef0123456789abcde";
static const char CANARY[] = "DOE^JANE-CANARY";
static char directory[] = "/tmp/medfusion-pages-XXXXXX", path[64];

static int make(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/store.db", directory);
    return 0;
}

static void shell(const char *format, const char *a, const char *b)
{
    char command[256];
    snprintf(command, sizeof command, format, a, b);
    assert_int_equal(system(command), 0);
}

static int clear(void **state)
{
    (void)state;
    shell("rm -r %s%s", directory, "");
    return 0;
}

static int setup(void **state)
{
    (void)state;
    shell("rm -f %s*%s", path, "");
    return 0;
}

struct open_db {
    struct mf_sqlite_pages *pages;
    sqlite3 *db;
};

static int open_with(struct open_db *o, const unsigned char *key)
{
    o->pages = key ? mf_sqlite_pages_new(key, NULL) : NULL;
    return sqlite3_open_v2(path, &o->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                           mf_sqlite_pages_vfs(o->pages));
}

static void close_db(struct open_db *o)
{
    sqlite3_close(o->db);
    mf_sqlite_pages_free(o->pages);
}

static int run(struct open_db *o, const char *sql)
{
    return sqlite3_exec(o->db, sql, NULL, NULL, NULL);
}

static void must(struct open_db *o, const char *sql)
{
    if (run(o, sql) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(o->db));
}

static long count(struct open_db *o)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(o->db, "SELECT count(*), sum(length(body)) FROM t", -1, &q, NULL))
        return -1;
    long n = sqlite3_step(q) == SQLITE_ROW ? (long)sqlite3_column_int64(q, 0) : -1;
    sqlite3_finalize(q);
    return n;
}

static void begin(struct open_db *o, int rows)
{
    char sql[256];
    assert_int_equal(open_with(o, KEY), SQLITE_OK);
    must(o,
         "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
         "PRAGMA temp_store=MEMORY; CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body);");
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             "INSERT INTO t(body) SELECT '%s' || hex(randomblob(900)) FROM n",
             rows, CANARY);
    must(o, sql);
}

static bool holds(const char *suffix, const char *text)
{
    char name[80];
    static char bytes[8 << 20];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    FILE *file = fopen(name, "r");
    if (!file)
        return false;
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    return memmem(bytes, n, text, strlen(text)) != NULL;
}

static void what_is_written_comes_back_and_is_not_on_the_disk(void **state)
{
    (void)state;
    struct open_db o;
    begin(&o, 500);
    assert_false(holds("-wal", CANARY));
    must(&o, "PRAGMA wal_checkpoint(TRUNCATE)");
    assert_false(holds("", CANARY));
    assert_false(holds("", "SQLite format 3"));
    must(&o, "DELETE FROM t WHERE id % 3 = 0; VACUUM; PRAGMA integrity_check");
    assert_int_equal(count(&o), 334);
    close_db(&o);
    assert_int_equal(open_with(&o, KEY), SQLITE_OK);
    must(&o, "PRAGMA integrity_check");
    assert_int_equal(count(&o), 334);
    close_db(&o);
}

static void a_log_that_ends_in_a_torn_frame_is_read_up_to_it(void **state)
{
    (void)state;
    struct open_db o;
    begin(&o, 100);
    must(&o, "PRAGMA wal_checkpoint(TRUNCATE)");
    must(&o, "INSERT INTO t(body) VALUES('first')");
    must(&o, "INSERT INTO t(body) VALUES('second')");
    shell("cp %s %s.copy", path, path);
    shell("cp %s-wal %s.copy-wal", path, path);
    close_db(&o);
    shell("mv %s.copy %s", path, path);
    shell("mv %s.copy-wal %s-wal", path, path);
    char log[80];
    snprintf(log, sizeof log, "%s-wal", path);
    int fd = open(log, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(pwrite(fd, "torn", 4, size - 100), 4);
    close(fd);
    assert_int_equal(open_with(&o, KEY), SQLITE_OK);
    must(&o, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA integrity_check");
    assert_int_equal(count(&o), 101); /* 'first' is whole, 'second' never was */
    close_db(&o);
}

static void a_changed_or_moved_page_is_found(void **state)
{
    (void)state;
    struct open_db o;
    unsigned char page[4136], byte = 0;
    begin(&o, 200);
    must(&o, "PRAGMA wal_checkpoint(TRUNCATE)");
    close_db(&o);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 5 * 4136 + 77), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 5 * 4136 + 77), 1);
    assert_int_equal(open_with(&o, KEY), SQLITE_OK);
    assert_int_equal(run(&o, "SELECT sum(length(body)) FROM t"), SQLITE_IOERR);
    close_db(&o);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 5 * 4136 + 77), 1);
    assert_int_equal(pread(fd, page, sizeof page, 6 * 4136), sizeof page);
    assert_int_equal(pwrite(fd, page, sizeof page, 5 * 4136), sizeof page);
    assert_int_equal(open_with(&o, KEY), SQLITE_OK);
    assert_int_equal(run(&o, "SELECT sum(length(body)) FROM t"), SQLITE_IOERR);
    close_db(&o);
    close(fd);
}

static void another_key_and_no_key_do_not_open_it(void **state)
{
    (void)state;
    static const unsigned char other[MF_GCM_KEY] = "another";
    struct open_db o;
    begin(&o, 10);
    close_db(&o);
    assert_int_equal(open_with(&o, other), SQLITE_IOERR);
    close_db(&o);
    assert_int_equal(open_with(&o, NULL), SQLITE_OK);
    assert_int_equal(run(&o, "SELECT * FROM t"), SQLITE_NOTADB);
    close_db(&o);
}

static void nothing_is_written_beside_it_in_plain(void **state)
{
    (void)state;
    struct open_db o;
    begin(&o, 50);
    assert_int_equal(run(&o, "PRAGMA journal_mode=DELETE"), SQLITE_IOERR); /* a rollback journal */
    must(&o, "PRAGMA temp_store=FILE");
    must(&o, "PRAGMA temp.cache_size=5");
    assert_int_equal(run(&o, "CREATE TEMP TABLE u AS SELECT a.body FROM t a, t b"),
                     SQLITE_CANTOPEN);
    close_db(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_written_comes_back_and_is_not_on_the_disk, setup),
        cmocka_unit_test_setup(a_log_that_ends_in_a_torn_frame_is_read_up_to_it, setup),
        cmocka_unit_test_setup(a_changed_or_moved_page_is_found, setup),
        cmocka_unit_test_setup(another_key_and_no_key_do_not_open_it, setup),
        cmocka_unit_test_setup(nothing_is_written_beside_it_in_plain, setup),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
