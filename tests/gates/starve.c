/*
 * Faults for programs, by LD_PRELOAD: an allocation, or another call that can fail, fails once for
 * each way that leads to it (the innermost frames of our own program on the stack), in whichever
 * process it comes first; then it succeeds. So a scenario that is repeated until nothing fails any
 * more has walked each branch that looks at an error. Calls that a signal can interrupt are
 * interrupted first, and fail the second time.
 *
 *   MF_STARVE=FILE      struct starve_table, which the script `starve` beside this makes
 *   MF_STARVE_TRACE=1   all frames of a signal are written to standard error
 *
 * A signal that ends a program is a finding, and is written to the table where it happens.
 */
#include "starve.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK = 48, INTERRUPTED = 1, FAILED = 2 };

static struct starve_table *table;
static uintptr_t base, text, text_end; /* of the program itself */
static uintptr_t spared, spared_end;   /* of libmicrohttpd: a wake-up that fails ends it */
static uint32_t program;               /* its number in the table */
static bool begun, piecemeal;
static _Atomic uint32_t struck, armed, last_slot;
static atomic_long live;
static uint64_t last_frames[STARVE_DEEP];
static uint64_t calm_until;
static char process[16]; /* its name: a confined one may not ask for it */
static __thread bool inside __attribute__((tls_model("initial-exec")));

/* --- where a call comes from --- */

static int note_text(struct dl_phdr_info *info, size_t size, void *context)
{
    bool *first = context;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X))
            continue;
        if (*first) {
            base = info->dlpi_addr;
            text = at;
            text_end = at + info->dlpi_phdr[i].p_memsz;
        } else if (strstr(info->dlpi_name, "libmicrohttpd")) {
            spared = at;
            spared_end = at + info->dlpi_phdr[i].p_memsz;
        }
    }
    *first = false;
    return 0;
}

/* Frames of the program itself, from its beginning, innermost first; none when the call is one of
 * a library that is spared, and not for memory. */
static int own_frames(uint64_t *out, int most, bool memory)
{
    void *all[STACK];
    int n = backtrace(all, STACK), own = 0;
    for (int i = 0; i < n && own < most; i++) {
        const uintptr_t at = (uintptr_t)all[i];
        if (!memory && own == 0 && at >= spared && at < spared_end)
            return 0;
        if (at >= text && at < text_end)
            out[own++] = at - base;
    }
    return own;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool may_strike(void)
{
    if (!begun || inside || !atomic_load_explicit(&table->enabled, memory_order_relaxed))
        return false;
    if (now_ns() < calm_until)
        return false;
    if (piecemeal ? !atomic_load(&armed) : table->most && atomic_load(&struck) >= table->most)
        return false;
    return !table->gap_ns || now_ns() - atomic_load(&table->last_ns) >= table->gap_ns;
}

/* The slot of a key, made where there is none; NULL: the table is full. */
static struct starve_slot *slot_of(uint64_t key, const char *call, const uint64_t *frames)
{
    for (uint64_t i = key, tried = 0; tried < 1000; i++, tried++) {
        struct starve_slot *s = &table->slot[i % STARVE_SLOTS];
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&s->key, &there, key)) {
            s->program = program;
            memcpy(s->frames, frames, sizeof s->frames); /* the innermost */
            strncpy(s->call, call, sizeof s->call - 1);
            return s;
        }
        if (there == key)
            return s;
    }
    return NULL;
}

/* How a call fails that has turns from `first` to `last`: INTERRUPTED or FAILED; 0: it does not. */
static int strike(const char *call, uint32_t first, uint32_t last)
{
    uint64_t frames[STARVE_DEEP] = {0}, key = 14695981039346656037u ^ program;
    if (!may_strike())
        return 0;
    const int error = errno;
    inside = true;
    struct starve_slot *s = NULL;
    if (own_frames(frames, STARVE_DEEP, strstr(call, "alloc")) > 0) {
        for (int i = 0; i < STARVE_FRAMES; i++)
            key = (key ^ frames[i]) * 1099511628211u;
        for (const char *c = call; *c; c++)
            key = (key ^ (unsigned char)*c) * 1099511628211u;
        s = slot_of(key ? key : 1, call, frames);
    }
    inside = false;
    errno = error;
    if (!s)
        return 0;
    uint32_t turn = atomic_load(&s->struck);
    if (turn >= last - first + 1 || !atomic_compare_exchange_strong(&s->struck, &turn, turn + 1))
        return 0;
    atomic_fetch_add(&struck, 1);
    atomic_store(&armed, 0);
    memcpy(last_frames, frames, sizeof last_frames);
    atomic_store(&last_slot, (uint32_t)(s - table->slot));
    atomic_store(&table->last_slot, (uint32_t)(s - table->slot));
    atomic_store(&table->last_ns, table->gap_ns ? now_ns() : 0);
    s->order = atomic_fetch_add(&table->struck, 1) + 1;
    memcpy(s->process, process, sizeof s->process);
    return (int)(first + turn);
}

