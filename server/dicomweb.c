/* DICOMweb: DICOM JSON values, addresses, Accept, what a path names. */
#include "server/dicomweb.h"

#include "server/negotiate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool set(json_t *object, uint32_t tag, const char *vr, json_t *values)
{
    char key[9];
    snprintf(key, sizeof key, "%08X", tag);
    json_t *attribute = json_pack("{s:s}", "vr", vr);
    bool ok = attribute && (!values || json_object_set(attribute, "Value", values) == 0);
    json_decref(values);
    return json_object_set_new(object, key, ok ? attribute : (json_decref(attribute), NULL)) == 0;
}

bool mf_dicom_json_text(json_t *object, uint32_t tag, const char *vr, const char *value)
{
    if (!value || !*value)
        return set(object, tag, vr, NULL);
    json_t *values = json_pack("[s]", value);
    return values && set(object, tag, vr, values);
}

bool mf_dicom_json_int(json_t *object, uint32_t tag, const char *vr, int64_t value)
{
    json_t *values = json_pack("[I]", (json_int_t)value);
    return values && set(object, tag, vr, values);
}

bool mf_dicom_json_values(json_t *object, uint32_t tag, const char *vr, json_t *values)
{
    return values && set(object, tag, vr, values);
}

bool mf_dicom_json_items(json_t *object, uint32_t tag, json_t *items)
{
    return items && set(object, tag, "SQ", items);
}

/* --- attributes of the table --- */

/* "Alphabetic=Ideographic=Phonetic" (PS3.18 F.2.2). */
static json_t *person_name(const char *text, size_t len)
{
    static const char *const groups[] = {"Alphabetic", "Ideographic", "Phonetic"};
    json_t *name = json_object();
    for (size_t i = 0; name && i < 3 && len > 0; i++) {
        const char *end = memchr(text, '=', len);
        size_t n = end ? (size_t)(end - text) : len;
        if (n > 0 && json_object_set_new(name, groups[i], json_stringn(text, n)) != 0) {
            json_decref(name);
            return NULL;
        }
        text += end ? n + 1 : n;
        len -= end ? n + 1 : n;
    }
    return name;
}

static json_t *one_value(const char *vr, const char *text, size_t len)
{
    char copy[64], *end;
    if (memcmp(vr, "PN", 2) == 0)
        return person_name(text, len);
    if ((memcmp(vr, "IS", 2) == 0 || memcmp(vr, "US", 2) == 0) && len < sizeof copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
        errno = 0;
        long long number = strtoll(copy, &end, 10);
        if (!errno && end != copy && !*end)
            return json_integer(number);
    }
    return json_stringn(text, len);
}

bool mf_dicom_json_attribute(json_t *object, enum mf_attribute_id id, const char *value)
{
    const struct mf_attribute *a = &mf_attributes[id];
    if (!value || !*value)
        return set(object, a->tag, a->vr, NULL);
    json_t *values = json_array();
    for (const char *s = value; values; s++) {
        size_t len = strcspn(s, "\\");
        json_t *item = len ? one_value(a->vr, s, len) : json_null();
        if (json_array_append_new(values, item) != 0) {
            json_decref(values);
            return false;
        }
        s += len;
        if (!*s)
            break;
    }
    return values && set(object, a->tag, a->vr, values);
}

/* --- addresses --- */

/* The request's own authority, when it looks like one. */
static const char *authority(const struct mf_request *request)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]";
    const char *host = mf_request_header(request, "Host");
    return host && *host && strlen(host) <= 255 && !host[strspn(host, allowed)] ? host
                                                                                : "localhost";
}

const char *mf_dicomweb_url(struct mf_request *request, const char *study, const char *series,
                            const char *instance, struct mf_error *err)
{
    return mf_arena_printf(request->arena, err, "http://%s" MF_DICOMWEB_ROOT "/studies/%s%s%s%s%s",
                           authority(request), study, series ? "/series/" : "",
                           series ? series : "", instance ? "/instances/" : "",
                           instance ? instance : "");
}

