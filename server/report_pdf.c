/*
 * The PDF report (report_pdf.h), with libharu. Its errors stick, as ours do: a document that has
 * failed takes no more, and is looked at once at the end. Lengths are points, y grows upwards.
 */
#include "server/report_pdf.h"

#include "core/mask.h"
#include "server/report_parts.h"
#include "server/winansi.h"

#include <hpdf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_IMAGES = 4, SIDE = 720, PICTURE_BYTES = 64 << 20, TEXT = 512, MOST_FEATURES = 10 };

static const float WIDTH = 595, MARGIN = 40, BOTTOM = 48, LINE = 12.5f, IMAGES_HEIGHT = 210;
static const float INSIDE = 595 - 2 * 40, METER = 90;

enum weight { PLAIN, BOLD, CODE, WEIGHTS };

struct sheet {
    const struct mf_report *report;
    struct mf_error *err;
    bool ok;
    HPDF_Doc pdf;
    HPDF_Page page;
    HPDF_Font fonts[WEIGHTS];
    float y; /* below which nothing is written yet */
};

/* --- writing --- */

static void colour(struct sheet *s, float r, float g, float b)
{
    HPDF_Page_SetRGBFill(s->page, r, g, b);
}

static void ink(struct sheet *s)
{
    colour(s, 0.1f, 0.12f, 0.15f);
}

/* UTF-8 at x, y; returns where it ends. What is wider than `room` is cut. */
static float say(struct sheet *s, enum weight weight, float size, float x, float y, float room,
                 const char *utf8)
{
    char text[TEXT];
    mf_winansi(utf8, text, sizeof text);
    HPDF_Page_SetFontAndSize(s->page, s->fonts[weight], size);
    while (*text && HPDF_Page_TextWidth(s->page, text) > room)
        text[strlen(text) - 1] = '\0';
    HPDF_Page_BeginText(s->page);
    HPDF_Page_TextOut(s->page, x, y, text);
    HPDF_Page_EndText(s->page);
    return x + HPDF_Page_TextWidth(s->page, text);
}

__attribute__((format(printf, 7, 8))) static float sayf(struct sheet *s, enum weight weight,
                                                        float size, float x, float y, float room,
                                                        const char *format, ...)
{
    char text[TEXT];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return say(s, weight, size, x, y, room, text);
}

static void heading(struct sheet *s, const char *text)
{
    s->y -= 22;
    ink(s);
    say(s, BOLD, 11, MARGIN, s->y, INSIDE, text);
    HPDF_Page_SetRGBStroke(s->page, 0.75f, 0.78f, 0.82f);
    HPDF_Page_SetLineWidth(s->page, 0.6f);
    HPDF_Page_MoveTo(s->page, MARGIN, s->y - 4);
    HPDF_Page_LineTo(s->page, WIDTH - MARGIN, s->y - 4);
    HPDF_Page_Stroke(s->page);
    s->y -= 4;
}

/* --- head --- */

static float fact(struct sheet *s, float x, const char *name, const char *value)
{
    if (!value || x > WIDTH - MARGIN - 60)
        return x;
    colour(s, 0.4f, 0.44f, 0.5f);
    say(s, PLAIN, 7.5f, x, s->y, 100, name);
    ink(s);
    float end = say(s, PLAIN, 9.5f, x, s->y - LINE, WIDTH - MARGIN - x, value);
    return (end > x + 60 ? end : x + 60) + 18;
}

static void facts(struct sheet *s, const json_t *subject)
{
    const json_t *frames = mf_report_frames(s->report);
    const json_t *newest = json_array_get(frames, json_array_size(frames) - 1);
    const char *modality =
        mf_json_get_string(json_object_get(s->report->result, "study"), "modality", "");
    const char *born = mf_json_get_string(subject, "birth_date", NULL);
    char day[11], study[32];
    s->y -= 22;
    float x = fact(s, MARGIN, "Patient ID", mf_json_get_string(subject, "patient_id", NULL));
    mf_report_date(born, day);
    x = fact(s, x, "Born", born ? day : NULL);
    x = fact(s, x, "Sex", mf_json_get_string(subject, "sex", NULL));
    x = fact(s, x, "Accession", mf_json_get_string(subject, "accession_number", NULL));
    mf_report_date(
        mf_json_get_string(newest, "acquired", mf_json_get_string(subject, "study_date", NULL)),
        day);
    snprintf(study, sizeof study, "%.16s %s", modality, day);
    x = fact(s, x, "Study", study);
    fact(s, x, "Description", mf_json_get_string(subject, "study_description", NULL));
    s->y -= LINE;
}

