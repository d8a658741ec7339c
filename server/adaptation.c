/* Adapters and the files of their states (adaptation.h). */
#include "server/adaptation.h"

#include "core/digest.h"
#include "core/json.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_ADAPTERS = 64, NAME_BYTES = 64, PATH_BYTES = 4096 };

struct entry {
    const struct mf_bundle *bundle;
    char *site;
    struct mf_adapter *adapter;
};

struct mf_adaptation {
    enum mf_adapt_mode mode;
    char *directory; /* NULL: states stay in memory */
    struct entry entries[MAX_ADAPTERS];
    size_t count;
};

struct mf_adaptation *mf_adaptation_new(enum mf_adapt_mode mode, const char *directory,
                                        struct mf_error *err)
{
    MF_AUTO(mf_adaptation) struct mf_adaptation *a = calloc(1, sizeof *a);
    if (a)
        a->mode = mode;
    if (!a || (directory && !(a->directory = strdup(directory)))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        return NULL;
    }
    if (directory && mode == MF_ADAPT_SITE && mkdir(directory, 0700) != 0 && errno != EEXIST) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot be created", directory);
        return NULL;
    }
    return MF_STEAL(a);
}

void mf_adaptation_free(struct mf_adaptation *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++) {
        mf_adapter_free(a->entries[i].adapter);
        free(a->entries[i].site);
    }
    free(a->directory);
    free(a);
}

enum mf_adapt_mode mf_adaptation_mode(const struct mf_adaptation *a)
{
    return a->mode;
}

/* --- files --- */

/* "<model>-<site>." of a state's name. */
static void name_prefix(const struct mf_bundle *bundle, const char *site, char ret[NAME_BYTES])
{
    unsigned char digest[MF_SHA256_BYTES];
    char hex[MF_SHA256_HEX];
    mf_sha256(site, strlen(site), digest);
    snprintf(ret, NAME_BYTES, "%.16s-%.16s.", mf_bundle_model_hash(bundle),
             mf_sha256_to_hex(digest, hex));
}

/* The highest version that lies in the directory; 0 = none. */
static unsigned long long newest_version(const char *directory, const char *prefix)
{
    unsigned long long newest = 0;
    size_t n = strlen(prefix);
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, prefix, n) != 0)
            continue;
        unsigned long long version = strtoull(e->d_name + n, &end, 10);
        if (strcmp(end, ".json") == 0 && version > newest)
            newest = version;
    }
    if (d)
        closedir(d);
    return newest;
}

/* The newest state of the site; *ret stays NULL when there is none. */
static bool load_state(const struct mf_adaptation *a, const struct mf_bundle *bundle,
                       const char *site, const struct mf_adapt_head *head,
                       struct mf_adapt_state **ret, struct mf_error *err)
{
    char prefix[NAME_BYTES], path[PATH_BYTES];
    if (!a->directory || a->mode != MF_ADAPT_SITE)
        return true;
    name_prefix(bundle, site, prefix);
    unsigned long long version = newest_version(a->directory, prefix);
    if (version == 0)
        return true;
    snprintf(path, sizeof path, "%s/%s%llu.json", a->directory, prefix, version);
    MF_AUTO(mf_json) json_t *json = mf_json_read_file(path, NULL, err);
    *ret = json ? mf_adapt_state_from_json(head, json, err) : NULL;
    return *ret || mf_error_prefix(err, "%s", path);
}

/* Makes the file of a state; *ret_made is false when that version is there already. */
static bool save_state(const struct mf_adaptation *a, const struct mf_bundle *bundle,
                       const char *site, const struct mf_adapt_state *state, bool *ret_made,
                       struct mf_error *err)
{
    char prefix[NAME_BYTES], path[PATH_BYTES], draft[PATH_BYTES];
    MF_AUTO(mf_json) json_t *json = mf_adapt_state_to_json(state);
    MF_AUTO(mf_mem)
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    name_prefix(bundle, site, prefix);
    snprintf(path, sizeof path, "%s/%s%llu.json", a->directory, prefix,
             (unsigned long long)mf_adapt_state_version(state));
    snprintf(draft, sizeof draft, "%s/draft.%ld", a->directory, (long)getpid());
    FILE *f = fopen(draft, "we");
    bool ok = f && fputs(text, f) >= 0 && fputc('\n', f) != EOF && fflush(f) == 0 &&
              fsync(fileno(f)) == 0;
    ok = f && fclose(f) == 0 && ok;
    *ret_made = ok && link(draft, path) == 0;
    ok = ok && (*ret_made || errno == EEXIST);
    unlink(draft);
    return ok || mf_error_set(err, MF_ERR_IO, "%s: cannot be written", path);
}

/* --- adapters --- */

struct mf_adapter *mf_adaptation_adapter(struct mf_adaptation *a, const struct mf_bundle *bundle,
                                         const struct mf_adapt_device *device, const char *site,
                                         struct mf_error *err)
{
    site = a->mode == MF_ADAPT_SITE ? site : ""; /* the other modes know no site */
    for (size_t i = 0; i < a->count; i++)
        if (a->entries[i].bundle == bundle && strcmp(a->entries[i].site, site) == 0)
            return a->entries[i].adapter;
    if (a->count == MAX_ADAPTERS) { /* the oldest makes room; its state is on the disk */
        mf_adapter_free(a->entries[0].adapter);
        free(a->entries[0].site);
        memmove(a->entries, a->entries + 1, --a->count * sizeof *a->entries);
    }
    MF_AUTO(mf_adapt_head) struct mf_adapt_head *head = mf_adapt_head_load(bundle, err);
    struct mf_adapt_state *state = NULL;
    if (!head || !load_state(a, bundle, site, head, &state, err))
        return NULL;
    struct entry e = {bundle, strdup(site),
                      mf_adapter_new_on(device, bundle, a->mode, site, state, err)};
    if (!e.site || !e.adapter) {
        if (!e.site)
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        mf_adapter_free(e.adapter);
        free(e.site);
        return NULL;
    }
    a->entries[a->count++] = e;
    return e.adapter;
}

bool mf_adaptation_learn(struct mf_adaptation *a, struct mf_adapter *adapter,
                         const struct mf_bundle *bundle, const char *site, const float *readout,
                         const char *patient, bool outlier, struct mf_error *err)
{
    bool stepped, made = true;
    enum mf_adapt_decision decision;
    if (!mf_adapter_learn(adapter, readout, patient, outlier, &stepped, &decision, err))
        return false;
    if (!stepped || !a->directory)
        return true;
    if (!save_state(a, bundle, site, mf_adapter_state(adapter), &made, err))
        return false;
    struct mf_adapt_state *other = NULL;
    if (made)
        return true;
    return load_state(a, bundle, site, mf_adapter_head(adapter), &other, err) &&
           (!other || mf_adapter_replace(adapter, other, err));
}