const char *mf_dicomweb_uid(const struct mf_request *request, size_t i, const char *what,
                            struct mf_error *err)
{
    if (mf_uid_valid(request->parameters[i]))
        return request->parameters[i];
    mf_error_set(err, MF_ERR_MALFORMED, "the %s in the path is not a UID", what);
    return NULL;
}

int mf_dicomweb_accept(const struct mf_request *request, const char *const offers[], size_t count,
                       struct mf_error *err)
{
    const char *accept = mf_request_header(request, "Accept");
    int chosen = accept && *accept ? mf_negotiate(accept, offers, count) : -1;
    if (chosen < 0)
        mf_error_set(err, MF_ERR_NOT_ACCEPTABLE, "Accept: this can be given as %s", offers[0]);
    return chosen;
}

bool mf_dicomweb_next_range(const char **at, char out[MF_DICOMWEB_RANGE])
{
    const char *s = *at + strspn(*at, " \t,");
    size_t n = 0;
    bool quoted = false;
    for (; *s && (quoted || *s != ','); s++) {
        quoted ^= *s == '"';
        if (n + 1 < MF_DICOMWEB_RANGE)
            out[n++] = *s;
    }
    out[n] = '\0';
    *at = s;
    return n > 0;
}

/* --- what is stored --- */

bool mf_dicomweb_find(struct mf_request *request, struct mf_found **ret, size_t *ret_count,
                      struct mf_error *err)
{
    static const enum mf_attribute_id ids[] = {MF_STUDY_UID, MF_SERIES_UID, MF_SOP_INSTANCE_UID};
    static const char *const names[] = {"study", "series", "instance"};
    struct mf_match matches[3];
    const char *what = "object";
    size_t n = 0, count = 0;
    for (; n < 3 && request->parameters[n]; n++) {
        what = names[n];
        matches[n] = (struct mf_match){ids[n], MF_MATCH_EQUAL, request->parameters[n]};
        if (!mf_dicomweb_uid(request, n, names[n], err))
            return false;
    }
    struct mf_search search = {.tenant = request->tenant,
                               .level = MF_LEVEL_INSTANCE,
                               .matches = matches,
                               .match_count = n,
                               .limit = MF_STORE_BATCH};
    struct mf_found *all = NULL, *rows = NULL;
    for (size_t got = MF_STORE_BATCH; got == MF_STORE_BATCH; search.offset += got) {
        if (!mf_store_instances_search(request->store, &search, request->arena, &rows, &got, err))
            return false;
        struct mf_found *grown =
            mf_arena_alloc(request->arena, count + got + 1, sizeof *grown, err);
        if (!grown)
            return false;
        if (count)
            memcpy(grown, all, count * sizeof *grown);
        memcpy(grown + count, rows, got * sizeof *grown);
        all = grown;
        count += got;
    }
    *ret = all;
    *ret_count = count;
    return count > 0 || mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such %s", what);
}

static int by_number(const char *a, const char *b)
{
    long long x = a ? strtoll(a, NULL, 10) : 0, y = b ? strtoll(b, NULL, 10) : 0;
    return (x > y) - (x < y);
}

static int by_place(const void *a, const void *b)
{
    const char *const *x = ((const struct mf_found *)a)->stored.instance.values;
    const char *const *y = ((const struct mf_found *)b)->stored.instance.values;
    int order = by_number(x[MF_SERIES_NUMBER], y[MF_SERIES_NUMBER]);
    if (order == 0)
        order = strcmp(x[MF_SERIES_UID], y[MF_SERIES_UID]);
    if (order == 0)
        order = by_number(x[MF_INSTANCE_NUMBER], y[MF_INSTANCE_NUMBER]);
    return order ? order : strcmp(x[MF_SOP_INSTANCE_UID], y[MF_SOP_INSTANCE_UID]);
}

void mf_dicomweb_sort(struct mf_found *rows, size_t n)
{
    if (n > 1)
        qsort(rows, n, sizeof *rows, by_place);
}
