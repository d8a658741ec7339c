/*
 * What endpoints work with besides their request: made by front.c, or by a test with stand-ins.
 */
#ifndef MF_SERVER_SERVICES_H
#define MF_SERVER_SERVICES_H

#include "core/buffer.h"
#include "server/blobs.h"
#include "server/config.h"
#include "server/intake.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/monitor_metrics.h"
#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_FULL_SLOTS = 64 };

/* An upload to be judged before it is accepted. */
struct mf_scan {
    int fd; /* of the pack; inputs lie at their offsets */
    const struct mf_job_input *inputs;
    size_t input_count;
    const char *options; /* JSON text */
    size_t options_len;
    const char *tenant; /* whose it is */
    bool ahead;         /* have its frames decoded ahead of the job */
    /* What its thread may do while it waits for a decoder, at most once; NULL: nothing. */
    void (*meanwhile)(void *context);
    void *meanwhile_context;
};

/* What a scan found out. */
struct mf_scanned {
    struct mf_buffer index;       /* initialised by the caller, and the caller's to free */
    char model[MF_MODEL_NAME];    /* the bundle that will run */
    const struct mf_route *route; /* the routing rule that fits; NULL = none */
    int frames_ahead; /* a connection on which the frames were asked for (decoder.h), the
                         caller's to close or to pass on; −1 = none */
};

/* Scans an upload and decides how it will be run. Called from several threads at once. */
struct mf_scanner {
    bool (*scan)(void *context, const struct mf_scan *scan, struct mf_scanned *ret,
                 struct mf_error *err);
    void *context;
    void (*prepare)(void *context); /* makes ready for the next scan; NULL = nothing to do */
};

struct mf_auth;
struct mf_feed;
struct mf_route;
struct mf_fhir_client;
struct mf_quota;
struct mf_registry;
struct mf_trace;
struct mf_ups_gauges;
struct mf_deidentify_rules;

/* A model that is served, for /v2/models. */
struct mf_served_model {
    const char *name, *version, *digest;
};

struct mf_services {
    const struct mf_config *config;
    struct mf_blobs *blobs;
    struct mf_scanner scanner;
    struct mf_describer describer;
    struct mf_decoder *decoder; /* for metadata; NULL in tests */
    /* By which uploads are de-identified; NULL: there is no secret. */
    const struct mf_deidentify_rules *deidentify;
    struct mf_fhir_client *fhir;        /* of fhir.servers */
    const char *query;                  /* address of the process of query.h; NULL: none runs */
    const struct mf_registry *registry; /* descriptions of the bundles; NULL in tests */
    struct mf_auth *auth;               /* NULL: nobody has to authenticate */
    struct mf_quota *quota;             /* NULL: none */
    struct mf_feed *feed;               /* for those who follow jobs; NULL in tests */
    struct mf_keys *keys;               /* idempotency keys of requests under way */
    struct mf_metrics *metrics;
    struct mf_monitor *monitor;
    const struct mf_ups_gauges *ups_gauges; /* NULL in tests */
    struct mf_trace *trace;                 /* NULL: none */
    const struct mf_served_model *models;
    size_t model_count;
    int64_t generation; /* successful reloads before this front */
    void (*stop)(
        void);      /* ends this process: the disk failed in a way that must not be tried again */
    int draining;   /* atomic: no new work */
    int64_t queued; /* atomic: length of the queue as last seen */
    uint64_t full_seen_ns[MF_FULL_SLOTS]; /* atomic: when there was no room in it for the tenants
                                             whose names fall on the slot; 0 = there is */
};

/* Makes ready for the next upload, when the answer to one is on its way: a decoder, and a pack
 * whose name is durable. */
void mf_services_prepare(struct mf_services *services);

/* Whether a worker is ready for the model (any model: NULL = all of them). */
bool mf_services_ready(const struct mf_services *services, struct mf_store *store,
                       struct mf_arena *arena, const char *model, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
