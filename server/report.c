/*
 * The HTML report. Everything that is not ours goes through text(), which escapes it; the first
 * failure sticks, so that the page is written straight through.
 */
#include "server/report_parts.h"

#include "core/mask.h"
#include "server/embedded.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <string.h>

enum { MOST_IMAGES = 4, SIDE = 720, PICTURE_BYTES = 64 << 20 };

struct page {
    const struct mf_report *report;
    struct mf_buffer *out;
    struct mf_error *err;
    bool ok;
};

/* --- writing --- */

/* Our own words and numbers. */
__attribute__((format(printf, 2, 3))) static void put(struct page *p, const char *format, ...)
{
    char piece[1024];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(piece, sizeof piece, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof piece)
        p->ok = mf_error_set(p->err, MF_ERR_INTERNAL, "a piece of the report does not fit");
    p->ok = p->ok && mf_buffer_append(p->out, piece, (size_t)n, p->err);
}

/* Anything else, escaped. */
static void text(struct page *p, const char *s)
{
    for (; s && *s && p->ok; s++) {
        const char *entity = *s == '&'    ? "&amp;"
                             : *s == '<'  ? "&lt;"
                             : *s == '>'  ? "&gt;"
                             : *s == '"'  ? "&quot;"
                             : *s == '\'' ? "&#39;"
                                          : NULL;
        p->ok = entity ? mf_buffer_append_str(p->out, entity, p->err)
                       : mf_buffer_append(p->out, s, 1, p->err);
    }
}

/* A name of ours ("lungs_cut_off") in words. */
static void words(struct page *p, const char *s)
{
    for (; s && *s && p->ok; s++)
        text(p, (const char[]){*s == '_' ? ' ' : *s, '\0'});
}

static void member(struct page *p, const json_t *object, const char *key, const char *fallback)
{
    text(p, mf_json_get_string(object, key, fallback));
}

static void percent(struct page *p, const json_t *number)
{
    double v = 100 * json_number_value(number);
    if (!json_is_number(number))
        put(p, "–");
    else
        put(p, v > 0 && v < 9.95 ? "%.1f&nbsp;%%" : "%.0f&nbsp;%%", v);
}

static void date(struct page *p, const char *s)
{
    char day[11];
    mf_report_date(s, day);
    text(p, day);
}

/* --- head --- */

static void person(struct page *p, const char *name)
{
    char shown[512];
    mf_report_person(name, shown, sizeof shown);
    text(p, shown);
}

static void fact(struct page *p, const char *name, const char *value)
{
    if (!value)
        return;
    put(p, "<div><dt>%s</dt><dd>", name);
    text(p, value);
    put(p, "</dd></div>");
}

static void head(struct page *p)
{
    MF_AUTO(mf_json) json_t *s = mf_artifact_subject(p->report->index, p->report->result);
    const json_t *newest = json_array_get(mf_report_frames(p->report),
                                          json_array_size(mf_report_frames(p->report)) - 1);
    const struct mf_embedded_file *css =
        mf_embedded_find(mf_ui_files, mf_ui_files_count, "report.css");
    put(p, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
           "<title>MedFusion report</title><style>");
    p->ok = p->ok && mf_buffer_append(p->out, css->data, css->size, p->err);
    put(p, "</style></head><body><header><div><p class=\"kind\">MedFusion report</p><h1>");
    const char *name = mf_json_get_string(s, "patient_name", NULL);
    if (name)
        person(p, name);
    else
        member(p, s, "patient_id", "Unnamed patient");
    put(p, "</h1></div><p class=\"warning\">Research use only.<br>Not a medical device.</p>"
           "</header><dl class=\"facts\">");
    fact(p, "Patient ID", mf_json_get_string(s, "patient_id", NULL));
    if (mf_json_get_string(s, "birth_date", NULL)) {
        put(p, "<div><dt>Born</dt><dd>");
        date(p, mf_json_get_string(s, "birth_date", NULL));
        put(p, "</dd></div>");
    }
    fact(p, "Sex", mf_json_get_string(s, "sex", NULL));
    fact(p, "Accession", mf_json_get_string(s, "accession_number", NULL));
    put(p, "<div><dt>Study</dt><dd>");
    member(p, json_object_get(p->report->result, "study"), "modality", "");
    put(p, " ");
    date(p, mf_json_get_string(newest, "acquired", mf_json_get_string(s, "study_date", NULL)));
    put(p, "</dd></div>");
    fact(p, "Description", mf_json_get_string(s, "study_description", NULL));
    put(p, "</dl>");
}

/* --- images --- */

