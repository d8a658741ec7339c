/*
 * CDS Hooks (https://cds-hooks.hl7.org/2.0/): GET /cds-services lists what is offered, POST
 * /cds-services/{id} answers with cards. Cards come from stored results alone: nothing is computed
 * while a physician waits.
 *
 * The patient is found by the identifiers of the prefetched Patient, else by the reference of the
 * Patient that a result was made with.
 */
#include "server/collected_body.h"
#include "server/endpoints.h"
#include "server/fhir_results.h"

#include <string.h>

enum { BODY_BYTES = 1 << 20, LOOK_BACK = 200, MAX_CARDS = 3, SUMMARY_TEXT = 140 };

static const struct service {
    const char *id, *hook, *title, *description;
} SERVICES[] = {
    {"medfusion-findings", "patient-view", "Image findings",
     "Findings of the patient's newest imaging studies, with what they are worth."},
    {"medfusion-order", "order-sign", "Image findings before an order",
     "Findings that are known already when imaging is ordered."},
};
enum { SERVICE_COUNT = sizeof SERVICES / sizeof SERVICES[0] };

static bool list(struct mf_request *request, struct mf_error *err)
{
    static const char *const NO_QUERY[] = {NULL};
    if (!mf_request_only_query(request, NO_QUERY, err))
        return false;
    json_t *services = json_array();
    for (size_t i = 0; services && i < SERVICE_COUNT; i++)
        if (json_array_append_new(services,
                                  json_pack("{s:s, s:s, s:s, s:s, s:{s:s}}", "id", SERVICES[i].id,
                                            "hook", SERVICES[i].hook, "title", SERVICES[i].title,
                                            "description", SERVICES[i].description, "prefetch",
                                            "patient", "Patient/{{context.patientId}}")) != 0) {
            json_decref(services);
            services = NULL;
        }
    return mf_respond_json_take(request, 200, "application/json",
                                json_pack("{s:o}", "services", services), err);
}

/* --- cards --- */

struct call {
    const json_t *identifiers; /* of the prefetched Patient */
    char reference[160];       /* "Patient/1" */
    json_t *cards;
    bool failed;
};

static bool wanted(void *context, const struct mf_fhir_owner *owner)
{
    const struct call *c = context;
    for (size_t i = 0; i < json_array_size(c->identifiers); i++) {
        const json_t *id = json_array_get(c->identifiers, i);
        const char *system = mf_json_get_string(id, "system", "");
        const char *value = mf_json_get_string(id, "value", "");
        bool system_fits = !*owner->system || !*system || strcmp(system, owner->system) == 0;
        if (*value && strcmp(value, owner->id) == 0 && system_fits)
            return true;
    }
    return *c->reference && strcmp(c->reference, owner->reference) == 0;
}

/* Whether an Observation is interpreted so: "POS", "IND". */
static bool is_interpreted(const json_t *resource, const char *code)
{
    const json_t *list = json_object_get(resource, "interpretation");
    const json_t *coding = json_array_get(json_object_get(json_array_get(list, 0), "coding"), 0);
    return strcmp(mf_json_get_string(resource, "resourceType", ""), "Observation") == 0 &&
           strcmp(mf_json_get_string(coding, "code", ""), code) == 0;
}

/* Cuts a text to the bytes that a summary may have, at a character. */
static void cut(char *text, size_t size)
{
    size_t n = strnlen(text, size - 1);
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    text[n] = '\0';
}

/* "Present on the study of DATE: Effusion, Mass", and whether anything is. */
static bool summarise(const json_t *bundle, char out[SUMMARY_TEXT])
{
    const json_t *report = mf_fhir_entry_resource(bundle, 0), *r;
    char text[1024];
    const char *date = mf_json_get_string(report, "effectiveDateTime", "unknown date");
    int n = snprintf(text, sizeof text, "AI on the study of %.10s: ", date);
    bool any = false;
    size_t open = 0;
    for (size_t i = 1; (r = mf_fhir_entry_resource(bundle, i)); i++)
        open += is_interpreted(r, "IND");
    for (size_t i = 1; (r = mf_fhir_entry_resource(bundle, i)) && n < (int)sizeof text - 200; i++)
        if (is_interpreted(r, "POS")) {
            n += snprintf(text + n, sizeof text - (size_t)n, "%s%.80s", any ? ", " : "",
                          mf_json_get_string(json_object_get(r, "code"), "text", "finding"));
            any = true;
        }
    if (!any)
        n += snprintf(text + n, sizeof text - (size_t)n, "no finding is said to be present");
    if (open)
        snprintf(text + n, sizeof text - (size_t)n, "; %zu not decided", open);
    memcpy(out, text, SUMMARY_TEXT - 1);
    out[SUMMARY_TEXT - 1] = '\0';
    cut(out, SUMMARY_TEXT);
    return any;
}

