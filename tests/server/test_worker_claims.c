/* What runs together, in which order, and when a worker waits for more. */
#include "server/metrics.h"
#include "server/worker_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROUTINE = MF_PRIORITY_ROUTINE, URGENT = MF_PRIORITY_URGENT, STAT = MF_PRIORITY_STAT };

/* Claims of these priorities, with their places as ids. */
static void make(struct mf_claim *claims, const int *priorities, size_t count)
{
    memset(claims, 0, count * sizeof *claims);
    for (size_t i = 0; i < count; i++) {
        claims[i].priority = (enum mf_priority)priorities[i];
        snprintf(claims[i].id, sizeof claims[i].id, "%zu", i);
    }
}

static void stat_comes_first_and_equals_keep_their_order(void **state)
{
    static const int PRIORITIES[] = {ROUTINE, URGENT, ROUTINE, STAT, URGENT, STAT};
    static const char *const ORDER[] = {"3", "5", "1", "4", "0", "2"};
    struct mf_claim claims[6];
    (void)state;
    make(claims, PRIORITIES, 6);
    mf_worker_sort(claims, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(claims[i].id, ORDER[i]);
    mf_worker_sort(claims, 0);
}

static void only_jobs_of_one_urgency_run_together(void **state)
{
    static const int PRIORITIES[] = {STAT, STAT, URGENT, ROUTINE, ROUTINE, ROUTINE};
    struct mf_claim claims[6];
    (void)state;
    make(claims, PRIORITIES, 6);
    assert_int_equal(mf_worker_group(claims, 6), 2);
    assert_int_equal(mf_worker_group(claims + 2, 4), 1);
    assert_int_equal(mf_worker_group(claims + 3, 3), 3);
    assert_int_equal(mf_worker_group(claims + 5, 1), 1);
}

static void a_job_that_must_be_alone_is_alone(void **state)
{
    static const int PRIORITIES[] = {ROUTINE, ROUTINE, ROUTINE};
    struct mf_claim claims[3];
    (void)state;
    make(claims, PRIORITIES, 3);
    claims[1].solo = true;
    assert_int_equal(mf_worker_group(claims, 3), 1);
    assert_int_equal(mf_worker_group(claims + 1, 2), 1);
}

static void stat_and_solo_jobs_wait_for_nobody(void **state)
{
    static const int PRIORITIES[] = {ROUTINE, URGENT, STAT};
    struct mf_claim claims[3];
    (void)state;
    make(claims, PRIORITIES, 3);
    assert_true(mf_worker_has_time(claims, 2));
    assert_false(mf_worker_has_time(claims, 3));
    claims[0].solo = true;
    assert_false(mf_worker_has_time(claims, 1));
}

static void workers_tell_the_metrics(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_store_counts counts = {.wait_count = 0};
    struct mf_worker_gauges *all = mf_worker_gauges_new(&err), *first, *second;
    (void)state;
    assert_non_null(all);
    first = mf_worker_gauges_take(all);
    second = mf_worker_gauges_take(all);
    assert_true(first && second && first != second);
    snprintf(first->device, sizeof first->device, "cpu");
    snprintf(second->device, sizeof second->device, "cuda:1");
    MF_GAUGE_ADD(second->computing_ns, 2500000000);
    MF_GAUGE_ADD(second->studies, 6);
    MF_GAUGE_SET(second->memory_total, 80);
    MF_AUTO(mf_metrics) struct mf_metrics *metrics = mf_metrics_new(all, &err);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 1 << 20);
    assert_true(mf_metrics_write(metrics, &counts, NULL, 0, &text, &err));
    assert_true(mf_buffer_append(&text, "", 1, &err));
    static const char *const LINES[] = {
        "medfusion_worker_computing_seconds_total{worker=\"1\",device=\"cuda:1\"} 2.5\n",
        "medfusion_worker_studies_total{worker=\"0\",device=\"cpu\"} 0\n",
        "medfusion_worker_studies_total{worker=\"1\",device=\"cuda:1\"} 6\n",
        "medfusion_gpu_memory_bytes{worker=\"1\",device=\"cuda:1\",kind=\"total\"} 80\n"};
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++)
        if (!strstr(text.data, LINES[i]))
            fail_msg("no line %s", LINES[i]);
    assert_null(strstr(text.data, "medfusion_gpu_memory_bytes{worker=\"0\""));
    mf_worker_gauges_leave(first);
    assert_ptr_equal(mf_worker_gauges_take(all), first);
    for (size_t i = 2; i < MF_WORKER_GAUGES; i++)
        assert_non_null(mf_worker_gauges_take(all));
    assert_null(mf_worker_gauges_take(all));
    assert_null(mf_worker_gauges_take(NULL));
    mf_worker_gauges_leave(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stat_comes_first_and_equals_keep_their_order),
        cmocka_unit_test(only_jobs_of_one_urgency_run_together),
        cmocka_unit_test(a_job_that_must_be_alone_is_alone),
        cmocka_unit_test(stat_and_solo_jobs_wait_for_nobody),
        cmocka_unit_test(workers_tell_the_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