/* The set pixels of a mask as one path of rectangles, one for each run of a row. */
static void mask_path(struct page *p, const struct mf_mask *m)
{
    put(p, "<path class=\"%s\" d=\"", m->structure == MF_STRUCTURE_IMAGE_LEFT ? "left" : "right");
    for (uint32_t y = 0; y < m->rows; y++)
        for (uint32_t x = 0; x < m->columns;) {
            const uint8_t *row = m->pixels + (size_t)y * m->columns;
            uint32_t from = x;
            while (x < m->columns && row[x] == row[from])
                x++;
            if (row[from])
                put(p, "M%u %uh%uv1h-%uz", from, y, x - from, x - from);
        }
    put(p, "\"/>");
}

static void overlay(struct page *p, size_t frame)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_mask *masks = NULL;
    size_t count = 0;
    if (!p->report->masks || !p->ok)
        return;
    p->ok = arena && mf_masks_parse(p->report->masks, json_array_size(mf_report_frames(p->report)),
                                    arena, &masks, &count, p->err);
    for (size_t i = 0; i < count && p->ok; i++) {
        if (masks[i].frame != frame)
            continue;
        put(p, "<svg viewBox=\"0 0 %u %u\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
            masks[i].columns, masks[i].rows);
        mask_path(p, &masks[i]);
        put(p, "</svg>");
    }
}

static void base64(struct page *p, const struct mf_buffer *bytes)
{
    char *to = p->ok ? mf_buffer_reserve(p->out, 4 * ((bytes->len + 2) / 3) + 1, p->err) : NULL;
    if (!to)
        p->ok = false;
    else
        p->out->len += (size_t)EVP_EncodeBlock((unsigned char *)to,
                                               (const unsigned char *)bytes->data, (int)bytes->len);
}

static void image(struct page *p, size_t number)
{
    MF_AUTO(mf_buffer) struct mf_buffer png;
    mf_buffer_init(&png, PICTURE_BYTES);
    const json_t *frame = json_array_get(mf_report_frames(p->report), number);
    const struct mf_index_object *o =
        mf_artifact_object(p->report->index, mf_json_get_string(frame, "sop_instance_uid", NULL));
    bool prior = strcmp(mf_json_get_string(frame, "role", ""), "prior") == 0;
    double aspect;
    if (!o || !p->ok || !(p->ok = mf_report_picture(p->report, frame, SIDE, &png, &aspect, p->err)))
        return;
    put(p,
        "<figure><div class=\"image\" style=\"aspect-ratio:%.4f\">"
        "<img alt=\"%s image\" src=\"data:image/png;base64,",
        aspect, prior ? "Earlier" : "Current");
    base64(p, &png);
    put(p, "\">");
    overlay(p, number);
    put(p, "</div><figcaption>%s, ", prior ? "Earlier" : "Current");
    date(p, mf_json_get_string(frame, "acquired", NULL));
    put(p, o->view_position ? ", " : "");
    text(p, o->view_position);
    put(p, "</figcaption></figure>");
}

static void images(struct page *p)
{
    size_t n = json_array_size(mf_report_frames(p->report));
    put(p, "<section class=\"images\" aria-label=\"Images\">");
    for (size_t i = n > MOST_IMAGES ? n - MOST_IMAGES : 0; i < n && p->ok; i++)
        image(p, i);
    put(p, "</section>");
}

/* --- findings --- */

static void finding(struct page *p, const json_t *f)
{
    const char *state = mf_json_get_string(f, "state", "");
    const char *guarantee = mf_json_get_string(f, "guarantee", "void");
    bool valid = strcmp(guarantee, "valid") == 0;
    put(p, "<tr><td>");
    member(p, f, "display", "");
    put(p, "</td><td><span class=\"chip%s ", valid ? "" : " loose");
    text(p, state);
    put(p, "\">");
    text(p, mf_report_state(state));
    put(p, "</span></td><td class=\"number\">");
    percent(p, json_object_get(f, "probability"));
    put(p, "</td><td><div class=\"meter\"><div style=\"width:%.1f%%\"></div></div></td><td>",
        100 * mf_json_get_number(f, "probability", 0));
    words(p, valid ? "holds" : guarantee);
    put(p, "</td><td class=\"number\">%lld / %lld</td></tr>",
        (long long)mf_json_get_int(f, "n_cal_pos", 0),
        (long long)mf_json_get_int(f, "n_cal_neg", 0));
}