static bool take(void *context, const struct mf_job *job, const json_t *bundle)
{
    struct call *c = context;
    const json_t *report = mf_fhir_entry_resource(bundle, 0);
    char summary[SUMMARY_TEXT];
    bool any = summarise(bundle, summary);
    json_t *card = json_pack(
        "{s:s, s:s, s:s, s:s, s:{s:s}}", "uuid",
        mf_json_get_string(json_array_get(json_object_get(bundle, "entry"), 0), "fullUrl",
                           "urn:uuid:") +
            strlen("urn:uuid:"),
        "summary", summary, "detail", mf_json_get_string(report, "conclusion", ""), "indicator",
        any ? "warning" : "info", "source", "label", "MedFusion (not reviewed by a physician)");
    (void)job;
    c->failed |= json_array_append_new(c->cards, card) != 0;
    return !c->failed && json_array_size(c->cards) < MAX_CARDS;
}

/* --- the call --- */

static bool begin(struct mf_request *request, struct mf_error *err)
{
    return mf_collect_begin(request, BODY_BYTES, err);
}

static bool data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    return mf_collect_data(request, "a CDS Hooks call", bytes, len, err);
}

/* What the call says of its patient. */
static bool read_call(const struct service *service, const json_t *body, struct call *c,
                      struct mf_error *err)
{
    const json_t *patient = json_object_get(json_object_get(body, "prefetch"), "patient");
    const char *hook = mf_json_get_string(body, "hook", "");
    const char *id = mf_json_get_string(json_object_get(body, "context"), "patientId", NULL);
    if (strcmp(hook, service->hook) != 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "hook must be %s for this service",
                            service->hook);
    if (!id || !*id || !mf_json_get_string(body, "hookInstance", NULL))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "hookInstance and context.patientId must be strings");
    if (json_object_get(body, "prefetch") && !json_is_object(json_object_get(body, "prefetch")))
        return mf_error_set(err, MF_ERR_UNUSABLE, "prefetch must be an object");
    c->identifiers = json_object_get(patient, "identifier");
    snprintf(c->reference, sizeof c->reference, "%s%.120s",
             strncmp(id, "Patient/", 8) == 0 ? "" : "Patient/", id);
    return true;
}

static bool call_service(struct mf_request *request, struct mf_error *err)
{
    static const char *const NO_QUERY[] = {NULL};
    const struct service *service = NULL;
    const struct mf_buffer *text = mf_collected(request);
    const struct mf_json_limits limits = {BODY_BYTES, 64};
    int64_t ignored;
    for (size_t i = 0; i < SERVICE_COUNT; i++)
        if (strcmp(SERVICES[i].id, request->parameters[0]) == 0)
            service = &SERVICES[i];
    if (!service)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such service");
    if (!mf_request_only_query(request, NO_QUERY, err))
        return false;
    MF_AUTO(mf_json)
    json_t *body = mf_json_parse(text->data ? text->data : "", text->len, &limits, "the call", err);
    MF_AUTO(mf_json) json_t *cards = json_array();
    struct call c = {.cards = cards};
    const struct mf_fhir_walk walk = {0, LOOK_BACK, wanted, take, &c};
    if (!body || !read_call(service, body, &c, err) ||
        !mf_fhir_walk_results(request, &walk, &ignored, err))
        return false;
    if (c.failed)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for cards");
    return mf_respond_json_take(request, 200, "application/json",
                                json_pack("{s:O}", "cards", cards), err);
}

const struct mf_endpoint mf_endpoint_cds_list = {
    .method = "GET", .pattern = "/cds-services", .quick = true, .handle = list};
const struct mf_endpoint mf_endpoint_cds_call = {.method = "POST",
                                                 .pattern = "/cds-services/{id}",
                                                 .begin = begin,
                                                 .data = data,
                                                 .handle = call_service,
                                                 .dispose = mf_collect_dispose};
