/* What the report's forms have in common (report_parts.h). */
#include "server/report_parts.h"

#include "server/frame_picture.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const json_t *mf_report_frames(const struct mf_report *report)
{
    return json_object_get(json_object_get(report->result, "study"), "frames");
}

void mf_report_date(const char *s, char ret[11])
{
    if (s && strlen(s) >= 8 && isdigit((unsigned char)s[4]))
        snprintf(ret, 11, "%.4s-%.2s-%.2s", s, s + 4, s + 6);
    else
        snprintf(ret, 11, "%.10s", s ? s : "no date");
}

void mf_report_person(const char *name, char *ret, size_t size)
{
    size_t family = strcspn(name, "^=");
    const char *rest = name[family] == '^' ? name + family + 1 : "";
    size_t given = strcspn(rest, "^=");
    snprintf(ret, size, "%.*s%s%.*s", (int)family, name, family && given ? ", " : "", (int)given,
             rest);
}

static size_t rank(const json_t *prediction)
{
    static const char *const ORDER[] = {"present", "uncertain", "empty", "absent"};
    const char *state = mf_json_get_string(prediction, "state", "");
    size_t k = 0;
    while (k < sizeof ORDER / sizeof *ORDER && strcmp(state, ORDER[k]) != 0)
        k++;
    return k;
}

static bool comes_before(const json_t *a, const json_t *b)
{
    size_t x = rank(a), y = rank(b);
    return x < y || (x == y && mf_json_get_number(a, "probability", -1) >
                                   mf_json_get_number(b, "probability", -1));
}

size_t mf_report_order(const json_t *predictions, size_t *ret)
{
    size_t i, n = 0;
    const json_t *f;
    json_array_foreach(predictions, i, f)
    {
        size_t at = n++;
        for (; at > 0 && comes_before(f, json_array_get(predictions, ret[at - 1])); at--)
            ret[at] = ret[at - 1];
        ret[at] = i;
    }
    return n;
}

const char *mf_report_state(const char *state)
{
    return strcmp(state, "empty") == 0 ? "neither" : state;
}

bool mf_report_picture(const struct mf_report *report, const json_t *frame, uint32_t side,
                       struct mf_buffer *png, double *ret_aspect, struct mf_error *err)
{
    const struct mf_frame_picture wanted = {.bits = 8, .side = side};
    MF_AUTO(mf_frame_set) struct mf_frame_set decoded = {.count = 0};
    const struct mf_index_object *o =
        mf_artifact_object(report->index, mf_json_get_string(frame, "sop_instance_uid", NULL));
    if (!o)
        return false;
    const double *mm = o->pixel_spacing[0] > 0 ? o->pixel_spacing : o->imager_pixel_spacing;
    double aspect = mm[0] > 0 && mm[1] > 0 ? mm[1] / mm[0] : 1;
    *ret_aspect = o->columns * aspect / o->rows;
    return mf_artifact_decode(report->images, o, (uint32_t)mf_json_get_int(frame, "index", 0),
                              &decoded, err) &&
           mf_frame_picture(&decoded.frames[0], &wanted, png, err);
}
