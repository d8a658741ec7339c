/* Out-of-distribution check (ood.h): principal components by orthogonal iteration, distances,
 * conformal p-value. */
#include "engine/trust/ood.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMPONENTS = 32, ITERATIONS = 60, LEAST_CASES = 40, MAX_SIZE = 65536, NEIGHBOURS = 5 };
enum { MAX_REFERENCES = 4096 };

struct mf_ood {
    size_t size, components, count;
    double *mean;      /* (size) */
    double *axes;      /* (components, size), orthonormal */
    double *variances; /* (components) */
    double residual;   /* variance of what the axes leave, per dimension */
    double *distances; /* (count), ascending */
    /* Whitened components of the fitted cases, for the nearest neighbours; 0 = Mahalanobis alone.
     */
    size_t references;
    double *points;   /* (references, components) */
    double scales[2]; /* medians of both distances over the fitted cases: their common unit */
};

static struct mf_ood *new_ood(size_t size, size_t components, size_t count, struct mf_error *err)
{
    struct mf_ood *o = calloc(1, sizeof *o);
    if (o) {
        *o = (struct mf_ood){.size = size, .components = components, .count = count};
        o->mean = calloc(size + 1, sizeof *o->mean);
        o->axes = calloc(components * size + 1, sizeof *o->axes);
        o->variances = calloc(components + 1, sizeof *o->variances);
        o->distances = calloc(count + 1, sizeof *o->distances);
    }
    if (o && o->mean && o->axes && o->variances && o->distances)
        return o;
    mf_ood_free(o);
    mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the out-of-distribution check");
    return NULL;
}

