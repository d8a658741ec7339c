/* The picture of a measurement (bench_picture.h), SVG 1.1. Lengths are its pixels. */
#include "server/bench_picture.h"

#include "core/json.h"
#include "core/outfile.h"

#include <stdio.h>

enum { WIDTH = 760, MARGIN = 24, HEAD = 74, CASE = 66, BAR = 20, FOOT = 18, STAGES = 6 };
static const double ROOM = WIDTH - 2 * MARGIN - 84; /* of the longest bar; its time stands behind */
static const double LEAST = 46;                     /* from here on a part has room for its time */

static const struct {
    const char *name, *colour;
} PARTS[STAGES] = {{"decode", "#66727f"},   {"segment", "#1f77b4"}, {"vision", "#16775b"},
                   {"temporal", "#8a6100"}, {"ehr", "#b34a26"},     {"fusion", "#7a4cc2"}};

static double median(const json_t *stages, const char *name)
{
    return mf_json_get_number(json_object_get(stages, name), "median_ms", 0);
}

/* From some milliseconds to minutes, three digits. */
static void put_time(FILE *f, double ms)
{
    if (ms < 1000)
        fprintf(f, "%.*f ms", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
    else
        fprintf(f, "%.*f s", ms < 10000 ? 2 : 1, ms / 1000);
}

static void put_text(FILE *f, double x, double y, const char *kind, const char *text)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">%s</text>\n", x, y, kind, text);
}

static void put_part(FILE *f, double x, double y, double width, size_t part, double ms)
{
    fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"><title>%s ", x,
            y, width, BAR, PARTS[part].colour, PARTS[part].name);
    put_time(f, ms);
    fputs("</title></rect>\n", f);
    if (width < LEAST)
        return;
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"in\">", x + width / 2, y + 14);
    put_time(f, ms);
    fputs("</text>\n", f);
}

static void put_case(FILE *f, const json_t *c, double y, double longest)
{
    const json_t *stages = json_object_get(c, "stages");
    double x = MARGIN, total = median(stages, "total");
    fprintf(f, "<text x=\"%d\" y=\"%.1f\">%s<tspan class=\"muted\"> · %lld runs</tspan></text>\n",
            MARGIN, y, mf_json_get_string(c, "case", ""), (long long)mf_json_get_int(c, "runs", 0));
    for (size_t i = 0; i < STAGES; i++) {
        double ms = median(stages, PARTS[i].name), width = ROOM * ms / longest;
        if (ms > 0)
            put_part(f, x, y + 9, width, i, ms);
        x += width;
    }
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"strong\">", MARGIN + ROOM * total / longest + 8,
            y + 24);
    put_time(f, total);
    fputs("</text>\n", f);
}

static void put_legend(FILE *f, double y)
{
    double x = MARGIN;
    for (size_t i = 0; i < STAGES; i++, x += 94) {
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n", x,
                y - 9, PARTS[i].colour);
        put_text(f, x + 15, y, "muted", PARTS[i].name);
    }
}

static double longest_of(const json_t *cases)
{
    double longest = 1e-9;
    size_t i;
    const json_t *c;
    json_array_foreach(cases, i, c)
    {
        double total = median(json_object_get(c, "stages"), "total");
        longest = total > longest ? total : longest;
    }
    return longest;
}

bool mf_bench_picture(const json_t *document, const char *path, struct mf_error *err)
{
    const json_t *cases = json_object_get(document, "cases"), *c;
    const size_t count = json_array_size(cases);
    const double height = HEAD + CASE * (double)count + FOOT, longest = longest_of(cases);
    struct mf_outfile out;
    if (!mf_outfile_open(&out, path, err))
        return false;
    FILE *f = out.file;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\">\n"
            "<style>text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#15202b}"
            ".title{font-size:17px;font-weight:650}.muted{fill:#536170}.strong{font-weight:650}"
            ".in{fill:#fff;font-size:11px;text-anchor:middle}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            WIDTH, height, WIDTH);
    fprintf(f, "<text x=\"%d\" y=\"34\" class=\"title\">%s %s on %s (%s)</text>\n", MARGIN,
            mf_json_get_string(document, "model", ""), mf_json_get_string(document, "version", ""),
            mf_json_get_string(document, "device", ""), mf_json_get_string(document, "dtype", ""));
    put_legend(f, 58);
    size_t i;
    json_array_foreach(cases, i, c) put_case(f, c, HEAD + CASE * (double)i + 20, longest);
    fputs("</svg>\n", f);
    return mf_outfile_commit(&out, err);
}
