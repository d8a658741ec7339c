/* Viewport: PS3.18 8.3.5.1.3 as text, and as pixels of one frame. */
#include "server/viewport.h"

#include "server/numbers.h"

#include <inttypes.h>
#include <math.h>

enum { NUMBERS = 6 };

bool mf_viewport_parse(const char *text, struct mf_viewport *ret, struct mf_error *err)
{
    double v[NUMBERS] = {0};
    size_t n = 0;
    bool ok = mf_numbers_parse(text, v, NUMBERS, 2, &n) && (n == 2 || n == NUMBERS);
    for (size_t i = 0; ok && i < 2; i++)
        ok = v[i] >= 1 && v[i] <= MF_VIEWPORT_SIDE && v[i] == floor(v[i]);
    if (!ok || v[2] < 0 || v[3] < 0)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "query parameter \"viewport\" must be vw,vh or vw,vh,sx,sy,sw,sh, with "
                            "sides from 1 to %d",
                            (int)MF_VIEWPORT_SIDE);
    *ret = (struct mf_viewport){.columns = (uint32_t)v[0],
                                .rows = (uint32_t)v[1],
                                .x = v[2],
                                .y = v[3],
                                .width = v[4],
                                .height = v[5]};
    return true;
}

/* One axis: pixels [*from, *from + *len) of `size`; false when that is none of them. */
static bool cut_axis(double begin, double extent, uint32_t size, uint32_t *from, uint32_t *len)
{
    double end = extent == 0 ? size : begin + fabs(extent);
    if (begin >= size || end > size)
        return false;
    *from = (uint32_t)floor(begin + 0.5);
    *len = (uint32_t)floor(end + 0.5);
    if (*len <= *from)
        return false;
    *len -= *from;
    return true;
}

static uint32_t scaled(uint32_t side, double scale, uint32_t most)
{
    double s = floor(side * scale + 0.5);
    return s < 1 ? 1 : s > most ? most : (uint32_t)s;
}

bool mf_viewport_cut(const struct mf_viewport *v, uint32_t columns, uint32_t rows,
                     struct mf_cut *ret, struct mf_error *err)
{
    struct mf_cut cut = {.mirrored = v->width < 0, .upside_down = v->height < 0};
    if (!cut_axis(v->x, v->width, columns, &cut.x, &cut.columns) ||
        !cut_axis(v->y, v->height, rows, &cut.y, &cut.rows))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "query parameter \"viewport\": its region is not within the image of "
                            "%" PRIu32 " x %" PRIu32 " pixels",
                            columns, rows);
    double scale = fmin((double)v->columns / cut.columns, (double)v->rows / cut.rows);
    cut.shown_columns = scaled(cut.columns, scale, v->columns);
    cut.shown_rows = scaled(cut.rows, scale, v->rows);
    *ret = cut;
    return true;
}
