/*
 * A wall clock that jumps: preloaded, it adds the seconds that the file named in MF_CLOCK_OFFSET
 * holds (one int64_t of the machine, mapped when the program starts, so that it may change while it
 * runs) to what CLOCK_REALTIME, gettimeofday and time say. Monotonic clocks stay as they are. A
 * program that may not open the file keeps the true time.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t none, *offset = &none;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_day)(struct timeval *, void *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("MF_CLOCK_OFFSET");
    real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real_day = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        offset = mapped;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    if (!real_clock)
        begin();
    const int failed = real_clock(clock, at);
    if (failed == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += *offset;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    if (!real_day)
        begin();
    const int failed = real_day(at, zone);
    if (failed == 0)
        at->tv_sec += *offset;
    return failed;
}

time_t time(time_t *ret)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