bool mf_starve_fails(const char *call, int error)
{
    if (!strike(call, FAILED, FAILED))
        return false;
    errno = error;
    return true;
}

bool mf_starve_interrupts(const char *call, int error)
{
    int how = strike(call, INTERRUPTED, error ? FAILED : INTERRUPTED);
    if (how)
        errno = how == INTERRUPTED ? EINTR : error;
    return how != 0;
}

/* --- findings --- */

static struct starve_finding *new_finding(void)
{
    uint32_t n = atomic_fetch_add(&table->findings, 1);
    if (n >= STARVE_FINDINGS)
        return NULL;
    struct starve_finding *f = &table->finding[n];
    f->pid = (uint32_t)getpid();
    f->program = program;
    f->slot = atomic_load(&last_slot);
    memcpy(f->fault, last_frames, sizeof f->fault);
    return f;
}

static void ended_by(int number, siginfo_t *info, void *context)
{
    const ucontext_t *state = context;
    const uintptr_t at = (uintptr_t)state->uc_mcontext.gregs[REG_RIP];
    Dl_info where;
    (void)info;
    inside = true;
    struct starve_finding *f = new_finding();
    if (f) {
        own_frames(f->frames, STARVE_DEEP, true);
        memcpy(f->process, process, sizeof process);
        if ((at < text || at >= text_end) && dladdr((void *)at, &where))
            strncpy(f->library, strrchr(where.dli_fname, '/') + 1, sizeof f->library - 1);
        f->number = (uint32_t)number;
    }
    if (getenv("MF_STARVE_TRACE")) {
        void *all[STACK];
        backtrace_symbols_fd(all, backtrace(all, STACK), STDERR_FILENO);
    }
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(number, &plain, NULL);
    raise(number);
}

static bool is_an_end(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGABRT || number == SIGFPE ||
           number == SIGILL || number == SIGSYS;
}

/* In place of the C library's: a child of the supervisor resets all signals, and these stay. */
sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    if (table && is_an_end(number))
        return SIG_DFL;
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

unsigned mf_starve(int on)
{
    piecemeal = true;
    atomic_store(&armed, on != 0);
    return atomic_exchange(&struck, 0);
}

void mf_starve_count(long allocations)
{
    atomic_fetch_add_explicit(&live, allocations, memory_order_relaxed);
}

void mf_starve_name(const char *name)
{
    if (table && strcmp(process, "medfusion") == 0)
        calm_until = now_ns() + table->calm_ns;
    snprintf(process, sizeof process, "%s", name);
}

long mf_starve_live(void)
{
    return atomic_load(&live);
}

void mf_starve_lost(long allocations, const char *input)
{
    struct starve_finding *f = table ? new_finding() : NULL;
    if (!f)
        return;
    f->lost = (uint64_t)allocations;
    snprintf(f->input, sizeof f->input, "%s", input);
}

/* --- beginning --- */

static void register_program(void)
{
    char path[256] = "";
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    for (program = 0; n > 0 && program < STARVE_PROGRAMS; program++) {
        uint32_t known = atomic_load(&table->programs);
        if (program < known && strcmp(table->program[program], path) == 0)
            return;
        if (program == known && atomic_compare_exchange_strong(&table->programs, &known, known + 1))
            break;
    }
    if (program < STARVE_PROGRAMS)
        memcpy(table->program[program], path, sizeof path);
}

__attribute__((constructor)) static void open_table(void)
{
    const char *path = getenv("MF_STARVE");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED
                          : (void *)syscall(SYS_mmap, NULL, sizeof *table, PROT_READ | PROT_WRITE,
                                            MAP_SHARED, fd, 0);
    struct sigaction action = {.sa_sigaction = ended_by, .sa_flags = SA_NODEFER | SA_SIGINFO};
    void *first[2];
    bool program_first = true;
    if (fd >= 0)
        close(fd);
    if (mapped == MAP_FAILED)
        return;
    backtrace(first, 2); /* it loads a library, once */
    dl_iterate_phdr(note_text, &program_first);
    prctl(PR_GET_NAME, process);
    table = mapped;
    register_program();
    for (int number = 1; number < NSIG; number++)
        if (is_an_end(number))
            sigaction(number, &action, NULL);
}

static int (*real_main)(int, char **, char **);

static int begin(int argc, char **argv, char **environment)
{
    begun = table != NULL;
    int status = real_main(argc, argv, environment);
    begun = false;
    return status;
}

typedef int (*start_fn)(int (*)(int, char **, char **), int, char **, void (*)(void),
                        void (*)(void), void (*)(void), void *);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *end);

/* What comes before main() and behind it is not ours. */
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *end)
{
    start_fn real = (start_fn)dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = main;
    return real(begin, argc, argv, init, fini, rtld_fini, end);
}
