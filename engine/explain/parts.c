/* What single frames and EHR features are worth: the network run again without them. */
#include "engine/explain/explain_private.h"
#include "engine/explain/shapley.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* --- frames --- */

/* Logits of the study without frame f. The frames that are left have the ranks and, for `days`,
 * the distances that they would have had without it. */
static bool leave_out(struct mf_explainer *e, const struct mf_explain_input *in, size_t f,
                      struct mf_error *err)
{
    size_t n = in->frame_count - 1, one = e->tokens * e->grid.width;
    double positions[MF_EXPLAIN_FRAMES];
    memcpy(e->moved, e->regions, f * one * sizeof *e->moved);
    memcpy(e->moved + f * one, e->regions + (f + 1) * one, (n - f) * one * sizeof *e->moved);
    for (size_t i = 0; in->positions && i < n; i++)
        positions[i] = in->positions[i + (i >= f)];
    if (in->positions && mf_temporal_position(e->temporal) == MF_POSITION_DAYS)
        for (size_t i = 0; i < n; i++)
            positions[i] -= in->positions[n - (f < n ? 0 : 1)];
    struct mf_explain_run r = {
        .e = e, .frames = n, .regions = e->moved, .positions = in->positions ? positions : NULL};
    return mf_explain_plan(e, n, err) && mf_explain_replay(e, mf_explain_upper, &r, err);
}

static bool weigh_frames(struct mf_explainer *e, const struct mf_explain_input *in,
                         struct mf_explanation *out, struct mf_error *err)
{
    size_t n = in->frame_count;
    for (size_t f = 0; f < n; f++) {
        if (n > 1 && !leave_out(e, in, f, err))
            return false;
        for (size_t c = 0; c < in->label_count; c++)
            out->frame[c * n + f] = n > 1 ? out->logit[c] - e->logits[in->labels[c]] : NAN;
    }
    return true;
}

/* --- features --- */

struct coalition {
    struct mf_explainer *e;
    const struct mf_explain_input *in;
    const size_t *group_of; /* (features) */
    const size_t *player;   /* (groups): its player, or SIZE_MAX when all of it is missing */
};

static bool value(void *arg, const unsigned char *present, double *ret, struct mf_error *err)
{
    const struct coalition *c = arg;
    struct mf_explainer *e = c->e;
    for (size_t i = 0; i < e->features; i++) {
        size_t player = c->player[c->group_of[i]];
        e->present[i] = e->missing[i] || !present[player];
    }
    struct mf_explain_run r = {.e = e, .frames = c->in->frame_count, .missing = e->present};
    if (!mf_explain_replay(e, mf_explain_ehr, &r, err) ||
        !mf_explain_replay(e, mf_explain_fusion, &r, err))
        return false;
    for (size_t i = 0; i < c->in->label_count; i++)
        ret[i] = e->logits[c->in->labels[i]];
    return true;
}

/* Groups in the order of their first feature. */
static size_t find_groups(const struct mf_feature_set *set, size_t *group_of, const char **names)
{
    size_t n = 0;
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->features[i].group;
        size_t k = 0;
        while (k < i &&
               !(name && set->features[k].group && strcmp(name, set->features[k].group) == 0))
            k++;
        group_of[i] = k < i ? group_of[k] : n;
        if (k == i)
            names[n++] = name ? name : set->features[i].id;
    }
    return n;
}

static bool weigh_features(struct mf_explainer *e, const struct mf_explain_input *in,
                           struct mf_arena *arena, struct mf_explanation *out, struct mf_error *err)
{
    size_t labels = in->label_count, n = e->features, players = 0;
    size_t *group_of = mf_arena_alloc(arena, n + 1, sizeof *group_of, err);
    const char **names = mf_arena_alloc(arena, n + 1, sizeof *names, err);
    size_t *player = mf_arena_alloc(arena, n + 1, sizeof *player, err);
    double *shares = mf_arena_alloc(arena, labels * n + 1, sizeof *shares, err);
    double *all = mf_arena_alloc(arena, labels + 1, sizeof *all, err);
    if (!group_of || !names || !player || !shares || !all)
        return false;
    out->group_count = n ? find_groups(e->bundle->features, group_of, names) : 0;
    out->group_of = group_of;
    out->groups = names;
    memset(player, 0xff, n * sizeof *player);
    for (size_t i = 0; i < n; i++)
        if (!e->missing[i] && player[group_of[i]] == SIZE_MAX)
            player[group_of[i]] = players++;
    struct coalition c = {e, in, group_of, player};
    const struct mf_shapley game = {players, labels, value, &c};
    if (n && !mf_shapley(&game, shares, out->unknown, all, err))
        return false;
    for (size_t k = 0; k < labels * out->group_count; k++) {
        size_t p = player[k % out->group_count];
        out->shapley[k] = p == SIZE_MAX ? 0 : shares[k / out->group_count * players + p];
    }
    return true;
}

/* The sequence's output for all frames is in e->image again before features are weighed. */
bool mf_explain_parts(struct mf_explainer *e, const struct mf_explain_input *in,
                      struct mf_arena *arena, struct mf_explanation *out, struct mf_error *err)
{
    size_t labels = in->label_count;
    struct mf_explain_run r = {
        .e = e, .frames = in->frame_count, .regions = e->regions, .positions = in->positions};
    out->frame = mf_arena_alloc(arena, labels * in->frame_count + 1, sizeof *out->frame, err);
    out->shapley = mf_arena_alloc(arena, labels * e->features + 1, sizeof *out->shapley, err);
    out->unknown = mf_arena_alloc(arena, labels + 1, sizeof *out->unknown, err);
    if (!out->frame || !out->shapley || !out->unknown || !weigh_frames(e, in, out, err))
        return false;
    return !e->ehr || (mf_explain_replay(e, mf_explain_upper, &r, err) &&
                       weigh_features(e, in, arena, out, err));
}
