/* Feedback on results: see feedback.h. */
#include "server/feedback.h"

#include "core/clock.h"
#include "server/levels.h"
#include "server/pipeline.h"

#include <math.h>
#include <string.h>

enum { TRIES = 20, MAX_LABELS = 4096 };

static const char *const WORDS[] = {"absent", "present", "unknown"};
enum { UNKNOWN_WORD = 2, WORD_COUNT = 3 };

/* --- statements --- */

static const char *label_of(const json_t *predictions, size_t i)
{
    return mf_json_get_string(json_array_get(predictions, i), "label", "");
}

static bool check_label(const json_t *predictions, const char *id, const json_t *value,
                        struct mf_error *err)
{
    const char *word = json_string_value(value);
    size_t i = 0, n = json_array_size(predictions), w = 0;
    while (i < n && strcmp(label_of(predictions, i), id) != 0)
        i++;
    while (w < WORD_COUNT && (!word || strcmp(word, WORDS[w]) != 0))
        w++;
    if (i == n)
        return mf_error_set(err, MF_ERR_UNUSABLE, "feedback: the result has no label \"%.64s\"",
                            id);
    return w < WORD_COUNT ||
           mf_error_set(err, MF_ERR_UNUSABLE, "feedback: a label is present, absent or unknown");
}

/* A name without control characters, which is kept with the audit trail. */
static bool check_reader(const char *reader, struct mf_error *err)
{
    size_t n = reader ? strlen(reader) : 0;
    bool ok = n > 0 && n < MF_READER;
    for (size_t i = 0; ok && i < n; i++)
        ok = (unsigned char)reader[i] >= ' ' && reader[i] != 0x7f;
    return ok ||
           mf_error_set(err, MF_ERR_UNUSABLE,
                        "feedback: \"reader\" must be a name of at most %d bytes", MF_READER - 1);
}

/* What a reader says, in the order of the result's labels and without what is not known, so that
 * equal statements are equal texts; NULL on failure. */
static char *canonical(const json_t *statement, const json_t *predictions, struct mf_error *err)
{
    json_t *labels = json_object_get(statement, "labels");
    MF_AUTO(mf_json) json_t *said = json_object();
    const char *id;
    json_t *value;
    bool ok = said != NULL;
    json_object_foreach(labels, id, value)
    {
        if (!check_label(predictions, id, value, err))
            return NULL;
    }
    for (size_t i = 0; ok && i < json_array_size(predictions); i++) {
        id = label_of(predictions, i);
        value = json_object_get(labels, id);
        if (value && strcmp(json_string_value(value), WORDS[UNKNOWN_WORD]) != 0)
            ok = json_object_set(said, id, value) == 0;
    }
    char *text = ok ? mf_json_text(said, 0) : NULL;
    if (!text)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for feedback");
    return text;
}

/* *ret_reader: as named, NULL = it names none. */
static json_t *parse_statement(const char *text, size_t len, const char **ret_reader,
                               struct mf_error *err)
{
    static const char *const KEYS[] = {"reader", "labels", NULL};
    const struct mf_json_limits limits = {1 << 20, 4};
    MF_AUTO(mf_json) json_t *json = mf_json_parse(text, len, &limits, "feedback", err);
    if (!json)
        return NULL;
    if (!json_is_object(json) || !json_is_object(json_object_get(json, "labels"))) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "feedback: must be an object with \"labels\", an object");
        return NULL;
    }
    const json_t *reader = json_object_get(json, "reader");
    *ret_reader = json_string_value(reader);
    if (!mf_json_only_keys(json, KEYS, "feedback", MF_ERR_UNUSABLE, err) ||
        (reader && !check_reader(*ret_reader, err)))
        return NULL;
    return MF_STEAL(json);
}

/* Under which name the reader is known; NULL on failure. */
static const char *full_reader(const char *by, const char *reader, struct mf_arena *arena,
                               struct mf_error *err)
{
    if (!by || !reader)
        return reader ? reader : by ? by : MF_READER_DEFAULT;
    const char *name = mf_arena_printf(arena, err, "%s/%s", by, reader);
    return name && check_reader(name, err) ? name : NULL;
}

/* --- truth --- */

