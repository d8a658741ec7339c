/*
 * GET /dicom-web/studies, …/series, …/instances: QIDO-RS (PS3.18 10.6) over what is stored.
 *
 * Matching by every attribute of the table in dicom/instance.h, by keyword or tag: single value,
 * UID list, range of dates and times, wildcards; names in any case. Rows have all attributes of
 * their level, and those of the levels above that the path does not name.
 */
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/store_instances.h"

#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_LIMIT = 100,
    TAG_CHARSET = 0x00080005,
    TAG_AVAILABILITY = 0x00080056,
    TAG_MODALITIES = 0x00080061,
    TAG_URL = 0x00081190,
    TAG_STUDY_SERIES = 0x00201206,
    TAG_STUDY_INSTANCES = 0x00201208,
    TAG_SERIES_INSTANCES = 0x00201209
};

static const char *const OFFERS[] = {MF_DICOM_JSON, "application/json"};

struct query {
    struct mf_search search;
    struct mf_match matches[MF_REQUEST_FIELDS + 2];
    enum mf_level from; /* the level that the path leaves open */
};

/* --- the request --- */

static bool read_number(const char *name, const char *text, size_t max, size_t *ret,
                        struct mf_error *err)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits])
        return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"%s\" has an invalid value",
                            name);
    size_t n = (size_t)strtoul(text, NULL, 10);
    *ret = n < max ? n : max;
    return true;
}

/* "20240102", "20240101-20240131", "-20240131", "20240101-" */
static bool is_date_range(const char *text)
{
    size_t from = strspn(text, "0123456789");
    const char *to = text + from;
    if (*to == '-')
        to++;
    size_t end = strspn(to, "0123456789");
    return !to[end] && (from == 8 || (from == 0 && to > text)) &&
           (end == 8 || (end == 0 && from == 8));
}

static enum mf_match_kind kind_of(const struct mf_attribute *a, const char *value)
{
    if (memcmp(a->vr, "UI", 2) == 0)
        return MF_MATCH_LIST;
    if ((memcmp(a->vr, "DA", 2) == 0 || memcmp(a->vr, "TM", 2) == 0) && strchr(value, '-'))
        return MF_MATCH_RANGE;
    if (memcmp(a->vr, "PN", 2) == 0 || strpbrk(value, "*?"))
        return MF_MATCH_PATTERN;
    return MF_MATCH_EQUAL;
}

static bool add_match(struct query *q, const char *name, const char *value, struct mf_error *err)
{
    bool modalities = strcmp(name, "ModalitiesInStudy") == 0 || strcmp(name, "00080061") == 0;
    int id = modalities ? MF_MODALITY : mf_attribute_find(name);
    if (id < 0)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the query has a parameter that is no attribute to match by");
    if (!*value) /* universal matching */
        return true;
    if (memcmp(mf_attributes[id].vr, "DA", 2) == 0 && !is_date_range(value))
        return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"%s\" is not a range of dates",
                            mf_attributes[id].keyword);
    q->matches[q->search.match_count++] =
        (struct mf_match){(enum mf_attribute_id)id, kind_of(&mf_attributes[id], value), value};
    return true;
}

static bool read_query(const struct mf_request *request, struct query *q, struct mf_error *err)
{
    for (size_t i = 0; i < request->query_count; i++) {
        const char *name = request->query[i].name, *value = request->query[i].value;
        if (strcmp(name, "includefield") == 0 || strcmp(name, "fuzzymatching") == 0)
            continue; /* all there is is included; names match without regard to case already */
        bool ok = strcmp(name, "limit") == 0
                      ? read_number(name, value, MF_STORE_BATCH, &q->search.limit, err)
                  : strcmp(name, "offset") == 0
                      ? read_number(name, value, 1000000000, &q->search.offset, err)
                      : add_match(q, name, value, err);
        if (!ok)
            return false;
    }
    return true;
}

static bool read_path(const struct mf_request *request, struct query *q, struct mf_error *err)
{
    static const enum mf_attribute_id ids[] = {MF_STUDY_UID, MF_SERIES_UID};
    static const char *const names[] = {"study", "series"};
    for (size_t i = 0; i < 2 && request->parameters[i]; i++) {
        const char *uid = mf_dicomweb_uid(request, i, names[i], err);
        if (!uid)
            return false;
        q->matches[q->search.match_count++] = (struct mf_match){ids[i], MF_MATCH_EQUAL, uid};
        q->from = (enum mf_level)(i + 1);
    }
    return true;
}

