/* Shares of the queue: reading jobs.shares, and what a job costs. */
#include "server/shares.h"

#include "server/access.h"

#include <string.h>

static const int64_t COST = 1000000; /* of one job of a tenant with share 1 */

static bool read_weight(const char *text, size_t len, int64_t *ret)
{
    int64_t n = 0;
    if (len == 0 || len > 4 || strspn(text, "0123456789") < len)
        return false;
    for (size_t i = 0; i < len; i++)
        n = 10 * n + (text[i] - '0');
    *ret = n;
    return n >= 1 && n <= MF_SHARE_MOST;
}

static bool add(struct mf_shares *shares, const char *entry, size_t len, struct mf_error *err)
{
    const char *equals = memchr(entry, '=', len);
    const size_t name = equals ? (size_t)(equals - entry) : 0;
    if (shares->count == MF_SHARES)
        return mf_error_set(err, MF_ERR_USAGE, "jobs.shares: more than %d tenants", MF_SHARES);
    char *tenant = shares->list[shares->count].tenant;
    if (name > 0 && name < MF_TENANT)
        snprintf(tenant, MF_TENANT, "%.*s", (int)name, entry);
    if (name == 0 || name >= MF_TENANT || !mf_tenant_valid(tenant) ||
        !read_weight(equals + 1, len - name - 1, &shares->list[shares->count].weight))
        return mf_error_set(err, MF_ERR_USAGE,
                            "jobs.shares: \"%.*s\" is not TENANT=SHARE with a share from 1 to %d",
                            (int)(len < 80 ? len : 80), entry, MF_SHARE_MOST);
    for (size_t i = 0; i < shares->count; i++)
        if (strcmp(shares->list[i].tenant, tenant) == 0)
            return mf_error_set(err, MF_ERR_USAGE, "jobs.shares: \"%s\" is there twice", tenant);
    shares->count++;
    return true;
}

bool mf_shares_parse(const char *text, struct mf_shares *ret, struct mf_error *err)
{
    ret->count = 0;
    if (!text || strcmp(text, "off") == 0)
        return true;
    while (*(text += strspn(text, " "))) {
        const size_t len = strcspn(text, " ");
        if (!add(ret, text, len, err))
            return false;
        text += len;
    }
    return true;
}

int64_t mf_shares_cost(const struct mf_shares *shares, const char *tenant)
{
    for (size_t i = 0; i < shares->count; i++)
        if (strcmp(shares->list[i].tenant, tenant) == 0)
            return COST / shares->list[i].weight;
    return COST;
}