static void head(struct sheet *s)
{
    MF_AUTO(mf_json)
    json_t *subject = mf_artifact_subject(s->report->index, s->report->result);
    const char *name = mf_json_get_string(subject, "patient_name", NULL);
    char person[TEXT], text[TEXT];
    s->y = 842 - MARGIN;
    colour(s, 0.4f, 0.44f, 0.5f);
    say(s, PLAIN, 9, MARGIN, s->y, INSIDE, "MedFusion report");
    colour(s, 0.7f, 0.1f, 0.1f);
    say(s, BOLD, 9, WIDTH - MARGIN - 118, s->y, 118, "Research use only.");
    say(s, BOLD, 9, WIDTH - MARGIN - 118, s->y - LINE, 118, "Not a medical device.");
    mf_report_person(name ? name : "", person, sizeof person);
    bool written = *person && mf_winansi(person, text, sizeof text);
    s->y -= 20;
    ink(s);
    say(s, BOLD, 17, MARGIN, s->y, INSIDE - 130,
        written ? person : mf_json_get_string(subject, "patient_id", "Unnamed patient"));
    facts(s, subject);
}

static void quality(struct sheet *s)
{
    const json_t *flags = json_object_get(json_object_get(s->report->result, "quality"), "flags");
    const json_t *flag;
    char text[TEXT] = "The image may not be fit to be judged: ";
    size_t i, n = strlen(text);
    if (json_array_size(flags) == 0)
        return;
    json_array_foreach(flags, i, flag)
    {
        int more =
            snprintf(text + n, sizeof text - n, "%s%s", i ? ", " : "", json_string_value(flag));
        n = more < 0 || (size_t)more >= sizeof text - n ? sizeof text - 1 : n + (size_t)more;
    }
    for (char *c = text; *c; c++)
        *c = *c == '_' ? ' ' : *c;
    s->y -= 16;
    colour(s, 0.7f, 0.35f, 0);
    say(s, BOLD, 9, MARGIN, s->y, INSIDE, text);
}

/* --- images --- */

struct place {
    float x, y, width, height; /* the lower left corner and the size of a picture */
};

/* The set pixels of a mask as rectangles, one for each run of a row. */
static void fill_mask(struct sheet *s, const struct mf_mask *m, const struct place *at)
{
    float w = at->width / (float)m->columns, h = at->height / (float)m->rows;
    if (m->structure == MF_STRUCTURE_IMAGE_LEFT)
        colour(s, 0.2f, 0.6f, 1);
    else
        colour(s, 1, 0.6f, 0.1f);
    for (uint32_t y = 0; y < m->rows; y++)
        for (uint32_t x = 0; x < m->columns;) {
            const uint8_t *row = m->pixels + (size_t)y * m->columns;
            uint32_t from = x;
            while (x < m->columns && row[x] == row[from])
                x++;
            if (row[from])
                HPDF_Page_Rectangle(s->page, at->x + w * (float)from,
                                    at->y + at->height - h * (float)(y + 1), w * (float)(x - from),
                                    h);
        }
    HPDF_Page_Fill(s->page);
}

static void overlay(struct sheet *s, size_t frame, const struct place *at)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_mask *masks = NULL;
    size_t count = 0;
    if (!s->report->masks || !s->ok)
        return;
    s->ok = arena && mf_masks_parse(s->report->masks, json_array_size(mf_report_frames(s->report)),
                                    arena, &masks, &count, s->err);
    HPDF_ExtGState light = HPDF_CreateExtGState(s->pdf);
    HPDF_ExtGState_SetAlphaFill(light, 0.22f);
    HPDF_Page_GSave(s->page);
    HPDF_Page_SetExtGState(s->page, light);
    for (size_t i = 0; i < count && s->ok; i++)
        if (masks[i].frame == frame)
            fill_mask(s, &masks[i], at);
    HPDF_Page_GRestore(s->page);
}

