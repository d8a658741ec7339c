/* UPS: work items as DICOM JSON. */
#include "server/ups_item.h"

#include "server/dicom_row.h"

#include "core/clock.h"
#include "dicom/instance.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DATE_TIME = 32, ZONE = 8 };

static const char CODE_VALUE[] = "00080100", SCHEME[] = "00080102", MEANING[] = "00080104",
                  LONG_CODE[] = "00080119", TRANSACTION[] = "00081195", STATE[] = "00741000",
                  STUDY[] = "0020000D", SERIES[] = "0020000E", RETRIEVE_AE[] = "00080054",
                  RETRIEVE_URL[] = "00081190";

static const char *const STATES[] = {[MF_UPS_OTHER] = "",
                                     [MF_UPS_SCHEDULED] = "SCHEDULED",
                                     [MF_UPS_IN_PROGRESS] = "IN PROGRESS",
                                     [MF_UPS_COMPLETED] = "COMPLETED",
                                     [MF_UPS_CANCELED] = "CANCELED"};

/* --- reading --- */

/* "" when it does not fit. */
static void take(const char *text, char *out, size_t size)
{
    out[0] = '\0';
    if (strlen(text) < size)
        snprintf(out, size, "%s", text);
}

static void take_uid(const char *text, char out[MF_UPS_UID])
{
    take(mf_uid_valid(text) ? text : "", out, MF_UPS_UID);
}

static void read_codes(const json_t *item, const char *tag, struct mf_ups_codes *ret)
{
    const json_t *code;
    ret->count = 0;
    for (size_t i = 0; ret->count < MF_UPS_CODES && (code = mf_dicom_row_item(item, tag, i)); i++) {
        struct mf_ups_code *c = &ret->list[ret->count];
        const char *value = mf_dicom_row_text(code, CODE_VALUE);
        take(*value ? value : mf_dicom_row_text(code, LONG_CODE), c->value, sizeof c->value);
        take(mf_dicom_row_text(code, SCHEME), c->scheme, sizeof c->scheme);
        take(mf_dicom_row_text(code, MEANING), c->meaning, sizeof c->meaning);
        ret->count += c->value[0] != '\0';
    }
}

/* DT (PS3.5 6.2), a local time without a zone read as the machine's. 0 = none. */
static int64_t read_time(const char *dt)
{
    char date[9] = "", time[16] = "", zone[ZONE] = "";
    struct mf_time at;
    size_t sign = strcspn(dt, "+-"), digits = strspn(dt, "0123456789");
    if (digits < 8 || (dt[digits] && dt[digits] != '.' && digits != sign))
        return 0;
    snprintf(date, sizeof date, "%.8s", dt);
    snprintf(time, sizeof time, "%.*s", (int)(sign - 8 < 13 ? sign - 8 : 13), dt + 8);
    snprintf(zone, sizeof zone, "%.5s", dt + sign);
    if (!mf_time_parse_dicom(date, time, zone[0] ? zone : NULL, &at, NULL) ||
        at.precision == MF_TIME_UNKNOWN)
        return 0;
    if (!at.local)
        return at.begin;
    time_t seconds = at.begin / 1000;
    struct tm utc;
    if (!gmtime_r(&seconds, &utc))
        return 0;
    utc.tm_isdst = -1;
    return (int64_t)mktime(&utc) * 1000;
}

static struct mf_ups_input *input_of(struct mf_ups_item *item, const char *study)
{
    for (size_t i = 0; i < item->input_count; i++)
        if (strcmp(item->inputs[i].study, study) == 0)
            return &item->inputs[i];
    item->too_many = item->too_many || item->input_count == MF_UPS_STUDIES;
    if (item->too_many)
        return NULL;
    struct mf_ups_input *in = &item->inputs[item->input_count++];
    *in = (struct mf_ups_input){.study = ""};
    take(study, in->study, sizeof in->study);
    return in;
}

static void read_inputs(const json_t *json, struct mf_ups_item *ret)
{
    const json_t *item;
    for (size_t i = 0; (item = mf_dicom_row_item(json, "00404021", i)); i++) {
        char study[MF_UPS_UID];
        take_uid(mf_dicom_row_text(item, STUDY), study);
        struct mf_ups_input *in = study[0] ? input_of(ret, study) : NULL;
        if (!in || in->place.url[0] || in->place.ae[0])
            continue;
        take(mf_dicom_row_text(mf_dicom_row_item(item, "0040E025", 0), RETRIEVE_URL), in->place.url,
             sizeof in->place.url);
        take(mf_dicom_row_text(mf_dicom_row_item(item, "0040E021", 0), RETRIEVE_AE), in->place.ae,
             sizeof in->place.ae);
    }
}

