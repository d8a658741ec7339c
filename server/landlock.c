/*
 * Landlock: the rules by its three system calls, which glibc has no functions for. The constants of
 * later versions are written out, because the headers of Debian 12 know the first three only.
 */
#include "server/landlock.h"

#include "core/auto.h"
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All rights over files of the first version (bits 0 to 12), and those that came later. */
#define FILES_1 ((UINT64_C(1) << 13) - 1)
#define REFER (UINT64_C(1) << 13)     /* version 2 */
#define TRUNCATE (UINT64_C(1) << 14)  /* version 3 */
#define IOCTL_DEV (UINT64_C(1) << 15) /* version 5 */
#define BIND_TCP (UINT64_C(1) << 0)   /* version 4 */
#define CONNECT_TCP (UINT64_C(1) << 1)

#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define OF_FILES                                                                                   \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |   \
     TRUNCATE | IOCTL_DEV)

/* As the kernel has it since version 4; before, it takes the first member alone. */
struct ruleset {
    uint64_t files, network;
};

int mf_landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? (int)version : 0;
}

static uint64_t file_rights(int version)
{
    return FILES_1 | (version >= 2 ? REFER : 0) | (version >= 3 ? TRUNCATE : 0) |
           (version >= 5 ? IOCTL_DEV : 0);
}

/* Of files that are no directories there are fewer. */
static uint64_t rights_of(int fd, uint64_t rights)
{
    struct stat st;
    const bool directory = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    return rights & (directory ? ~UINT64_C(0) : OF_FILES);
}

static bool add_path(int ruleset, const char *path, uint64_t rights, bool may_be_absent,
                     struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 && may_be_absent && (errno == ENOENT || errno == EACCES || errno == ENOTDIR))
        return true;
    const struct landlock_path_beneath_attr beneath = {.allowed_access = rights_of(fd, rights),
                                                       .parent_fd = fd};
    if (fd < 0 ||
        syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: Landlock takes no rule for it (%s)", path,
                            strerror(errno));
    return true;
}

bool mf_landlock_enter(const struct mf_landlock *left, struct mf_error *err)
{
    const int version = mf_landlock_version();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "privileges cannot be given up (%s)",
                            strerror(errno));
    if (version == 0 || !mf_sandbox_is_strict())
        return true;
    const uint64_t network = BIND_TCP | (left->connect ? 0 : CONNECT_TCP);
    const struct ruleset handled = {.files = file_rights(version),
                                    .network = version >= 4 ? network : 0};
    MF_AUTO(mf_fd)
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled,
                               version >= 4 ? sizeof handled : sizeof handled.files, 0);
    if (ruleset < 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "Landlock takes no rules (%s)", strerror(errno));
    for (size_t i = 0; i < left->writable_count; i++)
        if (!add_path(ruleset, left->writable[i], handled.files & ~LANDLOCK_ACCESS_FS_EXECUTE,
                      false, err))
            return false;
    for (size_t i = 0; i < left->readable_count; i++)
        if (!add_path(ruleset, left->readable[i], READING, true, err))
            return false;
    return syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 ||
           mf_error_set(err, MF_ERR_INTERNAL, "Landlock does not take hold (%s)", strerror(errno));
}