bool mf_feedback_truth(const struct mf_observed *o, const json_t *predictions, int8_t *ret_truth,
                       struct mf_error *err)
{
    enum { NOTHING = -1, DISPUTED = -2 };
    size_t n = json_array_size(predictions);
    memset(ret_truth, NOTHING, n);
    for (size_t r = 0; r < o->feedback_count; r++) {
        const struct mf_feedback *f = &o->feedback[r];
        MF_AUTO(mf_json)
        json_t *said = mf_json_parse(f->body, strlen(f->body), NULL, "feedback", err);
        if (!said)
            return false;
        for (size_t i = 0; i < n; i++) {
            const char *word = mf_json_get_string(said, label_of(predictions, i), NULL);
            int8_t truth = word ? strcmp(word, "present") == 0 : NOTHING;
            if (word && ret_truth[i] == NOTHING)
                ret_truth[i] = truth;
            else if (word && ret_truth[i] != truth)
                ret_truth[i] = DISPUTED;
        }
    }
    for (size_t i = 0; i < n; i++)
        ret_truth[i] = ret_truth[i] == DISPUTED ? NOTHING : ret_truth[i];
    return true;
}

static bool set_has(const json_t *prediction, const char *class)
{
    const json_t *set = json_object_get(prediction, "prediction_set");
    for (size_t i = 0; i < json_array_size(set); i++) {
        const char *word = json_string_value(json_array_get(set, i));
        if (word && strcmp(word, class) == 0)
            return true;
    }
    return false;
}

/* --- learning --- */

/* The whole of one statement on its way into the store. */
struct giving {
    struct mf_store *store;
    const char *tenant;
    struct mf_arena *arena;
    struct mf_observed seen;
    json_t *result; /* of `seen` */
    const char *reader, *body;
    int8_t before[MAX_LABELS], after[MAX_LABELS];
};

/* What readers agree on with this statement in the place of the reader's earlier one. */
static bool truth_with(struct giving *g, const json_t *predictions, struct mf_error *err)
{
    const struct mf_observed *o = &g->seen;
    struct mf_feedback *rows = mf_arena_alloc(g->arena, o->feedback_count + 1, sizeof *rows, err);
    struct mf_observed with = *o;
    if (!rows)
        return false;
    with.feedback_count = 0;
    for (size_t i = 0; i < o->feedback_count; i++)
        if (strcmp(o->feedback[i].reader, g->reader) != 0)
            rows[with.feedback_count++] = o->feedback[i];
    rows[with.feedback_count++] = (struct mf_feedback){.reader = g->reader, .body = g->body};
    with.feedback = rows;
    return mf_feedback_truth(o, predictions, g->before, err) &&
           mf_feedback_truth(&with, predictions, g->after, err);
}

/* The labels that learn from this study, and whether any of their truths has changed. */
static bool fill_lessons(struct giving *g, const json_t *predictions,
                         struct mf_aci_feedback *lessons)
{
    bool changed = false;
    for (size_t i = 0; i < json_array_size(predictions); i++) {
        const json_t *p = json_array_get(predictions, i);
        if (strcmp(mf_json_get_string(p, "method", ""), "adaptive_conformal") != 0)
            g->before[i] = g->after[i] = -1;
        lessons[i] =
            (struct mf_aci_feedback){g->after[i], set_has(p, "present"), set_has(p, "absent")};
        changed |= g->before[i] != g->after[i];
    }
    return changed;
}

/* The state that the site has when it has learnt from this; `put` gets its name, version and text.
 */
static bool learn(struct giving *g, const json_t *predictions,
                  const struct mf_aci_feedback *lessons, struct mf_feedback_put *put,
                  struct mf_error *err)
{
    struct mf_pipeline_options options;
    size_t n = json_array_size(predictions);
    const char **labels = mf_arena_alloc(g->arena, n, sizeof *labels, err);
    char *name = mf_arena_alloc(g->arena, MF_STATE_KEY, 1, err);
    if (!labels || !name ||
        !mf_pipeline_options_parse(g->seen.options, strlen(g->seen.options), &options, err))
        return false;
    for (size_t i = 0; i < n; i++)
        labels[i] = label_of(predictions, i);
    const struct mf_levels_key key = {
        .tenant = g->tenant,
        .model_hash = mf_json_get_string(json_object_get(g->result, "model"), "model_hash", ""),
        .site = options.site,
        .alpha = mf_json_get_number(g->result, "alpha", NAN),
        .labels = labels,
        .label_count = n};
    MF_AUTO(mf_aci) struct mf_aci *old = mf_levels_load(g->store, &key, err);
    MF_AUTO(mf_aci)
    struct mf_aci *next = old ? mf_aci_correct(old, g->before, lessons, err) : NULL;
    MF_AUTO(mf_json) json_t *json = next ? mf_aci_to_json(next) : NULL;
    MF_AUTO(mf_mem)
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    if (!text)
        return next ? mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for feedback") : false;
    mf_levels_name(&key, name);
    put->state_key = name;
    put->state_version = (int64_t)mf_aci_version(next);
    put->state = mf_arena_strdup(g->arena, text, err);
    return put->state != NULL;
}

static bool already_said(const struct giving *g)
{
    for (size_t i = 0; i < g->seen.feedback_count; i++)
        if (strcmp(g->seen.feedback[i].reader, g->reader) == 0)
            return strcmp(g->seen.feedback[i].body, g->body) == 0;
    return false;
}

