/* core/buffer.c: growth, the ceiling, reading files and descriptors. */
#include "core/buffer.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "tests/expect.h"

static void content_grows_and_ends_with_nul(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 100000);
    assert_null(b.data);
    for (int i = 0; i < 10000; i++) {
        assert_true(mf_buffer_append(&b, "0123456789", 10 - 1, NULL));
        assert_int_equal(b.data[b.len], '\0');
    }
    assert_int_equal(b.len, 90000);
    assert_memory_equal(b.data + 89991, "012345678", 10);
}

static void text_and_printf(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 64);
    assert_true(mf_buffer_append_str(&b, "a", NULL));
    assert_true(mf_buffer_printf(&b, NULL, "%03d%s", 7, "b"));
    assert_true(mf_buffer_append(&b, NULL, 0, NULL));
    assert_string_equal(b.data, "a007b");
}

static void ceiling_leaves_the_content(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 4);
    assert_true(mf_buffer_append_str(&b, "abcd", &err));
    assert_false(mf_buffer_append_str(&b, "e", &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "more than the allowed 4 bytes");
    assert_false(mf_buffer_printf(&b, NULL, "%d", 1));
    assert_null(mf_buffer_reserve(&b, SIZE_MAX, NULL));
    assert_string_equal(b.data, "abcd");
    assert_int_equal(b.len, 4);
}

static void a_ceiling_of_all_memory_does_not_overflow(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, SIZE_MAX);
    assert_true(mf_buffer_append_str(&b, "abc", &err));
    assert_null(mf_buffer_reserve(&b, SIZE_MAX - 3, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_string_equal(b.data, "abc");
}

static void clear_keeps_memory_and_take_gives_it_away(void **state)
{
    (void)state;
    size_t len = 99;
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 10);
    char *empty = mf_buffer_take(&b, &len);
    assert_string_equal(empty, "");
    assert_int_equal(len, 0);
    free(empty);
    assert_true(mf_buffer_append_str(&b, "xyz", NULL));
    char *memory = b.data;
    mf_buffer_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    assert_true(mf_buffer_append_str(&b, "q", NULL));
    assert_ptr_equal(b.data, memory);
    char *taken = mf_buffer_take(&b, &len);
    assert_string_equal(taken, "q");
    assert_int_equal(len, 1);
    assert_null(b.data);
    assert_true(mf_buffer_append_str(&b, "0123456789", NULL)); /* the ceiling is kept */
    assert_false(mf_buffer_append_str(&b, "0", NULL));
    free(taken);
}

/* A temporary file with `len` bytes; the descriptor is at its start. */
static int file_of(const char *data, size_t len, char path[])
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void reads_files_up_to_the_ceiling(void **state)
{
    (void)state;
    char path[] = "/tmp/mf_test_XXXXXX", content[200000];
    memset(content, 'z', sizeof content);
    close(file_of(content, sizeof content, path));
    struct mf_error err = MF_ERROR_INIT;
    char expected[200];
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, sizeof content);
    assert_true(mf_buffer_read_file(&b, path, &err)); /* exactly at the ceiling */
    assert_int_equal(b.len, sizeof content);
    assert_memory_equal(b.data, content, sizeof content);
    MF_AUTO(mf_buffer) struct mf_buffer small;
    mf_buffer_init(&small, sizeof content - 1);
    assert_false(mf_buffer_read_file(&small, path, &err));
    snprintf(expected, sizeof expected, "%s: more than the allowed 199999 bytes", path);
    assert_error(&err, MF_ERR_TOO_LARGE, expected);
    unlink(path);
}

static void reading_appends(void **state)
{
    (void)state;
    char path[] = "/tmp/mf_test_XXXXXX";
    MF_AUTO(mf_fd) int fd = file_of("world", 5, path);
    unlink(path);
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 100);
    assert_true(mf_buffer_append_str(&b, "hello ", NULL));
    assert_true(mf_buffer_read_fd(&b, fd, "x", NULL));
    assert_string_equal(b.data, "hello world");
}

static void unreadable_inputs_are_named(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 100);
    assert_false(mf_buffer_read_file(&b, "/nonexistent/file", &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "/nonexistent/file: No such file or directory");
    mf_error_clear(&err);
    assert_false(mf_buffer_read_file(&b, "/", &err));
    assert_error(&err, MF_ERR_IO, "/: Is a directory");
    mf_error_clear(&err);
    assert_false(mf_buffer_read_fd(&b, -1, "part 3", &err));
    assert_error(&err, MF_ERR_IO, "part 3: Bad file descriptor");
    assert_int_equal(b.len, 0);
}

static void reads_from_sockets_in_pieces(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(write(pair[0], "abc", 3), 3);
    close(pair[0]);
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, 150);
    assert_true(mf_buffer_read_fd(&b, pair[1], "socket", NULL));
    assert_int_equal(b.len, 150);
    close(pair[1]);
}

static void free_accepts_null(void **state)
{
    (void)state;
    mf_buffer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_grows_and_ends_with_nul),
        cmocka_unit_test(text_and_printf),
        cmocka_unit_test(ceiling_leaves_the_content),
        cmocka_unit_test(a_ceiling_of_all_memory_does_not_overflow),
        cmocka_unit_test(clear_keeps_memory_and_take_gives_it_away),
        cmocka_unit_test(reads_files_up_to_the_ceiling),
        cmocka_unit_test(reading_appends),
        cmocka_unit_test(unreadable_inputs_are_named),
        cmocka_unit_test(reads_from_sockets_in_pieces),
        cmocka_unit_test(free_accepts_null),
    };
    return cmocka_run_group_tests_name("core/buffer", tests, NULL, NULL);
}
