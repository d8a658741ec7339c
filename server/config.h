/*
 * Configuration: one table (config.c) holds every key with its type, default, range and help; the
 * JSON file, the environment, the command line, `--help-config` and deploy/config.example.json all
 * follow from it.
 *
 * Order of preference: command line > environment (MEDFUSION_SECTION_KEY) > file > default. An
 * unknown key, a value of the wrong type or out of range fails with MF_ERR_USAGE and names the key
 * and where it stood.
 */
#ifndef MF_SERVER_CONFIG_H
#define MF_SERVER_CONFIG_H

#include "core/arena.h"
#include "core/auto.h"
#include "core/buffer.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_string_list {
    const char *const *items;
    size_t count;
};

/* Whose FHIR data may be used for a study. */
struct mf_config_ehr {
    const char *identifier_systems; /* whose identifiers may be the PatientID, between spaces; or
                                       "off" = any */
    const char *mismatch;           /* refuse | report */
};

struct mf_config {
    struct mf_arena *arena; /* owns every string */

    struct {
        const char *listen; /* "address:port", "[::1]:port"; port 0 = any free one */
        int64_t threads;    /* event loops that read and write sockets */
        int64_t handlers;   /* threads for uploads that wait for a decoder */
        int64_t max_connections, max_connections_per_ip, max_event_streams;
        int64_t header_timeout_s, idle_timeout_s, drain_timeout_s;
        int64_t min_body_rate; /* bytes a second, averaged after the first header_timeout_s */
        int64_t max_header_bytes, max_body_bytes, max_parts, max_ehr_bytes;
        const char *tls_certificate, *tls_key, *tls_client_ca; /* PEM files, or "off" */
        const char *expose; /* what is allowed beyond loopback: safe | plain | open (access.h) */
    } http;

    struct {
        const char *keys;  /* file of API keys (api_keys.h), or "off" */
        const char *trust; /* file of issuers and clients (trust_file.h), or "off" */
        struct mf_string_list jwks_hosts;
        int64_t jwks_refresh_s;
    } auth;

    struct {
        int64_t requests_per_minute, bytes_per_hour; /* of each tenant; 0 = no limit */
    } quota;

    struct {
        int64_t retention_s; /* 0 = for ever */
        const char *syslog;  /* "off", or an address (syslog_client.h) */
        const char *syslog_ca, *syslog_certificate, *syslog_key; /* PEM files, or "off" */
    } audit;

    struct {
        const char *directory;  /* database, payloads and sockets of the local processes */
        const char *keys;       /* file of the keys that stored data is encrypted with, or "off" */
        int64_t min_free_bytes; /* uploads are refused below this much free space */
        int64_t orphan_age_s;   /* payloads that no job refers to are removed after this time */
    } data;

    struct {
        const char *s3; /* "off", or the address of a bucket (s3_settings.h) */
        const char *s3_region, *s3_credentials, *s3_ca;
        int64_t s3_part_bytes, s3_timeout_s;
    } payloads;

    struct {
        const char *database;      /* "off", or libpq's connection string: a secret, never told */
        const char *database_file; /* "off", or a file that holds it */
    } store;

    struct {
        int64_t max_queued; /* more → 429 */
        const char *shares; /* of tenants in the queue (shares.h), or "off" */
        int64_t lease_s, max_crashes, max_losses;
        int64_t retention_s; /* finished jobs and their payloads are removed after this time */
    } jobs;

    struct {
        struct mf_string_list directories;  /* bundles */
        struct mf_string_list trusted_keys; /* PEM files; none = bundles need no signature */
    } models;

    struct {
        const char *device;  /* auto | cpu | cuda:N, or several with commas */
        const char *dtype;   /* f32 | bf16 | int8 | fp8 */
        const char *kernels; /* auto | own | cudnn */
        int64_t count;       /* workers */
        int64_t threads;     /* of the CPU backend in each; 0 = its share of all cores */
        int64_t batch;       /* most jobs claimed at once; 0 = 1 on the CPU, 8 on a GPU */
        int64_t batch_wait_ms;
        int64_t job_timeout_s;
    } worker;

    struct {
        int64_t processes;
        int64_t memory_bytes, cpu_s; /* rlimits of one scan or one frame request */
        int64_t max_objects, max_total_bytes, max_ratio; /* of an upload after inflating */
    } decoder;

    struct {
        const char *adaptation; /* off | shadow | episodic | site */
        const char *feedback;   /* record | adapt */
    } trust;

    struct {
        const char *rules; /* "off", or a file (routing.h) */
    } routing;