static void image(struct sheet *s, size_t number, const struct place *room)
{
    MF_AUTO(mf_buffer) struct mf_buffer png;
    mf_buffer_init(&png, PICTURE_BYTES);
    const json_t *frame = json_array_get(mf_report_frames(s->report), number);
    bool prior = strcmp(mf_json_get_string(frame, "role", ""), "prior") == 0;
    double aspect = 1;
    char day[11];
    if (!s->ok || !(s->ok = mf_report_picture(s->report, frame, SIDE, &png, &aspect, s->err)))
        return;
    struct place at = *room;
    at.width = room->height * (float)aspect;
    if (at.width > room->width) {
        at.width = room->width;
        at.height = room->width / (float)aspect;
        at.y += room->height - at.height;
    }
    s->y = at.y - 12 < s->y ? at.y - 12 : s->y;
    HPDF_Image picture =
        HPDF_LoadPngImageFromMem(s->pdf, (const HPDF_BYTE *)png.data, (HPDF_UINT)png.len);
    HPDF_Page_DrawImage(s->page, picture, at.x, at.y, at.width, at.height);
    overlay(s, number, &at);
    mf_report_date(mf_json_get_string(frame, "acquired", NULL), day);
    colour(s, 0.4f, 0.44f, 0.5f);
    sayf(s, PLAIN, 8, at.x, at.y - 10, room->width, "%s, %s", prior ? "Earlier" : "Current", day);
}

static void images(struct sheet *s)
{
    size_t n = json_array_size(mf_report_frames(s->report));
    size_t shown = n > MOST_IMAGES ? MOST_IMAGES : n > 0 ? n : 1;
    float gap = 10, width = (INSIDE - gap * (float)(shown - 1)) / (float)shown;
    struct place room = {MARGIN, s->y - 12 - IMAGES_HEIGHT, width, IMAGES_HEIGHT};
    for (size_t i = n > shown ? n - shown : 0; i < n && s->ok; i++, room.x += width + gap)
        image(s, i, &room);
}

/* --- findings --- */

static const float COLUMNS[] = {0, 140, 200, 252, 352, 455};

/* As the chips of the page: what a state means is seen before it is read. */
static void state_of(struct sheet *s, const json_t *f)
{
    static const struct {
        const char *name;
        float r, g, b;
    } STATES[] = {{"present", 0.68f, 0.2f, 0.07f},
                  {"uncertain", 0.49f, 0.34f, 0},
                  {"absent", 0.04f, 0.42f, 0.27f}};
    const char *state = mf_json_get_string(f, "state", "");
    for (size_t i = 0; i < sizeof STATES / sizeof *STATES; i++)
        if (strcmp(state, STATES[i].name) == 0)
            colour(s, STATES[i].r, STATES[i].g, STATES[i].b);
    say(s, BOLD, 8.5f, MARGIN + COLUMNS[1], s->y, COLUMNS[2] - COLUMNS[1] - 4,
        mf_report_state(state));
    ink(s);
}

static void columns(struct sheet *s, const char *const *texts, enum weight weight)
{
    for (size_t i = 0; i < sizeof COLUMNS / sizeof *COLUMNS; i++)
        if (texts[i])
            say(s, weight, 8.5f, MARGIN + COLUMNS[i], s->y,
                (i < 5 ? COLUMNS[i + 1] : INSIDE) - COLUMNS[i] - 4, texts[i]);
}

static void finding(struct sheet *s, const json_t *f)
{
    const char *guarantee = mf_json_get_string(f, "guarantee", "void");
    const json_t *probability = json_object_get(f, "probability");
    double p = json_number_value(probability);
    char share[16] = "–", cases[32], promise[32];
    if (json_is_number(probability))
        snprintf(share, sizeof share, p > 0 && p < 0.0995 ? "%.1f %%" : "%.0f %%", 100 * p);
    snprintf(cases, sizeof cases, "%lld / %lld", (long long)mf_json_get_int(f, "n_cal_pos", 0),
             (long long)mf_json_get_int(f, "n_cal_neg", 0));
    snprintf(promise, sizeof promise, "%s", strcmp(guarantee, "valid") == 0 ? "holds" : guarantee);
    for (char *c = promise; *c; c++)
        *c = *c == '_' ? ' ' : *c;
    s->y -= LINE;
    colour(s, 0.88f, 0.9f, 0.93f);
    HPDF_Page_Rectangle(s->page, MARGIN + COLUMNS[3], s->y, METER, 5);
    HPDF_Page_Fill(s->page);
    colour(s, 0.15f, 0.4f, 0.7f);
    HPDF_Page_Rectangle(s->page, MARGIN + COLUMNS[3], s->y, METER * (float)p, 5);
    HPDF_Page_Fill(s->page);
    ink(s);
    state_of(s, f);
    columns(s,
            (const char *const[]){mf_json_get_string(f, "display", ""), NULL, share, NULL, promise,
                                  cases},
            PLAIN);
}

