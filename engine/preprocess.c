/* Equalisation (global, CLAHE), stretching and normalisation. */
#include "engine/preprocess.h"

#include <math.h>
#include <string.h>

enum { LEVELS = 256, TILES = 8 };

static const float CLIP = 2.0f; /* CLAHE: the limit as a multiple of the mean bin */

static void to_levels(const float *image, size_t n, uint8_t *levels)
{
    for (size_t i = 0; i < n; i++) {
        float x = image[i] < 0 ? 0 : image[i] > 1 ? 1 : image[i];
        levels[i] = (uint8_t)(x * 255 + 0.5f);
    }
}

/* (cdf(v) − cdf_min) / (n − cdf_min); a flat image stays as it is. */
static void equalise_global(float *image, size_t n, const uint8_t *levels)
{
    size_t cdf[LEVELS] = {0}, lowest = 0;
    float map[LEVELS];
    for (size_t i = 0; i < n; i++)
        cdf[levels[i]]++;
    for (size_t v = 0; v < LEVELS && !lowest; v++)
        lowest = cdf[v];
    if (lowest == n)
        return;
    for (size_t v = 1; v < LEVELS; v++)
        cdf[v] += cdf[v - 1];
    for (size_t v = 0; v < LEVELS; v++)
        map[v] = cdf[v] < lowest ? 0 : (float)(cdf[v] - lowest) / (float)(n - lowest);
    for (size_t i = 0; i < n; i++)
        image[i] = map[levels[i]];
}

/* One tile's mapping: histogram clipped at twice its mean bin, the excess spread evenly once,
 * cumulated. */
static void tile_map(const uint8_t *levels, size_t cols, size_t y0, size_t y1, size_t x0, size_t x1,
                     float *map)
{
    float count[LEVELS] = {0}, pixels = (float)((y1 - y0) * (x1 - x0)), kept = 0, sum = 0;
    for (size_t y = y0; y < y1; y++)
        for (size_t x = x0; x < x1; x++)
            count[levels[y * cols + x]]++;
    float limit = fmaxf(1, CLIP * pixels / LEVELS);
    for (size_t v = 0; v < LEVELS; v++) {
        count[v] = fminf(count[v], limit);
        kept += count[v];
    }
    for (size_t v = 0; v < LEVELS; v++) {
        sum += count[v] + (pixels - kept) / LEVELS;
        map[v] = sum / fmaxf(1, pixels);
    }
}

/* The two tiles a pixel lies between and the share of the second. */
static void blend(size_t i, size_t n, size_t tile[2], float *share)
{
    float where = ((float)i + 0.5f) * TILES / (float)n - 0.5f, low = floorf(where);
    long first = (long)low;
    tile[0] = (size_t)(first < 0 ? 0 : first > TILES - 1 ? TILES - 1 : first);
    tile[1] = (size_t)(first + 1 < 0 ? 0 : first + 1 > TILES - 1 ? TILES - 1 : first + 1);
    *share = where - low;
}

static void equalise_clahe(float *image, size_t rows, size_t cols, const uint8_t *levels)
{
    float maps[TILES][TILES][LEVELS];
    for (size_t i = 0; i < TILES; i++)
        for (size_t j = 0; j < TILES; j++)
            tile_map(levels, cols, i * rows / TILES, (i + 1) * rows / TILES, j * cols / TILES,
                     (j + 1) * cols / TILES, maps[i][j]);
    for (size_t y = 0; y < rows; y++) {
        size_t ty[2], tx[2];
        float wy, wx;
        blend(y, rows, ty, &wy);
        for (size_t x = 0; x < cols; x++) {
            size_t v = levels[y * cols + x];
            blend(x, cols, tx, &wx);
            image[y * cols + x] =
                (1 - wy) * ((1 - wx) * maps[ty[0]][tx[0]][v] + wx * maps[ty[0]][tx[1]][v]) +
                wy * ((1 - wx) * maps[ty[1]][tx[0]][v] + wx * maps[ty[1]][tx[1]][v]);
        }
    }
}

void mf_equalise(enum mf_equalisation kind, float *image, size_t rows, size_t cols, uint8_t *levels)
{
    if (kind == MF_EQUALISE_NONE)
        return;
    to_levels(image, rows * cols, levels);
    if (kind == MF_EQUALISE_GLOBAL)
        equalise_global(image, rows * cols, levels);
    else
        equalise_clahe(image, rows, cols, levels);
}

bool mf_image_input_fill(struct mf_resampler *r, const float *image, size_t rows, size_t cols,
                         size_t row, const struct mf_image_input *out, float *grey, float *pixels,
                         struct mf_error *err)
{
    size_t n = out->rows * out->cols;
    if (!mf_resample(r, MF_FILTER_BILINEAR_ANTIALIAS, image, rows, cols, 1, row, grey, out->rows,
                     out->cols, err))
        return false;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            pixels[c * n + i] = (grey[i] - out->mean[c]) / out->std[c];
    return true;
}
