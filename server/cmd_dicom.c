/*
 * `medfusion dicom info|frame|study|volume|deidentify`: what the DICOM module sees in files, for
 * people.
 */
#include "server/cmd.h"

#include "core/grayscale.h"
#include "core/json.h"
#include "core/npy.h"
#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "dicom/scan.h"
#include "dicom/study.h"
#include "server/cli.h"
#include "server/cmd_deidentify.h"
#include "server/cmd_volume.h"
#include "server/dataset.h"
#include "server/png.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char USAGE[] =
    "usage: medfusion dicom info FILE\n"
    "       medfusion dicom frame FILE [--index N] [--stage stored|modality|display] -o OUT\n"
    "       medfusion dicom study PATH...\n"
    "       medfusion dicom volume --voxel S,R,C [--background V] -o OUT.npy PATH...\n"
    "       medfusion dicom deidentify --secret FILE [--dates D] [--characteristics C] -o DIR "
    "PATH...\n"
    "\n"
    "info    prints what is known of the objects in a DICOM file or a zip, as JSON\n"
    "frame   writes one frame of the first image in FILE as .png or .npy\n"
    "          --index N   the frame, from 0 (default 0)\n"
    "          --stage S   stored: the samples as they are; modality: after the modality LUT, "
    "float\n"
    "                      (.npy); display: what a viewer shows, 8 bits (default)\n"
    "          -o OUT      the file to write\n"
    "study   groups files and directories into patients and studies and prints them as JSON\n"
    "volume  resamples the largest series of the newest study to voxels of this size, writes them\n"
    "        as floats (planes, rows, columns) and prints what the series is like\n"
    "          --voxel S,R,C     distance of planes, rows and columns, mm\n"
    "          --background V    modality value in place of padding (default -1024)\n"
    "deidentify writes every DICOM file without what says who the patient is (PS3.15 annex E) as\n"
    "        DIR/UID.dcm, under its new UID\n"
    "          --secret FILE          of at least 16 bytes; new UIDs and pseudonyms follow from "
    "it\n"
    "          --dates D              remove (default), shift (by days of the patient's) or keep\n"
    "          --characteristics C    sex, age, size, weight: remove (default) or keep\n";

/* A file and its index. */
struct source {
    int fd;
    struct mf_index *index;
};

MF_AUTO_DEFINE(source, struct source, mf_index_free(p->index); if (p->fd >= 0) close(p->fd))

/* Scans the file; the caller closes `ret`. */
static bool open_source(const char *path, bool lenient, struct source *ret, struct mf_error *err)
{
    struct stat st;
    MF_AUTO(source) struct source s = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (s.fd < 0 || fstat(s.fd, &st) != 0) {
        mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "%s: %s", path,
                     strerror(errno));
        return false;
    }
    struct mf_scan_input input = {.fd = s.fd, .length = (uint64_t)st.st_size};
    struct mf_scan_limits limits = {.lenient = lenient};
    s.index = mf_scan(&input, 1, &limits, err);
    if (!s.index) {
        mf_error_prefix(err, "%s", path);
        return false;
    }
    ret->fd = s.fd;
    ret->index = MF_STEAL(s.index);
    s.fd = -1;
    return true;
}

static bool print_json(json_t *json, struct mf_error *err)
{
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, 2) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (puts(text) < 0 || fflush(stdout) != 0)
        return mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
    return true;
}

/* ---- info ---- */

/* Long tables of offsets become their lengths: they mean nothing to a person. */
static void shorten(json_t *object)
{
    static const char *const TABLES[] = {"fragments", "frame_fragments", "frame_groups", NULL};
    for (const char *const *key = TABLES; *key; key++) {
        const json_t *table = json_object_get(object, *key);
        if (table)
            json_object_set_new(object, *key, json_integer((json_int_t)json_array_size(table)));
    }
}

static int run_info(int argc, char **argv, struct mf_error *err)
{
    MF_AUTO(source) struct source s = {.fd = -1};
    if (argc != 3) {
        mf_error_set(err, MF_ERR_USAGE, "info takes one FILE, see --help");
        return mf_cli_fail("dicom", err);
    }
    if (!open_source(argv[2], false, &s, err))
        return mf_cli_fail("dicom", err);
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(s.index);
    size_t i;
    json_t *object;
    json_array_foreach(json_object_get(json, "objects"), i, object) shorten(object);
    return print_json(json, err) ? MF_EXIT_OK : mf_cli_fail("dicom", err);
}