static void findings(struct sheet *s)
{
    static const float BELOW = 190; /* what comes after the table needs so much */
    const json_t *result = s->report->result;
    const json_t *predictions = json_object_get(result, "predictions");
    double share = 100 * (1 - mf_json_get_number(result, "alpha", 0.1));
    MF_AUTO(mf_mem)
    size_t *order = calloc(json_array_size(predictions) + 1, sizeof *order);
    if (!order) {
        s->ok = mf_error_set(s->err, MF_ERR_NO_MEMORY, "out of memory for the report");
        return;
    }
    size_t n = mf_report_order(predictions, order), i = 0;
    heading(s, "Findings");
    s->y -= LINE;
    columns(
        s,
        (const char *const[]){"Finding", "Set", "Probability", NULL, "Promise", "With / without"},
        BOLD);
    for (; i < n && s->y - LINE > BOTTOM + BELOW; i++)
        finding(s, json_array_get(predictions, order[i]));
    s->y -= LINE;
    if (i < n) {
        sayf(s, PLAIN, 8.5f, MARGIN, s->y, INSIDE, "and %zu more, in the result", n - i);
        s->y -= LINE;
    }
    colour(s, 0.4f, 0.44f, 0.5f);
    sayf(s, PLAIN, 7.5f, MARGIN, s->y, INSIDE,
         "Probabilities are calibrated. Where the promise holds, the set contains “present” for at "
         "least %.0f %% of patients with the finding,",
         share);
    s->y -= 9.5f;
    say(s, PLAIN, 7.5f, MARGIN, s->y, INSIDE,
        "and “absent” for as many of those without; an uncertain set contains both.");
}

/* --- what it rests on --- */

static void patient_data(struct sheet *s)
{
    const json_t *features = json_object_get(json_object_get(s->report->result, "ehr"), "features");
    size_t n = json_array_size(features), shown = n > MOST_FEATURES ? MOST_FEATURES : n;
    float width = INSIDE / 2;
    if (n == 0)
        return;
    heading(s, n > shown ? "Patient data (the rest is in the result)" : "Patient data");
    for (size_t i = 0; i < shown; i++) {
        const json_t *f = json_array_get(features, i), *value = json_object_get(f, "value");
        char text[64];
        if (json_is_number(value))
            snprintf(text, sizeof text, "%.5g %.24s", json_number_value(value),
                     mf_json_get_string(f, "unit", ""));
        else
            snprintf(text, sizeof text, "%.60s",
                     json_is_string(value) ? json_string_value(value) : "–");
        s->y -= i % 2 ? 0 : LINE;
        float x = MARGIN + (i % 2 ? width : 0);
        ink(s);
        say(s, PLAIN, 8.5f, x, s->y, 70, mf_json_get_string(f, "id", ""));
        say(s, PLAIN, 8.5f, x + 75, s->y, 60, text);
        colour(s, 0.4f, 0.44f, 0.5f);
        sayf(s, PLAIN, 7.5f, x + 140, s->y, width - 145, "%s  %s",
             mf_json_get_string(f, "status", ""), mf_json_get_string(f, "source", ""));
    }
}

static void source(struct sheet *s, const char *name, const char *value)
{
    s->y -= 11;
    colour(s, 0.4f, 0.44f, 0.5f);
    say(s, PLAIN, 8, MARGIN, s->y, 70, name);
    ink(s);
    say(s, CODE, 7.5f, MARGIN + 75, s->y, INSIDE - 75, value);
}

