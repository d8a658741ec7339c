/*
 * Open Inference Protocol v2: GET /v2, /v2/health/{live,ready}, /v2/models/{model}[/ready]; and,
 * for load balancers, GET /v2/health/accepting. Live: this process can answer. Accepting: what is
 * sent here would be kept. Ready: that, and some worker is ready for every model.
 */
#include "server/endpoints.h"
#include "server/services.h"

#include <string.h>

static const char JSON_TYPE[] = "application/json";

/* Whether the worker's models (JSON of mf_store_announce) name this one. */
static bool worker_has(const struct mf_worker *worker, const char *model)
{
    MF_AUTO(mf_json) json_t *models = json_loads(worker->models, 0, NULL);
    size_t i;
    const json_t *entry;
    json_array_foreach(models, i, entry)
    {
        if (strcmp(mf_json_get_string(entry, "name", ""), model) == 0)
            return true;
    }
    return false;
}

static bool model_ready(const struct mf_worker *workers, size_t n, const char *model)
{
    for (size_t i = 0; i < n; i++)
        if (workers[i].ready && worker_has(&workers[i], model))
            return true;
    return false;
}

/* Whether an upload would be kept: not stopping, the store answers (with its workers), room. */
static bool accepts(const struct mf_services *services, struct mf_store *store,
                    struct mf_arena *arena, struct mf_worker **ret_workers, size_t *ret_n,
                    struct mf_error *err)
{
    if (__atomic_load_n(&services->draining, __ATOMIC_RELAXED))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the server is stopping");
    return mf_store_workers(store, arena, ret_workers, ret_n, err) &&
           mf_blobs_have_room(services->blobs, 0, err);
}

bool mf_services_ready(const struct mf_services *services, struct mf_store *store,
                       struct mf_arena *arena, const char *model, struct mf_error *err)
{
    struct mf_worker *workers = NULL;
    size_t n = 0;
    if (!accepts(services, store, arena, &workers, &n, err))
        return false;
    if (services->model_count == 0)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "no model is configured");
    for (size_t i = 0; i < services->model_count; i++) {
        const char *name = services->models[i].name;
        if ((!model || strcmp(model, name) == 0) && !model_ready(workers, n, name))
            return mf_error_set(err, MF_ERR_UNAVAILABLE, "no worker is ready for model \"%s\"",
                                name);
    }
    return true;
}

static bool server(struct mf_request *request, struct mf_error *err)
{
    return mf_respond_json_take(
        request, 200, JSON_TYPE,
        json_pack("{s:s, s:s, s:[]}", "name", "medfusion", "version", MF_VERSION, "extensions"),
        err);
}

static bool live(struct mf_request *request, struct mf_error *err)
{
    static const char text[] = "{\"live\":true}";
    (void)err;
    mf_respond_static(request, 200, JSON_TYPE, text, sizeof text - 1);
    return true;
}

static bool accepting(struct mf_request *request, struct mf_error *err)
{
    static const char text[] = "{\"accepting\":true}";
    struct mf_worker *workers = NULL;
    size_t n = 0;
    if (!accepts(request->services, request->store, request->arena, &workers, &n, err))
        return false;
    mf_respond_static(request, 200, JSON_TYPE, text, sizeof text - 1);
    return true;
}

static bool ready(struct mf_request *request, struct mf_error *err)
{
    static const char text[] = "{\"ready\":true}";
    if (!mf_services_ready(request->services, request->store, request->arena, NULL, err))
        return false;
    mf_respond_static(request, 200, JSON_TYPE, text, sizeof text - 1);
    return true;
}

static const struct mf_served_model *find_model(const struct mf_request *request,
                                                struct mf_error *err)
{
    const struct mf_services *s = request->services;
    for (size_t i = 0; i < s->model_count; i++)
        if (strcmp(s->models[i].name, request->parameters[0]) == 0)
            return &s->models[i];
    mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such model");
    return NULL;
}

static bool model(struct mf_request *request, struct mf_error *err)
{
    const struct mf_served_model *m = find_model(request, err);
    return m &&
           mf_respond_json_take(request, 200, JSON_TYPE,
                                json_pack("{s:s, s:[s], s:s, s:[], s:[], s:o}", "name", m->name,
                                          "versions", m->version, "platform", "medfusion", "inputs",
                                          "outputs", "digest", mf_json_string(m->digest)),
                                err);
}

static bool one_model_ready(struct mf_request *request, struct mf_error *err)
{
    const struct mf_served_model *m = find_model(request, err);
    return m &&
           mf_services_ready(request->services, request->store, request->arena, m->name, err) &&
           mf_respond_json_take(request, 200, JSON_TYPE,
                                json_pack("{s:s, s:b}", "name", m->name, "ready", 1), err);
}

const struct mf_endpoint mf_endpoint_server = {
    .method = "GET", .pattern = "/v2", .quick = true, .handle = server};
const struct mf_endpoint mf_endpoint_live = {
    .method = "GET", .pattern = "/v2/health/live", .quick = true, .handle = live};
const struct mf_endpoint mf_endpoint_accepting = {
    .method = "GET", .pattern = "/v2/health/accepting", .handle = accepting};
const struct mf_endpoint mf_endpoint_ready = {
    .method = "GET", .pattern = "/v2/health/ready", .handle = ready};
const struct mf_endpoint mf_endpoint_model = {
    .method = "GET", .pattern = "/v2/models/{model}", .quick = true, .handle = model};
const struct mf_endpoint mf_endpoint_model_ready = {
    .method = "GET", .pattern = "/v2/models/{model}/ready", .handle = one_model_ready};
