/*
 * Results and problems as JSON: `medfusion.result/1` (schemas/result.schema.json) and
 * `medfusion.problem/1` (RFC 9457; schemas/problem.schema.json). Every member of the schema is
 * written; what is absent is null.
 *
 * json_pack() with "o" takes the reference and fails as a whole when one of them is NULL, so an
 * allocation that failed deep inside surfaces as a NULL document.
 */
#include "core/result.h"

#include <math.h>
#include <string.h>

const char *mf_label_state_name(enum mf_label_state state)
{
    static const char *const NAMES[] = {"present", "absent", "uncertain", "empty"};
    return (size_t)state < sizeof NAMES / sizeof *NAMES ? NAMES[state] : "uncertain";
}

const char *mf_guarantee_name(enum mf_guarantee guarantee)
{
    static const char *const NAMES[] = {"valid", "insufficient_calibration", "shifted", "void"};
    return (size_t)guarantee < sizeof NAMES / sizeof *NAMES ? NAMES[guarantee] : "void";
}

static const char *segmentation_name(enum mf_segmentation_status status)
{
    static const char *const NAMES[] = {"off", "ok", "fallback"};
    return (size_t)status < sizeof NAMES / sizeof *NAMES ? NAMES[status] : "off";
}

/* Appends a new reference to a list; on failure the list is dropped and NULL returned. */
static json_t *append(json_t *list, json_t *item)
{
    if (json_array_append_new(list, item) == 0) /* takes the item also when there is no list */
        return list;
    json_decref(list);
    return NULL;
}

static json_t *string_list(const char *const *items, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        list = append(list, json_string(items[i]));
    return list;
}

static json_t *coding_list(const struct mf_coding *codings, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        list =
            append(list, json_pack("{s:s, s:s, s:o}", "system", codings[i].system, "code",
                                   codings[i].code, "display", mf_json_string(codings[i].display)));
    return list;
}

static json_t *frame_to_json(const struct mf_result_frame *f)
{
    const struct mf_segmentation *s = &f->segmentation;
    json_t *segmentation = json_pack(
        "{s:s, s:o, s:[I, I, I, I], s:o}", "status", segmentation_name(s->status), "iou",
        mf_json_real(s->iou), "box", (json_int_t)s->box[0], (json_int_t)s->box[1],
        (json_int_t)s->box[2], (json_int_t)s->box[3], "reason", mf_json_string(s->reason));
    return json_pack("{s:o, s:o, s:I, s:s, s:o, s:o}", "study_instance_uid",
                     mf_json_string(f->study_instance_uid), "sop_instance_uid",
                     mf_json_string(f->sop_instance_uid), "index", (json_int_t)f->index, "role",
                     f->prior ? "prior" : "current", "acquired", mf_json_string(f->acquired),
                     "segmentation", segmentation);
}

static json_t *triple(const double v[3])
{
    return json_pack("[o, o, o]", mf_json_real(v[0]), mf_json_real(v[1]), mf_json_real(v[2]));
}

json_t *mf_result_volume_to_json(const struct mf_result_volume *v)
{
    return json_pack("{s:I, s:I, s:o, s:o, s:I, s:o, s:I, s:I, s:o}", "slices",
                     (json_int_t)v->slices, "planes", (json_int_t)v->planes, "spacing_mm",
                     triple(v->spacing), "voxel_mm", triple(v->voxel), "gaps", (json_int_t)v->gaps,
                     "largest_distance_mm", mf_json_real(v->largest_distance), "duplicates",
                     (json_int_t)v->duplicates, "other_geometry", (json_int_t)v->other_geometry,
                     "tilt_degrees", mf_json_real(v->tilt_degrees));
}

static json_t *order_to_json(const struct mf_order *o)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "accession_number", mf_json_string(o->accession),
                     "placer_order_number", mf_json_string(o->placer), "filler_order_number",
                     mf_json_string(o->filler), "requested_procedure_id",
                     mf_json_string(o->procedure), "scheduled_procedure_step_id",
                     mf_json_string(o->step));
}

