/* UPS: a JSON file for each work item, written beside its place, synced and renamed. */
#include "server/ups_journal.h"

#include "server/commitment_ticket.h"

#include "core/clock.h"
#include "dicom/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 4096, NAME = MF_UPS_UID + 16, FILE_BYTES = 16 << 10 };

static const char FOLDER[] = "ups", SUFFIX[] = ".json", DRAFT[] = ".part";
static const char *const PHASES[] = {"claiming", "claimed", "running", "failed"};

/* --- entries --- */

bool mf_ups_entry_new(const char *item, struct mf_ups_entry *ret, struct mf_error *err)
{
    uint64_t half[2];
    *ret = (struct mf_ups_entry){.phase = MF_UPS_CLAIMING, .claimed_ms = mf_clock_wall_ms()};
    if (RAND_bytes((unsigned char *)half, sizeof half) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "OpenSSL gives no random bytes");
    half[0] = (half[0] & ~UINT64_C(0xF000)) | UINT64_C(0x4000); /* a UUID of version 4 */
    half[1] = (half[1] >> 2) | UINT64_C(1) << 63;
    mf_uid_of_uuid(half[0], half[1], ret->transaction);
    snprintf(ret->item, sizeof ret->item, "%s", item);
    return true;
}

static json_t *entry_json(const struct mf_ups_entry *e)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "schema", "medfusion.ups/1",
                     "workitem", e->item, "transaction", e->transaction, "phase", PHASES[e->phase],
                     "job", e->job, "code", mf_code_name(e->problem.code), "detail", e->problem.msg,
                     "claimed_ms", (json_int_t)e->claimed_ms);
}

static bool read_entry(const json_t *json, struct mf_ups_entry *ret)
{
    const char *phase = mf_json_get_string(json, "phase", "");
    const char *item = mf_json_get_string(json, "workitem", "");
    const char *transaction = mf_json_get_string(json, "transaction", "");
    size_t i = 0;
    while (i < sizeof PHASES / sizeof *PHASES && strcmp(PHASES[i], phase) != 0)
        i++;
    *ret = (struct mf_ups_entry){.phase = (enum mf_ups_phase)i};
    if (i == sizeof PHASES / sizeof *PHASES || !mf_uid_valid(item) || !mf_uid_valid(transaction))
        return false;
    snprintf(ret->item, sizeof ret->item, "%s", item);
    snprintf(ret->transaction, sizeof ret->transaction, "%s", transaction);
    snprintf(ret->job, sizeof ret->job, "%s", mf_json_get_string(json, "job", ""));
    ret->claimed_ms = mf_json_get_int(json, "claimed_ms", 0);
    if (ret->phase == MF_UPS_FAILED)
        mf_error_set(&ret->problem, mf_code_from_name(mf_json_get_string(json, "code", "")), "%s",
                     mf_json_get_string(json, "detail", ""));
    return ret->phase != MF_UPS_RUNNING || mf_job_id_valid(ret->job);
}

/* --- files --- */

/* The folder, made when there is none. −1 with MF_ERR_IO. */
static int open_folder(const char *directory, struct mf_error *err)
{
    char path[PATH];
    int fd = -1;
    if (snprintf(path, sizeof path, "%s/%s", directory, FOLDER) < PATH &&
        (mkdir(path, 0700) == 0 || errno == EEXIST))
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        mf_error_set(err, MF_ERR_IO, "data.directory: \"ups\" cannot be opened (%s)",
                     strerror(errno));
    return fd;
}

static bool write_file(int folder, const char *name, const char *text)
{
    size_t len = strlen(text);
    MF_AUTO(mf_fd)
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd >= 0 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
}

bool mf_ups_journal_save(const char *directory, const struct mf_ups_entry *e, struct mf_error *err)
{
    char name[NAME], draft[NAME];
    MF_AUTO(mf_fd) int folder = open_folder(directory, err);
    MF_AUTO(mf_json) json_t *json = entry_json(e);
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, 0) : NULL;
    if (folder < 0)
        return false;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a work item");
    snprintf(name, sizeof name, "%s%s", e->item, SUFFIX);
    snprintf(draft, sizeof draft, "%s%s", e->item, DRAFT);
    return (write_file(folder, draft, text) && renameat(folder, draft, folder, name) == 0 &&
            fsync(folder) == 0) ||
           mf_error_set(err, MF_ERR_IO, "a claim cannot be written down (%s)", strerror(errno));
}

bool mf_ups_journal_remove(const char *directory, const struct mf_ups_entry *e,
                           struct mf_error *err)
{
    char name[NAME];
    MF_AUTO(mf_fd) int folder = open_folder(directory, err);
    if (folder < 0)
        return false;
    snprintf(name, sizeof name, "%s%s", e->item, SUFFIX);
    return unlinkat(folder, name, 0) == 0 || errno == ENOENT ||
           mf_error_set(err, MF_ERR_IO, "a claim cannot be removed (%s)", strerror(errno));
}

static bool load_file(int folder, const char *name, struct mf_ups_entry *ret)
{
    static const struct mf_json_limits limits = {FILE_BYTES, 4};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, FILE_BYTES);
    MF_AUTO(mf_fd) int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || !mf_buffer_read_fd(&text, fd, name, NULL))
        return false;
    MF_AUTO(mf_json)
    json_t *json = mf_json_parse(text.data ? text.data : "", text.len, &limits, name, NULL);
    return json && read_entry(json, ret);
}

bool mf_ups_journal_load(const char *directory, struct mf_ups_entry *ret, size_t max,
                         size_t *ret_count, size_t *ret_damaged, struct mf_error *err)
{
    *ret_count = *ret_damaged = 0;
    int folder = open_folder(directory, err);
    if (folder < 0)
        return false;
    DIR *list = fdopendir(folder); /* which owns the descriptor */
    if (!list) {
        close(folder);
        return mf_error_set(err, MF_ERR_IO, "data.directory: \"ups\" cannot be read");
    }
    for (struct dirent *e; *ret_count < max && (e = readdir(list));) {
        size_t len = strlen(e->d_name), suffix = strlen(SUFFIX);
        if (len <= suffix || strcmp(e->d_name + len - suffix, SUFFIX) != 0)
            continue;
        if (load_file(folder, e->d_name, &ret[*ret_count]))
            ++*ret_count;
        else
            ++*ret_damaged;
    }
    closedir(list);
    return true;
}