/* ---- frame ---- */

enum stage { STAGE_STORED, STAGE_MODALITY, STAGE_DISPLAY };

struct frame_options {
    const char *file, *output;
    uint32_t index;
    enum stage stage;
    bool png;
};

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

static bool parse_frame(int argc, char **argv, struct frame_options *o, struct mf_error *err)
{
    static const struct option LONG[] = {{"index", required_argument, NULL, 'i'},
                                         {"stage", required_argument, NULL, 's'},
                                         {NULL, 0, NULL, 0}};
    static const char *const STAGES[] = {"stored", "modality", "display"};
    double number = 0;
    int c, stage = STAGE_DISPLAY;
    optind = 2;
    while ((c = mf_cli_option(argc, argv, ":o:", LONG, err)) != -1) {
        if (c == 'o') {
            o->output = optarg;
        } else if (c == 'i') {
            if (!mf_cli_number("--index", optarg, 0, 100000, &number, err))
                return false;
        } else if (c == 's') {
            for (stage = 0; stage < 3 && strcmp(STAGES[stage], optarg) != 0;)
                stage++;
        } else {
            return false;
        }
    }
    if (stage == 3)
        return mf_error_set(err, MF_ERR_USAGE, "--stage: must be stored, modality or display");
    if (optind != argc - 1 || !o->output) {
        mf_error_set(err, MF_ERR_USAGE, "frame takes one FILE and -o OUT, see --help");
        return false;
    }
    o->file = argv[optind];
    o->index = (uint32_t)number;
    o->stage = (enum stage)stage;
    o->png = ends_with(o->output, ".png");
    if (o->index != number)
        return mf_error_set(err, MF_ERR_USAGE, "--index: must be a whole number");
    if (!o->png && !ends_with(o->output, ".npy"))
        return mf_error_set(err, MF_ERR_USAGE, "-o: the name must end in .png or .npy");
    return true;
}

static bool write_stored(const struct frame_options *o, const struct mf_frame *f,
                         struct mf_error *err)
{
    size_t shape[] = {f->rows, f->columns, f->samples_per_pixel};
    if (!o->png)
        return mf_npy_write(o->output, f->type, shape, f->samples_per_pixel == 1 ? 2 : 3,
                            f->samples, err);
    if (f->type != MF_SAMPLE_U8 && f->type != MF_SAMPLE_U16)
        return mf_error_set(err, MF_ERR_USAGE,
                            "%s: stored samples that are signed, 32-bit or float need .npy",
                            o->output);
    return mf_png_write(o->output, f->rows, f->columns, f->samples_per_pixel,
                        f->type == MF_SAMPLE_U8 ? 8 : 16, f->samples, err);
}

