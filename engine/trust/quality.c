/* Technical quality of a frame (quality.h). Noise: J. Immerkær, "Fast noise variance estimation",
 * 1996. */
#include "engine/trust/quality.h"

#include <math.h>

enum { GRID = 256, LEAST = 16 };

static const double FLATTEST = 0.02, WHITEST = 0.2, NOISIEST = 0.03, DARKEST = -0.05;

const char *mf_quality_name(unsigned bit)
{
    static const char *const NAMES[MF_QUALITY_COUNT] = {"blank", "saturated", "noisy", "inverted",
                                                        "lungs_cut_off"};
    return bit < MF_QUALITY_COUNT ? NAMES[bit] : "";
}

struct view {
    const float *image;
    size_t rows, cols, step; /* every step-th row and column is looked at */
};

/* Mean over the part of the image between these shares of its sides. */
static double mean_of(const struct view *v, double top, double bottom, double left, double right)
{
    size_t r0 = (size_t)(top * (double)v->rows), r1 = (size_t)(bottom * (double)v->rows);
    size_t c0 = (size_t)(left * (double)v->cols), c1 = (size_t)(right * (double)v->cols);
    double sum = 0;
    size_t n = 0;
    for (size_t r = r0; r < r1; r += v->step)
        for (size_t c = c0; c < c1; c += v->step, n++)
            sum += v->image[r * v->cols + c];
    return n ? sum / (double)n : 0;
}

/* Spread and share of white in the middle. */
static uint32_t look_at_middle(const struct view *v)
{
    double sum = 0, squares = 0, white = 0;
    size_t n = 0;
    for (size_t r = v->rows / 8; r < v->rows - v->rows / 8; r += v->step)
        for (size_t c = v->cols / 8; c < v->cols - v->cols / 8; c += v->step, n++) {
            double x = v->image[r * v->cols + c];
            sum += x;
            squares += x * x;
            white += x >= 0.998;
        }
    double mean = sum / (double)n, deviation = sqrt(fmax(squares / (double)n - mean * mean, 0));
    return (deviation < FLATTEST ? MF_QUALITY_BLANK : 0U) |
           (white / (double)n > WHITEST ? MF_QUALITY_SATURATED : 0U);
}

static double noise_of(const struct view *v)
{
    double sum = 0;
    size_t n = 0;
    for (size_t r = 1; r + 1 < v->rows; r += v->step)
        for (size_t c = 1; c + 1 < v->cols; c += v->step, n++) {
            const float *above = v->image + (r - 1) * v->cols + c, *here = above + v->cols,
                        *below = here + v->cols;
            sum += fabs(4.0 * here[0] - 2.0 * (above[0] + below[0] + here[-1] + here[1]) +
                        above[-1] + above[1] + below[-1] + below[1]);
        }
    return 1.2533141373155003 / 6 * sum / (double)n; /* √(π/2) */
}

/* Below 0: dark where a chest is bright. */
static double brightness_of_mediastinum(const struct view *v)
{
    double middle = mean_of(v, 0.25, 0.75, 3.0 / 7, 4.0 / 7);
    double lungs =
        (mean_of(v, 0.25, 0.625, 1.0 / 7, 2.0 / 7) + mean_of(v, 0.25, 0.625, 5.0 / 7, 6.0 / 7)) / 2;
    double corners =
        (mean_of(v, 0, 1.0 / 16, 0, 1.0 / 16) + mean_of(v, 0, 1.0 / 16, 15.0 / 16, 1)) / 2;
    return middle - lungs + 0.5 * (middle - corners);
}

uint32_t mf_quality_of(const float *image, size_t rows, size_t cols, bool chest)
{
    size_t longer = rows > cols ? rows : cols;
    const struct view v = {image, rows, cols, (longer + GRID - 1) / GRID};
    if (rows < LEAST || cols < LEAST)
        return 0;
    uint32_t found = look_at_middle(&v);
    if (found & MF_QUALITY_BLANK)
        return found;
    if (noise_of(&v) > NOISIEST)
        found |= MF_QUALITY_NOISY;
    if (chest && brightness_of_mediastinum(&v) < DARKEST)
        found |= MF_QUALITY_INVERTED;
    return found;
}

uint32_t mf_quality_of_mask(const uint8_t *mask, size_t size)
{
    size_t edge[4] = {0};
    for (size_t i = 0; i < size; i++) {
        edge[0] += mask[i] != 0;
        edge[1] += mask[(size - 1) * size + i] != 0;
        edge[2] += mask[i * size] != 0;
        edge[3] += mask[i * size + size - 1] != 0;
    }
    for (int k = 0; k < 4; k++)
        if (10 * edge[k] > size)
            return MF_QUALITY_CUT_OFF;
    return 0;
}
