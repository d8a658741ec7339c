/* Quotas: one pair of buckets a tenant. Tenants whose buckets are full again are forgotten. */
#include "server/quota.h"

#include "server/store.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TENANTS = 4096 };

struct tenant {
    char name[MF_TENANT];
    double requests, bytes; /* that may be taken */
    uint64_t seen_ns;
};

struct mf_quota {
    pthread_mutex_t lock;
    double requests, bytes; /* most of each; 0 = no limit */
    struct tenant *tenants;
    size_t count;
};

struct mf_quota *mf_quota_new(int64_t requests_per_minute, int64_t bytes_per_hour,
                              struct mf_error *err)
{
    struct mf_quota *q = calloc(1, sizeof *q);
    if (q)
        q->tenants = calloc(MOST_TENANTS, sizeof *q->tenants);
    if (!q || !q->tenants) {
        free(q);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for quotas");
        return NULL;
    }
    pthread_mutex_init(&q->lock, NULL);
    q->requests = (double)requests_per_minute;
    q->bytes = (double)bytes_per_hour;
    return q;
}

void mf_quota_free(struct mf_quota *q)
{
    if (!q)
        return;
    pthread_mutex_destroy(&q->lock);
    free(q->tenants);
    free(q);
}

static void refill(const struct mf_quota *q, struct tenant *t, uint64_t now_ns)
{
    double seconds = now_ns > t->seen_ns ? (double)(now_ns - t->seen_ns) / 1e9 : 0;
    t->requests = fmin(q->requests, t->requests + seconds * q->requests / 60);
    t->bytes = fmin(q->bytes, t->bytes + seconds * q->bytes / 3600);
    t->seen_ns = now_ns;
}

/* Forgets those that a newcomer would not be told from. */
static void forget(struct mf_quota *q, uint64_t now_ns)
{
    size_t kept = 0;
    for (size_t i = 0; i < q->count; i++) {
        refill(q, &q->tenants[i], now_ns);
        if (q->tenants[i].requests < q->requests || q->tenants[i].bytes < q->bytes)
            q->tenants[kept++] = q->tenants[i];
    }
    q->count = kept;
}

/* NULL: there are too many. */
static struct tenant *need_tenant(struct mf_quota *q, const char *name, uint64_t now_ns)
{
    for (size_t i = 0; i < q->count; i++)
        if (strcmp(q->tenants[i].name, name) == 0) {
            refill(q, &q->tenants[i], now_ns);
            return &q->tenants[i];
        }
    if (q->count == MOST_TENANTS)
        forget(q, now_ns);
    if (q->count == MOST_TENANTS)
        return NULL;
    struct tenant *t = &q->tenants[q->count++];
    *t = (struct tenant){.requests = q->requests, .bytes = q->bytes, .seen_ns = now_ns};
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static int seconds_until(double missing, double most, double period_s)
{
    double seconds = ceil(missing * period_s / most);
    return seconds < 1 ? 1 : seconds > 3600 ? 3600 : (int)seconds;
}

static bool take(const struct mf_quota *q, struct tenant *t, double requests, double bytes,
                 int *ret_retry_s, struct mf_error *err)
{
    *ret_retry_s = 1;
    if (!t)
        return mf_error_set(err, MF_ERR_BUSY, "too many tenants at once; try again later");
    if (q->bytes > 0 && bytes > q->bytes)
        return mf_error_set(err, MF_ERR_TOO_LARGE,
                            "the body is larger than what the tenant may send in an hour");
    if (q->requests > 0 && t->requests < requests) {
        *ret_retry_s = seconds_until(requests - t->requests, q->requests, 60);
        return mf_error_set(err, MF_ERR_BUSY, "the tenant sends too many requests");
    }
    if (q->bytes > 0 && t->bytes < bytes) {
        *ret_retry_s = seconds_until(bytes - t->bytes, q->bytes, 3600);
        return mf_error_set(err, MF_ERR_BUSY, "the tenant has sent too many bytes");
    }
    t->requests -= requests;
    t->bytes -= bytes;
    return true;
}

bool mf_quota_take(struct mf_quota *q, const char *tenant, uint64_t bytes, uint64_t now_ns,
                   int *ret_retry_s, struct mf_error *err)
{
    pthread_mutex_lock(&q->lock);
    bool ok = take(q, need_tenant(q, tenant, now_ns), 1, (double)bytes, ret_retry_s, err);
    pthread_mutex_unlock(&q->lock);
    return ok;
}

bool mf_quota_take_bytes(struct mf_quota *q, const char *tenant, uint64_t bytes, uint64_t now_ns,
                         int *ret_retry_s, struct mf_error *err)
{
    pthread_mutex_lock(&q->lock);
    bool ok = take(q, need_tenant(q, tenant, now_ns), 0, (double)bytes, ret_retry_s, err);
    pthread_mutex_unlock(&q->lock);
    return ok;
}
