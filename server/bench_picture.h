/* What `medfusion bench` measured, as a picture: a bar for each case, made up of its stages. */
#ifndef MF_SERVER_BENCH_PICTURE_H
#define MF_SERVER_BENCH_PICTURE_H

#include "core/error.h"

#include <jansson.h>

/*
 * Writes an SVG file. `document` is what --json prints: "model", "version", "device", "dtype" and
 * "cases", each {"case", "runs", "stages": {NAME: {"min_ms", "median_ms"}}}; the length of a part
 * is its median. A stage that did not run has no part.
 */
bool mf_bench_picture(const json_t *document, const char *path,
                      struct mf_error *err) MF_CHECK_RESULT;

#endif
