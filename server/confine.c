/* Confine: the paths of each process, from the configuration and the files that it names; its
 * system calls, from what it is there for. */
#include "server/confine.h"

#include "server/landlock.h"
#include "server/syscalls.h"

#include "core/auto.h"
#include "core/json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_PATHS = 512, PATH_BYTES = 4096, FILE_BYTES = 1 << 20 };

/* The system's: libraries and their settings, what the kernel says of the machine. */
static const char *const SYSTEM[] = {"/usr",
                                     "/lib",
                                     "/lib64",
                                     "/etc",
                                     "/run/systemd/resolve",
                                     "/proc/self",
                                     "/proc/sys",
                                     "/proc/meminfo",
                                     "/proc/cpuinfo",
                                     "/proc/stat",
                                     "/sys/devices/system",
                                     "/sys/fs/cgroup",
                                     "/dev/urandom",
                                     "/dev/random"};

struct paths {
    char *list[MOST_PATHS];
    size_t count;
    bool failed;
};

/* The processes' two lists. */
struct rights {
    struct paths writable, readable;
};

static void free_paths(struct paths *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->list[i]);
}

static void free_rights(struct rights *r)
{
    if (!r)
        return;
    free_paths(&r->writable);
    free_paths(&r->readable);
    free(r);
}

MF_AUTO_DEFINE(rights, struct rights *, free_rights(*p))

static void add(struct paths *p, const char *path)
{
    char *copy = p->count < MOST_PATHS ? strdup(path) : NULL;
    if (copy)
        p->list[p->count++] = copy;
    p->failed = p->failed || !copy;
}

static void add_if_there(struct paths *p, const char *path)
{
    if (access(path, F_OK) == 0)
        add(p, path);
}

/* The directory of a file: one that is put in place of another is not the file that was there. */
static void add_directory(struct paths *p, const char *file)
{
    char path[PATH_BYTES];
    const char *slash = strrchr(file, '/');
    snprintf(path, sizeof path, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
    add_if_there(p, slash == file ? "/" : path);
}

/* --- what the configuration names --- */

/* Files that a file of ours names: keys, secrets, key sets. */
static void add_named(struct paths *p, const json_t *value)
{
    const char *text = json_string_value(value), *key;
    size_t i;
    json_t *item;
    if (text && strchr(text, '/') && access(text, F_OK) == 0) {
        add(p, text);
        add_directory(p, text);
    }
    json_array_foreach(value, i, item) add_named(p, item);
    json_object_foreach((json_t *)value, key, item) add_named(p, item);
}

static bool names_others(const char *key)
{
    static const char *const KEYS[] = {"auth.trust", "fhir.servers", "outbox.webhooks"};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
        if (strcmp(key, KEYS[i]) == 0)
            return true;
    return false;
}

static bool is_reread(const char *key)
{
    return strcmp(key, "auth.trust") == 0 || strcmp(key, "auth.keys") == 0 ||
           strcmp(key, "payloads.s3_credentials") == 0;
}

static void add_text(void *context, const char *key, const char *text)
{
    struct paths *p = context;
    struct stat st;
    if (stat(text, &st) != 0)
        return;
    add(p, text);
    if (!S_ISREG(st.st_mode))
        return;
    if (is_reread(key))
        add_directory(p, text);
    if (!names_others(key) || st.st_size > FILE_BYTES)
        return;
    MF_AUTO(mf_json) json_t *root = json_load_file(text, 0, NULL); /* whoever uses it judges it */
    add_named(p, root);
}

static bool is_set(const char *value)
{
    return strcmp(value, "off") != 0;
}

/* Its driver opens devices, caches and sockets that only it knows. */
static bool has_gpu(const struct mf_config *config)
{
    const char *device = config->worker.device;
    return strncmp(device, "cuda", 4) == 0 ||
           (strcmp(device, "cpu") != 0 && access("/dev/nvidiactl", F_OK) == 0);
}

/* By TCP. */
static bool connects(const struct mf_config *config, enum mf_confined who)
{
    if (who == MF_CONFINED_STORE)
        return mf_config_has_database(config);
    return who != MF_CONFINED_WORKER || is_set(config->payloads.s3) ||
           is_set(config->trace.endpoint);
}

/* --- the two halves --- */

static bool confine_store(const struct mf_config *config, struct mf_error *err)
{
    /* SQLite seeds its random numbers from there */
    const char *const directory[] = {config->data.directory}, *const random[] = {"/dev/urandom"};
    const struct mf_landlock left = {
        .writable = directory, .writable_count = 1, .readable = random, .readable_count = 1};
    return mf_landlock_enter(&left, err);
}

static bool keeps_files(const struct mf_config *config, enum mf_confined who)
{
    return who == MF_CONFINED_SUPERVISOR || (who == MF_CONFINED_WORKER && has_gpu(config)) ||
           (who == MF_CONFINED_STORE && mf_config_has_database(config));
}

static bool confine_files(const struct mf_config *config, enum mf_confined who,
                          struct mf_error *err)
{
    static const char *const PLACES[] = {"payloads", "staging"}; /* may be links to elsewhere */
    MF_AUTO(rights) struct rights *r = calloc(1, sizeof *r);
    char path[PATH_BYTES];
    if (!r)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a process");
    add(&r->writable, config->data.directory);
    add_if_there(&r->writable, "/dev/null");
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        snprintf(path, sizeof path, "%s/%s", config->data.directory, PLACES[i]);
        add_if_there(&r->writable, path);
    }
    if (who == MF_CONFINED_FRONT && is_set(config->auth.keys))
        add_directory(&r->writable, config->auth.keys);
    for (size_t i = 0; i < sizeof SYSTEM / sizeof *SYSTEM; i++)
        add(&r->readable, SYSTEM[i]);
    mf_config_each_text(config, add_text, &r->readable);
    if (r->writable.failed || r->readable.failed)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "no room for the paths of a process");
    const struct mf_landlock left = {.writable = (const char *const *)r->writable.list,
                                     .writable_count = r->writable.count,
                                     .readable = (const char *const *)r->readable.list,
                                     .readable_count = r->readable.count,
                                     .connect = connects(config, who)};
    return mf_landlock_enter(&left, err);
}

static bool confine_syscalls(const struct mf_config *config, enum mf_confined who,
                             struct mf_error *err)
{
    const bool supervisor = who == MF_CONFINED_SUPERVISOR;
    const struct mf_syscalls_left left = {.programs = supervisor,
                                          .processes = supervisor || who == MF_CONFINED_FORKING,
                                          .listening = supervisor,
                                          .network = connects(config, who),
                                          .netlink = who == MF_CONFINED_WORKER && has_gpu(config),
                                          .listed = who == MF_CONFINED_STORE &&
                                                    !mf_config_has_database(config)};
    return mf_syscalls_enter(&left, err);
}

bool mf_confine(const struct mf_config *config, enum mf_confined who, struct mf_error *err)
{
    if (!keeps_files(config, who) &&
        !(who == MF_CONFINED_STORE ? confine_store(config, err) : confine_files(config, who, err)))
        return false;
    return confine_syscalls(config, who, err);
}
