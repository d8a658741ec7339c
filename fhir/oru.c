/* ORU^R01: see oru.h. The conclusion and the notes are those of the FHIR report. */
#include "fhir/oru.h"

#include "core/buffer.h"
#include "fhir/narrative.h"

#include <string.h>

enum { MAX_TEXT = 1 << 20 };

struct message {
    struct mf_buffer text;
    const json_t *result;
    const struct mf_fhir_report_context *context;
    char effective[24]; /* TS of the study, or "" */
    int observations;
    struct mf_error *err;
};

/* --- text --- */

/* HL7 escapes (2.7.1); a line break becomes \.br\ and other control characters vanish. */
static bool put_escaped(struct message *m, const char *s)
{
    static const char SPECIAL[] = "|^&~\\";
    static const char *const ESCAPED[] = {"\\F\\", "\\S\\", "\\T\\", "\\R\\", "\\E\\"};
    for (; s && *s; s++) {
        const char *at = strchr(SPECIAL, *s);
        bool ok = true;
        if (at)
            ok = mf_buffer_append_str(&m->text, ESCAPED[at - SPECIAL], m->err);
        else if (*s == '\n')
            ok = mf_buffer_append_str(&m->text, "\\.br\\", m->err);
        else if ((unsigned char)*s >= 0x20)
            ok = mf_buffer_append(&m->text, s, 1, m->err);
        if (!ok)
            return false;
    }
    return true;
}

/* A template in which '$' stands for the next of the strings, escaped. */
static bool put(struct message *m, const char *template, const char *const values[])
{
    for (size_t i = 0; *template; template ++) {
        bool ok = *template == '$' ? put_escaped(m, values[i++])
                                   : mf_buffer_append(&m->text, template, 1, m->err);
        if (!ok)
            return false;
    }
    return true;
}
#define PUT(m, template, ...) put(m, template, (const char *const[]){__VA_ARGS__, NULL})

/* "2019-03-07T10:20:00.5Z" → "20190307102000.5+0000"; a date stays a date. */
static void to_ts(const char *iso, char *out, size_t size)
{
    size_t n = 0;
    bool clock = false;
    for (const char *p = iso ? iso : ""; *p && n + 6 < size; p++) {
        clock |= *p == 'T';
        if ((*p >= '0' && *p <= '9') || (clock && (*p == '.' || *p == '+' || *p == '-')))
            out[n++] = *p;
        else if (*p == 'Z') {
            memcpy(out + n, "+0000", 5);
            n += 5;
        }
    }
    out[n] = '\0';
}

static const char *text_of(const json_t *object, const char *key)
{
    return mf_json_get_string(object, key, "");
}

/* --- segments --- */

/* The study's time: the newest current frame's. */
static void find_effective(struct message *m)
{
    const json_t *frames = json_object_get(json_object_get(m->result, "study"), "frames");
    for (size_t i = json_array_size(frames); i-- > 0;) {
        const json_t *frame = json_array_get(frames, i);
        if (strcmp(text_of(frame, "role"), "current") == 0) {
            to_ts(text_of(frame, "acquired"), m->effective, sizeof m->effective);
            return;
        }
    }
}

/* HL7 tables 0123 and 0085: preliminary, or a correction of what was sent before. */
static const char *status_of(const struct message *m)
{
    return m->context->superseded ? "C" : "P";
}

static bool put_head(struct message *m)
{
    const struct mf_fhir_report_context *c = m->context;
    const json_t *study = json_object_get(m->result, "study");
    char issued[32];
    const char *id = text_of(m->result, "job");
    to_ts(c->issued, issued, sizeof issued);
    return PUT(m,
               "MSH|^~\\&|MEDFUSION||$|$|$||ORU^R01^ORU_R01|$|P|2.5.1|||||||UNICODE "
               "UTF-8\r",
               c->receiving_application, c->receiving_facility, issued,
               *id ? id : text_of(study, "study_instance_uid")) &&
           PUT(m, "PID|1||$^^^$\r", c->patient_id, c->patient_issuer) &&
           PUT(m, "OBR|1|$|$|18748-4^Diagnostic imaging study^LN|||$|||||||||||$|$|$||$||RAD|$\r",
               c->order.placer ? c->order.placer : c->order.accession,
               c->order.filler ? c->order.filler : text_of(study, "study_instance_uid"),
               m->effective, c->order.accession, c->order.procedure, c->order.step, issued,
               status_of(m));
}

