/*
 * De-identification of objects on their way out, done by a sandboxed decoder (its fifth verb).
 */
#ifndef MF_SERVER_DEIDENTIFY_H
#define MF_SERVER_DEIDENTIFY_H

#include "dicom/deidentify.h"
#include "server/config.h"
#include "server/decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Appends the part (one Part 10 file), de-identified, to `ret`. Errors are those of mf_deidentify()
 * and of the decoder. */
bool mf_deidentify_part(struct mf_decoder *decoder, const struct mf_part *part,
                        const struct mf_deidentify_rules *rules, struct mf_buffer *ret,
                        struct mf_error *err) MF_CHECK_RESULT;

/* The same for an object in memory, whose bytes become the de-identified ones. */
bool mf_deidentify_buffer(struct mf_decoder *decoder, const struct mf_deidentify_rules *rules,
                          struct mf_buffer *file, struct mf_error *err) MF_CHECK_RESULT;

/* The rules of a secret in a file and of the options' names. MF_ERR_USAGE or MF_ERR_IO name the
 * file. */
bool mf_deidentify_load(const char *secret_file, const char *dates, const char *characteristics,
                        struct mf_deidentify_rules *ret, struct mf_error *err) MF_CHECK_RESULT;

/* Whether what goes to this destination is to be de-identified: it stands in outbox.deidentify. */
bool mf_deidentify_wants(const struct mf_config *config, const char *destination);

/* Checks outbox.deidentify and, where it is not "off", loads the rules: every address there must be
 * one of outbox.destinations, and a DICOM one, since FHIR and HL7 v2 say who the patient is. */
bool mf_deidentify_configure(const struct mf_config *config, struct mf_deidentify_rules *ret,
                             struct mf_error *err) MF_CHECK_RESULT;

/* Whether all that is stored is to be de-identified (deidentify.stored). */
bool mf_deidentify_stores(const struct mf_config *config);
/* The rules by which objects that are stored are de-identified: those of the section `deidentify`.
 * MF_ERR_USAGE without deidentify.secret_file. */
bool mf_deidentify_configured(const struct mf_config *config, struct mf_deidentify_rules *ret,
                              struct mf_error *err) MF_CHECK_RESULT;
struct mf_job_input;
struct mf_pack;

/* The inputs of an upload, which lie in `fd`, into `pack`: DICOM de-identified, options as they
 * are; each then names its new place. MF_ERR_UNUSABLE: there is FHIR data, which says who the
 * patient is, or a zip; else as mf_deidentify_part(). */
bool mf_deidentify_upload(struct mf_decoder *decoder, const struct mf_deidentify_rules *rules,
                          int fd, struct mf_job_input *inputs, size_t n, struct mf_pack *pack,
                          struct mf_error *err) MF_CHECK_RESULT;

/* Whether deidentify.stored is understood, and fits to the rest of the configuration. */
bool mf_deidentify_stored_check(const struct mf_config *config,
                                struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
