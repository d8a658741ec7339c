/* Sentences and the table of a report. Everything from the result is escaped before it enters
 * XHTML. */
#include "fhir/narrative.h"

#include "core/buffer.h"

#include <string.h>

enum { MAX_TEXT = 1 << 20 };

static const char *text_of(const json_t *object, const char *key)
{
    return mf_json_get_string(object, key, "");
}

static bool append_escaped(struct mf_buffer *b, const char *s)
{
    for (; *s; s++) {
        const char *entity = *s == '<'   ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '&' ? "&amp;"
                             : *s == '"' ? "&quot;"
                                         : NULL;
        if (!(entity ? mf_buffer_append_str(b, entity, NULL) : mf_buffer_append(b, s, 1, NULL)))
            return false;
    }
    return true;
}

/* "HEADING a, b. " with the displays of the predictions in a state, or nothing; *ret_any tells
 * which. */
static bool append_in_state(struct mf_buffer *b, const json_t *predictions, const char *state,
                            const char *heading, bool *ret_any)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(predictions); i++) {
        const json_t *p = json_array_get(predictions, i);
        if (strcmp(text_of(p, "state"), state) != 0)
            continue;
        if (!mf_buffer_append_str(b, n++ ? ", " : heading, NULL) ||
            !mf_buffer_append_str(b, mf_json_get_string(p, "display", text_of(p, "label")), NULL))
            return false;
    }
    *ret_any |= n > 0;
    return n == 0 || mf_buffer_append_str(b, ". ", NULL);
}

static bool append_flags(struct mf_buffer *b, const json_t *flags)
{
    size_t count = json_array_size(flags);
    for (size_t i = 0; i < count; i++) {
        const char *flag = json_string_value(json_array_get(flags, i));
        if (!mf_buffer_append_str(b, i ? ", " : "Quality flags: ", NULL) ||
            !mf_buffer_append_str(b, flag ? flag : "-", NULL))
            return false;
    }
    return count == 0 || mf_buffer_append_str(b, ". ", NULL);
}

json_t *mf_fhir_conclusion(const json_t *result)
{
    static const char *const STATES[][2] = {{"present", "Present: "},
                                            {"uncertain", "Not decided: "},
                                            {"empty", "Unlike the calibration cases: "}};
    MF_AUTO(mf_buffer) struct mf_buffer b;
    const json_t *predictions = json_object_get(result, "predictions");
    const json_t *model = json_object_get(result, "model");
    bool any = false, ok = true;
    mf_buffer_init(&b, MAX_TEXT);
    for (size_t i = 0; i < sizeof STATES / sizeof *STATES; i++)
        ok = ok && append_in_state(&b, predictions, STATES[i][0], STATES[i][1], &any);
    if (!any)
        ok = ok && mf_buffer_append_str(&b, "None of the findings. ", NULL);
    ok = ok && append_flags(&b, json_object_get(json_object_get(result, "quality"), "flags")) &&
         mf_buffer_printf(&b, NULL, "Computed by %s %s; not reviewed by a physician.",
                          text_of(model, "name"), text_of(model, "version"));
    return ok ? json_stringn(b.data, b.len) : NULL;
}

static bool append_row(struct mf_buffer *b, const json_t *p)
{
    const json_t *probability = json_object_get(p, "probability");
    char number[32] = "";
    if (json_is_number(probability))
        snprintf(number, sizeof number, "%.3f", json_number_value(probability));
    return mf_buffer_append_str(b, "<tr><td>", NULL) &&
           append_escaped(b, mf_json_get_string(p, "display", text_of(p, "label"))) &&
           mf_buffer_printf(b, NULL, "</td><td>%s</td><td>", number) &&
           append_escaped(b, text_of(p, "state")) && mf_buffer_append_str(b, "</td><td>", NULL) &&
           append_escaped(b, text_of(p, "guarantee")) &&
           mf_buffer_append_str(b, "</td></tr>", NULL);
}

json_t *mf_fhir_narrative(const json_t *result)
{
    MF_AUTO(mf_buffer) struct mf_buffer b;
    const json_t *predictions = json_object_get(result, "predictions");
    mf_buffer_init(&b, MAX_TEXT);
    if (!mf_buffer_append_str(&b,
                              "<div xmlns=\"http://www.w3.org/1999/xhtml\"><table><tr>"
                              "<th>Finding</th><th>Probability</th><th>Conformal set</th>"
                              "<th>Guarantee</th></tr>",
                              NULL))
        return NULL;
    for (size_t i = 0; i < json_array_size(predictions); i++)
        if (!append_row(&b, json_array_get(predictions, i)))
            return NULL;
    if (!mf_buffer_append_str(&b, "</table></div>", NULL))
        return NULL;
    return json_pack("{s:s, s:s}", "status", "generated", "div", b.data);
}

json_t *mf_fhir_prediction_note(const json_t *result, const json_t *prediction)
{
    static const struct {
        const char *name, *sentence;
    } GUARANTEES[] = {
        {"valid", "The guarantee holds for patients like those of the calibration"},
        {"insufficient_calibration", "Too few calibration cases for a guarantee at this level"},
        {"shifted", "The input lies outside the calibrated population, no guarantee holds"},
        {"void", "No calibration is bound to this model, no guarantee holds"},
    };
    const json_t *set = json_object_get(prediction, "prediction_set");
    const char *sentence = "No guarantee is known";
    for (size_t i = 0; i < sizeof GUARANTEES / sizeof *GUARANTEES; i++)
        if (strcmp(GUARANTEES[i].name, text_of(prediction, "guarantee")) == 0)
            sentence = GUARANTEES[i].sentence;
    const char *first = json_string_value(json_array_get(set, 0));
    const char *second = json_string_value(json_array_get(set, 1));
    json_t *text = json_sprintf("Conformal prediction set at alpha %g: {%s%s%s}. %s.",
                                mf_json_get_number(result, "alpha", 0), first ? first : "",
                                second ? ", " : "", second ? second : "", sentence);
    return json_pack("[{s:o}]", "text", text);
}
