/* A stored result as a document for another system: whose it is comes from the index of its upload.
 * For endpoints and for the courier alike. */
#ifndef MF_SERVER_RESULT_REPORT_H
#define MF_SERVER_RESULT_REPORT_H

#include "core/clock.h"
#include "fhir/report.h"
#include "server/store.h"
#include "server/upload.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_result_report {
    json_t *result;
    struct mf_fhir_report_context context; /* may be changed before a report is made of it */
    /* private: what the context points into */
    struct mf_upload upload;
    json_t *superseded;
    char issued[MF_TIME_TEXT];
};

/* Reads `result` (medfusion.result/1) and `index` (medfusion.scan/1) of a job that ended at
 * finished_ms. MF_ERR_MALFORMED. Close it also after a failure; it must not be moved. */
bool mf_result_report_open(struct mf_result_report *report, const char *result, size_t result_len,
                           const char *index, size_t index_len, int64_t finished_ms,
                           struct mf_error *err) MF_CHECK_RESULT;
/* Makes it the report that supersedes its predecessor's, if the job has one (predecessor.h). */
bool mf_result_report_amend(struct mf_result_report *report, struct mf_store *store,
                            const char *tenant, const char *job,
                            struct mf_error *err) MF_CHECK_RESULT;
void mf_result_report_close(struct mf_result_report *report);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_result_report, struct mf_result_report, mf_result_report_close(p))

#endif
