/* Private to POST /v1/jobs: an upload on its way, and what may be done before its body is whole. */
#ifndef MF_SERVER_ENDPOINT_JOBS_BODY_H
#define MF_SERVER_ENDPOINT_JOBS_BODY_H

#include "server/multipart.h"
#include "server/services.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_POSTED_OPTIONS = 64 << 10 }; /* bytes of the part "options", or of a body of JSON */

struct mf_posted {
    struct mf_request *request;
    struct mf_multipart *multipart; /* NULL: the body is one zip */
    struct mf_pack *pack;
    struct mf_job_input *inputs;
    size_t input_count, input_capacity;
    struct mf_pack_member member;     /* the part being received */
    uint64_t part_bytes, total_bytes; /* of all parts: what is fetched has no other bound */
    char part[MF_MULTIPART_NAME];
    bool has_ehr, has_options;
    bool reference; /* the body is JSON that says what to fetch; it is kept in `options` */
    bool pulled;    /* the part "ehr" came from a FHIR server */
    bool has_priority;
    bool deidentify; /* before anything is kept */
    bool unhashed;   /* the digests of the inputs are still to be made */
    struct mf_error hash_error;
    struct mf_buffer options;
    const char *key; /* reserved Idempotency-Key, or NULL */
};

/* Parts of a multipart body, or what stands for one; the context is the upload. */
extern const struct mf_multipart_sink mf_posted_sink;
bool mf_posted_part_begin(void *context, const char *name, struct mf_error *err) MF_CHECK_RESULT;
bool mf_posted_part_data(void *context, const void *data, size_t len,
                         struct mf_error *err) MF_CHECK_RESULT;
bool mf_posted_part_end(void *context, struct mf_error *err) MF_CHECK_RESULT;

/* Where it is remembered that there is no room in the queue for this tenant. */
uint64_t *mf_posted_full_slot(struct mf_services *services, const char *tenant);

/* Of the endpoint: refuses what can be refused before the body, then takes the body. */
bool mf_posted_begin(struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;
bool mf_posted_data(struct mf_request *request, const void *bytes, size_t len,
                    struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
