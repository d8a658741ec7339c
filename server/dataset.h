/*
 * Dataset: files on disk as one upload, for the command line. Every file is scanned by a decoder of
 * its own; what the scans found is put together into one index whose inputs are the files.
 */
#ifndef MF_SERVER_DATASET_H
#define MF_SERVER_DATASET_H

#include "core/auto.h"
#include "core/error.h"
#include "dicom/index.h"
#include "server/decoder.h"
#include "server/upload.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Files below the paths given, in the order of the paths and then by name. */
struct mf_file {
    char *path;
    bool named; /* given itself, not found in a directory */
};

struct mf_file_list {
    struct mf_file *files; /* owned */
    size_t count;
};

/* Directories are walked to the end, symbolic links followed, loops not. MF_ERR_NOT_FOUND names a
 * path that is not there. */
bool mf_file_list_collect(char *const paths[], size_t count, struct mf_file_list *ret,
                          struct mf_error *err) MF_CHECK_RESULT;
void mf_file_list_free(struct mf_file_list *list);

struct mf_dataset;

/* `address`: where a zygote listens. */
struct mf_dataset *mf_dataset_new(const char *address, struct mf_error *err) MF_CHECK_RESULT;
void mf_dataset_free(struct mf_dataset *dataset);

/* Scans one file. A file that was not named and is no DICOM is counted as skipped (true). False: it
 * is damaged or refused; the message names it. */
bool mf_dataset_add(struct mf_dataset *dataset, const struct mf_file *file, struct mf_error *err);

/* Everything added so far, object.input = number of the file. Valid until the next
 * mf_dataset_add(). */
const struct mf_index *mf_dataset_index(const struct mf_dataset *dataset);
size_t mf_dataset_skipped(const struct mf_dataset *dataset);

/* The `input` of struct mf_run, `context` being the dataset: opens the file and keeps it open until
 * mf_dataset_close_files(). */
int mf_dataset_input(void *dataset, uint32_t input, struct mf_error *err);
void mf_dataset_close_files(struct mf_dataset *dataset);

/* Scans a FHIR file (all of its patients are kept in ret->ehr). The message of a failure names the
 * file. */
bool mf_dataset_read_ehr(struct mf_dataset *dataset, const char *path, struct mf_upload *ret,
                         struct mf_error *err) MF_CHECK_RESULT;

/* The decoder that the dataset uses for scanning, with one connection. */
struct mf_decoder *mf_dataset_decoder(struct mf_dataset *dataset);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_file_list, struct mf_file_list, mf_file_list_free(p))
MF_AUTO_DEFINE(mf_dataset, struct mf_dataset *, mf_dataset_free(*p))

#endif
