/*
 * A worker's claims. A worker on the CPU runs what it has claimed one after the other. One whose
 * device computes several studies together waits a little for more to come, but never longer than
 * worker.batch_wait_ms after the first, and not at all beside a STAT study; what is more urgent is
 * computed before the rest.
 */
#include "server/worker_private.h"

#include "core/clock.h"

#include <string.h>

enum { CLAIM_ARENA = 512 << 20, GPU_BATCH = 8 };

static const uint64_t MS = 1000000;

static void fill_refs(const struct mf_claim *claims, size_t count, struct mf_job_ref *refs)
{
    for (size_t i = 0; i < count; i++) {
        refs[i].fence = claims[i].fence;
        memcpy(refs[i].id, claims[i].id, sizeof refs[i].id);
    }
}

size_t mf_worker_group(const struct mf_claim *claims, size_t count)
{
    size_t n = 1;
    while (n < count && !claims[n].solo && !claims[0].solo &&
           claims[n].priority == claims[0].priority)
        n++;
    return n;
}

/* Runs claimed jobs; those not begun when the worker is told to stop go back. */
static bool run_claims(struct worker *w, const struct mf_claim *claims, size_t count,
                       struct mf_arena *arena, struct mf_error *err)
{
    struct mf_job_ref refs[MF_WORKER_MOST_CLAIMS] = {{{0}, 0}};
    bool ok = true;
    size_t done = 0;
    fill_refs(claims, count, refs);
    mf_heartbeat_hold(w->heartbeat, refs, count);
    while (ok && done < count && !mf_worker_stopping()) {
        bool together = mf_pipeline_batch(w->pipeline) > 1;
        size_t n = together ? mf_worker_group(claims + done, count - done) : 1;
        ok = mf_worker_run_jobs(w, claims, done, n, arena, err);
        done += n;
    }
    if (ok && done < count)
        ok = mf_worker_release(w, refs + done, count - done, MF_END_RETURNED, err);
    mf_heartbeat_hold(w->heartbeat, NULL, 0);
    return ok;
}

void mf_worker_sort(struct mf_claim *claims, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct mf_claim claim = claims[i];
        size_t k = i;
        for (; k > 0 && claims[k - 1].priority > claim.priority; k--)
            claims[k] = claims[k - 1];
        claims[k] = claim;
    }
}

/* Claims at most `max` jobs beside those in `claims`, and adds them. */
static bool claim_more(struct worker *w, size_t max, int wait_ms, struct mf_arena *arena,
                       struct mf_claim *claims, size_t *count, struct mf_error *err)
{
    struct mf_job_ref held[MF_WORKER_MOST_CLAIMS];
    struct mf_claim *more = NULL;
    size_t n = 0;
    fill_refs(claims, *count, held);
    const struct mf_claim_request request = {.worker = w->options->id,
                                             .max = max - *count,
                                             .wait_ms = wait_ms,
                                             .held = held,
                                             .held_count = *count};
    if (!mf_store_claim(w->store, &request, arena, &more, &n, err))
        return false;
    for (size_t i = 0; i < n && *count < max; i++)
        claims[(*count)++] = more[i];
    return true;
}

bool mf_worker_has_time(const struct mf_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (claims[i].solo || claims[i].priority == MF_PRIORITY_STAT)
            return false;
    return true;
}

static size_t most_claims(struct worker *w)
{
    size_t wanted = (size_t)w->options->config->worker.batch;
    return wanted ? wanted : mf_pipeline_batch(w->pipeline) > 1 ? GPU_BATCH : 1;
}

/* Waits for company until the deadline. What cannot be claimed then will be by the next claim. */
static void gather(struct worker *w, size_t max, struct mf_arena *arena, struct mf_claim *claims,
                   size_t *count)
{
    uint64_t now = mf_clock_monotonic_ns(),
             deadline = now + (uint64_t)w->options->config->worker.batch_wait_ms * MS;
    while (*count < max && now < deadline && mf_worker_has_time(claims, *count) &&
           !mf_worker_stopping()) {
        size_t before = *count;
        int wait_ms = (int)((deadline - now + MS - 1) / MS);
        if (!claim_more(w, max, wait_ms, arena, claims, count, NULL) || *count == before)
            return;
        now = mf_clock_monotonic_ns();
    }
}

bool mf_worker_work(struct worker *w, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(CLAIM_ARENA);
    size_t max = most_claims(w), count = 0;
    struct mf_claim *claims = arena ? mf_arena_alloc(arena, max, sizeof *claims, err) : NULL;
    if (!claims)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    MF_GAUGE_SET(w->gauges->batch_most, max);
    if (!claim_more(w, max, -1, arena, claims, &count, err))
        return false;
    if (count > 0 && mf_pipeline_batch(w->pipeline) > 1)
        gather(w, max, arena, claims, &count);
    mf_worker_sort(claims, count);
    return run_claims(w, claims, count, arena, err);
}