static json_t *study_to_json(const struct mf_result *r)
{
    json_t *frames = json_array();
    for (size_t i = 0; i < r->frame_count; i++)
        frames = append(frames, frame_to_json(&r->frames[i]));
    json_t *study =
        json_pack("{s:o, s:o, s:o, s:o}", "study_instance_uid",
                  mf_json_string(r->study_instance_uid), "modality", mf_json_string(r->modality),
                  "order", order_to_json(&r->order), "frames", frames);
    if (!r->volume ||
        json_object_set_new(study, "volume", mf_result_volume_to_json(r->volume)) == 0)
        return study;
    json_decref(study);
    return NULL;
}

static json_t *model_to_json(const struct mf_result *r)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", mf_json_string(r->model.name),
                     "version", mf_json_string(r->model.version), "digest",
                     mf_json_string(r->model.digest), "model_hash",
                     mf_json_string(r->model.model_hash), "device", mf_json_string(r->model.device),
                     "dtype", mf_json_string(r->model.dtype));
}

/* The classes in the prediction set; the state names the four subsets of {present, absent}. */
static json_t *prediction_set(enum mf_label_state state)
{
    json_t *set = json_array();
    if (state == MF_LABEL_PRESENT || state == MF_LABEL_UNCERTAIN)
        set = append(set, json_string("present"));
    if (state == MF_LABEL_ABSENT || state == MF_LABEL_UNCERTAIN)
        set = append(set, json_string("absent"));
    return set;
}

static json_t *prediction_to_json(const struct mf_prediction *p)
{
    json_t *set = prediction_set(p->state);
    json_t *prediction = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:s, s:s, s:s}",
        "label", mf_json_string(p->label), "display",
        mf_json_string(p->display ? p->display : p->label), "coding",
        coding_list(p->codings, p->coding_count), "logit", mf_json_real(p->logit), "probability",
        mf_json_real(p->probability), "prediction_set", set, "set_size",
        (json_int_t)json_array_size(set), "state", mf_label_state_name(p->state), "p_present",
        mf_json_real(p->p_present), "p_absent", mf_json_real(p->p_absent), "q_present",
        mf_json_real(p->q_present), "q_absent", mf_json_real(p->q_absent), "n_cal_pos",
        (json_int_t)p->n_cal_pos, "n_cal_neg", (json_int_t)p->n_cal_neg, "method",
        p->method ? p->method : "split_conformal", "taxonomy",
        p->taxonomy ? p->taxonomy : "label_class", "guarantee", mf_guarantee_name(p->guarantee));
    if (!p->outcome)
        return prediction;
    if (json_object_set_new(prediction, "kind", json_string("outcome")) == 0 &&
        (!p->horizon || json_object_set_new(prediction, "horizon", json_string(p->horizon)) == 0))
        return prediction;
    json_decref(prediction);
    return NULL;
}

static json_t *predictions_to_json(const struct mf_result *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->prediction_count; i++)
        list = append(list, prediction_to_json(&r->predictions[i]));
    return list;
}

static json_t *findings_to_json(const struct mf_result *r)
{
    if (!r->findings.available)
        return json_null();
    json_t *labels = json_array();
    for (size_t i = 0; i < r->findings.label_count; i++)
        labels = append(labels, json_string(r->predictions[r->findings.labels[i]].label));
    const char *method = r->findings.method ? r->findings.method : "conformal_risk_control";
    return json_pack("{s:s, s:s, s:o, s:o}", "method", method, "risk", "fnr", "alpha",
                     mf_json_real(r->alpha), "labels", labels);
}

static json_t *calibration_to_json(const struct mf_result *r)
{
    bool calibrated = r->calibration.id != NULL;
    return json_pack("{s:o, s:o, s:o, s:o}", "id", mf_json_string(r->calibration.id), "created",
                     mf_json_string(r->calibration.created), "patients",
                     calibrated ? json_integer(r->calibration.patients) : json_null(), "model_hash",
                     mf_json_string(r->calibration.model_hash));
}

