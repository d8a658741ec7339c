/* Output files: a temporary name in the same folder and a rename. */
#include "core/outfile.h"

#include "core/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool mf_outfile_open(struct mf_outfile *out, const char *path, struct mf_error *err)
{
    struct stat st;
    out->temporary[0] = '\0';
    if ((size_t)snprintf(out->path, sizeof out->path, "%s", path) >= sizeof out->path)
        return mf_error_set(err, MF_ERR_IO, "%.60s…: the path is too long", path);
    bool standard = strcmp(path, "-") == 0;
    if (!standard && (stat(path, &st) != 0 || S_ISREG(st.st_mode)))
        snprintf(out->temporary, sizeof out->temporary, "%s.part%ld", out->path, (long)getpid());
    out->file = standard ? stdout : fopen(out->temporary[0] ? out->temporary : path, "wbe");
    if (!out->file)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(errno));
    return true;
}

/* The name is on the disk once its folder is. */
static bool sync_folder(const char *path)
{
    char folder[sizeof((struct mf_outfile *)NULL)->path];
    const char *slash = strrchr(path, '/');
    int len = slash && slash != path ? (int)(slash - path) : 1;
    snprintf(folder, sizeof folder, "%.*s", len, slash ? path : ".");
    MF_AUTO(mf_fd) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fsync(fd) == 0 || errno == EINVAL /* a file system that cannot */
                   : errno == EACCES;                  /* it may be written, not read */
}

bool mf_outfile_commit(struct mf_outfile *out, struct mf_error *err)
{
    bool failed = ferror(out->file) != 0;
    /* bytes before the name: a power failure must not leave a file that is short */
    failed |= out->temporary[0] && (fflush(out->file) != 0 || fsync(fileno(out->file)) != 0);
    failed |= (out->file == stdout ? fflush(out->file) : fclose(out->file)) != 0;
    out->file = NULL;
    if (!failed &&
        (!out->temporary[0] || (rename(out->temporary, out->path) == 0 && sync_folder(out->path))))
        return true;
    int cause = errno;
    mf_outfile_abandon(out);
    return mf_error_set(err, MF_ERR_IO, "%s: cannot be written: %s", out->path, strerror(cause));
}

void mf_outfile_abandon(struct mf_outfile *out)
{
    if (out->file && out->file != stdout)
        fclose(out->file);
    out->file = NULL;
    if (out->temporary[0])
        unlink(out->temporary);
}