static void read_outputs(const json_t *json, struct mf_ups_item *ret)
{
    const json_t *item;
    for (size_t i = 0;
         ret->output_count < MF_UPS_OUTPUTS && (item = mf_dicom_row_item(json, "00404070", i));
         i++) {
        struct mf_ups_place *place = &ret->outputs[ret->output_count];
        take(mf_dicom_row_text(mf_dicom_row_item(item, "00404072", 0), "00404073"), place->url,
             sizeof place->url);
        take(mf_dicom_row_text(mf_dicom_row_item(item, "00404071", 0), "21000140"), place->ae,
             sizeof place->ae);
        ret->output_count += place->url[0] || place->ae[0];
    }
}

static enum mf_ups_state read_state(const char *text)
{
    for (size_t i = MF_UPS_SCHEDULED; i < sizeof STATES / sizeof *STATES; i++)
        if (strcmp(STATES[i], text) == 0)
            return (enum mf_ups_state)i;
    return MF_UPS_OTHER;
}

bool mf_ups_item_read(const json_t *json, struct mf_ups_item *ret, struct mf_error *err)
{
    if (json_is_array(json) && json_array_size(json) == 1)
        json = json_array_get(json, 0);
    *ret = (struct mf_ups_item){.uid = ""};
    if (!json_is_object(json))
        return mf_error_set(err, MF_ERR_MALFORMED, "the work item is no DICOM JSON object");
    take_uid(mf_dicom_row_text(json, "00080018"), ret->uid);
    ret->state = read_state(mf_dicom_row_text(json, STATE));
    ret->ready = strcmp(mf_dicom_row_text(json, "00404041"), "READY") == 0;
    ret->high = strcmp(mf_dicom_row_text(json, "00741200"), "HIGH") == 0;
    ret->start_ms = read_time(mf_dicom_row_text(json, "00404005"));
    take(mf_dicom_row_text(json, "00100020"), ret->patient_id, sizeof ret->patient_id);
    take(mf_dicom_row_text(json, "00100021"), ret->patient_issuer, sizeof ret->patient_issuer);
    read_codes(json, "00404018", &ret->work);
    read_codes(json, "00404025", &ret->stations);
    read_inputs(json, ret);
    read_outputs(json, ret);
    return true;
}

/* --- codes --- */

bool mf_ups_code_parse(const char *text, struct mf_ups_code *ret, char model[128])
{
    const char *hat = strchr(text, '^'), *end = hat ? strchr(hat, '=') : NULL;
    *ret = (struct mf_ups_code){.value = ""};
    if (model)
        model[0] = '\0';
    if (!hat || hat == text || (size_t)(hat - text) >= sizeof ret->value || (end && !model))
        return false;
    size_t scheme = end ? (size_t)(end - hat - 1) : strlen(hat + 1);
    if (scheme == 0 || scheme >= sizeof ret->scheme || memchr(hat + 1, '^', scheme))
        return false;
    memcpy(ret->value, text, (size_t)(hat - text));
    memcpy(ret->scheme, hat + 1, scheme);
    if (!end)
        return true;
    take(end + 1, model, 128);
    return model[0] != '\0';
}

bool mf_ups_codes_have(const struct mf_ups_codes *codes, const struct mf_ups_code *code)
{
    for (size_t i = 0; i < codes->count; i++)
        if (strcmp(codes->list[i].value, code->value) == 0 &&
            strcmp(codes->list[i].scheme, code->scheme) == 0)
            return true;
    return false;
}

/* --- writing --- */

static void put(json_t *object, const char *tag, const char *vr, const char *text)
{
    json_object_set_new(object, tag, json_pack("{s:s, s:[s]}", "vr", vr, "Value", text));
}

/* Takes the item. */
static void put_item(json_t *object, const char *tag, json_t *item)
{
    json_object_set_new(object, tag, json_pack("{s:s, s:[o]}", "vr", "SQ", "Value", item));
}

