/* server/landlock.c: what a confined process can still do, and what it cannot. */
#include "tests/expect.h"

#include "server/landlock.h"
#include "server/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A listening socket on loopback, and whether one can be connected to it. */
static int listen_somewhere(struct sockaddr_in *address)
{
    socklen_t len = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
    return fd;
}

static bool can_connect(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    close(fd);
    return ok;
}

/* Runs in a child; the number of the first thing that is not as it should be, 0 = none. */
static int try_everything(const char *directory, const struct sockaddr_in *address)
{
    char inside[128], moved[128], above[128];
    const char *const writable[] = {directory}, *const readable[] = {"/dev/urandom",
                                                                     "/dev/there is no such file"};
    struct mf_error err = MF_ERROR_INIT;
    snprintf(inside, sizeof inside, "%s/a", directory);
    snprintf(moved, sizeof moved, "%s/b", directory);
    snprintf(above, sizeof above, "%s/../outside-%ld", directory, (long)getpid());
    if (!can_open("/etc/passwd", O_RDONLY) || !can_connect(address))
        return 1;
    const struct mf_landlock left = {
        .writable = writable, .writable_count = 1, .readable = readable, .readable_count = 2};
    if (!mf_landlock_enter(&left, &err))
        return 2;
    const bool works[] = {
        can_open(inside, O_RDWR | O_CREAT), truncate(inside, 0) == 0,
        rename(inside, moved) == 0,         can_open(directory, O_RDONLY | O_DIRECTORY),
        can_open("/dev/urandom", O_RDONLY), unlink(moved) == 0};
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        if (!works[i])
            return 10 + (int)i;
    const bool refused[] = {!can_open("/etc/passwd", O_RDONLY) && errno == EACCES,
                            !can_open(above, O_RDWR | O_CREAT) && errno == EACCES,
                            !can_open("/dev/urandom", O_WRONLY),
                            !can_open("/", O_RDONLY | O_DIRECTORY),
                            execl("/bin/true", "true", (char *)NULL) == -1 && errno == EACCES,
                            mf_landlock_version() < 4 || !can_connect(address)};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!refused[i])
            return 20 + (int)i;
    return 0;
}

static void test_what_is_left(void **state)
{
    char directory[64] = "/tmp/medfusion-test-XXXXXX";
    struct sockaddr_in address;
    int status = 0;
    (void)state;
    if (mf_landlock_version() == 0 || !mf_sandbox_is_strict()) {
        printf("skipped: no Landlock here\n");
        return;
    }
    assert_non_null(mkdtemp(directory));
    int fd = listen_somewhere(&address);
    pid_t pid = fork();
    if (pid == 0)
        _exit(try_everything(directory, &address));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(fd);
    assert_int_equal(rmdir(directory), 0);
}

static void test_a_directory_that_is_not_there(void **state)
{
    int status = 0;
    (void)state;
    if (mf_landlock_version() == 0 || !mf_sandbox_is_strict()) {
        printf("skipped: no Landlock here\n");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        const char *const writable[] = {"/there is no such directory"};
        struct mf_error err = MF_ERROR_INIT;
        const struct mf_landlock left = {.writable = writable, .writable_count = 1};
        bool refused = !mf_landlock_enter(&left, &err);
        _exit(refused && strstr(err.msg, "/there is no such directory: ") ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_left),
        cmocka_unit_test(test_a_directory_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
