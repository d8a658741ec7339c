/* States of adaptive conformal inference (aci.h). */
#include "engine/trust/aci.h"

#include "core/arena.h"
#include "engine/trust/seal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 2, MAX_LABELS = 4096 };

struct tally {
    uint64_t feedbacks, misses;
};

struct mf_aci {
    struct mf_arena *arena;
    const char *site, *model_hash, *parent; /* parent NULL: the first */
    char id[MF_SHA256_HEX];
    uint64_t version;
    double target, gamma;
    size_t label_count;
    const char **labels;
    double *levels;        /* label_count × (present, absent) */
    struct tally *tallies; /* the same */
};

void mf_aci_free(struct mf_aci *a)
{
    if (!a)
        return;
    mf_arena_free(a->arena);
    free(a);
}

const double *mf_aci_levels(const struct mf_aci *a)
{
    return a->levels;
}

size_t mf_aci_labels(const struct mf_aci *a)
{
    return a->label_count;
}

double mf_aci_target(const struct mf_aci *a)
{
    return a->target;
}

uint64_t mf_aci_version(const struct mf_aci *a)
{
    return a->version;
}

const char *mf_aci_id(const struct mf_aci *a)
{
    return a->id;
}

const char *mf_aci_site(const struct mf_aci *a)
{
    return a->site;
}

const char *mf_aci_model_hash(const struct mf_aci *a)
{
    return a->model_hash;
}

/* Everything but the id. */
static json_t *content(const struct mf_aci *a)
{
    static const char *const NAMES[CLASSES] = {"present", "absent"};
    json_t *labels = json_array();
    for (size_t i = 0; i < a->label_count; i++) {
        json_t *entry = json_pack("{s:s}", "id", a->labels[i]);
        for (size_t c = 0; c < CLASSES; c++) {
            const struct tally *t = &a->tallies[CLASSES * i + c];
            json_object_set_new(entry, NAMES[c],
                                json_pack("{s:f, s:I, s:I}", "alpha", a->levels[CLASSES * i + c],
                                          "feedbacks", (json_int_t)t->feedbacks, "misses",
                                          (json_int_t)t->misses));
        }
        json_array_append_new(labels, entry);
    }
    return json_pack("{s:s, s:o, s:I, s:s, s:s, s:f, s:f, s:o}", "schema", "medfusion.aci/1",
                     "parent", mf_json_string(a->parent), "version", (json_int_t)a->version, "site",
                     a->site, "model_hash", a->model_hash, "target", a->target, "gamma", a->gamma,
                     "labels", labels);
}

static bool seal(struct mf_aci *a, struct mf_error *err)
{
    return mf_seal_id(content(a), a->id, err);
}

static struct mf_aci *make(const char *site, const char *model_hash, const char *const *labels,
                           size_t label_count, struct mf_error *err)
{
    MF_AUTO(mf_aci) struct mf_aci *a = calloc(1, sizeof *a);
    if (!a || !(a->arena = mf_arena_new((size_t)1 << 24))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    a->label_count = label_count;
    a->site = mf_arena_strdup(a->arena, site, err);
    a->model_hash = mf_arena_strdup(a->arena, model_hash, err);
    a->labels = mf_arena_alloc(a->arena, label_count, sizeof *a->labels, err);
    a->levels = mf_arena_alloc(a->arena, CLASSES * label_count, sizeof *a->levels, err);
    a->tallies = mf_arena_alloc(a->arena, CLASSES * label_count, sizeof *a->tallies, err);
    if (!a->site || !a->model_hash || !a->labels || !a->levels || !a->tallies)
        return NULL;
    for (size_t i = 0; i < label_count; i++)
        if (!(a->labels[i] = mf_arena_strdup(a->arena, labels[i], err)))
            return NULL;
    return MF_STEAL(a);
}

struct mf_aci *mf_aci_new(const char *site, const char *model_hash, const char *const *labels,
                          size_t label_count, double target, double gamma, struct mf_error *err)
{
    if (!(target > 0 && target <= 0.5) || !(gamma > 0 && gamma <= 0.5) || label_count == 0 ||
        label_count > MAX_LABELS) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "adaptive conformal inference needs 0 < target ≤ 0.5, 0 < gamma ≤ 0.5 and "
                     "1 to %d labels",
                     MAX_LABELS);
        return NULL;
    }
    MF_AUTO(mf_aci) struct mf_aci *a = make(site, model_hash, labels, label_count, err);
    if (!a)
        return NULL;
    a->target = target;
    a->gamma = gamma;
    for (size_t i = 0; i < CLASSES * label_count; i++)
        a->levels[i] = target;
    return seal(a, err) ? MF_STEAL(a) : NULL;
}

