/* GET /v1/studies/{study}: what was received of a study, and the jobs that were made of it. */
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/store_instances.h"

#include "core/clock.h"
#include "core/result.h"

static json_t *jobs_json(const struct mf_study_state *study)
{
    json_t *jobs = json_array();
    for (size_t i = 0; jobs && i < study->job_count; i++)
        if (json_array_append_new(jobs, json_string(study->jobs[i])) != 0) {
            json_decref(jobs);
            return NULL;
        }
    return jobs;
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    struct mf_study_state study;
    char first[MF_TIME_TEXT], last[MF_TIME_TEXT];
    const char *uid = mf_dicomweb_uid(request, 0, "study", err);
    if (!uid || !mf_request_only_query(request, no_query, err) ||
        !mf_store_study(request->store, request->tenant, uid, request->arena, &study, err))
        return false;
    bool settled = study.due_in_ms < 0;
    json_t *problem =
        study.problem.code ? mf_problem_to_json(&study.problem, NULL, NULL) : json_null();
    json_t *body = json_pack(
        "{s:s, s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o}", "schema", "medfusion.study/1",
        "study_instance_uid", uid, "state", settled ? "complete" : "receiving", "instances",
        (json_int_t)study.instances, "first", mf_clock_format_ms(study.first_ms, first), "last",
        mf_clock_format_ms(study.last_ms, last), "due_s",
        settled ? json_null() : json_real((double)study.due_in_ms / 1e3), "jobs", jobs_json(&study),
        "problem", problem);
    return mf_respond_json_take(request, 200, "application/json", body, err);
}

const struct mf_endpoint mf_endpoint_study = {
    .method = "GET", .pattern = "/v1/studies/{study}", .handle = get};
