/* A result as a table for people: what `predict --format text` prints and `text/plain` answers. */
#include "core/buffer.h"
#include "core/result.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TEXT = 4 << 20, NAME_WIDTH = 48, SET_WIDTH = 18 };

static const char *text_of(const json_t *object, const char *key)
{
    return mf_json_get_string(object, key, "-");
}

/* Columns that a UTF-8 string takes when every character takes one. */
static int width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

/* The text, then spaces up to `columns`. */
static bool put_padded(struct mf_buffer *b, const char *s, int columns)
{
    int pad = columns - width(s);
    return mf_buffer_printf(b, NULL, "%s%*s", s, pad > 0 ? pad : 0, "");
}

/* A number with `decimals` digits, right-aligned in 11 columns; "-" for null. */
static bool put_number(struct mf_buffer *b, const json_t *number, int decimals)
{
    if (!json_is_number(number))
        return mf_buffer_printf(b, NULL, "%11s", "-");
    return mf_buffer_printf(b, NULL, "%11.*f", decimals, json_number_value(number));
}

static bool put_head(struct mf_buffer *b, const json_t *result)
{
    const json_t *study = json_object_get(result, "study");
    const json_t *model = json_object_get(result, "model");
    const json_t *frames = json_object_get(study, "frames");
    const char *acquired = "-", *accession = mf_json_get_string(json_object_get(study, "order"),
                                                                "accession_number", NULL);
    size_t priors = 0, fallbacks = 0;
    for (size_t i = 0; i < json_array_size(frames); i++) {
        const json_t *frame = json_array_get(frames, i);
        bool prior = strcmp(text_of(frame, "role"), "prior") == 0;
        priors += prior;
        fallbacks +=
            strcmp(text_of(json_object_get(frame, "segmentation"), "status"), "fallback") == 0;
        if (!prior)
            acquired = text_of(frame, "acquired");
    }
    return mf_buffer_printf(
               b, NULL, "Study     %s\n          %s, acquired %s, frames %zu current, %zu prior",
               text_of(study, "study_instance_uid"), text_of(study, "modality"), acquired,
               json_array_size(frames) - priors, priors) &&
           (fallbacks == 0 || mf_buffer_printf(b, NULL, "; not segmented: %zu", fallbacks)) &&
           (!accession || mf_buffer_printf(b, NULL, "\n          accession %s", accession)) &&
           mf_buffer_printf(b, NULL, "\nModel     %s %s, %s, %s\n", text_of(model, "name"),
                            text_of(model, "version"), text_of(model, "device"),
                            text_of(model, "dtype"));
}

static bool put_predictions(struct mf_buffer *b, const json_t *result)
{
    const json_t *list = json_object_get(result, "predictions");
    int name = width("Finding");
    for (size_t i = 0; i < json_array_size(list); i++) {
        int w = width(text_of(json_array_get(list, i), "display"));
        name = w > name ? w : name;
    }
    name = name > NAME_WIDTH ? NAME_WIDTH : name;
    char heading[40] = "Set";
    if (json_is_number(json_object_get(result, "alpha")))
        snprintf(heading, sizeof heading, "Set (alpha %g)", mf_json_get_number(result, "alpha", 0));
    if (!mf_buffer_append_str(b, "\n", NULL) || !put_padded(b, "Finding", name) ||
        !mf_buffer_append_str(b, "  Probability  ", NULL) || !put_padded(b, heading, SET_WIDTH) ||
        !mf_buffer_append_str(b, "Guarantee\n", NULL))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        if (!put_padded(b, text_of(p, "display"), name) || !mf_buffer_append_str(b, "  ", NULL) ||
            !put_number(b, json_object_get(p, "probability"), 3) ||
            !mf_buffer_append_str(b, "  ", NULL) ||
            !put_padded(b, text_of(p, "state"), SET_WIDTH) ||
            !mf_buffer_printf(b, NULL, "%s\n", text_of(p, "guarantee")))
            return false;
    }
    return true;
}

