/* Drives endpoints without sockets: a request from text, services with a scanner that judges by the
 * content, a store of its own. */
#ifndef MF_TESTS_SERVER_LOOPBACK_H
#define MF_TESTS_SERVER_LOOPBACK_H

#include "server/router.h"
#include "server/services.h"
#include "store_fixture.h"

#include <unistd.h>

struct loopback {
    struct store_fixture f;
    struct mf_config *config;
    struct mf_services services;
    struct mf_served_model model;
    size_t scans;
};

static inline void loopback_stop(void)
{
    fail_msg("the disk failed");
}

/* Accepts everything except a first DICOM part that begins with "refuse:NAME", which it refuses
 * with that code. */
static inline bool loopback_scan(void *context, const struct mf_scan *scan, struct mf_scanned *ret,
                                 struct mf_error *err)
{
    struct loopback *l = context;
    char head[64] = "";
    l->scans++;
    for (size_t i = 0; i < scan->input_count; i++) {
        if (strcmp(scan->inputs[i].part, "dicom") == 0) {
            size_t len = scan->inputs[i].size < 63 ? (size_t)scan->inputs[i].size : 63;
            assert_int_equal(pread(scan->fd, head, len, (off_t)scan->inputs[i].offset), len);
            break;
        }
    }
    if (strncmp(head, "refuse:", 7) == 0)
        return mf_error_set(err, mf_code_from_name(head + 7), "refused by the test");
    snprintf(ret->model, sizeof ret->model, "thorax");
    return mf_buffer_append_str(&ret->index, "{\"schema\":\"medfusion.scan/1\"}", err);
}

static inline void loopback_start(struct loopback *l)
{
    memset(l, 0, sizeof *l);
    fixture_start(&l->f);
    struct mf_error err = MF_ERROR_INIT;
    l->config = mf_config_new(&err);
    assert_non_null(l->config);
    l->config->data.min_free_bytes = 0;
    l->model = (struct mf_served_model){"thorax", "1.0.0", "abc"};
    l->services = (struct mf_services){.config = l->config,
                                       .scanner = {loopback_scan, l},
                                       .stop = loopback_stop,
                                       .models = &l->model,
                                       .model_count = 1};
    l->services.blobs = mf_blobs_open(l->f.directory, "off", 0, &err);
    l->services.keys = mf_keys_new(&err);
    l->services.metrics = mf_metrics_new(NULL, &err);
    l->services.monitor = mf_monitor_new(&err);
    assert_no_error(&err);
}

static inline void loopback_end(struct loopback *l)
{
    mf_blobs_free(l->services.blobs);
    mf_keys_free(l->services.keys);
    mf_monitor_free(l->services.monitor);
    mf_metrics_free(l->services.metrics);
    mf_config_free(l->config);
    fixture_end(&l->f);
}

/* A request up to its header; `headers` are "Name: value" lines separated by \n. Refusals are in
 * *err. */
static inline struct mf_request *loopback_open(struct loopback *l, const char *method,
                                               const char *target, const char *headers,
                                               struct mf_error *err)
{
    struct mf_request *r = mf_request_new(&l->services, NULL);
    assert_non_null(r);
    r->method = method;
    r->store = l->f.store;
    bool ok = mf_request_set_target(r, target, err);
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", headers ? headers : "");
    for (char *save = NULL, *line = strtok_r(copy, "\n", &save); line && ok;
         line = strtok_r(NULL, "\n", &save)) {
        char *colon = strstr(line, ": ");
        assert_non_null(colon);
        *colon = '\0';
        ok = mf_request_add_header(r, line, colon + 2, err);
    }
    (void)(ok && mf_request_check_headers(r, err) && mf_route(r, err) &&
           (!r->endpoint->begin || r->endpoint->begin(r, err)));
    return r;
}

/* The whole way of a request without waiting. The response, or the problem made of *err, is in the
 * request. */
static inline struct mf_request *loopback_request(struct loopback *l, const char *method,
                                                  const char *target, const char *headers,
                                                  const char *body, size_t body_len)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_request *r = loopback_open(l, method, target, headers, &err);
    if (err.code == MF_OK && body_len > 0 && r->endpoint->data) {
        r->body_bytes = body_len;
        (void)r->endpoint->data(r, body, body_len, &err);
    }
    if (err.code == MF_OK)
        (void)r->endpoint->handle(r, &err);
    if (err.code != MF_OK)
        mf_respond_problem(r, &err, NULL);
    return r;
}

static inline struct mf_request *loopback_get(struct loopback *l, const char *target,
                                              const char *headers)
{
    return loopback_request(l, "GET", target, headers, NULL, 0);
}

static inline const char *response_field(const struct mf_request *r, const char *name)
{
    for (size_t i = 0; i < r->response.field_count; i++)
        if (strcmp(r->response.fields[i].name, name) == 0)
            return r->response.fields[i].value;
    return NULL;
}

static inline json_t *response_json(const struct mf_request *r)
{
    json_t *value = json_loadb(r->response.body, r->response.body_len, 0, NULL);
    assert_non_null(value);
    return value;
}

/* The response is a problem with this status and detail. */
static inline void assert_problem(const struct mf_request *r, int status, const char *detail)
{
    json_t *problem = response_json(r);
    assert_string_equal(json_string_value(json_object_get(problem, "detail")), detail);
    assert_int_equal(json_integer_value(json_object_get(problem, "status")), status);
    assert_int_equal(r->response.status, status);
    assert_string_equal(r->response.content_type, "application/problem+json");
    json_decref(problem);
}

#define MULTIPART "Content-Type: multipart/form-data; boundary=B"
#define PART(name, text)                                                                           \
    "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" text "\r\n"
#define END_PARTS "--B--\r\n"

static inline struct mf_request *loopback_post(struct loopback *l, const char *headers,
                                               const char *body)
{
    return loopback_request(l, "POST", "/v1/jobs", headers, body, strlen(body));
}

#endif
