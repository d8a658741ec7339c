/* `medfusion outbox`: deliveries that were given up (dead letters), from the running daemon or the
 * database. */
#include "server/access.h"
#include "server/cli.h"
#include "server/cli_store.h"
#include "server/cmd.h"
#include "server/dead_letter_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion outbox list [OPTION…] DIRECTORY | --database FILE\n"
    "       medfusion outbox retry|drop [OPTION…] --id ID | --all DIRECTORY | --database FILE\n"
    "\n"
    "Results and webhooks whose destination did not take them in outbox.max_attempts attempts, or\n"
    "refused them for good, are kept as dead letters. list prints them as JSON lines, retry has "
    "them\n"
    "delivered again, with all their attempts before them, drop forgets them. The daemon may be\n"
    "running.\n"
    "\n"
    "  --id ID               this one\n"
    "  --all                 all, or all of:\n"
    "  --tenant TENANT       this tenant\n"
    "  --destination ADDRESS this destination, as outbox.destinations has it\n"
    "  --keys FILE           the file of data.keys, where what is stored is encrypted and no "
    "daemon\n"
    "                        runs\n"
    "  --database FILE       those in a PostgreSQL database, whose connection string is the first\n"
    "                        line of this file (store.database_file)\n";

enum { PAGE = 500, ARENA_BYTES = 4 << 20 };

static const char COMMAND[] = "outbox", ACTOR[] = "medfusion outbox";

struct asked {
    struct mf_dead_letter_filter which;
    const char *keys, *database;
    bool all;
};

static bool print_letter(const struct mf_dead_letter *letter, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *object = mf_dead_letter_to_json(letter);
    MF_AUTO(mf_mem) char *text = object ? mf_json_text(object, 0) : NULL;
    return (text && printf("%s\n", text) > 0) ||
           mf_error_set(err, MF_ERR_IO, "a dead letter cannot be printed");
}

static bool list(struct mf_store *store, const struct mf_dead_letter_filter *which,
                 struct mf_error *err)
{
    int64_t cursor = 0;
    do {
        struct mf_dead_letter *letters = NULL;
        size_t n = 0;
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
        if (!arena)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for dead letters");
        if (!mf_store_dead_letters(store, which, cursor, PAGE, arena, &letters, &n, &cursor, err))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!print_letter(&letters[i], err))
                return false;
    } while (cursor != 0);
    return fflush(stdout) == 0 || mf_error_set(err, MF_ERR_IO, "the list cannot be printed");
}

static bool end(struct mf_store *store, const struct mf_dead_letter_filter *which, bool retry,
                struct mf_error *err)
{
    int64_t n = 0;
    return mf_store_dead_letters_end_all(
               store, which, retry ? MF_DEAD_LETTER_RETRY : MF_DEAD_LETTER_DROP, ACTOR, &n, err) &&
           ((printf("%" PRId64 " dead letters are %s\n", n, retry ? "delivered again" : "dropped") >
                 0 &&
             fflush(stdout) == 0) ||
            mf_error_set(err, MF_ERR_IO, "the result cannot be printed"));
}

static bool read_option(int c, struct asked *ret, struct mf_error *err)
{
    switch (c) {
    case 'i':
        return mf_dead_letter_id(optarg, &ret->which.id) ||
               mf_error_set(err, MF_ERR_USAGE, "--id: \"%.40s\" is no id of a dead letter", optarg);
    case 't':
        ret->which.tenant = optarg;
        return mf_tenant_valid(optarg) ||
               mf_error_set(err, MF_ERR_USAGE, "--tenant: \"%.80s\" is no tenant's name", optarg);
    case 'd':
        ret->which.destination = optarg;
        return true;
    case 'k':
        ret->keys = optarg;
        return true;
    case 'D':
        ret->database = optarg;
        return true;
    case 'a':
        ret->all = true;
        return true;
    default:
        return false;
    }
}

/* Which verb, or NULL: wrong usage. */
static const char *verb_of(const struct asked *asked, int count, char *const words[])
{
    const bool whole = count == (asked->database ? 1 : 2), one = asked->which.id > 0;
    const bool narrowed = asked->which.tenant || asked->which.destination;
    if (!whole || (one && (asked->all || narrowed)))
        return NULL;
    if (strcmp(words[0], "list") == 0)
        return asked->all ? NULL : words[0];
    const bool ends = strcmp(words[0], "retry") == 0 || strcmp(words[0], "drop") == 0;
    return ends && (one || asked->all) ? words[0] : NULL;
}

int mf_cmd_outbox(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"id", required_argument, NULL, 'i'},
                                            {"all", no_argument, NULL, 'a'},
                                            {"tenant", required_argument, NULL, 't'},
                                            {"destination", required_argument, NULL, 'd'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {"database", required_argument, NULL, 'D'},
                                            {NULL, 0, NULL, 0}};
    struct mf_error err = MF_ERROR_INIT;
    struct asked asked = {.keys = "off"};
    int c;
    while ((c = mf_cli_option(argc, argv, ":h", options, &err)) != -1) {
        if (c == 'h')
            return mf_cli_help(USAGE);
        if (!read_option(c, &asked, &err))
            return mf_cli_fail(COMMAND, &err);
    }
    const char *verb = verb_of(&asked, argc - optind, argv + optind);
    if (!verb) {
        mf_error_set(&err, MF_ERR_USAGE,
                     "list, retry or drop, then --id or --all, and one DIRECTORY, see --help");
        return mf_cli_fail(COMMAND, &err);
    }
    MF_AUTO(mf_vault) struct mf_vault *vault = mf_vault_open(asked.keys, &err);
    MF_AUTO(mf_store)
    struct mf_store *store = err.code ? NULL
                                      : mf_cli_open_store(asked.database ? NULL : argv[optind + 1],
                                                          asked.database, vault, &err);
    bool ok = store && (strcmp(verb, "list") == 0
                            ? list(store, &asked.which, &err)
                            : end(store, &asked.which, strcmp(verb, "retry") == 0, &err));
    return ok ? MF_EXIT_OK : mf_cli_fail(COMMAND, &err);
}
