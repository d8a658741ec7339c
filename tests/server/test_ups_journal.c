/* server/ups_journal.c: claims on the disk. */
#include "server/ups_journal.h"

#include "dicom/instance.h"

#include "tests/expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX = 8, PATH = 256 };

static char directory[] = "/tmp/test-ups-XXXXXX";

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    char path[PATH];
    snprintf(path, sizeof path, "%s/ups", directory);
    rmdir(path);
    return rmdir(directory);
}

static size_t load(struct mf_ups_entry entries[MAX], size_t *ret_damaged)
{
    size_t n = 0;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_ups_journal_load(directory, entries, MAX, &n, ret_damaged, &err))
        fail_msg("%s", err.msg);
    return n;
}

static void a_claim_survives(void **state)
{
    (void)state;
    struct mf_ups_entry made, other, read[MAX];
    struct mf_error err = MF_ERROR_INIT;
    size_t damaged;
    assert_true(mf_ups_entry_new("1.2.3", &made, &err) && mf_ups_entry_new("1.2.4", &other, &err));
    assert_string_not_equal(made.transaction, other.transaction);
    assert_true(mf_uid_valid(made.transaction) && strncmp(made.transaction, "2.25.", 5) == 0);
    assert_true(mf_ups_journal_save(directory, &made, &err));
    made.phase = MF_UPS_RUNNING;
    mf_job_id_new(made.job);
    assert_true(mf_ups_journal_save(directory, &made, &err)); /* in its place */
    assert_int_equal(load(read, &damaged), 1);
    assert_int_equal(damaged, 0);
    assert_string_equal(read[0].item, "1.2.3");
    assert_string_equal(read[0].transaction, made.transaction);
    assert_string_equal(read[0].job, made.job);
    assert_int_equal(read[0].phase, MF_UPS_RUNNING);
    assert_int_equal(read[0].claimed_ms, made.claimed_ms);
    made.phase = MF_UPS_FAILED;
    mf_error_set(&made.problem, MF_ERR_NOT_FOUND, "the source has no such study");
    assert_true(mf_ups_journal_save(directory, &made, &err));
    assert_int_equal(load(read, &damaged), 1);
    assert_error(&read[0].problem, MF_ERR_NOT_FOUND, "the source has no such study");
    assert_true(mf_ups_journal_remove(directory, &made, &err));
    assert_true(mf_ups_journal_remove(directory, &made, &err));
    assert_int_equal(load(read, &damaged), 0);
}

static void write_file(const char *name, const char *text)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/ups", directory);
    (void)mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/ups/%s", directory, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void damaged_files_are_counted_and_stay(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{}", "{\"workitem\":\"1.2\",\"transaction\":\"1.3\",\"phase\":\"nothing\"}",
        "{\"workitem\":\"../x\",\"transaction\":\"1.3\",\"phase\":\"claimed\"}",
        "{\"workitem\":\"1.2\",\"transaction\":\"1.3\",\"phase\":\"running\",\"job\":\"1\"}"};
    struct mf_ups_entry read[MAX];
    size_t damaged, n = sizeof bad / sizeof *bad;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu.json", i);
        write_file(name, bad[i]);
    }
    write_file("1.2.part", "half"); /* a crash while it was written */
    assert_int_equal(load(read, &damaged), 0);
    assert_int_equal(damaged, n);
    for (size_t i = 0; i < n + 1; i++) {
        char path[PATH];
        snprintf(path, sizeof path, i < n ? "%s/ups/%zu.json" : "%s/ups/1.2.part", directory, i);
        assert_int_equal(unlink(path), 0);
    }
}

static void a_directory_that_is_not_there_is_told(void **state)
{
    (void)state;
    struct mf_ups_entry read[MAX];
    size_t n, damaged;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_ups_journal_load("/nowhere", read, MAX, &n, &damaged, &err));
    assert_error(&err, MF_ERR_IO,
                 "data.directory: \"ups\" cannot be opened (No such file or directory)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_survives),
        cmocka_unit_test(damaged_files_are_counted_and_stay),
        cmocka_unit_test(a_directory_that_is_not_there_is_told),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
