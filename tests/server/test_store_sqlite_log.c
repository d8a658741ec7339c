/* server/store_sqlite_log.c: a hold leaves the database's file alone, and file and log are then a
 * copy. */
#include "served_fixture.h"

#include "core/digest.h"
#include "server/store_sql.h"

enum { JOBS = 40, LONG_MS = 3600000 };

static void digest_of(const struct store_fixture *f, const char *name, char out[MF_SHA256_HEX])
{
    char path[128];
    unsigned char digest[MF_SHA256_BYTES];
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 64 << 20);
    snprintf(path, sizeof path, "%s/%s", f->directory, name);
    assert_true(mf_buffer_read_file(&text, path, NULL));
    mf_sha256(text.data, text.len, digest);
    mf_sha256_to_hex(digest, out);
}

static void submit_many(struct store_fixture *f)
{
    char id[MF_JOB_ID];
    for (int i = 0; i < JOBS; i++)
        fixture_submit(f, MF_PRIORITY_ROUTINE, id);
}

static void idle(struct store_fixture *f)
{
    struct mf_sql_store *s = (struct mf_sql_store *)f->store;
    s->engine->idle(s);
}

static int64_t hold(struct store_fixture *f, int64_t ms)
{
    int64_t number = 0;
    assert_true(mf_store_hold(f->store, ms, &number, NULL));
    return number;
}

static void a_hold_leaves_the_file_alone_until_it_is_over(void **state)
{
    (void)state;
    struct store_fixture f;
    char before[MF_SHA256_HEX], after[MF_SHA256_HEX];
    fixture_start(&f);
    submit_many(&f);
    int64_t number = hold(&f, LONG_MS);
    digest_of(&f, "store.db", before);
    submit_many(&f);
    idle(&f);
    digest_of(&f, "store.db", after);
    assert_string_equal(before, after);
    assert_int_equal(hold(&f, LONG_MS), number); /* it went on */
    assert_int_equal(hold(&f, 0), number);
    idle(&f);
    digest_of(&f, "store.db", after);
    assert_string_not_equal(before, after);
    assert_int_not_equal(hold(&f, LONG_MS), number);
    fixture_end(&f);
}

static void file_and_log_are_the_database(void **state)
{
    (void)state;
    struct served_fixture v;
    struct store_fixture copy;
    struct mf_store_counts counts;
    char command[512];
    served_start(&v);
    fixture_start(&copy);
    mf_store_free(copy.store);
    hold(&v.f, LONG_MS);
    submit_many(&v.f);
    snprintf(command, sizeof command, "rm %s/store.db*; cp %s/store.db %s/store.db-wal %s/",
             copy.directory, v.f.directory, v.f.directory, copy.directory);
    assert_int_equal(system(command), 0);
    submit_many(&v.f); /* after the copy */
    fixture_open(&copy);
    assert_true(mf_store_counts(copy.store, &counts, NULL));
    assert_int_equal(counts.jobs[MF_JOB_QUEUED], JOBS);
    fixture_end(&copy);
    served_end(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hold_leaves_the_file_alone_until_it_is_over),
        cmocka_unit_test(file_and_log_are_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
