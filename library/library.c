/*
 * The shared library: a bundle, a pipeline and a zygote behind a handle.
 *
 * The zygote is bound to the thread that starts it (it dies with it), and callers' threads come and
 * go: a thread of the handle starts it and lives as long.
 */
#include "library/medfusion.h"

#include "core/result.h"
#include "server/decoder.h"
#include "server/pipeline.h"
#include "server/process.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define EXPORT __attribute__((visibility("default")))

enum { INDEX_BYTES = 128 << 20, DECODERS = 2 };

struct medfusion {
    pthread_mutex_t running; /* one study at a time */
    pthread_t keeper;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool kept, started, closing;
    struct mf_zygote *zygote;
    struct mf_error zygote_error;
    struct mf_decoder *decoder;
    struct mf_registry *registry;
    struct mf_pipeline *pipeline;
};

static void tell(const struct mf_error *err, char **ret_problem)
{
    if (!ret_problem)
        return;
    MF_AUTO(mf_json) json_t *problem = mf_problem_to_json(err, NULL, NULL);
    *ret_problem = problem ? mf_json_text(problem, 0) : NULL;
}

/* --- the program that decodes --- */

static bool executable(const char *path)
{
    return access(path, X_OK) == 0;
}

/* FOLDER/name, FOLDER being that of this library. */
static bool beside_library(const char *name, char out[PATH_MAX])
{
    Dl_info info;
    const char *slash = NULL;
    if (dladdr((const void *)(uintptr_t)medfusion_version, &info) && info.dli_fname)
        slash = strrchr(info.dli_fname, '/');
    if (!slash)
        return false;
    int n = snprintf(out, PATH_MAX, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, name);
    return n > 0 && n < PATH_MAX && executable(out);
}

static bool choose_program(const char *wanted, struct mf_error *err)
{
    char found[PATH_MAX];
    const char *named = wanted ? wanted : getenv("MEDFUSION_PROGRAM");
    if (named)
        return executable(named) ? mf_zygote_set_program(named, err)
                                 : mf_error_set(err, MF_ERR_USAGE, "%s: cannot be executed", named);
    if (beside_library("../bin/medfusion", found) || beside_library("../../bin/medfusion", found) ||
        beside_library("medfusion", found))
        return mf_zygote_set_program(found, err);
    return executable(MF_INSTALLED_PROGRAM)
               ? mf_zygote_set_program(MF_INSTALLED_PROGRAM, err)
               : mf_error_set(err, MF_ERR_USAGE,
                              "the program medfusion is not beside the library: set "
                              "MEDFUSION_PROGRAM to its path");
}

/* --- the keeper of the zygote --- */

static void *keep(void *context)
{
    struct medfusion *m = context;
    struct mf_zygote *zygote = mf_zygote_start(&m->zygote_error);
    pthread_mutex_lock(&m->lock);
    m->zygote = zygote;
    m->started = true;
    pthread_cond_broadcast(&m->changed);
    while (zygote && !m->closing)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    mf_zygote_stop(zygote);
    return NULL;
}

static bool start_keeper(struct medfusion *m, struct mf_error *err)
{
    if (pthread_create(&m->keeper, NULL, keep, m) != 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a thread");
    m->kept = true;
    pthread_mutex_lock(&m->lock);
    while (!m->started)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    return m->zygote || mf_error_set(err, m->zygote_error.code, "%s", m->zygote_error.msg);
}

static void stop_keeper(struct medfusion *m)
{
    if (!m->kept)
        return;
    pthread_mutex_lock(&m->lock);
    m->closing = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->keeper, NULL);
}

/* --- opening --- */

static bool open_all(struct medfusion *m, const char *bundle, const struct medfusion_settings *s,
                     struct mf_error *err)
{
    const char *const directories[] = {bundle};
    const struct mf_registry_device device = {
        .device = s->device, .threads = s->threads, .dtype = s->dtype};
    return choose_program(s->program, err) && start_keeper(m, err) &&
           (m->decoder = mf_decoder_new(mf_zygote_address(m->zygote), DECODERS, NULL, err)) &&
           (m->registry = mf_registry_open(directories, 1, &device, err)) &&
           (m->pipeline = mf_pipeline_new(m->registry, m->decoder, err));
}

EXPORT const char *medfusion_version(void)
{
    return MF_VERSION;
}

