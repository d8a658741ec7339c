/* The program: finds the command by its name and runs it. The hidden role of the decoders is found
 * first. */
#include "server/cli.h"
#include "server/cmd.h"
#include "server/decoder_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command COMMANDS[] = {
    {"serve", mf_cmd_serve, "run the daemon: HTTP front, store, decoders and a worker"},
    {"worker", mf_cmd_worker, "run a worker only, beside a daemon"},
    {"predict", mf_cmd_predict, "read DICOM files and print a result for each study"},
    {"calibrate", mf_cmd_calibrate, "fit probabilities and conformal sets on labelled patients"},
    {"bench", mf_cmd_bench, "measure a model on this machine"},
    {"model", mf_cmd_model, "inspect, verify or sign a model bundle"},
    {"module", mf_cmd_module, "run one network of a bundle on tensors"},
    {"audit", mf_cmd_audit, "verify or print the audit trail"},
    {"outbox", mf_cmd_outbox, "deliveries that were given up: list, retry, drop"},
    {"key", mf_cmd_key, "make, list and revoke API keys"},
    {"vault", mf_cmd_vault, "keys that stored data is encrypted with"},
    {"backup", mf_cmd_backup, "copy what a daemon keeps, while it serves"},
    {"restore", mf_cmd_restore, "put a backup into an empty data directory"},
    {"reload", mf_cmd_reload, "have a daemon read models, certificates and keys anew"},
    {"dicom", mf_cmd_dicom, "look at DICOM files as this program reads them"},
    {"fhir", mf_cmd_fhir, "print the EHR features read from a FHIR file"},
};

enum { COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS };

static void print_usage(FILE *to)
{
    fputs("usage: medfusion COMMAND [ARGUMENT…]\n\n", to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].help);
    fputs("\nmedfusion COMMAND --help says more. Exit status: 0 ok, 1 the work failed, 2 usage.\n",
          to);
}

static int run_command(const struct command *command, int argc, char **argv)
{
    char name[64];
    snprintf(name, sizeof name, "medfusion %s", command->name);
    argv[0] = name;
    return command->run(argc, argv);
}

/* OpenMP reads its settings once, when a process starts. Its threads wait by spinning for
 * milliseconds, which starves every other process of a busy machine; microseconds cost nothing when
 * it is idle. So the commands that run a network start over with that set, unless the user has
 * chosen. The symbols of libraries are bound at the start too, not during the first request of
 * every decoder. */
static void settle_environment(char **argv)
{
    static const char *const NETWORK[] = {"serve",     "worker", "predict",
                                          "calibrate", "bench",  "module"};
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
        return;
    for (size_t i = 0; argv[1] && i < sizeof NETWORK / sizeof *NETWORK; i++)
        if (strcmp(argv[1], NETWORK[i]) == 0 && setenv("GOMP_SPINCOUNT", "2000", 1) == 0 &&
            setenv("LD_BIND_NOW", "1", 1) == 0)
            execv("/proc/self/exe", argv); /* when it fails, we go on as we are */
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], MF_ZYGOTE_ROLE) == 0)
        return mf_zygote_main(NULL, 0);
    settle_environment(argv);
    prctl(PR_SET_NAME, "medfusion"); /* not "exe", after starting over */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_usage(stderr);
        return MF_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return fflush(stdout) == 0 ? MF_EXIT_OK : MF_EXIT_FAILED;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("medfusion %s\n", MF_VERSION);
        return fflush(stdout) == 0 ? MF_EXIT_OK : MF_EXIT_FAILED;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], COMMANDS[i].name) == 0)
            return run_command(&COMMANDS[i], argc - 1, argv + 1);
    fprintf(stderr, "medfusion: unknown command \"%.40s\", see medfusion --help\n", argv[1]);
    return MF_EXIT_USAGE;
}
