/* See power.h. System calls are made as such: the shim's own functions count. */
#include "power.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void must(int ok)
{
    if (!ok)
        abort();
}

static void keep_file(int fd, int to, off_t size)
{
    char path[64];
    off_t at = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* fd may be for writing alone */
    int from = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    must(from >= 0);
    while (at < size && sendfile(to, from, &at, (size_t)(size - at)) > 0)
        ;
    must(at == size);
    close(from);
}

static void keep_directory(int fd, int to)
{
    int again = (int)syscall(SYS_openat, fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = again >= 0 ? fdopendir(again) : NULL;
    must(directory != NULL);
    for (const struct dirent *e; (e = readdir(directory));) {
        char line[512];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        int n = snprintf(line, sizeof line, "%c %llu %s\n", e->d_type == DT_DIR ? 'd' : 'f',
                         (unsigned long long)e->d_ino, e->d_name);
        must(syscall(SYS_write, to, line, (size_t)n) == n);
    }
    closedir(directory);
}

void mf_power_keep(int fd)
{
    const char *synced = getenv("MF_SYNCED");
    char path[512];
    struct stat st;
    pthread_mutex_lock(&lock);
    must(synced && fstat(fd, &st) == 0);
    snprintf(path, sizeof path, "%s/%llu", synced, (unsigned long long)st.st_ino);
    int to =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(to >= 0);
    if (S_ISDIR(st.st_mode))
        keep_directory(fd, to);
    else
        keep_file(fd, to, st.st_size);
    close(to);
    pthread_mutex_unlock(&lock);
}
