/*
 * Configuration: the table of keys. Adding a key is one row here and one member in config.h; files,
 * environment, command line, help and example follow.
 */
#include "server/config_keys.h"

#include <stddef.h>

#define TEXT MF_CONFIG_TEXT
#define INTEGER MF_CONFIG_INTEGER
#define LIST MF_CONFIG_LIST
#define AT(member) offsetof(struct mf_config, member)
#define GIB (INT64_C(1) << 30)
#define MIB (INT64_C(1) << 20)

const struct mf_config_key mf_config_keys[] = {
    {"http.listen", TEXT, AT(http.listen), "127.0.0.1:8080", 0, 0,
     "Address and port to listen on; port 0 takes a free one and prints it"},
    {"http.threads", INTEGER, AT(http.threads), "1", 1, 64,
     "Event loops that read and write sockets"},
    {"http.handlers", INTEGER, AT(http.handlers), "8", 1, 256,
     "Threads for uploads that wait for a decoder"},
    {"http.max_connections", INTEGER, AT(http.max_connections), "1024", 4, 65536,
     "Open connections in all"},
    {"http.max_connections_per_ip", INTEGER, AT(http.max_connections_per_ip), "256", 1, 65536,
     "Open connections of one address; raise it behind a proxy"},
    {"http.max_event_streams", INTEGER, AT(http.max_event_streams), "200", 0, 65536,
     "Clients that may follow jobs at once (/v1/events); of one tenant at most half"},
    {"http.header_timeout_s", INTEGER, AT(http.header_timeout_s), "10", 1, 600,
     "A request's header must be complete within this time"},
    {"http.idle_timeout_s", INTEGER, AT(http.idle_timeout_s), "30", 1, 3600,
     "A connection without a request is closed after this time"},
    {"http.drain_timeout_s", INTEGER, AT(http.drain_timeout_s), "20", 0, 3600,
     "How long a stop waits for requests that are running"},
    {"http.min_body_rate", INTEGER, AT(http.min_body_rate), "4096", 0, 1 * GIB,
     "Bytes a second that an upload must reach on average, header_timeout_s granted; else the "
     "connection is closed; 0 = any"},
    {"http.max_header_bytes", INTEGER, AT(http.max_header_bytes), "16384", 1024, 49152,
     "Names and values of a request's header fields; more is 431"},
    {"http.max_body_bytes", INTEGER, AT(http.max_body_bytes), "2147483648", 1024, 1024 * GIB,
     "Bytes of a request's body; more is 413"},
    {"http.max_parts", INTEGER, AT(http.max_parts), "10000", 1, 10000,
     "Parts of a multipart body; more is 413"},
    {"http.max_ehr_bytes", INTEGER, AT(http.max_ehr_bytes), "16777216", 1024, 256 * MIB,
     "Bytes of the part `ehr`; more is 413"},
    {"http.tls_certificate", TEXT, AT(http.tls_certificate), "off", 0, 0,
     "PEM file with the certificate (and its chain); with it only TLS 1.2 and 1.3 are spoken"},
    {"http.tls_key", TEXT, AT(http.tls_key), "off", 0, 0, "PEM file of its private key"},
    {"http.tls_client_ca", TEXT, AT(http.tls_client_ca), "off", 0, 0,
     "PEM file of the authorities whose certificates clients must show (mutual TLS); off = they "
     "need none"},
    {"http.expose", TEXT, AT(http.expose), "safe", 0, 0,
     "What may be reached from beyond loopback: safe = only with authentication and TLS; plain = "
     "without TLS (behind a proxy that speaks it); open = by anybody"},
    {"auth.keys", TEXT, AT(auth.keys), "off", 0, 0,
     "File of API keys (medfusion key add); with it or auth.trust every request must authenticate"},
    {"auth.trust", TEXT, AT(auth.trust), "off", 0, 0,
     "File of token issuers and SMART Backend Services clients, with their key sets"},
    {"auth.jwks_hosts", LIST, AT(auth.jwks_hosts), "", 0, 0,
     "Hosts that key sets may be fetched from (https, or http on loopback)"},
    {"auth.jwks_refresh_s", INTEGER, AT(auth.jwks_refresh_s), "300", 10, 86400,
     "Key sets are fetched anew after this time, and sooner for an unknown key"},
    {"quota.requests_per_minute", INTEGER, AT(quota.requests_per_minute), "0", 0, 1000000,
     "Requests of one tenant in a minute; more are refused with 429; 0 = any number"},
    {"quota.bytes_per_hour", INTEGER, AT(quota.bytes_per_hour), "0", 0, 1024 * GIB,
     "Bytes that one tenant may upload in an hour; more are refused with 429 before they are read; "
     "0 = any number"},
    {"audit.retention_s", INTEGER, AT(audit.retention_s), "0", 0, 3153600000,
     "Rows of the audit trail are removed after this time, its chain stays whole; 0 = never"},
    {"audit.syslog", TEXT, AT(audit.syslog), "off", 0, 0,
     "Audit repository that every row is sent to as a DICOM audit message (PS3.15 A.5): "
     "tls://host:port (RFC 5425), or tcp://127.0.0.1:port to a relay on this machine; off = none"},
    {"audit.syslog_ca", TEXT, AT(audit.syslog_ca), "off", 0, 0,
     "PEM file of the authorities that may vouch for it; off = the system's"},
    {"audit.syslog_certificate", TEXT, AT(audit.syslog_certificate), "off", 0, 0,
     "PEM file of the certificate that is shown to it; off = none"},
    {"audit.syslog_key", TEXT, AT(audit.syslog_key), "off", 0, 0, "PEM file of its private key"},
    {"data.directory", TEXT, AT(data.directory), "medfusion-data", 0, 0,
     "Database, payloads and sockets of the local processes; created when absent"},
    {"data.keys", TEXT, AT(data.keys), "off", 0, 0,
     "Key file (medfusion vault add) with which payloads and the database are encrypted "
     "(AES-256-GCM); off = they are not"},
    {"data.min_free_bytes", INTEGER, AT(data.min_free_bytes), "268435456", 0, 1024 * GIB,
     "Uploads are refused with 503 below this much free disk space"},
    {"data.orphan_age_s", INTEGER, AT(data.orphan_age_s), "3600", 60, 604800,
     "Payloads that belong to no job are removed after this time"},
    {"payloads.s3", TEXT, AT(payloads.s3), "off", 0, 0,
     "Bucket of an S3-compatible server that payloads are kept in: https://host/bucket or "
     "https://host/bucket/prefix; off = data.directory. Encrypted with data.keys before they go; "
     "what is in the directory already is still read"},
    {"payloads.s3_region", TEXT, AT(payloads.s3_region), "us-east-1", 0, 0,
     "Region of the bucket, for signatures"},
    {"payloads.s3_credentials", TEXT, AT(payloads.s3_credentials), "off", 0, 0,
     "File with aws_access_key_id and aws_secret_access_key (and aws_session_token), as the AWS "
     "tools have it; read anew when they are refused; off = the environment's AWS_ACCESS_KEY_ID "
     "and "
     "AWS_SECRET_ACCESS_KEY"},
    {"payloads.s3_ca", TEXT, AT(payloads.s3_ca), "off", 0, 0,
     "PEM file of the authorities that may vouch for the server; off = the system's"},
    {"payloads.s3_part_bytes", INTEGER, AT(payloads.s3_part_bytes), "67108864", 5 * 1048576,
     5 * GIB, "Larger payloads are put in parts of this size"},
    {"payloads.s3_timeout_s", INTEGER, AT(payloads.s3_timeout_s), "120", 1, 3600,
     "Longest time for one request to it"},
    {"store.database", TEXT, AT(store.database), "off", 0, 0,
     "PostgreSQL database (15 or later) that any number of hosts share, as libpq writes it: "
     "postgresql://user:password@host/name?sslmode=verify-full; off = SQLite in data.directory. "
     "data.keys does not encrypt it: its "
     "disk must be"},
    {"store.database_file", TEXT, AT(store.database_file), "off", 0, 0,
     "File whose first line is that connection string, to keep its password out of here"},
    {"jobs.max_queued", INTEGER, AT(jobs.max_queued), "1000", 1, 1000000,
     "Jobs that may wait; more are refused with 429. Tenants with little in a full queue may "
     "exceed "
     "it, by an eighth in all"},
    {"jobs.shares", TEXT, AT(jobs.shares), "off", 0, 0,
     "Shares of tenants in the queue, TENANT=SHARE between spaces (1 to 1000): while all have jobs "
     "of one priority waiting, a tenant of share 3 has three turns for each of another; who is not "
     "named has share 1"},
    {"jobs.lease_s", INTEGER, AT(jobs.lease_s), "30", 2, 3600,
     "A worker that is silent for this long loses its jobs"},
    {"jobs.max_crashes", INTEGER, AT(jobs.max_crashes), "3", 1, 100,
     "A job that crashes its worker this often while running alone fails"},
    {"jobs.max_losses", INTEGER, AT(jobs.max_losses), "20", 1, 1000,
     "A job whose worker was killed or lost this often fails"},
    {"jobs.retention_s", INTEGER, AT(jobs.retention_s), "2592000", 86400, 3153600000,
     "Finished jobs, their results and payloads are removed after this time"},
    {"models.directories", LIST, AT(models.directories), "", 0, 0,
     "Bundles to serve (in the environment and on the command line separated by ':')"},
    {"models.trusted_keys", LIST, AT(models.trusted_keys), "", 0, 0,
     "PEM files of Ed25519 public keys: only bundles that one of them signed are run, and none "
     "older "
     "than what has run here; empty = bundles need no signature"},
    {"worker.device", TEXT, AT(worker.device), "auto", 0, 0,
     "auto, cpu or cuda:N; auto is the first GPU that works, else the CPU. Several, separated by "
     "commas: workers take them by turns (cuda:0,cuda:1 with worker.count 2: one for each GPU, "
     "which takes no second)"},
    {"worker.count", INTEGER, AT(worker.count), "1", 0, 16,
     "Workers; those on the CPU share one copy of the packed weights; 0 = none "
     "here, "
     "they run on other hosts (medfusion worker)"},
    {"worker.threads", INTEGER, AT(worker.threads), "0", 0, 1024,
     "Threads of the CPU backend in each worker; 0 = as many as there are cores for it"},
    {"worker.dtype", TEXT, AT(worker.dtype), "f32", 0, 0,
     "f32, bf16, int8 (CPU) or fp8 (GPU from compute capability 8.9, and a bundle of \"model "
     "smooth\"): "
     "what large matrix products are computed in"},
    {"worker.kernels", TEXT, AT(worker.kernels), "auto", 0, 0,
     "auto, own or cudnn: what computes convolutions and attention on a GPU; auto is cuDNN where "
     "it is "
     "there and is faster as a rule (attention from compute capability 9.0), else the own kernels"},
    {"worker.batch", INTEGER, AT(worker.batch), "0", 0, 256,
     "Most jobs claimed at once; a GPU computes their images together; 0 = 8 on a GPU, else 1"},
    {"worker.batch_wait_ms", INTEGER, AT(worker.batch_wait_ms), "2", 0, 1000,
     "How long a GPU's worker that has claimed a job waits for others to compute with it; beside a "
     "STAT study it does not"},
    {"worker.job_timeout_s", INTEGER, AT(worker.job_timeout_s), "600", 1, 86400,
     "A job that runs longer fails and its worker is started again"},
    {"decoder.processes", INTEGER, AT(decoder.processes), "2", 1, 64,
     "Decoders that the front may use at once"},
    {"decoder.memory_bytes", INTEGER, AT(decoder.memory_bytes), "2147483648", 256 * MIB, 1024 * GIB,
     "Address space of a decoder"},
    {"decoder.cpu_s", INTEGER, AT(decoder.cpu_s), "20", 1, 3600,
     "CPU time of one scan or one request for frames"},
    {"decoder.max_objects", INTEGER, AT(decoder.max_objects), "10000", 1, 1000000,
     "DICOM objects of a request; more is 413"},
    {"decoder.max_total_bytes", INTEGER, AT(decoder.max_total_bytes), "1073741824", MIB, 1024 * GIB,
     "Bytes that the zips and deflated objects of a request may grow to; more is 413"},
    {"decoder.max_ratio", INTEGER, AT(decoder.max_ratio), "200", 10, 100000,
     "How many times its size a compressed member may grow to; more is 413"},
    {"trust.adaptation", TEXT, AT(trust.adaptation), "shadow", 0, 0,
     "Test-time adaptation: off, shadow (computed and reported, not used), episodic or site"},
    {"trust.feedback", TEXT, AT(trust.feedback), "record", 0, 0,
     "Feedback on results: record (kept, and compared in /v1/quality) or adapt (the conformal "
     "levels of each site follow it)"},
    {"routing.rules", TEXT, AT(routing.rules), "off", 0, 0,
     "JSON file of rules that choose model, destinations and priority by modality, body part, "
     "descriptions and AE titles (deploy/routing.example.json); off = none"},
    {"intake.quiet_s", INTEGER, AT(intake.quiet_s), "30", 0, 86400,
     "A study that was sent (STOW-RS, C-STORE) becomes a job when nothing of it came for so long"},
    {"dimse.listen", TEXT, AT(dimse.listen), "off", 0, 0,
     "Address and port for DICOM associations (C-ECHO, C-STORE, storage commitment), such as "
     "0.0.0.0:11112; off = "
     "none"},
    {"dimse.ae_title", TEXT, AT(dimse.ae_title), "MEDFUSION", 0, 0,
     "Our AE title; associations that call another are rejected"},
    {"dimse.called", LIST, AT(dimse.called), "", 0, 0,
     "Further AE titles that we may be called by; routing rules can tell them apart"},
    {"dimse.allow", LIST, AT(dimse.allow), "", 0, 0,
     "Calling AE titles that are accepted: AE, AE@address, or * for all"},
    {"dimse.tenant", TEXT, AT(dimse.tenant), "default", 0, 0,
     "The tenant that what comes by DICOM associations belongs to"},
    {"dimse.max_associations", INTEGER, AT(dimse.max_associations), "32", 1, 256,
     "Associations at once"},
    {"dimse.max_associations_per_ip", INTEGER, AT(dimse.max_associations_per_ip), "16", 1, 256,
     "Associations of one address at once"},
    {"dimse.max_per_minute", INTEGER, AT(dimse.max_per_minute), "1200", 1, 1000000,
     "New associations in a minute"},
    {"dimse.max_pdu", INTEGER, AT(dimse.max_pdu), "131072", 4096, 131072,
     "Bytes of a PDU that peers may send"},
    {"dimse.timeout_s", INTEGER, AT(dimse.timeout_s), "30", 1, 600,
     "An association on which nothing comes is aborted after this time"},
    {"dimse.max_object_bytes", INTEGER, AT(dimse.max_object_bytes), "2147483648", 1024, 1024 * GIB,
     "Bytes of an object; a larger one is refused with A700"},
    {"dimse.report_to", TEXT, AT(dimse.report_to), "off", 0, 0,
     "Where reports of storage commitments go: dicom(s)://AE@host:port between spaces; AE titles "
     "that are not among them get theirs on the association that asked; off = all of them do"},
    {"dimse.tls_certificate", TEXT, AT(dimse.tls_certificate), "off", 0, 0,
     "PEM file; with it associations must use TLS (BCP 195 profile)"},
    {"dimse.tls_key", TEXT, AT(dimse.tls_key), "off", 0, 0, "PEM file of its private key"},
    {"dimse.tls_ca", TEXT, AT(dimse.tls_ca), "off", 0, 0,
     "PEM file of the authorities whose certificates peers must show (needed for dicoms://); "
     "off = peers need none"},
    {"outbox.destinations", TEXT, AT(outbox.destinations), "off", 0, 0,
     "Where results go: addresses between spaces; as SR, SEG, SC … http(s)://host:port/dicom-web "
     "or dicom(s)://AE@host:port, with ?commit at its end only delivered once the peer has "
     "committed "
     "storage; as a FHIR transaction fhir:NAME (of fhir.servers); as HL7 v2 "
     "ORU^R01 mllp://host:port[/APPLICATION[/FACILITY]]; here: keeps them beside the images that "
     "are stored here, for QIDO-RS and WADO-RS; the news that a job has ended "
     "webhook:NAME "
     "(of outbox.webhooks); TENANT= before those of a tenant that is not the default one; off = "
     "nowhere"},
    {"outbox.webhooks", TEXT, AT(outbox.webhooks), "off", 0, 0,
     "JSON file of webhooks: {\"NAME\": {\"url\", \"secret_file\", \"ca_file\"}}; off = none"},
    {"outbox.deidentify", TEXT, AT(outbox.deidentify), "off", 0, 0,
     "Those of outbox.destinations whose DICOM objects are de-identified (PS3.15 annex E), between "
     "spaces and without TENANT=; off = none"},
    {"outbox.timeout_s", INTEGER, AT(outbox.timeout_s), "60", 1, 3600,
     "How long one delivery may take"},
    {"outbox.commit_s", INTEGER, AT(outbox.commit_s), "3600", 1, 604800,
     "Objects whose storage is not committed within this time are sent again"},
    {"outbox.commit_wait_s", INTEGER, AT(outbox.commit_wait_s), "5", 0, 600,
     "How long the association that asked for a commitment is kept open for the report"},
    {"outbox.retry_s", INTEGER, AT(outbox.retry_s), "5", 1, 3600,
     "Pause after a delivery that failed; it doubles each time, up to 1 h"},
    {"outbox.max_attempts", INTEGER, AT(outbox.max_attempts), "60", 1, 10000,
     "A delivery that failed so often is given up"},
    {"deidentify.secret_file", TEXT, AT(deidentify.secret_file), "off", 0, 0,
     "File with a secret of at least 16 bytes: new UIDs, pseudonyms and date shifts follow from "
     "it, "
     "so that objects of one patient still belong together; off = none"},
    {"deidentify.dates", TEXT, AT(deidentify.dates), "remove", 0, 0,
     "What happens to dates and times: remove, shift (by days that depend on the patient) or keep"},
    {"deidentify.characteristics", TEXT, AT(deidentify.characteristics), "remove", 0, 0,
     "The patient's sex, age, size and weight: remove or keep"},
    {"deidentify.stored", TEXT, AT(deidentify.stored), "off", 0, 0,
     "on: objects that come (STOW-RS, C-STORE, POST /v1/jobs) are de-identified before they are "
     "kept, what cannot be is refused, and FHIR data is not taken; off: only the jobs whose option "
     "\"deidentify\" asks for it"},
    {"fetch.sources", TEXT, AT(fetch.sources), "off", 0, 0,
     "Servers that jobs may be fetched from: NAME=ADDRESS between spaces, TENANT/NAME=ADDRESS for "
     "a "
     "tenant that is not the default one; ADDRESS: http(s)://host/path of a DICOMweb server, "
     "dicom(s)://AE@host:port for C-FIND and C-GET, with ?move at its end for C-MOVE to "
     "dimse.ae_title; off = none"},
    {"fetch.timeout_s", INTEGER, AT(fetch.timeout_s), "120", 1, 3600,
     "How long fetching one study may take, and its priors each"},
    {"fetch.max_priors", INTEGER, AT(fetch.max_priors), "4", 0, 31,
     "Earlier studies of the patient that are fetched with a study"},
    {"fetch.priors_timeout_s", INTEGER, AT(fetch.priors_timeout_s), "30", 0, 600,
     "How long the first of fetch.sources may take, in all, for the priors of a study that was "
     "stored "
     "here (STOW-RS, C-STORE); without an answer the study runs, flagged priors_unavailable; 0 = "
     "it is not asked"},
    {"ups.manager", TEXT, AT(ups.manager), "off", 0, 0,
     "UPS-RS manager (PS3.18 11) whose work items are performed: http(s)://host/dicom-web; off = "
     "none"},
    {"ups.tenant", TEXT, AT(ups.tenant), "default", 0, 0, "Tenant of the jobs that come of it"},
    {"ups.codes", LIST, AT(ups.codes), "", 0, 0,
     "Scheduled work item codes that are claimed: CODE^SCHEME, or CODE^SCHEME=MODEL where the code "
     "decides the model; none = any, then ups.stations must name some"},
    {"ups.stations", LIST, AT(ups.stations), "", 0, 0,
     "Scheduled station names, CODE^SCHEME, of which a work item must have one; none = any"},
    {"ups.source", TEXT, AT(ups.source), "off", 0, 0,
     "Name in fetch.sources that inputs come from where the work item names no other of them; off "
     "= "
     "the tenant's first"},
    {"ups.outputs", TEXT, AT(ups.outputs), "off", 0, 0,
     "Where the objects of a work item are stored before it is completed: http(s)://host/dicom-web "
     "or dicom(s)://AE@host:port between spaces; the one that the work item names, else the first"},
    {"ups.authorization_file", TEXT, AT(ups.authorization_file), "off", 0, 0,
     "File whose first line is the Authorization header for the manager (https, or this machine), "
     "read anew for each request; off = none"},
    {"ups.ca", TEXT, AT(ups.ca), "off", 0, 0,
     "PEM file of the authorities that may vouch for the manager; off = the system's"},
    {"ups.poll_s", INTEGER, AT(ups.poll_s), "10", 1, 3600,
     "How often the manager is asked; where it fails the pause doubles, up to 5 min"},
    {"ups.timeout_s", INTEGER, AT(ups.timeout_s), "20", 1, 600,
     "How long one request to the manager may take"},
    {"ups.max_claimed", INTEGER, AT(ups.max_claimed), "4", 1, 64,
     "Work items that are held at once"},
    {"ups.give_up_s", INTEGER, AT(ups.give_up_s), "3600", 1, 604800,
     "A work item whose inputs cannot be fetched, or whose objects cannot be stored, for so long "
     "is "
     "canceled"},
    {"fhir.servers", TEXT, AT(fhir.servers), "off", 0, 0,
     "JSON file of the FHIR servers that data is pulled from and results are pushed to "
     "(deploy/fhir-servers.example.json); off = none"},
    {"fhir.source", TEXT, AT(fhir.source), "off", 0, 0,
     "Name of the server that is asked for the patients of stored studies; off = none"},
    {"fhir.timeout_s", INTEGER, AT(fhir.timeout_s), "30", 1, 600,
     "How long one exchange with a FHIR server may take"},
    {"trace.endpoint", TEXT, AT(trace.endpoint), "off", 0, 0,
     "OpenTelemetry collector: URL for spans of requests and jobs (OTLP/HTTP as JSON, "
     "http://host:4318/v1/traces); off = none"},
    {"trace.ca", TEXT, AT(trace.ca), "off", 0, 0,
     "PEM file of the authorities that may vouch for it; off = the system's"},
    {"trace.percent", INTEGER, AT(trace.percent), "100", 0, 100,
     "How many of the traces that begin here are recorded; what comes with a traceparent follows "
     "that"},
    {"ehr.identifier_systems", TEXT, AT(ehr.identifier_systems), "off", 0, 0,
     "Systems, between spaces, of the FHIR patient's identifiers that may be the study's PatientID "
     "(urn:oid:1.2.3 https://hospital.example/mrn); off = any"},
    {"ehr.mismatch", TEXT, AT(ehr.mismatch), "refuse", 0, 0,
     "FHIR data without the study's patient: refuse (422) or report (the study is run without it, "
     "quality flag ehr_of_another_patient)"},
    {"log.level", TEXT, AT(log.level), "info", 0, 0,
     "What is logged, on stderr as JSON lines: debug, info, warn or error, and what is worse"},
};

const size_t mf_config_key_count = sizeof mf_config_keys / sizeof *mf_config_keys;
