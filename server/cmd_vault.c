/* `medfusion vault`: the keys that stored data is encrypted with. */
#include "server/cli.h"
#include "server/cmd.h"
#include "server/vault_directory.h"

#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion vault add FILE\n"
    "       medfusion vault status DIRECTORY\n"
    "       medfusion vault rewrap --keys FILE DIRECTORY\n"
    "       medfusion vault seal --keys FILE DIRECTORY\n"
    "\n"
    "Keys with which a daemon encrypts what it stores (data.keys = FILE). Whoever loses the file\n"
    "loses the data: keep a copy apart from the backups of the data directory.\n"
    "\n"
    "  add      makes a key, and the file when there is none; what is stored from the next start "
    "on "
    "is\n"
    "           encrypted with it. Prints its id\n"
    "  status   which keys what is in the data directory needs\n"
    "  rewrap   what older keys have wrapped is wrapped with the newest; then they can be taken "
    "out "
    "of\n"
    "           the file. The daemon may be running\n"
    "  seal     encrypts what is in plain, of a data directory that no daemon works in\n";

static const char COMMAND[] = "vault";

static bool printed(int n, struct mf_error *err)
{
    return (n > 0 && fflush(stdout) == 0) ||
           mf_error_set(err, MF_ERR_IO, "the result cannot be printed");
}

static bool add(const char *path, struct mf_error *err)
{
    char id[MF_VAULT_ID];
    return mf_vault_add(path, id, err) && printed(printf("%s\n", id), err);
}

static bool status(const char *directory, struct mf_error *err)
{
    struct mf_vault_use uses[MF_VAULT_USES];
    size_t n = 0;
    if (!mf_vault_directory_uses(directory, uses, &n, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!printed(printf("%-16s  %zu payloads%s\n", uses[i].id[0] ? uses[i].id : "(plain)",
                            uses[i].packs, uses[i].database ? ", the database" : ""),
                     err))
            return false;
    return n > 0 || printed(printf("nothing is stored\n"), err);
}

static bool change(const char *keys, const char *directory, bool seal, struct mf_error *err)
{
    size_t changed = 0;
    if (!keys)
        return mf_error_set(err, MF_ERR_USAGE, "--keys FILE is missing, see --help");
    MF_AUTO(mf_vault) struct mf_vault *vault = mf_vault_open(keys, err);
    if (!vault)
        return err->code ? false : mf_error_set(err, MF_ERR_USAGE, "--keys: name a file");
    bool ok = seal ? mf_vault_directory_seal(vault, directory, &changed, err)
                   : mf_vault_directory_rewrap(vault, directory, &changed, err);
    return ok && printed(printf(seal ? "%zu encrypted\n" : "%zu wrapped anew\n", changed), err);
}

int mf_cmd_vault(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {NULL, 0, NULL, 0}};
    struct mf_error err = MF_ERROR_INIT;
    const char *keys = NULL;
    int c;
    while ((c = mf_cli_option(argc, argv, ":h", options, &err)) != -1) {
        if (c == 'h')
            return mf_cli_help(USAGE);
        if (c != 'k')
            return mf_cli_fail(COMMAND, &err);
        keys = optarg;
    }
    const char *verb = argc - optind == 2 ? argv[optind] : "", *what = argv[argc - 1];
    bool ok;
    if (strcmp(verb, "add") == 0)
        ok = add(what, &err);
    else if (strcmp(verb, "status") == 0)
        ok = status(what, &err);
    else if (strcmp(verb, "rewrap") == 0 || strcmp(verb, "seal") == 0)
        ok = change(keys, what, verb[0] == 's', &err);
    else
        ok = mf_error_set(&err, MF_ERR_USAGE,
                          "add FILE, status DIRECTORY, rewrap or seal DIRECTORY, see --help");
    return ok ? MF_EXIT_OK : mf_cli_fail(COMMAND, &err);
}
