/* core/npy.c and core/outfile.c: the bytes of format 1.0; a file is whole or absent. */
#include "core/npy.h"
#include "core/outfile.h"

#include "core/buffer.h"
#include "tests/expect.h"

#include <unistd.h>

static void header_and_data_are_exact(void **state)
{
    (void)state;
    char path[] = "/tmp/mf_npy_XXXXXX";
    close(mkstemp(path));
    const int16_t data[6] = {1, -2, 3, -4, 5, -6};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_npy_write(path, MF_SAMPLE_I16, (size_t[]){2, 3}, 2, data, &err));
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 4096);
    assert_true(mf_buffer_read_file(&b, path, &err));
    unlink(path);
    assert_int_equal(b.len, 128 + 12);
    assert_memory_equal(b.data, "\x93NUMPY\x01\x00\x76\x00{'descr': '<i2', ", 27);
    assert_non_null(strstr(b.data + 10, "'fortran_order': False, 'shape': (2,3,), }"));
    assert_int_equal(b.data[127], '\n');
    assert_memory_equal(b.data + 128, data, sizeof data);
}

static void unwritable_place_is_named(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const uint8_t byte = 0;
    assert_false(mf_npy_write("/nowhere/x.npy", MF_SAMPLE_U8, (size_t[]){1}, 1, &byte, &err));
    assert_error(&err, MF_ERR_IO, "/nowhere/x.npy: No such file or directory");
}

static void full_disk_leaves_no_file(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const uint8_t byte = 0;
    if (access("/dev/full", W_OK) != 0) {
        printf("skipped: no /dev/full\n");
        return;
    }
    assert_false(mf_npy_write("/dev/full", MF_SAMPLE_U8, (size_t[]){1}, 1, &byte, &err));
    assert_error(&err, MF_ERR_IO, "/dev/full: cannot be written: No space left on device");
}

static void abandoned_file_leaves_the_old_one(void **state)
{
    (void)state;
    char path[] = "/tmp/mf_out_XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "old", 3), 3);
    close(fd);
    struct mf_outfile out;
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_outfile_open(&out, path, &err));
    fputs("half", out.file);
    mf_outfile_abandon(&out);
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 16);
    assert_true(mf_buffer_read_file(&b, path, &err));
    assert_string_equal(b.data, "old");
    assert_int_not_equal(access(out.temporary, F_OK), 0);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_and_data_are_exact),
        cmocka_unit_test(unwritable_place_is_named),
        cmocka_unit_test(full_disk_leaves_no_file),
        cmocka_unit_test(abandoned_file_leaves_the_old_one),
    };
    return cmocka_run_group_tests_name("core/npy", tests, NULL, NULL);
}