static void put_code(json_t *object, const char *tag, const struct mf_ups_code *code)
{
    json_t *item = json_object();
    put(item, CODE_VALUE, "SH", code->value);
    put(item, SCHEME, "SH", code->scheme);
    put(item, MEANING, "LO", code->meaning[0] ? code->meaning : code->value);
    put_item(object, tag, item);
}

static void put_time(json_t *object, const char *tag, int64_t ms)
{
    char text[DATE_TIME] = "";
    time_t seconds = ms / 1000;
    struct tm utc;
    if (gmtime_r(&seconds, &utc))
        strftime(text, sizeof text, "%Y%m%d%H%M%S+0000", &utc);
    put(object, tag, "DT", text);
}

static json_t *new_update(const char *transaction)
{
    json_t *object = json_object();
    put(object, TRANSACTION, "UI", transaction);
    return object;
}

json_t *mf_ups_change(const char *transaction, enum mf_ups_state state)
{
    json_t *object = new_update(transaction);
    put(object, STATE, "CS", STATES[state]);
    return object;
}

json_t *mf_ups_progress(const char *transaction, int percent, const char *description)
{
    char text[16];
    json_t *object = new_update(transaction), *progress = json_object();
    snprintf(text, sizeof text, "%d", percent);
    put(progress, "00741004", "DS", text);
    put(progress, "00741006", "ST", description);
    put_item(object, "00741002", progress);
    return object;
}

static json_t *output_item(const struct mf_ups_performed *p, const struct mf_ups_object *o)
{
    json_t *item = json_object(), *reference = json_object(), *place = json_object();
    put(item, "0040E020", "CS", "DICOM");
    put(item, STUDY, "UI", o->study);
    put(item, SERIES, "UI", o->series);
    put(reference, "00081150", "UI", o->sop_class);
    put(reference, "00081155", "UI", o->sop_instance);
    put_item(item, "00081199", reference);
    if (p->ae) {
        put(place, RETRIEVE_AE, "AE", p->ae);
        put_item(item, "0040E021", place);
    } else {
        char url[MF_UPS_URL + 3 * MF_UPS_UID];
        snprintf(url, sizeof url, "%s/studies/%s/series/%s/instances/%s", p->address, o->study,
                 o->series, o->sop_instance);
        put(place, RETRIEVE_URL, "UR", url);
        put_item(item, "0040E025", place);
    }
    return item;
}

json_t *mf_ups_perform(const char *transaction, const struct mf_ups_performed *p)
{
    json_t *object = mf_ups_progress(transaction, 100, "stored"), *done = json_object();
    json_t *outputs = json_array();
    for (size_t i = 0; i < p->object_count; i++)
        json_array_append_new(outputs, output_item(p, &p->objects[i]));
    put_code(done, "00404028", &p->station);
    put_code(done, "00404019", &p->work);
    put_time(done, "00404050", p->begin_ms);
    put_time(done, "00404051", p->end_ms);
    json_object_set_new(done, "00404033", json_pack("{s:s, s:o}", "vr", "SQ", "Value", outputs));
    put_item(object, "00741216", done);
    return object;
}

/* Of PS3.16 CID 9300. */
static struct mf_ups_code reason_of(enum mf_code code)
{
    switch (code) {
    case MF_ERR_MALFORMED:
        return (struct mf_ups_code){"110521", "DCM", "Objects incorrectly formatted"};
    case MF_ERR_UNUSABLE:
    case MF_ERR_UNSUPPORTED:
    case MF_ERR_TOO_LARGE:
        return (struct mf_ups_code){"110522", "DCM", "Object Types not supported"};
    case MF_ERR_NOT_FOUND:
        return (struct mf_ups_code){"110523", "DCM", "Object Set incomplete"};
    case MF_ERR_CONFLICT:
    case MF_ERR_GONE:
        return (struct mf_ups_code){"110513", "DCM", "Discontinued for unspecified reason"};
    default:
        return (struct mf_ups_code){"110501", "DCM", "Equipment failure"};
    }
}

json_t *mf_ups_discontinue(const char *transaction, const struct mf_error *why, int64_t now_ms)
{
    const struct mf_ups_code reason = reason_of(why->code);
    json_t *object = new_update(transaction), *progress = json_object();
    put(progress, "00741006", "ST", "canceled");
    put_time(progress, "00404052", now_ms);
    put(progress, "00741238", "LT", why->msg);
    put_code(progress, "0074100E", &reason);
    put_item(object, "00741002", progress);
    return object;
}
