/* Router: matching of paths, segment by segment, against the endpoints' patterns. */
#include "server/router.h"

#include "server/endpoints.h"

#include <string.h>

/* Which endpoints there are, and the right that each needs (access.h). */
static const struct {
    const struct mf_endpoint *endpoint;
    enum mf_access access;
} ROUTES[] = {
    {&mf_endpoint_jobs_post, MF_ACCESS_JOBS_WRITE},
    {&mf_endpoint_jobs_list, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_job_get, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_job_cancel, MF_ACCESS_JOBS_WRITE},
    {&mf_endpoint_job_purge, MF_ACCESS_JOBS_WRITE},
    {&mf_endpoint_events, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_job_events, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_result, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_feedback_put, MF_ACCESS_JOBS_WRITE},
    {&mf_endpoint_feedback_get, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_quality, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_admin_models, MF_ACCESS_ADMIN},
    {&mf_endpoint_admin_reload_get, MF_ACCESS_ADMIN},
    {&mf_endpoint_admin_reload_post, MF_ACCESS_ADMIN},
    {&mf_endpoint_admin_audit, MF_ACCESS_ADMIN},
    {&mf_endpoint_admin_keys_get, MF_ACCESS_ADMIN},
    {&mf_endpoint_admin_keys_post, MF_ACCESS_ADMIN},
    {&mf_endpoint_admin_keys_delete, MF_ACCESS_ADMIN},
    {&mf_endpoint_dead_letters_list, MF_ACCESS_ADMIN},
    {&mf_endpoint_dead_letters_drop, MF_ACCESS_ADMIN},
    {&mf_endpoint_dead_letters_retry, MF_ACCESS_ADMIN},
    {&mf_endpoint_dead_letter_get, MF_ACCESS_ADMIN},
    {&mf_endpoint_dead_letter_drop, MF_ACCESS_ADMIN},
    {&mf_endpoint_dead_letter_retry, MF_ACCESS_ADMIN},
    {&mf_endpoint_server, MF_ACCESS_ANY},
    {&mf_endpoint_live, MF_ACCESS_PUBLIC},
    {&mf_endpoint_accepting, MF_ACCESS_PUBLIC},
    {&mf_endpoint_ready, MF_ACCESS_PUBLIC},
    {&mf_endpoint_model, MF_ACCESS_ANY},
    {&mf_endpoint_model_ready, MF_ACCESS_ANY},
    {&mf_endpoint_metrics, MF_ACCESS_METRICS},
    {&mf_endpoint_openapi, MF_ACCESS_PUBLIC},
    {&mf_endpoint_study, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_stow, MF_ACCESS_DICOM_WRITE},
    {&mf_endpoint_stow_study, MF_ACCESS_DICOM_WRITE},
    {&mf_endpoint_qido_studies, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_qido_series, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_qido_instances, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_qido_study_series, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_qido_study_instances, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_qido_series_instances, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_study, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_series, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_instance, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_study_metadata, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_series_metadata, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_instance_metadata, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_rendered, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_frames_rendered, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_series_rendered, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_study_rendered, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_study_thumbnail, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_series_thumbnail, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_instance_thumbnail, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_wado_frame_thumbnail, MF_ACCESS_DICOM_READ},
    {&mf_endpoint_artifacts, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_artifact, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_fhir_metadata, MF_ACCESS_PUBLIC},
    {&mf_endpoint_token, MF_ACCESS_PUBLIC},
    {&mf_endpoint_smart_configuration, MF_ACCESS_PUBLIC},
    {&mf_endpoint_fhir_infer, MF_ACCESS_FHIR_WRITE},
    {&mf_endpoint_fhir_poll, MF_ACCESS_FHIR_READ},
    {&mf_endpoint_fhir_cancel, MF_ACCESS_FHIR_WRITE},
    {&mf_endpoint_fhir_read, MF_ACCESS_FHIR_READ},
    {&mf_endpoint_fhir_search, MF_ACCESS_FHIR_SEARCH},
    {&mf_endpoint_cds_list, MF_ACCESS_PUBLIC},
    {&mf_endpoint_cds_call, MF_ACCESS_FHIR_SEARCH},
    {&mf_endpoint_frames, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_frame, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_report, MF_ACCESS_JOBS_READ},
    {&mf_endpoint_root, MF_ACCESS_PUBLIC},
    {&mf_endpoint_ui_bare, MF_ACCESS_PUBLIC},
    {&mf_endpoint_ui, MF_ACCESS_PUBLIC},
    {&mf_endpoint_ui_file, MF_ACCESS_PUBLIC},
    {&mf_endpoint_schemas, MF_ACCESS_PUBLIC},
    {&mf_endpoint_schema, MF_ACCESS_PUBLIC},
};

