/*
 * Courier: from a stored study to a job. Its inputs are the stored objects of the study and of the
 * patient's earlier studies; where the models want more earlier ones, a source is asked for them.
 */
#include "server/courier_study.h"

#include "server/deidentify.h"
#include "server/fetch.h"
#include "server/fetch_source.h"
#include "server/job_options.h"

#include "core/clock.h"
#include "core/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_BYTES = 256 << 20,
    MAX_PRIORS = 31,
    BUSY_RETRY_MS = 5000,
    REST_S = 60 /* a source that failed is not asked again for so long */
};

/* A study on its way to a job. */
struct work {
    struct mf_courier_study *c;
    const struct mf_due_study *study;
    struct mf_collection inputs;
    struct mf_route_titles titles; /* of the association that brought it last */
    const char *known[MAX_PRIORS]; /* earlier studies that are stored here */
    size_t known_count;
    bool priors_unavailable; /* the source was to be asked for others, and did not answer */
};

/* --- which objects --- */

static bool add_instance(struct work *w, const struct mf_stored *in, struct mf_error *err)
{
    struct mf_job_input input = {.part = "dicom",
                                 .kind = "blob",
                                 .locator = in->locator,
                                 .offset = in->offset,
                                 .size = in->size};
    memcpy(input.sha256, in->sha256, MF_SHA256_BYTES);
    return mf_collection_add(&w->inputs, &input, err);
}

static bool add_study(struct work *w, const char *uid, struct mf_error *err)
{
    const char *ours = w->c->tools.config->dimse.ae_title;
    bool current = strcmp(uid, w->study->uid) == 0;
    const struct mf_match match = {MF_STUDY_UID, MF_MATCH_EQUAL, uid};
    struct mf_search search = {.tenant = w->study->tenant,
                               .level = MF_LEVEL_INSTANCE,
                               .matches = &match,
                               .match_count = 1,
                               .limit = MF_STORE_BATCH};
    for (size_t n = MF_STORE_BATCH; n == MF_STORE_BATCH; search.offset += n) {
        struct mf_found *rows = NULL;
        if (!mf_store_instances_search(w->c->tools.store, &search, w->inputs.arena, &rows, &n, err))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!add_instance(w, &rows[i].stored, err))
                return false;
        if (current && n > 0 && rows[n - 1].stored.source)
            w->titles = mf_route_titles(rows[n - 1].stored.source, ours);
    }
    return true;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

/* Newest first; studies of one moment by UID, as the pipeline orders them. */
static int by_time(const void *a, const void *b)
{
    const struct mf_found *x = a, *y = b;
    static const enum mf_attribute_id keys[] = {MF_STUDY_DATE, MF_STUDY_TIME, MF_STUDY_UID};
    for (size_t i = 0; i < 3; i++) {
        int order = strcmp(or_empty(y->stored.instance.values[keys[i]]),
                           or_empty(x->stored.instance.values[keys[i]]));
        if (order)
            return order;
    }
    return 0;
}

/* The patient's studies that are older than this one. An empty PatientID is nobody's. */
static bool add_priors(struct work *w, const struct mf_found *current, struct mf_error *err)
{
    const char *const *v = current->stored.instance.values;
    if (!v[MF_PATIENT_ID] || !v[MF_STUDY_DATE])
        return true;
    const struct mf_match matches[] = {
        {MF_PATIENT_ID, MF_MATCH_EQUAL, v[MF_PATIENT_ID]},
        {MF_PATIENT_ID_ISSUER, MF_MATCH_EQUAL, or_empty(v[MF_PATIENT_ID_ISSUER])},
    };
    struct mf_search search = {.tenant = w->study->tenant,
                               .level = MF_LEVEL_STUDY,
                               .matches = matches,
                               .match_count = 2,
                               .limit = MF_STORE_BATCH};
    struct mf_found *rows = NULL;
    size_t n = 0;
    if (!mf_store_instances_search(w->c->tools.store, &search, w->inputs.arena, &rows, &n, err))
        return false;
    if (n > 1)
        qsort(rows, n, sizeof *rows, by_time);
    for (size_t i = 0; i < n && w->known_count < MAX_PRIORS; i++) {
        const char *const *prior = rows[i].stored.instance.values;
        if (!prior[MF_STUDY_DATE] || by_time(current, &rows[i]) >= 0)
            continue;
        if (!add_study(w, prior[MF_STUDY_UID], err))
            return false;
        w->known[w->known_count++] = prior[MF_STUDY_UID];
    }
    return true;
}

static bool find_study(const struct work *w, struct mf_found **ret, struct mf_error *err)
{
    const struct mf_match match = {MF_STUDY_UID, MF_MATCH_EQUAL, w->study->uid};
    struct mf_search search = {.tenant = w->study->tenant,
                               .level = MF_LEVEL_STUDY,
                               .matches = &match,
                               .match_count = 1,
                               .limit = 1};
    size_t n = 0;
    if (!mf_store_instances_search(w->c->tools.store, &search, w->inputs.arena, ret, &n, err))
        return false;
    return n == 1 || mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such study");
}

/* --- earlier studies that a source has --- */

static bool set_value(json_t *row, const char *tag, const char *vr, const char *text)
{
    return !text ||
           json_object_set_new(row, tag, json_pack("{s:s, s:[s]}", "vr", vr, "Value", text)) == 0;
}

/* The values between '\\' of an attribute. */
static bool set_values(json_t *row, const char *tag, const char *vr, const char *text)
{
    json_t *list = json_array();
    for (const char *at = text; at; at = strchr(at, '\\') ? strchr(at, '\\') + 1 : NULL)
        if (json_array_append_new(list, json_stringn(at, strcspn(at, "\\"))) != 0)
            break;
    return json_object_set_new(row, tag, json_pack("{s:s, s:o}", "vr", vr, "Value", list)) == 0;
}

