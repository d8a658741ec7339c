/*
 * FHIR pull: what features need of a patient, from a configured server. A request names a server of
 * fhir.servers and a resource's id, never an address; pages are followed on that server only.
 *
 * Where the server offers Patient/$everything, that is asked, else (or when it gives more than
 * fits) one search a resource type, by the codes of the feature definitions (fhir_queries.h).
 */
#ifndef MF_SERVER_FHIR_PULL_H
#define MF_SERVER_FHIR_PULL_H

#include "core/feature.h"
#include "server/fhir_client.h"
#include "server/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_fhir_pull {
    struct mf_fhir_client *client;
    const char *server; /* NULL = the first one */
    /* Whose data: one of these. An encounter stands for its patient. */
    const char *patient, *encounter; /* "Patient/1" or "1"; "Encounter/1" or "1" */
    const char *patient_id;          /* as DICOM has it: an identifier of the Patient */
    const char *as_of;               /* dateTime: only what the server had then; NULL = now */
    const struct mf_registry *registry;
    const char *model; /* NULL or "" = whatever any bundle of the registry needs */
};

/* Appends the pages, as they came, to `out` (FHIR for a document, fhir/document.h); its ceiling is
 * what may come in all. MF_ERR_UNUSABLE: no such server, not a reference, several patients have the
 * identifier, or the server refuses; MF_ERR_NOT_FOUND: there is no such patient; MF_ERR_TOO_LARGE;
 * MF_ERR_UNAVAILABLE, MF_ERR_TIMEOUT, MF_ERR_IO: the server. */
bool mf_fhir_pull(const struct mf_fhir_pull *pull, struct mf_buffer *out,
                  struct mf_error *err) MF_CHECK_RESULT;

/* The reference "Patient/…" of the one Patient of the server that has this identifier, into
 * `ret`. *ret_found false: none has, or several have. */
bool mf_fhir_find(struct mf_fhir_client *client, long server, const char *patient_id, char ret[80],
                  bool *ret_found, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