/* --- the answer --- */

static bool is_key(int id)
{
    return id == MF_STUDY_UID || id == MF_SERIES_UID || id == MF_SOP_INSTANCE_UID;
}

static bool add_counts(json_t *object, enum mf_level level, const struct mf_found *row)
{
    if (level == MF_LEVEL_SERIES)
        return mf_dicom_json_int(object, TAG_SERIES_INSTANCES, "IS", row->instance_count);
    if (level == MF_LEVEL_INSTANCE)
        return true;
    json_t *modalities = json_array();
    for (const char *s = row->modalities; modalities && s && *s;) {
        size_t len = strcspn(s, "\\");
        if (json_array_append_new(modalities, json_stringn(s, len)) != 0)
            break;
        s += len + (s[len] != '\0');
    }
    bool ok = modalities && mf_dicom_json_values(object, TAG_MODALITIES, "CS", modalities);
    return ok && mf_dicom_json_int(object, TAG_STUDY_SERIES, "IS", row->series_count) &&
           mf_dicom_json_int(object, TAG_STUDY_INSTANCES, "IS", row->instance_count);
}

static json_t *row_json(struct mf_request *request, const struct query *q,
                        const struct mf_found *row)
{
    const enum mf_level level = q->search.level;
    const char *const *v = row->stored.instance.values;
    json_t *object = json_object();
    const char *url =
        mf_dicomweb_url(request, v[MF_STUDY_UID], v[MF_SERIES_UID], v[MF_SOP_INSTANCE_UID], NULL);
    bool ok = object && url && mf_dicom_json_text(object, TAG_CHARSET, "CS", "ISO_IR 192") &&
              mf_dicom_json_text(object, TAG_AVAILABILITY, "CS", "ONLINE") &&
              mf_dicom_json_text(object, TAG_URL, "UR", url) && add_counts(object, level, row);
    for (int i = 0; ok && i < MF_ATTRIBUTE_COUNT; i++) {
        enum mf_level at = mf_attributes[i].level;
        if (at <= level && (at >= q->from || is_key(i)))
            ok = mf_dicom_json_attribute(object, (enum mf_attribute_id)i, v[i]);
    }
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}

static bool respond(struct mf_request *request, const struct query *q, const struct mf_found *rows,
                    size_t n, const char *type, struct mf_error *err)
{
    if (n == 0) {
        mf_respond_empty(request, 204);
        return true;
    }
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, row_json(request, q, &rows[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    if (n == q->search.limit &&
        !mf_respond_field(request, err, "Warning",
                          "299 medfusion \"there may be more results: use limit and offset\"")) {
        json_decref(list);
        return false;
    }
    return mf_respond_json_take(request, 200, type, list, err);
}

static bool search(struct mf_request *request, enum mf_level level, struct mf_error *err)
{
    struct query q = {
        .search = {.tenant = request->tenant, .level = level, .limit = DEFAULT_LIMIT}};
    struct mf_found *rows = NULL;
    size_t n = 0;
    int offer = mf_dicomweb_accept(request, OFFERS, 2, err);
    q.search.matches = q.matches;
    if (offer < 0 || !read_path(request, &q, err) || !read_query(request, &q, err))
        return false;
    if (q.search.limit == 0)
        return respond(request, &q, NULL, 0, NULL, err);
    return mf_store_instances_search(request->store, &q.search, request->arena, &rows, &n, err) &&
           respond(request, &q, rows, n, OFFERS[offer], err);
}

static bool search_studies(struct mf_request *request, struct mf_error *err)
{
    return search(request, MF_LEVEL_STUDY, err);
}

static bool search_series(struct mf_request *request, struct mf_error *err)
{
    return search(request, MF_LEVEL_SERIES, err);
}

static bool search_instances(struct mf_request *request, struct mf_error *err)
{
    return search(request, MF_LEVEL_INSTANCE, err);
}

#define QIDO(name, path, function)                                                                 \
    const struct mf_endpoint mf_endpoint_qido_##name = {                                           \
        .method = "GET", .pattern = MF_DICOMWEB_ROOT path, .handle = function}

QIDO(studies, "/studies", search_studies);
QIDO(series, "/series", search_series);
QIDO(instances, "/instances", search_instances);
QIDO(study_series, "/studies/{study}/series", search_series);
QIDO(study_instances, "/studies/{study}/instances", search_instances);
QIDO(series_instances, "/studies/{study}/series/{series}/instances", search_instances);
