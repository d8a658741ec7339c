/*
 * Courier: the inputs of a job to be, and the job. Inputs are ranges of packs: of stored instances,
 * of what is fetched here from a source, of what a FHIR server knows of the patient.
 */
#ifndef MF_SERVER_COURIER_COLLECT_H
#define MF_SERVER_COURIER_COLLECT_H

#include "server/blobs.h"
#include "server/config.h"
#include "server/decoder.h"
#include "server/fetch.h"
#include "server/fhir_client.h"
#include "server/registry.h"
#include "server/routing.h"
#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What jobs are made with; each thread of the courier that makes some has its own. */
struct mf_courier_tools {
    const struct mf_config *config;
    const char *query; /* address of the process of query.h; NULL: none runs */
    struct mf_registry *registry;
    struct mf_routing *routing;
    struct mf_decoder *decoder;
    struct mf_blobs *blobs;
    struct mf_store *store;
    struct mf_fhir_client *fhir; /* of fhir.servers */
};

/* Opens them; `decoder_address`: of the decoders' zygote (decoder.h). Close them also after a
 * failure. */
bool mf_courier_tools_open(struct mf_courier_tools *tools, const struct mf_config *config,
                           const char *decoder_address, const char *query,
                           struct mf_error *err) MF_CHECK_RESULT;
void mf_courier_tools_close(struct mf_courier_tools *tools);

enum { MF_COLLECTION_PACKS = 40 };

struct mf_collection {
    const struct mf_courier_tools *tools;
    const char *tenant;
    struct mf_arena *arena;
    struct mf_job_input *inputs;
    size_t count;
    size_t current; /* so many inputs are of the study itself, the others of its priors */
    /* private */
    size_t capacity;
    struct mf_pack *packs[MF_COLLECTION_PACKS]; /* made here; kept when a job refers to them */
    size_t pack_count;
    struct mf_pack *ehr; /* what the FHIR server gave; NULL = nothing */
    struct mf_job_input ehr_input;
    int ehr_fd;
    const char *locators[MF_DECODER_MAX_FDS];
    int fds[MF_DECODER_MAX_FDS];
    size_t fd_count;
};

/* An empty one; all is borrowed. Close it also after a failure. */
void mf_collection_init(struct mf_collection *l, const struct mf_courier_tools *tools,
                        const char *tenant, struct mf_arena *arena);
void mf_collection_close(struct mf_collection *l);

bool mf_collection_add(struct mf_collection *l, const struct mf_job_input *input,
                       struct mf_error *err) MF_CHECK_RESULT;

/* Runs `fetch` (fetch.h, with `wanted` as its argument, whose sink is set here) and adds the
 * objects that it brings. On failure nothing is added. */
bool mf_collection_fetch(struct mf_collection *l, struct mf_fetch *wanted,
                         bool (*fetch)(const struct mf_fetch *wanted, struct mf_error *err),
                         struct mf_error *err) MF_CHECK_RESULT;

/* Asks the server of fhir.source about the patient; without an answer the job does without. */
void mf_collection_ask_fhir(struct mf_collection *l, const char *patient_id);

/* How the job is to be. */
struct mf_job_wish {
    const char *study;                /* that must be reported; NULL: the newest one */
    const char *patient;              /* whose it must be (PatientID); NULL or "": not said */
    struct mf_route_titles titles;    /* of the association that brought it */
    const char *options;              /* JSON text */
    const enum mf_priority *priority; /* NULL: as the routing rules say */
    const char *key;                  /* its idempotency key, which no client can have */
};

/* Judges the inputs as an upload is judged and submits the job; without the priors or the FHIR data
 * where these cannot be used. The same key gives the same job. MF_ERR_IO, MF_ERR_UNAVAILABLE,
 * MF_ERR_NO_MEMORY: our trouble, it may be tried again; others: why there can be no job. */
bool mf_collection_submit(struct mf_collection *l, const struct mf_job_wish *wish,
                          struct mf_submitted *ret, struct mf_error *err) MF_CHECK_RESULT;
bool mf_collection_may_pass(enum mf_code code);

#ifdef __cplusplus
}
#endif

#endif
