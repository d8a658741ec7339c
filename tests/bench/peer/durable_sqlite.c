/*
 * Preloaded into Orthanc: its index is opened with synchronous=FULL instead of NORMAL, which no
 * setting of its own can do. Then what it answers survives a power cut, as what MedFusion answers.
 */
#include <dlfcn.h>
#include <string.h>

struct sqlite3;
typedef int exec_fn(struct sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **),
                    void *context, char **message);

int sqlite3_exec(struct sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **),
                 void *context, char **message)
{
    exec_fn *real = (exec_fn *)dlsym(RTLD_NEXT, "sqlite3_exec");
    const char *pragma = "PRAGMA SYNCHRONOUS=FULL;";
    return real(db, strcasestr(sql, "SYNCHRONOUS=NORMAL") ? pragma : sql, row, context, message);
}