    struct {
        int64_t quiet_s; /* a stored study is complete when nothing of it came for so long */
    } intake;

    struct mf_config_ehr ehr;

    struct {
        const char *listen; /* "off", or "address:port" */
        const char *ae_title;
        struct mf_string_list called; /* AE titles that are ours, too */
        struct mf_string_list allow;  /* calling AE titles: "*", "AE", "AE@address" */
        const char *tenant;
        int64_t max_associations, max_associations_per_ip, max_per_minute;
        int64_t max_pdu, timeout_s, max_object_bytes;
        const char *report_to; /* "off", or dicom:// addresses between spaces */
        const char *tls_certificate, *tls_key, *tls_ca; /* PEM files, or "off" */
    } dimse;

    struct {
        const char *destinations; /* "off", or addresses between spaces */
        const char *webhooks;     /* "off", or a file (webhooks.h) */
        const char *deidentify;   /* "off", or those of the destinations */
        int64_t timeout_s, retry_s, max_attempts;
        int64_t commit_s, commit_wait_s; /* for reports of storage commitments */
    } outbox;

    struct {
        const char *secret_file;     /* or "off" */
        const char *dates;           /* remove | shift | keep */
        const char *characteristics; /* remove | keep */
        const char *stored;          /* off | on */
    } deidentify;

    struct {
        const char *sources; /* "off", or as fetch_source.h says */
        int64_t timeout_s, max_priors;
        int64_t priors_timeout_s; /* for those of stored studies; 0 = they are not asked for */
    } fetch;

    struct {
        const char *manager; /* "off", or the base URL of a UPS-RS manager */
        const char *tenant;
        struct mf_string_list codes;         /* "CODE^SCHEME" or "CODE^SCHEME=MODEL" */
        struct mf_string_list stations;      /* "CODE^SCHEME" */
        const char *source;                  /* of fetch.sources; "off" = the first one */
        const char *outputs;                 /* "off", or addresses between spaces */
        const char *authorization_file, *ca; /* or "off" */
        int64_t poll_s, timeout_s, max_claimed, give_up_s;
    } ups;

    struct {
        const char *servers; /* "off", or a file (fhir_servers.h) */
        const char
            *source; /* "off", or the server that is asked about patients of stored studies */
        int64_t timeout_s;
    } fhir;

    struct {
        const char *endpoint; /* "off", or the URL that spans are POSTed to */
        const char *ca;       /* PEM file, or "off" */
        int64_t percent;      /* of the traces that begin here */
    } trace;

    struct {
        const char *level; /* debug | info | warn | error */
    } log;
};

/* All defaults; NULL when out of memory. */
struct mf_config *mf_config_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_config_free(struct mf_config *config);

/* Each call overrides what was set before, so call them in this order. */
bool mf_config_load_file(struct mf_config *config, const char *path,
                         struct mf_error *err) MF_CHECK_RESULT;
/* environment: NULL-terminated "NAME=value" strings; lists are separated by ':'. A name that begins
 * with MEDFUSION_ and is no key is an error. */
bool mf_config_load_environment(struct mf_config *config, char *const *environment,
                                struct mf_error *err) MF_CHECK_RESULT;
/* One value as text; `key` is "section.key". On the command line this is `--section.key VALUE`. */
bool mf_config_set(struct mf_config *config, const char *key, const char *value,
                   struct mf_error *err) MF_CHECK_RESULT;
/* Calls `visit` with every text of the configuration, those of lists one by one. */
void mf_config_each_text(const struct mf_config *config,
                         void (*visit)(void *context, const char *key, const char *text),
                         void *context);

/* Whether a daemon that runs with `old` can go on with `wanted`: what the store holds and what is
 * listened on stays as it is. MF_ERR_USAGE names the key that differs. */
bool mf_config_check_reload(const struct mf_config *old, const struct mf_config *wanted,
                            struct mf_error *err) MF_CHECK_RESULT;
/* Whether "section.key" is in the table. */
bool mf_config_has(const char *key);

/* Whether the jobs are in a PostgreSQL database. */
bool mf_config_has_database(const struct mf_config *config);
/* Its connection string (the caller frees it), from the key or the file; *ret NULL: there is none.
 * What is in it is never part of an error. */
bool mf_config_database(const struct mf_config *config, char **ret,
                        struct mf_error *err) MF_CHECK_RESULT;

/* The table as Markdown (README, `--help-config`), and as an example file with all defaults. */
bool mf_config_help(struct mf_buffer *out, struct mf_error *err) MF_CHECK_RESULT;
bool mf_config_example(struct mf_buffer *out, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_config, struct mf_config *, mf_config_free(*p))

#endif
