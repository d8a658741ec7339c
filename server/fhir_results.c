/* Stored results as FHIR resources: see fhir_results.h. */
#include "server/fhir_results.h"

#include "server/job_response.h"

#include <pthread.h>
#include <string.h>

enum { RESULT_BYTES = 64 << 20, INDEX_BYTES = 128 << 20, REMEMBERED = 1024 };

/* Owners of results that were read, by job. A result never changes, so neither does its owner. */
static struct remembered {
    char job[MF_JOB_ID];
    struct mf_fhir_owner owner;
} owners[REMEMBERED];
static size_t next_owner;
static pthread_mutex_t owners_lock = PTHREAD_MUTEX_INITIALIZER;

static bool recall(const char *job, struct mf_fhir_owner *ret)
{
    bool found = false;
    pthread_mutex_lock(&owners_lock);
    for (size_t i = 0; i < REMEMBERED && !found; i++)
        if (strcmp(owners[i].job, job) == 0) {
            *ret = owners[i].owner;
            found = true;
        }
    pthread_mutex_unlock(&owners_lock);
    return found;
}

static void remember(const char *job, const struct mf_fhir_owner *owner)
{
    pthread_mutex_lock(&owners_lock);
    snprintf(owners[next_owner].job, MF_JOB_ID, "%s", job);
    owners[next_owner].owner = *owner;
    next_owner = (next_owner + 1) % REMEMBERED;
    pthread_mutex_unlock(&owners_lock);
}

const json_t *mf_fhir_entry_resource(const json_t *bundle, size_t i)
{
    return json_object_get(json_array_get(json_object_get(bundle, "entry"), i), "resource");
}

json_t *mf_fhir_result(struct mf_request *request, const char *job, enum mf_fhir_bundle_type type,
                       struct mf_job *ret_job, struct mf_error *err)
{
    MF_AUTO(mf_stored_result) struct mf_stored_result stored = {.job = {.state = MF_JOB_QUEUED}};
    mf_buffer_init(&stored.text, RESULT_BYTES);
    mf_buffer_init(&stored.index, INDEX_BYTES);
    if (!mf_store_result(request->store, request->tenant, job, &stored.job, &stored.text,
                         &stored.index, err))
        return NULL;
    if (stored.job.state != MF_JOB_SUCCEEDED || stored.job.purged) {
        mf_error_set(err, MF_ERR_NOT_FOUND, "there is no result of this job");
        return NULL;
    }
    if (ret_job)
        *ret_job = stored.job;
    return mf_stored_result_report(&stored, request->store, type, err);
}

/* Reads the subject of the report, which comes first. */
static void read_owner(const json_t *bundle, struct mf_fhir_owner *ret)
{
    const json_t *subject = json_object_get(mf_fhir_entry_resource(bundle, 0), "subject");
    const json_t *identifier = json_object_get(subject, "identifier");
    snprintf(ret->id, sizeof ret->id, "%s", mf_json_get_string(identifier, "value", ""));
    snprintf(ret->system, sizeof ret->system, "%s", mf_json_get_string(identifier, "system", ""));
    snprintf(ret->reference, sizeof ret->reference, "%s",
             mf_json_get_string(subject, "reference", ""));
}

/* Hands one job's result over; false ends the walk (an error in *err, or `take` has enough). */
static bool visit(struct mf_request *request, const struct mf_fhir_walk *walk,
                  const struct mf_job *job, struct mf_error *err)
{
    struct mf_fhir_owner owner;
    struct mf_error cause = MF_ERROR_INIT;
    bool known = recall(job->id, &owner);
    if (job->purged || (known && !walk->wanted(walk->context, &owner)))
        return true;
    MF_AUTO(mf_json)
    json_t *bundle = mf_fhir_result(request, job->id, MF_FHIR_BUNDLE_STORED, NULL, &cause);
    if (!bundle) /* it may have been purged since it was listed */
        return cause.code == MF_ERR_NOT_FOUND || mf_error_set(err, cause.code, "%s", cause.msg);
    read_owner(bundle, &owner);
    if (!known)
        remember(job->id, &owner);
    return !walk->wanted(walk->context, &owner) || walk->take(walk->context, job, bundle);
}

bool mf_fhir_walk_results(struct mf_request *request, const struct mf_fhir_walk *walk,
                          int64_t *ret_next, struct mf_error *err)
{
    struct mf_job_filter filter = {.tenant = request->tenant,
                                   .state = MF_JOB_SUCCEEDED,
                                   .priority = -1,
                                   .limit = walk->limit,
                                   .cursor = walk->cursor};
    struct mf_job *jobs;
    size_t count;
    if (!mf_store_list(request->store, &filter, request->arena, &jobs, &count, ret_next, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!visit(request, walk, &jobs[i], err))
            break;
    return err->code == MF_OK;
}
