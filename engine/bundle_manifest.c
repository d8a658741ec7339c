/* manifest.json: which files a bundle has and what their SHA-256 is. Format: bundle.h. */
#include "engine/bundle_private.h"

#include "core/digest.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 4, PATH_BYTES = 1024 };

struct listing {
    struct mf_arena *arena;
    const char **paths;
    size_t count;
    struct mf_error *err;
};

static bool is_unlisted(const char *path)
{
    return strcmp(path, "manifest.json") == 0 || strcmp(path, "manifest.sig") == 0;
}

static bool walk(struct listing *l, const char *root, const char *relative, int depth)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s%s%s", root, *relative ? "/" : "", relative);
    if (depth > MAX_DEPTH)
        return mf_error_set(l->err, MF_ERR_MODEL, "%s: directories are nested too deep", path);
    DIR *d = opendir(path);
    if (!d)
        return mf_error_set(l->err, MF_ERR_MODEL, "%s: cannot be read as a directory", path);
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        struct stat st;
        char *child =
            mf_arena_printf(l->arena, l->err, "%s%s%s", relative, *relative ? "/" : "", e->d_name);
        ok = child && snprintf(path, sizeof path, "%s/%s", root, child) < PATH_BYTES &&
             stat(path, &st) == 0;
        if (!ok)
            mf_error_set(l->err, MF_ERR_MODEL, "%s: holds an entry that cannot be read", root);
        else if (S_ISDIR(st.st_mode))
            ok = walk(l, root, child, depth + 1);
        else if (!S_ISREG(st.st_mode))
            ok = mf_error_set(l->err, MF_ERR_MODEL, "%s: %s is not a regular file", root, child);
        else if (l->count == MF_BUNDLE_FILES)
            ok =
                mf_error_set(l->err, MF_ERR_MODEL, "%s: more than %d files", root, MF_BUNDLE_FILES);
        else if (!is_unlisted(child))
            l->paths[l->count++] = child;
    }
    closedir(d);
    return ok;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool mf_bundle_list_files(const char *dir, struct mf_arena *arena, const char ***ret,
                          size_t *ret_count, struct mf_error *err)
{
    struct listing l = {.arena = arena, .err = err};
    l.paths = mf_arena_alloc(arena, MF_BUNDLE_FILES, sizeof *l.paths, err);
    if (!l.paths || !walk(&l, dir, "", 0))
        return false;
    qsort(l.paths, l.count, sizeof *l.paths, compare_paths);
    *ret = l.paths;
    *ret_count = l.count;
    return true;
}

static bool hash_file(const char *dir, const char *relative, char hex[65], struct mf_error *err)
{
    unsigned char digest[MF_SHA256_BYTES];
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, relative);
    if (!mf_sha256_file(path, digest, err))
        return false;
    mf_sha256_to_hex(digest, hex);
    return true;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static bool is_weights(const char *path)
{
    return ends_with(path, ".safetensors");
}

/* Whether a file takes part in model_hash: what decides the raw logits. */
static bool is_model(const char *path)
{
    return strcmp(path, "bundle.json") == 0 || ends_with(path, "/config.json") ||
           ends_with(path, "/features.json") || is_weights(path) ||
           ends_with(path, ".safetensors.index.json");
}

/* The digest that the manifest states for a file, or NULL. */
static const char *stated(const json_t *files, const char *path)
{
    const char *hex = json_string_value(json_object_get(files, path));
    return hex && strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64 ? hex : NULL;
}

static bool check_files(const char *dir, const json_t *files, bool skip_weights,
                        struct mf_sha256 *model, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    const char **paths;
    size_t count;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!mf_bundle_list_files(dir, arena, &paths, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char hex[65];
        const char *expected = stated(files, paths[i]);
        if (!expected)
            return mf_error_set(err, MF_ERR_MODEL, "manifest.json: no SHA-256 for %s", paths[i]);
        if (!(skip_weights && is_weights(paths[i]))) {
            if (!hash_file(dir, paths[i], hex, err))
                return false;
            if (strcmp(hex, expected) != 0)
                return mf_error_set(err, MF_ERR_MODEL,
                                    "manifest.json: the SHA-256 of %s does not match", paths[i]);
        }
        if (is_model(paths[i])) {
            mf_sha256_update(model, expected, 64);
            mf_sha256_update(model, "  ", 2);
            mf_sha256_update(model, paths[i], strlen(paths[i]));
            mf_sha256_update(model, "\n", 1);
        }
    }
    if (count != json_object_size(files)) {
        const char *path;
        json_t *value;
        json_object_foreach((json_t *)files, path, value)
        {
            if (!bsearch(&path, paths, count, sizeof *paths, compare_paths))
                return mf_error_set(err, MF_ERR_MODEL, "manifest.json: %.120s is missing", path);
        }
    }
    return true;
}

bool mf_manifest_check(const char *dir, bool skip_weights, char digest[65], char model_hash[65],
                       struct mf_error *err)
{
    char path[PATH_BYTES];
    unsigned char raw[MF_SHA256_BYTES];
    if (!hash_file(dir, "manifest.json", digest, err))
        return false;
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    MF_AUTO(mf_json) json_t *manifest = mf_json_read_file(path, NULL, err);
    if (!manifest)
        return false;
    const char *schema = mf_json_get_string(manifest, "schema", "");
    const json_t *files = json_object_get(manifest, "files");
    if (strcmp(schema, "medfusion.manifest/1") != 0 || !json_is_object(files))
        return mf_error_set(err, MF_ERR_MODEL, "manifest.json: not a medfusion.manifest/1");
    MF_AUTO(mf_sha256) struct mf_sha256 *model = mf_sha256_new();
    if (!model)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!check_files(dir, files, skip_weights, model, err))
        return false;
    mf_sha256_final(model, raw);
    mf_sha256_to_hex(raw, model_hash);
    return true;
}

bool mf_bundle_write_manifest(const char *dir, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    MF_AUTO(mf_json) json_t *files = json_object();
    char path[PATH_BYTES], hex[65];
    const char **paths;
    size_t count;
    if (!arena || !files)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!mf_bundle_list_files(dir, arena, &paths, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!hash_file(dir, paths[i], hex, err) ||
            json_object_set_new(files, paths[i], json_string(hex)) != 0)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    MF_AUTO(mf_json)
    json_t *manifest = json_pack("{s:s, s:O}", "schema", "medfusion.manifest/1", "files", files);
    MF_AUTO(mf_mem) char *text = manifest ? mf_json_text(manifest, 1) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    snprintf(path, sizeof path, "%s/manifest.sig", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    MF_AUTO(mf_file) FILE *f = fopen(path, "we");
    if (!f || fprintf(f, "%s\n", text) < 0 || fflush(f) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: cannot be written", path);
    return true;
}
