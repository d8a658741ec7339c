/*
 * `medfusion dicom volume`: a CT or MR series as the regular stack of modality values that a bundle
 * with this voxel size would choose its planes from, and what is not as a volume should be.
 */
#include "server/cmd_volume.h"

#include "core/json.h"
#include "core/npy.h"
#include "dicom/study.h"
#include "server/cli.h"
#include "server/dataset.h"
#include "server/volume_frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = MF_SELECTION_FRAMES };

struct options {
    const char *output;
    struct mf_study_rules rules;
    struct mf_bundle_volume values;
    char **paths;
    size_t path_count;
};

/* Everything that is open while a volume is made. */
struct work {
    const struct options *o;
    struct mf_zygote *zygote;
    struct mf_dataset *dataset;
    struct mf_study_list *studies;
    float *stack; /* (planes, rows, columns) */
};

static bool parse_voxel(const char *text, double voxel[3], struct mf_error *err)
{
    const char *at = text;
    char *end = NULL;
    for (int i = 0; i < 3; i++, at = end + 1) {
        voxel[i] = strtod(at, &end);
        if (end == at || *end != (i < 2 ? ',' : '\0') || !(voxel[i] >= 0.01 && voxel[i] <= 100))
            return mf_error_set(err, MF_ERR_USAGE,
                                "--voxel: must be SLICE,ROW,COLUMN in mm, 0.01 to 100 each");
    }
    return true;
}

static bool parse(int argc, char **argv, struct options *o, struct mf_error *err)
{
    static const struct option LONG[] = {{"voxel", required_argument, NULL, 'v'},
                                         {"background", required_argument, NULL, 'b'},
                                         {NULL, 0, NULL, 0}};
    double background = -1024;
    int c;
    optind = 2;
    while ((c = mf_cli_option(argc, argv, ":o:", LONG, err)) != -1) {
        if (c == 'o')
            o->output = optarg;
        else if (c == 'v' && !parse_voxel(optarg, o->rules.volume.voxel, err))
            return false;
        else if (c == 'b' && !mf_cli_number("--background", optarg, -1e6, 1e6, &background, err))
            return false;
        else if (c == '?')
            return false;
    }
    if (optind >= argc || !o->output || !(o->rules.volume.voxel[0] > 0))
        return mf_error_set(err, MF_ERR_USAGE,
                            "volume takes --voxel S,R,C, -o OUT.npy and at least one PATH, see "
                            "--help");
    o->rules.order = MF_STUDY_BY_SLICE;
    o->rules.max_frames = MF_VOLUME_SLICES;
    o->values.background = (float)background;
    o->paths = argv + optind;
    o->path_count = (size_t)(argc - optind);
    return true;
}

static bool scan(struct work *w, struct mf_error *err)
{
    MF_AUTO(mf_file_list) struct mf_file_list files = {0};
    if (!(w->zygote = mf_zygote_start(err)) ||
        !(w->dataset = mf_dataset_new(mf_zygote_address(w->zygote), err)) ||
        !mf_file_list_collect(w->o->paths, w->o->path_count, &files, err))
        return false;
    for (size_t i = 0; i < files.count; i++)
        if (!mf_dataset_add(w->dataset, &files.files[i], err))
            return false;
    w->studies = mf_study_list_new(mf_dataset_index(w->dataset), &w->o->rules, err);
    return w->studies != NULL;
}

/* All planes, some at a time: a slice is decoded once for each batch that it is part of. */
static bool fill_stack(struct work *w, const struct mf_volume *v, struct mf_error *err)
{
    const struct mf_volume_source source = {.decoder = mf_dataset_decoder(w->dataset),
                                            .inputs = {mf_dataset_input, w->dataset}};
    size_t pixels = v->size[1] * v->size[2];
    w->stack = malloc(v->size[0] * pixels * sizeof *w->stack);
    if (!w->stack)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the volume");
    for (size_t begin = 0; begin < v->size[0]; begin += BATCH) {
        size_t n = v->size[0] - begin < BATCH ? v->size[0] - begin : BATCH;
        MF_AUTO(mf_frame_set) struct mf_frame_set planes = {0};
        if (!mf_volume_frames(v, &w->o->values, v->chosen + begin, n, &source, &planes, err))
            return false;
        memcpy(w->stack + begin * pixels, planes.frames[0].samples, n * pixels * sizeof *w->stack);
    }
    return true;
}

static json_t *left_out(const struct mf_study_request *request)
{
    json_t *list = json_array();
    for (size_t i = 0; i < request->left_out_count; i++)
        json_array_append_new(list, json_pack("{s:s,s:s}", "object", request->left_out[i].name,
                                              "reason", request->left_out[i].reason));
    return list;
}

static bool print(const struct mf_study_request *request, struct mf_error *err)
{
    const struct mf_volume *v = request->volume;
    const char *flags[MF_VOLUME_FLAGS];
    size_t count = mf_volume_flags(v, flags);
    struct mf_result_volume volume;
    mf_volume_describe(v, &volume);
    json_t *names = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(names, json_string(flags[i]));
    MF_AUTO(mf_json)
    json_t *json = json_pack(
        "{s:s,s:o,s:[I,I,I],s:[f,f],s:o,s:o}", "study_instance_uid",
        request->study->study_instance_uid, "volume", mf_result_volume_to_json(&volume), "size",
        (json_int_t)v->size[0], (json_int_t)v->size[1], (json_int_t)v->size[2], "positions_mm",
        mf_volume_plane_position(v, 0), mf_volume_plane_position(v, v->size[0] - 1), "flags", names,
        "left_out", left_out(request));
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, 2) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (puts(text) < 0 || fflush(stdout) != 0)
        return mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
    return true;
}

static bool run(struct work *w, struct mf_error *err)
{
    const struct mf_study_request *request =
        scan(w, err) ? mf_study_list_job(w->studies, false, err) : NULL;
    if (!request || !fill_stack(w, request->volume, err))
        return false;
    return mf_npy_write(w->o->output, MF_SAMPLE_F32, request->volume->size, 3, w->stack, err) &&
           print(request, err);
}

int mf_cmd_volume(int argc, char **argv)
{
    struct options o = {.output = NULL};
    struct work w = {.o = &o};
    struct mf_error err = MF_ERROR_INIT;
    bool ok = parse(argc, argv, &o, &err) && run(&w, &err);
    mf_study_list_free(w.studies);
    mf_dataset_free(w.dataset);
    mf_zygote_stop(w.zygote);
    free(w.stack);
    return ok ? MF_EXIT_OK : mf_cli_fail("dicom", &err);
}
