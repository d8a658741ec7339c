/*
 * libmedfusion: MedFusion inside another program. A study in (DICOM, and FHIR R4 if there is any),
 * a calibrated result out, exactly as the daemon and `medfusion predict` give it.
 *
 *     struct medfusion *m = medfusion_open("models/thorax-nih", NULL, &problem);
 *     struct medfusion_part parts[] = {{MEDFUSION_DICOM, "chest.dcm", NULL, 0}};
 *     char *result = medfusion_predict(m, parts, 1, NULL, &problem);
 *     …
 *     medfusion_free(result);
 *     medfusion_close(m);
 *
 * All texts are UTF-8 JSON: a result is a `medfusion.result/1`, a problem a `medfusion.problem/1`
 * (RFC 9457) whose "detail" is one sentence without patient data. Their JSON Schemas are installed
 * in share/medfusion/schemas. Every text that is returned is the caller's: give it back with
 * medfusion_free().
 *
 * What comes from outside is parsed in sandboxed processes of the program `medfusion`, which is
 * installed with the library.
 *
 * Research use only. MedFusion is not a medical device.
 */
#ifndef MEDFUSION_H
#define MEDFUSION_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
const char *medfusion_version(void);

/* How a model is run. Set `size` to sizeof(struct medfusion_settings) and what is not wanted to
 * zero. */
struct medfusion_settings {
    size_t size;
    const char *device;  /* "cpu", "cuda:0"; NULL: the first GPU that works, else the CPU */
    const char *dtype;   /* "f32", "bf16", "int8"; NULL: f32 */
    unsigned threads;    /* of the CPU; 0: all cores this process may use */
    const char *program; /* the program `medfusion`; NULL: $MEDFUSION_PROGRAM, else the one beside
                            this library (../bin/medfusion, or in the same folder), else the
                            installed one. The first call decides for the whole process. */
};

struct medfusion;

/* Opens a model bundle (a directory). `settings` NULL: defaults. NULL on failure; *ret_problem,
 * unless ret_problem is NULL, is then a problem. */
struct medfusion *medfusion_open(const char *bundle, const struct medfusion_settings *settings,
                                 char **ret_problem);
void medfusion_close(struct medfusion *m); /* NULL is fine; no call may be under way */

enum medfusion_kind {
    MEDFUSION_DICOM = 0, /* a DICOM Part 10 file, or a zip of them */
    MEDFUSION_EHR = 1    /* a FHIR R4 Bundle; at most one */
};

/* One input: the file at `path`, or `size` bytes at `data` when `path` is NULL. */
struct medfusion_part {
    int kind; /* enum medfusion_kind */
    const char *path;
    const void *data;
    size_t size;
};

/* Analyses one patient: the newest usable study among the parts is reported, earlier ones are its
 * priors. `options` is JSON as in POST /v1/jobs ({"alpha": 0.05, "priors": true}), or NULL. NULL on
 * failure, as above. May be called from several threads; a handle runs one study at a time. */
char *medfusion_predict(struct medfusion *m, const struct medfusion_part *parts, size_t count,
                        const char *options, char **ret_problem);

/* Gives a returned text back. NULL is fine. */
void medfusion_free(char *text);

#ifdef __cplusplus
}
#endif

#endif
