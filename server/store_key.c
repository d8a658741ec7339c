/* The key of an encrypted database: see store_key.h. */
#include "server/store_key.h"

#include "core/outfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static const char FILE_NAME[] = "store.key", WHAT[] = "store.db";

static void name_file(const char *directory, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", directory, name);
}

static bool there_is(const char *directory, const char *name)
{
    char path[PATH_BYTES];
    name_file(directory, name, path);
    return access(path, F_OK) == 0;
}

static bool read_wrapped(const char *directory, unsigned char out[MF_WRAPPED_KEY],
                         struct mf_error *err)
{
    char path[PATH_BYTES];
    name_file(directory, FILE_NAME, path);
    MF_AUTO(mf_file) FILE *file = fopen(path, "re");
    return (file && fread(out, 1, MF_WRAPPED_KEY, file) == MF_WRAPPED_KEY) ||
           mf_error_set(err, MF_ERR_IO, "%s: cannot be read (%s)", path,
                        file ? "it is too short" : strerror(errno));
}

static bool write_wrapped(const struct mf_vault *vault, const char *directory,
                          const unsigned char key[MF_GCM_KEY], struct mf_error *err)
{
    char path[PATH_BYTES];
    unsigned char wrapped[MF_WRAPPED_KEY];
    struct mf_outfile out;
    name_file(directory, FILE_NAME, path);
    if (!mf_vault_wrap(vault, WHAT, key, wrapped, err))
        return false;
    mode_t mask = umask(077);
    bool opened = mf_outfile_open(&out, path, err);
    umask(mask);
    if (!opened)
        return false;
    (void)fwrite(wrapped, 1, sizeof wrapped, out.file); /* the commit finds what failed */
    return mf_outfile_commit(&out, err);
}

bool mf_store_key_make(const struct mf_vault *vault, const char *directory,
                       unsigned char key[MF_GCM_KEY], struct mf_error *err)
{
    mf_random_bytes(key, MF_GCM_KEY);
    return write_wrapped(vault, directory, key, err);
}

static bool open_wrapped(const struct mf_vault *vault, const char *directory,
                         unsigned char key[MF_GCM_KEY], struct mf_error *err)
{
    unsigned char wrapped[MF_WRAPPED_KEY];
    return read_wrapped(directory, wrapped, err) && mf_vault_unwrap(vault, WHAT, wrapped, key, err);
}

bool mf_store_key_open(const struct mf_vault *vault, const char *directory,
                       unsigned char key[MF_GCM_KEY], bool *ret_sealed, struct mf_error *err)
{
    bool has_key = there_is(directory, FILE_NAME);
    *ret_sealed = vault != NULL;
    if (!vault)
        return !has_key ||
               mf_error_set(err, MF_ERR_USAGE,
                            "%s: what is stored there is encrypted: set data.keys", directory);
    if (has_key)
        return open_wrapped(vault, directory, key, err);
    if (there_is(directory, WHAT))
        return mf_error_set(err, MF_ERR_USAGE,
                            "%s: what is stored there is not encrypted: medfusion vault seal",
                            directory);
    return mf_store_key_make(vault, directory, key, err);
}

bool mf_store_key_wrapped_by(const char *directory, char id[MF_VAULT_ID])
{
    unsigned char wrapped[MF_WRAPPED_KEY];
    struct mf_error ignored = MF_ERROR_INIT;
    return read_wrapped(directory, wrapped, &ignored) && mf_vault_wrapped_by(wrapped, id);
}

bool mf_store_key_rewrap(const struct mf_vault *vault, const char *directory, bool *ret_changed,
                         struct mf_error *err)
{
    unsigned char key[MF_GCM_KEY];
    char id[MF_VAULT_ID];
    *ret_changed = false;
    if (!there_is(directory, FILE_NAME))
        return true;
    if (mf_store_key_wrapped_by(directory, id) && strcmp(id, mf_vault_newest(vault)) == 0)
        return true;
    *ret_changed = true;
    bool ok = open_wrapped(vault, directory, key, err) && write_wrapped(vault, directory, key, err);
    explicit_bzero(key, sizeof key);
    return ok;
}
