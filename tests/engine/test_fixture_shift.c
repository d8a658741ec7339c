/*
 * On the scores of ../shared/data/nih_densenet: feedback brings coverage back after a planted shift
 * of prevalence and scores, within a stated number of feedbacks; lists of findings keep their
 * false-negative rate only if images without findings do not calibrate them.
 */
#include "engine/trust/aci.h"
#include "engine/trust/conformal.h"
#include "tests/engine/nih_densenet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { EFFUSION = 2, FEEDBACKS = 300, AFTER = 3000 };

static const double ALPHA = 0.1, GAMMA = 0.02;
static const char HASH[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static uint64_t seed;

static uint32_t below(size_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((seed >> 33) % n);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Logits of one label by truth, of the patients of one half. */
struct scores {
    float *z[2];
    size_t n[2];
};

static struct scores gather(const struct nih_image *images, size_t n, int label, uint32_t half)
{
    struct scores s = {{calloc(n, sizeof(float)), calloc(n, sizeof(float))}, {0, 0}};
    assert_true(s.z[0] && s.z[1]);
    for (size_t i = 0; i < n; i++)
        if (images[i].patient % 2 == half) {
            int class = images[i].truth[label];
            s.z[class][s.n[class]++] = images[i].logits[label];
        }
    for (int class = 0; class < 2; class ++)
        qsort(s.z[class], s.n[class], sizeof(float), ascending);
    return s;
}

static void drop(struct scores *s)
{
    free(s->z[0]);
    free(s->z[1]);
}

/* Studies drawn from `test` at a prevalence, their logits moved, all with feedback: coverage of
 * each class. */
static void stream(struct mf_aci **aci, const struct scores *calibration, const struct scores *test,
                   double prevalence, float moved, int count, double coverage[2])
{
    int seen[2] = {0}, covered[2] = {0};
    for (int i = 0; i < count; i++) {
        bool present = below(1000000) < prevalence * 1e6;
        float z = test->z[present][below(test->n[present])] + moved;
        const double *levels = mf_aci_levels(*aci);
        bool in[2];
        for (int class = 0; class < 2; class ++)
            in[class] = mf_conformal_judge(calibration->z[class], calibration->n[class], class, z,
                                           levels[!class])
                            .included;
        const struct mf_aci_feedback feedback = {present, in[1], in[0]};
        seen[present]++;
        covered[present] += in[present];
        struct mf_aci *next = mf_aci_learn(*aci, &feedback, NULL);
        assert_non_null(next);
        mf_aci_free(*aci);
        *aci = next;
    }
    for (int class = 0; class < 2; class ++)
        coverage[class] = (double)covered[class] / seen[class];
}

/* Effusion at three times its prevalence, every logit 2 lower or higher: without feedback one class
 * loses its coverage; after 300 feedbacks on each class (γ = 0.02) both are within 0.02 of 0.9. */
static void feedback_repairs_a_planted_shift(void **state)
{
    static const char *const LABEL[] = {"Effusion"};
    size_t n;
    struct nih_image *images = nih_read(&n);
    (void)state;
    if (!images)
        return;
    struct scores calibration = gather(images, n, EFFUSION, 0),
                  test = gather(images, n, EFFUSION, 1);
    double usual = (double)test.n[1] / (double)(test.n[0] + test.n[1]);
    for (int way = -1; way <= 1; way += 2) {
        struct mf_aci *learns = mf_aci_new("north", HASH, LABEL, 1, ALPHA, GAMMA, NULL),
                      *still = mf_aci_new("north", HASH, LABEL, 1, ALPHA, 1e-9, NULL);
        double before[2], without[2], on_the_way[2], after[2];
        seed = 11;
        stream(&learns, &calibration, &test, usual, 0, AFTER, before);
        stream(&still, &calibration, &test, 3 * usual, 2.0f * (float)way, AFTER, without);
        int needed = (int)(FEEDBACKS / fmin(3 * usual, 1 - 3 * usual));
        stream(&learns, &calibration, &test, 3 * usual, 2.0f * (float)way, needed, on_the_way);
        stream(&learns, &calibration, &test, 3 * usual, 2.0f * (float)way, AFTER, after);
        int hurt = way < 0; /* lower scores miss what is present */
        printf("logits %+.1f: coverage absent %.3f, present %.3f; shifted %.3f, %.3f; after %d "
               "feedbacks %.3f, %.3f\n",
               2.0 * way, before[0], before[1], without[0], without[1], needed, after[0], after[1]);
        assert_true(without[hurt] < 0.8);
        for (int class = 0; class < 2; class ++) {
            assert_true(fabs(before[class] - 0.9) < 0.03);
            assert_true(fabs(after[class] - 0.9) < 0.02);
        }
        mf_aci_free(learns);
        mf_aci_free(still);
    }
    drop(&calibration);
    drop(&test);
    free(images);
}

/* ── lists of findings ── */

struct miss {
    float logit;
    uint32_t weight;
};

static int by_logit(const void *a, const void *b)
{
    float x = ((const struct miss *)a)->logit, y = ((const struct miss *)b)->logit;
    return x < y ? -1 : x > y;
}

static uint32_t findings_of(const struct nih_image *image)
{
    uint32_t present = 0;
    for (int l = 0; l < NIH_LABELS; l++)
        present += image->truth[l];
    return present;
}

/* The threshold from the images of one half; images without findings count as cases or not. */
static float threshold(const struct nih_image *images, size_t n, bool all)
{
    struct miss *list = calloc(n * NIH_LABELS, sizeof *list);
    float *logits = calloc(n * NIH_LABELS, sizeof *logits);
    uint32_t *weights = calloc(n * NIH_LABELS, sizeof *weights);
    size_t count = 0, cases = 0;
    assert_true(list && logits && weights);
    for (size_t i = 0; i < n; i++) {
        uint32_t present = findings_of(&images[i]);
        if (images[i].patient % 2)
            continue;
        cases += all || present;
        for (int l = 0; l < NIH_LABELS; l++)
            if (images[i].truth[l])
                list[count++] = (struct miss){images[i].logits[l], present};
    }
    qsort(list, count, sizeof *list, by_logit);
    for (size_t i = 0; i < count; i++) {
        logits[i] = list[i].logit;
        weights[i] = list[i].weight;
    }
    float t = mf_conformal_risk_threshold(logits, weights, count, cases, ALPHA);
    free(list);
    free(logits);
    free(weights);
    return t;
}

/* Mean share of an image's findings that the list misses, over the other half's images with one. */
static double missed(const struct nih_image *images, size_t n, float t, double *ret_listed)
{
    double sum = 0, listed = 0, ill = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t present = findings_of(&images[i]), below_t = 0;
        if (!(images[i].patient % 2) || !present)
            continue;
        for (int l = 0; l < NIH_LABELS; l++) {
            listed += images[i].logits[l] >= t;
            below_t += images[i].truth[l] && images[i].logits[l] < t;
        }
        sum += (double)below_t / present;
        ill++;
    }
    *ret_listed = listed / ill;
    return sum / ill;
}

static void images_without_findings_would_hide_misses(void **state)
{
    size_t n;
    double listed, too_short;
    struct nih_image *images = nih_read(&n);
    (void)state;
    if (!images)
        return;
    double rate = missed(images, n, threshold(images, n, false), &listed);
    double hidden = missed(images, n, threshold(images, n, true), &too_short);
    printf("false-negative rate %.3f with %.1f of 14 labels listed; calibrated with images without "
           "findings %.3f with %.1f\n",
           rate, listed, hidden, too_short);
    assert_true(fabs(rate - ALPHA) < 0.015);
    assert_true(hidden > 0.17);
    free(images);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(feedback_repairs_a_planted_shift),
        cmocka_unit_test(images_without_findings_would_hide_misses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