/* The levels at which the sets were made, where feedback moves them. */
static json_t *levels_to_json(const struct mf_result *r)
{
    if (!r->adaptation.learnt.state)
        return json_null();
    json_t *labels = json_object();
    for (size_t i = 0; labels && i < r->prediction_count; i++)
        json_object_set_new(labels, r->predictions[i].label,
                            json_pack("{s:o, s:o}", "present",
                                      mf_json_real(r->adaptation.learnt.levels[2 * i]), "absent",
                                      mf_json_real(r->adaptation.learnt.levels[2 * i + 1])));
    return json_pack("{s:s, s:I, s:o}", "state", r->adaptation.learnt.state, "version",
                     (json_int_t)r->adaptation.learnt.version, "labels", labels);
}

/* What the adaptation did, or would have done: numbers only where one ran. */
static json_t *adaptation_to_json(const struct mf_result *r)
{
    const char *mode = r->adaptation.mode ? r->adaptation.mode : "off";
    double none = strcmp(mode, "off") == 0 ? NAN : 0;
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "mode", mode, "state",
                     mf_json_string(r->adaptation.state), "entropy_before",
                     mf_json_real(none + r->adaptation.entropy_before), "entropy_after",
                     mf_json_real(none + r->adaptation.entropy_after), "max_logit_change",
                     mf_json_real(none + r->adaptation.max_logit_change), "levels",
                     levels_to_json(r));
}

static json_t *ehr_to_json(const struct mf_result *r)
{
    json_t *list = json_array();
    for (size_t i = 0; r->feature_set && i < r->feature_set->count; i++)
        list = append(
            list, mf_feature_value_to_json(&r->feature_set->features[i], &r->feature_values[i]));
    return json_pack("{s:o}", "features", list);
}

static json_t *quality_to_json(const struct mf_result *r)
{
    json_t *skipped = json_array();
    for (size_t i = 0; i < r->skipped_count; i++)
        skipped =
            append(skipped, json_pack("{s:o, s:o}", "object", mf_json_string(r->skipped[i].object),
                                      "reason", mf_json_string(r->skipped[i].reason)));
    return json_pack("{s:o, s:o, s:o}", "ood_p_value", mf_json_real(r->ood_p_value), "flags",
                     string_list(r->flags, r->flag_count), "skipped", skipped);
}

static json_t *timing_to_json(const struct mf_timing *t)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "decode", mf_json_real(t->decode),
                     "segment", mf_json_real(t->segment), "vision", mf_json_real(t->vision),
                     "temporal", mf_json_real(t->temporal), "ehr", mf_json_real(t->ehr), "fusion",
                     mf_json_real(t->fusion), "total", mf_json_real(t->total));
}

json_t *mf_result_to_json(const struct mf_result *r)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema",
                     "medfusion.result/1", "job", mf_json_string(r->job), "study", study_to_json(r),
                     "model", model_to_json(r), "alpha", mf_json_real(r->alpha), "predictions",
                     predictions_to_json(r), "finding_set", findings_to_json(r), "calibration",
                     calibration_to_json(r), "adaptation", adaptation_to_json(r), "ehr",
                     ehr_to_json(r), "quality", quality_to_json(r), "timing_ms",
                     timing_to_json(&r->timing));
}

json_t *mf_problem_to_json(const struct mf_error *err, const char *study_instance_uid,
                           const char *job)
{
    json_t *type = json_sprintf("urn:medfusion:problem:%s", mf_code_name(err->code));
    MF_AUTO(mf_json)
    json_t *problem =
        json_pack("{s:s, s:o, s:s, s:i, s:s}", "schema", "medfusion.problem/1", "type", type,
                  "title", mf_code_title(err->code), "status", mf_code_http_status(err->code),
                  "detail", *err->msg ? err->msg : mf_code_title(err->code));
    if (study_instance_uid &&
        json_object_set_new(problem, "study", json_string(study_instance_uid)) != 0)
        return NULL;
    if (job && json_object_set_new(problem, "job", json_string(job)) != 0)
        return NULL;
    return MF_STEAL(problem);
}
