/*
 * Courier: a job of a work item's inputs. They come from configured sources only: the one that the
 * work item's retrieve URL or AE title belongs to, else ups.source. No address of a work item is
 * ever contacted.
 */
#include "server/courier_ups_private.h"

#include "server/fetch_source.h"

#include "core/clock.h"
#include "core/log.h"

#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES = 256 << 20, KEY = 128 };

static struct mf_fetch new_fetch(const struct mf_courier_ups *u, const char *source,
                                 const char *study, const char *model)
{
    const struct mf_courier_tools *t = &u->tools;
    return (struct mf_fetch){.config = t->config,
                             .query = t->query,
                             .registry = t->registry,
                             .store = t->store,
                             .blobs = t->blobs,
                             .tenant = t->config->ups.tenant,
                             .source = source,
                             .study = study,
                             .model = model[0] ? model : NULL};
}

/* A name in fetch.sources; NULL: the tenant's first. */
static const char *source_of(const struct mf_config *config, const struct mf_ups_input *in,
                             struct mf_fetch_source *from)
{
    if (mf_fetch_source_match(config, config->ups.tenant, in->place.url, in->place.ae, from))
        return from->name;
    return strcmp(config->ups.source, "off") == 0 ? NULL : config->ups.source;
}

static bool fetch_all(const struct mf_courier_ups *u, const struct mf_ups_item *item,
                      struct mf_collection *l, const char *model, struct mf_error *err)
{
    for (size_t i = 0; i < item->input_count; i++) {
        struct mf_fetch_source from;
        struct mf_fetch wanted = new_fetch(u, source_of(u->config, &item->inputs[i], &from),
                                           item->inputs[i].study, model);
        if (!mf_collection_fetch(l, &wanted, mf_fetch_study, err))
            return false;
    }
    l->current = l->count;
    return true;
}

/* A work item of one study gets the priors that the models want; one of several has said itself
 * what else is to be looked at. False: they were to be asked for, and there was no answer. */
static bool fetch_priors(const struct mf_courier_ups *u, const struct mf_ups_item *item,
                         struct mf_collection *l, const char *model)
{
    struct mf_fetch_source from;
    struct mf_error problem = MF_ERROR_INIT;
    const struct mf_config *config = u->config;
    struct mf_fetch wanted =
        new_fetch(u, source_of(config, &item->inputs[0], &from), item->inputs[0].study, model);
    wanted.deadline_ns =
        mf_clock_monotonic_ns() + (uint64_t)config->fetch.timeout_s * UINT64_C(1000000000);
    if (item->input_count > 1 || mf_collection_fetch(l, &wanted, mf_fetch_earlier, &problem))
        return true;
    mf_log(MF_LOG_WARN, "ups.priors_failed", MF_LOG_S("reason", problem.msg));
    return false;
}

/* The model that the work item's code stands for, "" = none. */
static void choose_model(const struct mf_config *config, const struct mf_ups_item *item,
                         char ret[128])
{
    ret[0] = '\0';
    for (size_t i = 0; i < config->ups.codes.count && !ret[0]; i++) {
        struct mf_ups_code code;
        char model[128];
        if (mf_ups_code_parse(config->ups.codes.items[i], &code, model) &&
            mf_ups_codes_have(&item->work, &code))
            memcpy(ret, model, sizeof model);
    }
}

static bool check(const struct mf_ups_item *item, struct mf_error *err)
{
    if (item->too_many)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the work item names more than %d studies",
                            MF_UPS_STUDIES);
    return item->input_count > 0 ||
           mf_error_set(err, MF_ERR_UNUSABLE, "the work item names no study as its input");
}

/* The options of the job; the caller frees them. */
static char *make_options(const char *model, bool priors)
{
    MF_AUTO(mf_json) json_t *options = json_object();
    if (model[0])
        json_object_set_new(options, "model", json_string(model));
    if (!priors)
        json_object_set_new(options, "priors_unavailable", json_true());
    return mf_json_text(options, 0);
}

static bool submit(const struct mf_courier_ups *u, const struct mf_ups_item *item,
                   struct mf_collection *l, struct mf_submitted *ret, struct mf_error *err)
{
    const enum mf_priority high = MF_PRIORITY_STAT;
    char model[128], key[KEY];
    choose_model(u->config, item, model);
    if (!fetch_all(u, item, l, model, err))
        return false;
    MF_AUTO(mf_mem) char *options = make_options(model, fetch_priors(u, item, l, model));
    if (!options)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a work item");
    /* The control character keeps it apart from every client's Idempotency-Key. */
    snprintf(key, sizeof key, "\001ups/%s", item->uid);
    const struct mf_job_wish wish = {.study = item->input_count == 1 ? item->inputs[0].study : NULL,
                                     .patient = item->patient_id,
                                     .options = options,
                                     .priority = item->high ? &high : NULL,
                                     .key = key};
    return mf_collection_submit(l, &wish, ret, err);
}

bool mf_courier_ups_job(const struct mf_courier_ups *u, const struct mf_ups_item *item,
                        char ret_job[MF_JOB_ID], struct mf_error *err)
{
    struct mf_submitted made;
    struct mf_collection l;
    if (!check(item, err))
        return false;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a work item");
    mf_collection_init(&l, &u->tools, u->config->ups.tenant, arena);
    bool ok = submit(u, item, &l, &made, err);
    mf_collection_close(&l);
    if (ok)
        memcpy(ret_job, made.id, MF_JOB_ID);
    return ok;
}
