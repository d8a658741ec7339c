/* Technical quality of a frame (quality.h). Noise: J. Immerkær, "Fast noise variance estimation",
 * 1996. */
#include "engine/trust/quality.h"

#include <math.h>

enum { GRID = 256, LEAST = 16 };

static const double FLATTEST = 0.02, WHITEST = 0.2, NOISIEST = 0.03, DARKEST = -0.05;

const char *mf_quality_name(unsigned bit)
{
    static const char *const NAMES[MF_QUALITY_COUNT] = {"blank",    "saturated",     "noisy",
                                                        "inverted", "lungs_cut_off", "blurred"};
    return bit < MF_QUALITY_COUNT ? NAMES[bit] : "";
}

/* The part between these shares of the sides. */
static struct mf_quality_part part_of(size_t rows, size_t cols, double top, double bottom,
                                      double left, double right)
{
    return (struct mf_quality_part){(size_t)(top * (double)rows), (size_t)(bottom * (double)rows),
                                    (size_t)(left * (double)cols), (size_t)(right * (double)cols)};
}

enum { CENTRE = MF_QUALITY_MEANS, LEFT_LUNG, RIGHT_LUNG, LEFT_CORNER, RIGHT_CORNER };

size_t mf_quality_plan(size_t rows, size_t cols, struct mf_quality_part parts[MF_QUALITY_PARTS])
{
    size_t longer = rows > cols ? rows : cols;
    if (rows < LEAST || cols < LEAST)
        return 0;
    parts[MF_QUALITY_MIDDLE] =
        (struct mf_quality_part){rows / 8, rows - rows / 8, cols / 8, cols - cols / 8};
    parts[MF_QUALITY_NOISE] = (struct mf_quality_part){1, rows - 1, 1, cols - 1};
    parts[CENTRE] = part_of(rows, cols, 0.25, 0.75, 3.0 / 7, 4.0 / 7);
    parts[LEFT_LUNG] = part_of(rows, cols, 0.25, 0.625, 1.0 / 7, 2.0 / 7);
    parts[RIGHT_LUNG] = part_of(rows, cols, 0.25, 0.625, 5.0 / 7, 6.0 / 7);
    parts[LEFT_CORNER] = part_of(rows, cols, 0, 1.0 / 16, 0, 1.0 / 16);
    parts[RIGHT_CORNER] = part_of(rows, cols, 0, 1.0 / 16, 15.0 / 16, 1);
    return (longer + GRID - 1) / GRID;
}

/* Spread and share of white. */
static uint32_t judge_middle(const struct mf_quality_sums *s)
{
    double n = (double)s->points, mean = s->sum / n,
           deviation = sqrt(fmax(s->squares / n - mean * mean, 0));
    return (deviation < FLATTEST ? MF_QUALITY_BLANK : 0U) |
           (s->white / n > WHITEST ? MF_QUALITY_SATURATED : 0U);
}

static double mean_of(const struct mf_quality_sums *s)
{
    return s->points ? s->sum / (double)s->points : 0;
}

/* Below 0: dark where a chest is bright. */
static double brightness_of_mediastinum(const struct mf_quality_sums *s)
{
    double middle = mean_of(&s[CENTRE]);
    double lungs = (mean_of(&s[LEFT_LUNG]) + mean_of(&s[RIGHT_LUNG])) / 2;
    double corners = (mean_of(&s[LEFT_CORNER]) + mean_of(&s[RIGHT_CORNER])) / 2;
    return middle - lungs + 0.5 * (middle - corners);
}

uint32_t mf_quality_judge(const struct mf_quality_sums sums[MF_QUALITY_PARTS], bool chest)
{
    uint32_t found = judge_middle(&sums[MF_QUALITY_MIDDLE]);
    const struct mf_quality_sums *noise = &sums[MF_QUALITY_NOISE];
    if (found & MF_QUALITY_BLANK)
        return found;
    if (1.2533141373155003 / 6 * noise->sum / (double)noise->points > NOISIEST) /* √(π/2) */
        found |= MF_QUALITY_NOISY;
    if (chest && brightness_of_mediastinum(sums) < DARKEST)
        found |= MF_QUALITY_INVERTED;
    return found;
}

static void add_noise(const float *here, size_t cols, struct mf_quality_sums *s)
{
    const float *above = here - cols, *below = here + cols;
    s->sum += fabs(4.0 * here[0] - 2.0 * (above[0] + below[0] + here[-1] + here[1]) + above[-1] +
                   above[1] + below[-1] + below[1]);
}

uint32_t mf_quality_of(const float *image, size_t rows, size_t cols, bool chest)
{
    struct mf_quality_part parts[MF_QUALITY_PARTS];
    struct mf_quality_sums sums[MF_QUALITY_PARTS] = {{0}};
    size_t step = mf_quality_plan(rows, cols, parts);
    for (int k = 0; step && k < MF_QUALITY_PARTS; k++) {
        const struct mf_quality_part *p = &parts[k];
        struct mf_quality_sums *s = &sums[k];
        for (size_t r = p->r0; r < p->r1; r += step)
            for (size_t c = p->c0; c < p->c1; c += step, s->points++) {
                double x = image[r * cols + c];
                if (k == MF_QUALITY_NOISE) {
                    add_noise(image + r * cols + c, cols, s);
                    continue;
                }
                s->sum += x;
                s->squares += x * x;
                s->white += x >= MF_QUALITY_WHITE;
            }
    }
    return step ? mf_quality_judge(sums, chest) : 0;
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
    return mf_quality_of_edges(edge, size);
}

uint32_t mf_quality_of_edges(const size_t edge[4], size_t size)
{
    for (int k = 0; k < 4; k++)
        if (10 * edge[k] > size)
            return MF_QUALITY_CUT_OFF;
    return 0;
}
