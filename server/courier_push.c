/* Courier: results as FHIR transactions and as HL7 v2 messages. */
#include "server/courier_push.h"

#include "server/fhir_pull.h"
#include "server/mllp.h"
#include "server/result_report.h"

#include "fhir/oru.h"

#include <string.h>

enum { RECORD_BYTES = 512 << 20, ANSWER_BYTES = 16 << 20, REFERENCE = 80 };

static const char FHIR[] = "fhir:", MLLP[] = "mllp:";

bool mf_courier_push_wants(const char *destination)
{
    return strncmp(destination, FHIR, strlen(FHIR)) == 0 ||
           strncmp(destination, MLLP, strlen(MLLP)) == 0;
}

/* --- FHIR --- */

/* The Patient resource that a feature's value came from, or "". */
static const char *source_patient(const json_t *result)
{
    size_t i;
    const json_t *feature;
    json_array_foreach(json_object_get(json_object_get(result, "ehr"), "features"), i, feature)
    {
        const char *source = mf_json_get_string(feature, "source", "");
        if (strncmp(source, "Patient/", 8) == 0)
            return source;
    }
    return "";
}

/* Who the receiver takes the patient for. Only where that is the very Patient that the features
 * came from are their other resources there, too. */
static bool find_subject(const struct mf_courier_outbox *c, long server,
                         const struct mf_result_report *report,
                         struct mf_fhir_report_context *context, char reference[REFERENCE],
                         struct mf_error *err)
{
    const char *id = report->context.patient_id;
    struct mf_error problem = MF_ERROR_INIT;
    bool found = false;
    if (id && *id && !mf_fhir_find(c->fhir, server, id, reference, &found, &problem) &&
        problem.code != MF_ERR_UNUSABLE && problem.code != MF_ERR_NOT_FOUND)
        return mf_error_set(err, problem.code, "%s", problem.msg);
    context->patient_reference = found ? reference : NULL;
    context->foreign = !found || strcmp(source_patient(report->result), reference) != 0;
    return true;
}

/* A transaction is done as a whole; a server that says otherwise has not understood it. */
static bool judge_transaction(const struct mf_buffer *answer, struct mf_error *err)
{
    const struct mf_json_limits limits = {ANSWER_BYTES, 64};
    struct mf_error ignored = MF_ERROR_INIT; /* servers may answer nothing (return=minimal) */
    size_t i;
    const json_t *entry;
    MF_AUTO(mf_json)
    json_t *body = mf_json_parse(answer->data ? answer->data : "", answer->len, &limits,
                                 "the FHIR server's answer", &ignored);
    json_array_foreach(json_object_get(body, "entry"), i, entry)
    {
        const char *status =
            mf_json_get_string(json_object_get(entry, "response"), "status", "200");
        if (*status != '2')
            return mf_error_set(err, MF_ERR_UNUSABLE, "the FHIR server answered %.3s to an entry",
                                status);
    }
    return true;
}

static bool push_fhir(const struct mf_courier_outbox *c, const char *name,
                      const struct mf_result_report *report, struct mf_error *err)
{
    char reference[REFERENCE];
    struct mf_fhir_report_context context = report->context;
    long server = mf_fhir_client_find(c->fhir, name, err);
    if (server < 0 || !find_subject(c, server, report, &context, reference, err))
        return false;
    MF_AUTO(mf_json)
    json_t *bundle = mf_fhir_report(report->result, &context, MF_FHIR_BUNDLE_TRANSACTION, err);
    MF_AUTO(mf_mem) char *text = bundle ? mf_json_text(bundle, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a report");
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    mf_buffer_init(&answer, ANSWER_BYTES);
    return mf_fhir_client_post(c->fhir, server, text, strlen(text), &answer, err) &&
           judge_transaction(&answer, err);
}

/* --- HL7 v2 --- */

static bool push_hl7(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                     const struct mf_result_report *report, struct mf_error *err)
{
    struct mf_mllp_peer peer;
    struct mf_fhir_report_context context = report->context;
    if (!mf_mllp_address(d->destination, &peer))
        return mf_error_set(err, MF_ERR_USAGE, "the destination is no mllp://host:port");
    context.receiving_application = peer.application;
    context.receiving_facility = peer.facility;
    MF_AUTO(mf_mem) char *message = mf_fhir_oru(report->result, &context, err);
    return message && mf_mllp_send(&peer, message, d->job, (int)c->config->outbox.timeout_s, err);
}

bool mf_courier_push(const struct mf_courier_outbox *c, const struct mf_delivery *d,
                     struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(RECORD_BYTES);
    MF_AUTO(mf_result_report) struct mf_result_report report = {.result = NULL};
    struct mf_job_record record;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    if (!mf_store_record(c->store, d->tenant, d->job, arena, &record, err))
        return false;
    if (!record.result || !record.index)
        return mf_error_set(err, MF_ERR_GONE, "the result is purged");
    if (!mf_result_report_open(&report, record.result, record.result_len, record.index,
                               record.index_len, record.job.finished_ms, err) ||
        !mf_result_report_amend(&report, c->store, d->tenant, d->job, err))
        return false;
    return strncmp(d->destination, FHIR, strlen(FHIR)) == 0
               ? push_fhir(c, d->destination + strlen(FHIR), &report, err)
               : push_hl7(c, d, &report, err);
}
