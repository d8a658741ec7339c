/* core/file_range.c: all bytes of a range and no others; what cannot be read is named. */
#include "core/file_range.h"

#include "core/buffer.h"
#include "tests/expect.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = (512 << 10) + 13 }; /* two pieces and a little */

static unsigned char content[SIZE];

static int setup(void **state)
{
    int *fd = malloc(sizeof *fd);
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (unsigned char)(i * 2654435761u >> 13);
    *fd = memfd_create("range", MFD_CLOEXEC);
    *state = fd;
    return *fd >= 0 && write(*fd, content, SIZE) == SIZE ? 0 : -1;
}

static int teardown(void **state)
{
    close(*(int *)*state);
    free(*state);
    return 0;
}

static void range_is_read_whole(void **state)
{
    unsigned char out[100];
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_file_range range = {"it", *(int *)*state, SIZE - 100, sizeof out};
    assert_true(mf_file_range_read(&range, out, &err));
    assert_memory_equal(out, content + SIZE - 100, sizeof out);
    assert_int_equal(mf_read_at(range.fd, SIZE, out, 0), 0);
}

static void end_of_the_file_is_an_error(void **state)
{
    unsigned char out[101];
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_file_range range = {"a payload", *(int *)*state, SIZE - 100, sizeof out};
    assert_int_equal(mf_read_at(range.fd, range.offset, out, sizeof out), ENODATA);
    assert_false(mf_file_range_read(&range, out, &err));
    assert_error(&err, MF_ERR_IO, "a payload cannot be read (it ends too soon)");
}

static bool append(void *context, const void *piece, size_t len, struct mf_error *err)
{
    return mf_buffer_append(context, piece, len, err);
}

static void pieces_are_the_range_in_order(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer all;
    mf_buffer_init(&all, SIZE);
    const struct mf_file_range range = {"it", *(int *)*state, 7, SIZE - 7};
    assert_true(mf_file_range_pieces(&range, append, &all, &err));
    assert_int_equal(all.len, SIZE - 7);
    assert_memory_equal(all.data, content + 7, SIZE - 7);
    const struct mf_file_range nothing = {"it", range.fd, SIZE, 0};
    assert_true(mf_file_range_pieces(&nothing, append, &all, &err));
    assert_int_equal(all.len, SIZE - 7);
}

static void pieces_end_where_one_is_refused_or_missing(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer all;
    mf_buffer_init(&all, 300 << 10); /* the second piece has no room */
    const struct mf_file_range range = {"it", *(int *)*state, 0, SIZE};
    assert_false(mf_file_range_pieces(&range, append, &all, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_int_equal(all.len, 256 << 10);
    mf_error_clear(&err);
    mf_buffer_clear(&all);
    const struct mf_file_range beyond = {"it", range.fd, SIZE - 1, 2};
    assert_false(mf_file_range_pieces(&beyond, append, &all, &err));
    assert_error(&err, MF_ERR_IO, "it cannot be read (it ends too soon)");
}

static void reason_is_told(void **state)
{
    (void)state;
    char byte;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_file_range closed = {"a stored instance", -1, 0, 1};
    assert_int_equal(mf_read_at(-1, 0, &byte, 1), EBADF);
    assert_false(mf_file_range_pieces(&closed, append, NULL, &err));
    assert_error(&err, MF_ERR_IO, "a stored instance cannot be read (Bad file descriptor)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_is_read_whole),
        cmocka_unit_test(end_of_the_file_is_an_error),
        cmocka_unit_test(pieces_are_the_range_in_order),
        cmocka_unit_test(pieces_end_where_one_is_refused_or_missing),
        cmocka_unit_test(reason_is_told),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
