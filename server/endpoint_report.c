/* GET /v1/jobs/{id}/report: the result as one page for people (report.h). */
#include "server/endpoints.h"
#include "server/job_response.h"
#include "server/negotiate.h"
#include "server/report.h"
#include "server/services.h"

#include "core/clock.h"

enum { REPORT_BYTES = 256 << 20 };

/* The page runs nothing and loads nothing; its pictures and styles are inside it. */
static const char POLICY[] =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'";

static bool respond(struct mf_request *request, const struct mf_job_record *record,
                    struct mf_error *err)
{
    char made[MF_TIME_TEXT];
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    MF_AUTO(mf_buffer) struct mf_buffer page;
    mf_buffer_init(&page, REPORT_BYTES);
    if (!mf_job_artifacts_read(record, request->services->blobs, request->services->decoder, &a,
                               err))
        return false;
    const struct mf_report report = {.index = a.upload.index,
                                     .result = a.result,
                                     .masks = a.masks,
                                     .images = &a.images,
                                     .made = mf_clock_format_ms(record->job.finished_ms, made)};
    if (!mf_report_html(&report, &page, err) ||
        !mf_respond_field(request, err, "Content-Security-Policy", "%s", POLICY))
        return false;
    size_t len = 0;
    char *body = mf_buffer_take(&page, &len);
    if (!body)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a report");
    mf_respond_take(request, 200, "text/html; charset=utf-8", body, len);
    return true;
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL}, *const html[] = {"text/html"};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(MF_RECORD_BYTES);
    struct mf_job_record record = {0};
    bool answered = false;
    if (mf_negotiate(mf_request_header(request, "Accept"), html, 1) < 0)
        return mf_error_set(err, MF_ERR_NOT_ACCEPTABLE, "this is given as text/html only");
    return mf_request_only_query(request, no_query, err) &&
           mf_request_record(request, arena, &record, &answered, err) &&
           (answered || respond(request, &record, err));
}

const struct mf_endpoint mf_endpoint_report = {
    .method = "GET", .pattern = "/v1/jobs/{id}/report", .slow = true, .handle = get};
