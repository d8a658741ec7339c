/* `medfusion backup` and `medfusion restore`: what a daemon keeps, to a directory and back. */
#include "server/backup.h"
#include "server/cli.h"
#include "server/cmd.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char BACKUP[] =
    "usage: medfusion backup DIRECTORY [--config FILE] [--SECTION.KEY VALUE]…\n"
    "\n"
    "Copies what a daemon keeps into a new directory: database, payloads, and the files of its "
    "data\n"
    "directory (data.directory). The daemon may be serving: every job that was accepted before "
    "the\n"
    "command is in the copy, with its payload, which may lie in a bucket (payloads.s3). With\n"
    "PostgreSQL (store.database) the database is dumped by pg_dump. Configuration, bundles and\n"
    "key files are yours to keep.\n"
    "\n"
    "  --config FILE         configuration as JSON, the daemon's own\n"
    "  --SECTION.KEY VALUE   one key, stronger than the environment (MEDFUSION_SECTION_KEY) and "
    "the file\n"
    "  --help-config         every key with its meaning and default\n";

static const char RESTORE[] =
    "usage: medfusion restore DIRECTORY [--config FILE] [--SECTION.KEY VALUE]…\n"
    "\n"
    "Puts a backup (medfusion backup) into an empty data directory (data.directory), and with\n"
    "PostgreSQL (store.database) into an empty database, by pg_restore; with payloads.s3 the\n"
    "payloads go into that bucket. The daemon is started afterwards; what had been accepted and\n"
    "not finished is run.\n"
    "\n"
    "  --config FILE         configuration as JSON, as the daemon will have it\n"
    "  --SECTION.KEY VALUE   one key, stronger than the environment (MEDFUSION_SECTION_KEY) and "
    "the file\n"
    "  --help-config         every key with its meaning and default\n";

/* The directory comes first; what follows is as for serve. NULL: said already. */
static struct mf_config *read_arguments(int argc, char **argv, const char *usage, bool *ret_help,
                                        struct mf_error *err)
{
    bool named = argc > 1 && argv[1][0] != '-';
    struct mf_config *config = mf_cli_config(argc - named, argv + named, usage, ret_help, err);
    if (named || *ret_help)
        return config;
    mf_config_free(config);
    *err = (struct mf_error)MF_ERROR_INIT;
    mf_error_set(err, MF_ERR_USAGE, "name the directory first, see --help");
    return NULL;
}

static int run(int argc, char **argv, const char *command, const char *usage,
               bool (*work)(const struct mf_config *, const char *, struct mf_backup_report *,
                            struct mf_error *))
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_backup_report report = {0};
    bool help = false;
    MF_AUTO(mf_config)
    struct mf_config *config = read_arguments(argc, argv, usage, &help, &err);
    if (help)
        return MF_EXIT_OK;
    if (!config || !work(config, argv[1], &report, &err))
        return mf_cli_fail(command, &err);
    printf("the database and %" PRIu64 " payloads, %" PRIu64 " bytes of files\n", report.payloads,
           report.bytes);
    if (fflush(stdout) == 0)
        return MF_EXIT_OK;
    mf_error_set(&err, MF_ERR_IO, "the result cannot be printed");
    return mf_cli_fail(command, &err);
}

int mf_cmd_backup(int argc, char **argv)
{
    return run(argc, argv, "backup", BACKUP, mf_backup_make);
}

int mf_cmd_restore(int argc, char **argv)
{
    return run(argc, argv, "restore", RESTORE, mf_backup_restore);
}
