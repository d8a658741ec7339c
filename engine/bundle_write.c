/* What is said about a bundle (`model inspect`), and copies of it: calibrated (`calibrate -o`) and
 * smoothed (`model smooth -o`). */
#include "engine/bundle_private.h"

#include "engine/smoothing.h"
#include "engine/trust/trust.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 1024 };

static const char *const MODULE_NAMES[MF_MODULE_COUNT] = {"segmenter", "vision", "temporal", "ehr",
                                                          "fusion"};

static json_t *describe_modules(const struct mf_bundle *b)
{
    json_t *modules = json_object();
    for (int i = 0; i < MF_MODULE_COUNT; i++) {
        json_t *entry = json_null();
        if (b->directories[i])
            entry = json_pack("{s:s, s:o, s:o}", "directory", b->directories[i], "model_type",
                              b->weights[i] ? mf_json_string(json_string_value(json_object_get(
                                                  mf_weights_config(b->weights[i]), "model_type")))
                                            : json_null(),
                              "parameters",
                              b->weights[i]
                                  ? json_integer((json_int_t)mf_weights_parameters(b->weights[i]))
                                  : json_null());
        json_object_set_new(modules, MODULE_NAMES[i], entry);
    }
    return modules;
}

static json_t *describe_features(const struct mf_bundle *b)
{
    json_t *list = json_array();
    for (size_t i = 0; b->features && i < b->features->count; i++)
        json_array_append_new(list, json_string(b->features->features[i].id));
    return list;
}

json_t *mf_bundle_describe(const struct mf_bundle *b, struct mf_error *err)
{
    static const char *const POSITIONS[] = {"rank", "days", "slice"};
    const struct mf_trust *t = b->trust;
    json_t *labels = json_deep_copy(json_object_get(b->json, "labels"));
    json_t *calibration =
        mf_trust_id(t) ? json_pack("{s:s, s:s, s:s, s:I, s:b}", "id", mf_trust_id(t), "created",
                                   mf_trust_created(t), "source", mf_trust_source(t), "patients",
                                   (json_int_t)mf_trust_patients(t), "bound_to_this_model",
                                   strcmp(mf_trust_model_hash(t), b->model_hash) == 0)
                       : json_null();
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:s, s:o, s:o}", "name", b->name,
        "version", b->version, "licence", b->licence, "intended_use", b->intended_use, "digest",
        b->digest, "model_hash", b->model_hash, "accepts",
        json_deep_copy(json_object_get(b->json, "accepts")), "modules", describe_modules(b),
        "labels", labels, "max_frames", (json_int_t)b->max_frames, "position",
        POSITIONS[b->position], "features", describe_features(b), "calibration", calibration);
    if (!out || (b->exclusive && json_object_set_new(out, "exclusive", json_true()) != 0))
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return out;
}

static bool is_empty_or_new(const char *out, struct mf_error *err)
{
    if (mkdir(out, 0777) == 0)
        return true;
    if (errno != EEXIST)
        return mf_error_set(err, MF_ERR_IO, "%s: cannot be created", out);
    DIR *d = opendir(out);
    if (!d)
        return mf_error_set(err, MF_ERR_IO, "%s: is not a directory", out);
    int entries = 0;
    while (readdir(d))
        entries++;
    closedir(d);
    return entries <= 2 || mf_error_set(err, MF_ERR_CONFLICT, "%s: is not empty", out);
}

static bool copy_file(const char *from, const char *to, struct mf_error *err)
{
    MF_AUTO(mf_file) FILE *in = fopen(from, "rbe");
    MF_AUTO(mf_file) FILE *out = in ? fopen(to, "wbe") : NULL;
    if (!out)
        return mf_error_set(err, MF_ERR_IO, "%s: cannot be copied", from);
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, in)) > 0)
        if (fwrite(block, 1, n, out) != n)
            return mf_error_set(err, MF_ERR_IO, "%s: cannot be written", to);
    if (ferror(in) || fflush(out) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: cannot be written", to);
    return true;
}

static bool make_parents(char *path, size_t base, struct mf_error *err)
{
    for (char *p = path + base + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        bool ok = mkdir(path, 0777) == 0 || errno == EEXIST;
        *p = '/';
        if (!ok)
            return mf_error_set(err, MF_ERR_IO, "%s: cannot be created", path);
    }
    return true;
}

static bool is_trust_file(const char *path)
{
    return strcmp(path, "calibration.json") == 0 || strcmp(path, "conformal.json") == 0 ||
           strcmp(path, "ood.json") == 0 || strcmp(path, "adaptation.json") == 0 ||
           strcmp(path, "reference.json") == 0;
}

static bool is_smoothing_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && strcmp(slash + 1, "smoothing.safetensors") == 0;
}

/* Copies a bundle's files, but for those that are replaced. */
static bool copy_bundle(const struct mf_bundle *b, const char *out, bool (*replaced)(const char *),
                        struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    const char **paths;
    size_t count;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (strlen(out) > PATH_BYTES / 2)
        return mf_error_set(err, MF_ERR_USAGE, "the path of the new bundle is too long");
    if (!is_empty_or_new(out, err) || !mf_bundle_list_files(b->dir, arena, &paths, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char from[PATH_BYTES * 2], to[PATH_BYTES * 2];
        if (replaced(paths[i]))
            continue;
        snprintf(from, sizeof from, "%s/%s", b->dir, paths[i]);
        snprintf(to, sizeof to, "%s/%s", out, paths[i]);
        if (!make_parents(to, strlen(out), err) || !copy_file(from, to, err))
            return false;
    }
    return true;
}

bool mf_bundle_write_calibrated(const struct mf_bundle *b, const struct mf_trust *trust,
                                const char *out, struct mf_error *err)
{
    return copy_bundle(b, out, is_trust_file, err) && mf_trust_write(trust, out, err) &&
           mf_bundle_write_manifest(out, err);
}

bool mf_bundle_write_smoothed(const struct mf_bundle *b, const struct mf_smoothing *smoothing,
                              double alpha, const char *out, struct mf_error *err)
{
    if (!copy_bundle(b, out, is_smoothing_file, err))
        return false;
    for (int i = 0; i < MF_MODULE_COUNT; i++) {
        char path[PATH_BYTES * 2];
        if (!b->directories[i] || !mf_smoothing_count(smoothing, (size_t)i))
            continue;
        snprintf(path, sizeof path, "%s/%s/smoothing.safetensors", out, b->directories[i]);
        if (!mf_smoothing_write(smoothing, (size_t)i, alpha, path, err))
            return false;
    }
    return mf_bundle_write_manifest(out, err);
}