/* "http://snomed.info/sct" → "SCT": a coding system by its name in HL7 table 0396. */
static const char *system_name(const char *uri)
{
    static const char *const NAMES[][2] = {{"http://snomed.info/sct", "SCT"},
                                           {"http://loinc.org", "LN"},
                                           {"http://radlex.org", "RADLEX"},
                                           {"http://www.radlex.org", "RADLEX"}};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (strcmp(NAMES[i][0], uri) == 0)
            return NAMES[i][1];
    return "L";
}

static const struct state {
    const char *name, *value, *flag;
} STATES[] = {{"present", "52101004^Present^SCT", "POS"},
              {"absent", "2667000^Absent^SCT", "NEG"},
              {"uncertain", "82334004^Indeterminate^SCT", "IND"},
              {"empty", "", "IND"}};

static const struct state *state_of(const json_t *prediction)
{
    for (size_t i = 0; i < sizeof STATES / sizeof *STATES; i++)
        if (strcmp(STATES[i].name, text_of(prediction, "state")) == 0)
            return &STATES[i];
    return NULL;
}

/* OBX of one label: what is said, how probable, and in NTE what that is worth. */
static bool put_label(struct message *m, size_t i, const json_t *prediction)
{
    const json_t *coding = json_array_get(json_object_get(prediction, "coding"), 0);
    const json_t *probability = json_object_get(prediction, "probability");
    const struct state *state = state_of(prediction);
    const char *display = mf_json_get_string(prediction, "display", text_of(prediction, "label"));
    const char *code = mf_json_get_string(coding, "code", text_of(prediction, "label"));
    const char *system = system_name(text_of(coding, "system"));
    MF_AUTO(mf_json) json_t *note = mf_fhir_prediction_note(m->result, prediction);
    if (!note)
        return mf_error_set(m->err, MF_ERR_NO_MEMORY, "out of memory for the message");
    if (!mf_buffer_printf(&m->text, m->err, "OBX|%d|CWE|", ++m->observations) ||
        !PUT(m, "$^$^$", code, display, system) ||
        !mf_buffer_printf(&m->text, m->err, "|%zu|%s|||%s|||%s|||%s\r", i + 1, state->value,
                          state->flag, status_of(m), m->effective) ||
        !PUT(m, "NTE|1||$\r", text_of(json_array_get(note, 0), "text")))
        return false;
    if (!json_is_number(probability))
        return true;
    return mf_buffer_printf(&m->text, m->err, "OBX|%d|NM|", ++m->observations) &&
           PUT(m, "$^$^$", code, display, system) &&
           mf_buffer_printf(&m->text, m->err, "|%zu.1|%.6g|1^^UCUM|||||%s|||%s\r", i + 1,
                            json_number_value(probability), status_of(m), m->effective);
}

static bool check_result(const json_t *result, struct mf_error *err)
{
    const json_t *list = json_object_get(result, "predictions");
    bool ok = strcmp(mf_json_get_string(result, "schema", ""), "medfusion.result/1") == 0 &&
              json_is_object(json_object_get(result, "study")) && json_is_array(list);
    for (size_t i = 0; ok && i < json_array_size(list); i++)
        ok = state_of(json_array_get(list, i)) != NULL;
    return ok || mf_error_set(err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
}

char *mf_fhir_oru(const json_t *result, const struct mf_fhir_report_context *context,
                  struct mf_error *err)
{
    static const struct mf_fhir_report_context NONE;
    const json_t *predictions = json_object_get(result, "predictions");
    struct message m = {.result = result, .context = context ? context : &NONE, .err = err};
    if (!check_result(result, err))
        return NULL;
    mf_buffer_init(&m.text, MAX_TEXT);
    find_effective(&m);
    MF_AUTO(mf_json) json_t *conclusion = mf_fhir_conclusion(result);
    bool ok = conclusion || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the message");
    ok = ok && put_head(&m) && PUT(&m, "NTE|1||$\r", json_string_value(conclusion));
    for (size_t i = 0; ok && i < json_array_size(predictions); i++)
        ok = put_label(&m, i, json_array_get(predictions, i));
    char *text = ok ? mf_buffer_take(&m.text, NULL) : NULL;
    mf_buffer_free(&m.text);
    return text;
}
