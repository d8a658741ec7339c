/* A stored result as a document for another system. */
#include "server/result_report.h"

#include "server/predecessor.h"

#include <string.h>

enum { RECORD_BYTES = 512 << 20 };

static void take(const char **value, const char *other)
{
    if (!*value)
        *value = other;
}

/* Whose study it is and what order it was made for: from the objects of the reported study in the
 * index. */
static void find_patient(const struct mf_upload *upload, const char *study,
                         struct mf_fhir_report_context *context)
{
    for (size_t i = 0; i < upload->index->object_count; i++) {
        const struct mf_index_object *o = &upload->index->objects[i];
        if (!o->study_instance_uid || strcmp(o->study_instance_uid, study) != 0)
            continue;
        take(&context->patient_id, o->patient_id);
        take(&context->patient_issuer, o->patient_id_issuer);
        take(&context->order.accession, o->accession_number);
        take(&context->order.placer, o->placer_order);
        take(&context->order.filler, o->filler_order);
        take(&context->order.procedure, o->requested_procedure_id);
        take(&context->order.step, o->scheduled_step_id);
    }
}

bool mf_result_report_open(struct mf_result_report *r, const char *result, size_t result_len,
                           const char *index, size_t index_len, int64_t finished_ms,
                           struct mf_error *err)
{
    *r = (struct mf_result_report){.result = NULL};
    r->context.issued = mf_clock_format_ms(finished_ms, r->issued);
    r->result = mf_json_parse(result, result_len, NULL, "result", err);
    if (!r->result || !mf_upload_parse(index, index_len, MF_UPLOAD_WITHOUT_EHR, &r->upload, err))
        return false;
    const json_t *study = json_object_get(r->result, "study");
    find_patient(&r->upload, mf_json_get_string(study, "study_instance_uid", ""), &r->context);
    return true;
}

bool mf_result_report_amend(struct mf_result_report *r, struct mf_store *store, const char *tenant,
                            const char *job, struct mf_error *err)
{
    const char *study =
        mf_json_get_string(json_object_get(r->result, "study"), "study_instance_uid", "");
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(RECORD_BYTES);
    struct mf_job_record record;
    bool found = false;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    if (!mf_predecessor(store, tenant, study, job, arena, &record, &found, err))
        return false;
    if (!found)
        return true;
    r->superseded = mf_json_parse(record.result, record.result_len, NULL, "result", err);
    r->context.superseded = r->superseded;
    return r->superseded != NULL;
}

void mf_result_report_close(struct mf_result_report *r)
{
    json_decref(r->result);
    json_decref(r->superseded);
    mf_upload_free(&r->upload);
    *r = (struct mf_result_report){.result = NULL};
}
