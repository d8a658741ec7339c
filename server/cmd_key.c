/* `medfusion key`: API keys. The running daemon notices within a second or two. */
#include "server/api_keys.h"
#include "server/cli.h"
#include "server/cmd.h"

#include "core/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: medfusion key add FILE --name NAME --scopes SCOPES [--tenant TENANT] [--days N]\n"
    "       medfusion key list FILE\n"
    "       medfusion key revoke FILE ID\n"
    "\n"
    "Keeps the API keys of the file that auth.keys names; add makes the file when there is none.\n"
    "A new key is printed once: only its hash is kept.\n"
    "\n"
    "  --name NAME       who or what will use it\n"
    "  --scopes SCOPES   what it may do, between spaces: jobs.read jobs.write dicom.read "
    "dicom.write\n"
    "                    fhir.read fhir.write metrics.read, SMART's system/Observation.rs …, or\n"
    "                    admin: reloads and keys, of all tenants\n"
    "  --tenant TENANT   whose data it is for (default: default)\n"
    "  --days N          it expires after so many days (default: never)\n";

static const char COMMAND[] = "key";

struct arguments {
    struct mf_api_key key;
    double days;
    char **words; /* what is not an option */
    int word_count;
};

static bool take(const char *option, const char *value, char *out, size_t size,
                 struct mf_error *err)
{
    return snprintf(out, size, "%s", value) < (int)size ||
           mf_error_set(err, MF_ERR_USAGE, "%s: longer than %zu bytes", option, size - 1);
}

/* 'h' = help, 0 = go on, '?' = wrong. */
static int parse(int argc, char **argv, struct arguments *a, struct mf_error *err)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},         {"name", required_argument, NULL, 'n'},
        {"scopes", required_argument, NULL, 's'}, {"tenant", required_argument, NULL, 't'},
        {"days", required_argument, NULL, 'd'},   {NULL, 0, NULL, 0}};
    struct mf_api_key *key = &a->key;
    int c;
    snprintf(key->tenant, sizeof key->tenant, "%s", MF_TENANT_DEFAULT);
    while ((c = mf_cli_option(argc, argv, ":h", options, err)) != -1) {
        bool ok = c == 'n'   ? take("--name", optarg, key->name, sizeof key->name, err)
                  : c == 's' ? take("--scopes", optarg, key->scopes, sizeof key->scopes, err)
                  : c == 't' ? take("--tenant", optarg, key->tenant, sizeof key->tenant, err)
                  : c == 'd' ? mf_cli_number("--days", optarg, 1, 36500, &a->days, err)
                             : false;
        if (!ok)
            return c == 'h' ? 'h' : '?';
    }
    a->words = argv + optind;
    a->word_count = argc - optind;
    return 0;
}

static bool add(const char *path, struct arguments *a, struct mf_error *err)
{
    char text[MF_API_KEY_TEXT];
    bool there = access(path, F_OK) == 0 || errno != ENOENT;
    MF_AUTO(mf_fd) int lock = mf_api_keys_lock(path, err);
    if (lock < 0)
        return false;
    MF_AUTO(mf_api_keys)
    struct mf_api_keys *keys = there ? mf_api_keys_read(path, err) : mf_api_keys_new(err);
    a->key.created_ms = mf_clock_wall_ms();
    if (a->days > 0)
        a->key.expires_ms = a->key.created_ms + (int64_t)(a->days * 86400e3);
    if (!keys || !mf_api_keys_add(keys, &a->key, text, err) || !mf_api_keys_write(keys, path, err))
        return false;
    return (printf("%s\n", text) > 0 && fflush(stdout) == 0) ||
           mf_error_set(err, MF_ERR_IO, "the key cannot be printed: revoke it");
}

static bool list(const char *path, struct mf_error *err)
{
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_read(path, err);
    if (!keys)
        return false;
    int64_t now = mf_clock_wall_ms();
    for (size_t i = 0; i < keys->count; i++) {
        const struct mf_api_key *key = &keys->keys[i];
        char created[MF_TIME_TEXT];
        printf("%s  %-7s  %s  %s  %s  [%s]\n", key->id, mf_api_key_state(key, now),
               mf_clock_format_ms(key->created_ms, created), key->tenant, key->name, key->scopes);
    }
    return fflush(stdout) == 0 || mf_error_set(err, MF_ERR_IO, "the list cannot be printed");
}

static bool revoke_key(const char *path, const char *id, struct mf_error *err)
{
    MF_AUTO(mf_fd) int lock = mf_api_keys_lock(path, err);
    if (lock < 0)
        return false;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_read(path, err);
    return keys && mf_api_keys_revoke(keys, id, mf_clock_wall_ms(), err) &&
           mf_api_keys_write(keys, path, err);
}

int mf_cmd_key(int argc, char **argv)
{
    struct mf_error err = MF_ERROR_INIT;
    struct arguments a = {.days = 0};
    int stop = parse(argc, argv, &a, &err);
    if (stop == 'h')
        return mf_cli_help(USAGE);
    if (stop)
        return mf_cli_fail(COMMAND, &err);
    const char *verb = a.word_count > 0 ? a.words[0] : "";
    bool ok;
    if (strcmp(verb, "add") == 0 && a.word_count == 2)
        ok = add(a.words[1], &a, &err);
    else if (strcmp(verb, "list") == 0 && a.word_count == 2)
        ok = list(a.words[1], &err);
    else if (strcmp(verb, "revoke") == 0 && a.word_count == 3)
        ok = revoke_key(a.words[1], a.words[2], &err);
    else
        ok = mf_error_set(&err, MF_ERR_USAGE, "add FILE, list FILE or revoke FILE ID, see --help");
    return ok ? MF_EXIT_OK : mf_cli_fail(COMMAND, &err);
}
