/*
 * `medfusion dicom deidentify`: files → the same objects without what says who the patient is, each
 * made by a sandboxed decoder.
 */
#include "server/cmd_deidentify.h"

#include "core/outfile.h"
#include "server/cli.h"
#include "server/dataset.h"
#include "server/deidentify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OBJECT_BYTES = 1 << 30 };

struct options {
    const char *secret, *dates, *characteristics, *output;
    char **paths;
    size_t path_count;
};

/* Everything that is open meanwhile. */
struct work {
    struct mf_zygote *zygote;
    struct mf_dataset *dataset;
    struct mf_deidentify_rules rules;
    const char *output;
    size_t written, failed;
};

static bool parse(int argc, char **argv, struct options *o, struct mf_error *err)
{
    static const struct option LONG[] = {{"secret", required_argument, NULL, 's'},
                                         {"dates", required_argument, NULL, 'd'},
                                         {"characteristics", required_argument, NULL, 'c'},
                                         {NULL, 0, NULL, 0}};
    int c;
    optind = 2;
    while ((c = mf_cli_option(argc, argv, ":o:", LONG, err)) != -1) {
        if (c == 's')
            o->secret = optarg;
        else if (c == 'd')
            o->dates = optarg;
        else if (c == 'c')
            o->characteristics = optarg;
        else if (c == 'o')
            o->output = optarg;
        else
            return false;
    }
    if (optind >= argc || !*o->secret || !*o->output)
        return mf_error_set(err, MF_ERR_USAGE,
                            "deidentify takes --secret FILE, -o DIR and at least one PATH, see "
                            "--help");
    o->paths = argv + optind;
    o->path_count = (size_t)(argc - optind);
    return true;
}

static bool write_object(const struct work *w, const struct mf_index_object *o,
                         const struct mf_buffer *file, struct mf_error *err)
{
    char uid[MF_DEIDENTIFY_UID], path[4096];
    if (!o->sop_instance_uid)
        return mf_error_set(err, MF_ERR_MALFORMED, "it has no SOP Instance UID");
    if (!mf_deidentify_uid(&w->rules, o->sop_instance_uid, uid))
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    int n = snprintf(path, sizeof path, "%s/%s.dcm", w->output, uid);
    if (n < 0 || (size_t)n >= sizeof path)
        return mf_error_set(err, MF_ERR_USAGE, "%s: the name is too long", w->output);
    struct mf_outfile out;
    if (!mf_outfile_open(&out, path, err))
        return false;
    if (fwrite(file->data, 1, file->len, out.file) == file->len)
        return mf_outfile_commit(&out, err);
    mf_outfile_abandon(&out);
    return mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(errno));
}

/* One object, which must be a file of its own: what a zip holds has to be unpacked first. */
static bool clean(const struct work *w, const struct mf_index_object *o, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer file;
    mf_buffer_init(&file, OBJECT_BYTES);
    int fd = mf_dataset_input(w->dataset, o->input, err);
    struct stat st;
    if (fd < 0)
        return false;
    if (fstat(fd, &st) != 0 || o->layers[0].range.offset != 0 ||
        o->layers[0].range.length != (uint64_t)st.st_size)
        return mf_error_set(err, MF_ERR_UNUSABLE, "it lies in an archive: unpack that first");
    const struct mf_part part = {MF_PART_DICOM, fd, 0, (uint64_t)st.st_size};
    return mf_deidentify_part(mf_dataset_decoder(w->dataset), &part, &w->rules, &file, err) &&
           write_object(w, o, &file, err);
}

static void report(struct work *w, const char *name, const struct mf_error *problem)
{
    w->failed++;
    fprintf(stderr, "medfusion dicom: %s: %s\n", name, problem->msg);
}

static bool run(struct work *w, const struct options *o, struct mf_error *err)
{
    MF_AUTO(mf_file_list) struct mf_file_list files = {0};
    if (!mf_deidentify_load(o->secret, o->dates, o->characteristics, &w->rules, err) ||
        !mf_file_list_collect(o->paths, o->path_count, &files, err) ||
        !(w->zygote = mf_zygote_start(err)) ||
        !(w->dataset = mf_dataset_new(mf_zygote_address(w->zygote), err)))
        return false;
    if (mkdir(o->output, 0777) != 0 && errno != EEXIST)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", o->output, strerror(errno));
    w->output = o->output;
    for (size_t i = 0; i < files.count; i++) {
        struct mf_error problem = MF_ERROR_INIT;
        if (!mf_dataset_add(w->dataset, &files.files[i], &problem))
            report(w, "scan", &problem);
    }
    const struct mf_index *index = mf_dataset_index(w->dataset);
    for (size_t i = 0; i < index->object_count; i++) {
        struct mf_error problem = MF_ERROR_INIT;
        if (clean(w, &index->objects[i], &problem))
            w->written++;
        else
            report(w, index->objects[i].name, &problem);
        mf_dataset_close_files(w->dataset);
    }
    return w->failed == 0 ||
           mf_error_set(err, MF_ERR_UNUSABLE, "%zu of %zu objects were not written", w->failed,
                        w->failed + w->written);
}

int mf_cmd_deidentify(int argc, char **argv)
{
    struct options o = {.secret = "", .output = "", .dates = "remove", .characteristics = "remove"};
    struct work w = {.zygote = NULL};
    struct mf_error err = MF_ERROR_INIT;
    bool ok = parse(argc, argv, &o, &err) && run(&w, &o, &err);
    mf_dataset_free(w.dataset);
    mf_zygote_stop(w.zygote);
    explicit_bzero(&w.rules, sizeof w.rules);
    return ok ? MF_EXIT_OK : mf_cli_fail("dicom", &err);
}
