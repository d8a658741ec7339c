/* CSV: quotes, line ends, and rows that do not fit. */
#include "server/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char path[] = "/tmp/mf-csv-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

static struct mf_csv *read_text(const char *text, size_t len, struct mf_error *err)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    return mf_csv_read(path, err);
}

static void assert_refused(const char *text, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    char expected[256];
    snprintf(expected, sizeof expected, "%s: %s", path, message);
    assert_null(read_text(text, strlen(text), &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    assert_string_equal(err.msg, expected);
}

static void fields_are_found_by_column_name(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const char text[] =
        "path,label,\"a \"\"quoted\"\" name\"\r\nx.dcm,1,\"line\nbreak, comma\"\r\n\r\ny.dcm,,z";
    MF_AUTO(mf_csv) struct mf_csv *csv = read_text(text, sizeof text - 1, &err);
    assert_non_null(csv);
    assert_int_equal(mf_csv_columns(csv), 3);
    assert_int_equal(mf_csv_rows(csv), 2);
    assert_int_equal(mf_csv_find(csv, "label"), 1);
    assert_int_equal(mf_csv_find(csv, "a \"quoted\" name"), 2);
    assert_int_equal(mf_csv_find(csv, "absent"), -1);
    assert_string_equal(mf_csv_field(csv, 0, 0), "x.dcm");
    assert_string_equal(mf_csv_field(csv, 0, 2), "line\nbreak, comma");
    assert_string_equal(mf_csv_field(csv, 1, 1), "");
    assert_string_equal(mf_csv_field(csv, 1, 2), "z");
}

static void a_byte_order_mark_is_no_part_of_the_first_name(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const char text[] = "\xEF\xBB\xBFpath\nx\n";
    MF_AUTO(mf_csv) struct mf_csv *csv = read_text(text, sizeof text - 1, &err);
    assert_non_null(csv);
    assert_int_equal(mf_csv_find(csv, "path"), 0);
    assert_int_equal(mf_csv_rows(csv), 1);
}

static void wrong_files_are_refused_with_the_line(void **state)
{
    (void)state;
    assert_refused("", "no header line");
    assert_refused("\n\n", "no header line");
    assert_refused("a,b\n1,2\n1,2,3\n", "line 3: 3 fields, the header has 2");
    assert_refused("a,b\n1,2\n\n\"1,2\n", "line 4: a quote does not end");
    struct mf_error err = MF_ERROR_INIT;
    assert_null(read_text("a\0b", 3, &err));
    assert_non_null(strstr(err.msg, ": not text"));
}

static void a_file_that_is_not_there_is_not_found(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_csv_read("/nonexistent/manifest.csv", &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_found_by_column_name),
        cmocka_unit_test(a_byte_order_mark_is_no_part_of_the_first_name),
        cmocka_unit_test(wrong_files_are_refused_with_the_line),
        cmocka_unit_test(a_file_that_is_not_there_is_not_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