/* One step of one class, or (direction −1) one taken back. */
static void step(struct mf_aci *a, size_t label, int8_t truth, const struct mf_aci_feedback *f,
                 int direction)
{
    size_t at = CLASSES * label + (truth == 0);
    bool missed = !(truth ? f->present_in_set : f->absent_in_set);
    struct tally *t = &a->tallies[at];
    double level = a->levels[at] + direction * a->gamma * (a->target - missed);
    a->levels[at] = fmin(fmax(level, -a->gamma), 1 + a->gamma);
    if (direction > 0) {
        t->feedbacks++;
        t->misses += missed;
    } else if (t->feedbacks > 0) {
        t->feedbacks--;
        t->misses -= missed && t->misses > 0;
    }
}

struct mf_aci *mf_aci_correct(const struct mf_aci *old, const int8_t *before,
                              const struct mf_aci_feedback *feedback, struct mf_error *err)
{
    MF_AUTO(mf_aci)
    struct mf_aci *a = make(old->site, old->model_hash, old->labels, old->label_count, err);
    if (!a || !(a->parent = mf_arena_strdup(a->arena, old->id, err)))
        return NULL;
    a->target = old->target;
    a->gamma = old->gamma;
    a->version = old->version + 1;
    memcpy(a->levels, old->levels, CLASSES * a->label_count * sizeof *a->levels);
    memcpy(a->tallies, old->tallies, CLASSES * a->label_count * sizeof *a->tallies);
    for (size_t i = 0; i < a->label_count; i++) {
        if (before && before[i] >= 0)
            step(a, i, before[i], &feedback[i], -1);
        if (feedback[i].truth >= 0)
            step(a, i, feedback[i].truth, &feedback[i], 1);
    }
    return seal(a, err) ? MF_STEAL(a) : NULL;
}

struct mf_aci *mf_aci_learn(const struct mf_aci *old, const struct mf_aci_feedback *feedback,
                            struct mf_error *err)
{
    return mf_aci_correct(old, NULL, feedback, err);
}

json_t *mf_aci_to_json(const struct mf_aci *a)
{
    return mf_seal_with_id(content(a), a->id);
}

static bool read_class(const json_t *json, double *level, struct tally *tally)
{
    json_int_t feedbacks = mf_json_get_int(json, "feedbacks", -1);
    json_int_t misses = mf_json_get_int(json, "misses", -1);
    *level = mf_json_get_number(json, "alpha", NAN);
    *tally = (struct tally){(uint64_t)feedbacks, (uint64_t)misses};
    /* A level leaves [0, 1] by less than one step. */
    return misses >= 0 && feedbacks >= misses && *level > -1 && *level < 2;
}

static bool read_labels(struct mf_aci *a, const json_t *labels)
{
    for (size_t i = 0; i < a->label_count; i++) {
        const json_t *entry = json_array_get(labels, i);
        if (!read_class(json_object_get(entry, "present"), &a->levels[CLASSES * i],
                        &a->tallies[CLASSES * i]) ||
            !read_class(json_object_get(entry, "absent"), &a->levels[CLASSES * i + 1],
                        &a->tallies[CLASSES * i + 1]))
            return false;
    }
    return true;
}

struct mf_aci *mf_aci_from_json(const json_t *json, struct mf_error *err)
{
    const json_t *labels = json_object_get(json, "labels");
    const char *site = json_string_value(json_object_get(json, "site"));
    const char *hash = json_string_value(json_object_get(json, "model_hash"));
    const char *parent = json_string_value(json_object_get(json, "parent"));
    size_t n = json_array_size(labels);
    const char *names[MAX_LABELS];
    bool ok = strcmp(mf_json_get_string(json, "schema", ""), "medfusion.aci/1") == 0 && site &&
              hash && n > 0 && n <= MAX_LABELS;
    for (size_t i = 0; ok && i < n; i++)
        ok = (names[i] = json_string_value(json_object_get(json_array_get(labels, i), "id")));
    MF_AUTO(mf_aci) struct mf_aci *a = ok ? make(site, hash, names, n, err) : NULL;
    if (ok && (!a || (parent && !(a->parent = mf_arena_strdup(a->arena, parent, err)))))
        return NULL;
    if (ok) {
        json_int_t version = mf_json_get_int(json, "version", -1);
        a->version = (uint64_t)version;
        a->target = mf_json_get_number(json, "target", 0);
        a->gamma = mf_json_get_number(json, "gamma", 0);
        ok = version >= 0 && a->target > 0 && a->target <= 0.5 && a->gamma > 0 && a->gamma <= 0.5 &&
             read_labels(a, labels);
    }
    if (ok && !seal(a, err))
        return NULL;
    if (ok && strcmp(a->id, mf_json_get_string(json, "id", "")) == 0)
        return MF_STEAL(a);
    mf_error_set(err, MF_ERR_MALFORMED, "not a valid medfusion.aci/1");
    return NULL;
}
