/* Responses about jobs: the `medfusion.job/1` document, and results by Accept. */
#ifndef MF_SERVER_JOB_RESPONSE_H
#define MF_SERVER_JOB_RESPONSE_H

#include "core/buffer.h"
#include "fhir/report.h"
#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The document; NULL when out of memory. */
json_t *mf_job_to_json(const struct mf_job *job);

/* The job document with this status; 202 also gets Location. */
bool mf_respond_job(struct mf_request *request, int status, const struct mf_job *job,
                    struct mf_error *err) MF_CHECK_RESULT;

/* What the store has about the result of a job. */
struct mf_stored_result {
    struct mf_job job;
    struct mf_buffer text;  /* medfusion.result/1; empty unless succeeded and not purged */
    struct mf_buffer index; /* medfusion.scan/1, only when the request wants FHIR */
};

/* Whether this request wants the result as it is stored. */
bool mf_result_plain(const struct mf_request *request);

/* Reads it for this request, or takes it from request->ended; free it also after a failure. */
bool mf_stored_result_read(struct mf_request *request, const char *id, struct mf_stored_result *ret,
                           struct mf_error *err) MF_CHECK_RESULT;
/* A result that was read with its index, as a FHIR Bundle (fhir/report.h) that names the patient,
 * the order, and what it supersedes. The caller owns it. */
json_t *mf_stored_result_report(const struct mf_stored_result *stored, struct mf_store *store,
                                enum mf_fhir_bundle_type type,
                                struct mf_error *err) MF_CHECK_RESULT;
void mf_stored_result_free(struct mf_stored_result *stored);

/* The result, or why there is none. Failed and cancelled jobs give 409 with the problem (`late`: a
 * waiting POST gets the problem's own status); purged ones 410; others 409. The text is used up. */
bool mf_respond_result(struct mf_request *request, struct mf_stored_result *stored, bool late,
                       struct mf_error *err) MF_CHECK_RESULT;

/* Whether a result can be given as this request's Accept asks; else MF_ERR_NOT_ACCEPTABLE. */
bool mf_result_acceptable(const struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;

/* All that is kept of the job that the path names; memory of `arena`, which may hold
 * MF_RECORD_BYTES (NULL: out of memory). When it has no result the response says why and
 * *ret_answered is set. */
enum { MF_RECORD_BYTES = 512 << 20 };
bool mf_request_record(struct mf_request *request, struct mf_arena *arena,
                       struct mf_job_record *record, bool *ret_answered,
                       struct mf_error *err) MF_CHECK_RESULT;

/* The job that an answered request is about: in its path, or where its response says that it is; ""
 * when there is none. */
void mf_request_job(const struct mf_request *request, char job[MF_JOB_ID]);

/* The path parameter that names a job. MF_ERR_NOT_FOUND unless it looks like an id. */
const char *mf_request_job_id(const struct mf_request *request, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_stored_result, struct mf_stored_result, mf_stored_result_free(p))

#endif
