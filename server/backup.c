/* Backup: see backup.h. */
#include "server/backup.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/outfile.h"
#include "server/backup_bucket.h"
#include "server/backup_database.h"
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, NOTE_BYTES = 64 << 10 };

static const char NOTE[] = "backup.json", DUMP[] = "database.dump", PAYLOADS[] = "payloads",
                  ADAPTATION[] = "adaptation", SCHEMA[] = "medfusion.backup/1";

static bool is_payload(const char *name)
{
    return mf_job_id_valid(name);
}

/* Files of a data directory that are neither the database nor being written. */
static bool is_own(const char *name)
{
    return !mf_backup_is_sqlite(name) && !strstr(name, ".part") && strcmp(name, NOTE) != 0 &&
           strcmp(name, DUMP) != 0;
}

static bool is_any(const char *name)
{
    return name[0] != '.';
}

static bool is_database(const char *name)
{
    return mf_backup_is_sqlite(name);
}

static const char *engine_of(const struct mf_config *config)
{
    return mf_config_has_database(config) ? "postgresql" : "sqlite";
}

static bool place(char path[PATH_BYTES], const char *directory, const char *name,
                  struct mf_error *err)
{
    return snprintf(path, PATH_BYTES, "%s/%s", directory, name) < PATH_BYTES ||
           mf_error_set(err, MF_ERR_USAGE, "%.200s…: the path is too long", directory);
}

/* How the files of one folder are copied; `config` is for those that do not go to files. */
typedef bool copy_fn(const struct mf_config *config, struct mf_backup_copier *copier,
                     bool (*wanted)(const char *), struct mf_error *err);

static bool to_files(const struct mf_config *config, struct mf_backup_copier *copier,
                     bool (*wanted)(const char *), struct mf_error *err)
{
    (void)config;
    return mf_backup_copy_all(copier, wanted, err);
}

/* One folder of `from`, unless it is missing, to the same of `to`. */
static bool copy_folder(const struct mf_config *config, int from, int to, const char *name,
                        bool (*wanted)(const char *), copy_fn *copy, struct mf_backup_copier *total,
                        struct mf_error *err)
{
    bool absent = false;
    MF_AUTO(mf_fd) int source = mf_backup_open(from, name, false, &absent, err);
    if (source < 0)
        return absent;
    MF_AUTO(mf_fd) int target = mf_backup_open(to, name, true, NULL, err);
    struct mf_backup_copier copier = {.from = source, .to = target};
    bool ok = target >= 0 && copy(config, &copier, wanted, err);
    total->files += copier.files;
    total->bytes += copier.bytes;
    return ok;
}

/* The bucket's payloads, into the folder of those of the directory. */
static bool fetch_payloads(const struct mf_config *config, struct mf_backup_copier *total,
                           struct mf_error *err)
{
    MF_AUTO(mf_fd) int target = mf_backup_open(total->to, PAYLOADS, true, NULL, err);
    struct mf_backup_copier copier = {.from = -1, .to = target};
    bool ok = target >= 0 && mf_backup_fetch(config, &copier, is_payload, err);
    total->files += copier.files;
    total->bytes += copier.bytes;
    return ok;
}

/* The files of a data directory, and its payloads, whose number goes to the report. */
static bool copy_files(const struct mf_config *config, struct mf_backup_copier *copier,
                       bool restore, struct mf_backup_report *ret, struct mf_error *err)
{
    const bool bucket = mf_backup_has_bucket(config);
    int from = copier->from, to = copier->to;
    if (!mf_backup_copy_all(copier, is_own, err) ||
        !copy_folder(config, from, to, ADAPTATION, is_any, to_files, copier, err))
        return false;
    uint64_t before = copier->files;
    if (!copy_folder(config, from, to, PAYLOADS, is_payload,
                     bucket && restore ? mf_backup_put : to_files, copier, err) ||
        (bucket && !restore && !fetch_payloads(config, copier, err)))
        return false;
    ret->payloads = copier->files - before;
    ret->bytes = copier->bytes;
    return true;
}

/* --- making one --- */

static bool write_note(const struct mf_config *config, const char *to,
                       const struct mf_backup_report *report, struct mf_error *err)
{
    char path[PATH_BYTES], time[MF_TIME_TEXT];
    struct mf_outfile out;
    MF_AUTO(mf_json)
    json_t *note = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "schema", SCHEMA, "created",
                             mf_clock_format_ms(mf_clock_wall_ms(), time), "program", MF_VERSION,
                             "engine", engine_of(config), "payloads", (json_int_t)report->payloads,
                             "bytes", (json_int_t)report->bytes);
    MF_AUTO(mf_mem) char *text = note ? mf_json_text(note, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %s", NOTE);
    if (!place(path, to, NOTE, err) || !mf_outfile_open(&out, path, err))
        return false;
    fprintf(out.file, "%s\n", text);
    return mf_outfile_commit(&out, err);
}