/* The study as a source would have found it. */
static json_t *row_of(const struct mf_found *study)
{
    const char *const *v = study->stored.instance.values;
    MF_AUTO(mf_json) json_t *row = json_object();
    bool ok = set_value(row, "0020000D", "UI", v[MF_STUDY_UID]) &&
              set_value(row, "00080020", "DA", v[MF_STUDY_DATE]) &&
              set_value(row, "00100020", "LO", v[MF_PATIENT_ID]) &&
              set_value(row, "00100021", "LO", v[MF_PATIENT_ID_ISSUER]) &&
              (!study->modalities || set_values(row, "00080061", "CS", study->modalities));
    return ok ? json_incref(row) : NULL;
}

/* Its series, with the body parts that they show. */
static json_t *series_of(const struct work *w, struct mf_error *err)
{
    const struct mf_match match = {MF_STUDY_UID, MF_MATCH_EQUAL, w->study->uid};
    const struct mf_search search = {.tenant = w->study->tenant,
                                     .level = MF_LEVEL_SERIES,
                                     .matches = &match,
                                     .match_count = 1,
                                     .limit = MF_STORE_BATCH};
    struct mf_found *rows = NULL;
    size_t n = 0;
    if (!mf_store_instances_search(w->c->tools.store, &search, w->inputs.arena, &rows, &n, err))
        return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_object();
        set_value(row, "00180015", "CS", rows[i].stored.instance.values[MF_BODY_PART]);
        json_array_append_new(list, row);
    }
    return list;
}

static bool fetch_from_source(struct work *w, const struct mf_found *current, struct mf_error *err)
{
    const struct mf_courier_tools *t = &w->c->tools;
    MF_AUTO(mf_json) json_t *row = row_of(current);
    MF_AUTO(mf_json) json_t *series = series_of(w, err);
    if (!row || !series)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a study");
    const struct mf_fetch_here here = {row, series, w->known, w->known_count};
    struct mf_fetch wanted = {.config = t->config,
                              .query = t->query,
                              .registry = t->registry,
                              .store = t->store,
                              .blobs = t->blobs,
                              .tenant = w->study->tenant,
                              .study = w->study->uid,
                              .here = &here,
                              .deadline_ns =
                                  mf_clock_monotonic_ns() +
                                  (uint64_t)t->config->fetch.priors_timeout_s * 1000000000};
    return mf_collection_fetch(&w->inputs, &wanted, mf_fetch_earlier, err);
}

/* Asks the tenant's first source, where there is one, within fetch.priors_timeout_s in all. A study
 * never waits longer, and is never lost, for its priors: without them the result says so. */
static void ask_source(struct work *w, const struct mf_found *current)
{
    const struct mf_config *config = w->c->tools.config;
    struct mf_error problem = MF_ERROR_INIT, none = MF_ERROR_INIT;
    struct mf_fetch_source from;
    uint64_t now = mf_clock_monotonic_ns();
    if (config->fetch.priors_timeout_s == 0 || mf_deidentify_stores(config) ||
        !mf_fetch_source_find(config, w->study->tenant, NULL, &from, &none))
        return;
    if (now < w->c->rest_until_ns)
        mf_error_set(&problem, MF_ERR_UNAVAILABLE, "the source failed less than %d s ago", REST_S);
    else if (fetch_from_source(w, current, &problem))
        return;
    else
        w->c->rest_until_ns = mf_clock_monotonic_ns() + REST_S * UINT64_C(1000000000);
    w->priors_unavailable = true;
    mf_log(MF_LOG_WARN, "study.priors_failed", MF_LOG_S("reason", problem.msg));
}

/* --- the job --- */

static bool make_job(struct work *w, struct mf_submitted *ret, struct mf_error *err)
{
    struct mf_found *current = NULL;
    /* The control character keeps it apart from every client's Idempotency-Key. */
    char key[128];
    snprintf(key, sizeof key, "\001study/%s/%" PRId64, w->study->uid, w->study->revision);
    if (!find_study(w, &current, err) || !add_study(w, w->study->uid, err))
        return false;
    w->inputs.current = w->inputs.count;
    if (!add_priors(w, current, err))
        return false;
    ask_source(w, current);
    if (strcmp(w->study->tenant, MF_TENANT_DEFAULT) == 0) /* whose server it is */
        mf_collection_ask_fhir(&w->inputs, current->stored.instance.values[MF_PATIENT_ID]);
    const struct mf_job_wish wish = {.study = w->study->uid,
                                     .titles = w->titles,
                                     .options =
                                         w->priors_unavailable ? MF_JOB_WITHOUT_PRIORS : "{}",
                                     .key = key};
    return mf_collection_submit(&w->inputs, &wish, ret, err);
}

bool mf_courier_study_run(struct mf_courier_study *c, const struct mf_due_study *study,
                          char ret_job[MF_JOB_ID], struct mf_error *err)
{
    struct mf_submitted made = {.replayed = false};
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    struct work w = {.c = c, .study = study};
    mf_collection_init(&w.inputs, &c->tools, study->tenant, arena);
    ret_job[0] = '\0';
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a study");
    bool ok = make_job(&w, &made, &problem);
    mf_collection_close(&w.inputs);
    if (!ok && mf_collection_may_pass(problem.code))
        return mf_error_set(err, problem.code, "%s", problem.msg);
    if (ok)
        memcpy(ret_job, made.id, MF_JOB_ID);
    return mf_store_study_settle(c->tools.store, study, ok ? made.id : NULL, ok ? NULL : &problem,
                                 problem.code == MF_ERR_BUSY ? BUSY_RETRY_MS : 0, err);
}
