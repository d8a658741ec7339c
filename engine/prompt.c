/* Boxes where no box head has learnt to draw them: Otsu's threshold (IEEE Trans. SMC 9(1), 1979)
 * divides the frame into dark and bright; the lungs are the largest dark component on each side of
 * the midline that air outside the body does not reach. */
#include "engine/preprocess.h"

#include <math.h>
#include <string.h>

enum { LEVELS = 256 };

static int level_of(float v)
{
    v = v < 0 ? 0 : v > 1 ? 1 : v;
    return (int)floorf(v * (LEVELS - 1) + 0.5f);
}

/* The highest level of the dark class that separates best; −1 when the frame is flat. */
static int otsu(const float *grey, size_t pixels)
{
    size_t counts[LEVELS] = {0}, below = 0;
    double sum = 0, dark = 0, best = 0;
    int level = -1;
    for (size_t i = 0; i < pixels; i++)
        counts[level_of(grey[i])]++;
    for (int i = 0; i < LEVELS; i++)
        sum += (double)i * (double)counts[i];
    for (int i = 0; i + 1 < LEVELS; i++) {
        below += counts[i];
        dark += (double)i * (double)counts[i];
        if (below == 0 || below == pixels)
            continue;
        double n = (double)below, m = (double)(pixels - below);
        double distance = dark / n - (sum - dark) / m, between = n * m * distance * distance;
        if (between > best) {
            best = between;
            level = i;
        }
    }
    return level;
}

static void push(uint8_t *mask, uint32_t *stack, size_t *depth, size_t at)
{
    if (!mask[at])
        return;
    mask[at] = 0;
    stack[(*depth)++] = (uint32_t)at;
}

/* Clears what is 4-connected to the frame's border. */
static void clear_outside(uint8_t *mask, size_t size, uint32_t *stack)
{
    size_t depth = 0, last = size - 1;
    for (size_t i = 0; i < size; i++) {
        push(mask, stack, &depth, i);
        push(mask, stack, &depth, last * size + i);
        push(mask, stack, &depth, i * size);
        push(mask, stack, &depth, i * size + last);
    }
    while (depth) {
        size_t at = stack[--depth], x = at % size, y = at / size;
        if (x > 0)
            push(mask, stack, &depth, at - 1);
        if (x < last)
            push(mask, stack, &depth, at + 1);
        if (y > 0)
            push(mask, stack, &depth, at - size);
        if (y < last)
            push(mask, stack, &depth, at + size);
    }
}

/* The box of the set pixels, widened; false when they are fewer than `least`. */
static bool box_of(const uint8_t *mask, size_t size, size_t least, float box[4])
{
    size_t x0 = size, y0 = size, x1 = 0, y1 = 0, count = 0;
    for (size_t i = 0; i < size * size; i++) {
        size_t x = i % size, y = i / size;
        if (!mask[i])
            continue;
        count++;
        x0 = x < x0 ? x : x0;
        y0 = y < y0 ? y : y0;
        x1 = x + 1 > x1 ? x + 1 : x1;
        y1 = y + 1 > y1 ? y + 1 : y1;
    }
    if (count == 0 || count < least)
        return false;
    float margin_x = MF_PROMPT_MARGIN * (float)(x1 - x0);
    float margin_y = MF_PROMPT_MARGIN * (float)(y1 - y0);
    box[0] = fmaxf((float)x0 - margin_x, 0);
    box[1] = fmaxf((float)y0 - margin_y, 0);
    box[2] = fminf((float)x1 + margin_x, (float)size);
    box[3] = fminf((float)y1 + margin_y, (float)size);
    return true;
}

bool mf_prompt_lungs(const float *grey, size_t size, const struct mf_prompt_scratch *scratch,
                     float boxes[8])
{
    size_t pixels = size * size, least = (size_t)(MF_PROMPT_LEAST * (double)pixels);
    uint8_t *dark = scratch->dark, *half = scratch->half;
    if (size == 0)
        return false;
    int level = otsu(grey, pixels);
    if (level < 0)
        return false;
    for (size_t i = 0; i < pixels; i++)
        dark[i] = level_of(grey[i]) <= level;
    clear_outside(dark, size, scratch->roots);
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < pixels; i++)
            half[i] = dark[i] && (i % size >= size / 2) == (side == 1);
        mf_keep_largest(half, size, scratch->roots, scratch->counts);
        if (!box_of(half, size, least, boxes + 4 * side))
            return false;
    }
    return true;
}
