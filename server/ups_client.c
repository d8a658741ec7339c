/* UPS: the exchange with the manager, one request each. */
#include "server/ups_client.h"

#include "server/web_client.h"

#include <stdio.h>
#include <string.h>

enum { URL_BYTES = 2048, ANSWER_BYTES = 8 << 20, HEADER_BYTES = 8192 };

static const char JSON[] = "application/dicom+json";

static bool judge(long status, struct mf_error *err)
{
    if (status / 100 == 2)
        return true;
    enum mf_code code = status == 404 || status == 410   ? MF_ERR_NOT_FOUND
                        : status == 400 || status == 409 ? MF_ERR_CONFLICT
                                                         : MF_ERR_UNAVAILABLE;
    return mf_error_set(err, code, "the manager of work items answered %ld", status);
}

/* The first line of ups.authorization_file; *ret NULL: none. */
static bool read_authorization(const struct mf_config *config, struct mf_buffer *text,
                               const char **ret, struct mf_error *err)
{
    const char *path = config->ups.authorization_file;
    *ret = NULL;
    if (strcmp(path, "off") == 0)
        return true;
    if (!mf_buffer_read_file(text, path, err) || !mf_buffer_append_str(text, "", err))
        return mf_error_prefix(err, "ups.authorization_file");
    if (text->len == 0)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "ups.authorization_file is empty");
    text->data[strcspn(text->data, "\r\n")] = '\0';
    *ret = text->data;
    return true;
}

/* Sends `body` by `method` (NULL: a GET) to a path below the manager's; keeps the answer. */
static bool exchange(const struct mf_config *config, const char *path, const char *method,
                     const json_t *body, struct mf_buffer *answer, struct mf_error *err)
{
    char url[URL_BYTES];
    long status = 0;
    const char *authorization;
    size_t len = strlen(config->ups.manager);
    while (len > 0 && config->ups.manager[len - 1] == '/')
        len--;
    MF_AUTO(mf_buffer) struct mf_buffer header;
    mf_buffer_init(&header, HEADER_BYTES);
    MF_AUTO(mf_mem) char *text = method ? mf_json_text(body, 0) : NULL;
    if (method && !text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a work item");
    if (snprintf(url, sizeof url, "%.*s%s", (int)len, config->ups.manager, path) >= URL_BYTES)
        return mf_error_set(err, MF_ERR_USAGE, "ups.manager: the address is too long");
    if (!read_authorization(config, &header, &authorization, err))
        return false;
    const struct mf_web_request request = {
        .url = url,
        .accept = JSON,
        .content_type = method ? JSON : NULL,
        .method = method,
        .body = text,
        .body_len = text ? strlen(text) : 0,
        .authorization = authorization,
        .ca_file = strcmp(config->ups.ca, "off") == 0 ? NULL : config->ups.ca,
        .timeout_s = (int)config->ups.timeout_s,
        .max_bytes = ANSWER_BYTES,
        .data = mf_web_keep,
        .context = answer};
    return mf_web_send(&request, &status, err) && judge(status, err);
}

static json_t *parse(const struct mf_buffer *answer, struct mf_error *err)
{
    static const struct mf_json_limits limits = {ANSWER_BYTES, 32};
    struct mf_error problem = MF_ERROR_INIT;
    if (answer->len == 0)
        return json_array();
    json_t *json =
        mf_json_parse(answer->data, answer->len, &limits, "the manager's answer", &problem);
    if (!json)
        mf_error_set(err, MF_ERR_UNAVAILABLE, "%s", problem.msg);
    return json;
}

static bool add_code(struct mf_buffer *path, const char *sequence, const struct mf_ups_code *code,
                     struct mf_error *err)
{
    return !code || (mf_buffer_printf(path, err, "&%s.00080100=", sequence) &&
                     mf_web_encode(path, code->value, err) &&
                     mf_buffer_printf(path, err, "&%s.00080102=", sequence) &&
                     mf_web_encode(path, code->scheme, err));
}

json_t *mf_ups_search(const struct mf_config *config, const struct mf_ups_code *work,
                      const struct mf_ups_code *station, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer path, answer;
    mf_buffer_init(&path, URL_BYTES);
    mf_buffer_init(&answer, ANSWER_BYTES);
    if (!mf_buffer_printf(&path, err, "/workitems?00741000=SCHEDULED") ||
        !add_code(&path, "00404018", work, err) || !add_code(&path, "00404025", station, err) ||
        !mf_buffer_printf(&path, err, "&limit=%d", MF_UPS_ROWS) ||
        !exchange(config, path.data, NULL, NULL, &answer, err))
        return NULL;
    json_t *rows = parse(&answer, err);
    if (!rows || json_is_array(rows))
        return rows;
    json_decref(rows);
    mf_error_set(err, MF_ERR_UNAVAILABLE, "the manager's answer is not a list");
    return NULL;
}

bool mf_ups_retrieve(const struct mf_config *config, const char *uid, struct mf_ups_item *ret,
                     struct mf_error *err)
{
    char path[128];
    struct mf_error problem = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    mf_buffer_init(&answer, ANSWER_BYTES);
    snprintf(path, sizeof path, "/workitems/%.64s", uid);
    if (!exchange(config, path, NULL, NULL, &answer, err))
        return false;
    MF_AUTO(mf_json) json_t *json = parse(&answer, err);
    if (!json)
        return false;
    if (!mf_ups_item_read(json, ret, &problem))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "%s", problem.msg);
    return !ret->uid[0] || strcmp(ret->uid, uid) == 0 ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "the manager answered with another work item");
}

bool mf_ups_change_state(const struct mf_config *config, const char *uid, const char *transaction,
                         enum mf_ups_state state, struct mf_error *err)
{
    char path[128];
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    MF_AUTO(mf_json) json_t *change = mf_ups_change(transaction, state);
    mf_buffer_init(&answer, ANSWER_BYTES);
    snprintf(path, sizeof path, "/workitems/%.64s/state", uid);
    return exchange(config, path, "PUT", change, &answer, err);
}

bool mf_ups_update(const struct mf_config *config, const char *uid, const char *transaction,
                   json_t *update, struct mf_error *err)
{
    char path[192];
    MF_AUTO(mf_buffer) struct mf_buffer answer;
    MF_AUTO(mf_json) json_t *owned = update;
    mf_buffer_init(&answer, ANSWER_BYTES);
    snprintf(path, sizeof path, "/workitems/%.64s?%.64s", uid, transaction);
    return exchange(config, path, "POST", owned, &answer, err);
}
