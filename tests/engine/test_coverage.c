/*
 * Coverage of the conformal sets on real scores, over 200 patient splits. With one image of each
 * patient calibration and test cases are exchangeable: the covered cases of every label and class
 * follow a BetaBinomial law, within its 0.5 % and 99.5 % quantiles in about 99 of 100 splits. With
 * all images of the same patients they are clustered: the mean coverage stays, the spread does not.
 */
#include "engine/trust/conformal.h"
#include "engine/trust/weighted.h"
#include "tests/engine/nih_densenet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SPLITS = 200, MAX_SIDE = NIH_ROOM };

static const double ALPHA = 0.1;
static uint64_t seed = 20240611;

static uint32_t below(uint32_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((seed >> 33) % n);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* The cases of a comparison: all images, or the newest of each patient. */
struct cases {
    const struct nih_image **images;
    size_t count;
};

struct tally {
    size_t tests, outside, below;
    double coverage;
};

/* One label and class of one split: is the number of covered test cases one that the law allows? */
static void judge_class(const struct cases *cases, const uint8_t *is_test, int label, int class,
                        struct tally *tally)
{
    static float calibration[MAX_SIDE], test[MAX_SIDE];
    size_t n = 0, m = 0, hits = 0;
    for (size_t i = 0; i < cases->count; i++) {
        const struct nih_image *image = cases->images[i];
        if (image->truth[label] != class)
            continue;
        *(is_test[image->patient] ? &test[m++] : &calibration[n++]) = image->logits[label];
    }
    size_t k = mf_conformal_rank(n, ALPHA);
    if (k > n || m == 0)
        return;
    qsort(calibration, n, sizeof *calibration, ascending);
    for (size_t i = 0; i < m; i++)
        hits += mf_conformal_judge(calibration, n, class, test[i], ALPHA).included;
    double lower = beta_binomial_cdf(hits, m, (double)k, (double)(n + 1 - k));
    double upper = hits ? 1 - beta_binomial_cdf(hits - 1, m, (double)k, (double)(n + 1 - k)) : 1;
    tally->tests++;
    tally->below += lower < 0.005;
    tally->outside += lower < 0.005 || upper < 0.005;
    tally->coverage += (double)hits / (double)m;
}

/* Half of the patients, drawn anew for each split, calibrate; the others test. */
static void split_often(const struct cases *cases, int splits, struct tally *tally)
{
    static uint8_t is_test[NIH_LAST_PATIENT + 1];
    *tally = (struct tally){0};
    for (int s = 0; s < splits; s++) {
        for (uint32_t p = 0; p <= NIH_LAST_PATIENT; p++)
            is_test[p] = (uint8_t)below(2);
        /* Labels in turn, as one split of all 14 says hardly more than one of three. */
        for (int class = 0; class < 2; class ++)
            for (int l = 0; l < 3; l++)
                judge_class(cases, is_test, (3 * s + l) % NIH_LABELS, class, tally);
    }
    tally->coverage /= (double)tally->tests;
}

static void the_fixture_gives_its_published_auroc(void **state)
{
    size_t n;
    double macro = 0;
    struct nih_image *images = nih_read(&n);
    (void)state;
    for (int l = 0; images && l < NIH_LABELS; l++)
        macro += nih_auroc(images, n, l) / NIH_LABELS;
    if (images) {
        printf("%zu images, macro-AUROC %.4f\n", n, macro);
        assert_int_equal(n, 22433);
        assert_true(fabs(macro - 0.8383) < 0.00005);
    }
    free(images);
}

static void coverage_follows_its_law_for_single_images_only(void **state)
{
    size_t n;
    struct nih_image *images = nih_read(&n);
    struct cases single = {calloc(NIH_ROOM, sizeof(void *)), 0};
    struct cases all = {calloc(NIH_ROOM, sizeof(void *)), 0};
    struct tally one, many;
    (void)state;
    for (size_t i = 0; images && i < n; i++) {
        all.images[all.count++] = &images[i];
        if (i + 1 == n || images[i + 1].patient != images[i].patient)
            single.images[single.count++] = &images[i]; /* the newest */
    }
    if (images) {
        split_often(&single, SPLITS, &one);
        split_often(&all, SPLITS, &many);
        double share = (double)one.outside / (double)one.tests;
        double clustered = (double)many.outside / (double)many.tests;
        printf("one image a patient: coverage %.4f, outside the law in %.1f %% of %zu tests\n",
               one.coverage, 100 * share, one.tests);
        printf("all images: coverage %.4f, outside the law in %.1f %% of %zu tests\n",
               many.coverage, 100 * clustered, many.tests);
        assert_true(one.tests > 1000 && fabs(one.coverage - 0.902) < 0.01);
        assert_true(share < 0.02); /* at most 1 % is expected, the law being discrete */
        assert_true(clustered > 0.10);
    }
    free(images);
    free(single.images);
    free(all.images);
}

/* ── another view: calibrated on PA, judged on AP ── */

enum { EDEMA = 9, FIBROSIS = 11 };

/* Images of one view and side of a patient split, and their weights. */
struct side {
    const struct nih_image **images;
    float *weights;
    size_t count;
};

static struct side choose(const struct nih_image *images, size_t n, bool ap, uint32_t half)
{
    struct side s = {calloc(n, sizeof(void *)), calloc(n, sizeof(float)), 0};
    for (size_t i = 0; s.images && s.weights && i < n; i++)
        if (images[i].ap == ap && images[i].patient % 2 == half) {
            s.weights[s.count] = 1;
            s.images[s.count++] = &images[i];
        }
    return s;
}

static void drop(struct side *s)
{
    free(s->images);
    free(s->weights);
}

struct scored {
    float z, weight;
};

static int by_score(const void *a, const void *b)
{
    float x = ((const struct scored *)a)->z, y = ((const struct scored *)b)->z;
    return x < y ? -1 : x > y;
}

/* Coverage of a class of `test` by `calibration`; weighted where there is a ratio. */
static double cover(const struct side *calibration, const struct side *test, int label, int class,
                    const struct mf_density_ratio *ratio, double *ret_effective)
{
    static struct scored scored[NIH_ROOM];
    static float logits[NIH_ROOM], weights[NIH_ROOM];
    size_t n = 0, m = 0, hits = 0;
    for (size_t i = 0; i < calibration->count; i++)
        if (calibration->images[i]->truth[label] == class)
            scored[n++] =
                (struct scored){calibration->images[i]->logits[label], calibration->weights[i]};
    qsort(scored, n, sizeof *scored, by_score);
    for (size_t i = 0; i < n; i++) {
        logits[i] = scored[i].z;
        weights[i] = scored[i].weight;
    }
    for (size_t i = 0; i < test->count; i++) {
        const struct nih_image *image = test->images[i];
        if (image->truth[label] != class)
            continue;
        float z = image->logits[label];
        m++;
        hits += ratio
                    ? mf_conformal_judge_weighted(logits, weights, n, class, z,
                                                  mf_density_ratio_at(ratio, image->logits), ALPHA)
                          .included
                    : mf_conformal_judge(logits, n, class, z, ALPHA).included;
    }
    if (ret_effective)
        *ret_effective = mf_effective_size(weights, n);
    return (double)hits / (double)m;
}

/* The ratio of AP against PA, by the logits of the calibration half alone; fills the weights. */
static void weigh(struct side *pa, const struct side *ap, struct mf_density_ratio *ratio)
{
    float *source = calloc(pa->count * NIH_LABELS, sizeof *source);
    float *target = calloc(ap->count * NIH_LABELS, sizeof *target);
    assert_true(source && target);
    for (size_t i = 0; i < pa->count; i++)
        memcpy(source + i * NIH_LABELS, pa->images[i]->logits, NIH_LABELS * sizeof *source);
    for (size_t i = 0; i < ap->count; i++)
        memcpy(target + i * NIH_LABELS, ap->images[i]->logits, NIH_LABELS * sizeof *target);
    assert_true(
        mf_density_ratio_fit(source, pa->count, target, ap->count, NIH_LABELS, ratio, NULL));
    for (size_t i = 0; i < pa->count; i++)
        pa->weights[i] = (float)mf_density_ratio_at(ratio, pa->images[i]->logits);
    free(source);
    free(target);
}

static void another_view_breaks_coverage_and_its_own_cases_repair_it(void **state)
{
    size_t n;
    struct nih_image *images = nih_read(&n);
    struct mf_density_ratio ratio;
    (void)state;
    if (!images)
        return;
    struct side pa = choose(images, n, false, 0), ap = choose(images, n, true, 0),
                test = choose(images, n, true, 1);
    double edema = cover(&pa, &test, EDEMA, 0, NULL, NULL);
    double fibrosis = cover(&pa, &test, FIBROSIS, 1, NULL, NULL);
    double repaired = cover(&ap, &test, EDEMA, 0, NULL, NULL), effective;
    weigh(&pa, &ap, &ratio);
    double weighted = cover(&pa, &test, EDEMA, 0, &ratio, &effective);
    printf("PA on AP: Edema absent %.2f, Fibrosis present %.2f; by AP's own cases %.2f; weighted "
           "%.2f with %.0f effective cases\n",
           edema, fibrosis, repaired, weighted, effective);
    assert_true(edema < 0.6 && fibrosis < 0.8);
    assert_true(repaired > 0.86 && repaired < 0.94);
    assert_true(weighted > 0.8); /* far nearer than unweighted, and not to be trusted: */
    assert_true(effective < 0.2 * (double)pa.count);
    mf_density_ratio_clear(&ratio);
    drop(&pa);
    drop(&ap);
    drop(&test);
    free(images);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fixture_gives_its_published_auroc),
        cmocka_unit_test(another_view_breaks_coverage_and_its_own_cases_repair_it),
        cmocka_unit_test(coverage_follows_its_law_for_single_images_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
