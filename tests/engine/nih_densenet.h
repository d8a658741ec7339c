/* Real scores for tests of the trust layer: DenseNet-121 probabilities of NIH ChestX-ray14's test
 * images (../shared/data/nih_densenet), joined with labels, patient, view. Never for training. */
#ifndef MF_TESTS_ENGINE_NIH_DENSENET_H
#define MF_TESTS_ENGINE_NIH_DENSENET_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { NIH_LABELS = 14, NIH_ROOM = 22433, NIH_LAST_PATIENT = 30805 };

static const char *const NIH_NAMES[NIH_LABELS] = {
    "Atelectasis", "Cardiomegaly", "Effusion",           "Infiltration",  "Mass",
    "Nodule",      "Pneumonia",    "Pneumothorax",       "Consolidation", "Edema",
    "Emphysema",   "Fibrosis",     "Pleural_Thickening", "Hernia"};

struct nih_image {
    uint32_t patient, follow_up;
    bool ap; /* the view; else PA */
    float logits[NIH_LABELS];
    uint8_t truth[NIH_LABELS];
};

/* What the metadata say of every image: bits of the findings, and of the view, by patient and
 * follow-up number (the file is not in order). */
enum { NIH_FOLLOW_UPS = 256, NIH_AP = 1 << NIH_LABELS };

static inline uint16_t *nih_read_metadata(void)
{
    gzFile metadata = gzopen(MF_SHARED_DATA "/nih_densenet/nih_metadata.csv.gz", "rb");
    uint16_t *bits = calloc((NIH_LAST_PATIENT + 1) * NIH_FOLLOW_UPS, sizeof *bits);
    char line[1024], findings[256], view[8];
    while (metadata && bits && gzgets(metadata, line, sizeof line)) {
        unsigned patient, image;
        if (sscanf(line, "%8u_%3u%*[^,],%255[^,],%*[^,],%*[^,],%*[^,],%*[^,],%7[^,]", &patient,
                   &image, findings, view) != 4 ||
            patient > NIH_LAST_PATIENT || image >= NIH_FOLLOW_UPS)
            continue;
        uint16_t *b = &bits[patient * NIH_FOLLOW_UPS + image];
        *b |= strcmp(view, "AP") == 0 ? NIH_AP : 0;
        for (char *save = NULL, *name = strtok_r(findings, "|", &save); name;
             name = strtok_r(NULL, "|", &save))
            for (int l = 0; l < NIH_LABELS; l++)
                *b |= (uint16_t)((strcmp(name, NIH_NAMES[l]) == 0) << l);
    }
    if (metadata)
        gzclose(metadata);
    return bits;
}

/* All images, by patient and follow-up number as the file has them; the caller frees. NULL, and
 * says so, without ../shared/data. */
static inline struct nih_image *nih_read(size_t *ret_count)
{
    gzFile predictions = gzopen(MF_SHARED_DATA "/nih_densenet/predictions.csv.gz", "rb");
    struct nih_image *images = calloc(NIH_ROOM, sizeof *images);
    uint16_t *bits = predictions ? nih_read_metadata() : NULL;
    char line[1024];
    size_t n = 0;
    while (bits && images && n < NIH_ROOM && gzgets(predictions, line, sizeof line)) {
        struct nih_image *image = &images[n];
        if (sscanf(line, "%8u_%3u", &image->patient, &image->follow_up) != 2)
            continue;
        uint16_t known = bits[image->patient * NIH_FOLLOW_UPS + image->follow_up];
        char *field = strchr(line, ',');
        for (int l = 0; l < NIH_LABELS; l++, field = strchr(field + 1, ',')) {
            double p = fmin(fmax(atof(field + 1), 1e-7), 1 - 1e-7);
            image->logits[l] = (float)log(p / (1 - p));
            image->truth[l] = known >> l & 1;
        }
        image->ap = (known & NIH_AP) != 0;
        n++;
    }
    if (predictions)
        gzclose(predictions);
    free(bits);
    if (n == 0) {
        printf("skipped: no ../shared/data\n");
        free(images);
        return NULL;
    }
    *ret_count = n;
    return images;
}

/* Area under the ROC curve of one label, ties counted half. */
struct nih_score {
    float z;
    bool positive;
};

static inline int nih_by_score(const void *a, const void *b)
{
    float x = ((const struct nih_score *)a)->z, y = ((const struct nih_score *)b)->z;
    return x < y ? -1 : x > y;
}

static inline double nih_auroc(const struct nih_image *images, size_t n, int label)
{
    struct nih_score *scores = malloc((n + 1) * sizeof *scores);
    double wins = 0, negatives = 0, positives = 0;
    for (size_t i = 0; scores && i < n; i++)
        scores[i] = (struct nih_score){images[i].logits[label], images[i].truth[label] != 0};
    if (scores)
        qsort(scores, n, sizeof *scores, nih_by_score);
    for (size_t i = 0; scores && i < n;) {
        double p = 0, q = 0;
        for (float z = scores[i].z; i < n && scores[i].z == z; i++)
            *(scores[i].positive ? &p : &q) += 1;
        wins += p * (negatives + q / 2);
        negatives += q;
        positives += p;
    }
    free(scores);
    return wins / (positives * negatives);
}

/* P(X ≤ hits) for X ~ BetaBinomial(m, a, b): the law of the number of covered cases among m new
 * ones when the threshold is the a-th smallest of a + b − 1 exchangeable scores. */
static inline double beta_binomial_cdf(size_t hits, size_t m, double a, double b)
{
    double sum = 0;
    for (size_t h = 0; h <= hits && h <= m; h++)
        sum += exp(lgamma((double)m + 1) - lgamma((double)h + 1) - lgamma((double)(m - h) + 1) +
                   lgamma((double)h + a) + lgamma((double)(m - h) + b) - lgamma((double)m + a + b) +
                   lgamma(a + b) - lgamma(a) - lgamma(b));
    return sum;
}

#endif
