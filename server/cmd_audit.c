/* `medfusion audit`: the audit trail of a data directory, from the running daemon or the database.
 */
#include "server/cli.h"
#include "server/cli_store.h"
#include "server/cmd.h"
#include "server/store_audit.h"

#include "core/clock.h"
#include "core/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion audit verify [--head HEAD] [--keys FILE] DIRECTORY | --database FILE\n"
    "       medfusion audit list [--keys FILE] DIRECTORY | --database FILE\n"
    "\n"
    "verify checks the chain of the audit trail in a data directory: no row was changed, added or\n"
    "taken out. The daemon may be running. list prints the rows as JSON lines.\n"
    "\n"
    "  --head HEAD   a head from before (NUMBER:HASH, event audit.head of the log), which must "
    "still\n"
    "                be part of the chain: only that shows a trail that was cut or made anew\n"
    "  --keys FILE   the file of data.keys, where what is stored is encrypted and no daemon runs\n"
    "  --database FILE\n"
    "                the trail in a PostgreSQL database, whose connection string is the first line "
    "of\n"
    "                this file (store.database_file)\n";

enum { ARENA_BYTES = 64 << 20 };

static const char COMMAND[] = "audit";

static bool verify(struct mf_store *store, const char *head, struct mf_error *err)
{
    struct mf_audit_point known = {.seq = 0};
    struct mf_audit_report report;
    char text[MF_AUDIT_POINT_TEXT];
    if (head && !mf_audit_point_parse(head, &known))
        return mf_error_set(err, MF_ERR_USAGE, "--head: \"%.80s\" is not NUMBER:HASH", head);
    if (!mf_audit_verify(store, head ? &known : NULL, &report, err))
        return false;
    printf("%" PRId64 " rows are intact; removed before them: %" PRId64 "; head %s\n", report.rows,
           report.base.seq, mf_audit_point_format(&report.head, text));
    return fflush(stdout) == 0 || mf_error_set(err, MF_ERR_IO, "the result cannot be printed");
}

static bool print_row(const struct mf_audit_row *row, struct mf_error *err)
{
    char time[MF_TIME_TEXT], hex[MF_SHA256_HEX];
    MF_AUTO(mf_json)
    json_t *object =
        json_pack("{s:I, s:s, s:s, s:s?, s:s, s:s, s:s?, s:s}", "seq", (json_int_t)row->seq, "time",
                  mf_clock_format_ms(row->time_ms, time), "tenant", row->tenant, "actor",
                  row->actor, "job", row->job, "event", row->event, "detail", row->detail, "hash",
                  mf_sha256_to_hex(row->hash, hex));
    MF_AUTO(mf_mem) char *text = object ? mf_json_text(object, 0) : NULL;
    return (text && printf("%s\n", text) > 0) ||
           mf_error_set(err, MF_ERR_IO, "a row cannot be printed");
}

static bool list(struct mf_store *store, struct mf_error *err)
{
    int64_t after = 0;
    for (size_t n = MF_AUDIT_PAGE; n == MF_AUDIT_PAGE;) {
        struct mf_audit_row *rows = NULL;
        struct mf_audit_point base;
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
        if (!arena)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the audit trail");
        if (!mf_store_audit_read(store, after, arena, &base, &rows, &n, err))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!print_row(&rows[i], err))
                return false;
        after = n ? rows[n - 1].seq : after;
    }
    return fflush(stdout) == 0 || mf_error_set(err, MF_ERR_IO, "the rows cannot be printed");
}

int mf_cmd_audit(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"head", required_argument, NULL, 'H'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {"database", required_argument, NULL, 'D'},
                                            {NULL, 0, NULL, 0}};
    struct mf_error err = MF_ERROR_INIT;
    const char *head = NULL, *keys = "off", *database = NULL;
    int c;
    while ((c = mf_cli_option(argc, argv, ":h", options, &err)) != -1) {
        if (c == 'h')
            return mf_cli_help(USAGE);
        if (c != 'H' && c != 'k' && c != 'D')
            return mf_cli_fail(COMMAND, &err);
        *(c == 'H' ? &head : c == 'k' ? &keys : &database) = optarg;
    }
    const bool whole = argc - optind == (database ? 1 : 2);
    bool verifying = whole && strcmp(argv[optind], "verify") == 0;
    bool listing = whole && strcmp(argv[optind], "list") == 0 && !head;
    if (!verifying && !listing) {
        mf_error_set(&err, MF_ERR_USAGE, "verify DIRECTORY or list DIRECTORY, see --help");
        return mf_cli_fail(COMMAND, &err);
    }
    MF_AUTO(mf_vault) struct mf_vault *vault = mf_vault_open(keys, &err);
    MF_AUTO(mf_store)
    struct mf_store *store =
        err.code ? NULL
                 : mf_cli_open_store(database ? NULL : argv[optind + 1], database, vault, &err);
    bool ok = store && (verifying ? verify(store, head, &err) : list(store, &err));
    return ok ? MF_EXIT_OK : mf_cli_fail(COMMAND, &err);
}