/* "Heading   a, b, c", or nothing for an empty list. */
static bool put_list(struct mf_buffer *b, const char *heading, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        if (!mf_buffer_printf(b, NULL, "%s%s", i ? ", " : heading, item ? item : "-"))
            return false;
    }
    return json_array_size(list) == 0 || mf_buffer_append_str(b, "\n", NULL);
}

/* The labels of the finding set, by the names that the table above has. */
static bool put_findings(struct mf_buffer *b, const json_t *result)
{
    const json_t *labels = json_object_get(json_object_get(result, "finding_set"), "labels");
    const json_t *predictions = json_object_get(result, "predictions");
    for (size_t i = 0; i < json_array_size(labels); i++) {
        const char *name = json_string_value(json_array_get(labels, i));
        for (size_t k = 0; name && k < json_array_size(predictions); k++) {
            const json_t *p = json_array_get(predictions, k);
            if (strcmp(text_of(p, "label"), name) == 0) {
                name = text_of(p, "display");
                break;
            }
        }
        if (!mf_buffer_printf(b, NULL, "%s%s", i ? ", " : "Findings  ", name ? name : "-"))
            return false;
    }
    return json_array_size(labels) == 0 || mf_buffer_append_str(b, "\n", NULL);
}

static bool put_feature(struct mf_buffer *b, const json_t *feature, const char *heading)
{
    const json_t *value = json_object_get(feature, "value");
    const char *unit = mf_json_get_string(feature, "unit", "");
    bool ok = mf_buffer_printf(b, NULL, "%-10s%s ", heading, text_of(feature, "id"));
    if (json_is_number(value))
        ok = ok && mf_buffer_printf(b, NULL, "%.6g%s%s ", json_number_value(value),
                                    *unit ? " " : "", unit);
    else if (json_is_string(value))
        ok = ok && mf_buffer_printf(b, NULL, "%s ", json_string_value(value));
    return ok && mf_buffer_printf(b, NULL, "(%s%s%s)\n", text_of(feature, "status"),
                                  json_is_string(json_object_get(feature, "source")) ? ", " : "",
                                  mf_json_get_string(feature, "source", ""));
}

static bool put_tail(struct mf_buffer *b, const json_t *result)
{
    const json_t *features = json_object_get(json_object_get(result, "ehr"), "features");
    const json_t *quality = json_object_get(result, "quality");
    const json_t *skipped = json_object_get(quality, "skipped");
    if (!mf_buffer_append_str(b, "\n", NULL) || !put_findings(b, result))
        return false;
    for (size_t i = 0; i < json_array_size(features); i++)
        if (!put_feature(b, json_array_get(features, i), i == 0 ? "Record" : ""))
            return false;
    if (!put_list(b, "Flags     ", json_object_get(quality, "flags")))
        return false;
    for (size_t i = 0; i < json_array_size(skipped); i++) {
        const json_t *s = json_array_get(skipped, i);
        if (!mf_buffer_printf(b, NULL, "%-10s%s: %s\n", i == 0 ? "Skipped" : "",
                              text_of(s, "object"), text_of(s, "reason")))
            return false;
    }
    const json_t *total = json_object_get(json_object_get(result, "timing_ms"), "total");
    return (!json_is_number(total) ||
            mf_buffer_printf(b, NULL, "Time      %.0f ms\n", json_number_value(total))) &&
           mf_buffer_append_str(b, "Not reviewed by a physician.\n", NULL);
}

char *mf_result_to_text(const json_t *result)
{
    MF_AUTO(mf_buffer) struct mf_buffer b;
    mf_buffer_init(&b, MAX_TEXT);
    if (!put_head(&b, result) || !put_predictions(&b, result) || !put_tail(&b, result))
        return NULL;
    return mf_buffer_take(&b, NULL);
}