enum { ENDPOINT_COUNT = sizeof ROUTES / sizeof ROUTES[0], ALLOW_BYTES = 64 };

size_t mf_route_count(void)
{
    return ENDPOINT_COUNT;
}

const struct mf_endpoint *mf_route_at(size_t i)
{
    return ROUTES[i].endpoint;
}

enum mf_access mf_route_access(const struct mf_endpoint *endpoint)
{
    size_t i = mf_route_index(endpoint);
    return i < ENDPOINT_COUNT ? ROUTES[i].access : MF_ACCESS_NONE;
}

size_t mf_route_index(const struct mf_endpoint *endpoint)
{
    size_t i = 0;
    while (i < ENDPOINT_COUNT && ROUTES[i].endpoint != endpoint)
        i++;
    return i;
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* A segment with its escapes decoded; they are known to be well-formed. */
static const char *decode_segment(struct mf_arena *arena, const char *text, size_t len,
                                  struct mf_error *err)
{
    char *out = mf_arena_alloc(arena, len + 1, 1, err);
    if (!out)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        bool escape = text[i] == '%';
        out[n++] = escape ? (char)(hex_digit(text[i + 1]) << 4 | hex_digit(text[i + 2])) : text[i];
        i += escape ? 2 : 0;
    }
    return out;
}

/* Whether the path fits; the segments that {…} took are left in taken[] (pointers into the path).
 */
static bool fits(const char *pattern, const char *path, const char *taken[MF_PATH_PARAMETERS],
                 size_t *count)
{
    *count = 0;
    while (*pattern == '/' && *path == '/') {
        pattern++;
        path++;
        size_t want = strcspn(pattern, "/"), have = strcspn(path, "/");
        if (pattern[0] == '{') {
            if (have == 0 || *count == MF_PATH_PARAMETERS)
                return false;
            taken[(*count)++] = path;
        } else if (want != have || memcmp(pattern, path, want) != 0) {
            return false;
        }
        pattern += want;
        path += have;
    }
    return *pattern == '\0' && *path == '\0';
}

static bool method_fits(const struct mf_endpoint *e, const char *method)
{
    return strcmp(e->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(e->method, "GET") == 0);
}

static bool take(struct mf_request *request, const struct mf_endpoint *e, const char *taken[],
                 size_t count, struct mf_error *err)
{
    for (size_t i = 0; i < count; i++) {
        request->parameters[i] =
            decode_segment(request->arena, taken[i], strcspn(taken[i], "/"), err);
        if (!request->parameters[i])
            return false;
    }
    request->endpoint = e;
    return true;
}

bool mf_route(struct mf_request *request, struct mf_error *err)
{
    char allow[ALLOW_BYTES] = "";
    for (size_t i = 0; i < ENDPOINT_COUNT; i++) {
        const struct mf_endpoint *e = ROUTES[i].endpoint;
        const char *taken[MF_PATH_PARAMETERS];
        size_t count = 0;
        if (!fits(e->pattern, request->path, taken, &count))
            continue;
        if (method_fits(e, request->method))
            return take(request, e, taken, count, err);
        size_t used = strlen(allow);
        snprintf(allow + used, sizeof allow - used, "%s%s", used ? ", " : "",
                 strcmp(e->method, "GET") == 0 ? "GET, HEAD" : e->method);
    }
    if (!allow[0])
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is nothing at this path");
    if (!mf_respond_field(request, err, "Allow", "%s", allow))
        return false;
    return mf_error_set(err, MF_ERR_METHOD, "this method is not allowed here: %s", allow);
}