static bool dump(const struct mf_config *config, const char *directory, bool restore,
                 struct mf_error *err)
{
    char path[PATH_BYTES];
    MF_AUTO(mf_mem) char *database = NULL;
    return mf_config_database(config, &database, err) && place(path, directory, DUMP, err) &&
           mf_backup_postgres(database, path, restore, err);
}

static bool refuse_if_held(int directory, const char *path, bool (*wanted)(const char *),
                           const char *what, struct mf_error *err)
{
    bool held = false;
    return mf_backup_holds(directory, wanted, &held, err) &&
           (!held || mf_error_set(err, MF_ERR_CONFLICT, "%s: %s", path, what));
}

bool mf_backup_make(const struct mf_config *config, const char *to, struct mf_backup_report *ret,
                    struct mf_error *err)
{
    const char *directory = config->data.directory;
    mode_t mask = umask(077);
    MF_AUTO(mf_fd) int from_fd = mf_backup_open(AT_FDCWD, directory, false, NULL, err);
    MF_AUTO(mf_fd)
    int to_fd = from_fd >= 0 ? mf_backup_open(AT_FDCWD, to, true, NULL, err) : -1;
    struct mf_backup_copier copier = {.from = from_fd, .to = to_fd};
    bool ok = to_fd >= 0 && refuse_if_held(to_fd, to, is_any, "is not empty", err) &&
              (mf_config_has_database(config) ? dump(config, to, false, err)
                                              : mf_backup_sqlite(directory, &copier, err)) &&
              copy_files(config, &copier, false, ret, err) && mf_backup_sync(to_fd, err) &&
              write_note(config, to, ret, err) && mf_backup_sync(to_fd, err);
    umask(mask);
    return ok;
}

/* --- putting it back --- */

static bool check_note(const struct mf_config *config, const char *from, struct mf_error *err)
{
    char path[PATH_BYTES];
    const char *wanted = engine_of(config);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, NOTE_BYTES);
    if (!place(path, from, NOTE, err))
        return false;
    if (access(path, F_OK) != 0)
        return mf_error_set(err, MF_ERR_USAGE, "%s: is no backup, or not a whole one (no %s)", from,
                            NOTE);
    if (!mf_buffer_read_file(&text, path, err))
        return false;
    MF_AUTO(mf_json) json_t *note = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (strcmp(mf_json_get_string(note, "schema", ""), SCHEMA) != 0)
        return mf_error_set(err, MF_ERR_USAGE, "%s: is not of the kind %s", path, SCHEMA);
    const char *engine = mf_json_get_string(note, "engine", "");
    return strcmp(engine, wanted) == 0 ||
           mf_error_set(err, MF_ERR_USAGE,
                        "%s: the backup is of %s, and the configuration names %s (store.database)",
                        from, strcmp(engine, "sqlite") == 0 ? "SQLite" : "PostgreSQL",
                        strcmp(wanted, "sqlite") == 0 ? "SQLite" : "PostgreSQL");
}

/* Whether the directory holds nothing; then it is locked as a daemon locks it. */
static bool take_empty(int fd, const char *directory, struct mf_error *err)
{
    static const char full[] = "there is data in it already; a backup goes into an empty directory";
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return mf_error_set(err, MF_ERR_CONFLICT, "%s: a daemon works in it", directory);
    MF_AUTO(mf_fd) int payloads = mf_backup_open(fd, PAYLOADS, true, NULL, err);
    return payloads >= 0 && refuse_if_held(fd, directory, is_database, full, err) &&
           refuse_if_held(payloads, directory, is_payload, full, err);
}

/* Payloads before the database: nothing may refer to what is not there. */
bool mf_backup_restore(const struct mf_config *config, const char *from,
                       struct mf_backup_report *ret, struct mf_error *err)
{
    if (!check_note(config, from, err))
        return false;
    mode_t mask = umask(077);
    MF_AUTO(mf_fd) int from_fd = mf_backup_open(AT_FDCWD, from, false, NULL, err);
    const char *directory = config->data.directory;
    MF_AUTO(mf_fd)
    int to_fd = from_fd >= 0 ? mf_backup_open(AT_FDCWD, directory, true, NULL, err) : -1;
    struct mf_backup_copier copier = {.from = from_fd, .to = to_fd};
    bool ok = to_fd >= 0 && take_empty(to_fd, directory, err) &&
              copy_files(config, &copier, true, ret, err) && mf_backup_sync(to_fd, err) &&
              (mf_config_has_database(config) ? dump(config, from, true, err)
                                              : mf_backup_copy_all(&copier, is_database, err)) &&
              mf_backup_sync(to_fd, err);
    ret->bytes = copier.bytes;
    umask(mask);
    return ok;
}
