/* Sharpness of an image by direction (sharpness.h). */
#include "engine/trust/sharpness.h"

#include <math.h>

enum { GRID = 256, LEAST = 32, SAMPLES = 4, DIRECTIONS = 12, NEIGHBOURS = 3 };

/* The image as a grid of means, of which three rows are there at a time. */
struct grid {
    const float *image;
    size_t image_cols, step, stride; /* pixels a cell and from one looked at to the next */
    size_t rows, cols;
    float lines[NEIGHBOURS][GRID]; /* row r in lines[r % NEIGHBOURS] */
};

/* Sums over the points looked at, a direction each. */
struct sums {
    double first[DIRECTIONS], second[DIRECTIONS];
};

static void fill_line(struct grid *g, size_t row)
{
    float *line = g->lines[row % NEIGHBOURS];
    for (size_t c = 0; c < g->cols; c++) {
        const float *cell = g->image + row * g->step * g->image_cols + c * g->step;
        float sum = 0, n = 0;
        for (size_t y = 0; y < g->step; y += g->stride)
            for (size_t x = 0; x < g->step; x += g->stride, n++)
                sum += cell[y * g->image_cols + x];
        line[c] = sum / n;
    }
}

/* First and second derivatives at the columns from..to of the middle one of three lines; sums of
 * their projections on every direction. */
static void add_line(const struct grid *g, size_t row, size_t from, size_t to, struct sums *s)
{
    const float *above = g->lines[(row - 1) % NEIGHBOURS], *here = g->lines[row % NEIGHBOURS],
                *below = g->lines[(row + 1) % NEIGHBOURS];
    float x[GRID], y[GRID], xx[GRID], yy[GRID], xy[GRID];
    for (size_t c = from; c < to; c++) {
        x[c] = (here[c + 1] - here[c - 1]) / 2;
        y[c] = (below[c] - above[c]) / 2;
        xx[c] = here[c + 1] + here[c - 1] - 2 * here[c];
        yy[c] = below[c] + above[c] - 2 * here[c];
        xy[c] = (below[c + 1] + above[c - 1] - below[c - 1] - above[c + 1]) / 4;
    }
    for (int d = 0; d < DIRECTIONS; d++) {
        double angle = d * 3.14159265358979323846 / DIRECTIONS;
        float u = (float)cos(angle), v = (float)sin(angle), first = 0, second = 0;
        for (size_t c = from; c < to; c++) {
            first += fabsf(u * x[c] + v * y[c]);
            second += fabsf(u * u * xx[c] + 2 * u * v * xy[c] + v * v * yy[c]);
        }
        s->first[d] += first;
        s->second[d] += second;
    }
}

bool mf_sharpness_plan(size_t rows, size_t cols, struct mf_sharpness_grid *ret)
{
    size_t longer = rows > cols ? rows : cols, step = (longer + GRID - 1) / GRID;
    if (rows < LEAST || cols < LEAST)
        return false;
    *ret =
        (struct mf_sharpness_grid){rows / step, cols / step, step, (step + SAMPLES - 1) / SAMPLES};
    return ret->rows >= 8 && ret->cols >= 8; /* else a strip */
}

static double sharpness(struct grid *g)
{
    struct sums sums = {{0}, {0}};
    size_t top = g->rows / 8, left = g->cols / 8;
    fill_line(g, top - 1);
    fill_line(g, top);
    for (size_t r = top; r < g->rows - top; r++) {
        fill_line(g, r + 1);
        add_line(g, r, left, g->cols - left, &sums);
    }
    double least = INFINITY, points = (double)((g->rows - 2 * top) * (g->cols - 2 * left));
    for (int d = 0; d < DIRECTIONS; d++) {
        if (sums.first[d] < 1e-6 * points)
            return NAN;
        least = fmin(least, sums.second[d] / sums.first[d]);
    }
    return least;
}

double mf_sharpness_of(const float *image, size_t rows, size_t cols)
{
    struct mf_sharpness_grid of;
    if (!mf_sharpness_plan(rows, cols, &of))
        return NAN;
    struct grid g = {.image = image,
                     .image_cols = cols,
                     .step = of.step,
                     .stride = of.stride,
                     .rows = of.rows,
                     .cols = of.cols};
    return sharpness(&g);
}

double mf_sharpness_of_cells(const float *cells, size_t rows, size_t cols)
{
    struct grid g = {
        .image = cells, .image_cols = cols, .step = 1, .stride = 1, .rows = rows, .cols = cols};
    return sharpness(&g);
}

double mf_sharpness_p_value(const double *values, size_t count, double sharpness)
{
    size_t low = 0, high = count;
    if (count == 0 || isnan(sharpness))
        return NAN;
    while (low < high) { /* the first value above */
        size_t middle = (low + high) / 2;
        if (values[middle] <= sharpness)
            low = middle + 1;
        else
            high = middle;
    }
    return (1.0 + (double)low) / ((double)count + 1);
}
