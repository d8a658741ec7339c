/* Responses about jobs: the `medfusion.job/1` document, and results by Accept. */
#ifndef MF_SERVER_JOB_RESPONSE_H
#define MF_SERVER_JOB_RESPONSE_H

#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The document; NULL when out of memory. */
json_t *mf_job_to_json(const struct mf_job *job);

/* The job document with this status; 202 also gets Location. */
bool mf_respond_job(struct mf_request *request, int status, const struct mf_job *job,
                    struct mf_error *err) MF_CHECK_RESULT;

/* The result, or why there is none: `text` is what mf_store_result() appended for a succeeded job
 * (it is emptied when it becomes the response). Failed and cancelled jobs give 409 with the problem
 * (`late`: a waiting POST gets the problem's own status); purged ones 410; others 409. */
bool mf_respond_result(struct mf_request *request, const struct mf_job *job, struct mf_buffer *text,
                       bool late, struct mf_error *err) MF_CHECK_RESULT;

/* Whether a result can be given as this request's Accept asks; else MF_ERR_NOT_ACCEPTABLE. */
bool mf_result_acceptable(const struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;

/* The path parameter that names a job. MF_ERR_NOT_FOUND unless it looks like an id. */
const char *mf_request_job_id(const struct mf_request *request, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