static void provenance(struct sheet *s)
{
    const json_t *r = s->report->result, *m = json_object_get(r, "model");
    const json_t *c = json_object_get(r, "calibration");
    char text[TEXT], day[11];
    heading(s, "Provenance");
    s->y -= 2;
    snprintf(text, sizeof text, "%.100s %.60s", mf_json_get_string(m, "name", ""),
             mf_json_get_string(m, "version", ""));
    source(s, "Model", text);
    source(s, "Weights", mf_json_get_string(m, "model_hash", "–"));
    source(s, "Bundle", mf_json_get_string(m, "digest", "–"));
    mf_report_date(mf_json_get_string(c, "created", NULL), day);
    snprintf(text, sizeof text, "%lld patients, %s, %.60s",
             (long long)mf_json_get_int(c, "patients", 0), day,
             mf_json_get_string(c, "id", "none"));
    source(s, "Calibration", text);
    snprintf(text, sizeof text, "%.60s, %.16s%s%.40s", mf_json_get_string(m, "device", ""),
             mf_json_get_string(m, "dtype", ""), s->report->made ? ", " : "",
             s->report->made ? s->report->made : "");
    source(s, "Ran on", text);
    source(s, "Study UID",
           mf_json_get_string(json_object_get(r, "study"), "study_instance_uid", "–"));
    if (mf_json_get_string(r, "job", NULL))
        source(s, "Job", mf_json_get_string(r, "job", NULL));
    colour(s, 0.4f, 0.44f, 0.5f);
    say(s, PLAIN, 7.5f, MARGIN, 30, INSIDE,
        "MedFusion " MF_VERSION ". Research use only. Not a medical device. Not for diagnosis or "
        "treatment.");
}

/* --- the file --- */

/* libharu calls it at every failure; it is told at the end. */
static void ignore(HPDF_STATUS error, HPDF_STATUS detail, void *arg)
{
    (void)error;
    (void)detail;
    (void)arg;
}

static bool open_sheet(struct sheet *s)
{
    static const char *const FONTS[WEIGHTS] = {"Helvetica", "Helvetica-Bold", "Courier"};
    s->pdf = HPDF_New(ignore, NULL);
    if (!s->pdf)
        return mf_error_set(s->err, MF_ERR_NO_MEMORY, "out of memory for the report");
    HPDF_SetCompressionMode(s->pdf, HPDF_COMP_ALL);
    HPDF_SetInfoAttr(s->pdf, HPDF_INFO_TITLE, "MedFusion report");
    HPDF_SetInfoAttr(s->pdf, HPDF_INFO_CREATOR, "MedFusion " MF_VERSION);
    s->page = HPDF_AddPage(s->pdf);
    HPDF_Page_SetSize(s->page, HPDF_PAGE_SIZE_A4, HPDF_PAGE_PORTRAIT);
    for (int i = 0; i < WEIGHTS; i++)
        s->fonts[i] = HPDF_GetFont(s->pdf, FONTS[i], "WinAnsiEncoding");
    return true;
}

static bool save(struct sheet *s, struct mf_buffer *out)
{
    HPDF_SaveToStream(s->pdf);
    HPDF_STATUS failed = HPDF_GetError(s->pdf);
    if (failed != HPDF_OK)
        return mf_error_set(s->err, MF_ERR_INTERNAL, "the PDF cannot be made (libharu error %#lx)",
                            (unsigned long)failed);
    HPDF_UINT32 size = HPDF_GetStreamSize(s->pdf);
    char *to = mf_buffer_reserve(out, size, s->err);
    if (!to)
        return false;
    HPDF_ReadFromStream(s->pdf, (HPDF_BYTE *)to, &size);
    out->len += size;
    return true;
}

bool mf_report_pdf(const struct mf_report *report, struct mf_buffer *out, struct mf_error *err)
{
    struct sheet s = {.report = report, .err = err};
    s.ok = open_sheet(&s);
    if (s.ok) {
        head(&s);
        quality(&s);
        images(&s);
        findings(&s);
        patient_data(&s);
        provenance(&s);
        s.ok = s.ok && save(&s, out);
    }
    if (s.pdf)
        HPDF_Free(s.pdf);
    return s.ok;
}
