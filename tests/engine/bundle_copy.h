/* A bundle of tests/golden as a directory that can be opened: its files without the cases, and a
 * manifest. */
#ifndef MF_TESTS_ENGINE_BUNDLE_COPY_H
#define MF_TESTS_ENGINE_BUNDLE_COPY_H

#include "core/buffer.h"
#include "engine/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const BUNDLE_FILES[] = {"bundle.json",
                                           "segmenter/config.json",
                                           "segmenter/model.safetensors",
                                           "vision/config.json",
                                           "vision/model.safetensors",
                                           "temporal/config.json",
                                           "temporal/model.safetensors",
                                           "ehr/config.json",
                                           "ehr/model.safetensors",
                                           "ehr/features.json",
                                           "fusion/config.json",
                                           "fusion/model.safetensors"};
enum { BUNDLE_FILE_COUNT = sizeof BUNDLE_FILES / sizeof *BUNDLE_FILES, BUNDLE_EXTRA_COUNT = 6 };
static const char *const BUNDLE_EXTRA[BUNDLE_EXTRA_COUNT] = {"manifest.json",   "calibration.json",
                                                             "conformal.json",  "ood.json",
                                                             "adaptation.json", "reference.json"};

static inline bool write_text(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(data, 1, len, f) == len;
    return f && fclose(f) == 0 && ok;
}

/* Copies tests/golden/bundles/NAME into a new directory below /tmp, whose path goes to `dir`
 * ("/tmp/mf-bundle-XXXXXX"). */
static inline bool bundle_copy(const char *name, char dir[64])
{
    snprintf(dir, 64, "/tmp/mf-bundle-XXXXXX");
    if (!mkdtemp(dir))
        return false;
    for (int i = 0; i < BUNDLE_FILE_COUNT; i++) {
        char from[512], to[512];
        struct mf_buffer content;
        snprintf(from, sizeof from, MF_SOURCE_DIR "/tests/golden/bundles/%s/%s", name,
                 BUNDLE_FILES[i]);
        snprintf(to, sizeof to, "%s/%s", dir, BUNDLE_FILES[i]);
        mf_buffer_init(&content, 64 << 20);
        char *slash = strrchr(to + strlen(dir) + 1, '/');
        bool there = mf_buffer_read_file(&content, from, NULL);
        if (there && slash) {
            *slash = '\0';
            mkdir(to, 0755);
            *slash = '/';
        }
        bool ok = !there || write_text(to, content.data, content.len);
        mf_buffer_free(&content);
        if (!ok)
            return false;
    }
    return mf_bundle_write_manifest(dir, NULL);
}

static inline void bundle_remove(const char *dir)
{
    static const char *const DIRS[] = {"segmenter", "vision", "temporal", "ehr", "fusion"};
    char path[512];
    for (int i = 0; i < BUNDLE_FILE_COUNT + BUNDLE_EXTRA_COUNT; i++) {
        snprintf(path, sizeof path, "%s/%s", dir,
                 i < BUNDLE_FILE_COUNT ? BUNDLE_FILES[i] : BUNDLE_EXTRA[i - BUNDLE_FILE_COUNT]);
        unlink(path);
    }
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, DIRS[i]);
        rmdir(path);
    }
    rmdir(dir);
}

#endif