void mf_ood_free(struct mf_ood *o)
{
    if (!o)
        return;
    free(o->mean);
    free(o->axes);
    free(o->variances);
    free(o->distances);
    free(o->points);
    free(o);
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Gram–Schmidt; an axis that vanishes becomes zero. */
static void orthonormalise(double *axes, size_t k, size_t n)
{
    for (size_t i = 0; i < k; i++) {
        double *a = axes + i * n;
        for (size_t j = 0; j < i; j++) {
            double d = dot(a, axes + j * n, n);
            for (size_t q = 0; q < n; q++)
                a[q] -= d * axes[j * n + q];
        }
        double length = sqrt(dot(a, a, n));
        for (size_t q = 0; q < n; q++)
            a[q] = length > 1e-12 ? a[q] / length : 0;
    }
}

/* rows (count, size) centred → leading axes and their variances, by orthogonal iteration from a
 * fixed start. */
static bool find_axes(struct mf_ood *o, const double *rows, size_t count, struct mf_error *err)
{
    size_t n = o->size, k = o->components;
    MF_AUTO(mf_mem) double *next = malloc((k * n + 1) * sizeof *next);
    if (!next)
        return mf_error_set(err, MF_ERR_NO_MEMORY,
                            "out of memory for the out-of-distribution check");
    uint64_t seed = 1;
    for (size_t i = 0; i < k * n; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        o->axes[i] = (double)(seed >> 40) / (double)(1 << 24) - 0.5;
    }
    orthonormalise(o->axes, k, n);
    for (int step = 0; step < ITERATIONS; step++) {
        memset(next, 0, k * n * sizeof *next);
        memset(o->variances, 0, k * sizeof *o->variances);
        for (size_t r = 0; r < count; r++)
            for (size_t i = 0; i < k; i++) {
                double d = dot(rows + r * n, o->axes + i * n, n);
                o->variances[i] += d * d / (double)count;
                for (size_t q = 0; q < n; q++)
                    next[i * n + q] += d * rows[r * n + q];
            }
        if (step + 1 == ITERATIONS)
            break;
        memcpy(o->axes, next, k * n * sizeof *next);
        orthonormalise(o->axes, k, n);
    }
    return true;
}

/* Squared Mahalanobis distance; the whitened components go to `point`. */
static double mahalanobis(const struct mf_ood *o, const float *vector, double point[COMPONENTS])
{
    double total = 0, explained = 0, sum = 0;
    for (size_t q = 0; q < o->size; q++) {
        double d = vector[q] - o->mean[q];
        total += d * d;
    }
    for (size_t i = 0; i < o->components; i++) {
        double d = 0;
        for (size_t q = 0; q < o->size; q++)
            d += (vector[q] - o->mean[q]) * o->axes[i * o->size + q];
        explained += d * d;
        point[i] = d / sqrt(o->variances[i] + o->residual);
        sum += point[i] * point[i];
    }
    return sum + fmax(total - explained, 0) / o->residual;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Mean squared distance to the nearest of the fitted cases, `skip` (one of them, or none) aside. */
static double neighbours(const struct mf_ood *o, const double *point, size_t skip)
{
    double best[NEIGHBOURS], sum = 0;
    size_t found = 0;
    for (size_t r = 0; r < o->references; r++) {
        double d = 0;
        for (size_t i = 0; i < o->components; i++)
            d += pow(point[i] - o->points[r * o->components + i], 2);
        if (r == skip || (found == NEIGHBOURS && d >= best[found - 1]))
            continue;
        size_t at = found < NEIGHBOURS ? found++ : found - 1;
        for (; at > 0 && best[at - 1] > d; at--)
            best[at] = best[at - 1];
        best[at] = d;
    }
    for (size_t i = 0; i < found; i++)
        sum += best[i] / (double)found;
    return sum;
}

/* The larger of both distances in units of what the fitted cases have. */
static double distance(const struct mf_ood *o, const float *vector)
{
    double point[COMPONENTS], d = mahalanobis(o, vector, point);
    if (!o->references)
        return d;
    return fmax(d / o->scales[0], neighbours(o, point, SIZE_MAX) / o->scales[1]);
}

/* Mean, axes and residual variance from `count` rows; the rows are centred on the way. */
static bool fit_shape(struct mf_ood *o, double *rows, size_t count, struct mf_error *err)
{
    size_t n = o->size;
    double total = 0, explained = 0;
    for (size_t r = 0; r < count; r++)
        for (size_t q = 0; q < n; q++)
            o->mean[q] += rows[r * n + q] / (double)count;
    for (size_t i = 0; i < count * n; i++) {
        rows[i] -= o->mean[i % n];
        total += rows[i] * rows[i] / (double)count;
    }
    if (!find_axes(o, rows, count, err))
        return false;
    for (size_t i = 0; i < o->components; i++)
        explained += o->variances[i];
    size_t left = n > o->components ? n - o->components : 1;
    o->residual = fmax((total - explained) / (double)left, 1e-9 * (total / (double)n + 1e-12));
    return true;
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return fmax(values[n / 2], 1e-12);
}

/* Keeps the fitted cases as references (the first of very many) and the units of both distances. */
static bool fit_neighbours(struct mf_ood *o, const float *vectors, size_t count,
                           const uint32_t *group, size_t train, struct mf_error *err)
{
    size_t k = o->components, n = train < MAX_REFERENCES ? train : MAX_REFERENCES;
    MF_AUTO(mf_mem) double *values = malloc((2 * n + 1) * sizeof *values);
    o->points = calloc(n * k + 1, sizeof *o->points);
    if (!values || !o->points)
        return mf_error_set(err, MF_ERR_NO_MEMORY,
                            "out of memory for the out-of-distribution check");
    for (size_t i = 0; i < count && o->references < n; i++)
        if (group[i] % 2 == 0) {
            double point[COMPONENTS];
            values[o->references] = mahalanobis(o, vectors + i * o->size, point);
            memcpy(o->points + o->references++ * k, point, k * sizeof *point);
        }
    for (size_t r = 0; r < n; r++)
        values[n + r] = neighbours(o, o->points + r * k, r);
    o->scales[0] = median(values, n);
    o->scales[1] = median(values + n, n);
    return true;
}

struct mf_ood *mf_ood_fit(const float *vectors, size_t count, size_t size, const uint32_t *group,
                          struct mf_error *err)
{
    if (count < LEAST_CASES || size == 0 || size > MAX_SIZE)
        return NULL;
    size_t train = 0, test = 0;
    for (size_t i = 0; i < count; i++)
        *(group[i] % 2 ? &test : &train) += 1;
    if (train < LEAST_CASES / 4 || test < LEAST_CASES / 4)
        return NULL;
    size_t k = size < COMPONENTS ? size : COMPONENTS;
    k = k < train / 4 ? k : train / 4;
    MF_AUTO(mf_ood) struct mf_ood *o = new_ood(size, k, test, err);
    MF_AUTO(mf_mem) double *rows = malloc(train * size * sizeof *rows);
    if (!o || !rows) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the out-of-distribution check");
        return NULL;
    }
    for (size_t i = 0, at = 0; i < count; i++)
        for (size_t q = 0; group[i] % 2 == 0 && q < size; q++)
            rows[at++] = vectors[i * size + q];
    if (!fit_shape(o, rows, train, err) ||
        (k > 0 && !fit_neighbours(o, vectors, count, group, train, err)))
        return NULL;
    for (size_t i = 0, at = 0; i < count; i++)
        if (group[i] % 2)
            o->distances[at++] = distance(o, vectors + i * size);
    qsort(o->distances, test, sizeof *o->distances, ascending);
    return MF_STEAL(o);
}

double mf_ood_p_value(const struct mf_ood *o, const float *vector)
{
    double d = distance(o, vector);
    size_t low = 0, high = o->count;
    while (low < high) { /* the first calibration distance ≥ d */
        size_t middle = (low + high) / 2;
        if (o->distances[middle] < d)
            low = middle + 1;
        else
            high = middle;
    }
    return (1.0 + (double)(o->count - low)) / ((double)o->count + 1);
}

size_t mf_ood_size(const struct mf_ood *o)
{
    return o->size;
}

static json_t *numbers(const double *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

json_t *mf_ood_to_json(const struct mf_ood *o, const char *model_hash)
{
    json_t *axes = json_array();
    for (size_t i = 0; i < o->components; i++)
        json_array_append_new(axes, numbers(o->axes + i * o->size, o->size));
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:f, s:o}", "schema", "medfusion.ood/1",
                  "method", o->references ? "mahalanobis_neighbours" : "mahalanobis", "model_hash",
                  model_hash, "size", (json_int_t)o->size, "mean", numbers(o->mean, o->size),
                  "components", axes, "variances", numbers(o->variances, o->components),
                  "residual_variance", o->residual, "distances", numbers(o->distances, o->count));
    if (json && o->references) {
        json_object_set_new(json, "references", numbers(o->points, o->references * o->components));
        json_object_set_new(json, "scales", numbers(o->scales, 2));
    }
    return json;
}