static void findings(struct page *p)
{
    const json_t *result = p->report->result;
    const json_t *predictions = json_object_get(result, "predictions");
    double share = 100 * (1 - mf_json_get_number(result, "alpha", 0.1));
    MF_AUTO(mf_mem) size_t *order = calloc(json_array_size(predictions) + 1, sizeof *order);
    if (!order) {
        p->ok = mf_error_set(p->err, MF_ERR_NO_MEMORY, "out of memory for the report");
        return;
    }
    size_t count = mf_report_order(predictions, order);
    put(p, "<section><h2>Findings</h2><table><thead><tr><th>Finding</th><th>Set</th>"
           "<th>Probability</th><th></th><th>Promise</th><th>Calibration cases, with / without</th>"
           "</tr></thead><tbody>");
    for (size_t i = 0; i < count && p->ok; i++)
        finding(p, json_array_get(predictions, order[i]));
    put(p,
        "</tbody></table><p class=\"note\">Probabilities are calibrated. Where the promise "
        "holds, the set contains “present” for at least %.0f&nbsp;%% of patients with the "
        "finding, and “absent” for as many of those without; an uncertain set contains both. "
        "A dashed mark carries no promise.</p></section>",
        share);
}

/* --- what it rests on --- */

static void patient_data(struct page *p)
{
    const json_t *features = json_object_get(json_object_get(p->report->result, "ehr"), "features");
    const json_t *f;
    size_t i;
    if (json_array_size(features) == 0)
        return;
    put(p, "<section><h2>Patient data</h2><table><thead><tr><th>Feature</th><th>Value</th>"
           "<th>Status</th><th>Source</th></tr></thead><tbody>");
    json_array_foreach(features, i, f)
    {
        const json_t *value = json_object_get(f, "value");
        put(p, "<tr><td>");
        words(p, mf_json_get_string(f, "id", ""));
        put(p, "</td><td class=\"number\">");
        if (json_is_number(value))
            put(p, "%.5g ", json_number_value(value));
        else
            text(p, json_is_string(value) ? json_string_value(value) : "–");
        member(p, f, "unit", "");
        put(p, "</td><td>");
        member(p, f, "status", "");
        put(p, "</td><td><code>");
        member(p, f, "source", "–");
        put(p, "</code></td></tr>");
    }
    put(p, "</tbody></table></section>");
}

static void quality(struct page *p)
{
    const json_t *q = json_object_get(p->report->result, "quality");
    const json_t *flags = json_object_get(q, "flags"), *flag;
    const json_t *ood = json_object_get(q, "ood_p_value");
    size_t i;
    if (json_array_size(flags) == 0)
        return;
    put(p, "<p class=\"flags\"><strong>The image may not be fit to be judged:</strong> ");
    json_array_foreach(flags, i, flag)
    {
        put(p, i ? ", " : "");
        words(p, json_string_value(flag));
    }
    put(p, json_is_number(ood) ? " (how usual: p = %.3f)</p>" : "</p>", json_number_value(ood));
}

static void provenance(struct page *p)
{
    const json_t *r = p->report->result, *m = json_object_get(r, "model");
    const json_t *c = json_object_get(r, "calibration");
    put(p, "<section class=\"provenance\"><h2>Provenance</h2><dl>");
    put(p, "<dt>Model</dt><dd>");
    member(p, m, "name", "");
    put(p, " ");
    member(p, m, "version", "");
    put(p, "</dd><dt>Weights</dt><dd><code>");
    member(p, m, "model_hash", "–");
    put(p, "</code></dd><dt>Bundle</dt><dd><code>");
    member(p, m, "digest", "–");
    put(p, "</code></dd><dt>Calibration</dt><dd>%lld patients, ",
        (long long)mf_json_get_int(c, "patients", 0));
    date(p, mf_json_get_string(c, "created", NULL));
    put(p, ", <code>");
    member(p, c, "id", "none");
    put(p, "</code></dd><dt>Ran on</dt><dd>");
    member(p, m, "device", "");
    put(p, ", ");
    member(p, m, "dtype", "");
    put(p, p->report->made ? ", " : "");
    text(p, p->report->made);
    put(p, "</dd><dt>Study UID</dt><dd><code>");
    member(p, json_object_get(r, "study"), "study_instance_uid", "–");
    put(p, "</code></dd>");
    if (mf_json_get_string(r, "job", NULL)) {
        put(p, "<dt>Job</dt><dd><code>");
        member(p, r, "job", "");
        put(p, "</code></dd>");
    }
    put(p, "</dl></section>");
}

bool mf_report_html(const struct mf_report *report, struct mf_buffer *out, struct mf_error *err)
{
    struct page p = {.report = report, .out = out, .err = err, .ok = true};
    head(&p);
    quality(&p);
    images(&p);
    findings(&p);
    patient_data(&p);
    provenance(&p);
    put(&p, "<footer>MedFusion " MF_VERSION ". Research use only. Not a medical device. Not for "
            "diagnosis or treatment.</footer></body></html>\n");
    return p.ok;
}
