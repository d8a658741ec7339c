/*
 * A fuzz target without its fuzzer, for the gate `starve`: each input is tried, and then tried
 * again with one fault at a time until no fault is left that has not been (starve.c). What a run
 * with a fault allocates it has to give back. Without that library it tries each input once.
 *
 *   replay_NAME [--planted] INPUT…
 *
 * A target ends the process when it sees what must not be; under a fault many of them take a
 * failure for that, so there a trap of the target ends the try alone, and the signals of real
 * errors the process.
 */
#include "starve.h"

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma weak mf_starve
#pragma weak mf_starve_live
#pragma weak mf_starve_lost

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
_Noreturn void mf_replay_abort(void); /* the target's abort(); libraries' is the real one */

static sigjmp_buf before;
static volatile sig_atomic_t trying;

static void trapped(int number)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    if (trying)
        siglongjmp(before, 1);
    sigaction(number, &plain, NULL);
}

_Noreturn void mf_replay_abort(void)
{
    __builtin_trap();
}

static volatile char kept;

/* What the gate has to find: an allocation that nobody looks at, and one that is forgotten. */
static void planted(const unsigned char *data, size_t size)
{
    char *name = malloc(size + 1), *value = malloc(size + 1);
    if (name && !value)
        return;
    memcpy(name, data, size);
    kept = name[size / 2];
    free(name);
    free(value);
}

static void once(const unsigned char *data, size_t size, bool plant)
{
    if (plant)
        planted(data, size);
    LLVMFuzzerTestOneInput(data, size);
}

/* Whether a fault was met. */
static bool starved(const unsigned char *data, size_t size, bool plant, const char *input)
{
    const long lived = mf_starve_live();
    bool whole = false;
    trying = 1;
    if (sigsetjmp(before, 1) == 0) {
        mf_starve(1);
        once(data, size, plant);
        whole = true;
    }
    bool struck = mf_starve(0) > 0;
    trying = 0;
    const long lost = mf_starve_live() - lived;
    if (struck && whole && lost > 0)
        mf_starve_lost(lost, input);
    return struck;
}

static unsigned char *read_whole(const char *path, size_t *ret_size)
{
    FILE *f = fopen(path, "rb");
    long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    unsigned char *data = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (!data || fseek(f, 0, SEEK_SET) != 0 || fread(data, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    fclose(f);
    *ret_size = (size_t)size;
    return data;
}

int main(int argc, char **argv)
{
    bool plant = argc > 1 && strcmp(argv[1], "--planted") == 0;
    unsigned long faults = 0;
    if (mf_starve) {
        const struct sigaction action = {.sa_handler = trapped};
        mf_starve(0);
        sigaction(SIGILL, &action, NULL);
    }
    for (int i = plant ? 2 : 1; i < argc; i++) {
        const char *name = strrchr(argv[i], '/');
        size_t size;
        unsigned char *data = read_whole(argv[i], &size);
        for (int warm = 0; warm < 2; warm++) /* what is made once and kept is no loss */
            once(data, size, plant);
        while (mf_starve && starved(data, size, plant, name ? name + 1 : argv[i]))
            faults++;
        free(data);
    }
    printf("%lu faults\n", faults);
    return 0;
}