/* The optional part for the nearest neighbours. */
static bool read_neighbours(struct mf_ood *o, const json_t *json)
{
    const json_t *points = json_object_get(json, "references");
    size_t n = json_array_size(points);
    if (!points)
        return true;
    if (o->components == 0 || n == 0 || n % o->components || n / o->components > MAX_REFERENCES ||
        !(o->points = calloc(n, sizeof *o->points)))
        return false;
    o->references = n / o->components;
    return mf_json_numbers(points, n, o->points) &&
           mf_json_numbers(json_object_get(json, "scales"), 2, o->scales) && o->scales[0] > 0 &&
           o->scales[1] > 0;
}

struct mf_ood *mf_ood_from_json(const json_t *json, struct mf_error *err)
{
    json_int_t size = mf_json_get_int(json, "size", 0);
    const json_t *axes = json_object_get(json, "components"),
                 *distances = json_object_get(json, "distances");
    size_t k = json_array_size(axes), count = json_array_size(distances);
    MF_AUTO(mf_ood) struct mf_ood *o = NULL;
    bool ok = strcmp(mf_json_get_string(json, "schema", ""), "medfusion.ood/1") == 0 && size > 0 &&
              size <= MAX_SIZE && k <= COMPONENTS && count <= 1000000;
    if (ok && !(o = new_ood((size_t)size, k, count, err)))
        return NULL;
    ok = ok && mf_json_numbers(json_object_get(json, "mean"), o->size, o->mean) &&
         mf_json_numbers(json_object_get(json, "variances"), k, o->variances) &&
         mf_json_numbers(distances, count, o->distances);
    for (size_t i = 0; ok && i < k; i++)
        ok = mf_json_numbers(json_array_get(axes, i), o->size, o->axes + i * o->size) &&
             o->variances[i] >= 0;
    for (size_t i = 1; ok && i < count; i++)
        ok = o->distances[i - 1] <= o->distances[i];
    if (ok)
        o->residual = mf_json_get_number(json, "residual_variance", 0);
    if (!ok || !(o->residual > 0) || !read_neighbours(o, json)) {
        mf_error_set(err, MF_ERR_MODEL, "not a valid medfusion.ood/1");
        return NULL;
    }
    return MF_STEAL(o);
}
