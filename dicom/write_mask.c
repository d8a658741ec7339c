/* Masks as pixels and outlines of the image they belong to. */
#include "dicom/write_private.h"

#include <string.h>

/* --- stretching --- */

/* Where pixel centre i of `n` lies among `m` mask pixel centres, in units of 1/(2n): between mask
 * pixels `low` and `high` (edges repeated), `rest` behind low. */
struct position {
    uint32_t low, high;
    uint64_t rest;
};

static struct position position_of(uint64_t i, uint64_t n, uint64_t m)
{
    int64_t at = (int64_t)((2 * i + 1) * m) - (int64_t)n; /* (i + ½)·m/n − ½, times 2n */
    int64_t last = (int64_t)(m - 1) * 2 * (int64_t)n;
    at = at < 0 ? 0 : at > last ? last : at;
    struct position p = {.low = (uint32_t)(at / (2 * (int64_t)n)),
                         .rest = (uint64_t)(at % (2 * (int64_t)n))};
    p.high = p.rest ? p.low + 1 : p.low;
    return p;
}

void mf_mask_stretch(const struct mf_mask *mask, uint32_t rows, uint32_t columns, uint8_t *out)
{
    const uint64_t unit_y = 2 * (uint64_t)rows, unit_x = 2 * (uint64_t)columns;
    for (uint32_t y = 0; y < rows; y++) {
        struct position v = position_of(y, rows, mask->rows);
        const uint8_t *above = mask->pixels + (size_t)v.low * mask->columns;
        const uint8_t *below = mask->pixels + (size_t)v.high * mask->columns;
        for (uint32_t x = 0; x < columns; x++) {
            struct position h = position_of(x, columns, mask->columns);
            uint64_t left = above[h.low] * (unit_y - v.rest) + below[h.low] * v.rest;
            uint64_t right = above[h.high] * (unit_y - v.rest) + below[h.high] * v.rest;
            uint64_t sum = left * (unit_x - h.rest) + right * h.rest;
            out[(size_t)y * columns + x] = 2 * sum >= unit_x * unit_y;
        }
    }
}

/* --- outlines --- */

enum { EAST, SOUTH, WEST, NORTH };

static bool is_set(const struct mf_mask *m, long x, long y)
{
    return x >= 0 && y >= 0 && x < (long)m->columns && y < (long)m->rows &&
           m->pixels[(size_t)y * m->columns + (size_t)x];
}

/* The two pixels ahead of corner (x, y) in a direction: to its left and to its right. */
static void look_ahead(const struct mf_mask *m, long x, long y, int direction, bool *left,
                       bool *right)
{
    static const long LEFT[4][2] = {{0, -1}, {0, 0}, {-1, 0}, {-1, -1}};
    static const long RIGHT[4][2] = {{0, 0}, {-1, 0}, {-1, -1}, {0, -1}};
    *left = is_set(m, x + LEFT[direction][0], y + LEFT[direction][1]);
    *right = is_set(m, x + RIGHT[direction][0], y + RIGHT[direction][1]);
}

/* Follows the edges with the mask at the right hand, from the top left corner of its first pixel.
 * Diagonal neighbours belong together: where two ways are open, the one to the left is taken. */
static size_t follow(const struct mf_mask *m, long x0, long y0, double *points, size_t room)
{
    static const long STEP[4][2] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
    long x = x0, y = y0;
    int direction = EAST, came = -1;
    size_t n = 0;
    do {
        bool left, right;
        look_ahead(m, x, y, direction, &left, &right);
        if (left)
            direction = (direction + 3) % 4;
        else if (!right)
            direction = (direction + 1) % 4;
        if (direction != came) {
            if (2 * n + 2 > room)
                return 0;
            points[2 * n] = (double)x;
            points[2 * n + 1] = (double)y;
            n++;
            came = direction;
        }
        x += STEP[direction][0];
        y += STEP[direction][1];
    } while (x != x0 || y != y0);
    return n;
}

bool mf_mask_outline(const struct mf_mask *mask, uint32_t rows, uint32_t columns,
                     struct mf_arena *arena, double **ret, size_t *ret_count, struct mf_error *err)
{
    size_t pixels = (size_t)mask->rows * mask->columns, room = 4 * pixels + 4;
    const uint8_t *first = memchr(mask->pixels, 1, pixels);
    *ret_count = 0;
    *ret = NULL;
    if (!first)
        return true;
    room = room > 200000 ? 200000 : room; /* of a component: no outline of use is longer */
    double *points = mf_arena_alloc(arena, room + 2, sizeof *points, err);
    if (!points)
        return false;
    size_t at = (size_t)(first - mask->pixels);
    size_t n = follow(mask, (long)(at % mask->columns), (long)(at / mask->columns), points, room);
    if (n == 0)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the outline of a mask is too long");
    for (size_t i = 0; i < n; i++) {
        points[2 * i] *= (double)columns / mask->columns;
        points[2 * i + 1] *= (double)rows / mask->rows;
    }
    points[2 * n] = points[0];
    points[2 * n + 1] = points[1];
    *ret = points;
    *ret_count = n + 1;
    return true;
}
