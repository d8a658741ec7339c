/* Responses: bodies, fields, and problem documents (RFC 9457; below /fhir/ OperationOutcomes). */
#include "server/request.h"

#include "core/result.h"
#include "fhir/report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_BUSY_S = 5, RETRY_UNAVAILABLE_S = 10 };

static void set_body(struct mf_request *request, int status, const char *content_type,
                     const char *body, size_t len, char *owned)
{
    struct mf_response *r = &request->response;
    free(r->owned);
    r->status = status;
    r->content_type = content_type;
    r->body = body;
    r->body_len = len;
    r->owned = owned;
    r->read = NULL;
    r->follow = NULL;
}

bool mf_respond_field(struct mf_request *request, struct mf_error *err, const char *name,
                      const char *format, ...)
{
    struct mf_response *r = &request->response;
    char text[512];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text || r->field_count == MF_RESPONSE_FIELDS)
        return mf_error_set(err, MF_ERR_INTERNAL, "a response header field does not fit");
    char *copy = mf_arena_strdup(request->arena, text, err);
    if (!copy)
        return false;
    r->fields[r->field_count++] = (struct mf_field){name, copy};
    return true;
}

void mf_respond_static(struct mf_request *request, int status, const char *content_type,
                       const char *text, size_t len)
{
    set_body(request, status, content_type, text, len, NULL);
}

void mf_respond_take(struct mf_request *request, int status, const char *content_type, char *text,
                     size_t len)
{
    set_body(request, status, content_type, text, len, text);
}

void mf_respond_stream(struct mf_request *request, int status, const char *content_type,
                       ssize_t (*read)(void *context, uint64_t position, char *out, size_t max),
                       void *context, uint64_t len)
{
    set_body(request, status, content_type, NULL, (size_t)len, NULL);
    request->response.read = read;
    request->response.read_context = context;
}

void mf_respond_follow(struct mf_request *request, int status, const char *content_type,
                       ssize_t (*follow)(void *context, const struct mf_rest *rest, char *out,
                                         size_t max),
                       void *context)
{
    set_body(request, status, content_type, NULL, 0, NULL);
    request->response.follow = follow;
    request->response.read_context = context;
}

void mf_respond_empty(struct mf_request *request, int status)
{
    set_body(request, status, NULL, "", 0, NULL);
}

bool mf_respond_json_take(struct mf_request *request, int status, const char *content_type,
                          json_t *value, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *taken = value;
    char *text = taken ? mf_json_text(taken, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a response");
    mf_respond_take(request, status, content_type, text, strlen(text));
    return true;
}

void mf_respond_problem(struct mf_request *request, const struct mf_error *problem, const char *job)
{
    static const char fallback[] =
        "{\"type\":\"about:blank\",\"title\":\"Out of memory\",\"status\":500}";
    bool fhir = request->path && strncmp(request->path, "/fhir/", strlen("/fhir/")) == 0;
    const char *type = fhir ? "application/fhir+json" : "application/problem+json";
    int status = mf_code_http_status(problem->code);
    struct mf_error ignored = MF_ERROR_INIT;
    json_t *document =
        fhir ? mf_fhir_operation_outcome(problem) : mf_problem_to_json(problem, NULL, job);
    if (!mf_respond_json_take(request, status, type, document, &ignored))
        mf_respond_static(request, 500, type, fallback, sizeof fallback - 1);
    bool told = false; /* by whoever knows it better */
    for (size_t i = 0; i < request->response.field_count; i++)
        told = told || strcmp(request->response.fields[i].name, "Retry-After") == 0;
    if (!told && (status == 429 || status == 503))
        (void)mf_respond_field(request, &ignored, "Retry-After", "%d",
                               status == 429 ? RETRY_BUSY_S : RETRY_UNAVAILABLE_S);
}