EXPORT struct medfusion *
medfusion_open(const char *bundle, const struct medfusion_settings *settings, char **ret_problem)
{
    struct mf_error err = MF_ERROR_INIT;
    struct medfusion_settings known = {.size = sizeof known};
    if (settings) /* a caller's older header may know less */
        memcpy(&known, settings, settings->size < sizeof known ? settings->size : sizeof known);
    struct medfusion *m = calloc(1, sizeof *m);
    if (m) {
        pthread_mutex_init(&m->running, NULL);
        pthread_mutex_init(&m->lock, NULL);
        pthread_cond_init(&m->changed, NULL);
        if (open_all(m, bundle, &known, &err))
            return m;
    } else {
        mf_error_set(&err, MF_ERR_NO_MEMORY, "out of memory");
    }
    tell(&err, ret_problem);
    medfusion_close(m);
    return NULL;
}

EXPORT void medfusion_close(struct medfusion *m)
{
    if (!m)
        return;
    mf_pipeline_free(m->pipeline);
    mf_registry_free(m->registry);
    mf_decoder_free(m->decoder);
    stop_keeper(m);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->running);
    free(m);
}

/* --- predicting --- */

/* Parts as the decoder takes them: descriptors, never paths. */
struct inputs {
    struct mf_part *parts;
    size_t count; /* opened so far */
};

static void inputs_close(struct inputs *in)
{
    for (size_t i = 0; i < in->count; i++)
        close(in->parts[i].fd);
    free(in->parts);
}

MF_AUTO_DEFINE(inputs, struct inputs, inputs_close(p))

static int memory_file(const void *data, size_t size)
{
    int fd = memfd_create("medfusion-part", MFD_CLOEXEC);
    const char *at = data;
    for (size_t left = size; fd >= 0 && left > 0;) {
        ssize_t n = write(fd, at, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        at += n;
        left -= (size_t)n;
    }
    return fd;
}

static bool open_part(const struct medfusion_part *p, struct mf_part *ret, struct mf_error *err)
{
    const char *name = p->path ? p->path : "a part in memory";
    struct stat st;
    if (p->kind != MEDFUSION_DICOM && p->kind != MEDFUSION_EHR)
        return mf_error_set(err, MF_ERR_USAGE, "%s: there is no kind %d of parts", name, p->kind);
    int fd = p->path ? open(p->path, O_RDONLY | O_CLOEXEC) : memory_file(p->data, p->size);
    if (fd < 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "%s: %s", name, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return mf_error_set(err, MF_ERR_MALFORMED, "%s: not a file", name);
    }
    *ret = (struct mf_part){.kind = p->kind == MEDFUSION_EHR ? MF_PART_EHR : MF_PART_DICOM,
                            .fd = fd,
                            .size = (uint64_t)st.st_size};
    return true;
}

static bool open_parts(const struct medfusion_part *parts, size_t count, struct inputs *in,
                       struct mf_error *err)
{
    if (count == 0 || count > MF_DECODER_MAX_FDS)
        return mf_error_set(err, MF_ERR_USAGE, "a study has 1 to %d parts, not %zu (a zip is one)",
                            (int)MF_DECODER_MAX_FDS, count);
    if (!(in->parts = calloc(count, sizeof *in->parts)))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (; in->count < count; in->count++)
        if (!open_part(&parts[in->count], &in->parts[in->count], err))
            return false;
    return true;
}

static char *run(struct medfusion *m, const struct inputs *in, const char *options,
                 struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer index;
    mf_buffer_init(&index, INDEX_BYTES);
    struct mf_pipeline_options chosen = MF_PIPELINE_OPTIONS_INIT;
    if (!mf_pipeline_options_parse(options, options ? strlen(options) : 0, &chosen, err) ||
        !mf_decoder_scan(m->decoder, in->parts, in->count, &index, err))
        return NULL;
    const struct mf_pipeline_job job = {.parts = in->parts,
                                        .part_count = in->count,
                                        .index = index.data,
                                        .index_len = index.len,
                                        .options = &chosen};
    MF_AUTO(mf_json) json_t *result = mf_pipeline_run(m->pipeline, &job, err);
    char *text = result ? mf_json_text(result, 0) : NULL;
    if (!text)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    return text;
}

EXPORT char *medfusion_predict(struct medfusion *m, const struct medfusion_part *parts,
                               size_t count, const char *options, char **ret_problem)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(inputs) struct inputs in = {NULL, 0};
    char *text = NULL;
    if (open_parts(parts, count, &in, &err)) {
        pthread_mutex_lock(&m->running);
        text = run(m, &in, options, &err);
        pthread_mutex_unlock(&m->running);
    }
    if (!text)
        tell(&err, ret_problem);
    return text;
}

EXPORT void medfusion_free(char *text)
{
    free(text);
}