static bool write_modality(const struct frame_options *o, const struct mf_frame *f,
                           struct mf_error *err)
{
    size_t shape[] = {f->rows, f->columns};
    if (o->png)
        return mf_error_set(err, MF_ERR_USAGE, "%s: modality values are float and need .npy",
                            o->output);
    MF_AUTO(mf_mem) float *values = malloc((size_t)f->rows * f->columns * sizeof *values);
    if (!values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame");
    return mf_grayscale_modality(f, values, err) &&
           mf_npy_write(o->output, MF_SAMPLE_F32, shape, 2, values, err);
}

static bool write_display(const struct frame_options *o, const struct mf_frame *f,
                          struct mf_error *err)
{
    uint32_t channels = mf_grayscale_channels(f);
    size_t shape[] = {f->rows, f->columns, channels};
    MF_AUTO(mf_mem) uint8_t *picture = malloc((size_t)f->rows * f->columns * channels);
    if (!picture)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame");
    if (!mf_grayscale_display8(f, picture, err))
        return false;
    return o->png
               ? mf_png_write(o->output, f->rows, f->columns, channels, 8, picture, err)
               : mf_npy_write(o->output, MF_SAMPLE_U8, shape, channels == 1 ? 2 : 3, picture, err);
}

static const struct mf_index_object *first_image(const struct mf_index *index)
{
    for (size_t i = 0; i < index->object_count; i++)
        if (index->objects[i].pixel_data != MF_PIXEL_DATA_NONE)
            return &index->objects[i];
    return NULL;
}

static bool write_frame(const struct frame_options *o, struct mf_error *err)
{
    MF_AUTO(source) struct source s = {.fd = -1};
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    if (!open_source(o->file, false, &s, err))
        return false;
    const struct mf_index_object *object = first_image(s.index);
    if (!object)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%s: no object in it has pixel data", o->file);
    if (!mf_decode_frame(s.fd, object, o->index, &f, err))
        return mf_error_prefix(err, "%s", o->file);
    return o->stage == STAGE_STORED     ? write_stored(o, &f, err)
           : o->stage == STAGE_MODALITY ? write_modality(o, &f, err)
                                        : write_display(o, &f, err);
}

static int run_frame(int argc, char **argv, struct mf_error *err)
{
    struct frame_options o = {.file = ""};
    return parse_frame(argc, argv, &o, err) && write_frame(&o, err) ? MF_EXIT_OK
                                                                    : mf_cli_fail("dicom", err);
}

/* ---- study ---- */

static json_t *study_json(const struct mf_study *study)
{
    return json_pack("{s:s,s:o,s:o,s:o,s:I,s:I}", "study_instance_uid", study->study_instance_uid,
                     "modality", mf_json_string(study->modality), "date",
                     mf_json_string(study->study_date), "time", mf_json_string(study->study_time),
                     "objects", (json_int_t)study->object_count, "usable_images",
                     (json_int_t)study->usable);
}

static json_t *frames_json(const struct mf_study_request *request)
{
    json_t *frames = json_array();
    for (size_t i = 0; i < request->frame_count; i++) {
        const struct mf_study_frame *f = &request->frames[i];
        json_array_append_new(
            frames, json_pack("{s:s,s:o,s:I,s:s,s:o,s:o}", "object", f->object->name,
                              "sop_instance_uid", mf_json_string(f->object->sop_instance_uid),
                              "frame", (json_int_t)f->frame, "role", f->prior ? "prior" : "current",
                              "acquired", mf_json_string(f->acquired), "slice_position",
                              mf_json_real(f->slice_position)));
    }
    return frames;
}

/* Patients with their studies and, for the newest usable study, the frames that would be analysed.
 */
static json_t *list_json(struct mf_study_list *list)
{
    size_t patients, skipped;
    const struct mf_study_patient *p = mf_study_list_patients(list, &patients);
    const struct mf_study_skipped *skip = mf_study_list_skipped(list, &skipped);
    json_t *out = json_array(), *unused = json_array();
    for (size_t i = 0; i < patients; i++) {
        json_t *studies = json_array(), *frames = json_null();
        for (size_t k = 0; k < p[i].study_count; k++)
            json_array_append_new(studies, study_json(&p[i].studies[k]));
        for (size_t k = p[i].study_count; k-- > 0;) {
            const struct mf_study_request *request = mf_study_list_request(list, i, k, true, NULL);
            if (!request)
                continue;
            frames = frames_json(request);
            break;
        }
        json_array_append_new(out, json_pack("{s:o,s:o,s:o,s:o}", "patient_id",
                                             mf_json_string(p[i].patient_id), "issuer",
                                             mf_json_string(p[i].issuer), "studies", studies,
                                             "frames", frames));
    }
    for (size_t i = 0; i < skipped; i++)
        json_array_append_new(
            unused, json_pack("{s:s,s:s}", "object", skip[i].name, "reason", skip[i].reason));
    return json_pack("{s:o,s:o}", "patients", out, "skipped", unused);
}

/* One index of all files; the parts keep its strings. */
struct collection {
    struct mf_index all;
    struct mf_index **parts;
    size_t part_count;
    json_t *refused; /* files that could not be read, with the reason */
};

static void collection_free(struct collection *c)
{
    for (size_t i = 0; i < c->part_count; i++)
        mf_index_free(c->parts[i]);
    free(c->parts);
    free(c->all.objects);
    mf_arena_free(c->all.arena);
    json_decref(c->refused);
}

MF_AUTO_DEFINE(collection, struct collection, collection_free(p))

static bool append(struct collection *c, const char *path, struct source *s, uint32_t number,
                   struct mf_error *err)
{
    size_t n = c->all.object_count;
    struct mf_index_object *objects =
        realloc(c->all.objects, (n + s->index->object_count + 1) * sizeof *objects);
    if (!objects)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    c->all.objects = objects;
    for (size_t i = 0; i < s->index->object_count; i++) {
        objects[n + i] = s->index->objects[i];
        objects[n + i].input = number;
        objects[n + i].name = mf_arena_printf(c->all.arena, err, "%s", path);
        if (!objects[n + i].name)
            return false;
    }
    c->all.object_count = n + s->index->object_count;
    c->parts[c->part_count++] = MF_STEAL(s->index);
    return true;
}

static bool collect(struct collection *c, const struct mf_file_list *files, struct mf_error *err)
{
    c->all.arena = mf_arena_new(256 << 20);
    c->parts = calloc(files->count + 1, sizeof(struct mf_index *));
    c->refused = json_array();
    if (!c->all.arena || !c->parts || !c->refused)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    struct mf_progress bar;
    mf_progress_start(&bar, "study", files->count);
    bool ok = true;
    for (size_t i = 0; i < files->count && ok; i++) {
        MF_AUTO(source) struct source s = {.fd = -1};
        struct mf_error cause = MF_ERROR_INIT;
        const char *path = files->files[i].path;
        if (open_source(path, !files->files[i].named, &s, &cause))
            ok = append(c, path, &s, (uint32_t)i, err);
        else
            json_array_append_new(c->refused,
                                  json_pack("{s:s,s:s}", "object", path, "reason", cause.msg));
        mf_progress_step(&bar, i + 1);
    }
    mf_progress_end(&bar);
    return ok;
}

static bool print_studies(int argc, char **argv, struct mf_error *err)
{
    MF_AUTO(mf_file_list) struct mf_file_list files = {0};
    MF_AUTO(collection) struct collection c = {0};
    if (!mf_file_list_collect(argv + 2, (size_t)argc - 2, &files, err) || !collect(&c, &files, err))
        return false;
    MF_AUTO(mf_study_list)
    struct mf_study_list *list = mf_study_list_new(&c.all, NULL, err);
    MF_AUTO(mf_json) json_t *json = list ? list_json(list) : NULL;
    json_object_set(json, "refused", c.refused);
    if (!list || !print_json(json, err))
        return false;
    size_t refused = json_array_size(c.refused);
    return refused == 0 || mf_error_set(err, MF_ERR_MALFORMED, "%zu of %zu files were refused",
                                        refused, files.count);
}

static int run_study(int argc, char **argv, struct mf_error *err)
{
    if (argc < 3) {
        mf_error_set(err, MF_ERR_USAGE, "study takes at least one PATH, see --help");
        return mf_cli_fail("dicom", err);
    }
    return print_studies(argc, argv, err) ? MF_EXIT_OK : mf_cli_fail("dicom", err);
}

int mf_cmd_dicom(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv, struct mf_error *err);
    } VERBS[] = {{"info", run_info}, {"frame", run_frame}, {"study", run_study}};
    struct mf_error err = MF_ERROR_INIT;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return mf_cli_help(USAGE);
    if (argc >= 2 && strcmp(argv[1], "volume") == 0) /* through decoders, as predict */
        return mf_cmd_volume(argc, argv);
    if (argc >= 2 && strcmp(argv[1], "deidentify") == 0)
        return mf_cmd_deidentify(argc, argv);
    for (size_t i = 0; argc >= 2 && i < sizeof VERBS / sizeof *VERBS; i++)
        if (strcmp(argv[1], VERBS[i].name) == 0)
            return mf_dicom_init(&err) ? VERBS[i].run(argc, argv, &err)
                                       : mf_cli_fail("dicom", &err);
    mf_error_set(&err, MF_ERR_USAGE,
                 "expected info, frame, study, volume or deidentify, see "
                 "--help");
    return mf_cli_fail("dicom", &err);
}