/* One attempt: *ret_kept is false when somebody else was faster. */
static bool give_once(struct giving *g, const json_t *predictions, bool *ret_kept,
                      struct mf_error *err)
{
    struct mf_feedback_put put = {
        .tenant = g->tenant, .reader = g->reader, .body = g->body, .revision = g->seen.revision};
    memcpy(put.job, g->seen.job.id, sizeof put.job);
    struct mf_aci_feedback *lessons =
        mf_arena_alloc(g->arena, json_array_size(predictions) + 1, sizeof *lessons, err);
    if (!lessons || !truth_with(g, predictions, err))
        return false;
    if (fill_lessons(g, predictions, lessons) && !learn(g, predictions, lessons, &put, err))
        return false;
    return mf_store_feedback_put(g->store, &put, ret_kept, err);
}

bool mf_feedback_read(struct mf_store *store, const char *tenant, const char *id,
                      struct mf_arena *arena, struct mf_observed *ret, struct mf_error *err)
{
    if (!mf_store_feedback(store, tenant, id, arena, ret, err))
        return false;
    if (ret->job.purged)
        return mf_error_set(err, MF_ERR_GONE, "the job's data was purged");
    return ret->result ||
           mf_error_set(err, MF_ERR_CONFLICT, "the job is %s: it has no result to speak about",
                        mf_job_state_name(ret->job.state));
}

bool mf_feedback_give(struct mf_store *store, const char *tenant, const char *by, const char *id,
                      const char *text, size_t len, struct mf_arena *arena, struct mf_observed *ret,
                      struct mf_error *err)
{
    struct giving *g = mf_arena_alloc(arena, 1, sizeof *g, err);
    const char *reader = NULL;
    if (!g)
        return false;
    *g = (struct giving){.store = store, .tenant = tenant, .arena = arena};
    if (!mf_feedback_read(store, tenant, id, arena, &g->seen, err))
        return false;
    MF_AUTO(mf_json) json_t *statement = parse_statement(text, len, &reader, err);
    MF_AUTO(mf_json)
    json_t *result =
        statement ? mf_json_parse(g->seen.result, g->seen.result_len, NULL, "result", err) : NULL;
    const json_t *predictions = json_object_get(result, "predictions");
    MF_AUTO(mf_mem) char *body = result ? canonical(statement, predictions, err) : NULL;
    if (!body || !(g->reader = full_reader(by, reader, arena, err)))
        return false;
    if (json_array_size(predictions) > MAX_LABELS)
        return mf_error_set(err, MF_ERR_INTERNAL, "the result has too many labels");
    g->result = result;
    g->body = body;
    for (int i = 0; i < TRIES && !already_said(g); i++) {
        bool kept = false;
        if (!give_once(g, predictions, &kept, err) ||
            !mf_feedback_read(store, tenant, id, arena, &g->seen, err))
            return false;
    }
    *ret = g->seen;
    return already_said(g) || mf_error_set(err, MF_ERR_UNAVAILABLE,
                                           "too much feedback comes at once; try again later");
}

/* --- the document --- */

static json_t *agreed_json(const json_t *predictions, const int8_t *truth)
{
    json_t *agreed = json_object();
    for (size_t i = 0; agreed && i < json_array_size(predictions); i++)
        if (truth[i] >= 0)
            json_object_set_new(agreed, label_of(predictions, i), json_string(WORDS[truth[i]]));
    return agreed;
}

json_t *mf_feedback_to_json(const struct mf_observed *o, struct mf_error *err)
{
    int8_t truth[MAX_LABELS];
    MF_AUTO(mf_json) json_t *list = json_array();
    MF_AUTO(mf_json) json_t *result = mf_json_parse(o->result, o->result_len, NULL, "result", err);
    const json_t *predictions = json_object_get(result, "predictions");
    if (!result || json_array_size(predictions) > MAX_LABELS ||
        !mf_feedback_truth(o, predictions, truth, err))
        return NULL;
    for (size_t i = 0; i < o->feedback_count; i++) {
        const struct mf_feedback *f = &o->feedback[i];
        char time[MF_TIME_TEXT];
        json_t *labels = mf_json_parse(f->body, strlen(f->body), NULL, "feedback", err);
        if (!labels)
            return NULL;
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o}", "reader", f->reader, "time",
                                        mf_clock_format_ms(f->time_ms, time), "labels", labels));
    }
    json_t *json =
        json_pack("{s:s, s:s, s:O, s:o}", "schema", "medfusion.feedback/1", "job", o->job.id,
                  "feedback", list, "agreed", agreed_json(predictions, truth));
    if (!json)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for feedback");
    return json;
}
