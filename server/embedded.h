/* Files that are compiled into the program (cmake/EmbedFiles.cmake makes the tables). */
#ifndef MF_SERVER_EMBEDDED_H
#define MF_SERVER_EMBEDDED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_embedded_file {
    const char *name, *content_type, *etag; /* etag: with its quotes */
    const char *data;                       /* `size` bytes and a NUL that does not count */
    size_t size;
};

extern const struct mf_embedded_file mf_ui_files[]; /* server/ui/ */
extern const size_t mf_ui_files_count;
extern const struct mf_embedded_file mf_schema_files[]; /* schemas/ and that of bundles */
extern const size_t mf_schema_files_count;

/* The file of this name, or NULL. */
const struct mf_embedded_file *mf_embedded_find(const struct mf_embedded_file *files, size_t count,
                                                const char *name);

#ifdef __cplusplus
}
#endif

#endif
