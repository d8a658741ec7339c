/* Dataset: see dataset.h. */
#include "server/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { EHR_MAX = 256 << 20 };

/* --- files --- */

static bool push_file(struct mf_file_list *list, const char *path, bool named, struct mf_error *err)
{
    struct mf_file *files = realloc(list->files, (list->count + 1) * sizeof *files);
    char *copy = strdup(path);
    if (files)
        list->files = files;
    if (!files || !copy) {
        free(copy);
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    }
    list->files[list->count++] = (struct mf_file){copy, named};
    return true;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool walk(const char *path, struct mf_file_list *list, struct mf_error *err)
{
    char *copy = strdup(path);
    char *const roots[] = {copy, NULL};
    FTS *tree = copy ? fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name) : NULL;
    bool ok = tree || mf_error_set(err, MF_ERR_NO_MEMORY, "%s: cannot be walked", path);
    for (FTSENT *e; ok && (e = fts_read(tree));) {
        if (e->fts_info == FTS_F)
            ok = push_file(list, e->fts_path, e->fts_level == 0, err);
        else if (e->fts_info == FTS_NS || e->fts_info == FTS_ERR || e->fts_info == FTS_DNR)
            ok = mf_error_set(err, e->fts_errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "%s: %s",
                              e->fts_path, strerror(e->fts_errno));
    }
    if (tree)
        fts_close(tree);
    free(copy);
    return ok;
}

bool mf_file_list_collect(char *const paths[], size_t count, struct mf_file_list *ret,
                          struct mf_error *err)
{
    struct mf_file_list list = {0};
    for (size_t i = 0; i < count; i++)
        if (!walk(paths[i], &list, err)) {
            mf_file_list_free(&list);
            return false;
        }
    *ret = list;
    return true;
}

void mf_file_list_free(struct mf_file_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++)
        free(list->files[i].path);
    free(list->files);
    *list = (struct mf_file_list){0};
}

/* --- the dataset --- */

struct source {
    char *path;
    struct mf_upload upload; /* keeps the strings of its objects */
    int fd;                  /* open for a run, or −1 */
};

struct mf_dataset {
    struct mf_decoder *strict, *lenient;
    struct source *sources;
    size_t source_count;
    struct mf_index index; /* arena: names; objects: copies */
    size_t skipped;
};

/* A series is a file a slice, and all of a study's are open while it runs: as many as the system
 * allows. */
static void allow_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

struct mf_dataset *mf_dataset_new(const char *address, struct mf_error *err)
{
    allow_files();
    const struct mf_decoder_limits strict = {.ehr_bytes = EHR_MAX};
    const struct mf_decoder_limits lenient = {.lenient = true};
    struct mf_dataset *d = calloc(1, sizeof *d);
    if (d && (d->index.arena = mf_arena_new(256 << 20)) &&
        (d->strict = mf_decoder_new(address, 1, &strict, err)) &&
        (d->lenient = mf_decoder_new(address, 1, &lenient, err)))
        return d;
    mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    mf_dataset_free(d);
    return NULL;
}

void mf_dataset_free(struct mf_dataset *d)
{
    if (!d)
        return;
    mf_dataset_close_files(d);
    for (size_t i = 0; i < d->source_count; i++) {
        mf_upload_free(&d->sources[i].upload);
        free(d->sources[i].path);
    }
    free(d->sources);
    free(d->index.objects);
    mf_arena_free(d->index.arena);
    mf_decoder_free(d->strict);
    mf_decoder_free(d->lenient);
    free(d);
}

static int open_file(const char *path, struct mf_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "%s: %s", path,
                     strerror(errno));
    return fd;
}

/* The decoder knows parts, people know files: "part 1, member 3: reason" → "PATH, member 3:
 * reason". */
static void name_file(struct mf_error *err, const char *path)
{
    if (!mf_upload_rename(err, "part 1", path) && !mf_upload_rename(err, "ehr", path))
        mf_error_prefix(err, "%s", path);
}

/* Scans one whole file as one part. */
static bool scan_file(struct mf_decoder *decoder, const char *path, enum mf_part_kind kind,
                      struct mf_upload *ret, struct mf_error *err)
{
    struct stat st;
    MF_AUTO(mf_fd) int fd = open_file(path, err);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, MF_UPLOAD_MAX);
    if (fd < 0)
        return false;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return mf_error_set(err, MF_ERR_UNUSABLE, "%s: not a regular file", path);
    struct mf_part part = {kind, fd, 0, (uint64_t)st.st_size};
    if (mf_decoder_scan(decoder, &part, 1, &text, err) &&
        mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, ret, err))
        return true;
    name_file(err, path);
    return false;
}

/* "part 1, member 3" → "PATH, member 3": the file is what a person knows. */
static const char *rename_object(struct mf_dataset *d, const char *path, const char *name,
                                 struct mf_error *err)
{
    static const char PART[] = "part 1";
    const char *rest =
        name && strncmp(name, PART, sizeof PART - 1) == 0 ? name + sizeof PART - 1 : "";
    return mf_arena_printf(d->index.arena, err, "%s%s", path, rest);
}

static bool append_objects(struct mf_dataset *d, const struct source *source, uint32_t input,
                           struct mf_error *err)
{
    const struct mf_index *from = source->upload.index;
    struct mf_index_object *objects = realloc(
        d->index.objects, (d->index.object_count + from->object_count + 1) * sizeof *objects);
    if (!objects)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    d->index.objects = objects;
    for (size_t i = 0; i < from->object_count; i++) {
        struct mf_index_object *o = &objects[d->index.object_count];
        *o = from->objects[i];
        o->input = input;
        o->name = rename_object(d, source->path, o->name, err);
        if (!o->name)
            return false;
        d->index.object_count++;
    }
    return true;
}

bool mf_dataset_add(struct mf_dataset *d, const struct mf_file *file, struct mf_error *err)
{
    struct source source = {.fd = -1};
    struct mf_decoder *decoder = file->named ? d->strict : d->lenient;
    if (!scan_file(decoder, file->path, MF_PART_DICOM, &source.upload, err) || !source.upload.index)
        return false;
    d->skipped += source.upload.index->skipped_count;
    struct source *sources = realloc(d->sources, (d->source_count + 1) * sizeof *sources);
    source.path = strdup(file->path);
    if (sources)
        d->sources = sources;
    if (!sources || !source.path) {
        free(source.path);
        mf_upload_free(&source.upload);
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    }
    d->sources[d->source_count] = source;
    return append_objects(d, &source, (uint32_t)d->source_count++, err);
}

const struct mf_index *mf_dataset_index(const struct mf_dataset *d)
{
    return &d->index;
}

size_t mf_dataset_skipped(const struct mf_dataset *d)
{
    return d->skipped;
}

int mf_dataset_input(void *dataset, uint32_t input, struct mf_error *err)
{
    struct mf_dataset *d = dataset;
    struct source *source = &d->sources[input];
    if (source->fd < 0)
        source->fd = open_file(source->path, err);
    return source->fd;
}

void mf_dataset_close_files(struct mf_dataset *d)
{
    for (size_t i = 0; i < d->source_count; i++) {
        if (d->sources[i].fd >= 0)
            close(d->sources[i].fd);
        d->sources[i].fd = -1;
    }
}

bool mf_dataset_read_ehr(struct mf_dataset *d, const char *path, struct mf_upload *ret,
                         struct mf_error *err)
{
    return scan_file(d->strict, path, MF_PART_EHR, ret, err);
}

struct mf_decoder *mf_dataset_decoder(struct mf_dataset *d)
{
    return d->strict;
}
